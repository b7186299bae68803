"""The default `sample`: seeded blocks from the trained model, checked, quantised and conditioned by the harness."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from genbench.data.condition_plan import ConditionPlan
from genbench.data.dataset import Dataset
from genbench.devices import autocast
from genbench.images import to_uint8
from genbench.metering.meter import Meter
from genbench.model import Model
from genbench.records.job import Job
from genbench.records.samples import BLOCK, Samples
from genbench.running.shards import Shards
from genbench.support.errors import BadInput, Diverged
from genbench.support.faults import fault
from genbench.support.progress import report, stop_if_requested, stop_requested
from genbench.support.seeds import derive_seed
from genbench.training.compilation import compiled

SHARD_SECONDS = 60.0


def sample(job: Job, model: Model, data: Dataset, folder: Path, meter: Meter) -> Samples:
    """`job.samples` images in blocks of BLOCK; block i is seeded by (job seed, i). Raises Diverged, BadInput.

    What an interrupted sampling has left in `folder` is not drawn again.
    """
    plan = ConditionPlan.of(data, job.kind, job.samples)
    with compiled(model, job.compile):
        return _blocks(job, model, data, folder, meter, plan)


def _blocks(job: Job, model: Model, data: Dataset, folder: Path, meter: Meter, plan: ConditionPlan) -> Samples:
    """The blocks of `sample`, after a call outside the clock that warms up."""
    images = np.empty((job.samples, *data.shape), np.uint8)
    with meter.pause():
        shards = Shards.of(folder, job, model)
        begin, clamped = shards.restore(images, meter)
        # Compiled code is made for a size, the first time that it is asked for: that of a block, and of the last one.
        sizes = {min(BLOCK, job.samples), job.samples % BLOCK or BLOCK} if job.compile else {min(8, job.samples)}
        for size in sorted(sizes):
            draw(job, model, plan, 0, min(size, job.samples))
    kept, kept_at = begin, meter.seconds
    for start in range(begin, job.samples, BLOCK):
        fault("sample.block")
        if start > kept and (stop_requested() or meter.seconds - kept_at > SHARD_SECONDS):
            with meter.pause():
                shards.keep(images[kept:start], kept, clamped, meter)
            kept, kept_at = start, meter.seconds
        stop_if_requested()
        count = min(BLOCK, job.samples - start)
        block = draw(job, model, plan, start, count)
        clamped += int((block.abs() > 1).sum())
        images[start : start + count] = to_uint8(block).cpu().numpy()
        meter.sampled += count
        report("sample", meter.sampled / job.samples)
        fault("sample.drawn")
    samples = Samples(
        images, clamped_share=clamped / images.size, batch=min(BLOCK, job.samples), nfe=model.nfe
    )  # fmt: skip
    return samples.under(job.kind, plan.numbers)


def shown(value: object) -> str:
    """What a model gave in the place of a tensor that was asked for."""
    return f"{value.dtype} {tuple(value.shape)}" if isinstance(value, Tensor) else f"a {type(value).__name__}"


@torch.inference_mode()
def draw(job: Job, model: Model, plan: ConditionPlan, start: int, count: int) -> Tensor:
    """Images `start` to `start + count`, float32 (count, C, H, W), checked.

    Raises BadInput for a wrong shape, Diverged for NaN or infinity.
    """
    device, shape = torch.device(job.runtime.device), model.data.shape
    given = plan.given(start, count, device)
    torch.manual_seed(derive_seed(job.seed, "sample", start))
    with autocast(device, job.precision):
        block = model.sample(count, given)
    if not isinstance(block, Tensor) or tuple(block.shape) != (count, *shape) or not block.is_floating_point():
        told = f"{model.name}: sample({count}) must give floats of shape {(count, *shape)}, it gave {shown(block)}"
        raise BadInput(told, "`genbench check-plugin` names the line")
    block = block.float()
    finite = block.flatten(1).isfinite().all(1)
    if not finite.all():
        raise Diverged(f"sample {start + int((~finite).nonzero()[0])} is not finite")
    return block
