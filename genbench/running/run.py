"""One job: train -> sample -> evaluate -> record, adding what is missing and repeating nothing."""

from __future__ import annotations

import logging
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch

from genbench.capabilities import capabilities
from genbench.data import Dataset
from genbench.devices import exact_arithmetic, use_threads
from genbench.evaluate.collapse import collapse_signs
from genbench.evaluate.over_time import keep_bound_over_time
from genbench.evaluate.parts import spared_seconds
from genbench.extension.registry import Plugins
from genbench.metering.energy import energy_counter
from genbench.metering.meter import Meter
from genbench.model import Model
from genbench.records import checkpoint
from genbench.records.job import Job
from genbench.records.record import (
    Cost,
    CurvePoint,
    DatasetStamp,
    Energy,
    EvaluateCost,
    Failure,
    JobStamp,
    Measurement,
    Protocols,
    Record,
    RunStatus,
    SamplesStamp,
    Throughput,
)
from genbench.records.record_files import read_record
from genbench.records.run_folder import TRACEBACK, begin, earlier_attempts, end, file_digests, previous_record
from genbench.records.samples import Samples, read_samples, vouch, write_samples
from genbench.running import shards
from genbench.running.curve import final_point, missing_curve, scored_points
from genbench.running.environment import environment
from genbench.running.pictures import keep_pictures
from genbench.running.references import reference_samples
from genbench.running.rescore import in_features, kept, kept_on_curve, missing_extractors
from genbench.running.throughput import measure_throughput
from genbench.support import progress, store
from genbench.support.errors import Busy, Cancelled, Diverged, message_of
from genbench.support.faults import fault
from genbench.support.lock import locked
from genbench.support.progress import report, stop_if_requested
from genbench.support.signals import is_interruption
from genbench.support.text import impersonal, redacted
from genbench.training.loop import build_model

log = logging.getLogger("genbench")
ARTIFACTS = ("bound.json", "labels.npy", "pictures.json", "progress.jsonl", "samples.npy")


def is_done(job: Job) -> bool:
    """Whether the record is there and answers all that the job asks; a diverged job is done, a failed one is not."""
    file = job.folder / "record.json"
    if not file.exists():
        return False
    record = read_record(file)
    if record.status == "diverged":
        return True
    if record.status != "complete" or missing_extractors(job, record) != []:
        return False
    if job.tuning_trials not in (None, record.tuning_trials):
        return False
    return bool(record.curve) or not job.curve


@dataclass
class Run:
    """What a job has so far; the record is made from it, also when the job fails half-way."""

    job: Job
    data: Dataset
    plugins: Plugins
    meter: Meter
    model: Model | None = None
    samples: Samples | None = None
    throughput: list[Throughput] | None = None
    measurements: list[Measurement] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    weights: str = ""
    extractors: dict[str, str] = field(default_factory=dict)
    evaluate_seconds: float | None = None
    kept: dict[str, Any] = field(default_factory=dict)
    curve: list[CurvePoint] = field(default_factory=list)
    protocols: Protocols = field(default_factory=dict)
    curve_seconds: float | None = None
    parameters: dict[str, int] = field(default_factory=dict)
    hook: str = ""
    previous: Record | None = None

    def enter(self, hook: str) -> None:
        """Say where an exception from now on comes from."""
        self.hook = hook
        progress.at(hook)

    def execute(self) -> None:
        """All steps; `hook` says where an exception came from."""
        job = self.job
        self.enter("build")
        if job.is_reference:
            self.samples = reference_samples(job, self.data)
            self.keep_samples()
        else:
            self.train()
            self.sample()
            self.measure_throughput()
        self.evaluate()
        self.draw()
        self.score_curve()

    def train(self) -> None:
        """Build the model, and train it unless its finished weights are there."""
        job, folder = self.job, self.job.folder
        model = build_model(job, self.plugins, self.data, self.meter.device)
        self.parameters = parameters_by_phase(model)
        checkpoint.settle(folder / "checkpoint")
        loaded = checkpoint.load(folder / "checkpoint")
        if loaded is not None and loaded[1].get("finished"):
            tensors, state = loaded
            model.load_state_dict(tensors["ema"])
            self.meter.restore_finished(state["meter"])
            self.meter.peak_source = state.get("peak_source", "")
            self.kept = state.get("curve", {})
            self.model = model.eval()
            return
        self.enter("train")
        trained = self.plugins.manager.hook.train(job=job, model=model, data=self.data, folder=folder, meter=self.meter)
        self.model = trained.eval()
        loaded = checkpoint.load(folder / "checkpoint")
        state = {**(loaded[1] if loaded else {}), "finished": True, "peak_source": self.meter.peak_source}
        state["meter"] = {**self.meter.state(), "seconds": self.meter.train_seconds}
        self.kept = state.get("curve", {})
        tensors = {**(loaded[0] if loaded else {}), "ema": trained.state_dict()}
        checkpoint.save(folder / "checkpoint", {k: v for k, v in tensors.items() if k != "optimizer"}, state)

    def sample(self) -> None:
        """Draw and store the samples, unless those of the same key are there."""
        job, folder = self.job, self.job.folder
        self.enter("sample")
        self.weights = checkpoint.weights_digest(self.model) if self.model is not None else ""
        stored = read_samples(folder, job.samples_key, self.weights)
        if stored is not None:
            shards.clear(folder)
            self.samples, about = stored
            self.meter.sampled, self.meter.sample_seconds = len(self.samples), about["seconds"]
            self.meter.sample_energy = Energy(**about["energy"]) if about.get("energy") else None
            if about.get("throughput") is not None:
                self.throughput = [Throughput(**rate) for rate in about["throughput"]]
            return
        self.previous = None
        self.samples = self.plugins.manager.hook.sample(
            job=job, model=self.model, data=self.data, folder=folder, meter=self.meter
        )
        self.keep_samples()

    def keep_samples(self) -> None:
        """Store the samples."""
        assert self.samples is not None
        write_samples(self.job.folder, self.samples, self.about_samples())
        shards.clear(self.job.folder)
        fault("sample.end")

    def about_samples(self) -> dict[str, Any]:
        """What samples.json says of the samples beyond themselves: what they depend on, and what drawing them cost."""
        energy, rates = self.meter.sample_energy, self.throughput
        return {
            "key": self.job.samples_key, "weights": self.weights, "seconds": self.meter.sample_seconds,
            "energy": energy.model_dump() if energy else None,
            "throughput": None if rates is None else [rate.model_dump() for rate in rates],
        }  # fmt: skip

    def measure_throughput(self) -> None:
        """Rates in other batches, once the samples are on disk; outside every clock, and once for these samples."""
        assert self.model is not None and self.samples is not None
        if self.throughput is None:
            rates = measure_throughput(self.job, self.model, self.samples)
            stop_if_requested()
            self.throughput = rates
            vouch(self.job.folder, self.samples, self.about_samples())

    def evaluate(self) -> None:
        """Chain the measurements of all plugins; two of one metric and protocol are an error.

        What `previous` measured on the same samples stays, apart from what is measured anew.
        """
        self.enter("evaluate")
        fault("evaluate.begin")
        assert self.samples is not None
        began = time.perf_counter()
        spared_seconds()
        old = self.previous
        missing = missing_extractors(self.job, old) if old else None
        if missing is not None:
            self.measurements = in_features(missing, self.job, self.samples, self.data, self.plugins)
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
        self.evaluate_seconds = time.perf_counter() - began + spared_seconds()
        self.protocols = {m.protocol: m.settings for m in self.measurements}
        if old is not None:
            self.protocols = {**old.protocols, **self.protocols}
            self.measurements = kept(old.measurements, self.measurements, self.protocols) + self.measurements
            self.extractors = old.extractors if missing is not None else {}
        if not self.job.is_reference:
            self.warnings = collapse_signs(self.samples.images, self.data.test.images, self.measurements)
        fault("evaluate.end")

    def draw(self) -> None:
        """The pictures that a report shows of these samples and this model."""
        self.enter("pictures")
        assert self.samples is not None
        keep_pictures(self.job, self.model, self.data, self.samples, self.weights)

    def score_curve(self) -> None:
        """The curve of quality against cost, where weights were kept along the training, or the job asks for it."""
        count = self.kept.get("count", 0)
        if self.job.is_reference or not (count or self.job.curve):
            return
        if not count:
            self.curve = missing_curve(self.job.curve)
            return
        self.enter("curve")
        assert self.model is not None
        began = time.perf_counter()
        points, protocols = scored_points(self.job, self.model, self.data, self.plugins, self.kept["kept"])
        self.protocols |= protocols
        self.curve = list(kept_on_curve(self.previous, points, self.protocols)) if self.previous else points
        self.curve.append(final_point(self.meter.train_cost(), self.measurements))
        self.curve_seconds = time.perf_counter() - began

    def used_protocols(self) -> Protocols:
        """The settings behind each measurement, by their fingerprint."""
        measured = [*self.measurements, *(m for point in self.curve for m in point.measurements)]
        return {m.protocol: m.settings or self.protocols[m.protocol] for m in measured}

    def record(self, status: RunStatus, error: Failure | None, attempts: list[dict[str, Any]]) -> Record:
        """The record of what there is."""
        job, data = self.job, self.data
        samples = self.samples
        cost = Cost(
            parameters=sum(self.parameters.values()) if self.parameters else None,
            parameters_by_phase=self.parameters,
            train=None if job.is_reference else self.meter.train_cost(),
            sample=self.meter.sample_cost(samples.batch, samples.nfe, self.throughput) if samples else None,
            evaluate=None
            if self.evaluate_seconds is None
            else EvaluateCost(seconds=self.evaluate_seconds, curve_seconds=self.curve_seconds),
        )
        return Record(
            status=status, error=error, attempts=attempts,
            job=JobStamp(
                id=job.id, model=job.model, label=job.label, config=job.config, dataset=job.dataset, seed=job.seed,
                budget=job.budget.as_dict(), precision=job.precision, compile=job.compile,
                conditional=job.conditional,
            ),
            samples=SamplesStamp(
                key=job.samples_key, count=len(samples) if samples else 0, config=job.sample_config,
                labels=label_words(job, samples),
                clamped_share=samples.clamped_share if samples else None,
            ),
            artifacts=[name for name in ARTIFACTS if (job.folder / name).exists()],
            external_data=[*job.external_data, *map(redacted, self.model.external_data if self.model else ())],
            tuning_trials=job.tuning_trials,
            capabilities=None if self.model is None else capabilities_told(type(self.model)),
            dataset=DatasetStamp(
                name=data.name, digest=data.digest, shape=data.shape, num_classes=data.num_classes,
                counts={"train": len(data.train), "test": len(data.test)},
                entropy=data.entropy_given_label if job.conditional else data.entropy,
            ),
            environment=environment(job, self.meter.processes),
            cost=cost,
            measurements=self.measurements,
            warnings=self.warnings,
            curve=self.curve,
            protocols=self.used_protocols(),
            evaluation_key=job.evaluation_key,
            extractors={**self.extractors, **job.extractor_stamps} if self.measurements else {},
            measurers={**(self.previous.measurers if self.previous else {}), **job.measurers}
            if self.measurements
            else {},
            files=file_digests(job.folder),
        )  # fmt: skip


def run_job(job: Job, data: Dataset, plugins: Plugins, watched: bool = False) -> Record:
    """Run one job in this process and write its record, whatever happens. Raises Busy where another process has it.

    A `watched` job leaves last words where its process dies, and dies where it makes no progress for too long.
    """
    use_threads(job.runtime.threads)
    exact_arithmetic()
    with locked(job.folder):
        store.sweep(job.folder)
        if is_done(job):
            return read_record(job.folder / "record.json")
        attempts, previous = earlier_attempts(job.folder), previous_record(job)
        if watched:
            progress.watch(job.folder, job.runtime.hang_timeout)
        begin(job)
        device = torch.device(job.runtime.device)
        alone = set(job.runtime.peers) <= {job.runtime.device}  # of several GPUs one counter would tell a part
        meter = Meter(device, counter=energy_counter(device) if alone else None)
        run = Run(job, data, plugins, meter, previous=previous)
        error = attempt(run.execute)
        progress.unwatch()
        record = run.record(status_of(error), failure(error, run) if error else None, attempts)
        end(job, record)
    if error is not None and is_interruption(error):
        raise error
    notify(plugins, job, record)
    return record


def attempt(action: Callable[[], None]) -> Exception | KeyboardInterrupt | None:
    """Run, and return what ended it; exceptions of a plugin end the job, not the program."""
    report("start", 0.0)
    try:
        action()
    except Busy:
        raise
    except (Exception, KeyboardInterrupt) as error:
        return error
    return None


def status_of(error: BaseException | None) -> RunStatus:
    """How a run ends that this ended."""
    if error is None:
        return "complete"
    if isinstance(error, Diverged):
        return "diverged"
    return "cancelled" if isinstance(error, Cancelled) or is_interruption(error) else "failed"


def failure(error: BaseException, run: Run) -> Failure:
    """Why and where a run ended; its traceback is kept beside."""
    store.write_text(run.job.folder / TRACEBACK, impersonal("".join(traceback.format_exception(error))))
    message = message_of(error)
    if isinstance(error, KeyboardInterrupt) and not is_interruption(error):
        message = f"plugin {run.job.plugin.name!r} itself has raised {type(error).__name__}"
    return Failure(
        type=type(error).__name__, message=impersonal(message), hook=run.hook,
        step=run.meter.steps if run.hook == "train" else None, plugin=run.job.plugin.name, traceback=TRACEBACK,
    )  # fmt: skip


def capabilities_told(model: type[Model]) -> list[str]:
    """What the record keeps of the model's abilities: its optional methods, and whether it can be conditional."""
    return [*capabilities(model), *(["conditional"] if model.conditional else [])]


def label_words(job: Job, samples: Samples | None) -> str:
    """Where the labels of the samples come from."""
    if samples is None or samples.labels is None:
        return "none"
    return "as given" if job.foreign else "training proportions"


def notify(plugins: Plugins, job: Job, record: Record) -> None:
    """Call the observers; what they raise is logged, never fatal."""
    for implementation in plugins.manager.hook.job_finished.get_hookimpls():
        arguments = {"job": job, "record": record}
        try:
            implementation.function(**{name: arguments[name] for name in implementation.argnames})
        except BaseException as error:
            if is_interruption(error):
                raise
            log.exception("plugin %s: job_finished failed", implementation.plugin_name)


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
