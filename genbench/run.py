"""One job: train -> sample -> evaluate -> record, adding what is missing and repeating nothing."""

from __future__ import annotations

import json
import logging
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from genbench import checkpoint, store
from genbench.cost import Meter
from genbench.data import Dataset
from genbench.devices import exact_arithmetic
from genbench.environment import environment
from genbench.errors import Busy, Cancelled, Diverged, GenbenchError
from genbench.evaluate.over_time import keep_bound_over_time
from genbench.model import Model
from genbench.plan import Job
from genbench.plugins import Plugins
from genbench.progress import report
from genbench.records import (
    Cost,
    DatasetStamp,
    EvaluateCost,
    Failure,
    JobStamp,
    Measurement,
    Record,
    RunStatus,
    SamplesStamp,
)
from genbench.references import reference_measurements, reference_samples
from genbench.sample import Samples
from genbench.seeds import derive_seed

log = logging.getLogger("genbench")
ARTIFACTS = ("bound.json", "labels.npy", "progress.jsonl", "samples.npy")


def is_done(job: Job) -> bool:
    """Whether the record is there and answers all that the job asks; a diverged job is done, a failed one is not."""
    file = job.folder / "record.json"
    if not file.exists():
        return False
    record = Record.from_json(file.read_text(encoding="utf-8"), file)
    if record.status == "diverged":
        return True
    return record.status == "complete" and evaluation_key(record) == job.evaluation_key


def evaluation_key(record: Record) -> str:
    """The evaluation that a record answers."""
    return str((record.model_extra or {}).get("evaluation_key", ""))


@dataclass
class Run:
    """What a job has so far; the record is made from it, also when the job fails half-way."""

    job: Job
    data: Dataset
    plugins: Plugins
    meter: Meter
    model: Model | None = None
    samples: Samples | None = None
    measurements: list[Measurement] = field(default_factory=list)
    evaluate_seconds: float | None = None
    parameters: dict[str, int] = field(default_factory=dict)
    hook: str = "build"

    def execute(self) -> None:
        """All steps; an exception says in `hook` where it came from."""
        job = self.job
        if job.is_reference:
            self.samples = reference_samples(job, self.data)
        else:
            self.train()
            self.sample()
        self.keep_samples()
        self.evaluate()

    def train(self) -> None:
        """Build the model, and train it unless its finished weights are there."""
        job, folder = self.job, self.job.folder
        kind, _ = self.plugins.model(job.model)
        torch.manual_seed(derive_seed(job.seed, "init"))
        model = kind(self.data.spec(job.conditional), kind.Config(**job.config)).to(self.meter.device)
        self.parameters = parameters_by_phase(model)
        loaded = checkpoint.load(folder / "checkpoint")
        if loaded is not None and loaded[1].get("finished"):
            tensors, state = loaded
            model.load_state_dict(tensors["ema"])
            self.meter.restore(state["meter"])
            self.meter.train_seconds = self.meter.seconds
            self.meter.peak_source = state.get("peak_source", "")
            self.model = model.eval()
            return
        self.hook = "train"
        trained = self.plugins.manager.hook.train(job=job, model=model, data=self.data, folder=folder, meter=self.meter)
        self.model = trained.eval()
        loaded = checkpoint.load(folder / "checkpoint")
        state = {**(loaded[1] if loaded else {}), "finished": True, "peak_source": self.meter.peak_source}
        state["meter"] = {**self.meter.state(), "seconds": self.meter.train_seconds}
        tensors = {**(loaded[0] if loaded else {}), "ema": trained.state_dict()}
        checkpoint.save(folder / "checkpoint", {k: v for k, v in tensors.items() if k != "optimizer"}, state)

    def sample(self) -> None:
        """Draw the samples, unless those of the same key are there."""
        job, folder = self.job, self.job.folder
        stored = read_samples(folder, job.samples_key)
        if stored is not None:
            self.samples, seconds = stored
            self.meter.sampled, self.meter.sample_seconds = len(self.samples), seconds
            return
        self.hook = "sample"
        self.samples = self.plugins.manager.hook.sample(
            job=job, model=self.model, data=self.data, folder=folder, meter=self.meter
        )

    def keep_samples(self) -> None:
        """Store samples.npy, labels.npy and what they are; the small file last, since it vouches for the others."""
        assert self.samples is not None
        folder = self.job.folder
        (folder / "samples.json").unlink(missing_ok=True)
        store.write_array(folder / "samples.npy", self.samples.images)
        (folder / "labels.npy").unlink(missing_ok=True)
        if self.samples.labels is not None:
            store.write_array(folder / "labels.npy", self.samples.labels)
        about = {
            "key": self.job.samples_key, "sha256": store.file_digest(folder / "samples.npy"),
            "clamped_share": self.samples.clamped_share, "batch": self.samples.batch, "nfe": self.samples.nfe,
            "seconds": self.meter.sample_seconds,
        }  # fmt: skip
        store.write_json(folder / "samples.json", about)

    def evaluate(self) -> None:
        """Chain the measurements of all plugins; two of one metric and protocol are an error."""
        self.hook = "evaluate"
        began = time.perf_counter()
        if self.job.is_reference:
            assert self.samples is not None
            self.measurements = reference_measurements(self.job, self.samples, self.data, self.plugins)
        else:
            lists = self.plugins.manager.hook.evaluate(
                job=self.job, model=self.model, samples=self.samples, data=self.data
            )
            self.measurements = [measurement for found in lists for measurement in found]
        keys = [(m.metric, m.protocol) for m in self.measurements]
        twice = {key for key in keys if keys.count(key) > 1}
        if twice:
            raise ValueError(f"two plugins measured {sorted(twice)[0][0]} under one protocol")
        keep_bound_over_time(self.job, self.model, self.data, self.job.folder)
        self.evaluate_seconds = time.perf_counter() - began

    def record(self, status: RunStatus, error: Failure | None, attempts: list[dict[str, Any]]) -> Record:
        """The record of what there is."""
        job, data = self.job, self.data
        samples = self.samples
        cost = Cost(
            parameters=sum(self.parameters.values()) if not job.is_reference else None,
            parameters_by_phase=self.parameters,
            train=None if job.is_reference else self.meter.train_cost(),
            sample=self.meter.sample_cost(samples.batch, samples.nfe) if samples else None,
            evaluate=EvaluateCost(seconds=self.evaluate_seconds) if self.evaluate_seconds is not None else None,
        )
        return Record(
            status=status, error=error, attempts=attempts,
            job=JobStamp(
                id=job.id, model=job.model, label=job.label, config=job.config, dataset=job.dataset, seed=job.seed,
                budget=job.budget.as_dict(), precision=job.precision, conditional=job.conditional,
            ),
            samples=SamplesStamp(
                key=job.samples_key, count=len(samples) if samples else 0, config=job.sample_config,
                labels="training proportions" if samples and samples.labels is not None else "none",
                clamped_share=samples.clamped_share if samples else None,
            ),
            artifacts=[name for name in ARTIFACTS if (job.folder / name).exists()],
            external_data=list(self.model.external_data) if self.model else [],
            dataset=DatasetStamp(
                name=data.name, digest=data.digest, shape=data.shape, num_classes=data.num_classes,
                counts={"train": len(data.train), "test": len(data.test)},
                entropy=data.entropy_given_label if job.conditional else data.entropy,
            ),
            environment=environment(job),
            cost=cost,
            measurements=self.measurements,
            protocols={m.protocol: m.settings for m in self.measurements},
            evaluation_key=job.evaluation_key,
        )  # fmt: skip


def run_job(job: Job, data: Dataset, plugins: Plugins) -> Record:
    """Run one job in this process and write its record, whatever happens. Raises Busy where another process has it."""
    torch.set_num_threads(job.runtime.threads)
    exact_arithmetic()
    with store.locked(job.folder):
        store.sweep(job.folder)
        if is_done(job):
            file = job.folder / "record.json"
            return Record.from_json(file.read_text(encoding="utf-8"), file)
        attempts = earlier_attempts(job.folder)
        store.write_json(job.folder / "job.json", job.model_dump(mode="json"))
        run = Run(job, data, plugins, Meter(torch.device(job.runtime.device)))
        status, failure = attempt(run.execute, run)
        record = run.record(status, failure, attempts)
        store.write_text(job.folder / "record.json", record.to_json())
    notify(plugins, job, record)
    return record


def attempt(action: Callable[[], None], run: Run) -> tuple[RunStatus, Failure | None]:
    """Run, and say how it ended; exceptions of a plugin end the job, not the program."""
    report("start", 0.0)
    try:
        action()
        return "complete", None
    except Busy:
        raise
    except (Exception, KeyboardInterrupt) as error:
        status: RunStatus = "failed"
        if isinstance(error, Diverged):
            status = "diverged"
        elif isinstance(error, Cancelled | KeyboardInterrupt):
            status = "cancelled"
        text = "".join(traceback.format_exception(error))
        store.write_text(run.job.folder / "traceback.txt", text)
        message = (error.message if isinstance(error, GenbenchError) else str(error)) or type(error).__name__
        return status, Failure(
            type=type(error).__name__,
            message=message,
            hook=run.hook,
            plugin=run.job.plugin.name,
            traceback="traceback.txt",
        )


def earlier_attempts(folder: Path) -> list[dict[str, Any]]:
    """How earlier tries at this job ended."""
    file = folder / "record.json"
    if not file.exists():
        return []
    old = Record.from_json(file.read_text(encoding="utf-8"), file)
    if old.status == "complete":
        return old.attempts
    return [*old.attempts, {"status": old.status, "error": old.error.message if old.error else ""}]


def notify(plugins: Plugins, job: Job, record: Record) -> None:
    """Call the observers; what they raise is logged, never fatal."""
    for implementation in plugins.manager.hook.job_finished.get_hookimpls():
        arguments = {"job": job, "record": record}
        try:
            implementation.function(**{name: arguments[name] for name in implementation.argnames})
        except Exception:
            log.exception("plugin %s: job_finished failed", implementation.plugin_name)


def read_samples(folder: Path, key: str) -> tuple[Samples, float] | None:
    """Stored samples of this key and the seconds they took; None where there are none, or their bytes have changed."""
    file = folder / "samples.json"
    if not file.exists():
        return None
    about = store.read_json(file)
    if about["key"] != key or store.file_digest(folder / "samples.npy") != about["sha256"]:
        return None
    labels = folder / "labels.npy"
    return (
        Samples(
            store.read_array(folder / "samples.npy"), store.read_array(labels) if labels.exists() else None,
            about["clamped_share"], about["batch"], about["nfe"],
        ),
        about["seconds"],
    )  # fmt: skip


def parameters_by_phase(model: Model) -> dict[str, int]:
    """Parameters that each phase moves; `fixed` are those that none does."""
    counts: dict[str, int] = {}
    moved: set[int] = set()
    for phase in model.phases():
        parameters = [p for group in phase.optimizer.param_groups for p in group["params"]]
        counts[phase.name] = sum(p.numel() for p in parameters)
        moved |= {id(p) for p in parameters}
    fixed = sum(p.numel() for p in model.parameters() if id(p) not in moved)
    return counts | ({"fixed": fixed} if fixed else {})


def load_job(folder: Path) -> Job:
    """The job of a run folder."""
    return Job.model_validate(json.loads((folder / "job.json").read_text(encoding="utf-8")))
