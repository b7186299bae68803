"""The training loop against a bare one: same model, batches, precision, optimizer, schedule, clipping and averages.

    python benchmarks/overhead.py                     # vae and ddpm on mnist5k, in their default settings
    python benchmarks/overhead.py -m gan --steps 50 --repeats 5

Both sides train from the same weights on the same batches, in one process, in pairs in which the sides take turns going
first. A training whose phases follow one another is timed within each part of the budget, which counts by its length.
The bare loop leaves out what a harness adds: the clock, cost by phase, the budget, the check for divergence, the
learning curve, and a seed for every batch. The first steps of a part, in which FLOPs are counted, are in neither.
"""

from __future__ import annotations

import argparse
import copy
import math
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from itertools import pairwise
from pathlib import Path

import torch

from genbench.data.dataset import Dataset
from genbench.data.entries import known_datasets
from genbench.data.folders import data_root
from genbench.data.preparation import prepare
from genbench.devices import autocast, exact_arithmetic, resolve_devices, resolve_precision, synchronize, use_threads
from genbench.metering.meter import Meter
from genbench.model import Batch, Model, Phase
from genbench.planning.config import ModelChoice, configure
from genbench.records.budget import Budget
from genbench.records.job import Job, Runtime
from genbench.records.record import PluginStamp
from genbench.running.defaults import load_plugins
from genbench.training.compilation import compiled
from genbench.training.ema import WeightAverage
from genbench.training.feeder import Feeder
from genbench.training.loop import PREPARE_IMAGES, Trainer, build_model
from genbench.training.phases import checked_phases, first_phases, give_gradients

BUDGET = 10_000
"""Steps of a typical training, of which some are timed, so that points of the learning curve are as far apart."""
WARM_UP = 2
"""Steps at the beginning of a part: the first counts FLOPs, and the second is the first that runs compiled code."""
Part = tuple[float, float]
"""The shares of the budget at which a part of the training begins and ends."""
Times = tuple[float, float]
"""Wall seconds and CPU seconds of a loop."""


def make_job(
    name: str, preset: str | None, dataset: Dataset, device: torch.device, out: Path, precision: str = "auto",
    compile: bool = False, samples: int = 2,
) -> Job:  # fmt: skip
    """A job of BUDGET steps."""
    kind, info = load_plugins().model(name)
    config = configure(kind, ModelChoice(name=name, preset=preset))
    return Job(
        model=name, label=name, config=config.model_dump(mode="json"), train_config=config.of_role("train"),
        plugin=PluginStamp(name=info.name, version=info.version), dataset=dataset.name, dataset_digest=dataset.digest,
        budget=Budget(unit="steps", amount=BUDGET), samples=samples, runtime=Runtime(device=str(device), out=out),
        precision=resolve_precision(precision, device, kind.bf16), compile=compile,
    )  # fmt: skip


def parts(phases: list[Phase]) -> list[Part]:
    """The parts of a training within which the same phases are active."""
    bounds = sorted({bound for phase in phases for bound in phase.span})
    return [(begin, end) for begin, end in pairwise(bounds) if any(active(phase, begin) for phase in phases)]


def active(phase: Phase, progress: float) -> bool:
    """Whether the phase takes part at this share of the budget."""
    return phase.span[0] <= progress < phase.span[1]


def images_per_step(phases: list[Phase]) -> float:
    """Images of a mean step over the whole budget, as budgets count them: in each update of each phase."""
    whole = sum(end - begin for begin, end in parts(phases))
    return sum((p.span[1] - p.span[0]) * p.repeats / p.every * p.batch_size for p in phases) / whole


class Harness:
    """The harness's own loop."""

    def __init__(self, job: Job, model: Model, data: Dataset) -> None:
        self.trainer = Trainer(job, model, data, job.folder, Meter(torch.device(job.runtime.device)))
        self.model = model.train()

    def enter(self, part: Part) -> None:
        """Go on at the beginning of a part, and take the first steps."""
        self.trainer.meter.steps = math.ceil(part[0] * BUDGET)
        self.ready(WARM_UP)
        self.run(WARM_UP)

    def ready(self, steps: int) -> None:
        """Nothing is ready: batches are made within the steps. No checkpoint is due soon."""
        self.trainer.saved_at = self.trainer.meter.seconds

    def run(self, steps: int) -> None:
        """Take so many steps."""
        for _ in range(steps):
            progress = self.trainer.progress()
            self.trainer.step(progress)
            self.trainer.look_after(progress)
        synchronize(self.trainer.device)


class Bare:
    """The shortest loop that trains the model in the same way."""

    def __init__(self, job: Job, model: Model, data: Dataset) -> None:
        self.job, self.data, self.model, self.phases = job, data, model.train(), checked_phases(model)
        self.device = torch.device(job.runtime.device)
        self.feeder = Feeder(job, data, model.discrete, self.device, model.config.flip)
        self.average = WeightAverage(model, self.phases, model.config.ema_decay)
        self.rates = {phase.name: [group["lr"] for group in phase.optimizer.param_groups] for phase in self.phases}
        self.first = first_phases(self.phases)
        self.taken = dict.fromkeys(self.first, 0)
        self.averaged = dict.fromkeys(self.first.values(), 0)
        self.number = self.seen = 0
        self.begun: set[str] = set()
        self.moving: Phase | None = None
        self.coming: Iterator[Batch] = iter(())

    def enter(self, part: Part) -> None:
        """Go on at the beginning of a part, and take the first steps."""
        for phase in self.phases:
            sharing = [other for other in self.phases if self.first[other.name] == self.first[phase.name]]
            if self.averaged[self.first[phase.name]] and all(other.span[1] <= part[0] for other in sharing):
                self.average.replace(phase.name)
            if active(phase, part[0]) and phase.name not in self.begun:
                self.begun.add(phase.name)
                with torch.no_grad():
                    self.model.prepare(phase.name, self.feeder.batch(0, min(PREPARE_IMAGES, len(self.data.train))))
                if not self.averaged[self.first[phase.name]]:
                    self.average.reset(phase.name)
        self.number = math.ceil(part[0] * BUDGET)
        self.ready(WARM_UP)
        self.run(WARM_UP)

    def ready(self, steps: int) -> None:
        """Make the batches of the next steps."""
        batches = []
        for number in range(self.number, self.number + steps):
            for phase in self.due(number):
                size, count = self.model.config.pieces_of(phase.batch_size)
                for _ in range(phase.repeats * count):
                    batches.append(self.feeder.batch(self.seen, size, phase.within(number / BUDGET)))
                    self.seen += size
        self.coming = iter(batches)

    def due(self, number: int) -> list[Phase]:
        """The phases that take part in a step."""
        return [phase for phase in self.phases if active(phase, number / BUDGET) and number % phase.every == 0]

    def run(self, steps: int) -> None:
        """Take so many steps."""
        for number in range(self.number, self.number + steps):
            due = self.due(number)
            last = {self.first[phase.name]: phase for phase in due}
            for phase in due:
                first, within = self.first[phase.name], phase.within(number / BUDGET)
                for _ in range(phase.repeats):
                    self.update(phase, phase.factor(within, self.taken[phase.name]))
                self.taken[phase.name] += 1
                if phase is last[first]:
                    self.averaged[first] += 1
                    self.average.update(first, self.averaged[first])
            self.average.copy_buffers(self.model)
        self.number += steps
        synchronize(self.device)

    def update(self, phase: Phase, factor: float) -> None:
        """One update at this factor of the learning rate."""
        if self.moving is not phase:
            give_gradients(self.model, phase)
            self.moving = phase
        phase.optimizer.zero_grad(set_to_none=True)
        _, count = self.model.config.pieces_of(phase.batch_size)
        for _ in range(count):
            with autocast(self.device, self.job.precision):
                outcome = self.model.loss(phase.name, next(self.coming))
            (outcome["loss"] if isinstance(outcome, dict) else outcome).backward()  # type: ignore[no-untyped-call]
        if count > 1:
            torch._foreach_mul_([p.grad for p in phase.parameters if p.grad is not None], 1 / count)
        if phase.clip:
            torch.nn.utils.clip_grad_norm_(phase.parameters, phase.clip)
        for group, rate in zip(phase.optimizer.param_groups, self.rates[phase.name]):
            group["lr"] = rate * factor
        phase.optimizer.step()


def timed(loop: Callable[[], None]) -> Times:
    """The wall and CPU seconds that the loop takes."""
    wall, processor = time.perf_counter(), time.process_time()
    loop()
    return time.perf_counter() - wall, time.process_time() - processor


def compare(job: Job, data: Dataset, steps: int, repeats: int) -> tuple[list[Times], list[Times]]:
    """Times of `steps` mean steps of the harness and of the bare loop, pair by pair: the parts, each by its length."""
    job.folder.mkdir(parents=True, exist_ok=True)
    start = build_model(job, load_plugins(), data, torch.device(job.runtime.device))
    ours, bare = Harness(job, copy.deepcopy(start), data), Bare(job, start, data)
    spans = parts(bare.phases)
    whole = sum(end - begin for begin, end in spans)
    times: dict[Harness | Bare, list[Times]] = {side: [(0.0, 0.0)] * repeats for side in (ours, bare)}
    with ours.trainer.meter.training(), compiled(ours.model, job.compile), compiled(bare.model, job.compile):
        for begin, end in spans:
            for side in times:
                side.enter((begin, end))
            for pair in range(repeats):
                for side in [*times][:: 1 if pair % 2 else -1]:
                    side.ready(steps)
                    taken, sums = timed(lambda side=side: side.run(steps)), times[side][pair]  # type: ignore[misc]
                    share = (end - begin) / whole
                    times[side][pair] = sums[0] + share * taken[0], sums[1] + share * taken[1]
    return times[ours], times[bare]


def quartiles(ratios: list[float]) -> tuple[float, float, float]:
    """The first quartile, the median and the third."""
    low, middle, high = statistics.quantiles(ratios, n=4) if len(ratios) > 1 else [ratios[0]] * 3
    return low, middle, high


def line(name: str, what: str, ours: list[float], theirs: list[float], steps: int) -> str:
    """Milliseconds per step for both sides, and the median and quartiles of the paired ratios."""
    low, middle, high = quartiles([mine / bare for mine, bare in zip(ours, theirs)])
    mine, bare = (1000 * statistics.median(side) / steps for side in (ours, theirs))
    return f"{name:9} {what:10} {mine:10.3f} {bare:10.3f} {middle:8.4f}   [{low:.4f}, {high:.4f}]"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("-m", "--model", action="append", help="repeatable; default: vae and ddpm")
    parser.add_argument("-d", "--dataset", default="mnist5k")
    parser.add_argument("--preset")
    parser.add_argument("--steps", type=int, default=30)
    parser.add_argument("--repeats", type=int, default=20)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--device", default="cpu")
    words = parser.parse_args()
    use_threads(words.threads)
    exact_arithmetic()
    device = resolve_devices(words.device)[0]
    data = prepare(known_datasets()[words.dataset], data_root(None))
    print(f"{words.repeats} pairs of {words.steps} steps, {words.threads} thread(s), torch {torch.__version__}")
    print(f"{'model':9} {'clock':10} {'ms/step':>10} {'bare':>10} {'ratio':>8}   quartiles")
    for name in words.model or ["vae", "ddpm"]:
        with tempfile.TemporaryDirectory() as out:
            job = make_job(name, words.preset, data, device, Path(out))
            ours, theirs = compare(job, data, words.steps, words.repeats)
        for index, what in enumerate(("wall", "processor")):
            print(line(name, what, [t[index] for t in ours], [t[index] for t in theirs], words.steps))
            sys.stdout.flush()


if __name__ == "__main__":
    main()
