"""The log of a training's progress: the learning curve on disk, and whoever follows it."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path

from genbench.metering.meter import Meter
from genbench.records.job import Job
from genbench.records.point import LOG, Point
from genbench.support import store


class ProgressLog:
    """Each point that is added goes to progress.jsonl in the run folder, then to the plugins that follow the job."""

    def __init__(self, job: Job, folder: Path, meter: Meter, follow: Callable[[Point], None] | None = None) -> None:
        self.job, self.file, self.meter, self.follow = job, folder / LOG, meter, follow

    def rewind(self, steps: int = 0) -> None:
        """Drop the points after step `steps`, which a training that goes on from there adds anew."""
        if not steps:
            self.file.unlink(missing_ok=True)
        elif self.file.exists():
            kept = [line for line in store.read_lines(self.file) if line["step"] <= steps]
            store.write_text(self.file, "".join(f"{json.dumps(line, allow_nan=False)}\n" for line in kept))

    def add(self, phase: str, losses: Mapping[str, float], learning_rate: float | None = None) -> None:
        """Add a point, outside the clock: the means of a phase's losses since its last one, `loss` among them.

        How far the training is, the meter says.
        """
        meter = self.meter
        with meter.pause():
            done = {"images": meter.images, "seconds": meter.seconds}
            share = min(self.job.budget.spent(steps=meter.steps, flops=meter.flops, **done), 1.0)
            numbers = {name: float(value) for name, value in losses.items()}
            point = Point(meter.steps, meter.images, meter.seconds, share, phase, learning_rate, numbers)
            store.append_json(self.file, point.as_line())
            if self.follow is not None:
                self.follow(point)
