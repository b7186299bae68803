"""The default `sample`: seeded blocks from the trained model, checked, quantised and conditioned by the harness."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from genbench.data.condition_plan import ConditionPlan
from genbench.data.dataset import Dataset
from genbench.devices import autocast
from genbench.images import LEAST_RANGED, misplaced, to_uint8
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

SHARD_SECONDS = 60.0
COMPARED = 1000
"""Training images that the range of samples is compared with."""
BLOCK_FLOPS = {"cpu": 8e12, "cuda": 5e15}
"""The most that one call may take: about a minute on two cores, or on a large GPU."""


def sample(job: Job, model: Model, data: Dataset, folder: Path, meter: Meter) -> Samples:
    """`job.samples` images in blocks; each is seeded by the job's seed and its first index. Raises Diverged, BadInput.

    BadInput is also raised if the first images show that they are not in [-1, 1] (`images.misplaced`). Images that an
    interrupted run left in `folder` are not drawn again.
    """
    plan = ConditionPlan.of(data, job.kind, job.samples)
    report("sample", 0.0)
    with compiled(model, job.compile):
        return _blocks(job, model, data, folder, meter, plan)


def _blocks(job: Job, model: Model, data: Dataset, folder: Path, meter: Meter, plan: ConditionPlan) -> Samples:
    """Draw the blocks of `sample`, after counting FLOPs and warming up outside the clock."""
    images = np.empty((job.samples, *data.shape), np.uint8)
    with meter.pause():
        shards = Shards.of(folder, job, model)
        begin, clamped = shards.restore(images, meter)
        flops = flops_per_image(job, model, plan)
        block = block_size(flops, job)
        # Code is compiled once per size: that of a block, and that of the last block.
        sizes = {block, job.samples % block or block} if job.compile else {min(8, block)}
        for size in sorted(sizes - {1}):
            draw(job, model, plan, 0, size)
    report("sample", begin / job.samples, facts={"images": begin})  # from here on there is a pace
    kept, kept_at, first = begin, meter.seconds, list[Tensor]()
    for start in range(begin, job.samples, block):
        fault("sample.block")
        if start > kept and (stop_requested() or meter.seconds - kept_at > SHARD_SECONDS):
            with meter.pause():
                shards.keep(images[kept:start], kept, clamped, meter)
            kept, kept_at = start, meter.seconds
        stop_if_requested()
        count = min(block, job.samples - start)
        with progress.part("sample", start / job.samples, (start + count) / job.samples):
            drawn = draw(job, model, plan, start, count)
        clamped += int((drawn.abs() > 1).sum())
        if start - begin < LEAST_RANGED:
            with meter.pause():
                first.append(drawn)
                check_range(torch.cat(first), data)
        images[start : start + count] = to_uint8(drawn).cpu().numpy()
        meter.sampled += count
        report("sample", meter.sampled / job.samples, facts={"images": meter.sampled})
        fault("sample.drawn")
    share = clamped / images.size
    samples = Samples(images, clamped_share=share, batch=block, nfe=model.nfe, flops=flops)
    return samples.under(job.kind, plan.numbers)


def check_range(drawn: Tensor, data: Dataset) -> None:
    """Raise BadInput if the images cannot be in [-1, 1]."""
    real = torch.from_numpy(np.array(data.train.images[:COMPARED]))
    if told := misplaced(drawn, real):
        raise BadInput(f"sample(): {told}", "`genbench check-plugin` names the line")


def flops_per_image(job: Job, model: Model, plan: ConditionPlan) -> float | None:
    """The FLOPs of drawing one image, gradients included; None if none can be counted."""
    with uncompiled(model), FlopCounter() as counter:
        draw(job, model, plan, 0, 1)
    return float(counter.flops) or None


def block_size(flops: float | None, job: Job) -> int:
    """Images per call: BLOCK, or a smaller power of two if needed, so that a call takes at most about a minute.

    It depends on counted FLOPs, not on a clock, so that a job has the same blocks, and samples, everywhere.
    """
    limit = BLOCK_FLOPS[torch.device(job.runtime.device).type]
    if flops is None or flops * BLOCK <= limit:
        return min(BLOCK, job.samples)
    return min(int(2 ** max(0, math.floor(math.log2(limit / flops)))), job.samples)


def kind_of(value: object) -> str:
    """Describe what a model returned instead of the expected tensor."""
    return f"{value.dtype} {tuple(value.shape)}" if isinstance(value, Tensor) else f"a {type(value).__name__}"


@torch.no_grad()
def draw(job: Job, model: Model, plan: ConditionPlan, start: int, count: int) -> Tensor:
    """Images `start` to `start + count`, float32 (count, C, H, W), checked.

    Raises BadInput for a wrong shape, Diverged for NaN or infinity.
    """
    device, shape = torch.device(job.runtime.device), model.data.shape
    given = plan.given(start, count, device)
    torch.manual_seed(derive_seed(job.seed, "sample", start))
    with autocast(device, job.precision), progress.alive_at_calls(() if job.compile else networks(model)):
        block = model.sample(count, given)
    if not isinstance(block, Tensor) or tuple(block.shape) != (count, *shape) or not block.is_floating_point():
        told = f"{model.name}: sample({count}) must return floats of shape {(count, *shape)}, got {kind_of(block)}"
        raise BadInput(told, "`genbench check-plugin` names the line")
    block = block.float()
    finite = block.flatten(1).isfinite().all(1)
    if not finite.all():
        raise Diverged(f"sample {start + int((~finite).nonzero()[0])} is not finite")
    return block
