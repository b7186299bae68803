"""Compare the numbers of two checkouts: the samples and measurements that a change to the code must not move.

Each shipped model is run in both checkouts, in the preset `tiny` if it has one, conditional and unconditional, on one
thread with one seed, and so are the reference rows. For each row it compares the bytes of samples.npy and labels.npy
and all measurements with the settings behind them, including those during training. Exits with 1 if anything differs.

    python tools/same_numbers.py ../before .                      # all shipped models: a few minutes
    python tools/same_numbers.py ../before . -m gan -m gaussian   # these
    python tools/same_numbers.py ../before . --keep numbers       # the runs stay in numbers/before and numbers/after

The Python that runs it must have some genbench installed; the code of each checkout takes precedence over it.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

MODELS = ("ddpm", "ldm", "gan", "vae", "flow", "score", "gaussian")
FILES = ("samples.npy", "labels.npy")
FIELDS = ("status", "count", "value", "stderr", "interval")
"""The fields of a measurement that are compared, besides the settings behind it."""
SHOWN = 8
"""Differences listed per row."""

Key = tuple[str, str, bool, int]
"""Label, dataset, whether it is conditional, and seed: what identifies a row, whichever code made it."""


@dataclass(frozen=True)
class Row:
    """A finished run: its folder and its record."""

    folder: Path
    record: dict[str, Any]

    def numbers(self) -> dict[str, dict[str, Any]]:
        """Fields and settings of every measurement, by metric, extractor and point of the learning curve."""
        found: dict[str, dict[str, Any]] = {}
        points = [(f" at {point['share']:.0%}", point["measurements"]) for point in self.record.get("curve") or []]
        for where, measurements in [("", self.record["measurements"]), *points]:
            for each in measurements:
                settings = self.record["protocols"][each["protocol"]]
                extractor = (settings.get("extractor") or {}).get("name")
                name = each["metric"] + (f" ({extractor})" if extractor else "") + where
                while name in found:
                    name += " again"
                found[name] = {field: each[field] for field in FIELDS} | flat(settings, "settings")
        return found


def flat(value: Any, name: str) -> dict[str, Any]:
    """Nested tables as a flat one with dotted names."""
    if not isinstance(value, dict):
        return {name: value}
    return {key: leaf for part in value for key, leaf in flat(value[part], f"{name}.{part}").items()}


def rows(out: Path) -> dict[Key, Row]:
    """The rows in a folder of run folders."""
    found = {}
    for file in sorted(out.glob("*/record.json")):
        record = json.loads(file.read_text(encoding="utf-8"))
        job = record["job"]
        found[job["label"], job["dataset"], job["conditional"], job["seed"]] = Row(file.parent, record)
    return found


def differences(before: Row, after: Row) -> Iterator[str]:
    """The differences between two rows, one per line."""
    status = before.record["status"], after.record["status"]
    if status != ("complete", "complete"):
        yield f"status: {status[0]} -> {status[1]}"
        return
    for name in FILES:
        first, second = (row.folder / name for row in (before, after))
        if first.exists() != second.exists():
            yield f"{name}: only {'before' if first.exists() else 'after'}"
        elif first.exists() and first.read_bytes() != second.read_bytes():
            yield f"{name}: other bytes"
    old, new = before.numbers(), after.numbers()
    for name in dict.fromkeys([*old, *new]):
        if name not in old or name not in new:
            yield f"{name}: only {'before' if name in old else 'after'}"
            continue
        for field in dict.fromkeys([*old[name], *new[name]]):
            pair = old[name].get(field), new[name].get(field)
            if pair[0] != pair[1]:
                yield f"{name}, {field}: {pair[0]} -> {pair[1]}"


def report(before: dict[Key, Row], after: dict[Key, Row]) -> int:
    """Print each row and its differences; returns the number of rows that differ."""
    differing = 0
    for key in dict.fromkeys([*before, *after]):
        label, dataset, conditional, seed = key
        row = f"{label} on {dataset}, {'conditional, ' if conditional else ''}seed {seed}"
        if key in before and key in after:
            found = list(differences(before[key], after[key]))
        else:
            found = [f"only {'before' if key in before else 'after'}"]
        differing += bool(found)
        print(f"{'differs' if found else 'equal':9}{row}")
        for line in found[:SHOWN]:
            print(f"{'':9}  {line}")
        if len(found) > SHOWN:
            print(f"{'':9}  and {len(found) - SHOWN} more")
    return differing


class Checkout:
    """The code in a folder, run in its own process with its own cache."""

    def __init__(self, source: Path, folder: Path) -> None:
        self.source, self.folder = source.resolve(), folder
        folder.mkdir(parents=True)
        self.environment = {name: value for name, value in os.environ.items() if not name.startswith("GENBENCH_")} | {
            "PYTHONPATH": f"{self.source}:{self.source / 'plugins'}", "PYTHONDONTWRITEBYTECODE": "1",
            "OMP_NUM_THREADS": "1", "GENBENCH_CACHE": str(folder / "cache"), "MPLBACKEND": "Agg",
        }  # fmt: skip
        imported = self.python("-c", "import genbench; print(genbench.__file__)").strip()
        if not Path(imported).is_relative_to(self.source):
            raise SystemExit(f"{source}: not a checkout of genbench, for its Python imports {imported}")

    def python(self, *words: str, allowed: tuple[int, ...] = (0,)) -> str:
        """What `python WORDS` prints. Ends the tool if the exit code is not an allowed one."""
        done = subprocess.run(
            [sys.executable, *words], cwd=self.folder, env=self.environment, capture_output=True, text=True
        )
        if done.returncode not in allowed:
            raise SystemExit(f"{self.source}: python {' '.join(words)}\n{done.stderr}")
        return done.stdout

    def run(self, models: list[str], options: list[str]) -> dict[Key, Row]:
        """Run the models, also conditionally if a model can be conditional, and return the rows."""
        known = {model["name"]: model for model in json.loads(self.python("-m", "genbench", "models", "--json"))}
        if missing := [name for name in models if name not in known]:
            raise SystemExit(f"{self.source}: no model named {', '.join(missing)}")
        for names, extra in (
            (models, []),
            ([name for name in models if known[name]["conditional"]], ["--conditional"]),
        ):
            chosen = [word for name in names for word in ("-m", name)]
            tiny = [f"{name}.preset=tiny" for name in names if "tiny" in known[name]["presets"]]
            presets = [word for setting in tiny for word in ("--set", setting)]
            if names:  # a failed run is a row as well
                self.python("-m", "genbench", "run", *chosen, *presets, *options, *extra, allowed=(0, 1))
        return rows(self.folder / "runs")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("before", type=Path, help="a checkout")
    parser.add_argument("after", type=Path, help="another")
    parser.add_argument("-m", dest="models", action="append", metavar="MODEL", help=f"by default {' '.join(MODELS)}")
    parser.add_argument("--budget", default="40steps", help="of training (40steps); not in seconds, which never repeat")
    parser.add_argument("--keep", type=Path, metavar="DIR", help="a new folder for the runs")
    chosen = parser.parse_args()
    if chosen.budget.endswith("s") and chosen.budget[:-1].replace(".", "").isdigit():
        parser.error("a budget in seconds never trains the same twice: give steps")
    options = ["-d", "digits", "--seeds", "0,", "--budget", chosen.budget, "--samples", "200", "--likelihood-images",
               "40", "--curve", "2", "--device", "cpu", "--precision", "fp32", "--out", "runs"]  # fmt: skip
    with tempfile.TemporaryDirectory() as scratch:
        folder = (chosen.keep or Path(scratch) / "numbers").resolve()
        if folder.exists():
            parser.error(f"{folder} exists already")
        found = []
        for name, source in (("before", chosen.before), ("after", chosen.after)):
            print(f"running {source} ({name})", file=sys.stderr)
            found.append(Checkout(source, folder / name).run(chosen.models or list(MODELS), options))
        differing = report(*found)
    print(f"{differing} rows differ" if differing else "all rows are equal")
    return min(differing, 1)


if __name__ == "__main__":
    sys.exit(main())
