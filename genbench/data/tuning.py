"""The tuning split: a share of the training images held out as test images, while the dataset's own are not used.

It is a second preparation, made from the prepared training images, with a digest of its own content.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np

from genbench.condition import Kind
from genbench.data.dataset import Dataset, Part
from genbench.data.entries import Entry
from genbench.data.folders import cache_root
from genbench.data.preparation import Progress, open_prepared, prepare, write_prepared
from genbench.data.prepared_files import ABOUT
from genbench.data.source import Split, rank_in_class, split_of
from genbench.support.digests import settings_digest
from genbench.support.errors import BadInput
from genbench.support.seeds import derive_seed

RULE = 1
"""Version of the rule by which images are held out."""
MOST = 6
"""At most one training image in so many is held out."""
FEWEST = 2
"""Held-out images that can be compared with."""


def prepare_tuning(entry: Entry, root: Path, offline: bool = False, progress: Progress | None = None) -> Dataset:
    """The dataset with a part of its training images in the place of its test images, decoded as by `prepare`.

    As many are held out as there are test images, but at most one in MOST. Raises also BadInput if that is too few.
    """
    whole = prepare(entry, root, offline, progress)
    count = min(len(whole.test), len(whole.train) // MOST)
    if count < FEWEST:
        raise BadInput(
            f"--tune: dataset {entry.name!r} has {len(whole.train):,} training images, too few to hold some out",
            f"tuning needs at least {FEWEST * MOST} of them",
        )
    key = settings_digest({"rule": RULE, "folder": whole.folder.name, "digest": whole.digest})
    folder = cache_root() / "datasets" / f"{entry.name}-{key[:16]}"
    if not (folder / ABOUT).exists():
        splits = parted(whole.train, chosen(whole.train, count), whole.classes)
        write_prepared(entry, splits, folder, progress or (lambda *_: None))
    data = open_prepared(entry, folder)
    noted = tuple(dict.fromkeys((*whole.noted, *data.noted)))
    return replace(data, tuning=True, turned=whole.turned, noted=noted)


def chosen(train: Part, count: int) -> np.ndarray:
    """Which training images (N,) are held out: `count` by a fixed seed, from every class in proportion."""
    labels = np.zeros(len(train), np.int64) if train.labels is None else np.asarray(train.labels)
    order = np.random.default_rng(derive_seed("tuning split", len(train))).permutation(len(train))
    middles = rank_in_class(labels[order]) + 0.5 / np.bincount(labels)[labels[order]]
    apart = np.zeros(len(train), bool)
    apart[order[np.argsort(middles, kind="stable")[:count]]] = True
    return apart


def parted(train: Part, apart: np.ndarray, classes: tuple[str, ...]) -> dict[str, Split]:
    """The training images without those that are held out, and these, in their order."""
    labels = np.full(len(train), -1) if train.labels is None else train.labels

    def split(mask: np.ndarray) -> Split:
        return replace(split_of(train.images, labels, mask), conditions=conditions(train, mask), classes=classes)

    return {"train": split(~apart), "test": split(apart)}


def conditions(part: Part, mask: np.ndarray) -> Mapping[Kind, Mapping[str, np.ndarray]]:
    """The conditions of the images that a mask chooses."""
    return {kind: {key: array[mask] for key, array in arrays.items()} for kind, arrays in part.conditions.items()}
