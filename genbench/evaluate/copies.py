"""Which images copy which others: exactly, or but for a little noise, a shift by a pixel, or a reflection."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import adaptive_avg_pool2d

from genbench.condition import PLACED
from genbench.data.dataset import Dataset, Part
from genbench.evaluate.parts import once
from genbench.metrics import metric_named
from genbench.metrics.copies import COPIED, COPIED_TEST, LEAST, copied_share
from genbench.metrics.features import chosen
from genbench.metrics.value import Value, not_enough, with_notes
from genbench.records.job import Job
from genbench.records.protocol import versions
from genbench.records.record import Measurement
from genbench.support.digests import array_digest
from genbench.support.progress import report, stop_if_requested
from genbench.support.store import release

SIDE = 8
"""Height and width, at most, of the averaged pictures that candidates are found by; a cell has at least two pixels."""
CANDIDATES, NEXT = 64, 16
"""Images whose pictures are compared under every shift (a search that tries every shift takes nine times as long, and
is made for small images alone), and the nearest of them, whose median distance is the usual."""
SUSPECT = 0.5
"""The ratio of averaged pictures, lower than that of pixels for a copy, from which on pixels are not compared."""
BLOCK = 4096
"""Images read at a time."""
MOST = 2**24
"""Numbers in memory at a time beside them."""
REAL = 500
"""Images of the other split that tell how near real images come."""
ANSWERS = Value(
    None, "answers to conditions of test images, which are near these images if they are good", status="not_applicable"
)
"""In the place of a share of copies."""


@dataclass(frozen=True)
class Nearest:
    """For each of N images: whether it is in the reference pixel by pixel, how near it comes, and to which image.

    `ratio`, float (N,), is the distance to the nearest reference image over the median distance to the next ones: 0 for
    a copy. What is only blurred, dull or typical is as far from one image as from the next: it has 1, or so, and 1 also
    stands for all whose averaged pictures rule a copy out.
    """

    exact: np.ndarray
    ratio: np.ndarray
    index: np.ndarray


def copy_measurements(job: Job, compared: Mapping[str, np.ndarray], data: Dataset) -> list[Measurement]:
    """`copied_share` of the images to compare with training images, and `copied_test_share` of those with test images.

    Both are uint8 (N, C, H, W), by split. How near real images come is told by images of the other split. What is drawn
    under maps, holes or small versions of test images is not held against these.
    """
    return [
        *_shares(job, COPIED, "train", compared["train"], data.train, data.test, data.digest),
        *_shares(job, COPIED_TEST, "test", compared["test"], data.test, data.train, data.digest),
    ]


def _shares(
    job: Job, name: str, split: str, images: np.ndarray, own: Part, other: Part, digest: str
) -> list[Measurement]:  # fmt: skip
    """The share of the images that copy those of one split, now or from an earlier attempt."""
    report("evaluate", 0.0, f"copies of {split} images")
    real = chosen(len(other), REAL, job.evaluation.seed, "copies", split)
    settings = {
        "family": "copying", "metric": name, "samples": len(images), "dataset": digest, "split": split,
        "reference_images": len(own), "real_images": len(real), "seed": job.evaluation.seed, "versions": versions(),
    }  # fmt: skip

    def measured() -> list[Measurement]:
        answers = split == "test" and job.kind in PLACED
        value = ANSWERS if answers else _copied(images, own, other.images[real])
        better = metric_named(name).better
        return [Measurement(metric=name, better=better, count=len(images), settings=settings, **asdict(value))]

    return once(job, {"protocol": settings, "samples": array_digest(images)}, measured)


def _copied(images: np.ndarray, part: Part, real: np.ndarray) -> Value:
    """The share of the images that copy images of a split; `real` are images of the other one."""
    if len(part) < LEAST:
        return not_enough(f"{len(part)} images to compare with, {LEAST} are needed")
    found = nearest(np.concatenate([images, real]), part.images)
    count = len(images)
    value = copied_share(found.ratio[:count], found.exact[:count], found.ratio[count:])
    if twice := int(found.exact[count:].sum()):
        return with_notes(value, f"of {len(real)} images of the other split, {twice} are also in this one")
    return value


def nearest(images: np.ndarray, reference: np.ndarray) -> Nearest:
    """How near uint8 images (N, C, H, W) come to those of a reference (M, C, H, W), at least two.

    The ratio is that of Carlini et al. (2023), Extracting Training Data from Diffusion Models, section 4.2, without
    their factor. Distances are Euclidean, the least over shifts of up to one pixel, on what is common to all shifts; an
    image and its reflection are both tried. Candidates are found by small averaged pictures, and what these suspect of
    being a copy is compared pixel by pixel.
    """
    queries = torch.cat([_pictures(block) for side in (images, images[..., ::-1]) for block in _blocks(side)], 1)
    small, centre = min(images.shape[2:]) <= 2 * SIDE, len(queries) // 2
    exact, pictures, places = _candidates(images, queries if small else queries[centre : centre + 1], reference)
    ratio, index = torch.ones(len(places)), places[:, 0].clone()
    step = max(1, MOST // (pictures.shape[1] * (len(queries) + places.shape[1])))
    for start in range(0, len(places), step):
        stop_if_requested()
        own = places[start : start + step]
        squares = _squares(queries[:, start : start + step], pictures[own].float())
        near, order = squares.amin(1).sort(1)
        index[start : start + step] = own.gather(1, order[:, :1])[:, 0]
        for i in (_ratio(near[:, :NEXT]) < SUSPECT).nonzero()[:, 0].tolist():
            turned, number = divmod(start + i, len(images))
            image = images[number, :, :, :: -1 if turned else 1]
            some = order[i, :NEXT]
            candidates = reference[own[i, some].numpy()]
            ratio[start + i], best = _pixel_ratio(image, candidates, squares[i][:, some].argmin(0))
            index[start + i] = own[i, some[best]]
    release(reference)
    (straight, turned), (index, other) = ratio.chunk(2), index.chunk(2)
    ratios = np.where(exact, 0.0, torch.minimum(straight, turned).double().numpy())
    return Nearest(exact, ratios, torch.where(turned < straight, other, index).numpy())


def _candidates(images: np.ndarray, queries: Tensor, reference: np.ndarray) -> tuple[np.ndarray, Tensor, Tensor]:
    """Whether each image is in the reference, bool (N,); the reference's pictures, uint8 (M, d); the places in it of
    each query's candidates, int64 (n, k), the nearest first, under whichever of its shifts (s, n, d) is nearest."""
    wanted = digests_of(images)
    present: set[bytes] = set()
    count, lengths = queries.shape[1], queries.square().sum(2)
    best, places = torch.zeros((count, 0)), torch.zeros((count, 0), dtype=torch.int64)
    kept: list[Tensor] = []
    start = 0
    for block in _blocks(reference):
        stop_if_requested()
        present |= set(wanted).intersection(digests_of(block))
        (pictures,) = _pictures(block, shifted=False)
        kept.append(pictures.round().to(torch.uint8))
        found = torch.full((count, len(block)), torch.inf)
        for query, length in zip(queries, lengths):
            torch.minimum(found, torch.addmm(length[:, None], query, pictures.T, alpha=-2), out=found)
        found, order = (found + pictures.square().sum(1)).topk(min(CANDIDATES, len(block)), largest=False)
        best, places = torch.cat([best, found], 1), torch.cat([places, order + start], 1)
        best, order = best.topk(min(CANDIDATES, best.shape[1]), largest=False)
        places = places.gather(1, order)
        start += len(block)
    return np.array([digest in present for digest in wanted]), torch.cat(kept), places


def _squares(ours: Tensor, theirs: Tensor) -> Tensor:
    """Squared distances (n, s, k) of n pictures under s shifts (s, n, d) from k others each (n, k, d)."""
    ours = ours.transpose(0, 1)
    norms = ours.square().sum(2)[:, :, None] + theirs.square().sum(2)[:, None]
    return (norms - 2 * ours @ theirs.mT).clamp(min=0)


def _pixel_ratio(image: np.ndarray, candidates: np.ndarray, shifts: Tensor) -> tuple[Tensor, Tensor]:
    """The ratio of one image (C, H, W) to candidates (k, C, H, W), each under a shift of its own, and the nearest."""
    ours = torch.stack(list(_cuts(image[None])))[shifts, 0]
    (theirs,) = _cuts(candidates, shifted=False)
    near, order = (ours - theirs).square().flatten(1).sum(1).sort()
    return _ratio(near), order[0]


def _ratio(squares: Tensor) -> Tensor:
    """The least distance over the median of the others, of sorted squared ones (..., k); 0 if all are 0."""
    return (squares[..., 0] / squares[..., 1:].median(-1).values.clamp(min=1e-6)).sqrt()


def digests_of(images: np.ndarray) -> list[bytes]:
    """A digest of the pixels of each image."""
    return [hashlib.blake2b(image.tobytes(), digest_size=16).digest() for image in images]


def _blocks(images: np.ndarray) -> Iterator[np.ndarray]:
    for start in range(0, len(images), BLOCK):
        yield images[start : start + BLOCK]
        release(images)


def _pictures(images: np.ndarray, shifted: bool = True) -> Tensor:
    """Averaged pictures (s, N, d), float32, of images under every shift or none."""
    high, wide = (max(1, min(SIDE, side // 2)) for side in images.shape[2:])
    return torch.stack([adaptive_avg_pool2d(cut, (high, wide)).flatten(1) for cut in _cuts(images, shifted)])


def _cuts(images: np.ndarray, shifted: bool = True) -> Iterator[Tensor]:
    """Images without their outermost pixels, float32, under every shift of up to one pixel, or none.

    Those less than four pixels wide or high are whole.
    """
    levels = torch.from_numpy(np.ascontiguousarray(images)).float()
    high, wide = images.shape[2:]
    edge = int(min(high, wide) > 3)
    moves = range(-edge, edge + 1) if shifted else (0,)
    for down in moves:
        for right in moves:
            yield levels[:, :, edge + down : high - edge + down, edge + right : wide - edge + right]
