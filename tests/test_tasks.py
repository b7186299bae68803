"""Holes to fill and images to enlarge, from the command line: runs, rows without a model, tables, further samples."""

import json

import numpy as np
import pytest
from finished import run_here
from PIL import Image

from genbench.records.record import ANSWERED

WORDS = (
    "--set", "ddpm.preset=tiny", "--budget", "30steps", "--samples", "200", "--likelihood-images", "20",
    "--device", "cpu",
)  # fmt: skip
TASKS = {"hole": 'kind = "hole"', "image": 'kind = "image", factor = 4'}
PATTERNS = """
[patterns]
source = "mixture"
shape = [1, 8, 8]
num_classes = 10
train_images = 600
test_images = 300
extractors = ["digits-classifier-v1"]
condition = { CONDITION }
"""


@pytest.fixture(scope="module", params=[pytest.param(kind, marks=pytest.mark.slow) for kind in TASKS])
def kind(request):
    return request.param


@pytest.fixture(scope="module")
def runs(kind, session_cache, tmp_path_factory):
    """A short run of a task, with its rows without a model."""
    folder = tmp_path_factory.mktemp("tasks")
    (folder / "mine.toml").write_text(PATTERNS.replace("CONDITION", TASKS[kind]))
    run_here("run", *words(kind, folder))
    return folder / "runs"


def words(kind, folder):
    """What runs the task in a folder."""
    return (
        "-m",
        "ddpm",
        "-d",
        "patterns",
        "--datasets",
        folder / "mine.toml",
        "--condition",
        kind,
        *WORDS,
        "--out",
        folder / "runs",
    )


def measured(run):
    """The measurements of a run folder, by metric."""
    return {m["metric"]: m["value"] for m in json.loads((run / "record.json").read_text())["measurements"]}


def values(runs, metric):
    """A metric of every row, by name."""
    return {name: measured(run_of(runs, name)).get(metric) for name in (*ANSWERED, "ddpm")}


def psnr_of(kind):
    return "hole_psnr" if kind == "hole" else "answer_psnr"


def run_of(runs, name):
    (run,) = runs.glob(f"{name}-patterns-*")
    return run


def test_every_row_that_needs_no_model_is_there_and_measured(runs, kind):
    own = {"energy_score", psnr_of(kind), "spread", "known_pixel_error" if kind == "hole" else "consistency"}
    for name in (*ANSWERED, "ddpm"):
        assert own <= set(measured(run_of(runs, name))), name
    for name in ("real", "noise", "copies"):
        assert not own & set(measured(run_of(runs, name))), name


def test_the_model_stands_among_the_rows_without_one(runs, kind):
    energy = {name: measured(run_of(runs, name))["energy_score"] for name in (*ANSWERED, "ddpm")}
    assert energy["original"] == 0 < energy["posterior"] < energy["ddpm"]
    assert max(energy["posterior"], energy["neighbour"]) < energy["shuffled"]


def test_four_samples_in_a_row_answer_one_condition(runs):
    places = np.load(run_of(runs, "ddpm") / "conditions.npy")
    assert (places.reshape(-1, 4) == places[::4, None]).all() and len(np.unique(places)) == 50


def test_the_table_has_what_an_answer_is_judged_by(runs, genbench, kind):
    result = genbench("table", runs, "--layout", "condition")
    assert result.code == 0, result.err
    text = " ".join(result.out.split())
    assert f"Conditional on {kind}:" in text and "no model can beat" in text
    table = genbench("table", runs, "--layout", "condition", "--format", "json").json["tables"][0]
    assert {row["label"] for row in table["rows"]} == {*ANSWERED, "ddpm"}
    assert ("under-dispersed" in text) == (
        values(runs, psnr_of(kind))["ddpm"] > values(runs, psnr_of(kind))["posterior"]
    )
    metrics = ["energy_score", psnr_of(kind), "spread", "dispersion", "spread_ratio"]
    assert [column["metric"] for column in table["columns"]][:5] == metrics


def test_pictures_show_what_was_given_and_what_came_of_it(runs, kind):
    run = run_of(runs, "ddpm")
    grid, places = np.load(run / "pictures" / "answers.npy"), np.load(run / "conditions.npy")
    assert grid.shape == (8, 6, 1, 8, 8)
    assert (grid[:, 2:].reshape(-1, 1, 8, 8) == np.load(run / "samples.npy")[:32]).all()
    original = np.load(run_of(runs, "original") / "samples.npy")[:32:4]
    assert (grid[:, 1] == original).all() and (
        places[:32:4] == np.load(run_of(runs, "original") / "conditions.npy")[:32:4]
    ).all()
    if kind == "hole":
        assert (grid[:, 0, :, :, :4] == original[..., :4]).all() and (grid[:, 0, :, :, 4:] == 128).all()


def test_stored_runs_are_sound_and_a_second_run_changes_nothing(runs, genbench, kind):
    assert genbench("verify", runs).code == 0
    before = {file: file.read_bytes() for file in runs.glob("*/record.json")}
    again = genbench("run", *words(kind, runs.parent))
    assert again.code == 0 and {file: file.read_bytes() for file in before} == before


def test_further_samples_take_what_is_shown_from_a_file(runs, genbench, kind, tmp_path):
    image = np.arange(64, dtype=np.uint8).reshape(8, 8) * 3
    if kind == "hole":
        alpha = np.full((8, 8), 255, np.uint8)
        alpha[2:6, 2:6] = 0
        Image.fromarray(np.stack([image, alpha], 2), "LA").save(tmp_path / "given.png")
    else:
        Image.fromarray(image[:2, :2]).save(tmp_path / "given.png")
    words = (
        "sample",
        run_of(runs, "ddpm"),
        f"--{kind}",
        tmp_path / "given.png",
        "-n",
        "6",
        "-o",
        tmp_path / "more.npy",
    )
    result = genbench(*words)
    assert result.code == 0, result.err
    assert np.load(tmp_path / "more.npy").shape == (6, 1, 8, 8)


@pytest.mark.parametrize(
    ("make", "told"),
    [
        (lambda file: None, "no such file"),
        (lambda file: file.write_text("no image"), "not a readable image"),
        (lambda file: Image.new("L", (9, 8)).save(file), "another size (8x9 pixels)"),
    ],
)
def test_a_file_that_shows_nothing_of_use_is_named(runs, genbench, kind, tmp_path, make, told):
    make(file := tmp_path / "given.png")
    result = genbench("sample", run_of(runs, "ddpm"), f"--{kind}", file, "-o", tmp_path / "more.npy")
    assert result.code == 2 and told in result.err and "given.png" in result.err
    assert not (tmp_path / "more.npy").exists()


def test_a_file_of_another_kind_and_none_are_refused(runs, genbench, kind, tmp_path):
    other = {"hole": "image", "image": "hole"}[kind]
    result = genbench("sample", run_of(runs, "ddpm"), f"--{other}", "x.png", "-o", tmp_path / "more.npy")
    assert result.code == 2 and f"it conditions on {kind}" in result.err
    result = genbench("sample", run_of(runs, "ddpm"), "-o", tmp_path / "more.npy")
    assert result.code == 2 and f"--{kind} FILE" in result.err


def test_holes_without_one_and_half_transparent_ones_are_refused(runs, genbench, kind, tmp_path):
    if kind != "hole":
        pytest.skip("of holes")
    for alpha, told in ((255, "no pixel is transparent"), (100, "neither shown nor hidden")):
        Image.new("LA", (8, 8), (0, alpha)).save(tmp_path / "given.png")
        result = genbench("sample", run_of(runs, "ddpm"), "--hole", tmp_path / "given.png", "-o", tmp_path / "more.npy")
        assert result.code == 2 and told in result.err


@pytest.mark.parametrize(
    ("condition", "told"),
    [
        ('kind = "hole", shape = "round"', "shape: Input should be 'half', 'centre'"),
        ('kind = "image", factor = 3', "factor: 3 does not divide the sides"),
        ('kind = "image"', "factor: missing"),
        ('kind = "sound"', "'sound'"),
        ('kind = "hole", width = 3', "width"),
    ],
)
def test_a_condition_that_cannot_be_made_is_refused(genbench, tmp_path, condition, told):
    (tmp_path / "mine.toml").write_text(
        f'[mine]\nsource = "scikit-learn"\nshape = [1, 8, 8]\nnum_classes = 10\ncondition = {{ {condition} }}\n'
    )
    result = genbench("plan", "-m", "ddpm", "-d", "mine", "--datasets", tmp_path / "mine.toml", "--condition", "hole")
    assert result.code == 2 and told in result.err and "mine" in result.err


def test_a_dataset_without_the_kind_is_refused(genbench):
    result = genbench("plan", "-m", "ddpm", "-d", "digits", "--condition", "hole")
    assert result.code == 2 and "dataset 'digits' has no conditions of kind 'hole'" in result.err
