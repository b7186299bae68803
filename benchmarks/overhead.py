"""The training loop against a bare one: same model, batches, precision, optimizer, schedule, clipping and averages.

    python benchmarks/overhead.py                     # vae and ddpm on mnist5k, in their default settings
    python benchmarks/overhead.py -m gan --steps 50 --repeats 5

Both sides continue from the same weights on the same batches, in one process, in pairs in which the sides take turns
going first. The bare loop leaves out what a harness adds: the clock, cost by phase, the budget, the check for
divergence, the learning curve, and a seed for every batch. The first step, which counts FLOPs, is excluded.
"""

from __future__ import annotations

import argparse
import copy
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor

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
from genbench.training.ema import WeightAverage
from genbench.training.feeder import Feeder
from genbench.training.loop import Trainer, build_model

BUDGET = 10_000
"""Steps of a typical training, of which the first are timed, so that points of the learning curve are as far apart."""
Times = tuple[float, float]
"""Wall seconds and CPU seconds of a loop."""


def make_job(name: str, preset: str | None, dataset: Dataset, device: torch.device, out: Path) -> Job:
    """A job of BUDGET steps."""
    kind, info = load_plugins().model(name)
    config = configure(kind, ModelChoice(name=name, preset=preset))
    return Job(
        model=name, label=name, config=config.model_dump(mode="json"), train_config=config.of_role("train"),
        plugin=PluginStamp(name=info.name, version=info.version), dataset=dataset.name, dataset_digest=dataset.digest,
        budget=Budget(unit="steps", amount=BUDGET), samples=2, runtime=Runtime(device=str(device), out=out),
        precision=resolve_precision("auto", device, kind.bf16),
    )  # fmt: skip


def harness_loop(job: Job, model: Model, data: Dataset, steps: int) -> Callable[[], None]:
    """The harness's own loop."""
    trainer = Trainer(job, model, data, job.folder, Meter(torch.device(job.runtime.device)))

    def loop() -> None:
        for _ in range(steps):
            step()
        synchronize(trainer.device)

    def step() -> None:
        progress = trainer.progress()
        trainer.step(progress)
        trainer.look_after(progress)

    model.train()
    step()
    return loop


def bare_loop(job: Job, model: Model, data: Dataset, steps: int) -> Callable[[], None]:
    """The shortest loop that trains the model in the same way."""
    phases, device = model.phases(), torch.device(job.runtime.device)
    ready = prepared_batches(job, model, data, steps)
    coming = iter(ready)
    average = WeightAverage(model, phases, model.config.ema_decay)
    rates = {phase.name: [group["lr"] for group in phase.optimizer.param_groups] for phase in phases}
    model.train()
    for phase in phases:
        with torch.no_grad():
            model.prepare(phase.name, ready[0])
        average.reset(phase.name)

    def step(number: int) -> None:
        progress = number / BUDGET
        for phase in phases:
            begin, end = phase.span
            if begin <= progress < end:
                parameters = [p for group in phase.optimizer.param_groups for p in group["params"]]
                if len(phases) > 1:
                    model.requires_grad_(False)
                    for parameter in parameters:
                        parameter.requires_grad_(True)
                for _ in range(phase.repeats):
                    update(phase, phase.factor((progress - begin) / (end - begin), number), parameters)
                average.update(phase.name, number + 1)

    def update(phase: Phase, factor: float, parameters: list[Tensor]) -> None:
        with autocast(device, job.precision):
            outcome = model.loss(phase.name, next(coming))
        phase.optimizer.zero_grad(set_to_none=True)
        (outcome["loss"] if isinstance(outcome, dict) else outcome).backward()  # type: ignore[no-untyped-call]
        if phase.clip:
            torch.nn.utils.clip_grad_norm_(parameters, phase.clip)
        for group, rate in zip(phase.optimizer.param_groups, rates[phase.name]):
            group["lr"] = rate * factor
        phase.optimizer.step()

    def loop() -> None:
        for number in range(steps):
            step(number + 1)
        synchronize(device)

    step(0)
    return loop


def prepared_batches(job: Job, model: Model, data: Dataset, steps: int) -> list[Batch]:
    """The batches that the harness gives the model, made in advance."""
    feeder, size = Feeder(job, data, model.discrete, torch.device(job.runtime.device)), model.config.batch_size
    count = (steps + 1) * sum(phase.repeats for phase in model.phases())
    return [feeder.batch(i * size, size) for i in range(count)]


def timed(loop: Callable[[], None]) -> Times:
    """The wall and CPU seconds that the loop takes."""
    wall, processor = time.perf_counter(), time.process_time()
    loop()
    return time.perf_counter() - wall, time.process_time() - processor


def compare(job: Job, data: Dataset, steps: int, repeats: int) -> tuple[list[Times], list[Times]]:
    """Times of the harness and of the bare loop, pair by pair, after a warm-up pair."""
    job.folder.mkdir(parents=True)
    start = build_model(job, load_plugins(), data, torch.device(job.runtime.device))
    times: dict[Callable[..., Callable[[], None]], list[Times]] = {harness_loop: [], bare_loop: []}
    for pair in range(repeats + 1):
        for side in [*times][:: 1 if pair % 2 else -1]:
            times[side].append(timed(side(job, copy.deepcopy(start), data, steps)))
    return times[harness_loop][1:], times[bare_loop][1:]


def line(name: str, what: str, ours: list[float], theirs: list[float], steps: int) -> str:
    """Milliseconds per step for both sides, and the median and quartiles of the paired ratios."""
    ratios = [mine / bare for mine, bare in zip(ours, theirs)]
    low, middle, high = statistics.quantiles(ratios, n=4) if len(ratios) > 1 else [ratios[0]] * 3
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
