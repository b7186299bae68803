"""How long the jobs of a run will take at least: what is known of their training, which is all that a budget says."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from genbench.support.pace import Facts

if TYPE_CHECKING:
    from genbench.records.job import Job


class Ahead:
    """The seconds that each job will still take at least; what nobody knows before it is done counts as none.

    Known are the budget in seconds of a training that has not begun, and what a job that runs tells of its stage.
    """

    def __init__(self, jobs: Iterable[Job], slots: int) -> None:
        self.slots = slots
        self.left: dict[str, float] = {}
        trainings: set[str] = set()
        for job in jobs if slots else ():
            new = job.is_trained and job.training_key not in trainings and not (job.folder / "checkpoint").exists()
            trainings |= {job.training_key} if job.is_trained else set()
            self.left[job.id] = job.budget.amount if new and job.budget.is_timed else 0.0

    def hear(self, job: Job, stage: str, facts: Facts) -> None:
        """Take in the news of a job."""
        if stage == "end":
            self.left.pop(job.id, None)
        elif "seconds_left" in facts or stage in ("sample", "evaluate"):
            self.left[job.id] = facts.get("seconds_left", 0.0)

    @property
    def seconds(self) -> float:
        """Of all jobs together, `slots` at a time; 0 if nothing is known."""
        return max([*self.left.values(), sum(self.left.values()) / self.slots]) if self.slots else 0.0
