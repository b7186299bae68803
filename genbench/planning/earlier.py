"""What earlier runs with the same settings took, from their records: the basis for estimates of time and memory."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING

from genbench.records.record import Record
from genbench.support.errors import CorruptData

if TYPE_CHECKING:
    from genbench.data.dataset import Dataset
    from genbench.records.job import Job


@dataclass
class Earlier:
    """Medians over `runs` earlier runs; None if not recorded. `seconds` is the sum of the three parts."""

    runs: int
    images_per_second: float | None
    steps_per_second: float | None
    flops_per_second: float | None
    seconds_per_sample: float | None
    evaluate_seconds: float | None
    peak_bytes: int | None
    same_budget_seconds: float | None
    train_seconds: float | None = None
    sample_seconds: float | None = None
    seconds: float | None = None

    def add_seconds(self, job: Job, images: int | None) -> None:
        """Set the seconds of a job that trains on `images` images (None: unknown)."""
        self.train_seconds = self.same_budget_seconds
        if job.budget.is_timed:
            self.train_seconds = job.budget.amount
        elif images is not None and self.images_per_second:
            self.train_seconds = images / self.images_per_second
        if not job.samples:
            self.sample_seconds = 0.0
        elif self.seconds_per_sample is not None:
            self.sample_seconds = self.seconds_per_sample * job.samples
        self.seconds = self._sum()

    def without_training(self) -> Earlier:
        """The same for a job whose weights are already trained."""
        left = replace(self, train_seconds=0.0)
        left.seconds = left._sum()
        return left

    def _sum(self) -> float | None:
        parts = [self.train_seconds, self.sample_seconds, self.evaluate_seconds]
        known = [part for part in parts if part is not None]
        return sum(known) if len(known) == len(parts) else None


def read_earlier(out: Path, models: Iterable[str]) -> list[Record]:
    """The complete records of the given models in the output folder; unreadable ones are skipped."""
    words = [f'"model": "{model}"' for model in models]
    records = []
    for file in sorted(out.glob("*/record.json")):
        with suppress(CorruptData, OSError):
            text = file.read_text(encoding="utf-8", errors="replace")
            if any(word in text for word in words):
                records.append(Record.from_json(text, file))
    return [record for record in records if record.status == "complete" and record.cost.train is not None]


def earlier_runs(job: Job, data: Dataset, records: Iterable[Record]) -> Earlier | None:
    """From records with the same training settings, image shape, precision, device and threads; None without any."""
    same = [record for record in records if _comparable(job, data, record)]
    if not same:
        return None
    trained = [record.cost.train for record in same if record.cost.train is not None]
    sampled = [
        record.cost.sample for record in same if record.cost.sample and record.samples.config == job.sample_config
    ]
    scored = [
        record.cost.evaluate.seconds
        for record in same
        if record.cost.evaluate
        and (record.job.dataset, record.job.tune, record.samples.count) == (job.dataset, job.tune, job.samples)
    ]
    peaks = [cost.peak_bytes for cost in trained if cost.peak_bytes]
    alike = [record.cost.train.seconds for record in same if record.cost.train and record.job.budget == job.budget]
    return Earlier(
        runs=len(same),
        images_per_second=_median([cost.images / cost.seconds for cost in trained if cost.images and cost.seconds]),
        steps_per_second=_median([cost.steps / cost.seconds for cost in trained if cost.steps and cost.seconds]),
        flops_per_second=_median([cost.flops / cost.seconds for cost in trained if cost.flops and cost.seconds]),
        seconds_per_sample=_median([cost.seconds / cost.images for cost in sampled]),
        evaluate_seconds=_median(scored),
        peak_bytes=round(median(peaks)) if peaks else None,
        same_budget_seconds=_median(alike),
    )


def _comparable(job: Job, data: Dataset, record: Record) -> bool:
    import torch

    from genbench.devices import device_name

    here, device = record.environment, torch.device(job.runtime.device)
    return (
        (record.job.model, record.job.precision, record.job.kind) == (job.model, job.precision, job.kind)
        and {key: record.job.config.get(key) for key in job.train_config} == job.train_config
        and tuple(record.dataset.shape) == data.shape
        and here.device == device_name(device)
        and (device.type == "cuda" or here.threads == job.runtime.threads)
    )


def _median(values: list[float]) -> float | None:
    return median(values) if values else None
