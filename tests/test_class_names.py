"""One mapping of classes to labels: made from the training folders, kept by name, and used by every command."""

import json

import image_kinds
import numpy as np
import pytest
from finished import record_of, run_of
from image_kinds import Rows, cell, classes, picture
from PIL import Image

from genbench.data import prepare, read_entries
from genbench.data.entries import make_entry
from genbench.data.foreign import open_samples
from genbench.records.class_names import in_order, label_of, listed
from genbench.support.errors import BadInput


def ready(tmp_path, **table):
    return prepare(make_entry("mine", {"shape": [1, 8, 8], **table}, tmp_path, "d.toml"), tmp_path, offline=True)


def folders(root, levels, count=6):
    """A class folder for each name, whose images show its level and a little noise."""
    generator = np.random.default_rng(0)
    for name, level in levels.items():
        (root / name).mkdir(parents=True)
        for number in range(count):
            pixels = level + generator.integers(0, 5, (8, 8), dtype=np.uint8)
            Image.fromarray(pixels).save(root / name / f"{number}.png")


def shown(part):
    """The level that the images of each label show, in the order of labels."""
    return [int(part.images[part.labels == label].min()) // 10 for label in np.unique(part.labels)]


CLASSES = {"source": "folder", "path": "x", "layout": "classes", "test_fraction": 0.4}
PETS = {"cat": 40, "dog": 80, "owl": 120}


@pytest.mark.parametrize(
    ("names", "wanted"),
    [
        (["10", "9", "1"], ["1", "9", "10"]),
        (["010", "9", "01"], ["01", "9", "010"]),
        (["10", "9", "b"], ["10", "9", "b"]),
        (["b", "a", "C"], ["C", "a", "b"]),
        (["-1", "10", "9"], ["-1", "10", "9"]),
        (["²", "10", "9"], ["10", "9", "²"]),
        ([], []),
    ],
)
def test_whole_numbers_are_in_numeric_order(names, wanted):
    assert in_order(names) == wanted


@pytest.mark.parametrize(
    ("word", "names", "label"),
    [
        ("2", [], 2),
        ("12", [], None),
        ("cat", [], None),
        ("dog", ["cat", "dog"], 1),
        ("1", ["cat", "dog"], 1),
        ("Dog", ["cat", "dog"], None),
        ("7", ["5", "7", "9"], 1),
        ("07", ["5", "7", "9"], 1),
        ("1", ["5", "7", "9"], None),
        ("1", ["01", "1"], 1),
        ("001", ["01", "1"], None),
        ("1", ["a", "7"], None),
        ("cafe\u0301", ["café"], 0),
    ],
)
def test_what_a_word_means(word, names, label):
    assert label_of(word, names, len(names) or 10) == label


def test_long_lists_of_names_are_cut():
    assert listed(["cat", "dog"]) == "cat, dog" and listed([]) == ""
    assert listed([f"{n}" for n in range(100)], 20) == "0, 1, 2, 3, 4, 5, 6, and 93 more"


# Folders


def test_folders_of_numbers_have_the_labels_of_their_numbers(tmp_path):
    folders(tmp_path / "x", {str(number): 10 * number for number in range(12)})
    folders(tmp_path / "x" / ".ipynb_checkpoints", {"0": 200})
    (tmp_path / "x" / "__MACOSX").mkdir()
    data = ready(tmp_path, **CLASSES, num_classes=12)
    assert shown(data.train) == shown(data.test) == list(range(12)) and data.classes[10:] == ("10", "11")
    again = ready(tmp_path, **CLASSES, num_classes=12)
    assert again.classes == data.classes and again.stamp("class").classes == data.classes
    samples = open_samples(tmp_path / "x", data, True, None, None)
    assert shown(samples) == list(range(12))
    toml = '[mine]\nsource = "folder"\npath = "x"\nlayout = "classes"\nnum_classes = 12\nshape = [1, 8, 8]\n'
    (tmp_path / "d.toml").write_text(toml + "test_fraction = 0.4\n")
    assert prepare(read_entries(tmp_path / "d.toml")["mine"], tmp_path).digest == data.digest


def test_samples_in_class_folders_have_the_labels_of_the_training_folders(tmp_path):
    folders(tmp_path / "x", PETS)
    data = ready(tmp_path, **CLASSES, num_classes=3)
    assert data.classes == ("cat", "dog", "owl") and shown(data.train) == [4, 8, 12]
    for name, given in {"names": {"owl": 120, "dog": 80}, "numbers": {"2": 120, "1": 80}}.items():
        folders(tmp_path / name, given)
        samples = open_samples(tmp_path / name, data, True, None, None)
        assert np.unique(samples.labels).tolist() == [1, 2] and shown(samples) == [8, 12]
    folders(tmp_path / "others", {"owl": 120, "wolf": 0, "3": 0})
    with pytest.raises(BadInput, match="no classes of the dataset: 3, wolf") as error:
        open_samples(tmp_path / "others", data, True, None, None)
    assert "cat, dog, owl" in error.value.hint


@pytest.mark.parametrize("missing", [(), ("cat",)])
def test_test_folders_with_other_classes_are_refused_naming_both_sides(genbench, tmp_path, monkeypatch, missing):
    monkeypatch.setenv("GENBENCH_CACHE", str(tmp_path / "cache"))
    folders(tmp_path / "x", PETS)
    folders(tmp_path / "test", dict.fromkeys(["dog", "owl", *([] if missing else ["wolf"])], 0))
    toml = '[mine]\nsource = "folder"\npath = "x"\ntest_path = "test"\nlayout = "classes"\nnum_classes = 3\n'
    (tmp_path / "d.toml").write_text(toml + "shape = [1, 8, 8]\n")
    result = genbench("run", "-m", "vae", "-d", "mine", "--datasets", "d.toml", "--conditional")
    assert result.code == 2 and "only in train: cat" in result.err and "hint" in result.err
    assert ("only in test: wolf" in result.err) == (not missing)
    assert not list((tmp_path / "cache" / "datasets").glob("*"))


def test_names_that_look_the_same_are_refused(tmp_path):
    folders(tmp_path / "x", {"cafe\u0301": 0, "café": 90})
    with pytest.raises(BadInput, match="two class folders whose names look the same"):
        ready(tmp_path, **CLASSES, num_classes=2)


def test_names_of_another_system_are_the_same(tmp_path):
    """A decomposed accent, as macOS writes it, in the test folder; a name that is no text in both."""
    folders(tmp_path / "x", {"café": 0, "b\udcff": 40, "z": 90})
    folders(tmp_path / "test", {"cafe\u0301": 0, "b\udcff": 40, "z": 90})
    data = ready(tmp_path, **CLASSES, num_classes=3, test_path="test")
    assert data.classes == ("b\\udcff", "café", "z") and shown(data.test) == [4, 0, 9]
    assert data.stamp("class").model_dump_json()


def test_class_folders_that_are_not_used_as_labels_are_told(tmp_path):
    folders(tmp_path / "x", PETS)
    data = ready(tmp_path, **CLASSES)
    assert data.remarks == ["3 class folders are not used, since num_classes is not set"] and data.classes == ()


# Where the names are shown


@pytest.fixture(scope="module")
def pets(tmp_path_factory):
    """A folder with class folders, and a finished conditional run on them."""
    from genbench.planning.session import Request, open_session
    from genbench.running.run import run_job

    folder = tmp_path_factory.mktemp("pets")
    folders(folder / "x", {"cat": 40, "dog": 80, "<owl>": 120}, 40)
    toml = '[pets]\nsource = "folder"\npath = "x"\nlayout = "classes"\nnum_classes = 3\nshape = [1, 8, 8]\n'
    (folder / "d.toml").write_text(toml + 'test_fraction = 0.5\nextractors = ["digits-classifier-v1"]\n')
    options = {"datasets": ["pets"], "budget": "5steps", "samples": 24, "likelihood_images": 6, "conditional": True,
               "allow_rank_deficient": True}  # fmt: skip
    files = {"datasets": folder / "d.toml", "out": folder / "runs"}
    request = Request(None, options, ("vae",), ("vae.preset=tiny",), "cpu", **files)
    session = open_session(request)
    (job,) = (job for job in session.jobs if job.model == "vae")
    run_job(job, session.datasets["pets"], session.plugins)
    return folder


def test_names_are_in_the_list_of_datasets(genbench, pets):
    listed = genbench("datasets", "--datasets", pets / "d.toml")
    (place,) = [place for place, line in enumerate(listed.out.splitlines()) if line.startswith("pets ")]
    assert listed.out.splitlines()[place + 1] == "    classes: <owl>, cat, dog"
    rows = {row["name"]: row["classes"] for row in genbench("datasets", "--datasets", pets / "d.toml", "--json").json}
    assert rows["pets"] == ["<owl>", "cat", "dog"] and rows["digits"] == []


def test_a_dataset_whose_folder_is_gone_is_listed(genbench, tmp_path):
    (tmp_path / "d.toml").write_text('[gone]\nsource = "folder"\npath = "y"\nlayout = "classes"\nshape = [1, 8, 8]\n')
    result = genbench("datasets", "--datasets", "d.toml")
    assert result.code == 0 and "gone" in result.out


def test_names_are_in_the_record_and_on_pages(genbench, pets, tmp_path):
    record = record_of(run_of(pets / "runs", "vae"))
    assert record["dataset"]["classes"] == ["<owl>", "cat", "dog"]
    assert genbench("report", run_of(pets / "runs", "vae"), "-o", tmp_path / "pages").code == 0
    names = "&lt;owl&gt;, cat, dog"
    assert f"3 classes ({names})" in (tmp_path / "pages" / "datasets" / "pets.html").read_text()
    page = next((tmp_path / "pages" / "runs").glob("vae-*.html")).read_text()
    assert f"a row per class: {names}." in page and f"<td>{names}</td>" in page


@pytest.mark.parametrize(("asked", "labels"), [("dog", "2"), ("dog,<owl>", "2,0"), ("1, dog", "1,2"), ("cat", "1")])
def test_samples_are_drawn_by_name(genbench, pets, tmp_path, asked, labels):
    run = run_of(pets / "runs", "vae")
    for words, file in ((asked, "a.npy"), (labels, "b.npy")):
        result = genbench("sample", run, "-n", "6", "--labels", words, "-o", file)
        assert result.code == 0, result.err
    assert np.array_equal(np.load(tmp_path / "a.npy"), np.load(tmp_path / "b.npy"))


def test_a_name_of_no_class_is_refused_with_those_that_there_are(genbench, pets):
    result = genbench("sample", run_of(pets / "runs", "vae"), "--labels", "dog,wolf")
    assert result.code == 2 and "'wolf' is no class of pets" in result.err and "<owl>, cat, dog" in result.err


# Arrays


def array(tmp_path, labels=None, own=None, **table):
    images = np.random.default_rng(0).integers(0, 256, (20, 8, 8), dtype=np.uint8)
    np.savez(tmp_path / "a.npz", images=images, **({} if own is None else {"labels": own}))
    if labels is not None:
        np.save(tmp_path / "labels.npy", labels)
        table["labels_path"] = "labels.npy"
    return ready(tmp_path, source="array", path="a.npz", test_fraction=0.4, **table)


def test_labels_without_num_classes_are_refused(tmp_path):
    with pytest.raises(BadInput, match=r"labels\.npy: labels, but num_classes is not set") as error:
        array(tmp_path, np.arange(20) % 5)
    assert "set num_classes = 5" in error.value.hint
    np.save(tmp_path / "test.npy", np.zeros((4, 8, 8), np.uint8))
    with pytest.raises(BadInput, match="num_classes is not set"):
        array(tmp_path, test_path="test.npy", test_labels_path="labels.npy")
    assert len(array(tmp_path, np.arange(20) % 5, num_classes=5).train) == 15


def test_labels_of_an_archive_that_are_not_used_are_told(tmp_path):
    assert "`labels` of a.npz is not used" in array(tmp_path, own=np.arange(20) % 5).remarks[0]


def test_two_files_with_other_labels_are_refused(tmp_path, digits):
    own, others = np.arange(20) % 5, np.arange(20) % 4
    with pytest.raises(BadInput, match=r"labels\.npy: other labels than .*a\.npz has itself"):
        array(tmp_path, others, own, num_classes=5)
    assert array(tmp_path, own, own, num_classes=5).train.labels.max() == 4
    np.savez(tmp_path / "s.npz", images=digits.test.images[:20], labels=own)
    with pytest.raises(BadInput, match="other labels"):
        np.save(tmp_path / "labels.npy", others)
        open_samples(tmp_path / "s.npz", digits, True, tmp_path / "labels.npy", None)
    np.save(tmp_path / "labels.npy", own)
    assert len(open_samples(tmp_path / "s.npz", digits, True, tmp_path / "labels.npy", None)) == 20


def test_labels_that_are_counted_from_1_are_told(tmp_path):
    remarks = array(tmp_path, own=np.arange(20) % 4 + 1, num_classes=5).remarks
    assert remarks == ["no training images of 1 of its classes: 0 (are labels counted from 1?)"]
    assert "of 3 of its classes: 2, 5, 6" in array(tmp_path, own=np.array([0, 1, 3, 4] * 5), num_classes=7).remarks[0]


def test_labels_beyond_the_classes_are_counted(tmp_path):
    with pytest.raises(BadInput, match=r"10 of 20 images cannot be used: a label beyond num_classes = 3: such as"):
        array(tmp_path, own=np.arange(20) % 6 - 1, num_classes=3)


# Libraries


def hub(tmp_path, monkeypatch, feature, labels, test_feature=None, **table):
    rows = [{"image": cell(picture(number)), "label": label} for number, label in enumerate(labels)]
    split, test = (Rows(rows, {"image": "image", "label": each}) for each in (feature, test_feature or feature))
    image_kinds.library(monkeypatch, split, test)
    return ready(tmp_path, source="huggingface", path="hub", shape=[3, 8, 8], **table)


def test_a_column_with_names_of_its_classes_keeps_them(tmp_path, monkeypatch):
    data = hub(tmp_path, monkeypatch, classes("cat", "dog"), [0, 1, 1, 0], num_classes=2)
    assert data.classes == ("cat", "dog") and data.train.labels.tolist() == [0, 1, 1, 0]


@pytest.mark.parametrize(
    ("labels", "counted", "detail"),
    [
        (["0", "1", "0", "1"], "8 of 8", "'0'"),
        ([None, 1, 0, 1], "2 of 8", "no label"),
        ([0.5, 1, 0, 1], "2 of 8", "0.5"),
        ([[1, 0], 1, 0, 1], "2 of 8", "[1, 0]"),
        ([-1, -1, 0, 1], "4 of 8", "label -1"),
    ],
)
def test_labels_that_are_none_are_refused_by_count(tmp_path, monkeypatch, labels, counted, detail):
    with pytest.raises(BadInput, match=f"{counted} images cannot be used: a label") as error:
        hub(tmp_path, monkeypatch, None, labels, num_classes=2)
    assert f"train image 0 ({detail})" in error.value.message and "from 0 to 1" in error.value.hint


def test_true_and_false_are_classes(tmp_path, monkeypatch):
    assert hub(tmp_path, monkeypatch, None, [True, False] * 2, num_classes=2).train.labels.tolist() == [1, 0, 1, 0]


def test_a_column_with_other_classes_is_refused(tmp_path, monkeypatch):
    with pytest.raises(BadInput, match="column 'label' has 2 classes, but num_classes = 3") as error:
        hub(tmp_path, monkeypatch, classes("cat", "dog"), [0, 1, 1, 0], num_classes=3)
    assert "num_classes = 2: cat, dog" in error.value.hint
    with pytest.raises(BadInput, match="in another order: cat, dog and dog, cat"):
        hub(tmp_path, monkeypatch, classes("cat", "dog"), [0, 1] * 2, classes("dog", "cat"), num_classes=2)
    with pytest.raises(BadInput, match="no column 'label'"):
        image_kinds.library(monkeypatch, Rows([{"image": cell(picture(0))}] * 4, {"image": "image"}))
        ready(tmp_path, source="huggingface", path="other", shape=[3, 8, 8], num_classes=2)


def test_a_column_that_is_not_used_is_told(tmp_path, monkeypatch):
    assert "its column 'label' is not used" in hub(tmp_path, monkeypatch, None, [0, 1] * 2).remarks[-1]


def test_labels_of_many_numbers_are_refused(tmp_path, monkeypatch):
    """CelebA's are forty attributes, and a tensor."""
    import torch

    label = torch.zeros(40)
    monkeypatch.setattr("torchvision.datasets.FakeData.__getitem__", lambda self, index: (image_kinds.RGB, label))
    with pytest.raises(BadInput, match="12 of 12 images cannot be used: a label that is no whole number"):
        ready(tmp_path, source="torchvision", dataset="FakeData", train={"size": 6}, test={"size": 6}, num_classes=2)


def test_an_earlier_preparation_without_names_is_read(tmp_path):
    from genbench.support.sealed import write_sealed

    data = array(tmp_path, own=np.arange(20) % 5, num_classes=5)
    about = json.loads((data.folder / "dataset.json").read_text())
    for key in ("classes", "remarks", "seal"):
        about.pop(key)
    write_sealed(data.folder / "dataset.json", about)
    again = array(tmp_path, own=np.arange(20) % 5, num_classes=5)
    assert again.digest == data.digest and again.classes == ()
