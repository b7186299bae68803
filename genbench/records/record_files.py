"""Records on disk: one or all of a folder's, whole or without their curves."""

from __future__ import annotations

import gc
import os
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

from pydantic import ConfigDict, Field, ValidationError

from genbench.records.record import CHANGED, JOB_AGAIN, READING, SCHEMA, CurvePoint, Protocols, Record, is_sealed
from genbench.records.stored import Stored
from genbench.records.unfinished import state_of, unfinished_record
from genbench.support.denials import look, permission
from genbench.support.errors import BadInput, CorruptData, EnvironmentProblem, GenbenchError, removal, together
from genbench.support.paths import listed


def read_record(file: Path, whole: bool = True) -> Record:
    """The record in a file; unless `whole`, as tables need it.

    Raises CorruptData naming the file and the first bad key, or EnvironmentProblem. A record that has changed since it
    was written is corrupt.
    """
    return _sealed(_bytes_of(file), file, None if whole else {})


def _parsed(text: bytes, file: Path) -> Record:
    try:
        return Record.from_json(text.decode(), file)
    except UnicodeDecodeError as error:
        raise CorruptData(f"{file}: not UTF-8 at byte {error.start}", removal(file, then=JOB_AGAIN)) from error


def _bytes_of(file: Path) -> bytes:
    try:
        return file.read_bytes()
    except IsADirectoryError:
        raise CorruptData(f"{file}: a folder, not a record", removal(file, then=JOB_AGAIN)) from None
    except OSError as error:
        raise EnvironmentProblem(f"{file}: {error.strerror}", permission(file)) from error


class Summary(Record):
    """A record as tables need it: the curve, its largest part, stays in the file, from which `curve_of` reads it.

    Keys of newer versions stay there too. Its protocols are those of its measurements, shared by all summaries.
    """

    model_config = ConfigDict(extra="ignore")

    schema_version: int = Field(alias="schema", le=SCHEMA, strict=True)
    curve: list[CurvePoint] = Field(default=[], init=False, alias="no curve")
    protocols: Protocols = Field(default={}, init=False, alias="no protocols")

    def to_json(self) -> str:
        raise TypeError("a summary is not the whole record")


class _Curve(Stored):
    """The curve in a record."""

    model_config = ConfigDict(extra="ignore")

    curve: list[CurvePoint] = []


class _Protocols(Stored):
    """The protocols in a record."""

    model_config = ConfigDict(extra="ignore")

    protocols: Protocols = {}


def _summary(text: bytes, file: Path, known: Protocols) -> Record:
    """The record in `text` without its curve; adds its protocols to `known`."""
    try:
        summary = Summary.model_validate_json(_finite(_without_long_parts(text)), context=READING)
        used = {measurement.protocol for measurement in summary.measurements}
        if not used <= known.keys():
            known |= {**_Protocols.model_validate_json(_finite(text)).protocols, **known}
    except ValueError:  # _parsed says what is wrong, and where
        return _parsed(text, file)
    summary.folder = file.parent
    summary.protocols = {key: known[key] for key in used & known.keys()}
    return summary


def _finite(text: bytes) -> bytes:
    """The text itself. Raises ValueError for non-finite numbers, which pydantic would accept in settings."""
    if b"NaN" in text or b"Infinity" in text:
        raise ValueError("not finite")
    return text


def _without_long_parts(text: bytes) -> bytes:
    """A record's JSON without curve and protocols, two thirds of it, if laid out as `Record.to_json` writes them.

    Keys of the top level are indented by one space, and no string contains a line break.
    """
    for begin, end in ((b'\n "curve": [\n', b"\n ],"), (b'\n "protocols": {\n', b"\n },")):
        start = text.find(begin)
        stop = text.find(end, start)
        if 0 <= start < stop:
            text = text[:start] + text[stop + len(end) :]
    return text


def curve_of(record: Record) -> list[CurvePoint]:
    """The record's curve, read from its file if it was left there; none if its job has begun again meanwhile.

    Raises as `read_record`.
    """
    if not isinstance(record, Summary) or record.folder is None:
        return record.curve
    file = record.folder / "record.json"
    try:
        return _Curve.model_validate_json(_bytes_of(file), context=READING).curve
    except ValidationError:
        return read_record(file).curve
    except EnvironmentProblem:
        if begun_again(record):
            return []
        raise


def begun_again(record: Record) -> bool:
    """Whether a run's job has begun again since its record was read, so that its files may be other ones."""
    if record.folder is None:
        return False
    file = record.folder / "record.json"
    try:
        return read_record(file).files != record.files
    except EnvironmentProblem:
        return not file.exists()
    except CorruptData:
        return False


@dataclass
class Found:
    """The contents of some folders: records, ordered by job id; runs without a record yet; and why others are missing.

    `under_way` has a row, with status `running` or `interrupted`, for each of the `unfinished` that tells of itself.
    `corrupt` has the errors of records and folders that cannot be read, `spoilt` those of other files of these runs.
    """

    records: list[Record] = field(default_factory=list)
    corrupt: dict[Path, GenbenchError] = field(default_factory=dict)
    unfinished: list[Path] = field(default_factory=list)
    under_way: list[Record] = field(default_factory=list)
    spoilt: list[CorruptData] = field(default_factory=list)

    @property
    def shown(self) -> list[Record]:
        """The rows of tables and pages: every run that has ended, and those that have not."""
        return [*self.records, *self.under_way]

    @property
    def silent(self) -> list[Path]:
        """The unfinished that have no row."""
        rows = {record.folder for record in self.under_way}
        return [folder for folder in self.unfinished if folder not in rows]


def load_records(paths: Iterable[Path], curves: bool = True) -> list[Record]:
    """Every record that `find_records` returns. Raises CorruptData or EnvironmentProblem naming all others.

    Raises BadInput if no run has a record yet.
    """
    found = find_records(paths, curves)
    if found.corrupt:
        raise together(list(found.corrupt.values()))
    if not found.records:
        raise _without_record(found.unfinished[0])
    return found.records


def find_records(paths: Iterable[Path], curves: bool = True) -> Found:
    """Every record in the given run folders (or folders of run folders), and what is wrong with the others.

    Without `curves` they take a third of the time and memory, and `curve_of` reads the curve of each. Raises BadInput
    if a path has none, CorruptData or EnvironmentProblem if none can be read.
    """
    enabled = gc.isenabled()
    gc.disable()  # records have no cycles, and looking for some would walk all of them again and again
    try:
        found = _found(paths, curves)
    finally:
        if enabled:
            gc.enable()
    if not curves:
        gc.freeze()
    return found


def _found(paths: Iterable[Path], curves: bool) -> Found:
    """As `find_records`; each file is read once, however many paths lead to it."""
    found, seen = Found(), set()
    known: Protocols = {}
    for path in paths:
        files, unfinished, closed = runs_at(path)
        found.corrupt |= closed
        if not files and not closed and not unfinished:
            raise no_runs_at(path)
        ended = [folder for folder in unfinished if state_of(folder) == "ended"]  # just now
        for file in [*files, *(folder / "record.json" for folder in ended)]:
            try:
                about = file.stat()
                if (about.st_dev, about.st_ino) not in seen:
                    seen.add((about.st_dev, about.st_ino))
                    found.records.append(_sealed(_bytes_of(file), file, None if curves else known))
            except (CorruptData, EnvironmentProblem, FileNotFoundError) as fault:
                if isinstance(fault, GenbenchError) and file.exists():
                    found.corrupt[file] = fault
                else:  # its job has just begun again
                    unfinished.append(file.parent)
        found.unfinished += [folder for folder in unfinished if folder not in [*found.unfinished, *ended]]
    if found.corrupt and not found.records:
        raise together(list(found.corrupt.values()))
    rows = [unfinished_record(folder, state_of(folder), found.records) for folder in found.unfinished]
    found.under_way = [row for row in rows if row is not None]
    found.records.sort(key=lambda record: record.job.id)
    return found


def _without_record(folder: Path) -> BadInput:
    """The error of a run that a command needs the record of, and that has none yet."""
    what = f"{folder}: no record.json yet: its run is {state_of(folder)}"
    return BadInput(what, "`genbench status` shows how far it is")


def no_runs_at(path: Path) -> BadInput:
    """The refusal of a path at which there is no run, and perhaps nothing at all."""
    what = "no run here or one level below" if os.path.lexists(path) else "there is no such file or folder"
    return BadInput(f"{path}: {what}", "give a run folder, or a folder of run folders")


def runs_at(path: Path) -> tuple[list[Path], list[Path], dict[Path, GenbenchError]]:
    """The records at a path or one level below, the run folders there that have none yet, and closed folders.

    What is in a folder that may not be entered nobody can tell: its error counts, unless the path is itself a run.
    Raises EnvironmentProblem if the path may not be listed.
    """
    if path.name == "record.json":
        return [path], [], {}
    files: list[Path] = []
    unfinished: list[Path] = []
    closed: dict[Path, GenbenchError] = {}
    for folder in [path, *(each for each in listed(path) if each.is_dir())]:
        try:
            if look(folder / "record.json").exists():
                files.append(folder / "record.json")
            elif look(folder / "job.json").exists():
                unfinished.append(folder)
        except EnvironmentProblem as error:
            closed[folder] = error
        except BadInput as error:
            closed[folder] = CorruptData(error.message, error.hint)
    is_run = path in (*(file.parent for file in files), *unfinished)
    return files, unfinished, {} if is_run else closed


def _sealed(text: bytes, file: Path, known: Protocols | None) -> Record:
    """The unchanged record in the text of a file, without its curve if `known` protocols are given."""
    record = _parsed(text, file) if known is None else _summary(text, file, known)
    if not is_sealed(text):
        raise CorruptData(f"{file}: {CHANGED}", removal(file, then=JOB_AGAIN))
    return record


def load_one(path: Path) -> Record:
    """The record of one run folder. Raises BadInput if the path has none, or several."""
    found = find_records([path])
    count = len(found.records) + len(found.corrupt)
    if count > 1:
        raise BadInput(f"{path}: {count} runs", "give one run folder")
    if not found.records:
        raise _without_record(found.unfinished[0])
    return found.records[0]


def load_each(paths: Iterable[Path]) -> list[Record]:
    """The record of each run folder. Raises as `load_one`, naming all that are corrupt."""
    found, faults = [], []
    for path in paths:
        try:
            found.append(load_one(path))
        except (CorruptData, EnvironmentProblem) as fault:
            faults += fault.problems or [fault]
    if faults:
        raise together(faults)
    return found
