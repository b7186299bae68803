"""Files with a line, or a record, for each image: JSON lines, tables, and captions in the form of COCO."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from genbench.data.refusals import Refusal
from genbench.support.errors import BadInput, first_line
from genbench.support.store import refuse_constant
from genbench.support.user_text import read_user_text

LIMIT_BYTES = 2**30
DELIMITERS = {".csv": ",", ".tsv": "\t"}
SUFFIXES = (".jsonl", *DELIMITERS, ".json")
AS_COCO = 'give {"images": [{"id", "file_name"}], "annotations": [{"image_id", "caption"}]}, or JSON lines as .jsonl'


@dataclass(frozen=True)
class Row:
    """What a file says of one image, by column; `where` is its line."""

    where: str
    values: Mapping[str, Any]


def read_rows(file: Path, name: str, column: str) -> Iterator[Row | Refusal]:
    """The rows of a file, or why one cannot be read. Of COCO's captions they have the columns `name` and `column`.

    Raises BadInput for what is wrong with all of the file: no UTF-8, no JSON, no header.
    """
    text = read_user_text(file, "captions", ", ".join(SUFFIXES), LIMIT_BYTES)
    if file.suffix == ".json":
        yield from _coco(file, text, name, column)
    elif file.suffix == ".jsonl":
        yield from _json_lines(file, text)
    else:
        yield from _table(file, text, name)


def json_object(text: str | bytes) -> dict[str, Any]:
    """A JSON object. Raises ValueError for anything else."""
    try:
        found = json.loads(text, parse_constant=refuse_constant)
    except RecursionError:
        raise ValueError("nested too deeply") from None
    if not isinstance(found, dict):
        raise ValueError(f"{type(found).__name__}, where an object is wanted")
    return found


def _json_lines(file: Path, text: str) -> Iterator[Row | Refusal]:
    for number, line in enumerate(text.split("\n"), 1):  # not by what else splits lines, which a text may have
        where = f"{file}:{number}"
        if line.strip():
            try:
                yield Row(where, json_object(line))
            except ValueError as error:
                yield Refusal(where, "no JSON object", first_line(error), "give one object per line")


def _table(file: Path, text: str, name: str) -> Iterator[Row | Refusal]:
    lines = csv.reader(io.StringIO(text, newline=""), delimiter=DELIMITERS[file.suffix], strict=True)
    try:
        header = next(lines, [])
        if name not in header:
            told = ", ".join(header)[:200] or "nothing"
            raise BadInput(f"{file}:1: no column {name!r}", f"the first line names the columns; it has {told}")
        if len(set(header)) < len(header):
            raise BadInput(f"{file}:1: two columns of one name", "rename one")
        for line in lines:
            where = f"{file}:{lines.line_num}"
            if line and len(line) != len(header):
                hint = "write a text that has the delimiter in quotes"
                yield Refusal(where, f"not {len(header)} columns", f"{len(line)} columns", hint)
            elif line:
                yield Row(where, dict(zip(header, line)))
    except csv.Error as error:
        raise BadInput(f"{file}:{lines.line_num}: {error}", "correct the quotes of the table") from error


def _coco(file: Path, text: str, name: str, column: str) -> Iterator[Row | Refusal]:
    """A row for each image, with the list of its captions."""
    try:
        whole = json_object(text)
    except json.JSONDecodeError as error:
        raise BadInput(f"{file}:{error.lineno}:{error.colno}: {error.msg}", AS_COCO) from error
    except ValueError as error:
        raise BadInput(f"{file}: {error}", AS_COCO) from error
    for key, needs in {"images": ("id", "file_name"), "annotations": ("image_id", "caption")}.items():
        listed = whole.get(key)
        if not isinstance(listed, list):
            raise BadInput(f"{file}: no list {key!r}", AS_COCO)
        for place, each in enumerate(listed):
            absent = [need for need in needs if not isinstance(each, dict) or need not in each]
            if absent or not isinstance(each[needs[0]], int | str):
                raise BadInput(f"{file}: {key}[{place}]: no {' and no '.join(absent) or 'proper ' + needs[0]}", AS_COCO)
    captions: dict[int | str, list[Any]] = {each["id"]: [] for each in whole["images"]}
    if len(captions) < len(whole["images"]):
        raise BadInput(f"{file}: two images of one id", "give each its own")
    for place, each in enumerate(whole["annotations"]):
        if each["image_id"] in captions:
            captions[each["image_id"]].append(each["caption"])
        else:
            where = f"{file}: annotations[{place}]"
            yield Refusal(where, "a caption of no image", f"image_id {each['image_id']}", "add the image, or remove it")
    for place, each in enumerate(whole["images"]):
        where = f"{file}: images[{place}]"
        if captions[each["id"]]:
            yield Row(where, {name: each["file_name"], column: captions[each["id"]]})
        else:
            yield Refusal(where, "no caption", str(each["file_name"]), "add an annotation, or remove the image")
