"""Tables and reports of many records: seconds and peak memory of the commands, as a user runs them.

    python benchmarks/store.py                                  # 10,000 records, a few minutes and 1.5 GB of disk
    python benchmarks/store.py --records 1000 --from runs       # made from the runs in a folder
    python benchmarks/store.py --tables 3 --reports 30          # other limits, in seconds

The records are those of a tiny real run on the digits (or of `--from`), repeated with other labels, datasets, budgets,
protocols, seeds and values, each with its curve, learning curve and samples; some failed or diverged. Exits with 1 if a
command takes more time or memory than it may.
"""

from __future__ import annotations

import argparse
import itertools
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from genbench.records.record import Failure, Measurement, Record
from genbench.records.record_files import load_records
from genbench.support.digests import digest, settings_digest

BUDGETS, PROTOCOLS = 2, 2
FAILED, DIVERGED = 0.02, 0.03
"""Shares of the records, in [0, 1]."""
TINY = (
    "-m", "vae", "-m", "gaussian", "--set", "vae.preset=tiny", "-d", "digits", "--budget", "200steps",
    "--samples", "100", "--likelihood-images", "50", "--curve", "3", "--device", "cpu",
)  # fmt: skip


@dataclass(frozen=True)
class Limits:
    """What one command may take."""

    seconds: float
    memory: float
    """Peak resident memory, in GB of 10^9 bytes."""


@dataclass(frozen=True)
class Taken:
    """What one command took: wall seconds, CPU seconds, and peak resident bytes."""

    name: str
    seconds: float
    processor: float
    peak_bytes: int

    def within(self, limits: Limits) -> bool:
        return self.seconds <= limits.seconds and self.peak_bytes <= limits.memory * 1e9


def run_tiny(out: Path) -> None:
    """A real run of two models and the reference rows."""
    subprocess.run(
        [sys.executable, "-m", "genbench", "run", *TINY, "--out", out], check=True, stdout=subprocess.DEVNULL
    )


def write_store(template: Path, out: Path, count: int, labels: int, datasets: int) -> None:
    """Make `count` run folders from those below `template`, with as many seeds of every row as it takes."""
    records = load_records([template])
    models = [record for record in records if record.job.model not in ("real", "noise")]
    references = [record for record in records if record.job.model in ("real", "noise")]
    groups = list(itertools.product(range(datasets), range(PROTOCOLS)))
    for dataset, protocol in groups:
        for record in references:
            write_run(varied(record, record.job.label, dataset, protocol, 0, 0), record.folder, out)
    rows = itertools.cycle(itertools.product(range(labels), range(BUDGETS), groups))
    for number, (label, budget, (dataset, protocol)) in zip(range(count - len(groups) * len(references)), rows):
        record = models[label % len(models)]
        seed = number // (labels * BUDGETS * len(groups))
        name = f"{record.job.label}-{label:02}"
        write_run(varied(record, name, dataset, protocol, budget, seed), record.folder, out)


def varied(record: Record, label: str, dataset: int, protocol: int, budget: int, seed: int) -> Record:
    """The record with another label, dataset, protocol, budget and seed, and its own values."""
    level = np.random.default_rng([*label.encode(), dataset, budget]).uniform(0.6, 1.6)
    stream = np.random.default_rng([*label.encode(), dataset, budget, seed])
    fate, factor = stream.uniform(), float(level * stream.normal(1.0, 0.05))
    is_model = record.job.model not in ("real", "noise")
    status = "diverged" if fate < DIVERGED else "failed" if fate < DIVERGED + FAILED else "complete"
    status = status if is_model else "complete"
    protocols, names = {}, {}
    for name, settings in record.protocols.items():
        changed = {**settings, "dataset": digest(bytes([dataset])), "seed": 2020 + protocol}
        names[name] = settings_digest(changed)[:12]
        protocols[names[name]] = changed
    longer = record.job.budget.model_copy(update={"amount": record.job.budget.amount * (1 + budget)})
    job = {"label": label, "dataset": f"digits-{dataset}", "seed": seed, "budget": longer}
    key = settings_digest({**job, "budget": longer.model_dump(), "protocol": protocol})[:10]
    failure = Failure(type="Diverged", message=f"the loss of phase 'train' is not finite at step {seed}", hook="train")
    ok = status == "complete"
    return record.model_copy(
        update={
            "status": status, "error": None if ok else failure,
            "job": record.job.model_copy(update={**job, "id": f"{label}-digits-{dataset}-seed{seed}-{key}"}),
            "samples": record.samples.model_copy(update={"key": f"{record.samples.key}-{protocol}"}),
            "dataset": record.dataset.model_copy(
                update={"name": f"digits-{dataset}", "digest": digest(bytes([dataset]))}
            ),
            "measurements": list(rescaled(record.measurements, factor, names)) if ok else [],
            "curve": [
                point.model_copy(update={"measurements": list(rescaled(point.measurements, factor, names))})
                for point in record.curve
            ] if ok else [],
            "protocols": protocols if ok else {},
        }
    )  # fmt: skip


def rescaled(measurements: Iterable[Measurement], factor: float, names: dict[str, str]) -> Iterable[Measurement]:
    """The measurements scaled by a factor, under other protocols."""
    for m in measurements:
        value = None if m.value is None else m.value * factor
        interval = m.interval and (m.interval[0] * factor, m.interval[1] * factor)
        yield m.model_copy(update={"value": value, "interval": interval, "protocol": names[m.protocol]})


def write_run(record: Record, template: Path | None, out: Path) -> None:
    """Write the run folder: the record, and the template's samples and learning curve."""
    folder = out / record.job.id
    folder.mkdir(parents=True)
    (folder / "record.json").write_text(record.to_json(), encoding="utf-8")
    for name in ("samples.npy", "progress.jsonl"):
        if template and (template / name).is_file():
            (folder / name).write_bytes((template / name).read_bytes())


def measure(name: str, *arguments: str | Path) -> Taken:
    """Run a command in its own process. Raises CalledProcessError if it fails."""
    began = time.perf_counter()
    process = subprocess.Popen([sys.executable, "-m", "genbench", *arguments], stdout=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    seconds = time.perf_counter() - began
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise subprocess.CalledProcessError(process.returncode, process.args)
    scale = 1 if sys.platform == "darwin" else 1024
    return Taken(name, seconds, usage.ru_utime + usage.ru_stime, usage.ru_maxrss * scale)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--records", type=int, default=10_000)
    parser.add_argument("--labels", type=int, default=20)
    parser.add_argument("--datasets", type=int, default=5)
    parser.add_argument("--from", dest="template", type=Path, help="a folder of runs to make the records from")
    parser.add_argument("--tables", type=float, default=5.0, help="seconds that `genbench table` may take")
    parser.add_argument("--reports", type=float, default=60.0, help="seconds that `genbench report` may take")
    parser.add_argument("--memory", type=float, default=1.0, help="GB that each may take at its peak")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        runs = Path(folder) / "runs"
        if options.template is None:
            run_tiny(Path(folder) / "tiny")
        template = options.template or Path(folder) / "tiny"
        write_store(template, runs, options.records, options.labels, options.datasets)
        print(f"{options.records:,} records")
        limits = {"table": Limits(options.tables, options.memory), "report": Limits(options.reports, options.memory)}
        good = True
        for taken in (measure("table", "table", runs), measure("report", "report", runs, "-o", Path(folder) / "out")):
            fits = taken.within(limits[taken.name])
            good = good and fits
            print(
                f"{taken.name:8} {taken.seconds:7.2f} s  processor {taken.processor:7.2f} s  "
                f"peak {taken.peak_bytes / 1e9:.2f} GB{'' if fits else '  TOO MUCH'}"
            )
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
