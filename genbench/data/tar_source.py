"""Samples in tar files, in the form of WebDataset: files that share a name up to its first dot are one sample.

Nothing is unpacked. An index of the members is made first, with captions and labels; images are read when they are
used.
"""

from __future__ import annotations

import tarfile  # noqa: TID251  its index is read, and nothing is unpacked
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import partial
from io import BytesIO
from itertools import groupby
from pathlib import Path, PurePosixPath
from typing import Annotated, Any, BinaryIO

import numpy as np
from pydantic import Field

from genbench.condition import Kind
from genbench.data.caption_files import json_object
from genbench.data.conditioning import Conditioning, OfText
from genbench.data.image_files import IMAGE_SUFFIXES, by_suffix
from genbench.data.picture import open_picture
from genbench.data.refusals import Refusal, Unfit
from genbench.data.source import MADE, UNUSED, Place, Source, Split, absent, rank_in_class, stamp
from genbench.data.words import stored
from genbench.support.denials import denial
from genbench.support.errors import BadInput, first_line
from genbench.support.text import shortened
from genbench.support.validation import OneOf

LABEL, TEXT, TABLE = ".cls", ".txt", ".json"
MOST_BYTES = 2**20
"""Of a member with a caption or label."""
PIECE = 2**20
Extent = tuple[int, int]
"""Where a member's bytes begin in its file, and how many there are."""


class Members(OfText):
    """The caption in a sample's `.txt`, or in a `column` of its `.json`."""

    column: str | None = None


@dataclass
class Sample:
    """The members of one sample, by suffix; `fault` is why it cannot be used, if that is known without its image."""

    shard: Path
    key: str
    images: list[tuple[str, Extent]] = field(default_factory=list)
    others: dict[str, Extent] = field(default_factory=dict)
    caption: str = ""
    label: Any = -1
    fault: Refusal | None = None

    @property
    def where(self) -> str:
        return f"{self.shard}: {self.key}"

    def refuse(self, why: Unfit) -> None:
        self.fault = self.fault or Refusal.of(self.where, why)


class Tar(Source):
    """Tar files, not compressed: one, a folder of them, a pattern with `*`, or a list of these; by name, then place.

    The test split is the last of each class, or has tar files of its own.
    """

    path: str | list[str]
    test_path: str | list[str] | None = None
    test_fraction: float = Field(0.1, gt=0, lt=1)
    condition: Annotated[Conditioning | None, OneOf(*MADE, Members)] = Field(None, exclude_if=absent)

    def splits(self, place: Place) -> tuple[Split, Split]:
        train = self._samples(shards(place, self.path))
        if self.test_path is not None:
            return self._split(train), self._split(self._samples(shards(place, self.test_path)))
        labels = np.array([sample.label if isinstance(sample.label, int) else -1 for sample in train])
        test = rank_in_class(labels) >= 1 - self.test_fraction
        parts = ([sample for sample, apart in zip(train, test) if apart == wanted] for wanted in (False, True))
        training, testing = (self._split(part) for part in parts)
        return training, testing

    def state(self, place: Place) -> list[Any]:
        """Names and stamps of the files of each split."""
        paths = (self.path, self.test_path)
        return [[[str(file), *stamp(file)] for file in shards(place, path)] for path in paths if path is not None]

    def _samples(self, files: list[Path]) -> list[Sample]:
        """All samples with captions and labels, and without their images."""
        found = [sample for file in files for sample in read_index(file)]
        for sample, stream in _opened(found):
            self._check(sample)
            try:
                self._tell(sample, stream)
            except Unfit as why:
                sample.refuse(why)
        return found

    def _check(self, sample: Sample) -> None:
        """Note whether there is not one image."""
        if not sample.images:
            has = ", ".join(sample.others) or "nothing"
            sample.refuse(Unfit("no image in a sample", f"it has {has}", "add one (.jpg, .png, .webp), or remove all"))
        elif len(sample.images) > 1:
            named = " and ".join(suffix for suffix, _ in sample.images[:2])
            cut = "names of one sample differ behind their first dot alone: rename, or remove, the others"
            sample.refuse(Unfit("several images in one sample", named, cut))

    def _tell(self, sample: Sample, stream: BinaryIO) -> None:
        """Read a sample's caption and label, if they are used. Raises Unfit."""
        if self.num_classes:
            text = _text(sample, LABEL, stream)
            try:
                sample.label = int(text)
            except ValueError:
                what, hint = shortened(repr(text), 40), "give a whole number from 0"
                raise Unfit(f"a {LABEL} that is no whole number", what, hint) from None
        if isinstance(self.condition, Members):
            sample.caption = self._caption(sample, self.condition, stream)

    def _caption(self, sample: Sample, wanted: Members, stream: BinaryIO) -> str:
        if wanted.column is None:
            return wanted.caption(_text(sample, TEXT, stream).split("\n"), sample.key)
        text = _text(sample, TABLE, stream)
        try:
            values = json_object(text)
        except ValueError as error:
            raise Unfit(f"a {TABLE} that is no JSON object", first_line(error), "correct it") from error
        if wanted.column not in values:
            has = shortened(", ".join(values) or "none", 100)
            raise Unfit(f"no column {wanted.column!r} in {TABLE}", f"it has {has}", "correct `column`, or the sample")
        return wanted.caption(values[wanted.column], sample.key)

    def _split(self, samples: list[Sample]) -> Split:
        given: dict[Kind, dict[str, np.ndarray]] = {}
        if isinstance(self.condition, Members):
            given = {"text": {"captions": stored(sample.caption for sample in samples)}}
        return Split(len(samples), self._items(samples), given, remarks=self._remarks(samples))

    def _items(self, samples: list[Sample]) -> Iterator[tuple[np.ndarray | Refusal, Any]]:
        for sample, stream in _opened(samples):
            if sample.fault is not None:
                yield sample.fault, sample.label
                continue
            ((suffix, extent),) = sample.images
            read = partial(_picture, stream, extent)
            yield self.taken(f"{sample.where}{suffix}", read), sample.label

    def _remarks(self, samples: list[Sample]) -> tuple[str, ...]:
        used = {LABEL} if self.num_classes else set()
        if isinstance(self.condition, Members):
            used.add(TABLE if self.condition.column else TEXT)
        left = [f"x{suffix}" for sample in samples for suffix in sample.others if suffix not in used]
        if not left:
            return ()
        labels = f"; {LABEL} is {UNUSED}" if any(each.endswith(LABEL) for each in left) else ""
        return (f"left out {len(left):,} members that are not used: {by_suffix(left)}{labels}",)


def shards(place: Place, path: str | list[str]) -> list[Path]:
    """The tar files of a path, sorted by name. Raises BadInput if there are none."""
    if isinstance(path, list):
        return list(dict.fromkeys(file for each in path for file in shards(place, each)))
    folder, _, pattern = path.rpartition("/")
    if "*" not in pattern:
        whole = place.path(path)
        folder, pattern = path, "*.tar"
        if not whole.is_dir():
            return [whole]
    where = place.path(folder or ".")
    found = sorted(where.glob(pattern))
    if not found:
        raise BadInput(f"{where}: no tar files {pattern}", "give a file, a folder of *.tar, or a pattern with *")
    return found


def read_index(file: Path) -> list[Sample]:
    """The samples of a tar file in the order of their first members. Raises BadInput for one that is damaged."""
    found: dict[str, Sample] = {}
    try:
        with tarfile.open(file, "r:") as archive:
            for member in archive:
                if not member.isdir() and not PurePosixPath(member.name).name.startswith("."):
                    _note(found, file, member)
            _check_end(archive, file)
    except PermissionError as error:
        raise denial(error, file) or error from error
    except (tarfile.TarError, OSError, EOFError, ValueError) as error:
        raise BadInput(f"{file}: not a whole tar file: {first_line(error)}", DAMAGED) from error
    return list(found.values())


DAMAGED = "write it again, without compression"


def _check_end(archive: tarfile.TarFile, file: Path) -> None:
    """Raise BadInput unless zeros follow the last member, and nothing follows these."""
    stream = archive.fileobj
    assert stream is not None
    stream.seek(archive.offset)
    length = 0
    while piece := stream.read(PIECE):
        length += len(piece)
        if piece.strip(b"\0"):
            raise BadInput(f"{file}: not a whole tar file: something else behind byte {archive.offset:,}", DAMAGED)
    if length < tarfile.BLOCKSIZE:
        raise BadInput(f"{file}: not a whole tar file: it is truncated", DAMAGED)


def _note(found: dict[str, Sample], file: Path, member: tarfile.TarInfo) -> None:
    """Put a member where it belongs."""
    path = PurePosixPath(member.name)
    stem, dot, behind = path.name.partition(".")
    key = str(path.parent / stem)
    sample = found.setdefault(key, Sample(file, key))
    suffix, extent = (dot + behind).lower(), (member.offset_data, member.size)
    if not member.isreg() or member.issparse():
        sample.refuse(Unfit("a member that is no plain file", path.name, "put the file itself into the archive"))
    elif path.is_absolute() or ".." in path.parts:
        sample.refuse(Unfit("a path that leads elsewhere", shortened(member.name, 80), "give paths below the archive"))
    elif suffix in sample.others:
        sample.refuse(Unfit("two members of one name", path.name, "remove one"))
    elif PurePosixPath(path.name).suffix.lower() in IMAGE_SUFFIXES:
        sample.images.append((suffix, extent))
    else:
        sample.others[suffix] = extent


def _opened(samples: list[Sample]) -> Iterator[tuple[Sample, BinaryIO]]:
    """Each sample with its file, which is opened once for those that follow one another."""
    for file, of_file in groupby(samples, lambda sample: sample.shard):
        with file.open("rb") as stream:
            yield from ((sample, stream) for sample in of_file)


def _text(sample: Sample, suffix: str, stream: BinaryIO) -> str:
    """The text of a member. Raises Unfit."""
    if suffix not in sample.others:
        has = ", ".join([*sample.others, *(suffix for suffix, _ in sample.images)])
        raise Unfit(f"no {suffix} in a sample", f"it has {has}", "add it, or remove the sample")
    start, size = sample.others[suffix]
    if size > MOST_BYTES:
        raise Unfit(f"a {suffix} of another kind", f"{size:,} bytes", f"give at most {MOST_BYTES:,}")
    stream.seek(start)
    try:
        return stream.read(size).decode("utf-8-sig").strip()
    except UnicodeDecodeError as error:
        raise Unfit(f"a {suffix} that is not UTF-8", f"at byte {error.start}", "save it as UTF-8") from error


def _picture(stream: BinaryIO, extent: Extent) -> Any:
    start, size = extent
    stream.seek(start)
    return open_picture(BytesIO(stream.read(size)))
