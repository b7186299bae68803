"""Samples per second at batch sizes other than the one used to draw the samples."""

from __future__ import annotations

from collections.abc import Callable

import torch

from genbench.data.condition_plan import ConditionPlan
from genbench.images import to_uint8
from genbench.model import Model
from genbench.records.cost import Throughput
from genbench.records.job import Job
from genbench.running.sample import draw
from genbench.support import clock
from genbench.support.errors import describe
from genbench.support.progress import report, stop_requested
from genbench.training.compilation import compiled

BATCHES = (1, 16, 64, 1000)
ALLOWANCE_SECONDS = 10.0
"""For all batches of a model together: a batch that does not fit is left out."""
BATCH_SECONDS = 0.1
"""How long calls of one batch are repeated."""


def measure_throughput(job: Job, model: Model, plan: ConditionPlan, drawn: int) -> list[Throughput]:
    """Rates of `model.sample`, conversion to uint8 and conditioning included, for a small grid of batch sizes.

    On a CPU no batch exceeds `drawn`, that of the samples: running out of memory would end the process.
    """

    def call(batch: int) -> None:
        to_uint8(draw(job, model, plan.resized(batch), 0, batch)).cpu().numpy()

    roomy = torch.device(job.runtime.device).type == "cuda"
    batches = [batch for batch in BATCHES if batch < drawn or (roomy and batch > drawn)]
    with compiled(model, job.compile):
        return rates(call, batches)


def rates(call: Callable[[int], None], batches: list[int], allowance: float = ALLOWANCE_SECONDS) -> list[Throughput]:
    """Images per second of `call(batch)`, a synchronous call: one call to warm up, then whole calls.

    Batches not measured within `allowance` seconds are left out; one that raises has a note instead of a rate.
    """
    end, warm_up = clock.now() + allowance, 0.0
    found: list[Throughput] = []
    for batch in batches:
        # A larger batch takes at least as long as the one before, and its first call only warms up.
        if stop_requested() or clock.now() + 2 * warm_up > end:
            break
        report("sample", 1.0, f"throughput at batch {batch}")
        try:
            warm_up = _seconds(call, batch)
            if clock.now() + warm_up > end:
                break
            calls, seconds = 0, 0.0
            while not calls or (seconds < BATCH_SECONDS and clock.now() + warm_up <= end):
                seconds += _seconds(call, batch)
                calls += 1
            found.append(Throughput(batch=batch, images_per_second=calls * batch / seconds))
        except Exception as error:
            found.append(Throughput(batch=batch, images_per_second=None, note=describe(error)))
    return found


def _seconds(call: Callable[[int], None], batch: int) -> float:
    began = clock.now()
    call(batch)
    return clock.now() - began
