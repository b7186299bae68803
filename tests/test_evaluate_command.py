"""`genbench evaluate`: samples made elsewhere as a row like any other."""

import json
import shutil
from dataclasses import replace

import numpy as np
import pytest
from finished import numbers, record_of, run_of, times
from PIL import Image

from genbench.data.foreign import open_samples, row_name


def digit_images(digits, count=20):
    return np.array(digits.test.images[:count])


# a row like any other


def test_samples_made_elsewhere_are_a_row_under_the_same_protocol(genbench, runs, samples):
    result = genbench("evaluate", samples, "-d", "digits", "--device", "cpu", "--json")
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
    tables = genbench("table", runs, "--layout", "full", "--format", "json").json
    assert {row["label"] for row in tables["tables"][0]["rows"]} == {"real", "copies", "noise", "mine", "theirs"}
    assert genbench("verify", runs).code == 0


def test_tables_reports_and_comparisons_know_the_row(genbench, runs, samples, tmp_path):
    assert genbench("evaluate", samples, "-d", "digits", "--device", "cpu", "--name", "other-lab").code == 0
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
    assert result.code == 0 and "real exists with 100 samples, not 150" in result.err
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
    assert {run.name.split("-digits")[0] for run in runs.iterdir()} == {
        "real",
        "copies",
        "noise",
        "real-ones",
        "spoilt",
    }
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


def test_samples_under_other_labels_than_they_show_have_a_low_class_accuracy(genbench, digits, tmp_path):
    images, labels = digit_images(digits, 100), digits.test.labels[:100]
    np.savez(tmp_path / "right.npz", images=images, labels=labels)
    np.savez(tmp_path / "wrong.npz", images=images, labels=np.where(np.arange(100) < 30, labels, (labels + 1) % 10))
    for name in ("right", "wrong"):
        assert genbench("evaluate", f"{name}.npz", "-d", "digits", "--conditional").code == 0
    np.save(tmp_path / "unlabelled.npy", images)
    assert genbench("evaluate", "unlabelled.npy", "-d", "digits").code == 0
    tables = genbench("table", "runs", "--layout", "full", "--format", "json").json["tables"]
    shown = {
        row["label"]: cell
        for table in tables
        for row in table["rows"]
        for key, cell in row["cells"].items()
        if key.startswith("class_accuracy")
    }
    assert shown["right"]["value"] > 0.9 and shown["real"]["value"] > 0.9 and shown["right"]["rank"] is None
    assert 0.25 < shown["wrong"]["value"] < 0.4
    for name in ("noise", "unlabelled"):
        assert shown[name]["value"] is None and "not drawn under labels" in shown[name]["note"]


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
