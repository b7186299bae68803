"""Images per second of training and of sampling, each against a bare loop, and peak memory: a row per model and size.

    python benchmarks/speed.py                        # five families at 28x28 gray, 32x32 and 64x64 colour
    python benchmarks/speed.py -m vae --image 3x32x32 --device cuda --precision bf16 --compile --csv speed.csv

The images are noise: speed does not depend on what they show. Those of a training are counted as budgets count them, in
every update of every phase. A ratio is the harness's time over the bare loop's, the median of pairs that alternate in
one process: by CPU time on a CPU, which other work disturbs less, and by the clock on the wall on a GPU. The bare loop
of training is that of `overhead.py`; that of sampling calls the model, quantises and copies. Peak memory is what a
record has: the allocator's on a GPU, on a CPU all that is resident, torch included.

With `--csv FILE` a row is written as soon as it is measured, and one that the file already has is not measured again.
The exit code is 1 if one failed; its `note` says why.
"""

from __future__ import annotations

import argparse
import csv
import multiprocessing
import statistics
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from overhead import Harness, Times, compare, images_per_step, make_job, parts, timed

from genbench.data.dataset import Dataset, Part
from genbench.devices import (
    autocast,
    exact_arithmetic,
    peak_memory,
    reset_peak_memory,
    resolve_devices,
    resolve_precision,
    use_device,
    use_threads,
)
from genbench.images import to_uint8
from genbench.metering.meter import Meter
from genbench.model import Model
from genbench.records.job import Job
from genbench.running.defaults import load_plugins
from genbench.running.sample import sample
from genbench.support.errors import describe
from genbench.support.seeds import derive_seed
from genbench.training.compilation import compiled
from genbench.training.loop import build_model

FAMILIES = ("ddpm", "ldm", "gan", "vae", "flow")
SIZES = ("1x28x28", "3x32x32", "3x64x64")
IMAGES = 1024
WHICH = ("model", "preset", "images", "device", "precision", "compile")
"""What tells the rows of a file apart."""
TRAIN = ("train_images_per_second", "train_bare", "train_ratio")
SAMPLE = ("sample_images_per_second", "sample_bare", "sample_ratio")
COLUMNS = (*WHICH, *TRAIN, *SAMPLE, "train_peak_gb", "sample_peak_gb", "note")


class Watch(Meter):
    """A meter that also counts CPU seconds, from `since` on and without pauses."""

    since = processor = 0.0

    def count(self) -> None:
        """Count until now."""
        self.processor += time.process_time() - self.since

    @contextmanager
    def pause(self) -> Iterator[None]:
        self.count()
        with super().pause():
            yield
        self.since = time.process_time()


def noise(shape: tuple[int, int, int]) -> Dataset:
    """A dataset of uniform noise."""
    images = np.random.default_rng(0).integers(0, 256, (IMAGES, *shape), dtype=np.uint8)
    name = "x".join(map(str, shape))
    part = Part(images, None)
    return Dataset(name, name, "", shape, 0, (), 0, Path(), part, part)


def trained(job: Job, data: Dataset) -> tuple[Model, float, float]:
    """The averaged model after the first steps of each part of a training, their peak in GB, and images per step."""
    job.folder.mkdir(parents=True, exist_ok=True)
    model = build_model(job, load_plugins(), data, torch.device(job.runtime.device))
    harness = Harness(job, model, data)
    trainer, meter = harness.trainer, harness.trainer.meter
    with meter.training(), compiled(model, job.compile):
        for part in parts(trainer.phases):
            harness.enter(part)
    trainer.settle(trainer.ema.model)
    return trainer.ema.model, meter.peak_bytes / 1e9, images_per_step(trainer.phases)


def sampled(job: Job, model: Model, data: Dataset, repeats: int) -> tuple[list[Times], list[Times], float]:
    """Times of drawing the job's samples by the harness and by a bare loop, pair by pair, and the harness's peak in GB.

    What the harness does before it draws, counting FLOPs and warming up, is in neither.
    """
    device = torch.device(job.runtime.device)
    reset_peak_memory(device)
    block = ours(job, model, data)[1]
    peak = peak_memory(device)[0] / 1e9
    times: tuple[list[Times], list[Times]] = ([], [])
    for pair in range(repeats):
        for side in (0, 1) if pair % 2 else (1, 0):
            times[side].append(bare(job, model, block) if side else ours(job, model, data)[0])
    return *times, peak


def ours(job: Job, model: Model, data: Dataset) -> tuple[Times, int]:
    """The times of the harness, and how many images it draws in a call."""
    meter = Watch(torch.device(job.runtime.device))
    with tempfile.TemporaryDirectory() as folder, meter.sampling():  # parts of earlier draws would not be drawn again
        meter.since = time.process_time()
        found = sample(job, model, data, Path(folder), meter)
        meter.count()
    return (meter.sample_seconds, meter.processor), found.batch


@torch.no_grad()
def bare(job: Job, model: Model, block: int) -> Times:
    """The times of the shortest loop that draws the same number of images."""
    device, images = torch.device(job.runtime.device), np.empty((job.samples, *model.data.shape), np.uint8)

    def draw(start: int) -> None:
        count = min(block, job.samples - start)
        with autocast(device, job.precision):
            images[start : start + count] = to_uint8(model.sample(count)).cpu().numpy()

    def loop() -> None:
        for start in range(0, job.samples, block):
            draw(start)

    torch.manual_seed(derive_seed(job.seed, "sample", 0))
    with compiled(model, job.compile):
        if job.compile:
            draw(0)
            draw(job.samples - (job.samples % block or block))
        return timed(loop)


def rates(ours: list[Times], bare: list[Times], images: float, clock: int) -> tuple[float, float, float]:
    """Images per second of the harness and of the bare loop, of the median times, and the median ratio of the times."""
    mine, theirs = ([taken[clock] for taken in side] for side in (ours, bare))
    ratio = statistics.median(one / other for one, other in zip(mine, theirs))
    return images / statistics.median(mine), images / statistics.median(theirs), ratio


def measure(row: dict[str, Any], words: argparse.Namespace) -> dict[str, Any]:
    """The row of a model at a size with all that was measured; of one that failed, why."""
    use_threads(words.threads)
    exact_arithmetic()
    device, data = resolve_devices(words.device)[0], noise(shape_of(row["images"]))
    clock = 0 if device.type == "cuda" else 1
    use_device(device)
    found = dict(row)
    with tempfile.TemporaryDirectory() as out:
        compile = row["compile"] == "True"
        made = row["model"], words.preset, data, device, Path(out), row["precision"], compile, words.samples
        try:
            job = make_job(*made)
            model, found["train_peak_gb"], images = trained(job, data)
            times = compare(job, data, words.steps, words.repeats)
            found.update(zip(TRAIN, rates(*times, images * words.steps, clock)))
            *drawn, found["sample_peak_gb"] = sampled(job, model, data, words.repeats)
            found.update(zip(SAMPLE, rates(*drawn, job.samples, clock)))
        except Exception as error:
            found["note"] = describe(error)
    return found


def apart(row: dict[str, Any], words: argparse.Namespace) -> dict[str, Any]:
    """The same in a process of its own, whose memory is that of this row alone."""
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
        try:
            return pool.submit(measure, row, words).result()
        except BrokenProcessPool:
            return {**row, "note": "its process was killed, possibly out of memory"}


def known_rows(file: Path | None) -> list[dict[str, str]]:
    """The rows that were measured without a fault so far."""
    if file is None or not file.exists():
        return []
    with file.open(newline="", encoding="utf-8") as lines:
        return [row for row in csv.DictReader(lines) if not row["note"]]


def add_row(file: Path, row: dict[str, Any], columns: Iterable[str] = COLUMNS) -> None:
    """Append a row to a CSV file, which gets a heading if it is new."""
    new = not file.exists()
    with file.open("a", newline="", encoding="utf-8") as lines:
        writer = csv.DictWriter(lines, [*columns])
        if new:
            writer.writeheader()
        writer.writerow(row)


def table(rows: list[dict[str, Any]]) -> str:
    """The rows as text."""
    import pandas as pd

    frame = pd.DataFrame(rows, columns=[*COLUMNS])
    for name in COLUMNS[len(WHICH) : -1]:
        frame[name] = pd.to_numeric(frame[name])
    frame["note"] = frame["note"].replace("", None)
    frame = frame.dropna(axis="columns", how="all")
    digits = {name: 3 if name.endswith("ratio") else 2 if name.endswith("gb") else 1 for name in frame}
    formats = {name: lambda x, n=n: "" if pd.isna(x) else f"{x:,.{n}f}" for name, n in digits.items()}
    numbers = {name: formats[name] for name in frame.select_dtypes("number")}
    return str(frame.to_string(index=False, formatters=numbers, na_rep=""))


def shape_of(text: str) -> tuple[int, int, int]:
    """3x32x32 as (3, 32, 32)."""
    channels, height, width = map(int, text.split("x"))
    return channels, height, width


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("-m", "--model", action="append", help=f"repeatable; default: {', '.join(FAMILIES)}")
    parser.add_argument("--image", action="append", help=f"CxHxW, repeatable; default: {', '.join(SIZES)}")
    parser.add_argument("--preset", default="small")
    parser.add_argument("--steps", type=int, default=5, help="of training in a timed loop")
    parser.add_argument("--samples", type=int, default=16, help="in a timed loop")
    parser.add_argument("--repeats", type=int, default=3, help="pairs of timed loops")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--precision", default="auto", choices=["auto", "fp32", "bf16"])
    parser.add_argument("--compile", action="store_true", help="compile the networks of both sides")
    parser.add_argument("--csv", type=Path, help="a file to add the rows to")
    words = parser.parse_args()
    device, plugins = resolve_devices(words.device)[0], load_plugins()
    rows: list[dict[str, Any]] = [*known_rows(words.csv)]
    for image in words.image or SIZES:
        for name in words.model or FAMILIES:
            precision = resolve_precision(words.precision, device, plugins.model(name)[0].bf16)
            which = dict(zip(WHICH, (name, words.preset, image, str(device), precision, str(words.compile))))
            if not any(which.items() <= row.items() for row in rows):
                rows.append(apart({**which, "note": ""}, words))
                if words.csv:
                    add_row(words.csv, rows[-1])
    print(table(rows))
    return int(any(row["note"] for row in rows))


if __name__ == "__main__":
    sys.exit(main())
