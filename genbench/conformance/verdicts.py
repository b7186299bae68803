"""The verdict on each promise (kept, broken with the line to look at, or not checked), and the report."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal

from genbench.conformance.case import Case, cases
from genbench.conformance.places import SourceLine, from_here, own_sources, place_of, raised_at
from genbench.conformance.process_state import settings_restored
from genbench.conformance.promise import Broken, NotApplicable, Promise
from genbench.conformance.promises import PROMISES
from genbench.conformance.training import options as OPTIONS
from genbench.devices import exact_arithmetic
from genbench.support.errors import describe
from genbench.support.progress import at
from genbench.support.signals import is_interruption

if TYPE_CHECKING:
    from genbench.model import Model

State = Literal["pass", "FAIL", "-", "?"]
"""Kept; broken; not promised by this model; not checked, because a promise that it needs is broken."""
MEANINGS: dict[State, str] = {"pass": "kept", "FAIL": "broken", "-": "not for this model", "?": "not checked"}


Begun = Callable[[str, Promise], object]
"""Called with the case and the promise."""


@dataclass(frozen=True)
class Verdict:
    """The verdict on one promise: what was found, where to look, and on which images."""

    promise: str
    state: State
    found: str = ""
    place: SourceLine | None = None
    cases: tuple[str, ...] = ()

    def as_dict(self) -> dict[str, Any]:
        """The verdict as plain data."""
        place = self.place and {"file": self.place.file, "line": self.place.line, "within": self.place.within}
        return {
            "promise": self.promise, "passed": self.state in ("pass", "-"), "state": MEANINGS[self.state],
            "detail": self.found, "place": place, "cases": list(self.cases),
        }  # fmt: skip


def check_cases(
    model: type[Model], preset: str | None = None, begun: Begun | None = None, device: str = "cpu", **options: Any
) -> Iterator[Verdict]:
    """Yield the verdicts on a model in every case; `begun` is called as the check of each promise begins.

    As everywhere in the harness, a GPU computes float32 in full and chooses deterministic kernels.
    """
    exact_arithmetic()
    try:
        tried = list(cases(model, preset, device, **options))
    except Exception as error:
        place = raised_at(error, own_sources(model)) or place_of(model, "presets")
        yield Verdict(OPTIONS.text, "FAIL", describe(error), place)
        return
    for case in tried:
        yield from check_case(case, begun)


def check_case(case: Case, begun: Begun | None = None) -> Iterator[Verdict]:
    """Yield a verdict for each promise."""
    found: dict[Promise, Verdict] = {}
    for promise in PROMISES:
        if begun is not None:
            begun(str(case), promise)
        at("check")
        found[promise] = _without(promise, found, case) or _judge(promise, case)
        yield found[promise]


def _without(promise: Promise, found: dict[Promise, Verdict], case: Case) -> Verdict | None:
    """The verdict on a promise that needs one that is broken, not checked or not made; None for any other."""
    for need in (*promise.needs, *promise.after):
        if found[need].state in ("FAIL", "?"):
            return Verdict(promise.text, "?", f"needs: {need.text}", cases=(str(case),))
        if found[need].state == "-" and need in promise.needs:
            return Verdict(promise.text, "-", found[need].found, cases=(str(case),))
    return None


def _judge(promise: Promise, case: Case) -> Verdict:
    here = (str(case),)
    try:
        with settings_restored():
            return Verdict(promise.text, "pass", promise.check(case) or "", cases=here)
    except NotApplicable as reason:
        return Verdict(promise.text, "-", str(reason), cases=here)
    except Broken as fault:
        place = fault.look if isinstance(fault.look, SourceLine) else place_of(case.model, fault.look or promise.about)
        return Verdict(promise.text, "FAIL", str(fault), place, here)
    except (Exception, SystemExit, KeyboardInterrupt, GeneratorExit) as error:
        if is_interruption(error):
            raise
        place = raised_at(error, own_sources(case.model)) or place_of(case.model, promise.about)
        return Verdict(promise.text, "FAIL", describe(error), place, here)


def merged(verdicts: Iterable[Verdict]) -> list[Verdict]:
    """One verdict per promise over all cases: the first of the worst, with all cases in which it is as bad."""
    order: tuple[State, ...] = ("FAIL", "?", "pass", "-")
    by_promise: dict[str, list[Verdict]] = {promise.text: [] for promise in PROMISES}
    for verdict in verdicts:
        by_promise[verdict.promise].append(verdict)
    found = []
    for text, several in by_promise.items():
        several = several or [Verdict(text, "?", "the check ended before")]
        worst = min((verdict.state for verdict in several), key=order.index)
        same = [verdict for verdict in several if verdict.state == worst]
        found.append(replace(same[0], cases=tuple(case for verdict in same for case in verdict.cases)))
    return found


# The report


@dataclass
class Report:
    """The verdicts on one model, and the images that it was checked on."""

    model: str
    origin: str
    cases: list[str]
    verdicts: list[Verdict]

    @property
    def broken(self) -> list[Verdict]:
        return [verdict for verdict in self.verdicts if verdict.state == "FAIL"]

    def rows(self) -> list[dict[str, Any]]:
        """One row per promise, as plain data."""
        return [{"model": self.model, **verdict.as_dict()} for verdict in self.verdicts]

    def text(self) -> str:
        """The report as text: one line per promise, then each broken one with the line to look at, then the counts."""
        counts = Counter(verdict.state for verdict in self.verdicts)
        lines = [f"{self.model} ({from_here(self.origin)}), checked on images of {', '.join(self.cases)}", ""]
        for verdict in self.verdicts:
            found = verdict.found if verdict.state in ("pass", "-") else ""
            if verdict.state != "?":
                lines.append(f"{verdict.state:6}{verdict.promise:66}  {found}".rstrip())
        if counts["?"]:
            lines.append(f"{'?':6}{counts['?']} more were not checked: they need a broken one")
        lines += ["", *failures(self.broken, self.cases)]
        lines.append(", ".join(f"{counts[state]} {meaning}" for state, meaning in MEANINGS.items() if counts[state]))
        return "\n".join(lines)


def failures(verdicts: Iterable[Verdict], cases: list[str]) -> list[str]:
    """Each broken promise: what was found, on which images if not on all `cases`, and the line to look at."""
    lines = []
    for verdict in verdicts:
        if verdict.state == "FAIL":
            where = "" if set(cases) <= set(verdict.cases) else f" (images of {', '.join(verdict.cases)})"
            lines += [f"Broken: {verdict.promise}{where}", f"    found    {verdict.found}"]
            lines += [f"    look at  {verdict.place}", *verdict.place.code("        >    ")] if verdict.place else []
            lines += [""]
    return lines
