"""Check run folders, and what the cache holds of their datasets, against schema, fingerprints and digests.

Reads only, without torch.
"""

from __future__ import annotations

import json
import math
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from genbench.data.folders import cache_root
from genbench.data.prepared_files import read_about, read_whole
from genbench.records.checkpoint import MANIFEST, read_manifest
from genbench.records.record import CHANGED, JOB_AGAIN, Record, is_sealed
from genbench.records.record_files import no_runs_at, runs_at
from genbench.records.samples import CONDITIONS
from genbench.records.samples import read_about as read_samples_about
from genbench.support import digests, store
from genbench.support.denials import denial, may_open, reading
from genbench.support.errors import CorruptData, EnvironmentProblem, GenbenchError, describe, removal
from genbench.support.lock import in_use
from genbench.support.paths import below, check_links, inside, listed, real
from genbench.support.sealed import check_digest, read_sealed
from genbench.support.version import __version__

TOLERANCE = 1e-6
T = TypeVar("T")


@dataclass(frozen=True)
class Fault:
    """A file of a run and what is wrong with it; `hint` is what helps if removing it does not."""

    file: str
    what: str
    hint: str = ""


@dataclass(frozen=True)
class RunCheck:
    """A run folder, or what the cache holds of its dataset, by its path `run`, its faults, and the way out of them.

    `state` is ok, wrong, unfinished if there is no record yet, or absent if a dataset is not in the cache; `kind` is
    run, dataset, features or classifier.
    """

    run: str
    state: str
    faults: list[Fault] = field(default_factory=list)
    hint: str = ""
    kind: str = "run"

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)

    def line(self) -> str:
        """`ok     runs/x`, or `wrong  runs/x  samples.npy: ...; job.json: ...` and a second line with the hint."""
        faults = "; ".join(f"{fault.file}: {fault.what}" for fault in self.faults)
        hint = f"\n{'':10} hint: {self.hint}" if self.hint else ""
        return f"{self.state:10} {self.run}{'  ' + faults if faults else ''}{hint}"


def verify_runs(paths: Iterable[Path]) -> list[RunCheck]:
    """The verdict on every run folder at the given paths or one level below, then on the caches of their datasets.

    Raises BadInput if a path has no run.
    """
    folders: dict[Path, Path] = {}
    closed: dict[Path, GenbenchError] = {}
    for path in paths:
        files, unfinished, others = runs_at(path)
        closed |= others
        if not (files or unfinished or others):
            raise no_runs_at(path)
        folders |= {real(folder): folder for folder in (*(file.parent for file in files), *unfinished)}
    runs = [verify_run(folder) for _, folder in sorted(folders.items())]
    runs += [_unread(folder, error) for folder, error in sorted(closed.items())]
    named = sorted({found for folder in folders if (found := _dataset_of(folder)) is not None})
    return [*runs, *(check for name, digest in named for check in verify_cache(name, digest, cache_root()))]


def _unread(path: Path, error: GenbenchError, kind: str = "run") -> RunCheck:
    """The verdict on what may not be read: it may be wrong, so it does not pass."""
    return RunCheck(str(path), "wrong", [Fault(".", f"not readable: {error.message}")], error.hint, kind)


def verify_run(folder: Path) -> RunCheck:
    """The verdict on one run folder; the files of one that is being worked on are not read."""
    waiting = Fault("record.json", "not written yet (interrupted or still running)")
    there = (folder / "record.json").exists()
    if not there and (folder / ".lock").exists() and _guarded([], ".lock", lambda: in_use(folder)):
        return RunCheck(str(folder), "unfinished", [waiting])
    faults: list[Fault] = []
    _guarded(faults, ".", lambda: check_links(folder))
    record = _guarded(faults, "record.json", lambda: _record(folder, faults)) if there else None
    if record is not None:
        checks = {"record.json": _numbers, "samples.json": _samples, "job.json": _job, "progress.jsonl": _progress}
        for file, check in checks.items():
            faults += _guarded(faults, file, lambda check=check: list(check(folder, record))) or []  # type: ignore[misc]
        if record.status == "complete":
            faults += _guarded(faults, "record.json", lambda: list(_listed(folder, record))) or []
    for path in _guarded(faults, ".", lambda: below(folder)) or []:
        name = path.relative_to(folder)
        if not there:
            _guarded(faults, name.as_posix(), lambda at=path: may_open(at) if at.is_file() else None)  # type: ignore[misc]
        if path.name == MANIFEST and not store.is_temporary(name):
            faults += _guarded(faults, name.as_posix(), lambda at=path: list(_manifest(folder, at))) or []  # type: ignore[misc]
        elif name.match("curve/*/scores.json") or name.match(f"{store.MEASURED}/*.json"):
            _guarded(faults, name.as_posix(), lambda at=path: read_sealed(at, "", required=False))  # type: ignore[misc]
    faults = list(dict.fromkeys(faults))
    if faults:
        return RunCheck(str(folder), "wrong", faults, _way_out(folder, faults, there))
    return RunCheck(str(folder), "ok") if there else RunCheck(str(folder), "unfinished", [waiting])


def _way_out(folder: Path, faults: Sequence[Fault], finished: bool) -> str:
    """What to remove so that the job makes it again: the record if it lists a file that is made with it."""
    paths: dict[Path, None] = {}
    anew = not finished or any(fault.file == "record.json" for fault in faults)
    for fault in faults:
        if fault.hint:
            return fault.hint
        first, *_ = parts = Path(fault.file).parts
        if first == store.MEASURED or parts[-1] == "scores.json":
            paths[folder / fault.file] = None
        elif first == "curve" and anew:
            paths |= dict.fromkeys((folder / "checkpoint", folder / "curve"))
        elif first in ("checkpoint", "curve", store.DRAWN) and len(parts) > 1:
            paths[folder.joinpath(*parts[:2])] = None
        else:
            paths |= dict.fromkeys((folder / "record.json", folder / fault.file))
    return removal(*paths, then=JOB_AGAIN)


def _dataset_of(folder: Path) -> tuple[str, str] | None:
    """The name and the digest of a run's dataset, from its record or its job, whichever can be read."""
    name, digest = "", ""
    with suppress(CorruptData, KeyError, TypeError):
        job = store.read_json(folder / "job.json")
        name, digest = str(job["dataset"]), str(job["dataset_digest"])
    with suppress(CorruptData, KeyError, TypeError):
        record = store.read_json(folder / "record.json")
        name, digest = str(record["job"]["dataset"]), str(record["dataset"]["digest"])
    return (name, digest) if re.fullmatch("[0-9a-f]{64}", digest) else None


# The cache


def verify_cache(name: str, digest: str, cache: Path) -> list[RunCheck]:
    """The verdicts on the prepared arrays, features and classifiers of a dataset; all their files are read whole."""
    key = "[0-9a-f]{16}"
    found = _cached("dataset", cache / "datasets", f"{re.escape(name)}-{key}", _is_dataset, digest)
    if not found:
        absent = Fault("dataset.json", "not in the cache")
        found = [RunCheck(f"{name} {digest[:12]}", "absent", [absent], kind="dataset")]
    features = rf".+-{re.escape(name)}-(train|test)-{key}\.json"
    found += _cached("features", cache / "features", features, _are_features, digest)
    return found + _cached("classifier", cache / "classifiers", f"{digest[:32]}-.*", _is_classifier, digest)


def _cached(
    kind: str, folder: Path, pattern: str, check: Callable[[Path, str], bool], digest: str
) -> list[RunCheck]:  # fmt: skip
    """The verdicts on a part of the cache, as far as it belongs to the dataset with the digest."""
    try:
        paths = listed(folder)
    except EnvironmentProblem as error:
        return [_unread(folder, error, kind)]
    found = []
    for path in (path for path in paths if re.fullmatch(pattern, path.name)):
        try:
            if check(path, digest):
                found.append(RunCheck(str(path), "ok", kind=kind))
        except CorruptData as error:
            found.append(RunCheck(str(path), "wrong", [Fault(path.name, error.message)], error.hint, kind))
    return found


def _is_dataset(folder: Path, digest: str) -> bool:
    about = read_about(folder)
    if about["digest"] != digest and "files" in about:
        return False
    return bool(read_whole(folder)["digest"] == digest)


def _are_features(file: Path, digest: str) -> bool:
    tensors = file.with_suffix(".safetensors")
    fix = removal(file, tensors, then="then run again: they are computed anew")
    about = read_sealed(file, fix, required=False)
    if about.get("dataset") != digest or "pixels" not in about:  # a version asks for these no more
        return False
    check_digest(tensors, str(about.get("sha256")), file.name, fix)
    return True


def _is_classifier(folder: Path, digest: str) -> bool:
    file, fix = folder / "classifier.json", removal(folder, then="then run again: it is trained anew")
    with reading(file):
        if not file.exists():
            return False
    about = read_sealed(file, fix, required=False)
    check_digest(file.with_suffix(".safetensors"), str(about.get("sha256")), file.name, fix)
    return True


def _guarded(faults: list[Fault], file: str, check: Callable[[], T]) -> T | None:
    """The result of `check`; if it raises, add the fault that the file is not readable, and return None."""
    try:
        return check()
    except (CorruptData, EnvironmentProblem) as error:
        faults.append(Fault(file, error.message, "" if error.hint.startswith("`rm ") else error.hint))
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        problem = denial(error) if isinstance(error, PermissionError) else None
        faults.append(Fault(file, f"not readable: {describe(error)}", problem.hint if problem else ""))
    return None


def _record(folder: Path, faults: list[Fault]) -> Record:
    """The record, checked against its digest."""
    text = (folder / "record.json").read_bytes()
    record = Record.from_json(text.decode("utf-8"), folder / "record.json")
    if "digest" not in json.loads(text) and record.files:
        faults.append(Fault("record.json", "its digest is missing"))
    elif not is_sealed(text):
        faults.append(Fault("record.json", CHANGED))
    return record


def _numbers(folder: Path, record: Record) -> Iterator[Fault]:
    """Check protocols against their fingerprints, and measurements against their protocols."""
    for key, settings in record.protocols.items():
        if digests.settings_digest(settings)[: len(key)] != key or len(key) < 12:
            yield Fault("record.json", f"protocol {key}: not the fingerprint of its settings")
        if settings.get("dataset", record.dataset.digest) != record.dataset.digest:
            yield Fault("record.json", f"protocol {key}: belongs to another dataset")
    keys = Counter((m.metric, m.protocol) for m in record.measurements)
    for metric, protocol in keys:
        if protocol not in record.protocols:
            yield Fault("record.json", f"{metric}: its protocol {protocol} is not in the record")
        if keys[metric, protocol] > 1:
            yield Fault("record.json", f"{metric}: measured twice under protocol {protocol}")
    for unused in record.protocols.keys() - {protocol for _, protocol in keys}:
        yield Fault("record.json", f"protocol {unused}: no measurement has it")
    for m in record.measurements:
        value = m.value
        if m.stderr is not None and m.stderr < 0:
            yield Fault("record.json", f"{m.metric}: a negative standard error")
        if value is not None and m.interval and not m.interval[0] <= value <= m.interval[1]:
            yield Fault("record.json", f"{m.metric}: outside its interval")
        terms = m.parts if value is not None and "real" not in m.parts else {}
        if value is not None and terms and abs(math.fsum(terms.values()) - value) > TOLERANCE * max(1, abs(value)):
            yield Fault("record.json", f"{m.metric}: its parts do not sum to it")


def _samples(folder: Path, record: Record) -> Iterator[Fault]:
    """Check samples.npy, and what the samples were drawn under, against samples.json and the record."""
    about = read_samples_about(folder)
    if about is None:
        if record.status == "complete" and not record.draws_nothing:
            yield Fault("samples.json", "missing, though the run is complete")
        return
    if record.status == "complete" and about.key != record.samples.key:
        yield Fault("samples.json", "describes other samples than record.json")
    file = folder / "samples.npy"
    if not file.exists():
        yield Fault("samples.npy", "missing")
        return
    if digests.file_digest(file) != about.sha256:
        yield Fault("samples.npy", "its SHA-256 is not what samples.json says")
        return
    images = store.read_array(file)
    wanted = (record.samples.count, *record.dataset.shape)
    if record.status == "complete" and (images.dtype != np.uint8 or images.shape != wanted):
        yield Fault("samples.npy", f"{images.dtype} {images.shape}, but the record says uint8 {wanted}")
    yield from _conditions(folder, record, len(images))


def _conditions(folder: Path, record: Record, count: int) -> Iterator[Fault]:
    """What the samples were drawn under: classes, or places of test images."""
    dataset, stamp = record.dataset, record.samples
    for name, promised, limit, what in (
        (CONDITIONS["labels"], stamp.labels != "none", dataset.num_classes, "classes"),
        (CONDITIONS["conditions"], bool(stamp.conditions), dataset.counts["test"], "places"),
    ):
        if not (folder / name).exists():
            if promised:
                yield Fault(name, "missing")
            continue
        try:
            numbers = store.read_array(folder / name)
        except CorruptData as error:
            yield Fault(name, f"not readable: {error}")
            continue
        sound = numbers.dtype.kind in "iu" and numbers.shape == (count,)
        if not sound or (count and not 0 <= numbers.min() <= numbers.max() < limit):
            yield Fault(name, f"not {count} {what} from {limit}")


def _job(folder: Path, record: Record) -> Iterator[Fault]:
    """Check job.json against the record; ids only if this version of genbench made them."""
    from genbench.records.job import read_job

    job = read_job(folder)
    if record.environment.genbench == __version__ and job.id != record.job.id:
        yield Fault("job.json", f"its id is {job.id}, the record's {record.job.id}")
    if (job.model, job.seed, job.dataset_digest) != (record.job.model, record.job.seed, record.dataset.digest):
        yield Fault("job.json", "names another model, seed or dataset than record.json")


def _progress(folder: Path, record: Record) -> Iterator[Fault]:
    """Check the lines of progress.jsonl; a truncated last line is not a fault."""
    from genbench.records.run_folder import read_progress

    read_progress(record)
    yield from ()


def _listed(folder: Path, record: Record) -> Iterator[Fault]:
    """Check every file against its digest in the record; a whole checkpoint may have been removed."""
    for name, expected in record.files.items():
        file = inside(folder, name)
        if file.is_file():
            if digests.file_digest(file) != expected:
                yield Fault(name, "its SHA-256 is not what record.json says")
        elif file.name != MANIFEST or file.parent.exists():
            yield Fault(name, "missing")


def _manifest(folder: Path, manifest: Path) -> Iterator[Fault]:
    """Check the files that a manifest lists against its digests."""
    for name, expected in read_manifest(manifest.parent)["files"].items():
        file = inside(manifest.parent, name)
        if not file.is_file() or digests.file_digest(file) != expected:
            where = file.relative_to(folder).as_posix()
            yield Fault(where, f"{'not what' if file.is_file() else 'missing, but in'} {MANIFEST}")
