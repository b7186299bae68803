"""Whatever a picture is and wherever it comes from, it is read rightly, or refused by name and count."""

import errno
import os
import re
import resource
import shutil
from dataclasses import replace
from pathlib import Path

import image_kinds
import numpy as np
import pytest
from image_kinds import BROKEN, CLEAR, DEEP, KINDS, Rows, cell, picture
from PIL import Image, ImageFile

from genbench.data import refusals
from genbench.data.entries import make_entry
from genbench.data.foreign import open_samples
from genbench.data.preparation import prepare
from genbench.support.errors import BadInput, EnvironmentProblem

FLAT = {"source": "folder", "path": "x", "test_fraction": 0.5}
CLASSES = {"source": "folder", "path": "x", "layout": "classes", "num_classes": 2, "test_fraction": 0.5}
HUB = {"source": "huggingface", "path": "hub"}
COUNTRIES = {"source": "torchvision", "dataset": "Country211", "train": {"split": "train"}, "test": {"split": "test"}}


def ready(tmp_path, **table):
    entry = make_entry("mine", {"shape": [3, 8, 8], **table}, tmp_path, "d.toml")
    return prepare(entry, tmp_path, offline=True)


def put(folder, contents, suffix="png", first=0):
    """Write files `000.png` and so on."""
    folder.mkdir(parents=True, exist_ok=True)
    for number, content in enumerate(contents, first):
        (folder / f"{number:03}.{suffix}").write_bytes(content)


def good(count, first=0):
    return [picture(number) for number in range(first, first + count)]


# Every kind from every source


def from_folder(tmp_path, monkeypatch, suffix, content, **more):
    put(tmp_path / "x", good(3))
    put(tmp_path / "x", [content], suffix, 3)
    return ready(tmp_path, **FLAT, **more).test.images[-1]


def from_classes(tmp_path, monkeypatch, suffix, content, **more):
    put(tmp_path / "x" / "a", good(4))
    put(tmp_path / "x" / "b", good(3, 4))
    put(tmp_path / "x" / "b", [content], suffix, 3)
    return ready(tmp_path, **CLASSES, **more).test.images[-1]


def from_hub(tmp_path, monkeypatch, suffix, content, **more):
    rows = [{"image": cell(each)} for each in [*good(3), content]]
    image_kinds.library(monkeypatch, Rows(rows, {"image": "image"}))
    return ready(tmp_path, **HUB, **more).test.images[-1]


def from_torchvision(tmp_path, monkeypatch, suffix, content, **more):
    put(tmp_path / "country211" / "train" / "AD", good(3))
    put(tmp_path / "country211" / "test" / "AD", good(3, 3))
    put(tmp_path / "country211" / "test" / "AD", [content], suffix, 3)
    return ready(tmp_path, **COUNTRIES, **more).test.images[-1]


def from_samples(tmp_path, monkeypatch, suffix, content, **more):
    put(tmp_path / "x", good(3))
    put(tmp_path / "x", [content], suffix, 3)
    put(tmp_path / "real", good(4))
    data = ready(tmp_path, **{**FLAT, "path": "real"})
    return open_samples(tmp_path / "x", data, False, None, None).images[-1]


SOURCES = (from_folder, from_classes, from_hub, from_torchvision, from_samples)


@pytest.mark.parametrize("source", SOURCES)
def test_every_source_makes_the_same_of_every_kind(tmp_path, monkeypatch, source):
    for number, (kind, (suffix, content, result)) in enumerate(KINDS.items()):
        folder = tmp_path / str(number)
        gray_sample = source is from_samples and kind in ("gray", "black and white")
        if isinstance(result, str) or gray_sample:
            reason = "other channels" if gray_sample else result
            with pytest.raises(BadInput, match=reason) as error:
                source(folder, monkeypatch, suffix, content)
            assert re.search(rf"003\.{suffix}|row 3|test image 3", error.value.message), kind
        else:
            found = source(folder, monkeypatch, suffix, content)
            assert np.array_equal(found, image_kinds.wanted(result)), kind


def test_all_that_cannot_be_used_are_counted_by_reason(tmp_path, monkeypatch):
    bad = [KINDS[kind][1] for kind in ["RGBA"] * 5 + ["16 bits, RGB"] * 2 + ["truncated PNG"]]
    put(tmp_path / "x", [*good(8), *bad])
    with pytest.raises(BadInput) as error:
        ready(tmp_path, **FLAT)
    message = error.value.message
    assert "d.toml [mine]: 8 of 16 images cannot be used" in message
    assert f"{CLEAR}: 5 images, such as" in message and "008.png" in message and "011.png" not in message
    assert f"{DEEP} per channel: 2 images" in message and f"015.png: {BROKEN}" in message
    assert len(error.value.problems) == 3 and "convert" in error.value.hint and "replace" in error.value.hint
    monkeypatch.setattr(refusals, "MOST", 3)
    with pytest.raises(BadInput, match="3 of the first 11 images cannot be used: transparency"):
        ready(tmp_path, **{**FLAT, "path": str(shutil.move(tmp_path / "x", tmp_path / "y")), "test_fraction": 0.9})


def test_nothing_is_prepared_of_what_is_refused(genbench, tmp_path, monkeypatch):
    monkeypatch.setenv("GENBENCH_CACHE", str(tmp_path / "cache"))
    put(tmp_path / "x", [*good(3), KINDS["truncated PNG"][1]])
    (tmp_path / "d.toml").write_text('[mine]\nsource = "folder"\npath = "x"\nshape = [3, 8, 8]\ntest_fraction = 0.5\n')
    for command in ("plan", "run"):
        result = genbench(command, "-m", "gaussian", "-d", "mine", "--datasets", "d.toml")
        assert result.code == 2 and "003.png" in result.err and "space" not in result.err, result.err
    assert not list((tmp_path / "cache" / "datasets").iterdir())


def test_files_of_refused_pictures_are_closed(tmp_path):
    put(tmp_path / "x", [*good(3), *[KINDS["truncated PNG"][1]] * 40])
    limit, held = resource.getrlimit(resource.RLIMIT_NOFILE), [os.open(os.devnull, os.O_RDONLY)]
    while held[-1] < max(int(path.name) for path in Path("/dev/fd").iterdir()) - 1:  # one of them lists the folder
        held.append(os.open(os.devnull, os.O_RDONLY))
    resource.setrlimit(resource.RLIMIT_NOFILE, (held[-1] + 20, limit[1]))
    try:
        with pytest.raises(BadInput, match="40 of 43 images cannot be used: not a readable image"):
            ready(tmp_path, **FLAT)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, limit)
        for descriptor in held:
            os.close(descriptor)


@pytest.mark.parametrize("number", [errno.EIO, errno.EMFILE, errno.EACCES])
def test_what_the_system_refuses_is_no_fault_of_the_picture(tmp_path, monkeypatch, number):
    put(tmp_path / "x", good(4))

    def refuse(file, **_):
        raise OSError(number, os.strerror(number), str(file))

    monkeypatch.setattr(Image, "open", refuse)
    with pytest.raises(EnvironmentProblem, match=rf"000\.png: {os.strerror(number)}"):
        ready(tmp_path, **FLAT)


@pytest.mark.parametrize("source", SOURCES)
def test_a_truncated_picture_is_one_whatever_a_plugin_has_told_the_library(tmp_path, monkeypatch, source):
    monkeypatch.setattr(ImageFile, "LOAD_TRUNCATED_IMAGES", True)
    suffix, content, reason = KINDS["truncated JPEG"]
    with pytest.raises(BadInput, match=reason):
        source(tmp_path, monkeypatch, suffix, content)
    assert ImageFile.LOAD_TRUNCATED_IMAGES is True


@pytest.mark.parametrize("source", [source for source in SOURCES if source is not from_samples])
def test_a_crop_larger_than_a_picture_is_refused_by_name(tmp_path, monkeypatch, source):
    with pytest.raises(
        BadInput, match=r"(\d) of \1 images cannot be used: smaller than the crop.*crop = 9 of an image of 8x8"
    ):
        source(tmp_path, monkeypatch, *KINDS["RGB"][:2], crop=9)


# Files


def names(count, suffix):
    return [f"{number:03}{suffix}" for number in range(count)]


@pytest.mark.parametrize("suffix", [".jfif", ".JPG", ".jpe", ".webp", ".BMP", ".dib", ".avif", "", ".png?w=8", ".dat"])
@pytest.mark.parametrize("layout", ["flat", "classes"])
def test_pictures_of_any_suffix_are_read(tmp_path, suffix, layout):
    form = {".webp": "WEBP", ".BMP": "BMP", ".dib": "DIB", ".avif": "AVIF", "": "BMP", ".dat": "TIFF"}.get(
        suffix, "JPEG"
    )
    for sub in ("", "more") if layout == "flat" else ("a", "b"):
        if layout == "classes" or not sub:
            put(tmp_path / "x" / sub, good(3))
            (tmp_path / "x" / sub / f"zz{suffix}").write_bytes(image_kinds.saved(image_kinds.RGB, form))
    data = ready(tmp_path, **(FLAT if layout == "flat" else CLASSES))
    assert len(data.train) + len(data.test) == (4 if layout == "flat" else 8) and data.remarks == []


def test_pictures_that_are_not_read_are_refused_by_name_and_count(tmp_path):
    put(tmp_path / "x" / "a", good(3))
    put(tmp_path / "x" / "b", good(3, 3))
    for name in ("a/1.heic", "b/2.HEIC", "b/3.psd"):
        (tmp_path / "x" / name).write_bytes(b"?")
    with pytest.raises(BadInput, match=r"a/1\.heic: 3 pictures in a format that is not read \(2 \.heic, 1 \.psd\)"):
        ready(tmp_path, **CLASSES)


def test_files_without_a_picture_are_told(genbench, tmp_path, monkeypatch):
    monkeypatch.setenv("GENBENCH_CACHE", str(tmp_path / "cache"))
    put(tmp_path / "x", good(4))
    for name in ("000.txt", "001.txt", "labels.csv", ".gitkeep", "Thumbs.db"):
        (tmp_path / "x" / name).write_text("a cat")
    text = '[mine]\nsource = "folder"\npath = "x"\nshape = [1, 8, 8]\ntest_fraction = 0.5\n'
    (tmp_path / "d.toml").write_text(text + 'extractors = ["digits-classifier-v1"]\n')
    told = "left out 3 files in x without an image: 2 .txt, 1 .csv, such as 000.txt"
    words = ["plan", "-m", "gaussian", "-d", "mine", "--datasets", "d.toml", "--samples", "2", "--allow-rank-deficient"]
    for _ in range(2):  # prepared, then as the cache has it
        assert told in genbench(*words).err
    (tmp_path / "x" / "notes.md").write_text("new")
    assert "left out 4 files" in genbench(*words).err


@pytest.mark.parametrize("deeper", ["more", "more/and/more"])
def test_pictures_in_deeper_folders_are_refused_by_name_and_count(tmp_path, digits, deeper):
    for name in "ab":
        put(tmp_path / "x" / name, good(3))
    put(tmp_path / "x" / "b" / deeper, good(4))
    with pytest.raises(BadInput, match=rf"x/b/{deeper}: a folder of images in a class folder \(4 images"):
        ready(tmp_path, **CLASSES)
    with pytest.raises(BadInput, match=rf"x/b/{deeper}: a folder of images among images \(4 images"):
        ready(tmp_path, **{**FLAT, "path": "x/b"})
    with pytest.raises(BadInput, match=rf"x/b/{deeper}: a folder of images among images \(4 images"):
        open_samples(tmp_path / "x" / "b", digits, False, None, None)
    put(tmp_path / "samples" / "3" / deeper, good(2))
    put(tmp_path / "samples" / "3", good(2))
    with pytest.raises(BadInput, match=r"a folder of images in a class folder \(2 images"):
        open_samples(tmp_path / "samples", digits, True, None, None)


def test_links_to_folders_count_and_circles_end(tmp_path):
    put(tmp_path / "x" / "a", good(3))
    put(tmp_path / "x" / "b", good(3, 3))
    put(tmp_path / "far", good(2))
    (tmp_path / "x" / "b" / "up").symlink_to(tmp_path / "x")
    (tmp_path / "x" / "b" / "self").symlink_to("self")
    with pytest.raises(BadInput, match=r"b/up/a: a folder of images in a class folder \(3 images"):
        ready(tmp_path, **CLASSES)
    (tmp_path / "x" / "b" / "up").unlink()
    (tmp_path / "x" / "b" / "up").symlink_to(tmp_path / "x" / "b")
    assert len(ready(tmp_path, **CLASSES).train) == 4
    (tmp_path / "x" / "b" / "link").symlink_to(tmp_path / "far")
    with pytest.raises(BadInput, match=r"b/link: a folder of images in a class folder \(2 images"):
        ready(tmp_path, **CLASSES)


def test_a_pipe_named_like_a_picture_does_not_hang(tmp_path):
    put(tmp_path / "x", good(3))
    os.mkfifo(tmp_path / "x" / "009.png")
    with pytest.raises(BadInput, match=r"009\.png: not a readable image \(not a regular file\)"):
        ready(tmp_path, **FLAT)


# Arrays


def test_an_archive_with_images_in_several_arrays_is_refused(tmp_path, digits):
    """numpy.savez of two batches calls the second arr_1, which may also be the labels."""
    images = np.array(digits.test.images[:20])
    np.savez(tmp_path / "two.npz", images[:10], images[10:])
    np.savez(tmp_path / "named.npz", images=images, more_images=images, mean=images.mean((0, 1)).astype(float))
    np.savez(tmp_path / "one.npz", images, np.arange(20) % 10, mean=images.mean((0, 1)).astype(float))
    for name, beside in (("two", "arr_0, arr_1 (10, 1, 8, 8)"), ("named", "images, more_images (20, 1, 8, 8)")):
        for read in (
            lambda name: ready(tmp_path, source="array", path=f"{name}.npz", shape=[1, 8, 8]),
            lambda name: open_samples(tmp_path / f"{name}.npz", digits, False, None, None),
        ):
            with pytest.raises(BadInput, match="images in 2 arrays") as error:
                read(name)
            assert f"beside {beside}" in error.value.message
    assert len(open_samples(tmp_path / "one.npz", digits, True, None, None)) == 20


def test_samples_outside_their_range_are_counted(tmp_path, digits):
    images = np.array(digits.test.images[:20]) / 255
    images[[3, 8, 9, 11]] += 1
    np.save(tmp_path / "x.npy", images)
    with pytest.raises(BadInput, match=r"4 of 20 images cannot be used: outside the range: such as .*image 3 \("):
        open_samples(tmp_path / "x.npy", digits, False, None, "0,1")


@pytest.mark.parametrize(("highest", "told"), [(0, False), (1, True), (15, True), (16, False)])
def test_levels_of_another_range_in_uint8_are_told(tmp_path, highest, told):
    images = np.random.default_rng(0).integers(0, highest + 1, (20, 8, 8), dtype=np.uint8)
    images[-1, 0, 0] = highest
    np.save(tmp_path / "a.npy", images)
    remarks = ready(tmp_path, source="array", path="a.npy", shape=[1, 8, 8]).remarks
    assert any(f"no level is above {highest} of 255" in remark for remark in remarks) == told


# Libraries


@pytest.mark.parametrize(
    ("image", "reason"),
    [
        (None, "no image (empty)"),
        ({"bytes": None, "path": "a cat"}, "no image (a text: a cat)"),
        ({}, "no image (empty)"),
    ],
)
def test_rows_without_an_image_are_counted(tmp_path, monkeypatch, image, reason):
    rows = [{"image": cell(each)} for each in good(4)]
    image_kinds.library(
        monkeypatch, Rows([*rows, {"image": image}], {"image": "image"}), Rows(rows, {"image": "image"})
    )
    with pytest.raises(BadInput, match=re.escape(f"hub (train), row 4: {reason}")):
        ready(tmp_path, **HUB)


def test_a_column_without_images_is_named(tmp_path, monkeypatch):
    image_kinds.library(monkeypatch, Rows([{"image": 3}] * 4, {"image": "Value('int64')"}))
    with pytest.raises(BadInput, match=r"hub: column 'image' has no images, but Value\('int64'\)"):
        ready(tmp_path, **HUB)


def test_a_local_folder_that_cannot_be_loaded_is_bad_input(tmp_path, monkeypatch):
    image_kinds.library(monkeypatch, None)

    def fail(*_, **__):
        raise RuntimeError("Unknown split 'train'")

    monkeypatch.setattr("datasets.load_dataset", fail)
    with pytest.raises(EnvironmentProblem, match="Unknown split"):
        ready(tmp_path, **HUB)
    (tmp_path / "hub").mkdir()
    with pytest.raises(BadInput, match="Unknown split"):
        ready(tmp_path, **HUB)
    with pytest.raises(BadInput, match="nobody"):
        ready(tmp_path, **{**HUB, "path": "~nobody-here/x"})


FAKE = {"source": "torchvision", "dataset": "FakeData", "train": {"size": 6, "image_size": [3, 9, 9]},
        "test": {"size": 4, "image_size": [3, 9, 9], "random_offset": 6}}  # fmt: skip


def test_a_dataset_of_torchvision_without_a_folder_is_read(tmp_path):
    data = ready(tmp_path, num_classes=10, **FAKE)
    assert (len(data.train), len(data.test)) == (6, 4) and data.train.labels.shape == (6,) and data.overlap == 0
    assert data.train.images.std() > 50


@pytest.mark.parametrize(
    ("item", "reason", "detail"),
    [
        (lambda: np.zeros((20, 64, 64)), "no pair of a picture and a label", "ndarray"),
        (lambda: (np.zeros((8, 8, 3), np.uint8), 0), "no image", "ndarray"),
        (lambda: 1 / 0, "not a readable image", "division by zero"),
    ],
)
def test_what_a_dataset_of_torchvision_gives_instead_of_pictures_is_refused(
    tmp_path, monkeypatch, item, reason, detail
):
    monkeypatch.setattr("torchvision.datasets.FakeData.__getitem__", lambda self, index: item())
    with pytest.raises(BadInput, match=f"10 of 10 images cannot be used: {reason}") as error:
        ready(tmp_path, **FAKE)
    assert f"such as FakeData, train image 0 ({detail})" in error.value.message


@pytest.mark.parametrize("name", ["ImageFolder", "VisionDataset"])
def test_classes_of_torchvision_that_are_no_dataset_are_refused(tmp_path, name):
    with pytest.raises(BadInput, match=name):
        ready(tmp_path, source="torchvision", dataset=name, train={}, test={})


# The cache


def changed(path, content):
    """Write other content of the same size, with the time that the file had."""
    before = path.stat()
    path.write_bytes(content)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


def test_a_changed_file_of_torchvision_is_noticed(tmp_path):
    for split, first in (("train", 0), ("test", 3)):
        put(tmp_path / "country211" / split / "AD", good(3, first))
    before = ready(tmp_path, **COUNTRIES)
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "x").write_text("of another dataset")
    assert ready(tmp_path, **COUNTRIES).folder == before.folder
    changed(tmp_path / "country211" / "test" / "AD" / "001.png", picture(77))
    assert ready(tmp_path, **COUNTRIES).digest != before.digest


def test_a_changed_file_beside_the_folders_of_a_data_root_is_noticed(tmp_path, monkeypatch):
    from scipy.io import savemat

    from genbench.data.torchvision_source import Torchvision

    table = {"source": "torchvision", "dataset": "SVHN", "train": {"split": "train"}, "test": {"split": "test"}}
    monkeypatch.setattr("torchvision.datasets.SVHN._check_integrity", lambda self: True)
    for split in ("train", "test"):
        levels = np.random.default_rng(len(split)).integers(0, 256, (32, 32, 3, 4), dtype=np.uint8)
        savemat(tmp_path / f"{split}_32x32.mat", {"X": levels, "y": np.ones((4, 1), np.uint8)})
    before = ready(tmp_path, **table)
    savemat(tmp_path / "test_32x32.mat", {"X": levels[::-1], "y": np.ones((4, 1), np.uint8)})
    assert ready(tmp_path, **table).digest != before.digest
    assert Torchvision(shape=(3, 8, 8), **FAKE).state(None) == []


def test_a_changed_file_of_a_local_hub_is_noticed(tmp_path, monkeypatch):
    (tmp_path / "hub" / "data").mkdir(parents=True)
    file = tmp_path / "hub" / "data" / "train.parquet"
    file.write_bytes(b"1")
    image_kinds.library(monkeypatch, Rows([{"image": cell(each)} for each in good(4)], {"image": "image"}))
    before = ready(tmp_path, **HUB)
    changed(file, b"2")
    image_kinds.library(monkeypatch, Rows([{"image": cell(each)} for each in good(4, 4)], {"image": "image"}))
    assert ready(tmp_path, **HUB).digest != before.digest


def test_another_version_of_a_bundled_package_is_prepared_anew(tmp_path, monkeypatch):
    monkeypatch.setenv("GENBENCH_CACHE", str(tmp_path))
    digits = make_entry("digits", {"source": "scikit-learn", "shape": [1, 8, 8], "num_classes": 10}, tmp_path, "d.toml")
    folders = [prepare(digits, tmp_path).folder]
    monkeypatch.setattr("genbench.data.bundled.version", lambda name: "99")
    folders.append(prepare(digits, tmp_path).folder)
    assert folders[0] != folders[1] and len(set(map(os.path.dirname, folders))) == 1


def test_samples_made_elsewhere_are_told_of_as_well(genbench, runs, samples, tmp_path):
    images = np.load(samples)[:100]
    np.savez(tmp_path / "theirs.npz", images=images, labels=np.arange(100) % 10)
    result = genbench("evaluate", "theirs.npz", "-d", "digits", "--device", "cpu")
    assert result.code == 0 and "note: theirs: its labels are not used: --conditional" in result.err
    put(tmp_path / "pictures", [image_kinds.saved(Image.fromarray(image[0]), "PNG") for image in images])
    (tmp_path / "pictures" / "seeds.json").write_text("[]")
    result = genbench("evaluate", "pictures", "-d", "digits", "--device", "cpu")
    assert result.code == 0 and "left out 1 file in pictures without an image: 1 .json, seeds.json" in result.err


def test_a_picture_that_a_plugins_source_converts_itself_is_named_with_its_dataset(tmp_path, monkeypatch):
    """A source that does not use `taken` ends at the first, with the reason."""
    from genbench.data.own_files import Array

    def items(self, place):
        split = replace(original(self, place)[0], items=((self.convert(image_kinds.RGBA), -1) for _ in range(20)))
        return split, split

    original = Array.splits
    monkeypatch.setattr(Array, "splits", items)
    np.save(tmp_path / "a.npy", np.zeros((22, 8, 8, 3), np.uint8))
    with pytest.raises(BadInput, match=r"d\.toml \[mine\]: transparency \(mode RGBA\)"):
        ready(tmp_path, source="array", path="a.npy")
