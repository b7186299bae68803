"""Pictures that need the model or the training images: drawn once after sampling, so that a report needs neither.

A picture is a grid of images, uint8 (rows, columns, C, H, W), in `pictures/NAME.npy`; `pictures.json` describes
its columns.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from genbench.capabilities import Chains, Interpolation, Reconstruction
from genbench.condition import EACH, OPEN
from genbench.data.condition_plan import ConditionPlan, conditions_of
from genbench.data.dataset import Dataset, Part
from genbench.data.words import read as captions_of
from genbench.devices import autocast
from genbench.evaluate.answers import shown_images
from genbench.evaluate.copies import nearest
from genbench.evaluate.likelihood import block_of
from genbench.evaluate.reconstruction import reconstructed
from genbench.images import to_uint8
from genbench.model import Batch, Model
from genbench.records.job import Job
from genbench.records.samples import Samples
from genbench.support import digests, store
from genbench.support.errors import Cancelled, CorruptData, describe
from genbench.support.progress import stop_if_requested
from genbench.support.sealed import check_digest, read_sealed, write_sealed
from genbench.support.seeds import derive_seed

FOLDER, INDEX = "pictures", "pictures.json"
ROWS, COLUMNS, NEIGHBOURS = 4, 10, 3
BLOCK = 4096
"""Training images compared at a time."""
Grid = tuple[np.ndarray, list[float]]
"""Images, uint8 (rows, columns, C, H, W), and a number per column: a time, a weight or a rank."""
Draw = Callable[[Job, Model | None, Dataset, Samples | None], Grid | None]
log = logging.getLogger("genbench")


def keep_pictures(
    job: Job, model: Model | None, data: Dataset, samples: Samples | None, weights: str, copied: Iterable[str] = ()
) -> None:
    """Write the job's pictures, unless those of the same samples and weights exist.

    A picture that fails is left out, and pictures.json says why: no picture may cost a run its numbers. `copied` are
    the splits that the samples copy.
    """
    copied = list(copied)
    of = {"samples": job.samples_key, "weights": weights, **({"copied": copied} if copied else {})}
    index = job.folder / INDEX
    if _are_drawn(index, of):
        return
    store.remove(index)
    store.remove(job.folder / FOLDER)
    drawn: dict[str, list[float]] = {}
    failed: dict[str, str] = {}
    copies: list[tuple[str, Draw]] = [(f"copies-{split}", partial(_copies, split)) for split in copied]
    for name, draw in (
        *copies,
        ("answers", _answers),
        ("neighbours", _neighbours),
        ("forward", _forward),
        ("reverse", _reverse),
        ("between", _between),
        ("reconstructions", _reconstructions),
    ):
        stop_if_requested()
        try:
            found = draw(job, model, data, samples)
        except Cancelled:
            raise
        except Exception as error:
            log.warning("%s: picture %s was not drawn: %s", job.id, name, error)
            failed[name] = describe(error)
            continue
        if found is not None:
            images, drawn[name] = found
            store.write_array(job.folder / FOLDER / f"{name}.npy", images)
    files = {name: digests.file_digest(job.folder / FOLDER / f"{name}.npy") for name in drawn}
    rows = {"answers": captions} if (captions := _captions(job, data, samples)) and "answers" in drawn else {}
    write_sealed(index, {"of": of, "columns": drawn, "rows": rows, "failed": failed, "files": files})


def _are_drawn(index: Path, of: Mapping[str, Any]) -> bool:
    """Whether pictures.json and its pictures are there, unchanged, and of these samples and weights."""
    try:
        about = read_sealed(index, "")
        for name, expected in about["files"].items():
            check_digest(index.parent / FOLDER / f"{name}.npy", expected, INDEX, "")
    except CorruptData:
        return False
    return bool(about["of"] == of)


def _copies(
    split: str, job: Job, model: Model | None, data: Dataset, samples: Samples | None
) -> Grid | None:  # fmt: skip
    """The samples that are copies most certainly, above the images of a split that each is nearest to."""
    if samples is None:
        return None
    part = data.train if split == "train" else data.test
    found = nearest(samples.images, part.images)
    first = np.argsort(found.ratio, kind="stable")[:COLUMNS]
    pairs = np.stack([samples.images[first], part.images[found.index[first]]])
    store.release(part.images)
    return pairs, found.ratio[first].tolist()


def _answers(job: Job, model: Model | None, data: Dataset, samples: Samples | None) -> Grid | None:
    """What is shown of the first conditions, if that is an image, the images that have them, and the samples."""
    if samples is None or samples.conditions is None or job.kind not in OPEN:
        return None
    firsts = range(0, min(2 * ROWS, len(samples) // EACH) * EACH, EACH)
    places = samples.conditions[firsts]
    columns = [data.test.images[places], *(samples.images[np.array(firsts) + k] for k in range(EACH))]
    if job.kind != "text":
        columns.insert(0, shown_images(data.test, job.kind, places))
    return np.stack(columns, axis=1), [float(column) for column in range(len(columns))]


def _captions(job: Job, data: Dataset, samples: Samples | None) -> list[str]:
    """The captions of the rows of `_answers`."""
    if job.kind != "text" or samples is None or samples.conditions is None:
        return []
    texts = data.test.conditions["text"].get("captions")
    places = samples.conditions[::EACH][: 2 * ROWS]
    return [] if texts is None else captions_of(texts[places])


def _neighbours(job: Job, model: Model | None, data: Dataset, samples: Samples | None) -> Grid | None:
    """The first samples, each followed by its nearest training images in Euclidean distance of levels."""
    if samples is None:
        return None
    first = samples.images[: 2 * ROWS]
    wanted = torch.from_numpy(first).flatten(1).double()
    count = min(NEIGHBOURS, len(data.train))
    best, places = torch.full((len(first), 0), torch.inf), torch.zeros((len(first), 0), dtype=torch.int64)
    for start in range(0, len(data.train), BLOCK):
        images = torch.from_numpy(data.train.images[start : start + BLOCK]).flatten(1).double()
        found = torch.cdist(wanted, images, compute_mode="donot_use_mm_for_euclid_dist")
        best = torch.cat([best, found], 1)
        places = torch.cat([places, torch.arange(start, start + len(images)).expand(len(first), -1)], 1)
        best, order = best.topk(min(count, best.shape[1]), largest=False)
        places = places.gather(1, order)
        store.release(data.train.images)
    rows = [np.concatenate([image[None], data.train.images[place.numpy()]]) for image, place in zip(first, places)]
    return np.stack(rows), [float(rank) for rank in range(count + 1)]


def _forward(job: Job, model: Model | None, data: Dataset, samples: Samples | None) -> Grid | None:
    """Test images on their way to noise."""
    if not isinstance(model, Chains):
        return None
    with _drawing(job, "forward"):
        times, states = model.forward_chain(_given(job, model, data.test)[0].images, COLUMNS)
    return _grid(states), times.tolist()


def _reverse(job: Job, model: Model | None, data: Dataset, samples: Samples | None) -> Grid | None:
    """Samples on their way from noise."""
    if not isinstance(model, Chains):
        return None
    numbers = None if samples is None else samples.numbers
    plan = ConditionPlan(conditions_of(job.kind), numbers, data.test)
    with _drawing(job, "reverse"):
        times, states = model.reverse_chain(ROWS, COLUMNS, plan.given(0, ROWS, job.runtime.device))
    return _grid(states), times.tolist()


def _between(job: Job, model: Model | None, data: Dataset, samples: Samples | None) -> Grid | None:
    """Pairs of test images, and the model's way from one to the other under the condition of the first."""
    if not isinstance(model, Interpolation):
        return None
    first, second = _given(job, model, data.test)
    weights = torch.linspace(0, 1, COLUMNS - 2, device=first.images.device)
    with _drawing(job, "between"):
        strip = _grid(model.interpolate(first.images, second.images, weights, first.given))
    before, after = (_grid(batch.images[None]) for batch in (first, second))
    return np.concatenate([before, strip, after], axis=1), [0.0, *weights.tolist(), 1.0]


def _reconstructions(job: Job, model: Model | None, data: Dataset, samples: Samples | None) -> Grid | None:
    """Test images above their reconstructions."""
    if not isinstance(model, Reconstruction):
        return None
    given = _given(job, model, data.test)
    with torch.no_grad():
        torch.manual_seed(derive_seed(job.seed, "picture", "reconstructions"))
        made = torch.cat([reconstructed(model, batch) for batch in given])
    originals = to_uint8(torch.cat([batch.images for batch in given]))
    return torch.stack([originals, made]).cpu().numpy(), [float(i) for i in range(len(made))]


@contextmanager
def _drawing(job: Job, name: str) -> Iterator[None]:
    """The state in which a model draws: seeded by the picture's name, without gradients, in the job's precision."""
    torch.manual_seed(derive_seed(job.seed, "picture", name))
    with torch.no_grad(), autocast(torch.device(job.runtime.device), job.precision):
        yield


def _given(job: Job, model: Model, test: Part) -> tuple[Batch, Batch]:
    """ROWS pairs of test images, the same for every model; each pair shares a condition if any images do."""
    seed = job.evaluation.seed
    order = np.random.default_rng(derive_seed(seed, "pictures")).permutation(len(test))
    pairs = conditions_of(job.kind).pairs(test, order)[:ROWS]
    first, second = (
        block_of(job, model, test, side, derive_seed(seed, "pictures", i)) for i, side in enumerate(pairs.T)
    )
    return first, second


def _grid(states: Tensor) -> np.ndarray:
    """Images (columns, rows, C, H, W) as levels (rows, columns, C, H, W). Raises ValueError unless finite."""
    if not states.isfinite().all():
        raise ValueError("an image is not finite")
    levels: np.ndarray = to_uint8(states.float()).transpose(0, 1).cpu().numpy()
    return levels
