"""Samples that are copies are found, told wherever their numbers stand, and never first; honest ones are not."""

import json
from pathlib import Path

import numpy as np
import pytest
from finished import record_of, run_of
from records_factory import make_record, measure, quick_suite, reference

from genbench.evaluate import copies
from genbench.evaluate.copies import nearest
from genbench.metrics.copies import COPY, copied_share, copying
from genbench.records.record import Measurement
from genbench.report import build_report
from genbench.running.references import copied_samples
from genbench.tables.build import make_tables
from genbench.tables.copying import copying as copying_of_record
from genbench.tables.copying import memorising
from genbench.tables.formats import render

MEMORISER = Path(__file__).with_name("memoriser.py")
CHEATS = {"whole": "share = 1.0", "half": "share = 0.5", "noisy": "noise = 1.0", "shifted": "shift = 1"}
"""The memoriser's configurations by label."""


@pytest.fixture(scope="module")
def mnist5k(session_cache):
    from genbench.data.entries import known_datasets
    from genbench.data.folders import data_root
    from genbench.data.preparation import prepare

    return prepare(known_datasets()["mnist5k"], data_root(None), offline=True)


def noisy(images, levels=1, seed=0):
    noise = np.random.default_rng(seed).integers(-levels, levels + 1, images.shape)
    return np.clip(images.astype(int) + noise, 0, 255).astype(np.uint8)


def blurred(images):
    from scipy.ndimage import uniform_filter

    return uniform_filter(images.astype(float), (0, 0, 3, 3)).round().astype(np.uint8)


def near(images, reference):
    return float((nearest(images, reference).ratio <= COPY).mean())


# which images are copies

DISGUISES = {
    "none": lambda images: images,
    "a grey level of noise": noisy,
    "eight": lambda images: noisy(images, 8),
    "a shift to the right": lambda images: np.roll(images, 1, 3),
    "a shift up and left, with noise": lambda images: noisy(np.roll(images, (-1, -1), (2, 3))),
    "a reflection": lambda images: images[..., ::-1],
}


@pytest.mark.parametrize("name", ["digits", "mnist5k"])
@pytest.mark.parametrize("disguise", DISGUISES)
def test_a_copy_is_found_in_every_disguise_and_so_is_its_original(request, name, disguise):
    data = request.getfixturevalue(name)
    originals = np.arange(0, 1400, 14)
    found = nearest(np.ascontiguousarray(DISGUISES[disguise](data.train.images[originals])), data.train.images)
    assert (found.ratio <= COPY).mean() > 0.9
    assert found.exact.all() if disguise == "none" else not found.exact.any()
    assert (found.index == originals)[found.ratio <= COPY].all()


@pytest.mark.parametrize("name", ["digits", "mnist5k"])
def test_what_is_no_copy_is_not_found(request, name):
    data = request.getfixturevalue(name)
    real, train = np.array(data.test.images[:200]), data.train.images
    random = np.random.default_rng(0).integers(0, 256, real.shape, dtype=np.uint8)
    mean = np.broadcast_to(train.mean(0).astype(np.uint8), real.shape)
    faded = (real // 4 + 96).astype(np.uint8)
    for images in (real, blurred(real), random, mean, np.zeros_like(real), np.full_like(real, 128), faded):
        assert near(images, train) == 0


def test_blocks_change_nothing(digits, monkeypatch):
    images = np.concatenate([noisy(digits.train.images[:20]), digits.test.images[:20]])
    whole = nearest(images, digits.train.images)
    monkeypatch.setattr(copies, "BLOCK", 130)
    monkeypatch.setattr(copies, "MOST", 5000)
    parts = nearest(images, digits.train.images)
    assert np.allclose(whole.ratio, parts.ratio, atol=1e-4)
    assert (whole.index == parts.index)[:20].all() and (whole.exact == parts.exact).all()


@pytest.mark.parametrize("shape", [(1, 2, 2), (1, 1, 7), (4, 5, 3)])
def test_images_of_any_size(shape):
    reference = np.random.default_rng(0).integers(0, 256, (30, *shape), dtype=np.uint8)
    found = nearest(reference[:5], reference)
    assert found.exact.all() and (found.index == np.arange(5)).all()


def test_a_reference_of_equal_images_is_copied_by_them_alone():
    reference = np.full((50, 1, 8, 8), 90, np.uint8)
    assert nearest(reference[:3], reference).ratio.max() == 0
    assert near(np.random.default_rng(0).integers(0, 256, (9, 1, 8, 8), dtype=np.uint8), reference) == 0


# the share


def test_known_answers_of_the_share():
    ratios, exact, real = np.array([0.0] * 30 + [0.2] * 20 + [0.9] * 50), np.arange(100) < 30, np.ones(400)
    value = copied_share(ratios, exact, real)
    assert (value.value, value.parts["exact"], value.parts["real"]) == (0.5, 0.3, 0.0)
    assert value.parts["real_high"] == pytest.approx(1 - 0.025 ** (1 / 400)), "Clopper and Pearson's for 0 of n"
    assert value.interval[0] == pytest.approx(0.398, abs=1e-3)
    assert copied_share(ratios, exact, np.ones(5)).status == "not_enough_samples"


def shares(metric="copied_share", value=0.5, low=0.4, exact=0.3, **parts):
    parts = {"exact": exact, "real": 0.01, "real_high": 0.02} | parts
    return [Measurement(metric=metric, value=value, interval=(low, 1.0), parts=parts, better="lower")]


@pytest.mark.parametrize(
    ("found", "words"),
    [
        (shares(), "50 % of the samples are copies of training images (30 % exact); of test images, 1 % are"),
        (shares(exact=0.99), "the samples are training images: 99 % of them pixel by pixel"),
        (shares("copied_test_share", exact=1.0), "the samples are test images: 100 % of them pixel by pixel"),
        (shares(low=0.019), ""),
        (shares(real_high=0.45), ""),
        ([], ""),
    ],
)
def test_copying_is_a_share_above_that_of_real_images(found, words):
    assert copying(found) == words


def test_the_row_copies_has_no_image_twice_while_there_are_others(digits):
    part = digits.train
    images = copied_samples(part, len(part), 0).images
    assert len(np.unique(images.reshape(len(part), -1), axis=0)) == digits.distinct
    first, again = (copied_samples(part, 50, 0).images for _ in range(2))
    assert np.array_equal(first, again) and not np.array_equal(first, copied_samples(part, 50, 1).images)
    assert len(np.unique(first.reshape(50, -1), axis=0)) == 50


# through `run`


@pytest.fixture(scope="module")
def cheats(tmp_path_factory):
    """A folder of runs: a model that memorises, in four disguises, and an honest one."""
    from genbench.planning.session import Request, open_session
    from genbench.running.run import run_job

    folder = tmp_path_factory.mktemp("cheats")
    models = [
        f'[[models]]\nname = "memoriser"\nlabel = "{name}"\nconfig = {{ {own} }}\n' for name, own in CHEATS.items()
    ]
    common = 'budget = "40steps"\nsamples = 200\nlikelihood_images = 10\ndatasets = ["digits"]\n'
    suite = folder / "suite.toml"
    suite.write_text(common + '[[models]]\nname = "gaussian"\n' + "".join(models))
    session = open_session(
        Request(suite, {}, (), (), device="cpu", out=folder / "runs", plugins=(str(MEMORISER),))
    )  # fmt: skip
    for job in session.jobs:
        assert run_job(job, session.datasets["digits"], session.plugins).status == "complete", job.label
    return folder / "runs"


def rows_of(result):
    return {row["label"]: row for table in result.json["tables"] for row in table["rows"]}


def test_cheats_are_marked_in_record_table_and_json_and_honest_models_are_not(cheats, genbench):
    rows = rows_of(genbench("table", cheats, "--format", "json"))
    text = " ".join(genbench("table", cheats).out.split())
    for label in CHEATS:
        record = record_of(run_of(cheats, label))
        assert any("training images" in warning for warning in record["warnings"]), label
        assert "training images" in rows[label]["copying"] and f"{label} copies: " in text
    assert "the samples are training images: 100 % of them pixel by pixel" in text
    assert not any(rows[label]["copying"] for label in ("gaussian", "real", "copies", "noise"))
    assert "copies of training images" in text and " copies " in text


@pytest.mark.slow
def test_cheats_are_named_in_the_overview_with_pictures_of_pairs(cheats, genbench, tmp_path):
    assert genbench("report", cheats, "-o", "pages").code == 0
    overview = (tmp_path / "pages" / "index.html").read_text()
    for label in CHEATS:
        assert f"{run_of(cheats, label).name}-copies-train.png" in overview, label
    assert "gaussian-copies" not in overview and "Copies, ranked behind all that do not" in overview
    pair = np.load(run_of(cheats, "whole") / "pictures" / "copies-train.npy")
    assert pair.shape[0] == 2 and np.array_equal(pair[0], pair[1])
    assert genbench("report", cheats, "-o", "one.html", "--single-file").code == 0
    assert "samples that are copies most certainly" in overview
    assert "samples that are copies most certainly" in (tmp_path / "one.html").read_text()


def test_cheats_are_never_first(cheats, genbench):
    """A model that copies is ranked behind all that do not, and shares of copies rank nothing."""
    for table in genbench("table", cheats, "--layout", "full", "--format", "json").json["tables"]:
        rows = {row["label"]: row for row in table["rows"]}
        for slot, honest in rows["gaussian"]["cells"].items():
            cells = [rows[label]["cells"][slot] for label in CHEATS]
            assert ":" not in slot or not any(cell["best"] for cell in cells), slot
            if honest["rank"] is not None and ":" in slot:
                assert all(cell["rank"] is None or cell["rank"] > honest["rank"] for cell in cells), slot
            if slot.split(":")[0] in ("memorised_share", "copied_share", "copied_test_share"):
                assert honest["rank"] is None and all(cell["rank"] is None for cell in cells), slot


# through `evaluate`


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda data: data.train.images[:300], "the samples are training images: 100 %"),
        (lambda data: data.test.images[:300], "the samples are test images: 100 %"),
        (lambda data: noisy(data.train.images[:300]), "100 % of the samples are copies of training images (0 % exact)"),
        (
            lambda data: np.concatenate([noisy(blurred(data.test.images[:280]), 30), data.test.images[300:320]]),
            "6.7 % of the samples are copies of test images (6.7 % exact); of training images, ",
        ),
    ],
    ids=["training set", "test set", "near copies", "a few of the test set"],
)  # fmt: skip
def test_evaluate_says_what_samples_are_copies_of(genbench, digits, tmp_path, make, words):
    np.save(tmp_path / "theirs.npy", make(digits))
    result = genbench("evaluate", "theirs.npy", "-d", "digits", "--device", "cpu", "--json")
    assert f"warning: theirs: {words}" in result.err
    assert words in record_of(run_of(tmp_path / "runs", "theirs"))["warnings"][0]
    assert words in rows_of(result)["theirs"]["copying"]
    again = genbench("evaluate", "theirs.npy", "-d", "digits", "--device", "cpu")
    assert f"warning: theirs: {words}" in again.err and words in " ".join(again.out.split())


def test_evaluate_of_honest_samples_says_nothing(genbench, digits, tmp_path):
    np.save(tmp_path / "theirs.npy", noisy(blurred(digits.test.images[:300]), 30))
    result = genbench("evaluate", "theirs.npy", "-d", "digits", "--device", "cpu")
    assert result.code == 0 and "warning" not in result.err.lower() and "Warning, theirs" not in result.out


# tables and pages


def copier(label="copier", low=0.9, **changes):
    record = make_record(label, fid=2.0, **changes)
    found = measure("copied_share", 1.0, record.protocols, interval=(low, 1.0))
    found.parts = {"exact": 0.2, "real": 0.01, "real_high": 0.05}
    return record.model_copy(update={"measurements": [*record.measurements, found]})


def memorised(value, low, real_high=0.07):
    record = make_record("rote", fid=50.0)
    found = measure("memorised_share", value, record.protocols, interval=(low, 1.0))
    found.parts = {"real": 0.05, "real_high": real_high}
    return record.model_copy(update={"measurements": [*record.measurements, found]})


def headings(records, layout="quality"):
    (table,) = make_tables(records, layout)
    return [column.heading for column in table.columns], [row.label for row in table.rows]


@pytest.mark.parametrize(
    ("record", "shown"),
    [(memorised(0.3, 0.2), True), (memorised(0.01, 0.0), False), (memorised(0.1, 0.06), False), (copier(), True),
     (copier(low=0.04), False)],
    ids=["more than real", "less", "overlapping", "copies", "no more copies than real"],
)  # fmt: skip
def test_a_column_and_the_row_copies_appear_when_a_share_is_above_that_of_real_images(record, shown):
    columns, rows = headings([*quick_suite(), reference("copies"), record])
    told = [heading for heading in columns if heading.startswith(("memorised", "copies"))]
    assert bool(told) == shown == ("copies" in rows)
    assert rows[0] == "real" and rows[-1] == "noise" and (not shown or rows[1] == "copies")
    assert "copies" in headings([*quick_suite(), reference("copies"), record], "full")[1]
    assert "copies" not in headings([*quick_suite(), reference("copies"), record], "cost")[1]


def test_the_row_copies_alone_shows_no_column():
    row = reference("copies")
    row.measurements[-2].interval, row.measurements[-2].parts = (0.9, 1.0), {"real": 0.0, "real_high": 0.01}
    columns, rows = headings([*quick_suite(), row])
    assert "copies" not in rows and not any("copies" in heading for heading in columns)
    assert copying_of_record(row) == ""


def test_the_overview_says_who_is_memorised_and_what_copies_score(tmp_path):
    records = [*quick_suite(), reference("copies"), memorised(0.3, 0.2)]
    overview = (build_report(records, tmp_path / "out").parent / "index.html").read_text()
    assert (
        "rote: 30 % of the samples are as near to a training image, in features, as 5 % of real images are" in overview
    )
    assert "real images score 20.90, copies of training images 18.20 and noise 4,612" in overview
    assert "what a model that copies would score" in overview
    assert memorising(memorised(0.1, 0.06)) == "" == memorising(make_record())


def test_json_has_the_mark_of_every_row():
    rows = json.loads(render(make_tables([*quick_suite(), copier()], "quality"), "json"))["tables"][0]["rows"]
    assert {row["label"]: bool(row["copying"]) for row in rows if row["copying"]} == {"copier": True}
