"""The default `sample`: seeded blocks from the trained model, checked, quantised and labelled by the harness."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from genbench.data.dataset import Dataset
from genbench.devices import autocast
from genbench.images import to_uint8
from genbench.metering.flops import FlopCounter
from genbench.metering.meter import Meter
from genbench.model import Model
from genbench.records.job import Job
from genbench.records.samples import BLOCK, Samples
from genbench.running.shards import Shards
from genbench.support import progress
from genbench.support.errors import BadInput, Diverged
from genbench.support.faults import fault
from genbench.support.progress import report, stop_if_requested, stop_requested
from genbench.support.seeds import derive_seed
from genbench.training.compilation import compiled, networks, uncompiled

LABEL_SEED = 2020
SHARD_SECONDS = 60.0
BLOCK_FLOPS = {"cpu": 2e12, "cuda": 5e15}
"""What a call may take: about a minute of two cores, or of a large GPU."""


def label_plan(data: Dataset, count: int) -> np.ndarray:
    """`count` labels in the exact proportions of the training labels (largest remainders), shuffled, int64."""
    assert data.train.labels is not None
    shares = np.bincount(data.train.labels, minlength=data.num_classes) / len(data.train) * count
    counts = np.floor(shares).astype(int)
    short = count - counts.sum()
    counts[np.argsort(counts - shares, kind="stable")[:short]] += 1
    return np.random.default_rng(LABEL_SEED).permutation(np.repeat(np.arange(data.num_classes), counts))


def sample(job: Job, model: Model, data: Dataset, folder: Path, meter: Meter) -> Samples:
    """`job.samples` images in blocks; each is seeded by the job's seed and its first image. Raises Diverged, BadInput.

    What an interrupted sampling has left in `folder` is not drawn again.
    """
    labels = label_plan(data, job.samples) if job.conditional else None
    report("sample", 0.0)
    with compiled(model, job.compile):
        return _blocks(job, model, data, folder, meter, labels)


def _blocks(
    job: Job, model: Model, data: Dataset, folder: Path, meter: Meter, labels: np.ndarray | None
) -> Samples:  # fmt: skip
    """The blocks of `sample`, after calls outside the clock that count FLOPs and warm up."""
    images = np.empty((job.samples, *data.shape), np.uint8)
    with meter.pause():
        shards = Shards.of(folder, job, model)
        begin, clamped = shards.restore(images, meter)
        flops = flops_per_image(job, model, labels)
        block = block_size(flops, job)
        # Compiled code is made for a size, the first time that it is asked for: that of a block, and of the last one.
        sizes = {block, job.samples % block or block} if job.compile else {min(8, block)}
        for size in sorted(sizes - {1}):
            draw(job, model, labels, 0, size)
    kept, kept_at = begin, meter.seconds
    for start in range(begin, job.samples, block):
        fault("sample.block")
        if start > kept and (stop_requested() or meter.seconds - kept_at > SHARD_SECONDS):
            with meter.pause():
                shards.keep(images[kept:start], kept, clamped, meter)
            kept, kept_at = start, meter.seconds
        stop_if_requested()
        count = min(block, job.samples - start)
        with progress.part("sample", start / job.samples, (start + count) / job.samples):
            drawn = draw(job, model, labels, start, count)
        clamped += int((drawn.abs() > 1).sum())
        images[start : start + count] = to_uint8(drawn).cpu().numpy()
        meter.sampled += count
        report("sample", meter.sampled / job.samples)
        fault("sample.drawn")
    return Samples(images, labels, clamped / images.size, block, model.nfe, flops)


def flops_per_image(job: Job, model: Model, labels: np.ndarray | None) -> float | None:
    """What drawing one image takes, gradients included; None if nothing of it can be counted."""
    with uncompiled(model), FlopCounter() as counter:
        draw(job, model, labels, 0, 1)
    return float(counter.flops) or None


def block_size(flops: float | None, job: Job) -> int:
    """Images per call: BLOCK, or the power of two below it that takes about a minute, so that a call never takes long.

    It follows from a count, not from a clock, so that the same job has the same blocks, and samples, everywhere.
    """
    limit = BLOCK_FLOPS[torch.device(job.runtime.device).type]
    if flops is None or flops * BLOCK <= limit:
        return min(BLOCK, job.samples)
    return min(int(2 ** max(0, math.floor(math.log2(limit / flops)))), job.samples)


def kind_of(value: object) -> str:
    """What a model gave in the place of a tensor that was asked for."""
    return f"{value.dtype} {tuple(value.shape)}" if isinstance(value, Tensor) else f"a {type(value).__name__}"


@torch.no_grad()
def draw(job: Job, model: Model, labels: np.ndarray | None, start: int, count: int) -> Tensor:
    """Images `start` to `start + count`, float32 (count, C, H, W), checked.

    Raises BadInput for a wrong shape, Diverged for NaN or infinity.
    """
    device, shape = torch.device(job.runtime.device), model.data.shape
    wanted = None if labels is None else torch.from_numpy(labels[start : start + count]).to(device)
    torch.manual_seed(derive_seed(job.seed, "sample", start))
    with autocast(device, job.precision), progress.alive_at_calls(() if job.compile else networks(model)):
        block = model.sample(count, wanted)
    if not isinstance(block, Tensor) or tuple(block.shape) != (count, *shape) or not block.is_floating_point():
        told = f"{model.name}: sample({count}) must give floats of shape {(count, *shape)}, it gave {kind_of(block)}"
        raise BadInput(told, "`genbench check-plugin` names the line")
    block = block.float()
    finite = block.flatten(1).isfinite().all(1)
    if not finite.all():
        raise Diverged(f"sample {start + int((~finite).nonzero()[0])} is not finite")
    return block
