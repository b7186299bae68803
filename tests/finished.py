"""Helpers about finished runs: find one, read its record and its numbers."""

import contextlib
import hashlib
import json

from click.testing import CliRunner

from genbench.support.sealed import write_sealed

SMALL = ["-d", "digits", "--budget", "20steps", "--samples", "100", "--likelihood-images", "40", "--device", "cpu"]


def run_here(*words, at="."):
    """Run `genbench WORDS` in a folder, for a fixture: in this process, whose server of jobs has started long since."""
    from genbench.cli.main import cli

    with contextlib.chdir(at):
        done = CliRunner().invoke(cli, [*map(str, words)], catch_exceptions=False)
    assert done.exit_code == 0, done.output


def run_of(runs, label):
    (folder,) = runs.glob(f"{label}-*")
    return folder


def times(runs):
    """When each file was last written, locks apart."""
    return {file: file.stat().st_mtime_ns for file in runs.glob("*/*.*") if file.name != ".lock"}


def record_of(folder):
    return json.loads((folder / "record.json").read_text())


def numbers(record, extractor="digits-classifier-v1"):
    """(metric, protocol) -> value of all that was measured in the features of an extractor."""
    return {
        (m["metric"], m["protocol"]): m["value"]
        for m in record["measurements"]
        if (record["protocols"][m["protocol"]].get("extractor") or {}).get("name") == extractor
    }


def digest(file):
    return hashlib.sha256(file.read_bytes()).hexdigest() if file.exists() else None


TIMED = ("job.json", "manifest.json", "progress.jsonl", "record.json", "samples.json", ".lock")
"""The files of a run that tell of seconds, or of where it lies."""


def contents(folder):
    """What a run leaves, but for seconds: digests of files by path, the learning curve, and what each phase counted."""
    files = {file.relative_to(folder): digest(file) for file in folder.rglob("*") if file.is_file()}
    lines = map(json.loads, (folder / "progress.jsonl").read_text().splitlines())
    curve = [{key: value for key, value in line.items() if key != "seconds"} for line in lines]
    phases = record_of(folder)["cost"]["train"]["phases"]
    counts = {name: [phase[key] for key in ("images", "updates", "flops")] for name, phase in phases.items()}
    return {path: found for path, found in files.items() if path.name not in TIMED}, curve, counts


def rewrite_sealed(file, change):
    """Change a JSON file as a program would that also renews its digest."""
    plain = json.loads(file.read_text())
    plain.pop("seal", None)
    change(plain)
    write_sealed(file, plain)


def essence(out):
    """What a run is, by label: all that was measured, and the digests of its samples and of its weights."""
    found = {}
    for file in out.glob("*/record.json"):
        record, folder = json.loads(file.read_text()), file.parent
        assert record["status"] == "complete"
        stamps = [record[key] for key in ("job", "samples", "dataset", "measurements", "protocols", "extractors")]
        weights = digest(folder / "checkpoint" / "latest" / "ema.safetensors")
        found[record["job"]["label"]] = (stamps, digest(folder / "samples.npy"), weights)
    return found
