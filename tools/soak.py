"""Kill genbench again and again, and check that nothing is lost.

Tiny jobs are trained, sampled, evaluated, scored again and reported in a child process that is killed at random
instants (`--kills`), or fails at each named fault point by each action (`--points`); another resumes where it left off.
After each death everything on disk must be intact (`genbench verify`) and no finished record gone; in the end weights,
samples, measurements and learning curves must equal those of an uninterrupted run. Prints its counts, and exits with 1
unless every count of failures is 0.

    python tools/soak.py                          # 200 random kills, and all points: minutes
    python tools/soak.py --kills 0 --points train.step:3:kill9,checkpoint.rotated:kill9
"""

from __future__ import annotations

import argparse
import json
import os
import random
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parent.parent
ACTIONS = ("kill9", "enospc", "raise")
MODELS = ("gaussian", "vae", "gan", "ldm", "ddpm", "flow", "score")
TIMES = {"seconds", "device_seconds", "energy", "throughput", "images_per_second"}
LATER = {"store.begin": 25, "store.written": 25, "store.renamed": 25, "store.folder_written": 3,
         "store.folder_renamed": 3, "checkpoint.begin": 3, "checkpoint.written": 3, "checkpoint.rotated": 3,
         "checkpoint.end": 3, "train.step": 5, "train.update": 5, "sample.block": 2, "sample.shard": 2,
         "evaluate.measured": 2, "report.page": 2}  # fmt: skip
"""Points that are passed often: which passing to fail at."""


@dataclass
class Count:
    """What a soak test counted; all but the first three should be 0."""

    kills: int = 0
    points: int = 0
    lives: int = 0
    corrupt: int = 0
    lost_records: int = 0
    other_hashes: int = 0
    leftovers: int = 0
    never_fired: int = 0
    details: list[str] = field(default_factory=list)

    @property
    def clean(self) -> bool:
        return not (self.corrupt or self.lost_records or self.other_hashes or self.leftovers or self.never_fired)


class Soak:
    """A scratch folder in which the same work is done once undisturbed and many times disturbed."""

    def __init__(self, folder: Path, models: Iterable[str], work: str, say: Callable[[str], None]) -> None:
        self.folder, self.work, self.say, self.count = folder, work, say, Count()
        os.environ["GENBENCH_CACHE"] = str(folder / "cache")
        os.environ["OMP_NUM_THREADS"] = "1"
        hasten()
        from genbench.data.entries import known_datasets
        from genbench.data.folders import data_root
        from genbench.data.preparation import prepare
        from genbench.planning.config import Experiment
        from genbench.running.defaults import load_plugins

        self.plugins = load_plugins()
        self.data = prepare(known_datasets()["digits"], data_root(None), offline=True)
        self.experiment = Experiment.model_validate({
            "models": [{"name": name, "preset": None if name == "gaussian" else "tiny"} for name in models],
            "budget": "10steps", "samples": 60, "datasets": ["digits"], "likelihood_images": 20, "curve": 3,
            "precision": "fp32",
        })  # fmt: skip
        self.wanted, self.seconds = self.undisturbed()

    # One life of the work

    def jobs(self, out: Path) -> list[Any]:
        from genbench.planning.plan import make_jobs
        from genbench.records.job import Runtime

        return make_jobs(self.experiment, self.plugins, [self.data], Runtime(out=out, cache=self.folder / "cache"))

    def live(self, out: Path, wish: str = "") -> None:
        """Do all work that is not done yet, in this process."""
        from genbench.report import build_report
        from genbench.running.rescore import open_finished, score_again
        from genbench.running.run import is_done, run_job
        from genbench.support import faults, progress

        faults.arm(wish)
        signal.signal(signal.SIGTERM, lambda *_: progress.request_stop())
        jobs = self.jobs(out)
        for job in jobs:
            if not is_done(job):
                run_job(job, self.data, self.plugins)
        if self.work == "jobs":
            return
        runs = [open_finished(job.folder) for job in jobs]
        records = [score_again(run, ["local-classifier"], self.data, self.plugins, run.job.runtime) for run in runs]
        build_report(records, out.parent / "report")

    def child(self, out: Path, wish: str = "") -> int:
        """The id of a new process that does the work; its exit code is 0 if all work is done."""
        sys.stdout.flush()
        pid = os.fork()
        if pid:
            self.count.lives += 1
            return pid
        code = 1
        try:
            sys.stderr = (out.parent / "stderr.txt").open("w")
            self.live(out, wish)
            code = 0
        except BaseException as error:
            print(type(error).__name__, error, file=sys.stderr, flush=True)
        finally:
            os._exit(code)

    def undisturbed(self) -> tuple[dict[str, Any], float]:
        out = self.fresh("undisturbed")
        began = time.monotonic()
        if os.waitpid(self.child(out), 0)[1]:
            raise SystemExit((out.parent / "stderr.txt").read_text())
        return outcome(out), time.monotonic() - began

    def fresh(self, name: str) -> Path:
        """An empty folder; what a cache can make again is deleted too, apart from the dataset."""
        for cached in ("classifiers", "features"):
            shutil.rmtree(self.folder / "cache" / cached, ignore_errors=True)
        shutil.rmtree(self.folder / name, ignore_errors=True)
        (self.folder / name).mkdir()
        return self.folder / name / "runs"

    # Disturbances

    def kill(self, times: int, chance: random.Random) -> None:
        """Kill at random; each run that finishes is compared, and the next starts from scratch."""
        while self.count.kills < times:
            out, finished = self.fresh("killed"), False
            known: set[str] = set()
            while not finished:
                pid = self.child(out)
                wait = chance.uniform(0, self.seconds / 3) if self.count.kills < times else 1e9
                finished, killed = ended(pid, wait)
                self.count.kills += killed
                known = self.examine(out, known, f"kill {self.count.kills}")
            self.compare(out, f"up to kill {self.count.kills}")
            self.say(f"{self.count.kills} kills, {self.count.lives} lives")

    def strike(self, wish: str) -> None:
        """Run once with a fault and once without, then compare."""
        from genbench.support.faults import parse

        out, action = self.fresh("struck"), parse(wish).action
        self.count.points += 1
        status = os.waitpid(self.child(out, wish), 0)[1]
        if status == 0:
            self.count.never_fired += 1
            self.count.details.append(f"{wish}: nothing happened")
        if action == "kill9" and os.WIFEXITED(status):
            self.count.details.append(f"{wish}: {(out.parent / 'stderr.txt').read_text()}")
            self.count.never_fired += 1
        known = self.examine(out, set(), wish)
        status = os.waitpid(self.child(out), 0)[1]
        if status:
            self.count.lost_records += 1
            self.count.details.append(f"{wish}: did not go on: {(out.parent / 'stderr.txt').read_text()}")
            return
        self.examine(out, known, wish)
        self.compare(out, wish)

    # What is looked at

    def examine(self, out: Path, known: set[str], when: str) -> set[str]:
        """Count damaged files and lost records; returns the records that are there."""
        from genbench.commands.verify import verify_runs

        faults = []
        if any(out.glob("*/job.json")):
            faults = [verdict.line() for verdict in verify_runs([out]) if verdict.state == "wrong"]
        report = out.parent / "report"
        if report.exists():
            listed = json.loads((report / "genbench-report.json").read_text())["files"]
            faults += [f"report: {name} is missing" for name in listed if not (report / name).is_file()]
        self.count.corrupt += len(faults)
        self.count.details += [f"{when}: {fault}" for fault in faults]
        kept = ("record.json", "earlier.json", "attempt.json")
        there = {file.parent.name for name in kept for file in out.glob(f"*/{name}")}
        lost = sorted(known - there)
        self.count.lost_records += len(lost)
        self.count.details += [f"{when}: the record of {name} is gone" for name in lost]
        return there

    def compare(self, out: Path, when: str) -> None:
        """Compare finished work with the undisturbed, and count leftover files."""
        found = outcome(out)
        for name, parts in self.wanted.items():
            for part, value in parts.items():
                if found.get(name, {}).get(part) != value:
                    self.count.other_hashes += 1
                    self.count.details.append(f"{when}: {name}: {part} is not the undisturbed one")
        kinds = (".genbench_tmp_", "drawn", "measured", "earlier.json", "attempt.json", "next")
        left = [file for file in out.parent.rglob("*") if file.name.startswith(kinds)]
        self.count.leftovers += len(left)
        self.count.details += [f"{when}: left over: {file.relative_to(out.parent)}" for file in left]


def hasten() -> None:
    """Do at every step what happens once a minute, and leave out what only takes time."""
    from genbench.evaluate import classifier_training
    from genbench.running import run, sample
    from genbench.training import loop as train

    train.CHECKPOINT_SECONDS = sample.SHARD_SECONDS = -1.0
    sample.BLOCK = 20
    classifier_training.UPDATES = 20
    run.measure_throughput = lambda *_: []


def ended(pid: int, seconds: float) -> tuple[bool, bool]:
    """Wait this long for a process, then kill it: whether it had finished its work, and whether it was killed."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        done, status = os.waitpid(pid, os.WNOHANG)
        if done:
            return status == 0, False
        time.sleep(0.005)
    os.kill(pid, signal.SIGKILL)
    status = os.waitpid(pid, 0)[1]
    return status == 0, os.WIFSIGNALED(status)


def outcome(out: Path) -> dict[str, Any]:
    """The result of each run apart from times: digests of weights and samples, and all numbers."""
    from genbench.support.digests import file_digest

    found = {}
    for folder in sorted(out.glob("*-*")):
        record = json.loads((folder / "record.json").read_text())
        manifest = folder / "checkpoint" / "latest" / "manifest.json"
        log = folder / "progress.jsonl"
        keys = ("status", "measurements", "curve", "warnings", "protocols", "extractors", "samples")
        found[folder.name] = {
            "weights": json.loads(manifest.read_text())["files"] if manifest.exists() else None,
            "samples": file_digest(folder / "samples.npy"),
            "bound": file_digest(folder / "bound.json") if (folder / "bound.json").exists() else None,
            "log": [timeless(json.loads(line)) for line in log.read_text().splitlines()] if log.exists() else None,
            "record": {key: timeless(record[key]) for key in keys},
            "cost": {k: v for k, v in (record["cost"]["train"] or {}).items() if k in ("images", "steps", "flops")},
        }
    return found


def timeless(value: Any) -> Any:
    """The value without times."""
    if isinstance(value, dict):
        return {key: timeless(part) for key, part in value.items() if key not in TIMES}
    return [timeless(part) for part in value] if isinstance(value, list) else value


def all_points() -> list[str]:
    """Every point with every action, once."""
    from genbench.support.faults import POINTS

    return [f"{name}:{LATER.get(name, 1)}:{action}" for name in POINTS for action in ACTIONS]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=200)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--points", default="all", help="all, none, or name[:count]:action, separated by commas")
    parser.add_argument("--models", default="gaussian,gan,ldm", help=f"for the random kills, among {','.join(MODELS)}")
    parser.add_argument("--work", choices=("all", "jobs"), default="all", help="jobs: no scoring again, no report")
    parser.add_argument("--json", action="store_true", help="the counts as JSON, and nothing else on stdout")
    words = parser.parse_args()

    def say(text: str) -> None:
        print(text, file=sys.stderr, flush=True)

    total = Count()
    with tempfile.TemporaryDirectory(prefix="genbench-soak-") as scratch:
        parts: list[tuple[str, tuple[str, ...], Callable[[Soak], None]]] = []
        if words.points != "none":

            def strikes(soak: Soak) -> None:
                for wish in all_points() if words.points == "all" else words.points.split(","):
                    soak.strike(wish)
                    say(f"{wish}: {'clean' if soak.count.clean else 'NOT CLEAN'}")

            parts.append(("points", ("gaussian",), strikes))
        if words.kills:
            chance = random.Random(words.seed)
            parts.append(("kills", tuple(words.models.split(",")), lambda soak: soak.kill(words.kills, chance)))
        for name, models, disturb in parts:
            (Path(scratch) / name).mkdir()
            soak = Soak(Path(scratch) / name, models, words.work, say)
            say(f"{name}: {soak.seconds:.1f} s undisturbed")
            disturb(soak)
            for key, value in asdict(soak.count).items():
                setattr(total, key, getattr(total, key) + value)
    plain = asdict(total)
    print(json.dumps(plain) if words.json else "\n".join(f"{key:14} {value}" for key, value in plain.items()))
    sys.exit(0 if total.clean else 1)


if __name__ == "__main__":
    main()
