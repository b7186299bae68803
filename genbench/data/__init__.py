"""Datasets: datasets.toml -> one memory-mapped uint8 array a split, with labels and a content digest, made once."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from genbench.data.source import Place, Source, Split
from genbench.data.sources import SOURCES
from genbench.records.record import DatasetStamp, Entropy
from genbench.support import store
from genbench.support.errors import BadInput, CorruptData, GenbenchError, did_you_mean, together
from genbench.support.names import check_name
from genbench.support.seeds import derive_seed
from genbench.support.text import printable
from genbench.support.toml_file import Keys, read_toml
from genbench.support.validation import checked

if TYPE_CHECKING:
    from genbench.model import DataSpec

PREPARATION = 1
"""Version of the preparation; raise it when the same source gives other pixels."""
BUNDLED_FILE = Path(__file__).parent.with_name("datasets.toml")
KEYS = "the head of the bundled datasets.toml says what each key means"
EXAMPLE = 'for example [mine], source = "folder", path = "images", shape = [3, 32, 32]'
DIGEST_BYTES = 16
"""Of an image: two of 10^9 images have the same with a probability below 10^-20."""
Progress = Callable[[str, int, int], None]


@dataclass(frozen=True)
class Entry:
    """A dataset by name: what datasets.toml says of it, and the folder its relative paths start from."""

    name: str
    source: Source
    base: Path
    origin: str


@dataclass(frozen=True)
class Part:
    """One split: uint8 images (N, C, H, W), memory-mapped, and int64 labels (N,), or None."""

    images: np.ndarray
    labels: np.ndarray | None

    def __len__(self) -> int:
        return len(self.images)


@dataclass(frozen=True)
class Dataset:
    """A prepared dataset; `digest` is the SHA-256 of its pixels and labels, whatever its name or source.

    `entropy` is that of the distribution the images were drawn from, `entropy_given_label` that of an image whose label
    is known; both None where the distribution is not known.
    """

    name: str
    title: str
    digest: str
    shape: tuple[int, int, int]
    num_classes: int
    extractors: tuple[str, ...]
    overlap: int
    folder: Path
    train: Part
    test: Part
    entropy: Entropy | None = None
    entropy_given_label: Entropy | None = None
    distinct: int | None = None
    """Training images that differ from one another; None where they were not counted."""
    turned: int = 0
    """Images that had an EXIF orientation."""

    @property
    def remarks(self) -> list[str]:
        """What somebody who trains on these images should know, a sentence each."""
        found = []
        if self.overlap:
            found.append(f"{self.overlap:,} test images are among the training images: copying them is rewarded")
        if self.distinct == 1:
            found.append("all training images are the same")
        if self.turned:
            found.append(f"{self.turned:,} image{'s' * (self.turned > 1)} turned as the EXIF orientation says")
        return found

    def __getstate__(self) -> dict[str, Any]:
        """Without the images, which another process maps into its memory itself."""
        return vars(self) | {"train": None, "test": None}

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update(state | _parts(state["folder"], state["num_classes"]))

    def stamp(self, conditional: bool) -> DatasetStamp:
        """What a record keeps of the dataset."""
        return DatasetStamp(
            name=self.name, digest=self.digest, shape=self.shape, num_classes=self.num_classes,
            counts={"train": len(self.train), "test": len(self.test)},
            entropy=self.entropy_given_label if conditional else self.entropy,
        )  # fmt: skip

    def spec(self, conditional: bool) -> DataSpec:
        """What a model is built for."""
        from genbench.model import DataSpec

        return DataSpec(self.name, self.shape, self.num_classes if conditional else 0)

    def batch_at(self, seed: int, seen: int, size: int) -> np.ndarray:
        """Indices of the `size` training images that follow after `seen`: a new permutation every epoch.

        A pure function of its arguments, so that a resumed run needs no generator state.
        """
        count = len(self.train)
        epochs = range(seen // count, (seen + size - 1) // count + 1)
        order = [permutation(count, seed, epoch) for epoch in epochs]
        first = seen - epochs[0] * count
        return (order[0] if len(order) == 1 else np.concatenate(order))[first : first + size]


@lru_cache(maxsize=2)
def permutation(count: int, seed: int, epoch: int) -> np.ndarray:
    """The order of an epoch."""
    return np.random.default_rng(derive_seed(seed, "order", epoch)).permutation(count)


def read_entries(file: Path) -> dict[str, Entry]:
    """The datasets of a TOML file. Raises BadInput naming file, line, dataset and key of every mistake."""
    found: dict[str, Entry] = {}
    faults: list[GenbenchError] = []
    read = read_toml(file, "datasets")
    if not read.tables:
        raise BadInput(f"{file}: no dataset in it", EXAMPLE)
    for name, table in read.tables.items():
        try:
            found[name] = make_entry(name, table, file.resolve().parent, str(file), read.at)
        except BadInput as fault:
            faults += fault.problems or [fault]
    if faults:
        raise together(faults)
    return found


def make_entry(name: str, table: Any, base: Path, origin: str, at: Callable[[Keys], str] | None = None) -> Entry:
    """One dataset from its table; `at` says where keys were written. Raises BadInput naming each key at fault."""

    def where(keys: Keys) -> str:
        return f"{at([name, *keys]) if at else origin} [{printable(name)}]"

    check_name(name, where([]))
    if not isinstance(table, Mapping):
        raise BadInput(f"{where([])}: a dataset is a table", f"begin it with [{name}]")
    kind = table.get("source")
    if not isinstance(kind, str) or kind not in SOURCES:
        raise BadInput(f"{where(['source'])}: source = {kind!r}", did_you_mean(str(kind), set(SOURCES)))
    return Entry(name, checked(SOURCES[kind], table, where, KEYS), base, origin)


def known_datasets(
    files: Iterable[Path] = (), registered: Mapping[str, tuple[dict[str, Any], str]] | None = None
) -> dict[str, Entry]:
    """All datasets by name: bundled, registered by plugins, and of the user's files. A name twice is an error."""
    known = read_entries(BUNDLED_FILE)
    others = [
        make_entry(name, table, Path.cwd(), f"plugin {plugin}") for name, (table, plugin) in (registered or {}).items()
    ]
    for entry in [*others, *(entry for file in files for entry in read_entries(file).values())]:
        if entry.name in known:
            raise BadInput(
                f"dataset {entry.name!r} is in {known[entry.name].origin} and in {entry.origin}", "rename one"
            )
        known[entry.name] = entry
    return known


def cache_root() -> Path:
    """`GENBENCH_CACHE`, or `genbench` in the user's cache folder."""
    given = folder_of("GENBENCH_CACHE")
    return given or Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / "genbench"


def data_root(given: Path | None) -> Path:
    """`--data-root`, or `GENBENCH_DATA`, or `data` in the cache folder."""
    if given is not None:
        return as_folder("--data-root", given)
    return folder_of("GENBENCH_DATA") or cache_root() / "data"


def folder_of(variable: str) -> Path | None:
    """The folder that an environment variable names, there or not. Raises BadInput where it cannot be one."""
    text = os.environ.get(variable)
    if text is None:
        return None
    if not text:
        raise BadInput(f"{variable} is set and empty", f"unset {variable}, or set it to a folder")
    return as_folder(variable, Path(text))


def as_folder(source: str, path: Path) -> Path:
    """The path, `~` expanded. Raises BadInput, naming where it came from, if it is in the place of a file."""
    try:
        path = path.expanduser()
        found = next((each for each in (path, *path.parents) if each.exists()), None)
    except (RuntimeError, ValueError, OSError) as error:
        raise BadInput(f"{source} {path}: {error}", "give a folder") from error
    if found is not None and not found.is_dir():
        raise BadInput(f"{source} {path}: {found} is a file", "give a folder")
    return path


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
    parts = _parts(folder, entry.source.num_classes)
    for name, part in parts.items():
        if part.images.shape[1:] != entry.source.shape or part.images.dtype != np.uint8:
            raise CorruptData(f"{folder / f'{name}_images.npy'}: images of another shape or type", mend)
    source = entry.source
    return Dataset(
        entry.name, source.title, about["digest"], source.shape, source.num_classes, source.extractors,
        about["overlap"], folder, parts["train"], parts["test"], source.entropy(False), source.entropy(True),
        about.get("distinct"), about.get("turned", 0),
    )  # fmt: skip


def _parts(folder: Path, num_classes: int) -> dict[str, Part]:
    parts = {}
    for name in ("train", "test"):
        labels = store.read_array(folder / f"{name}_labels.npy") if num_classes else None
        parts[name] = Part(store.read_array(folder / f"{name}_images.npy"), labels)
    return parts
