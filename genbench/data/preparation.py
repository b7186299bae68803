"""Preparation: the images of an entry decoded into the cache, one uint8 array per split, once."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from genbench import store
from genbench.data.dataset import Dataset, Part, read_parts
from genbench.data.entries import Entry
from genbench.data.folders import cache_root
from genbench.data.source import Place, Split
from genbench.errors import BadInput, CorruptData

PREPARATION = 1
"""Version of the preparation; raise it when the same source gives other pixels."""
DIGEST_BYTES = 16
"""Per image: two of 10^9 images share a digest with a probability below 10^-20."""
Progress = Callable[[str, int, int], None]


def prepare(entry: Entry, root: Path, offline: bool = False, progress: Progress | None = None) -> Dataset:
    """The dataset, decoded into the cache on first use and memory-mapped afterwards.

    Raises BadInput, EnvironmentProblem or CorruptData, naming the file at fault; nothing half-made is left.
    """
    place = Place(entry.base, root.resolve(), offline)
    folder = prepared_folder(entry, place)
    if not (folder / "dataset.json").exists():
        splits = dict(zip(("train", "test"), entry.source.splits(place)))
        folder = prepared_folder(entry, place)  # opening it may have downloaded it
        _make(entry, splits, folder, progress or (lambda *_: None))
    return _open(entry, folder)


def stand_in(entry: Entry) -> Dataset:
    """What can be planned of a dataset that is not here: the shape and classes of its entry, and images without pixels.

    Its digest is empty; 10,000 test images and training images in plenty are assumed.
    """
    source = entry.source
    train, test = (
        Part(np.broadcast_to(np.zeros(1, np.uint8), (count, *source.shape)), None) for count in (10_000_000, 10_000)
    )
    return Dataset(
        entry.name, source.title, "", source.shape, source.num_classes, source.extractors, 0, Path(), train, test
    )


def prepared_folder(entry: Entry, place: Place) -> Path:
    """Where the cache keeps the dataset, by all that its pixels and labels depend on."""
    key = store.settings_digest(
        {"version": PREPARATION, "source": entry.source.model_dump(mode="json", exclude={"title", "extractors"}),
         "place": [str(place.base), str(place.data_root)], "state": entry.source.state(place)}
    )  # fmt: skip
    return cache_root() / "datasets" / f"{entry.name}-{key[:16]}"


def _make(entry: Entry, splits: dict[str, Split], folder: Path, progress: Progress) -> None:
    for name, split in splits.items():
        if split.count < 2:
            raise BadInput(
                f"{entry.origin} [{entry.name}]: {split.count} {name} image(s)", "a comparison needs at least 2"
            )
    before = entry.source.turned
    with store.atomic_folder(folder) as temporary:
        content = hashlib.sha256()
        train, test = (_write_split(entry, name, split, temporary, content, progress) for name, split in splits.items())
        store.write_json(
            temporary / "dataset.json",
            {
                "digest": content.hexdigest(),
                "overlap": len(np.intersect1d(train, test)),
                "distinct": len(np.unique(train)),
                "turned": entry.source.turned - before,
            },
        )


def _write_split(entry: Entry, name: str, split: Split, folder: Path, content: Any, progress: Progress) -> np.ndarray:
    """Stream one split into its files; returns the digests of its images.

    An image at a time is in memory, and of each its label and its digest: 24 bytes.
    """
    shape = (split.count, *entry.source.shape)
    labels, digests = np.empty(split.count, np.int64), np.empty(split.count, f"V{DIGEST_BYTES}")
    index = -1
    with store.array_pieces(folder / f"{name}_images.npy", np.uint8, shape) as write:
        for index, (image, label) in enumerate(split.items):
            if entry.source.num_classes and not 0 <= label < entry.source.num_classes:
                raise BadInput(
                    f"{entry.origin} [{entry.name}]: label {label} of {name} image {index}",
                    f"num_classes = {entry.source.num_classes}",
                )
            data = image.tobytes()
            write(data)
            content.update(data)
            labels[index], digests[index] = label, hashlib.blake2b(data, digest_size=DIGEST_BYTES).digest()
            if index % 1000 == 999 or index == split.count - 1:
                progress(f"{entry.name} {name}", index + 1, split.count)
    if index + 1 != split.count:
        raise BadInput(f"{entry.origin} [{entry.name}]: {index + 1} {name} images, where {split.count} were announced")
    content.update(repr((name, shape)).encode())
    if entry.source.num_classes:
        content.update(labels.tobytes())
        store.write_array(folder / f"{name}_labels.npy", labels)
    return digests


def _open(entry: Entry, folder: Path) -> Dataset:
    about, mend = store.read_json(folder / "dataset.json"), "remove the folder and run again"
    if not isinstance(about, dict) or not {"digest", "overlap"} <= about.keys():
        raise CorruptData(f"{folder / 'dataset.json'}: not what a prepared dataset has", mend)
    parts = read_parts(folder, entry.source.num_classes)
    for name, part in parts.items():
        if part.images.shape[1:] != entry.source.shape or part.images.dtype != np.uint8:
            raise CorruptData(f"{folder / f'{name}_images.npy'}: images of another shape or type", mend)
    source = entry.source
    return Dataset(
        entry.name, source.title, about["digest"], source.shape, source.num_classes, source.extractors,
        about["overlap"], folder, parts["train"], parts["test"], source.entropy(False), source.entropy(True),
        about.get("distinct"), about.get("turned", 0),
    )  # fmt: skip
