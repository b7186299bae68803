"""What one GPU does with each family in eight minutes: one command, one table, and the records behind it.

    python benchmarks/gpu.py --data-root FOLDER_OF_CIFAR10
    python benchmarks/gpu.py -d mine --datasets mine.toml --limit 15m --out gpu      # a colour set of your own
    python benchmarks/gpu.py -d digits -m vae --preset tiny --budget 5s --limit 2m   # a try on a CPU

The most valuable comes first: a run of each family, with rates, memory and energy; what the harness adds to a bare
loop (`speed.py`); on a GPU the tests of `tests/test_cuda.py`; and what compiled networks gain. A stage that would not
end within the limit is left out, and one that is then under way is interrupted. Both are named, and the same command
goes on from there: what is done is not done again.

In the folder of `--out`: `runs/`, `speed.csv`, `table.csv`, `stages.csv` with the command, the seconds and the exit
code of each stage, and what each printed. Exit codes: 0, 1 if a stage failed, 130 if interrupted.
"""

from __future__ import annotations

import argparse
import csv
import os
import re
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import psutil
from speed import FAMILIES, SAMPLE, TRAIN, WHICH, add_row, known_rows

from genbench.data.entries import known_datasets
from genbench.devices import one_device
from genbench.records.budget import Budget
from genbench.support.errors import BadInput, GenbenchError, did_you_mean

if TYPE_CHECKING:
    import pandas as pd

HERE = Path(__file__).parent
RESERVE, FAREWELL = 15.0, 10.0
"""Seconds kept for the end: to interrupt a stage, which gets FAREWELL seconds to keep its state, and to print."""
AROUND, SPEED, TESTS, COMPILED = 25.0, 25.0, 60.0, 60.0
"""Seconds that a stage is expected to take: of a run those besides its training."""
COLUMNS = ("stage", "seconds", "code", "command")
"""Of the list of stages that have ended."""
LOOPS = {"cpu": ("3", "8", "1"), "cuda": ("20", "250", "3")}
"""Steps, samples and pairs of the timed loops, by the kind of device."""


@dataclass(frozen=True)
class Stage:
    """A command, and the seconds that it is expected to take."""

    name: str
    seconds: float
    command: tuple[str, ...]


def stages(words: argparse.Namespace) -> Iterator[Stage]:
    """All stages, the most valuable first."""
    budget, device = Budget.parse(words.budget), one_device(words.device)
    models = words.model or FAMILIES
    for name in models:
        seconds = (budget.amount if budget.is_timed else 0.0) + AROUND
        yield Stage(name, seconds, (sys.executable, "-m", "genbench", "run", *run_words(name, words)))
    known = known_datasets([words.datasets] if words.datasets else [])
    if words.dataset not in known:
        raise BadInput(f"unknown dataset {words.dataset!r}", did_you_mean(words.dataset, set(known)))
    shape = known[words.dataset].source.shape
    steps, samples, repeats = LOOPS[device.type]
    speed = (
        sys.executable, str(HERE / "speed.py"), "--image", "x".join(map(str, shape)), "--preset", words.preset,
        "--device", str(device), "--precision", words.precision, "--steps", steps, "--samples", samples, "--repeats",
        repeats, "--csv", str(words.out / "speed.csv"),
    )  # fmt: skip
    for name in models:
        yield Stage(f"{name}-speed", SPEED, (*speed, "-m", name))
    if device.type == "cuda":
        tests = str(HERE.parent / "tests" / "test_cuda.py")
        yield Stage("tests", TESTS, (sys.executable, "-m", "pytest", "-n", "0", "-m", "not slow", "-q", tests))
    for name in models:
        yield Stage(f"{name}-compiled", COMPILED, (*speed, "-m", name, "--compile"))


def run_words(name: str, words: argparse.Namespace) -> list[str]:
    """The words of `genbench run` for one model."""
    given = {"--datasets": words.datasets, "--data-root": words.data_root}
    return [
        "-m", name, "--set", f"{name}.preset={words.preset}", "-d", words.dataset, "--budget", words.budget,
        "--samples", str(words.samples), "--likelihood-images", "100", "--extractor", words.extractor,
        "--device", words.device, "--precision", words.precision, "--out", str(words.out / "runs"),
        *(word for option, value in given.items() if value is not None for word in (option, str(value))),
    ]  # fmt: skip


def running() -> float:
    """Seconds since this process was started, imports included."""
    return time.time() - psutil.Process().create_time()


def carry_out(todo: list[Stage], out: Path, limit: float) -> list[str]:
    """Run the stages that fit within so many seconds of the process's start; returns what was not done, and why."""
    undone, done = [], commands_done(out)
    for stage in todo:
        left = limit - running()
        if shlex.join(stage.command) in done:
            continue
        if stage.seconds + RESERVE > left:
            undone.append(f"{stage.name}: left out, takes about {stage.seconds:.0f} s, and {left:.0f} s were left")
            continue
        began = time.monotonic()
        code = call(stage, out, left - RESERVE)
        took = time.monotonic() - began
        row = (stage.name, f"{took:.1f}", code, shlex.join(stage.command))
        add_row(out / "stages.csv", dict(zip(COLUMNS, row)), COLUMNS)
        table(out).to_csv(out / "table.csv", index=False)
        if code:
            ending = "interrupted by the limit" if code == -signal.SIGINT else f"exit code {code}"
            undone.append(f"{stage.name}: {ending}, see {out / stage.name}.txt")
        print(f"[{running():4.0f} s] {stage.name}: {took:.0f} s{', failed' * bool(code)}", flush=True)
    return undone


def call(stage: Stage, out: Path, seconds: float) -> int:
    """The exit code of a stage's command, that of SIGINT if it took longer; what it prints goes to a file."""
    with (out / f"{stage.name}.txt").open("w") as file:
        process = subprocess.Popen(stage.command, stdout=file, start_new_session=True)
        try:
            return process.wait(seconds)
        except subprocess.TimeoutExpired:
            return -signal.SIGINT
        finally:
            end(process)


def end(process: subprocess.Popen[bytes]) -> None:
    """Interrupt a command that still runs, and leave none of its processes on the device."""
    if process.poll() is None:
        process.send_signal(signal.SIGINT)
        with suppress(subprocess.TimeoutExpired):
            process.wait(FAREWELL)
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def commands_done(out: Path) -> set[str]:
    """The commands of stages that ended well."""
    if not (out / "stages.csv").exists():
        return set()
    with (out / "stages.csv").open(newline="", encoding="utf-8") as lines:
        return {line["command"] for line in csv.DictReader(lines) if line["code"] == "0"}


def table(out: Path) -> pd.DataFrame:
    """One row a model: what its run reached, what the harness adds to a bare loop, and what compiled networks gain."""
    import pandas as pd

    import genbench

    found = pd.DataFrame(columns=["model"])
    if list((out / "runs").glob("*/job.json")):
        costs = genbench.load(out / "runs").costs
        costs = costs[~costs["reference"]]
        found = pd.DataFrame({
            "model": costs["label"], "precision": costs["precision"], "status": costs["run_status"],
            "steps/s": costs["steps"] / costs["train_seconds"], "images/s": costs["images"] / costs["train_seconds"],
            "samples/s": costs["images_per_second_best"], "peak GB": costs["peak_bytes"] / 1e9,
            "J/image": costs["train_joules"] / costs["images"],
            "TFLOP/s": costs["flops"] / costs["train_seconds"] / 1e12,
        })  # fmt: skip
    speed = pd.DataFrame(known_rows(out / "speed.csv"), columns=[*WHICH, *TRAIN, *SAMPLE])
    speed = speed.drop_duplicates(["model", "compile"], keep="last").set_index(["model", "compile"])
    speed = speed[[*TRAIN, *SAMPLE]].apply(pd.to_numeric)
    eager, fast = (speed[speed.index.get_level_values(1) == text].droplevel(1) for text in ("False", "True"))
    gains = fast / eager
    beside = pd.DataFrame({
        "training, to bare": eager["train_ratio"], "sampling, to bare": eager["sample_ratio"],
        "training, compiled": gains[TRAIN[0]], "sampling, compiled": gains[SAMPLE[0]],
    })  # fmt: skip
    return found.merge(beside, how="outer", left_on="model", right_index=True)


def seconds_of(text: str) -> float:
    """8m, 90s or 480 in seconds."""
    match = re.fullmatch(r"(\d+(?:\.\d+)?)(s|m|)", text)
    if match is None:
        raise argparse.ArgumentTypeError(f"{text!r} is no time such as 8m or 90s")
    return float(match[1]) * (60 if match[2] == "m" else 1)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("-m", "--model", action="append", help=f"repeatable; default: {', '.join(FAMILIES)}")
    parser.add_argument("--preset", default="small")
    parser.add_argument("-d", "--dataset", default="cifar10")
    parser.add_argument("--datasets", type=Path, help="as of genbench run")
    parser.add_argument("--data-root", type=Path, help="as of genbench run")
    parser.add_argument("--extractor", default="local-classifier", help="as of genbench run")
    parser.add_argument("--budget", default="40s", help="of each training")
    parser.add_argument("--samples", type=int, default=1000, help="of each run")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--precision", default="auto", choices=["auto", "fp32", "bf16"])
    parser.add_argument("--limit", type=seconds_of, default="8m", help="of all, from the start: 8m, 90s")
    parser.add_argument("--out", type=Path, default=Path("runs-gpu"))
    words = parser.parse_args()
    words.out.mkdir(parents=True, exist_ok=True)
    try:
        todo = [*stages(words)]
    except GenbenchError as error:
        parser.error(f"{error.message} ({error.hint})")
    undone, code = list[str](), 0
    try:
        undone = carry_out(todo, words.out, words.limit)
        code = int(any("exit code" in told for told in undone))
    except KeyboardInterrupt:
        undone, code = ["interrupted: the same command goes on"], 130
    print(table(words.out).to_string(index=False, float_format="{:,.3g}".format, na_rep=""))
    if (words.out / "tests.txt").exists():
        print("tests:", (words.out / "tests.txt").read_text().strip().rpartition("\n")[2])
    print(*undone, sep="\n")
    return code


if __name__ == "__main__":
    sys.exit(main())
