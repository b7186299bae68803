"""Quality against cost: averaged weights kept during training, outside its clock, and scored afterwards.

The grid is fixed when training begins; its last point is the trained model itself.
"""

from __future__ import annotations

import copy
import logging
from pathlib import Path

import torch

from genbench.data.dataset import Dataset
from genbench.evaluate.parts import stored
from genbench.extension.registry import Plugins
from genbench.metering.meter import Meter
from genbench.model import Model
from genbench.records import checkpoint
from genbench.records.cost import TrainCost
from genbench.records.job import Job
from genbench.records.record import READING, CurvePoint, Measurement, Protocols, ValueStatus
from genbench.records.training_state import KeptPoint
from genbench.running import shards
from genbench.support import digests
from genbench.support.errors import Busy, Cancelled, CorruptData, Diverged, describe, leading_to, removal
from genbench.support.progress import report, stop_if_requested
from genbench.support.sealed import write_sealed
from genbench.training.keeper import shares

log = logging.getLogger("genbench")
NOT_KEPT = "no weights were kept here: a curve has to be requested before training, by --curve with a new run folder"


def missing_curve(count: int) -> list[CurvePoint]:
    """The points of a curve that was requested after training had begun."""
    return [CurvePoint(share=share, status="not_applicable", note=NOT_KEPT) for share in shares(count)]


def final_point(cost: TrainCost | None, measurements: list[Measurement]) -> CurvePoint:
    """The end of the curve: what the job itself cost and measured."""
    costs = cost.model_dump(include={"seconds", "device_seconds", "images", "steps", "flops"}) if cost else {}
    if measurements:
        return CurvePoint(share=1.0, **costs, measurements=measurements)
    return CurvePoint(share=1.0, **costs, status="failed", note="nothing was measured")


def scored_points(
    job: Job, model: Model, data: Dataset, plugins: Plugins, kept: list[KeptPoint]
) -> tuple[list[CurvePoint], Protocols]:
    """The kept points, sampled and scored like the job's samples, and the protocols of their measurements.

    A model that draws no samples is scored directly. A point that fails has no measurements and says why. Scores are
    stored beside the weights, so each point is scored once per evaluation.
    """
    found: list[CurvePoint] = []
    protocols: Protocols = {}
    for number, about in enumerate(kept, start=1):
        stop_if_requested()
        report("evaluate", number / (len(kept) + 1), f"curve, point {number} of {len(kept)}")
        point, behind = _point(job, model, data, plugins, about)
        found.append(point)
        protocols |= behind
    return found, protocols


def _point(job: Job, model: Model, data: Dataset, plugins: Plugins, about: KeptPoint) -> tuple[CurvePoint, Protocols]:
    folder = job.folder / "curve" / str(about.point)
    costs = about.model_dump(exclude={"point", "waiting"})
    if about.waiting:
        note = f"cannot be sampled: {', '.join(about.waiting)} had not begun"
        return CurvePoint(**costs, status="not_applicable", note=note), {}
    try:
        measurements, protocols = _stored(folder, job) or _scored(job, model, data, plugins, folder)
        shards.clear(folder)
    except (Busy, Cancelled, CorruptData):
        raise
    except Exception as error:
        log.exception("%s: point %s of the curve failed", job.id, about.point)
        status: ValueStatus = "diverged" if isinstance(error, Diverged) else "failed"
        return CurvePoint(**costs, status=status, note=describe(error)), {}
    return CurvePoint(**costs, measurements=measurements), protocols


def _stored(folder: Path, job: Job) -> tuple[list[Measurement], Protocols] | None:
    """The scores of an earlier pass, if they match the job's evaluation."""
    plain = stored(folder / "scores.json")
    if plain is None or plain["key"] != _key(job):
        return None
    return [Measurement.model_validate(each, context=READING) for each in plain["measurements"]], plain["protocols"]


def _scored(
    job: Job, model: Model, data: Dataset, plugins: Plugins, folder: Path
) -> tuple[list[Measurement], Protocols]:
    """Measurements of samples from the weights in `folder`, by the hooks that the job's samples go through.

    A model that draws no samples is measured directly.
    """
    fix = removal(job.folder / "checkpoint", job.folder / "curve", then="then run again: it trains from the start")
    with leading_to(fix):
        tensors, _ = checkpoint.read(folder)
    earlier = copy.deepcopy(model)
    earlier.load_state_dict(tensors["ema"])
    hook, device = plugins.manager.hook, torch.device(job.runtime.device)
    earlier.eval()
    if job.samples:
        samples = hook.sample(job=job, model=earlier, data=data, folder=folder, meter=Meter(device))
        measurements = plugins.measure(job=job, model=None, samples=samples, data=data)
    else:
        measurements = plugins.measure(job=job, model=earlier, samples=None, data=data)
    protocols = {m.protocol: m.settings for m in measurements}
    plain = [m.model_dump(mode="json") for m in measurements]
    write_sealed(folder / "scores.json", {"key": _key(job), "measurements": plain, "protocols": protocols})
    return measurements, protocols


def _key(job: Job) -> str:
    """What a point's scores depend on besides its weights: the evaluation, and the versions of all measurers."""
    behind = {"evaluation": job.evaluation_key, "extractors": job.extractor_stamps}
    return digests.settings_digest({**behind, "measurers": job.measurers} if job.measurers else behind)
