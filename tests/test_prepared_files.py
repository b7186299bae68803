"""Prepared arrays: a change is found before a number is made of them, and an unchanged file costs a stat."""

import json
import os
import shutil
import time

import numpy as np
import pytest
import torch

from genbench.data import prepared_files
from genbench.data.entries import make_entry
from genbench.data.preparation import prepare
from genbench.data.prepared_files import ABOUT, MARK, checked, read_whole
from genbench.evaluate.extractor import Extractor
from genbench.evaluate.features import reference_features
from genbench.support import digests, sealed, store
from genbench.support.errors import CorruptData

AN_HOUR = 3600 * 10**9


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """Twenty prepared images of two classes, checked an hour after they were written."""
    monkeypatch.setenv("GENBENCH_CACHE", str(tmp_path / "cache"))
    images = np.random.default_rng(0).integers(0, 256, (20, 1, 8, 8), dtype=np.uint8)
    np.savez(tmp_path / "mine.npz", images=images, labels=np.arange(20) % 2)
    table = {"source": "array", "path": "mine.npz", "shape": [1, 8, 8], "num_classes": 2}
    folder = prepare(make_entry("mine", table, tmp_path, "test.toml"), tmp_path).folder
    now = time.time_ns()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(prepared_files.time, "time_ns", lambda: now + AN_HOUR)
        checked(folder)
    monkeypatch.setattr(prepared_files.time, "time_ns", lambda: now + 2 * AN_HOUR)
    return folder


@pytest.fixture
def read(monkeypatch):
    """The names of the files that are read whole."""
    names = []
    digest = sealed.file_digest
    monkeypatch.setattr(sealed, "file_digest", lambda file: (names.append(file.name), digest(file))[1])
    return names


def flip(file):
    """Change a bit in place and put the times back, as far as a program can."""
    about, content = file.stat(), bytearray(file.read_bytes())
    content[-1] ^= 1
    with file.open("r+b") as opened:
        opened.write(content)
    os.utime(file, ns=(about.st_atime_ns, about.st_mtime_ns))


def test_an_unchanged_dataset_is_not_read(folder, read):
    before = (folder / MARK).read_bytes()
    checked(folder)
    assert not read and (folder / MARK).read_bytes() == before


@pytest.mark.parametrize("name", ["train_images.npy", "test_images.npy", "train_labels.npy", "test_labels.npy"])
def test_one_bit_is_found_though_size_and_time_are_those_before(folder, name):
    flip(folder / name)
    with pytest.raises(CorruptData, match=name) as caught:
        checked(folder)
    about = json.loads((folder / ABOUT).read_text())
    assert about["files"][name][:12] in caught.value.message and str(folder) in caught.value.hint


@pytest.mark.parametrize("change", ["copied", "touched", "no mark", "a torn mark", "a month later", "a clock put back"])
def test_what_may_have_changed_is_read_once(folder, read, monkeypatch, change):
    now = prepared_files.time.time_ns()
    match change:
        case "copied":
            shutil.copytree(folder, folder.with_name("copy"), copy_function=shutil.copy2)
            folder = folder.with_name("copy")
        case "touched":
            os.utime(folder / "train_images.npy")
        case "no mark":
            (folder / MARK).unlink()
        case "a torn mark":
            (folder / MARK).write_text((folder / MARK).read_text()[:50])
        case "a month later":
            now += 31 * 24 * AN_HOUR
        case "a clock put back":
            now -= 3 * AN_HOUR
    monkeypatch.setattr(prepared_files.time, "time_ns", lambda: now)
    checked(folder)
    assert len(read) == 4
    if change != "a clock put back":
        checked(folder)
        assert len(read) == 4


def test_a_file_as_new_as_its_check_is_read_again(folder, read, monkeypatch):
    """It could have been changed once more within the same tick of the file system's clock."""
    (folder / MARK).unlink()
    monkeypatch.setattr(prepared_files.time, "time_ns", lambda: (folder / "train_images.npy").stat().st_ctime_ns)
    checked(folder)
    checked(folder)
    assert len(read) == 8


def test_a_cache_that_only_its_owner_may_write_is_read(folder, read, monkeypatch):
    def refused(*_):
        raise PermissionError(13, "Permission denied")

    (folder / MARK).unlink()
    monkeypatch.setattr(store, "_temporary", refused)
    checked(folder)
    assert len(read) == 4 and not (folder / MARK).exists()


@pytest.mark.parametrize("name", [ABOUT, "train_images.npy"])
def test_verify_writes_nothing(folder, name):
    (folder / MARK).unlink()
    before = {file.name: file.stat().st_mtime_ns for file in folder.iterdir()}
    read_whole(folder)
    assert {file.name: file.stat().st_mtime_ns for file in folder.iterdir()} == before
    flip(folder / name)
    with pytest.raises(CorruptData, match=name):
        read_whole(folder)


def earlier(folder):
    """The folder as a version before digests of files had left it."""
    about = json.loads((folder / ABOUT).read_text())
    del about["files"], about["seal"]
    (folder / ABOUT).write_text(json.dumps(about))
    (folder / MARK).unlink()
    return about


def test_an_earlier_version_s_preparation_is_checked_by_its_content_and_kept(folder, read):
    about = earlier(folder)
    images = (folder / "train_images.npy").stat()
    found = checked(folder)
    assert found["digest"] == about["digest"] and (folder / "train_images.npy").stat() == images
    flip(folder / "test_labels.npy")
    with pytest.raises(CorruptData, match=r"test_labels\.npy"):
        checked(folder)


def test_an_earlier_version_s_preparation_that_was_altered_is_found(folder):
    earlier(folder)
    flip(folder / "train_images.npy")
    with pytest.raises(CorruptData, match="images or labels"):
        checked(folder)


def test_a_stray_array_is_found(folder):
    """It would be read as another condition of its kind."""
    np.save(folder / "train_text_more.npy", np.zeros(3))
    with pytest.raises(CorruptData, match="not a file of this dataset"):
        checked(folder)


def test_features_of_a_version_that_did_not_check_the_pixels_are_not_used(tmp_path, digits):
    own = Extractor("own", lambda images: (images.float().flatten(1), None), 64, 0, {})
    wanted = reference_features(own, digits, "test", tmp_path)
    (file,) = (tmp_path / "features").glob("*.safetensors")
    about = json.loads(file.with_suffix(".json").read_text())
    behind = {key: about[key] for key in ("dataset", "split", "extractor", "torch")}
    file.unlink()
    earlier = file.with_name(f"{file.stem[:-16]}{digests.settings_digest(behind)[:16]}.safetensors")
    store.write_tensors(earlier, {"features": torch.zeros(len(digits.test), 64)})
    sealed.write_sealed(earlier.with_suffix(".json"), {**behind, "sha256": digests.file_digest(earlier)})
    assert torch.equal(reference_features(own, digits, "test", tmp_path).features, wanted.features)
