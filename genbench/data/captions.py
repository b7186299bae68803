"""Captions of the images in a folder: one file with a line for each, or a text file beside each."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path, PurePosixPath
from typing import Any

from pydantic import field_validator

from genbench.data.caption_files import SUFFIXES, Row, read_rows
from genbench.data.conditioning import OfText
from genbench.data.image_files import Files
from genbench.data.paired_files import Beside, InFiles, PairedFiles
from genbench.data.refusals import Refusal, Refusals, Unfit
from genbench.data.source import Place, stamp
from genbench.support.denials import denial
from genbench.support.errors import BadInput
from genbench.support.text import shortened

Spot = tuple[int, int]
"""A folder, and an image in it, by their places."""


class CaptionFile(OfText, InFiles):
    """A caption for each image in the column of a file (`caption_files`), which names images in `names`.

    Names are relative to the file, or else to the folder of the images. `test_file` has those of the test images, if
    these lie in a folder of their own; without it, `file` has all.
    """

    file: str
    test_file: str | None = None
    column: str = "text"
    names: str = "file_name"

    @field_validator("file", "test_file")
    @classmethod
    def has_a_known_form(cls, file: str | None) -> str | None:
        if file is not None and Path(file).suffix not in SUFFIXES:
            raise ValueError(f"captions are read from {', '.join(SUFFIXES)}")
        return file

    def state(self, place: Place, folders: Sequence[Files]) -> list[Any]:
        return [stamp(file) for file in self._files(place, folders)]

    def beside(self, place: Place, folders: Sequence[Files]) -> list[Beside]:
        files = self._files(place, folders)
        if len(files) == 1:
            return self._matched(files[0], folders)
        return [beside for file, folder in zip(files, folders) for beside in self._matched(file, [folder])]

    def _files(self, place: Place, folders: Sequence[Files]) -> list[Path]:
        if self.test_file is not None and len(folders) < 2:
            raise BadInput("condition: test_file, but the test images have no folder", "give the source a test_path")
        return [place.path(name) for name in (self.file, self.test_file) if name is not None]

    def _matched(self, file: Path, folders: Sequence[Files]) -> list[Beside]:
        """What the images of folders have in a file. Raises one BadInput for all lines that are of no use."""
        spots = {
            os.path.normpath(files.folder / name): (folder, image)
            for folder, files in enumerate(folders)
            for image, name in enumerate(files.names)
        }
        bases = [file.parent, *(files.folder for files in folders)]
        told: dict[Spot, tuple[str, str]] = {}
        refusals = Refusals(str(file), things="lines")
        for row in read_rows(file, self.names, self.column):
            refusals.seen += 1
            if isinstance(row, Refusal):
                refusals.add(row)
                continue
            try:
                spot, caption = self._read(row, spots, bases)
                if spot in told:
                    line = told[spot][1].removeprefix(f"{file}:").strip()
                    raise Unfit("a second line for an image", f"{row.values[self.names]}, also in {line}", ONE_LINE)
                told[spot] = (caption, row.where)
            except Unfit as why:
                refusals.add(Refusal.of(row.where, why))
        refusals.check()
        return [
            Beside(
                [
                    told[folder, image][0] if (folder, image) in told else _missing(files.folder / name, file)
                    for image, name in enumerate(files.names)
                ],
                frozenset([os.path.relpath(file, files.folder)]),
            )
            for folder, files in enumerate(folders)
        ]  # fmt: skip

    def _read(self, row: Row, spots: Mapping[str, Spot], bases: Sequence[Path]) -> tuple[Spot, str]:
        """The image that a row is of, and its caption. Raises Unfit."""
        for column in (self.names, self.column):
            if column not in row.values:
                has = shortened(", ".join(row.values) or "none", 100)
                raise Unfit(f"no column {column!r}", f"it has {has}", "correct `column` or `names`, or the line")
        name = row.values[self.names]
        if not isinstance(name, str) or not name:
            raise Unfit("a name that is no text", shortened(repr(name), 40), "give the path of an image")
        if PurePosixPath(name).is_absolute() or ".." in PurePosixPath(name).parts:
            raise Unfit("a path that leads elsewhere", shortened(name, 80), "give a path below the file's own folder")
        found = [spots[path] for base in bases if (path := os.path.normpath(base / name)) in spots]
        if not found:
            raise Unfit("no such image", shortened(name, 80), "add the image, or correct or remove the line")
        if len(set(found)) > 1 and os.path.normpath(bases[0] / name) not in spots:
            raise Unfit("two images of this name", shortened(name, 80), "give each split a file of its own: test_file")
        return found[0], self.caption(row.values[self.column], name)


ONE_LINE = "give one line per image; several captions of one are a list in JSON"


def _missing(image: Path, file: Path) -> Refusal:
    return Refusal(str(image), "no caption", f"no line of {file}", "add a line, or remove the image")


class Sidecars(OfText, PairedFiles):
    """A text file for each image; of several lines that are not empty, each is a caption."""

    suffix: str = ".txt"

    def beside(self, place: Place, folders: Sequence[Files]) -> list[Beside]:
        found = super().beside(place, folders)
        return [
            replace(beside, given=[self._text(each, name) for each, name in zip(beside.given, files.names)])
            for beside, files in zip(found, folders)
        ]

    def _text(self, file: str | Path | Refusal, name: str) -> str | Refusal:
        if not isinstance(file, Path):
            return file
        try:
            return self.caption(file.read_bytes().decode("utf-8-sig").split("\n"), name)
        except UnicodeDecodeError as error:
            return Refusal(str(file), "not UTF-8", f"at byte {error.start}", "save it as UTF-8")
        except Unfit as why:
            return Refusal.of(str(file), why)
        except OSError as error:
            raise denial(error, file) or error from error
