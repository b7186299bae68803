"""Run folders, records, checkpoints, reports and caches; `runs` has a finished `model`, `real` and `noise`."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from finished import rewrite_sealed

from bad_input.case import RUN, Case, Content, put

PLANTED = b"\x80\x04cposix\nsystem\n(S'touch planted'\ntR."
LATEST = "runs/model/checkpoint/latest"
RECORD = "runs/model/record.json"


def at(words: str, code: int, file: str, content: Content, *texts: str, **more: str) -> Case:
    """A command over the runs, one of whose files is another."""
    return Case(words, code, texts, {file: content}, runs=True, **more)


def beside(file: str, content: Content, *texts: str) -> Case:
    """A table of the runs, one of whose records is another: the others are shown."""
    return at("table runs", 3, file, content, "genbench verify", *texts, shown="noise")


def without(file: str, content: Content, *texts: str) -> Case:
    """A report of the runs, of one of which a file beside its record is another: its pages are written without that."""
    return at("report runs -o pages", 3, file, content, *texts, shown="pages/index.html", made="pages")


def edited(change: Callable[[dict[str, Any]], object]) -> Content:
    def rewrite(path: Path) -> None:
        plain = json.loads(path.read_text())
        change(plain)
        path.write_text(json.dumps(plain))

    return rewrite


def resealed(change: Callable[[dict[str, Any]], object]) -> Content:
    return lambda path: rewrite_sealed(path, change)


def record(change: Callable[[dict[str, Any]], object], *texts: str) -> Case:
    return at("table runs", 3, RECORD, edited(change), "model/record.json", *texts, shown="noise")


def cut(share: float) -> Content:
    return lambda path: path.write_bytes(path.read_bytes()[: int(share * path.stat().st_size)])


def swapped(old: bytes, new: bytes) -> Content:
    return lambda path: path.write_bytes(path.read_bytes().replace(old, new, 1))


def alone(content: Content) -> Content:
    """A change of the latest checkpoint while there is no previous one."""

    def change(path: Path) -> None:
        import shutil

        shutil.rmtree(path.parent.with_name("previous"), ignore_errors=True)
        put(path, content)

    return change


def sampled(file: str, content: Content, *texts: str, code: int = 3) -> Case:
    """`genbench sample` from a run whose only checkpoint has another file."""
    return at(SAMPLE, code, f"{LATEST}/{file}", alone(content), *texts)


def removed(path: Path) -> None:
    path.unlink()


def link(target: str) -> Content:
    def replace(path: Path) -> None:
        path.unlink(missing_ok=True)
        path.symlink_to(target)

    return replace


def vouched(name: str, content: bytes) -> Content:
    """A file of the checkpoint replaced, and the manifest's digest of it too."""

    def replace(path: Path) -> None:
        import hashlib

        (path.parent / name).write_bytes(content)
        rewrite_sealed(path, lambda plain: plain["files"].update({name: hashlib.sha256(content).hexdigest()}))

    return replace


def tensors(**arrays: np.ndarray) -> bytes:
    from safetensors.numpy import save

    return save(arrays)


def cached(file: str, content: Content, *texts: str) -> Case:
    """A run on the prepared digits, one of whose files is another."""
    return Case(RUN, 3, (file, *texts), {f"cache/datasets/digits/{file}": content})


SAMPLE, AGAIN = "sample runs/model -o x.npy", "evaluate runs/model --extractor digits-classifier-v1"
CASES = {
    "a folder without runs": Case("table empty", 2, ("empty", "no run here"), {"empty": None}),
    "a folder that is not there": Case("table nowhere", 2, ("nowhere", "no such file or folder")),
    "a report of nothing": Case("report empty -o x", 2, ("empty", "no run here"), {"empty": None}),
    "a verification of nothing": Case("verify nowhere", 2, ("nowhere", "no such file or folder")),
    "a comparison with nothing": Case("compare runs/model nowhere", 2, "nowhere", runs=True),
    "a comparison with several": Case("compare runs/model runs", 2, ("4 runs", "one run folder"), runs=True),
    "a comparison with an unknown label": Case("compare runs --labels gausian real", 2, ("gausian", "gaussian"), runs=True),
    "a comparison with oneself": Case("compare runs --labels real real", 2, ("twice", "real"), runs=True),
    "columns and a layout": Case("table runs --columns fid --layout cost", 2, ("--columns", "--layout"), runs=True),
    "a column that is none": Case("table runs --columns fid,fdi", 2, ("fdi", "fid"), runs=True),
    "samples of nothing": Case("sample nowhere", 2, "nowhere"),
    "samples of real images": Case("sample runs/real", 2, ("runs/real", "no model"), runs=True),
    "an empty record": beside(RECORD, "", "model/record.json", "line 1"),
    "half a record": beside(RECORD, cut(0.5), "model/record.json", "line"),
    "a binary record": beside(RECORD, b"\x00\xff\xfe", "model/record.json", "UTF-8"),
    "a record that is a list": beside(RECORD, "[]", "model/record.json", "not an object"),
    "a record that is a folder": beside("runs/other/record.json", None, "other/record.json"),
    "a record nested too deeply": beside(RECORD, "[" * 100_000, "model/record.json", "nested"),
    "NaN in a record": beside(RECORD, '{"schema": 1, "status": NaN}', "NaN is not JSON"),
    "a record of a newer version": record(lambda r: r.update(schema=99), "schema 99", "upgrade genbench"),
    "a record without version": record(lambda r: r.pop("schema"), "schema None"),
    "a version in words": record(lambda r: r.update(schema="1"), "schema '1'"),
    "a record without its job": record(lambda r: r.pop("job"), "job", "missing"),
    "a seed in words": record(lambda r: r["job"].update(seed="first"), "job.seed"),
    "an unknown status": record(lambda r: r.update(status="won"), "status", "complete"),
    "a value without its reason": record(lambda r: r["measurements"][0].update(value=None), "measurements.0"),
    "a value in words": record(lambda r: r["measurements"][0].update(value="low"), "measurements.0.value"),
    "a shape of two": record(lambda r: r["dataset"].update(shape=[8, 8]), "dataset.shape"),
    "two broken records": Case(
        "table runs", 3, ("model/record.json", "real/record.json"), {RECORD: "", "runs/real/record.json": "{"}, runs=True,
        shown="noise",
    ),
    "a record that was changed": record(lambda r: r["measurements"][0].update(value=1.0), "changed since", "genbench verify"),
    "a digit of a record": beside(RECORD, swapped(b'"seed": 0', b'"seed": 1'), "model/record.json", "changed since"),
    "no record that can be read": Case(
        "table runs", 3, ("model/record.json", "real/record.json", "noise/record.json", "fix all 4: `rm -rf runs/", "genbench verify"),
        {RECORD: "", "runs/real/record.json": "{", "runs/noise/record.json": b"\xff",
         "runs/copies/record.json": "[]"}, runs=True,
    ),
    "a report of a broken record": at(
        "report runs -o pages", 3, RECORD, "{", "model/record.json", shown="pages/index.html", made="pages"
    ),
    "a report of no record that can be read": at("report runs/model -o pages", 3, RECORD, "{", "model/record.json"),
    "a comparison with a broken record": at("compare runs/model runs/real", 3, RECORD, "{", "model/record.json"),
    "a comparison of two broken records": Case(
        "compare runs/model runs/real", 3, ("model/record.json", "real/record.json"),
        {RECORD: "", "runs/real/record.json": "{"}, runs=True,
    ),
    "samples of a broken record": at(SAMPLE, 3, RECORD, "{", "model/record.json"),
    "a run again over a broken record": at(AGAIN, 3, RECORD, "{", "model/record.json"),
    "an unreadable record": Case(
        "table runs", 4, ("model/record.json", "Permission denied"), {}, denied="runs/model/record.json", runs=True, shown="noise",
    ),
    "a learning curve broken in the middle": without(
        "runs/model/progress.jsonl", '{"step": 1}\n{"st\n{"step": 3}\n', "progress.jsonl", "SHA-256"
    ),
    "samples of another shape": without("runs/model/samples.npy", np.zeros((3, 9, 9), np.uint8), "samples.npy", "SHA-256"),
    "samples that are no array": without("runs/model/samples.npy", "x", "samples.npy", "SHA-256"),
    "samples that are objects": without(
        "runs/model/samples.npy", np.array([{}], dtype=object), "samples.npy", "SHA-256"
    ),
    "samples that are a pickle": without("runs/model/samples.npy", PLANTED, "samples.npy"),
    "samples behind a link out of the run": without("runs/model/samples.npy", link("/dev/zero"), "samples.npy", "link"),
    "samples that were changed": at(AGAIN, 3, "runs/model/samples.npy", cut(0.9), "samples.npy", "SHA-256"),
    "samples that are gone": at(AGAIN, 3, "runs/model/samples.npy", removed, "samples.npy", "missing"),
    "a description of samples that is none": at(AGAIN, 3, "runs/model/samples.json", "[]", "samples.json"),
    "a lock behind a link out of the run": Case(
        AGAIN, 3, (".lock", "link"), {"victim": "precious", "runs/model/.lock": link("../../victim")}, runs=True
    ),
    "a job that is gone": at(SAMPLE, 3, "runs/model/job.json", removed, "job.json", "missing"),
    "a job that is no JSON": at(SAMPLE, 3, "runs/model/job.json", "{", "job.json", "not JSON"),
    "a job that is a list": at(SAMPLE, 3, "runs/model/job.json", "[]", "job.json", "not an object"),
    "a job with another option": at(
        SAMPLE, 3, "runs/model/job.json", resealed(lambda j: j["config"].update(width=3)), "job.json", "width"
    ),
    "a job with a plugin of its own": at(
        SAMPLE, 2, "runs/model/job.json", resealed(lambda j: j["runtime"].update(plugins=["evil.py"]) or j.update(model="evil")),
        "evil", "--plugin",
    ),
    "no weights": sampled("manifest.json", removed, "runs/model", "no trained weights", code=2),
    "a manifest that is no JSON": sampled("manifest.json", "{", "manifest.json", "not JSON"),
    "a manifest that is a list": sampled("manifest.json", "[]", "manifest.json", "not an object"),
    "a manifest of no digests": sampled("manifest.json", '{"files": ["ema.safetensors"], "state": {}}', "manifest.json"),
    "a manifest with a path upward": sampled("manifest.json", '{"files": {"../../../../x.safetensors": "00"}, "state": {}}', "../../../../x.safetensors"
    ),
    "a manifest with an absolute path": sampled("manifest.json", '{"files": {"/etc/passwd": "00"}, "state": {}}', "/etc/passwd"
    ),
    "weights of no bytes": sampled("ema.safetensors", b"", "ema.safetensors", "manifest"),
    "weights cut short": sampled("ema.safetensors", cut(0.5), "ema.safetensors", "manifest"),
    "weights that are a page": sampled("manifest.json", vouched("ema.safetensors", b"<html>"), "ema.safetensors"),
    "weights that are a pickle": sampled("manifest.json", vouched("ema.safetensors", PLANTED), "ema.safetensors"),
    "weights of another model": sampled("manifest.json", vouched("ema.safetensors", tensors(other=np.zeros(3, np.float32))), "ema", "mean", "other"
    ),
    "weights of another shape": sampled("manifest.json", vouched("ema.safetensors", tensors(mean=np.zeros(3, np.float32), log_std=np.zeros(3, np.float32))), "mean",
    ),
    "weights that are not finite": sampled("manifest.json", vouched("ema.safetensors", tensors(mean=np.full((1, 8, 8), np.nan, np.float32), log_std=np.zeros((1, 8, 8), np.float32))),
        "finite",
    ),
    "labels of an unconditional run": Case(f"{SAMPLE} --labels 1", 2, ("--labels", "unconditional"), runs=True),
    "steps of a model without": Case(f"{SAMPLE} --steps 3", 2, ("--steps", "gaussian"), runs=True),
    "samples into no folder": Case("sample runs/model -o a-file/x.npy", 4, "a-file", {"a-file": ""}, runs=True),
    "samples over those of a run": Case("sample runs/model -o runs/model/samples.npy", 2, "a file of a run", runs=True),
    "a finished run as samples": Case("evaluate runs/model -d digits", 2, ("-d", "finished run"), runs=True),
    "a finished run in no features": Case("evaluate runs/model", 2, "--extractor NAME", runs=True),
    "a finished run in unknown features": Case("evaluate runs/model --extractor x", 2, "unknown extractor 'x'", runs=True),
    "a report onto a file": Case("report runs -o a-file", 2, ("a-file", "not a folder"), {"a-file": ""}, runs=True),
    "a report onto something else": Case(
        "report runs -o mine", 2, ("mine", "not a report"), {"mine/thesis.txt": "mine"}, runs=True
    ),
    "a report onto its runs": Case("report runs -o runs", 2, "not a report", runs=True),
    "prepared images that are gone": cached("train_images.npy", removed, "missing"),
    "prepared images that are a pickle": cached("train_images.npy", PLANTED, "SHA-256"),
    "prepared images of another shape": cached("train_images.npy", np.zeros((9, 1, 9, 9), np.uint8), "SHA-256"),
    "prepared images described by no JSON": cached("dataset.json", "{", "not JSON"),
    "prepared images described by a list": cached("dataset.json", "[]", "not"),
}  # fmt: skip
