"""One job: train -> sample -> evaluate -> record, doing what is missing and repeating nothing."""

from __future__ import annotations

import traceback
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import torch

from genbench.capabilities import capabilities
from genbench.data.condition_plan import ConditionPlan, conditions_of
from genbench.data.dataset import Dataset
from genbench.devices import exact_arithmetic, use_device, use_threads
from genbench.evaluate.collapse import collapse_signs
from genbench.evaluate.over_time import keep_bound_over_time
from genbench.evaluate.parts import spared_seconds
from genbench.evaluate.samples import rulers
from genbench.extension.observers import Observers
from genbench.extension.registry import Plugins
from genbench.metering.energy import energy_counter
from genbench.metering.meter import Meter
from genbench.metering.progress_log import ProgressLog
from genbench.metrics.copies import copied_splits, copying
from genbench.model import Model
from genbench.records import checkpoint
from genbench.records.cost import EvaluateCost, Throughput, TrainCost
from genbench.records.equality import remarks
from genbench.records.job import Job
from genbench.records.outcome import Outcome, make_record
from genbench.records.record import Failure, Measurement, Record, RunStatus
from genbench.records.record_files import read_record
from genbench.records.run_folder import TRACEBACK, begin, earlier_attempts, end, previous_record
from genbench.records.samples import Samples, StoredSamples, read_samples, vouch, write_samples
from genbench.records.shared_training import finished_training
from genbench.records.training_state import CurveState, TrainingState
from genbench.running import shards
from genbench.running.curve import final_point, missing_curve, scored_points
from genbench.running.environment import environment
from genbench.running.pictures import keep_pictures
from genbench.running.references import reference_samples
from genbench.running.rescore import in_features, kept, kept_on_curve, missing_extractors
from genbench.running.source import keep_source
from genbench.running.throughput import measure_throughput
from genbench.support import clock, progress, store
from genbench.support.errors import Busy, Cancelled, CorruptData, Diverged, message_of
from genbench.support.faults import fault
from genbench.support.lock import locked
from genbench.support.parts import GENERATOR
from genbench.support.progress import report, stop_if_requested
from genbench.support.signals import is_interruption
from genbench.support.text import impersonal, redacted
from genbench.training.loop import build_model
from genbench.training.memory import forget


def is_done(job: Job) -> bool:
    """Whether the record has everything that the job asks for; a diverged job is done, a failed one is not."""
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
    """The steps of a job; their results are in `known`, from which the record is made even if a step fails."""

    job: Job
    data: Dataset
    plugins: Plugins
    meter: Meter
    previous: Record | None = None
    """The finished record of the same samples, whose measurements are kept if still valid."""
    known: Outcome = field(default_factory=Outcome)
    model: Model | None = None
    samples: Samples | None = None
    throughput: list[Throughput] | None = None
    weights: str = ""
    kept: CurveState = field(default_factory=CurveState)
    trained_by: str = ""
    """The id of the job that trained the weights."""
    parts: dict[str, str] = field(default_factory=dict)
    """What the cost of each phase is booked as."""
    hook: str = ""

    def enter(self, hook: str) -> None:
        """Set where exceptions come from, from now on."""
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
            self.weights = checkpoint.weights_digest(self.model) if self.model is not None else ""
            if job.samples:
                self.sample()
                self.measure_throughput()
        self.evaluate()
        self.check_rulers()
        self.draw()
        self.score_curve()

    def train(self) -> None:
        """Build the model, and train it unless its finished weights exist, here or in another row's folder."""
        job, folder = self.job, self.job.folder
        self.known.code = keep_source(job, self.plugins)
        model = build_model(job, self.plugins, self.data, self.meter.device)
        self.known.parameters = sum(p.numel() for p in model.parameters()) or None
        self.known.parameters_by_phase = parameters_by_phase(model)
        self.parts = {phase.name: phase.part for phase in model.phases()}
        checkpoint.settle(folder / "checkpoint")
        finished = finished_training(job)
        if finished is not None:
            tensors, state = finished
            model.load_state_dict(tensors["ema"])
            self.meter.restore_finished(state.meter)
            self.kept, self.trained_by = state.curve, state.job
            self.model = forget(model).eval()
            return
        self.enter("train")
        report("train", 0.0)
        log = ProgressLog(job, folder, self.meter, Observers(self.plugins, job).progress)
        trained = self.plugins.manager.hook.train(
            job=job, model=model, data=self.data, folder=folder, meter=self.meter, log=log
        )
        self.model = trained.eval()
        if not job.samples:  # only samples record the weights behind earlier numbers
            self.previous = None
        tensors, state = checkpoint.load(folder / "checkpoint") or ({}, TrainingState())
        state = state.model_copy(update={"job": job.id, "finished": True, "meter": self.meter.state()})
        self.kept = state.curve
        tensors = {**{k: v for k, v in tensors.items() if k != "optimizer"}, "ema": trained.state_dict()}
        checkpoint.save(folder / "checkpoint", tensors, state)

    def sample(self) -> None:
        """Draw and store the samples, unless those of the same key exist."""
        job, folder = self.job, self.job.folder
        self.enter("sample")
        stored = read_samples(folder, job.samples_key, self.weights)
        if stored is not None:
            shards.clear(folder)
            self.samples, about = stored
            self.meter.sampled, self.meter.sample_seconds = len(self.samples), about.seconds
            self.meter.sample_energy, self.throughput = about.energy, about.throughput
            self.meter.sample_usage = about.usage
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

    def about_samples(self) -> StoredSamples:
        """The contents of samples.json: what the samples depend on, and what drawing them cost."""
        return StoredSamples(
            key=self.job.samples_key, weights=self.weights, seconds=self.meter.sample_seconds,
            energy=self.meter.sample_energy, usage=self.meter.sample_usage, throughput=self.throughput,
        )  # fmt: skip

    def measure_throughput(self) -> None:
        """Rates at other batch sizes, measured once per samples after they are on disk; outside every clock."""
        assert self.model is not None and self.samples is not None
        if self.throughput is None:
            plan = ConditionPlan(conditions_of(self.job.kind), self.samples.numbers, self.data.test)
            rates = measure_throughput(self.job, self.model, plan, self.samples.batch)
            stop_if_requested()
            self.throughput = rates
            vouch(self.job.folder, self.samples, self.about_samples())

    def evaluate(self) -> None:
        """Collect the measurements of all plugins; two with the same metric and protocol are an error.

        Measurements in `previous`, of the same samples, are kept unless measured again.
        """
        self.enter("evaluate")
        report("evaluate", 0.0)
        fault("evaluate.begin")
        job, known, old = self.job, self.known, self.previous
        began = clock.now()
        spared_seconds()
        missing = missing_extractors(job, old) if old else None
        if missing is not None:
            measured = in_features(missing, job, self.samples, self.data, self.plugins, self.model)
        else:
            measured = self.plugins.measure(job=job, model=self.model, samples=self.samples, data=self.data)
        refuse_twice(measured)
        keep_bound_over_time(job, self.model, self.data, job.folder)
        before = old.cost.evaluate if old is not None and missing is not None else None
        known.evaluate = EvaluateCost.after(before, clock.now() - began + spared_seconds())
        known.protocols = {m.protocol: m.settings for m in measured}
        if old is not None:
            known.protocols = {**old.protocols, **known.protocols}
            measured = kept(old.measurements, measured, known.protocols) + measured
            known.extractors, known.rulers = (old.extractors, old.rulers) if missing is not None else ({}, {})
            known.measurers = old.measurers
        known.measurements = measured
        if self.samples is not None and not job.is_reference:
            copied = copying(measured)
            signs = collapse_signs(self.samples.images, self.data.test.images, measured)
            known.warnings = [copied] * bool(copied) + signs
        fault("evaluate.end")

    def check_rulers(self) -> None:
        """Find out which metrics may rank on these images; it belongs to the dataset and is booked on no model."""
        if self.samples is not None:
            self.known.rulers = {**self.known.rulers, **rulers(self.job, self.data, self.plugins)}

    def draw(self) -> None:
        """Draw the pictures that a report shows of these samples and this model."""
        self.enter("pictures")
        report("evaluate", 0.0, "pictures")
        copied = [] if self.job.is_reference else copied_splits(self.known.measurements)
        keep_pictures(self.job, self.model, self.data, self.samples, self.weights, copied)

    def score_curve(self) -> None:
        """The curve of quality against cost, if weights were kept during training or the job asks for one."""
        count, known = self.kept.count, self.known
        if self.job.is_reference or not (count or self.job.curve):
            return
        if not count:
            known.curve = missing_curve(self.job.curve)
            return
        self.enter("curve")
        assert self.model is not None and known.evaluate is not None
        began = clock.now()
        points, protocols = scored_points(self.job, self.model, self.data, self.plugins, self.kept.kept)
        known.protocols |= protocols
        known.curve = list(kept_on_curve(self.previous, points, known.protocols)) if self.previous else points
        known.curve.append(final_point(self.meter.train_cost(), known.measurements))
        seconds = (known.evaluate.curve_seconds or 0.0) + clock.now() - began
        known.evaluate = known.evaluate.model_copy(update={"curve_seconds": seconds})

    def record(self, status: RunStatus, error: Failure | None, attempts: list[dict[str, Any]]) -> Record:
        """The record of what is known."""
        job, meter, known, model, samples = self.job, self.meter, self.known, self.model, self.samples
        known.samples = samples
        known.train = None if job.is_reference else self.train_cost()
        known.sample = meter.sample_cost(samples, self.throughput) if samples else None
        known.warnings = [*known.warnings, *remarks(known.train, known.sample)]
        if model is not None:
            known.warnings += [model.remark] * bool(model.remark)
            known.external_data = (*map(redacted, model.external_data), *encoder_of(job))
            known.seen_extractors = tuple(model.seen_extractors)
            known.capabilities = [*capabilities(type(model)), *(["conditional"] if model.kinds() else [])]
        stamp = self.data.stamp(job.kind)
        return make_record(job, stamp, environment(job, meter.processes), known, status, error, attempts)

    def train_cost(self) -> TrainCost | None:
        """The cost of training, of what its phases are part, and the job that trained if it was another."""
        cost = self.meter.train_cost()
        if cost is None:
            return None
        phases = {
            name: phase.model_copy(update={"part": self.parts.get(name, GENERATOR)})
            for name, phase in cost.phases.items()
        }
        other = "" if self.trained_by == self.job.id else self.trained_by
        return cost.model_copy(update={"phases": phases, "trained_by": other})


def refuse_twice(measurements: list[Measurement]) -> None:
    """Raise ValueError if two measurements have the same metric and protocol."""
    keys = [(m.metric, m.protocol) for m in measurements]
    twice = {key for key in keys if keys.count(key) > 1}
    if twice:
        raise ValueError(f"two plugins measured {sorted(twice)[0][0]} under the same protocol")


def run_job(job: Job, data: Dataset, plugins: Plugins, watched: bool = False) -> Record:
    """Run one job in this process and write its record, whatever happens. Raises Busy if another process is running it.

    A `watched` job leaves a message if its process dies, and is ended if it makes no progress for too long.
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
        begin(job, data.stamp(job.kind))
        device = torch.device(job.runtime.device)
        use_device(device)
        alone = set(job.runtime.peers) <= {job.runtime.device}  # one counter covers only one of several GPUs
        meter = Meter(device, counter=energy_counter(device) if alone else None)
        run = Run(job, data, plugins, meter, previous=previous)
        error = attempt(run.execute)
        progress.unwatch()
        record = run.record(status_of(error), failure(error, run) if error else None, attempts)
        end(job, record)
    if error is not None and is_interruption(error):
        raise error
    Observers(plugins, job).finished(record)
    return record


def attempt(action: Callable[[], None]) -> Exception | KeyboardInterrupt | None:
    """Run the action and return the exception that ended it: a plugin's exception ends the job, not the program.

    Raises Busy, and CorruptData: damaged files are no failure of the model, and its job goes on once they are gone.
    """
    report("start", 0.0)
    try:
        action()
    except (Busy, CorruptData):
        progress.unwatch()
        raise
    except (Exception, KeyboardInterrupt) as error:
        return error
    return None


def status_of(error: BaseException | None) -> RunStatus:
    """The status of a run that ended with this error: what fails once a stop is asked for may fail of the same signal.

    A compiler that a network waits for is such a process.
    """
    if error is None:
        return "complete"
    if isinstance(error, Diverged):
        return "diverged"
    stopped = isinstance(error, Cancelled) or is_interruption(error) or progress.stop_requested()
    return "cancelled" if stopped else "failed"


def failure(error: BaseException, run: Run) -> Failure:
    """Why and where a run ended; its traceback goes to a file beside the record."""
    store.write_text(run.job.folder / TRACEBACK, impersonal("".join(traceback.format_exception(error))))
    message = message_of(error)
    if isinstance(error, KeyboardInterrupt) and not is_interruption(error):
        message = f"plugin {run.job.plugin.name!r} itself raised {type(error).__name__}"
    return Failure(
        type=type(error).__name__, message=impersonal(message), hook=run.hook,
        step=run.meter.steps if run.hook == "train" else None, plugin=run.job.plugin.name, traceback=TRACEBACK,
    )  # fmt: skip


def encoder_of(job: Job) -> Iterator[str]:
    """What trained the frozen encoder of a job's text, which is more than its dataset; nothing without one."""
    if job.condition is not None and job.condition.encoder:
        yield f"text encoder {job.condition.encoder}, trained elsewhere"


def parameters_by_phase(model: Model) -> dict[str, int]:
    """The number of parameters that each phase moves, each in the first that does; `fixed` counts the rest."""
    counts: dict[str, int] = {}
    moved: set[int] = set()
    for phase in model.phases():
        own = {id(p): p.numel() for p in phase.parameters if id(p) not in moved}
        counts[phase.name] = sum(own.values())
        moved |= own.keys()
    fixed = sum(p.numel() for p in model.parameters() if id(p) not in moved)
    return counts | ({"fixed": fixed} if fixed else {})
