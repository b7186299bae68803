"""Datasets of the Hugging Face hub, or of a local folder in its form."""

from __future__ import annotations

import os
from collections.abc import Iterator
from functools import partial
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import numpy as np
from pydantic import Field

from genbench.condition import Kind
from genbench.data.conditioning import Conditioning, OfHole, OfMap, OfPicture, OfSmall, OfText
from genbench.data.picture import open_picture
from genbench.data.refusals import Refusal, Unfit
from genbench.data.source import MADE, UNUSED, Paired, Place, Source, Split, absent, stamps
from genbench.data.words import stored
from genbench.records.class_names import listed
from genbench.support.errors import BadInput, EnvironmentProblem, GenbenchError, first_line
from genbench.support.text import shortened
from genbench.support.validation import OneOf

if TYPE_CHECKING:
    from PIL.Image import Image


class Column(Conditioning):
    """A condition in a column of the table."""

    column: str


class TextColumn(OfText, Column):
    """Captions: a text, or a list of them."""


class MapColumn(OfMap, Column):
    """Maps, as pictures."""


class HoleColumn(OfHole, Column):
    """Masks, as pictures."""


class SmallColumn(OfSmall, Column):
    """Small images."""


class HuggingFace(Source):
    """A dataset of the Hugging Face hub or a local folder, read by the library `datasets` (an optional extra)."""

    path: str
    revision: str | None = None
    train_split: str = "train"
    test_split: str = "test"
    image_column: str = "image"
    label_column: str = "label"
    condition: Annotated[
        Conditioning | None, OneOf(*MADE, TextColumn, MapColumn, HoleColumn, SmallColumn)
    ] = Field(None, exclude_if=absent)  # fmt: skip

    def state(self, place: Place) -> list[Any]:
        """The files of a local folder; those of the hub are identified by `revision` alone."""
        return list(stamps(self._local(place)))

    def splits(self, place: Place) -> tuple[Split, Split]:
        names = (self.train_split, self.test_split)
        train, test = (self._split(name, rows) for name, rows in zip(names, self._rows(place, names)))
        return train, test

    def _local(self, place: Place) -> Path:
        """Where the dataset is if it is a local one."""
        try:
            local = place.base / Path(self.path).expanduser()
            local.exists()
        except (RuntimeError, ValueError, OSError) as error:
            raise BadInput(f"path {self.path!r}: {first_line(error)}", "correct `path` in the datasets file") from error
        return local

    def _rows(self, place: Place, names: tuple[str, str]) -> Any:
        """The rows of both splits. Raises EnvironmentProblem if the library or the hub's dataset cannot be had."""
        if place.offline:  # the library reads these when it is imported
            os.environ["HF_HUB_OFFLINE"] = os.environ["HF_DATASETS_OFFLINE"] = "1"
        try:
            from datasets import load_dataset
        except ImportError as error:
            raise EnvironmentProblem(
                "the source `huggingface` needs the datasets library", "pip install 'genbench[huggingface]'"
            ) from error
        local = self._local(place)
        here = local.exists()
        anew = {"download_mode": "force_redownload"} if here else {}  # its own copy goes by the time of a file alone
        try:
            return load_dataset(str(local) if here else self.path, split=list(names), revision=self.revision, **anew)
        except Exception as error:
            told = f"{self.path} ({', '.join(names)}): cannot be loaded ({first_line(error)})"
            refused = any(getattr(each, "errno", None) for each in (error, error.__cause__))  # by disk or system
            if isinstance(error, ValueError) or (here and not refused):
                raise BadInput(told, "correct path, splits or files") from error
            raise EnvironmentProblem(told, "check path, split and network") from error

    def _split(self, split: str, rows: Any) -> Split:
        column = self.condition.column if isinstance(self.condition, Column) else None
        wanted = [self.image_column] + ([self.label_column] if self.num_classes else []) + ([column] if column else [])
        for name in wanted:
            if name not in rows.column_names:
                raise BadInput(f"{self.path}: no column {name!r}", f"it has {', '.join(rows.column_names)}")
        unused = not self.num_classes and self.label_column in rows.column_names
        remarks = (f"its column {self.label_column!r} is {UNUSED}",) if unused else ()
        names = tuple(getattr(rows.features.get(self.label_column), "names", None) or ()) if self.num_classes else ()
        if names and len(names) != self.num_classes:
            many = f"column {self.label_column!r} has {len(names)} classes, but num_classes = {self.num_classes}"
            raise BadInput(f"{self.path}: {many}", f"set num_classes = {len(names)}: {listed(names)}")
        texts: dict[Kind, dict[str, np.ndarray]] = {}
        faults: list[Refusal | None] = [None] * len(rows)
        if isinstance(self.condition, TextColumn):
            told = list(self._captions(split, rows.select_columns([column])))
            texts = {"text": {"captions": stored(told)}}
            faults = [each if isinstance(each, Refusal) else None for each in told]
        rows = self._pictures(rows.select_columns(wanted), self.image_column, "image_column")
        if isinstance(self.condition, OfPicture) and column:
            rows = self._pictures(rows, column, "`column` of the condition")
        items = (
            (fault or self._item(f"{self.path} ({split}), row {index}", row, column), row.get(self.label_column))
            for index, (row, fault) in enumerate(zip(rows, faults))
        )
        return Split(len(rows), items, texts, names, remarks)

    def _captions(self, split: str, rows: Any) -> Iterator[str | Refusal]:
        assert isinstance(self.condition, TextColumn)
        for index, row in enumerate(rows):
            try:
                yield self.condition.caption(row[self.condition.column], f"{split} {index}")
            except Unfit as why:
                yield Refusal.of(f"{self.path} ({split}), row {index}", why)

    def _item(self, where: str, row: Any, column: str | None) -> np.ndarray | Paired | Refusal:
        read = partial(_opened, row[self.image_column])
        if not isinstance(self.condition, OfPicture) or not column:
            return self.taken(where, read)
        return self.paired(where, read, f"{where}, {column}", partial(_opened, row[column]))

    def _pictures(self, rows: Any, column: str, key: str) -> Any:
        """The rows with a column's images still to be decoded. Raises BadInput if the column can hold none."""
        from datasets import Image

        try:
            return rows.cast_column(column, Image(decode=False))
        except GenbenchError:
            raise
        except Exception as error:
            kind = shortened(str(rows.features[column]), 80)
            raise BadInput(
                f"{self.path}: column {column!r} has no images, but {kind}", f"name the column by {key}"
            ) from error


def _opened(cell: dict[str, Any] | None) -> Image:
    """The picture of a row, by its bytes or else its file. Raises Unfit if there is none."""
    content, path = (cell or {}).get("bytes"), (cell or {}).get("path")
    if content is not None:
        return open_picture(BytesIO(content))
    if path is None:
        raise Unfit("no image", "empty", "fill the row, or remove it")
    if not Path(path).exists():
        raise Unfit("no image", f"a text: {shortened(path, 40)}", "give pictures, or paths of files that are there")
    return open_picture(Path(path))
