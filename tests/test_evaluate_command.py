"""`genbench evaluate`: samples made elsewhere as a row like any other."""

import json
import pickle
import shutil
from dataclasses import replace

import numpy as np
import pytest
from finished import numbers, record_of, run_of, times
from PIL import Image

from genbench.errors import BadInput
from genbench.foreign import open_samples, row_name


def digit_images(digits, count=20):
    return np.array(digits.test.images[:count])


# a row like any other


def test_samples_made_elsewhere_are_a_row_under_the_same_protocol(genbench, runs, samples):
    result = genbench("evaluate", samples, "-d", "digits", "--json")
    assert result.code == 0, result.err
    record, original = record_of(run_of(runs, "theirs")), record_of(run_of(runs, "mine"))
    assert numbers(record) == numbers(original) and len(numbers(record)) >= 7
    assert record["status"] == "complete" and record["job"]["model"] == record["job"]["label"] == "theirs"
    assert record["cost"]["train"] is None and record["cost"]["parameters"] is None and record["job"]["budget"] == {}
    bits = {m["metric"]: m for m in record["measurements"] if m["metric"].startswith("bits")}
    assert set(bits) == {"bits_per_dim_test", "bits_per_dim_train"}
    for m in bits.values():
        assert m["value"] is None and m["status"] == "not_applicable" and "elsewhere" in m["note"]
        assert m["protocol"] in original["protocols"]
    (source,) = record["external_data"]
    assert source.startswith("theirs.npy") and "SHA-256" in source and str(samples.parent) not in json.dumps(record)
    tables = genbench("table", runs, "--format", "json").json
    assert {row["label"] for row in tables["tables"][0]["rows"]} == {"real", "noise", "mine", "theirs"}
    assert genbench("verify", runs).code == 0


def test_tables_reports_and_comparisons_know_the_row(genbench, runs, samples, tmp_path):
    assert genbench("evaluate", samples, "-d", "digits", "--name", "other-lab").code == 0
    text = genbench("table", runs).out
    assert "other-lab" in text and "theirs.npy" in text
    assert genbench("report", runs, "-o", "pages").code == 0
    assert "other-lab" in (tmp_path / "pages" / "index.html").read_text()
    rows = genbench("compare", run_of(runs, "mine"), run_of(runs, "other-lab"), "--json").json
    assert "external_data" in {row["key"] for row in rows} and not any("fid" in row["key"] for row in rows)
    result = genbench("sample", run_of(runs, "other-lab"))
    assert result.code == 2 and "no model" in result.err


def test_again_does_nothing_and_other_samples_are_another_row(genbench, runs, samples):
    assert genbench("evaluate", samples, "-d", "digits").code == 0
    before = times(runs)
    copy = shutil.copy(samples, samples.with_name("copy.npy"))
    assert genbench("evaluate", copy, "-d", "digits", "--name", "theirs").code == 0
    assert before == times(runs)
    images = np.load(samples)
    images[0, 0, 0, 0] ^= 1
    np.save(samples, images)
    assert genbench("evaluate", samples, "-d", "digits").code == 0
    assert len(list(runs.glob("theirs-*"))) == 2
    assert before.items() <= times(runs).items()
    rows = genbench("table", runs, "--format", "json").json["tables"][0]["rows"]
    assert (
        sum(row["label"] == "theirs" for row in rows) == 2 == len({r["name"] for r in rows if r["label"] == "theirs"})
    )


def test_a_number_of_samples_is_a_seeded_subset_and_a_group_of_its_own(genbench, runs, digits, tmp_path):
    np.save(tmp_path / "many.npy", digits.train.images[:150])
    result = genbench("evaluate", "many.npy", "-d", "digits", "--samples", "100")
    assert result.code == 0 and len(genbench("table", runs, "--format", "json").json["tables"]) == 1
    kept = np.load(run_of(runs, "many") / "samples.npy")
    assert kept.shape == (100, 1, 8, 8) and not np.array_equal(kept, digits.train.images[:100])
    assert "100 of 150" in record_of(run_of(runs, "many"))["external_data"][0]
    result = genbench("evaluate", "many.npy", "-d", "digits", "--name", "all")
    assert result.code == 0 and "real is there with 100 samples, not 150" in result.err
    assert record_of(run_of(runs, "real"))["samples"]["count"] == 100
    tables = genbench("table", runs, "--format", "json").json["tables"]
    assert [{"all"} <= {row["label"] for row in table["rows"]} for table in tables].count(True) == 1 < len(tables)
    assert not any({"all", "many"} <= {row["label"] for row in table["rows"]} for table in tables)


def test_real_images_score_better_than_spoilt_ones(genbench, digits, tmp_path):
    """In a folder without runs: the reference rows are made with it."""
    images, noise = np.array(digits.train.images[:200]), np.random.default_rng(0).integers(-160, 160, (200, 1, 8, 8))
    np.save(tmp_path / "real-ones.npy", images)
    np.save(tmp_path / "spoilt.npy", np.clip(images + noise, 0, 255).astype(np.uint8))
    for name in ("real-ones", "spoilt"):
        assert genbench("evaluate", f"{name}.npy", "-d", "digits").code == 0
    runs = tmp_path / "runs"
    assert {run.name.split("-digits")[0] for run in runs.iterdir()} == {"real", "noise", "real-ones", "spoilt"}
    fid = {
        name: {metric: value for (metric, _), value in numbers(record_of(run_of(runs, f"{name}-digits"))).items()}
        for name in ("real", "real-ones", "spoilt", "noise")
    }
    for metric in ("fid_test", "kid_test"):
        good, spoilt, noise = (fid[name][metric] for name in ("real-ones", "spoilt", "noise"))
        assert good < spoilt / 2 and spoilt < noise, metric
        assert abs(good - fid["real"][metric]) < spoilt / 2


def test_conditional_samples_from_labels_or_class_folders(genbench, digits, tmp_path):
    images, labels = digit_images(digits, 40), digits.test.labels[:40]
    np.savez(tmp_path / "drawn.npz", images=images, labels=labels)
    order = np.argsort(labels, kind="stable")
    for rank, index in enumerate(order):
        folder = tmp_path / "classes" / str(labels[index])
        folder.mkdir(parents=True, exist_ok=True)
        Image.fromarray(images[index, 0]).save(folder / f"{rank:03}.png")
    np.savez(tmp_path / "sorted.npz", images=images[order], labels=labels[order])
    assert genbench("evaluate", "drawn.npz", "-d", "digits", "--conditional").code == 0
    run = run_of(tmp_path / "runs", "drawn-digits-cond")
    assert np.array_equal(np.load(run / "labels.npy"), labels) and record_of(run)["job"]["conditional"] is True
    assert "Conditional" in genbench("table", "runs").out and genbench("verify", "runs").code == 0
    stacks = [open_samples(tmp_path / name, digits, True, None, None) for name in ("classes", "sorted.npz")]
    assert stacks[0].digest == stacks[1].digest
    assert stacks[0].digest != open_samples(tmp_path / "sorted.npz", digits, False, None, None).digest


def test_every_form_of_the_same_samples_is_the_same_content(digits, tmp_path):
    images = np.arange(256 * 64, dtype=np.int64).reshape(256, 1, 8, 8) % 256
    images = images.astype(np.uint8)
    unit = images / 255
    arrays = {"nchw": images, "nhwc": images.transpose(0, 2, 3, 1), "nhw": images[:, 0]}
    floats = {"0,1": unit, "-1,1": unit.astype(np.float32) * 2 - 1, "0,255": images.astype(np.float64)}
    for name, array in arrays.items():
        np.save(tmp_path / f"{name}.npy", array)
    for number, array in enumerate(floats.values()):
        np.save(tmp_path / f"float{number}.npy", array)
    np.savez(tmp_path / "named.npz", images=images)
    np.savez_compressed(tmp_path / "adm.npz", arrays["nhwc"])
    for kind in ("png", "bmp"):
        (tmp_path / kind).mkdir()
        for index, image in enumerate(images):
            Image.fromarray(image[0]).save(tmp_path / kind / f"{index:05}.{kind}")
    files = [*(f"{name}.npy" for name in arrays), "named.npz", "adm.npz", "png", "bmp"]
    opened = [open_samples(tmp_path / file, digits, False, None, None) for file in files]
    opened += [open_samples(tmp_path / f"float{i}.npy", digits, False, None, span) for i, span in enumerate(floats)]
    assert len({stack.digest for stack in opened}) == 1 and np.array_equal(opened[-1].images, images)


def test_colour_images_keep_their_channels(digits, tmp_path):
    colour = replace(digits, shape=(3, 8, 8))
    image = np.zeros((8, 8, 3), np.uint8)
    image[..., 0], image[0, 0] = 200, (1, 2, 3)
    for name, mode in (("a.png", "RGB"), ("b.png", "RGBA")):
        Image.fromarray(image).convert(mode).save(tmp_path / name)
    found = open_samples(tmp_path, colour, False, None, None).images
    assert np.array_equal(found[0], image.transpose(2, 0, 1)) and np.array_equal(found[0], found[1])


@pytest.mark.parametrize(
    ("file", "name"),
    [("my samples (2).npy", "my-samples-2"), ("_x.npz", "x"), ("é.npy", "samples"), ("a" * 90, "a" * 64)],
)
def test_a_file_gives_a_legal_name(tmp_path, file, name):
    assert row_name(None, tmp_path / file) == name


# what is refused


def write_bad(folder, digits):
    """Bad samples of every kind."""
    images = digit_images(digits)
    arrays = {
        "float": images / 255, "nan": np.where(images == 0, np.nan, images / 255), "beyond": images / 128,
        "int": images.astype(np.int64), "large": np.zeros((9, 1, 16, 16), np.uint8), "one": images[:1],
        "none": images[:0],
        "colour": np.zeros((9, 3, 8, 8), np.uint8), "flat": images.reshape(20, -1), "deep": images[None],
        "words": np.array(["a", "b"]), "scalar": np.array(3), "good": images,
    }  # fmt: skip
    for name, array in arrays.items():
        np.save(folder / f"{name}.npy", array)
    np.save(folder / "objects.npy", np.array([{"a": 1}], dtype=object), allow_pickle=True)
    (folder / "raw.npy").write_bytes(pickle.dumps(images))
    (folder / "text.npy").write_text("no array")
    (folder / "cut.npy").write_bytes((folder / "good.npy").read_bytes()[:-100])
    (folder / "empty.npy").write_bytes(b"")
    (folder / "samples.txt").write_text("x")
    np.savez(folder / "keyless.npz", pictures=images)
    np.savez(folder / "objects.npz", images=np.array([None, 1], dtype=object))
    labels = digits.test.labels[:20].copy()
    np.savez(folder / "short.npz", images=images, labels=labels[:5])
    np.savez(folder / "half.npz", images=images, labels=labels + 0.5)
    labels[7] = 10
    np.savez(folder / "class10.npz", images=images, labels=labels)
    np.savez(folder / "unlabelled.npz", images=images)
    cut = folder / "cut.npz"
    cut.write_bytes((folder / "unlabelled.npz").read_bytes()[:300])
    pictures = {
        "text": None, "size": Image.new("L", (9, 8)), "rgb": Image.new("RGB", (8, 8)),
        "deep16": Image.new("I;16", (8, 8)), "clear": Image.new("LA", (8, 8)), "truncated": None,
    }  # fmt: skip
    for name, picture in pictures.items():
        (folder / name).mkdir()
        for index in range(3):
            Image.fromarray(images[index, 0]).save(folder / name / f"{index}.png")
        bad = folder / name / "bad.png"
        if picture is not None:
            picture.save(bad)
        elif name == "text":
            bad.write_text("no image")
        else:
            bad.write_bytes((folder / name / "0.png").read_bytes()[:60])
    (folder / "hollow").mkdir()
    shutil.copytree(folder / "size", folder / "nested" / "cats")


D = ["-d", "digits"]
BAD = {
    "missing file": (["nowhere.npy", *D], "nowhere.npy"),
    "no dataset": (["good.npy"], "-d DATASET"),
    "unknown dataset": (["good.npy", "-d", "digit"], "did you mean 'digits'"),
    "unknown extractor": (["good.npy", *D, "--extractor", "inception"], "did you mean"),
    "extractor of another shape": (["good.npy", *D, "--extractor", "mnist-classifier-v1"], "8x8"),
    "unknown kind of file": (["samples.txt", *D], "samples.txt"),
    "empty folder": (["hollow", *D], "no images"),
    "class folders without labels asked for": (["nested", *D], "--conditional"),
    "class folders that are no classes": (["nested", *D, "--conditional"], "cats"),
    "text named png": (["text", *D], "bad.png"),
    "truncated image": (["truncated", *D], "bad.png"),
    "image of another size": (["size", *D], "8x9 pixels"),
    "colour image": (["rgb", *D], "bad.png"),
    "16-bit image": (["deep16", *D], "I;16"),
    "transparent image": (["clear", *D], "bad.png"),
    "range of image files": (["size", *D, "--range", "0,1"], "--range"),
    "floats without a range": (["float.npy", *D], "--range 0,1"),
    "floats with NaN": (["nan.npy", *D, "--range", "0,1"], "image 0"),
    "floats out of range": (["beyond.npy", *D, "--range", "0,1"], "image 0"),
    "range of levels": (["good.npy", *D, "--range", "0,1"], "uint8"),
    "unknown range": (["float.npy", *D, "--range", "0,2"], "0,2"),
    "whole numbers": (["int.npy", *D], "int64"),
    "words": (["words.npy", *D], "shape (2,)"),
    "scalar": (["scalar.npy", *D], "shape ()"),
    "another size": (["large.npy", *D], "(1, 16, 16)"),
    "another number of channels": (["colour.npy", *D], "(3, 8, 8)"),
    "rank 2": (["flat.npy", *D], "shape (20, 64)"),
    "rank 5": (["deep.npy", *D], "shape (1, 20, 1, 8, 8)"),
    "one image": (["one.npy", *D], "1 image"),
    "no image": (["none.npy", *D], "0 image"),
    "an array of objects": (["objects.npy", *D], "pickled objects"),
    "an archive of objects": (["objects.npz", *D], "pickled objects"),
    "a pickle": (["raw.npy", *D], "pickled objects"),
    "a text": (["text.npy", *D], "text.npy"),
    "an empty file": (["empty.npy", *D], "empty.npy"),
    "a file cut short": (["cut.npy", *D], "cut.npy"),
    "an archive cut short": (["cut.npz", *D], "cut.npz"),
    "an archive without images": (["keyless.npz", *D], "pictures"),
    "no labels": (["unlabelled.npz", *D, "--conditional"], "no labels"),
    "too few labels": (["short.npz", *D, "--conditional"], "(5,)"),
    "labels that are no classes": (["half.npz", *D, "--conditional"], "float64"),
    "a label out of range": (["class10.npz", *D, "--conditional"], "label 10 of image 7"),
    "labels without conditional": (["good.npy", *D, "--labels", "good.npy"], "--conditional"),
    "missing labels": (["good.npy", *D, "--conditional", "--labels", "nowhere.npy"], "nowhere.npy"),
    "too many samples asked for": (["good.npy", *D, "--samples", "21"], "at most 20"),
    "one sample asked for": (["good.npy", *D, "--samples", "1"], "samples"),
    "an illegal name": (["good.npy", *D, "--name", "../x"], "../x"),
    "the name real": (["good.npy", *D, "--name", "real"], "reference row"),
    "the name NOISE": (["good.npy", *D, "--name", "NOISE"], "reference row"),
    "out is a file": (["good.npy", *D, "--out", "samples.txt"], "is a file"),
    "unknown device": (["good.npy", *D, "--device", "gpu"], "cuda:0"),
    "unknown option": (["good.npy", *D, "--nmae", "x"], "No such option"),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_samples_get_one_error_and_leave_nothing(genbench, tmp_path, digits, name):
    write_bad(tmp_path, digits)
    arguments, text = BAD[name]
    before = sorted(tmp_path.rglob("*"))
    result = genbench("evaluate", *arguments)
    assert result.code == 2 and text in result.err, result.err
    assert result.out == "" and result.err.count("genbench: error[") == 1
    assert "Traceback" not in result.err and "allow_pickle" not in result.err
    assert sorted(tmp_path.rglob("*")) == before


def test_a_pickle_is_not_run(digits, tmp_path):
    class Planted:
        def __reduce__(self):
            return (tmp_path.joinpath("planted").touch, ())

    (tmp_path / "x.npy").write_bytes(pickle.dumps(Planted()))
    np.save(tmp_path / "y.npy", np.array([Planted()], dtype=object), allow_pickle=True)
    for file in ("x.npy", "y.npy"):
        with pytest.raises(BadInput):
            open_samples(tmp_path / file, digits, False, None, None)
    assert not (tmp_path / "planted").exists()


def test_an_error_as_json(genbench):
    result = genbench("evaluate", "nowhere.npy", "-d", "digits", "--json")
    assert result.code == 2 and "nowhere.npy" in result.json["error"]["message"]
