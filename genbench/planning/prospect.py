"""One job of a plan: what is to be done for it, and what that takes."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from genbench.records.job import Job
from genbench.support.errors import GenbenchError

if TYPE_CHECKING:
    from genbench.planning.estimate import Estimate
    from genbench.planning.outlay import Outlay


@dataclass
class Prospect:
    """One job of a plan: whether it is done, a note, why it cannot run, and its estimated cost (None: done)."""

    job: Job
    done: bool
    note: str
    problems: list[GenbenchError] = field(default_factory=list)
    estimate: Estimate | None = None
    trained_by: str = ""
    """The id of the job whose training it uses: its own only if that is done; "" if it has to train."""
    outlay: Outlay | None = None
    """What it takes in seconds; None for a reference row, and if it is done or cannot run."""
    waits: bool = False
    """Whether that training is still to be done, so that the job starts after the others."""

    @property
    def turn(self) -> int:
        """In which turn it starts: first the floors, at last those that wait for a training."""
        return 0 if self.job.is_floor else 2 if self.waits else 1

    @property
    def state(self) -> str:
        return "done" if self.done else "cannot" if self.problems else "to do"
