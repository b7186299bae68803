"""Preparation: the images of an entry, decoded once into the cache as one uint8 array per split."""

from __future__ import annotations

import hashlib
import operator
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from genbench.condition import ConditionSpec, Kind
from genbench.data.conditioning import row_type
from genbench.data.dataset import Dataset, KnownLaw, Part, read_parts
from genbench.data.entries import Entry
from genbench.data.folders import cache_root
from genbench.data.observations import Observation
from genbench.data.prepared_files import ABOUT, checked, remedy, seal
from genbench.data.refusals import Refusal, Refusals, Unfit
from genbench.data.source import Paired, Place, Source, Split
from genbench.data.words import with_texts
from genbench.records.class_names import listed
from genbench.records.record import Entropy
from genbench.support import digests, store
from genbench.support.errors import BadInput, CorruptData, GenbenchError, describe, line_of
from genbench.support.text import shortened

PREPARATION = 3
"""Version of the preparation; raise it when the same source gives other pixels, or is refused where it was not."""
DIGEST_BYTES = 16
"""Per image: two of 10^9 images share a digest with a probability below 10^-20."""
PIECE = 64
"""Rows of an array digested at a time."""
DARK = 15
"""Images without a higher level hold numbers of another range, or hardly show."""
STAND_IN_IMAGES = (10_000_000, 10_000)
"""Training and test images assumed of a dataset that is absent."""
Progress = Callable[[str, int, int], None]
"""(what is being prepared, images so far, images in all)."""


def prepare(entry: Entry, root: Path, offline: bool = False, progress: Progress | None = None) -> Dataset:
    """The dataset, decoded into the cache on first use and memory-mapped afterwards; `root` is the data root.

    Its files are checked whenever it is opened (`prepared_files.checked`). Raises BadInput, EnvironmentProblem or
    CorruptData, naming the file at fault; nothing half-made is left.
    """
    place = Place(entry.base, root.resolve(), offline)
    folder = prepared_folder(entry, place)
    if not (folder / ABOUT).exists():
        with _naming(entry):
            train, test = entry.source.splits(place)
            _check_counts(entry, train, test)
            _check_classes(entry, train, test)
        folder = prepared_folder(entry, place)  # opening it may have downloaded it
        write_prepared(entry, {"train": train, "test": test}, folder, progress or (lambda *_: None))
    return open_prepared(entry, folder)


def stand_in(entry: Entry) -> Dataset:
    """A dataset to plan with when the images are absent: the shape and classes of its entry, and no pixels.

    Its digest is empty, and the numbers of its images are STAND_IN_IMAGES.
    """
    source = entry.source
    train, test = (
        Part(np.broadcast_to(np.zeros(1, np.uint8), (count, *source.shape)), None) for count in STAND_IN_IMAGES
    )
    return Dataset(
        entry.name, source.title, "", source.shape, source.num_classes, source.extractors, 0, Path(), train, test,
        conditions=source.conditions(),
    )  # fmt: skip


def prepared_folder(entry: Entry, place: Place) -> Path:
    """The dataset's folder in the cache, named by everything that its pixels and labels depend on."""
    with _naming(entry):
        key = digests.settings_digest(
            {"version": PREPARATION, "code": entry.code,
             "source": entry.source.model_dump(mode="json", exclude={"title", "extractors"}),
             "place": [str(place.base), str(place.data_root)], "state": entry.source.state(place)}
        )  # fmt: skip
    return cache_root() / "datasets" / f"{entry.name}-{key[:16]}"


@contextmanager
def _naming(entry: Entry) -> Iterator[None]:
    """Raise whatever a plugin's source raises by mistake as BadInput that names its dataset and line."""
    try:
        yield
    except GenbenchError:
        raise
    except Unfit as why:
        raise _fault(entry, str(why), why.hint) from why
    except Exception as error:
        if not entry.code:
            raise
        raise _fault(entry, f"{describe(error)}{line_of(error)}", f"fix source {entry.source.source!r}") from error


def _fault(entry: Entry, what: str, hint: str) -> BadInput:
    return BadInput(f"{entry.origin} [{entry.name}]: {what}", hint)


def _check_counts(entry: Entry, train: Split, test: Split) -> None:
    for name, split in (("train", train), ("test", test)):
        if split.count < 2:
            raise _fault(entry, f"{split.count} {name} image(s)", "a comparison needs at least 2")


def _check_classes(entry: Entry, train: Split, test: Split) -> None:
    """Raise BadInput unless each label means the same class in both splits, as far as their classes have names."""
    if not entry.source.num_classes or not (train.classes and test.classes) or train.classes == test.classes:
        return
    alone = {
        "train": [name for name in train.classes if name not in test.classes],
        "test": [name for name in test.classes if name not in train.classes],
    }
    told = [f"only in {split}: {listed(names)}" for split, names in alone.items() if names]
    told = told or [f"in another order: {listed(train.classes)} and {listed(test.classes)}"]
    what = f"the test images have other classes than the training images, {'; '.join(told)}"
    raise _fault(entry, what, "give both the same classes")


def write_prepared(entry: Entry, splits: Mapping[str, Split], folder: Path, progress: Progress) -> None:
    """Stream the two splits into a folder of the cache; raises as `prepare`, and leaves nothing half-made."""
    before, refusals = entry.source.turned, Refusals(f"{entry.origin} [{entry.name}]")
    splits, words = with_texts(splits, entry.source.conditions())
    with store.atomic_folder(folder) as temporary:
        content = hashlib.sha256()
        train, test = (
            _write_split(entry, name, split, refusals, temporary, content, progress) for name, split in splits.items()
        )
        refusals.check()
        remarks = dict.fromkeys(remark for split in splits.values() for remark in split.remarks)
        facts = {
            "digest": content.hexdigest(),
            "overlap": int(np.isin(test.digests, train.digests).sum()),
            "distinct": len(np.unique(train.digests)),
            "turned": entry.source.turned - before,
            "classes": list(splits["train"].classes) if entry.source.num_classes else [],
            "words": list(words),
            "remarks": [*remarks, *_dark(max(train.highest, test.highest))],
        }
        seal(temporary, facts)


def _dark(highest: int) -> list[str]:
    """What to say of images whose highest level is so low that they hardly show."""
    if not 0 < highest <= DARK:
        return []
    return [f"no level is above {highest} of 255: nearly black images. Were levels of another range stored as these?"]


@dataclass
class _Written:
    """What is known of a split once it is written: a digest of each image, and the highest level of all."""

    digests: np.ndarray
    highest: int = 0


def _write_split(
    entry: Entry, name: str, split: Split, refusals: Refusals, folder: Path, content: Any, progress: Progress
) -> _Written:  # fmt: skip
    """Stream one split into its files.

    One image at a time is in memory, with its condition; its label and digest, 24 bytes, are kept.
    """
    shape, spec = (split.count, *entry.source.shape), _paired(entry, split)
    labels, written = np.empty(split.count, np.int64), _Written(np.empty(split.count, f"V{DIGEST_BYTES}"))
    with ExitStack() as files:
        write = files.enter_context(store.array_pieces(folder / f"{name}_images.npy", np.uint8, shape))
        if spec is not None:
            file = folder / f"{name}_{spec.kind}_{spec.kind}.npy"
            write_row = files.enter_context(store.array_pieces(file, row_type(spec), (split.count, *spec.shape)))
        for index, (image, row, label) in enumerate(_checked_items(entry, name, split, refusals)):
            data = image.tobytes()
            write(data)
            if row is not None:
                write_row(row.tobytes())
            content.update(data)
            labels[index], written.digests[index] = label, hashlib.blake2b(data, digest_size=DIGEST_BYTES).digest()
            written.highest = max(written.highest, int(image.max()))
            if index % 1000 == 999 or index == split.count - 1:
                progress(f"{entry.name} {name}", index + 1, split.count)
    content.update(repr((name, shape)).encode())
    if entry.source.num_classes:
        content.update(labels.tobytes())
        store.write_array(folder / f"{name}_labels.npy", labels)
    if not refusals.found:
        _write_conditions(entry, name, split, folder, content)
    return written


def _paired(entry: Entry, split: Split) -> ConditionSpec | None:
    """What the entry's condition is, if the split has each image `Paired` with it."""
    condition = entry.source.condition
    if condition is None or isinstance(condition, Observation) or condition.kind in split.conditions:
        return None
    return condition.spec(entry.source.shape)


def _write_conditions(entry: Entry, name: str, split: Split, folder: Path, content: Any) -> None:
    """Write the conditions that the split has, or that are made of its written images; `content` digests all."""
    conditions = _checked_conditions(entry, name, split)
    for kind, arrays in conditions.items():
        for key, array in sorted(arrays.items()):
            _digest(content, (name, kind, key), array)
            store.write_array(folder / f"{name}_{kind}_{key}.npy", array)
    spec = _paired(entry, split)
    if isinstance(made := entry.source.condition, Observation) and made.kind not in conditions:
        spec, images = made.spec(entry.source.shape), store.read_array(folder / f"{name}_images.npy")
        file = folder / f"{name}_{made.kind}_{made.kind}.npy"
        with store.array_pieces(file, row_type(spec), (split.count, *spec.shape)) as write:
            for part in made.parts(images, name):
                write(part.tobytes())
                store.release(images)
    if spec is not None:
        written = store.read_array(folder / f"{name}_{spec.kind}_{spec.kind}.npy")
        _digest(content, (name, spec.kind, spec.kind), written)


def _digest(content: Any, where: tuple[str, ...], array: np.ndarray) -> None:
    """Add an array to the digest of the content; one that is memory-mapped is not held."""
    content.update(repr((*where, array.dtype.str, array.shape)).encode())
    for start in range(0, len(array), PIECE):
        content.update(array[start : start + PIECE].tobytes())
        store.release(array)


def _checked_conditions(entry: Entry, name: str, split: Split) -> Mapping[Kind, Mapping[str, np.ndarray]]:
    """The conditions of a split, apart from labels. Raises BadInput unless they are those that the source declares."""
    declared = {condition.kind: condition for condition in entry.source.conditions()}
    made: set[Kind] = {entry.source.condition.kind} if entry.source.condition else set()
    if set(split.conditions) | made != set(declared):
        found, said = (", ".join(sorted(kinds)) or "none" for kinds in (split.conditions, declared))
        raise _fault(entry, f"{name} conditions of kind {found}", f"the source declares {said}")
    for kind, arrays in split.conditions.items():
        if kind not in arrays:
            raise _fault(entry, f"{name} conditions of kind {kind} without {kind!r}", "give the main array that name")
        for key, array in arrays.items():
            wanted = (split.count, *declared[kind].shape) if key == kind else (split.count, *array.shape[1:])
            if array.shape != wanted or array.dtype.kind not in ("S" if key == "captions" else "biuf"):
                what = f"{array.dtype} of shape {array.shape}"
                raise _fault(entry, f"{name} conditions, {key!r} of kind {kind}: {what}", f"numbers of shape {wanted}")
    return split.conditions


def _checked_items(
    entry: Entry, name: str, split: Split, refusals: Refusals
) -> Iterator[tuple[np.ndarray, np.ndarray | None, int]]:  # fmt: skip
    """The items of a split, without those that are refused, which are noted and not the end of it.

    Each is an image, the condition that is paired with it, and its label. Raises BadInput if their number is wrong, or
    the type or shape of an image or condition.
    """
    source, spec, index = entry.source, _paired(entry, split), -1
    with _naming(entry):
        for index, (item, label) in enumerate(split.items):
            if index == split.count:
                raise _fault(entry, f"expected {split.count:,} {name} images, got more", "correct the source's count")
            refusals.seen += 1
            if isinstance(item, Refusal):
                refusals.add(item)
                continue
            image, row = (item.image, item.condition) if isinstance(item, Paired) else (item, None)
            if (spec and (row_type(spec), spec.shape)) != (None if row is None else (row.dtype, row.shape)):
                what = "without a condition" if row is None else f"with a {row.dtype} condition of shape {row.shape}"
                raise _fault(entry, f"{name} image {index} {what}", f"its source declares {spec}")
            if image.dtype != np.uint8 or image.shape != source.shape:
                raise _fault(
                    entry, f"{name} image {index} is {image.dtype} of shape {image.shape}",
                    f"expected uint8 of shape {source.shape}",
                )  # fmt: skip
            number = _checked_label(f"{name} image {index}", label, source)
            if isinstance(number, Refusal):
                refusals.add(number)
                continue
            yield image, row, number
    if index + 1 != split.count:
        raise _fault(entry, f"expected {split.count:,} {name} images, got {index + 1:,}", "correct the source's count")


def _checked_label(where: str, label: Any, source: Source) -> int | Refusal:
    """The label as a whole number, -1 if the source has no classes; or why it is none of its classes."""
    if not source.num_classes:
        return -1
    hint = f"labels are whole numbers from 0 to {source.num_classes - 1}: correct them, or num_classes"
    try:
        number = operator.index(label)
    except TypeError:
        what = "no label" if label is None else shortened(repr(label), 40)
        return Refusal(where, "a label that is no whole number", what, hint)
    if 0 <= number < source.num_classes:
        return number
    return Refusal(where, f"a label beyond num_classes = {source.num_classes}", f"label {number}", hint)


def open_prepared(entry: Entry, folder: Path) -> Dataset:
    """The dataset of a prepared folder, checked and memory-mapped. Raises CorruptData."""
    about = checked(folder)
    parts = read_parts(folder, entry.source.num_classes, entry.source.conditions())
    for name, part in parts.items():
        if part.images.shape[1:] != entry.source.shape or part.images.dtype != np.uint8:
            raise CorruptData(f"{folder / f'{name}_images.npy'}: images of another shape or type", remedy(folder))
    source, law = entry.source, entry.source.law()
    return Dataset(
        entry.name, source.title, about["digest"], source.shape, source.num_classes, source.extractors,
        about["overlap"], folder, parts["train"], parts["test"], _entropies(source, law, parts["test"]),
        about.get("distinct"), about.get("turned", 0), source.conditions(), law,
        tuple(about.get("classes", ())), tuple(about.get("words", ())), source.judge(),
        tuple(about.get("remarks", ())),
    )  # fmt: skip


def _entropies(source: Source, law: KnownLaw | None, test: Part) -> dict[Kind | None, Entropy]:
    """`Dataset.entropies`."""
    known: dict[Kind | None, Entropy | None] = {None: source.entropy(False), "class": source.entropy(True)}
    if law is not None:
        known |= law.entropies(test)
    return {kind: entropy for kind, entropy in known.items() if entropy is not None}
