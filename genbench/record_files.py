"""Records on disk: one or all of a folder's, whole or without their curves."""

from __future__ import annotations

import gc
from collections.abc import Iterable
from pathlib import Path

from pydantic import ConfigDict, Field, ValidationError

from genbench.errors import BadInput, CorruptData, EnvironmentProblem, together
from genbench.records import SCHEMA, CurvePoint, Protocols, Record, Stored


def read_record(file: Path) -> Record:
    """The record in a file. Raises CorruptData naming it and the first key at fault, or EnvironmentProblem."""
    try:
        text = _bytes_of(file).decode()
    except UnicodeDecodeError as error:
        raise CorruptData(f"{file}: not UTF-8 at byte {error.start}", "run the job again") from error
    return Record.from_json(text, file)


def _bytes_of(file: Path) -> bytes:
    try:
        return file.read_bytes()
    except IsADirectoryError:
        raise CorruptData(f"{file}: a folder, not a record", "run the job again") from None
    except OSError as error:
        raise EnvironmentProblem(f"{file}: {error.strerror}", "make it readable") from error


class Summary(Record):
    """A record as tables need it: the curve, which is most of it, stays in the file, where `curve_of` finds it.

    So do keys of newer versions. Its protocols are those of its measurements, the same object in all summaries.
    """

    model_config = ConfigDict(extra="ignore")

    schema_version: int = Field(alias="schema", le=SCHEMA, strict=True)
    curve: list[CurvePoint] = Field(default=[], init=False, alias="no curve")
    protocols: Protocols = Field(default={}, init=False, alias="no protocols")

    def to_json(self) -> str:
        raise TypeError("a summary is not the whole record")


class _Curve(Stored):
    """What a record says of its curve."""

    model_config = ConfigDict(extra="ignore")

    curve: list[CurvePoint] = []


class _Protocols(Stored):
    """What a record says of its protocols."""

    model_config = ConfigDict(extra="ignore")

    protocols: Protocols = {}


def read_summary(file: Path, known: Protocols) -> Record:
    """The record of a file without its curve; protocols that are not `known` yet become so.

    Raises as `read_record`.
    """
    text = _bytes_of(file)
    try:
        summary = Summary.model_validate_json(_finite(_without_long_parts(text)))
        used = {measurement.protocol for measurement in summary.measurements}
        if not used <= known.keys():
            known |= {**_Protocols.model_validate_json(_finite(text)).protocols, **known}
    except ValueError:  # read_record says what is wrong, and where
        return read_record(file)
    summary.folder = file.parent
    summary.protocols = {key: known[key] for key in used & known.keys()}
    return summary


def _finite(text: bytes) -> bytes:
    """The text. Raises ValueError for numbers that are not JSON's, which pydantic reads where they are settings."""
    if b"NaN" in text or b"Infinity" in text:
        raise ValueError("not finite")
    return text


def _without_long_parts(text: bytes) -> bytes:
    """A record's JSON without curve and protocols, two thirds of it, where they stand as `Record.to_json` writes them.

    One space before a key is its top level, and no string has a line break in it.
    """
    for begin, end in ((b'\n "curve": [\n', b"\n ],"), (b'\n "protocols": {\n', b"\n },")):
        start = text.find(begin)
        stop = text.find(end, start)
        if 0 <= start < stop:
            text = text[:start] + text[stop + len(end) :]
    return text


def curve_of(record: Record) -> list[CurvePoint]:
    """The record's curve, from its file where it was left there. Raises as `read_record`."""
    if not isinstance(record, Summary) or record.folder is None:
        return record.curve
    file = record.folder / "record.json"
    try:
        return _Curve.model_validate_json(_bytes_of(file)).curve
    except ValidationError:
        return read_record(file).curve


def load_records(paths: Iterable[Path], curves: bool = True) -> list[Record]:
    """Every record below the given run folders (or folders of run folders), ordered by job id.

    Without `curves` they take a third of the time and of the memory, and `curve_of` gives the curve of each. Raises
    BadInput where a path holds none, CorruptData naming all that cannot be read.
    """
    enabled = gc.isenabled()
    gc.disable()  # records have no cycles, and a collector that looks for some walks all of them again and again
    try:
        records = sorted(_found(paths, curves).values(), key=lambda record: record.job.id)
    finally:
        if enabled:
            gc.enable()
    if not curves:
        gc.freeze()
    return records


def _found(paths: Iterable[Path], curves: bool) -> dict[tuple[int, int], Record]:
    """The records by their files, each of which is read once, whatever paths lead to it."""
    found: dict[tuple[int, int], Record] = {}
    faults: list[CorruptData] = []
    known: Protocols = {}
    for path in paths:
        files = sorted(
            [path] if path.name == "record.json" else [*path.glob("record.json"), *path.glob("*/record.json")]
        )
        if not files:
            raise BadInput(
                f"{path}: no record.json here or one folder down", "give a run folder, or the folder of run folders"
            )
        for file in files:
            try:
                record = read_record(file) if curves else read_summary(file, known)
            except CorruptData as fault:
                faults.append(fault)
            else:
                about = file.stat()
                found[about.st_dev, about.st_ino] = record
    if faults:
        raise together(faults)
    return found


def load_one(path: Path) -> Record:
    """The record of one run folder. Raises BadInput where the path holds none, or several."""
    records = load_records([path])
    if len(records) > 1:
        raise BadInput(f"{path}: {len(records)} runs", "give one run folder")
    return records[0]
