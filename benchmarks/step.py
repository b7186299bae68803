"""Where the time of an update goes: for each phase of a model, its milliseconds, and the share of each kind of work.

    python benchmarks/step.py                         # seven families on 28x28 gray
    python benchmarks/step.py -m gan --image 3x32x32 --updates 20 --threads 2

Shares are of the time that torch's profiler sees operators take, which is a little longer for being watched. The images
are noise: speed does not depend on what they show.
"""

from __future__ import annotations

import argparse
import re
import tempfile
import time
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from overhead import Harness, active, make_job, parts
from speed import noise, shape_of

from genbench.devices import exact_arithmetic, resolve_devices, use_threads
from genbench.running.defaults import load_plugins
from genbench.training.loop import build_model

MODELS = ("ddpm", "flow_matching", "ldm", "gan", "vae", "flow", "pixelcnn")
KINDS = {
    "convolution": r"conv",
    "product": r"mm(_|$)|attention|dot",
    "normalisation": r"norm",
    "activation": r"silu|elu|softplus|softmax|tanh|sigmoid|glu",
    "copy": r"copy|cat$|clone|contiguous|fill|zero",
}
"""What the names of operators match; what matches none is `other`."""
OPTIMIZER = "Optimizer.step"
COLUMNS = (*KINDS, "optimizer", "other")


def kind_of(event: Any) -> str:
    """The kind of work that an event of the profiler is of."""
    above = event
    while above is not None:
        if above.name.startswith(OPTIMIZER):
            return "optimizer"
        above = above.cpu_parent
    name = event.name.removeprefix("aten::")
    return next((kind for kind, pattern in KINDS.items() if re.search(pattern, name)), "other")


def shares(events: Iterable[Any]) -> dict[str, float]:
    """The share of each kind in the time of the events, that of the events within them left out."""
    spent = Counter[str]()
    for event in events:
        spent[kind_of(event)] += event.self_cpu_time_total
    return {kind: spent[kind] / spent.total() for kind in COLUMNS}


def steps_of(harness: Harness, updates: int) -> tuple[float, dict[str, float]]:
    """Seconds of a step, unwatched, and the shares of its kinds."""
    from torch.profiler import ProfilerActivity, profile

    begun = time.perf_counter()
    harness.run(updates)
    seconds = (time.perf_counter() - begun) / updates
    with profile(activities=[ProfilerActivity.CPU]) as watched:
        harness.run(updates)
    return seconds, shares(watched.events())


def measured(name: str, words: argparse.Namespace, folder: Path) -> list[dict[str, Any]]:
    """A row for each part of the training of a model."""
    data, device = noise(shape_of(words.image)), resolve_devices("cpu")[0]
    job = make_job(name, words.preset, data, device, folder)
    job.folder.mkdir(parents=True)
    harness, rows = Harness(job, build_model(job, load_plugins(), data, device), data), []
    with harness.trainer.meter.training():
        for part in parts(harness.trainer.phases):
            harness.enter(part)
            seconds, found = steps_of(harness, words.updates)
            phases = [phase.name for phase in harness.trainer.phases if active(phase, part[0])]
            rows.append({"model": name, "phases": "+".join(phases), "ms": 1000 * seconds, **found})
    return rows


def main() -> None:
    import pandas as pd

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("-m", "--model", action="append", help=f"repeatable; default: {', '.join(MODELS)}")
    parser.add_argument("--image", default="1x28x28", help="CxHxW")
    parser.add_argument("--preset", default="small")
    parser.add_argument("--updates", type=int, default=10)
    parser.add_argument("--threads", type=int, default=2)
    words = parser.parse_args()
    use_threads(words.threads)
    exact_arithmetic()
    rows = []
    for name in words.model or MODELS:
        with tempfile.TemporaryDirectory() as folder:
            rows += measured(name, words, Path(folder))
    formats = {"ms": "{:.1f}".format} | dict.fromkeys(COLUMNS, "{:.0%}".format)
    print(pd.DataFrame(rows).to_string(index=False, formatters=formats))


if __name__ == "__main__":
    main()
