"""Images that are not taken: why, and one error that names and counts them all."""

from __future__ import annotations

from dataclasses import dataclass, field

from genbench.support.errors import BadInput
from genbench.support.text import printable

NAMED = 3
"""Images named for each reason."""
MOST = 1000
"""Images refused before the rest is left unread."""


class Unfit(ValueError):
    """Why an image or its label is not taken: a reason that many can share, what this one has, how to fix it."""

    def __init__(self, reason: str, detail: str, hint: str) -> None:
        super().__init__(f"{reason} ({detail})")
        self.reason, self.detail, self.hint = reason, detail, hint


@dataclass(frozen=True)
class Refusal:
    """An image that is not taken: where it stands, and why, without what an exception keeps open."""

    where: str
    reason: str
    detail: str
    hint: str

    @classmethod
    def of(cls, where: str, why: Unfit) -> Refusal:
        return cls(printable(where), why.reason, why.detail, why.hint)


@dataclass
class Refusals:
    """The refused among the images, or other `things`, that were `seen`; `origin` says whose these are."""

    origin: str
    seen: int = 0
    things: str = "images"
    found: list[Refusal] = field(default_factory=list)

    def add(self, refusal: Refusal) -> None:
        """Note one more. Raises BadInput if that makes MOST."""
        self.found.append(refusal)
        if len(self.found) == MOST:
            self.check("the first ")

    def check(self, first: str = "") -> None:
        """Raise one BadInput for all that were refused, if any were."""
        if not self.found:
            return
        problems = self._by_reason()
        told = "; ".join(problem.message for problem in problems)
        told = told.replace(f": {len(self.found):,} {self.things},", ":")  # all are alike, and counted before
        share = f"{len(self.found):,} of {first}{self.seen:,} {self.things} cannot be used"
        whole = BadInput(f"{self.origin}: {share}: {told}", "; ".join({problem.hint: "" for problem in problems}))
        whole.problems = list(problems) if len(problems) > 1 else []
        raise whole

    def _by_reason(self) -> list[BadInput]:
        """One error for each reason and way out, the first found first."""
        groups: dict[tuple[str, str], list[Refusal]] = {}
        for each in self.found:
            groups.setdefault((each.reason, each.hint), []).append(each)
        return [BadInput(_told(reason, alike, self.things), hint) for (reason, hint), alike in groups.items()]


def _told(reason: str, alike: list[Refusal], things: str) -> str:
    if len(alike) == 1:
        return f"{alike[0].where}: {reason} ({alike[0].detail})"
    such = "such as " * (len(alike) > NAMED)
    named = ", ".join(f"{each.where} ({each.detail})" for each in alike[:NAMED])
    return f"{reason}: {len(alike):,} {things}, {such}{named}"
