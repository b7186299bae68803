"""A dataset larger than the memory limits: prepared as a stream, trained on and scored, with the peak memory of each.

    python benchmarks/large_data.py                        # 1,000,000 gray 64x64 images: 8.3 GB of disk while it runs
    python benchmarks/large_data.py --images 100000 --scratch /mnt/disk

Generates random images and labels in a scratch folder, prepares them, runs a model on them from the command line, as a
user would, scores it in cheap features, and removes everything. Exits with 1 if preparing or training takes
more memory than it may, as Linux reports it for their processes.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from genbench.support.store import array_pieces

SIDE, CLASSES, BLOCK = 64, 10, 10_000
DATASETS = """
[large]
source = "array"
path = "images.npy"
labels_path = "labels.npy"
shape = [1, {side}, {side}]
num_classes = {classes}
test_fraction = {fraction}
"""
PREPARE = """
import sys, time
from pathlib import Path
from genbench.cli.console import PreparationProgress
from genbench.data.entries import read_entries
from genbench.data.folders import data_root
from genbench.data.preparation import prepare
began = time.perf_counter()
data = prepare(read_entries(Path("large.toml"))["large"], data_root(None), progress=PreparationProgress())
seconds = time.perf_counter() - began
status = Path("/proc/self/status").read_text()
print(seconds, int(status.partition("VmHWM:")[2].split()[0]) * 1024)
"""
PLUGIN = """
from torch.nn.functional import avg_pool2d
from genbench import hookimpl
from genbench.evaluate.extractor import Extractor

@hookimpl
def register_extractors(register):
    register("means", lambda: Extractor("means", means, 64, 0, {"layer": "means of 8x8 pixels"}))

def means(levels):
    return avg_pool2d(levels.float() / 255, 8).flatten(1), None
"""


def write_images(folder: Path, count: int) -> None:
    """Write random gray images, each class a little brighter than the last, block by block, and their labels."""
    generator = np.random.default_rng(0)
    labels = generator.integers(0, CLASSES, count)
    with array_pieces(folder / "images.npy", np.uint8, (count, SIDE, SIDE)) as write:
        for start in range(0, count, BLOCK):
            own = labels[start : start + BLOCK, None, None]
            levels = generator.integers(0, 128, (len(own), SIDE, SIDE), np.uint8) + 8 * own
            write(levels.astype(np.uint8).tobytes())
    np.save(folder / "labels.npy", labels)


def run(command: list[str], folder: Path) -> str:
    """What a command printed."""
    environment = {**os.environ, "GENBENCH_CACHE": str(folder / "cache")}
    return subprocess.run(
        [sys.executable, *command], cwd=folder, env=environment, stdout=subprocess.PIPE, text=True, check=True
    ).stdout


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=1_000_000)
    parser.add_argument("--scratch", type=Path, help="where to put them; default: the system's temporary folder")
    parser.add_argument("-m", "--model", default="gaussian")
    parser.add_argument("--budget", default="2000steps")
    parser.add_argument("--preparing", type=float, default=0.5, help="GB that preparing may take")
    parser.add_argument("--training", type=float, default=1.0, help="GB that training may take")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=options.scratch) as name:
        folder = Path(name)
        write_images(folder, options.images)
        fraction = max(0.01, 200 / options.images)
        (folder / "large.toml").write_text(DATASETS.format(side=SIDE, classes=CLASSES, fraction=fraction))
        (folder / "means.py").write_text(PLUGIN)
        size = (folder / "images.npy").stat().st_size
        print(f"{options.images:,} images, {size / 1e9:.2f} GB", flush=True)
        seconds, preparing = map(float, run(["-c", PREPARE], folder).split())
        rate = options.images / seconds
        print(f"prepared  {seconds:8.1f} s  {rate:,.0f} images/s  peak {preparing / 1e9:.2f} GB", flush=True)
        words = ["-m", "genbench", "run", "-m", options.model, "-d", "large", "--datasets", "large.toml"]
        words += ["--budget", options.budget, "--samples", "1000", "--device", "cpu"]
        words += ["--plugin", "means.py", "--extractor", "means"]
        began = time.perf_counter()
        run(words, folder)
        seconds = time.perf_counter() - began
        records = [json.loads(file.read_text()) for file in folder.glob(f"runs/{options.model}-*/record.json")]
        cost = records[0]["cost"]["train"]
        training = cost["peak_bytes"]
        print(
            f"trained   {cost['seconds']:8.1f} s  {cost['images'] / cost['seconds']:,.0f} images/s  "
            f"peak {training / 1e9:.2f} GB; with scoring {seconds:.0f} s"
        )
    return 0 if preparing <= options.preparing * 1e9 and training <= options.training * 1e9 else 1


if __name__ == "__main__":
    sys.exit(main())
