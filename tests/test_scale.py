"""Data sets larger than memory: prepared and trained on with memory that does not grow with them; interrupted safely.
And stores of many records: read for tables without their curves.

What is measured is VmHWM, the most that was ever resident of a child process, mapped pages of files included: what is
kept of each image must be small beside the image itself.
"""

import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from records_factory import make_record, measure, write_runs

from genbench.records.record import CurvePoint, is_sealed
from genbench.records.record_files import curve_of, find_records, load_records
from genbench.support import digests
from genbench.support.errors import CorruptData

SIDE, FEW, MANY = 32, 2_500, 20_000
IMAGE = SIDE * SIDE
GROWTH = (MANY - FEW) * IMAGE
"""Bytes by which the larger data set is larger: 18 MB."""
SMALL = GROWTH // 4

CHILD = """
import sys
from pathlib import Path
from genbench.support import store
from genbench.data.entries import make_entry
from genbench.data.preparation import prepare

store.KEPT_BYTES = 0  # release small arrays too
folder = Path(sys.argv[1])
table = {"source": "array", "path": "images.npy", "labels_path": "labels.npy", "num_classes": 10, "shape": [1, 32, 32]}
data = prepare(make_entry("large", table, folder, "test"), folder, offline=True)
"""
SLOW = "def slowly(*_): print('under way', flush=True); __import__('time').sleep(0.1)\n" + CHILD.replace(
    "offline=True", "offline=True, progress=slowly"
)
TRAIN = """
from toys import train_toy

train_toy(folder / "runs", data, budget="18000images")
"""
PEAK = """
for line in Path("/proc/self/status").read_text().splitlines():
    if line.startswith("VmHWM"):
        print(int(line.split()[1]) * 1024)
"""


def write_large(folder: Path, count: int, side: int = SIDE) -> None:
    """`count` random images and their labels, as arrays."""
    folder.mkdir()
    generator = np.random.default_rng(0)
    np.save(folder / "images.npy", generator.integers(0, 256, (count, side, side), dtype=np.uint8))
    np.save(folder / "labels.npy", generator.integers(0, 10, count))


def child(script: str, folder: Path) -> subprocess.Popen:
    environment = {**os.environ, "GENBENCH_CACHE": str(folder / "cache"), "PYTHONPATH": str(Path(__file__).parent)}
    environment["PYTHONPATH"] += os.pathsep + os.environ.get("PYTHONPATH", "")
    command = [sys.executable, "-c", script, str(folder)]
    return subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def peak_of(script: str, folder: Path, made: str) -> int:
    """Least of three peaks, in bytes, of a child process that makes a folder anew by the script.

    The least, since the timing of threads adds up to 5 MB to a peak.
    """
    peaks = []
    for _ in range(3):
        shutil.rmtree(folder / made, ignore_errors=True)
        process = child(script + PEAK, folder)
        out, err = process.communicate()
        assert process.returncode == 0, err
        peaks.append(int(out))
    return min(peaks)


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="needs Linux's account of a process's memory")
def test_memory_does_not_grow_with_the_images(tmp_path):
    peaks = {}
    for count in (FEW, MANY):
        folder = tmp_path / str(count)
        write_large(folder, count)
        peaks[count] = [peak_of(CHILD, folder, "cache"), peak_of(CHILD + TRAIN, folder, "runs")]
    prepared, trained = (many - few for few, many in zip(peaks[FEW], peaks[MANY]))
    assert prepared < SMALL, f"{prepared:,} bytes more to prepare {GROWTH:,} bytes more"
    assert trained < SMALL, f"{trained:,} bytes more to train on {GROWTH:,} bytes more"


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL])
def test_an_interrupted_preparation_leaves_nothing_half_made_and_the_next_succeeds(tmp_path, number):
    folder = tmp_path / "data"
    write_large(folder, MANY)
    datasets = folder / "cache" / "datasets"
    process = child(SLOW, folder)
    assert process.stdout is not None and process.stdout.readline() == "under way\n"
    assert list(datasets.glob(".genbench_tmp_*"))
    process.send_signal(number)
    process.communicate()
    assert process.returncode == -number
    made = [file for file in datasets.iterdir() if not file.name.startswith(".genbench_tmp_")]
    assert not made and (number == signal.SIGKILL or not list(datasets.iterdir()))
    again = child(CHILD + "print(len(data.train), len(data.test), data.train.images[0].tobytes().hex())", folder)
    out, err = again.communicate()
    assert again.returncode == 0, err
    train, test, first = out.split()
    assert int(train) + int(test) == MANY
    assert first == np.load(folder / "images.npy", mmap_mode="r")[0].tobytes().hex()


@pytest.fixture
def curved(tmp_path):
    """A run folder whose record has a curve."""
    record = make_record("ddpm", config={"steps": 7})
    record.curve.append(CurvePoint(share=0.1, seconds=6.0, measurements=[measure("fid_test", 90.0, record.protocols)]))
    (written,) = write_runs([record], tmp_path / "runs")
    return written.folder


def test_a_summary_is_the_record_without_its_curve(curved):
    (whole,), (summary,) = load_records([curved]), load_records([curved], curves=False)
    assert summary.model_dump(exclude={"curve"}) == whole.model_dump(exclude={"curve"})
    assert summary.curve == [] and curve_of(summary) == curve_of(whole) == whole.curve
    with pytest.raises(TypeError):
        summary.to_json()


def test_many_records_share_the_settings_of_a_protocol(tmp_path):
    records = load_records([write_runs([make_record(), make_record(seed=1)], tmp_path)[0].folder.parent], curves=False)
    first, second = (record.protocols for record in records)
    assert first == second and all(first[key] is second[key] for key in first)


@pytest.mark.parametrize(
    ("old", "new", "told"),
    [
        ('"steps": 7', '"steps": NaN', "NaN is not JSON"),
        ('"seed": 0,', "", "job.seed: missing"),
        ('"schema": 1', '"schema": 99', "schema 99"),
        ("{", "[", "not a record"),
    ],
)
def test_both_ways_of_reading_say_the_same_of_what_is_wrong(curved, old, new, told):
    file = curved / "record.json"
    text = file.read_text()
    assert old in text
    file.write_text(text.replace(old, new, 1))
    messages = []
    for curves in (True, False):
        with pytest.raises(CorruptData) as problem:
            load_records([curved], curves=curves)
        messages.append(problem.value.message)
    assert messages[0] == messages[1] and told in messages[0]


def test_a_record_that_ends_anywhere_is_corrupt_to_both_ways_of_reading(curved):
    file = curved / "record.json"
    text = file.read_bytes()
    curve, protocols = (text.index(key) for key in (b'\n "curve": [', b'\n "protocols": {'))
    for end in (curve + 5, curve + 40, protocols - 1, protocols + 40, len(text) - 4):
        file.write_bytes(text[:end])
        for curves in (True, False):
            with pytest.raises(CorruptData):
                load_records([curved], curves=curves)


def test_a_summary_does_not_depend_on_how_the_record_was_laid_out(curved):
    (before,) = load_records([curved], curves=False)
    file = curved / "record.json"
    plain = json.loads(file.read_text())
    plain.pop("digest")
    file.write_text(json.dumps({**plain, "digest": digests.settings_digest(plain)}))
    (after,) = load_records([curved], curves=False)
    assert after.model_dump() == before.model_dump()


def test_a_record_is_sealed_by_its_text_or_by_its_content_and_any_change_breaks_it(curved):
    file = curved / "record.json"
    text, plain = file.read_bytes(), json.loads(file.read_bytes())
    said = plain.pop("digest")
    assert is_sealed(text) and said == digests.digest(text[: text.rindex(b',\n "digest"')])
    by_content = json.dumps({**plain, "digest": digests.settings_digest(plain)})
    assert is_sealed(by_content.encode()) and is_sealed(json.dumps(plain).encode())
    for changed in (text.replace(b'"seed": 0', b'"seed": 1', 1), text.replace(b'"schema": 1', b'"schema":  1')):
        assert changed != text and not is_sealed(changed)
        file.write_bytes(changed)
        with pytest.raises(CorruptData, match="changed since"):
            find_records([curved])
