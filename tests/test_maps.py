"""Images of maps: density against SciPy's, entropy against sampling, what is read off them, rows in order."""

import json
import math
from dataclasses import replace

import numpy as np
import pytest
from finished import record_of, run_here
from scipy.stats import multivariate_normal

from genbench.data.condition_plan import ConditionPlan
from genbench.data.dataset import Part
from genbench.data.entries import known_datasets
from genbench.data.folders import data_root
from genbench.data.maps import BACKGROUND, silhouettes
from genbench.data.preparation import prepare
from genbench.data.regions import COLOURS, Regions, make_regions
from genbench.data.tuning import prepare_tuning
from genbench.evaluate import answers
from genbench.evaluate.copies import copy_measurements
from genbench.evaluate.judges import JUDGES, values_of
from genbench.evaluate.maps import confusion, read, shares_of
from genbench.metrics.alignment import ALIGNED, MIOU, PIXELS, agreement, mean_iou
from genbench.metrics.answers import CONSISTENCY, DISPERSION, ENERGY, KNOWN, PSNR, SPREAD, SPREAD_RATIO
from genbench.metrics.copies import COPIED, COPIED_TEST
from genbench.records.samples import Samples
from genbench.running.answers import ANSWERS, answers_of

NAMES = ("original", "shuffled", "neighbour", "mean", "posterior")


@pytest.fixture(scope="module")
def data(session_cache):
    return prepare(known_datasets()["maps"], data_root(None), offline=True)


def maps_of(part):
    return np.asarray(part.conditions["map"]["map"])


def small(noise=6.0, height=2, width=3, colours=2, classes=3, rank=2):
    """A distribution of a few pixels whose means and modes are arbitrary."""
    random, dims = np.random.default_rng(0), colours * height * width
    return Regions(random.uniform(80, 170, (classes, dims)), random.normal(0, 9, (classes, dims, rank)), noise)


def covariance(law, image_map):
    """That of an image given its map (h, w), from the definition, value by value."""
    classes = np.tile(image_map.ravel(), law.means.shape[1] // image_map.size)
    alike = classes[:, None] == classes
    rows = law.modes[classes, np.arange(len(classes))]
    return alike * (rows @ rows.T) + law.noise**2 * np.eye(len(classes)), law.means[classes, np.arange(len(classes))]


# The distribution


@pytest.mark.parametrize("image_map", [[[0, 1, 0], [2, 1, 0]], [[1, 1, 1], [1, 1, 1]], [[2, 0, 0], [0, 0, 2]]])
def test_the_density_is_that_of_scipy(image_map):
    law, image_map = small(), np.array(image_map, np.uint8)
    spread, mean = covariance(law, image_map)
    levels = np.random.default_rng(1).integers(60, 200, (5, len(mean)))
    found = law.log_prob(levels, np.repeat(image_map[None], 5, axis=0))
    assert found == pytest.approx(multivariate_normal(mean, spread).logpdf(levels), rel=1e-10)
    assert law.mean(image_map[None])[0] == pytest.approx(mean)


def test_draws_have_the_covariance_of_the_density():
    law, image_map = small(), np.array([[0, 1, 0], [2, 1, 0]])
    spread, mean = covariance(law, image_map)
    drawn = law.draw(np.repeat(image_map[None], 200_000, axis=0), np.random.default_rng(0))
    assert np.abs(drawn.mean(0) - mean).max() < 0.3
    assert np.abs(np.cov(drawn.T) - spread).max() < 0.02 * np.abs(spread).max()


def test_regions_of_one_class_vary_together_and_those_of_others_apart():
    """The same class in two places shares its scores: seeing one tells of the other."""
    law = small(noise=0.1)
    maps = np.repeat(np.array([[[0, 1, 0], [1, 2, 2]]]), 5000, axis=0)
    drawn = law.draw(maps, np.random.default_rng(0)).reshape(5000, 2, 6)[:, 0]
    alike = np.abs(np.corrcoef(drawn.T))
    wanted = np.abs(np.corrcoef(drawn.T) - np.eye(6))
    assert alike[0, 2] > 0.2 and wanted[0, [1, 3, 4, 5]].max() < 0.05


@pytest.mark.parametrize("noise", [0.5, 2.0, 6.0])
def test_the_entropy_of_levels_lies_within_the_stated_error(noise):
    """Of one pixel of one class by a sum over the 256 levels, also where many are clipped."""
    from scipy.stats import norm

    for centre in (127.3, 250.0):
        law = Regions(np.array([[centre], [20.0]]), np.array([[[3.0]], [[0.0]]]), noise)
        maps = np.array([0, 0, 0, 1]).reshape(4, 1, 1)
        edges, exact = np.concatenate([[-np.inf], np.arange(0.5, 255), [np.inf]]), []
        for mean, deviation in ((centre, math.hypot(3, noise)), (20.0, noise)):
            p = np.diff(norm.cdf(edges, mean, deviation))
            exact.append(float(-(p[p > 0] * np.log2(p[p > 0])).sum()))
        found = law.entropy(maps)
        assert abs(found.bits_per_dim - (3 * exact[0] + exact[1]) / 4) <= found.error + 1e-9


def test_the_entropy_is_the_mean_surprise_of_the_images(data):
    for part in (data.test, data.train):
        levels, entropy = part.images[:4000].reshape(-1, 768), data.law.entropy(maps_of(part)[:4000])
        bits = -data.law.log_prob(levels, maps_of(part)[:4000]) / (768 * math.log(2))
        error = bits.std() / math.sqrt(len(bits))
        assert error < 0.001 and 0 < entropy.error < 0.0015
        assert abs(bits.mean() - entropy.bits_per_dim) < 3 * error + entropy.error


def test_the_limit_is_that_of_runs_that_condition_on_the_map(data):
    assert data.entropies.keys() == {"map"}
    assert data.stamp("map").entropy == data.law.entropy(maps_of(data.test))
    assert data.stamp(None).entropy is None and data.stamp("class").entropy is None
    assert "given the map" in data.stamp("map").entropy.note and "2,000 maps" in data.stamp("map").entropy.note


# The images


def test_the_images_are_the_same_everywhere(data):
    assert data.digest == "f70a2b245b5564de98143835e1a5025143de7e120726691ff75bfde108eb91e1"
    assert (len(data.train), len(data.test), data.overlap) == (20_000, 2_000, 0)
    assert data.shape == (3, 16, 16) and data.conditions[0].size == data.test.sizes["map"] == 11


def test_another_seed_gives_other_maps_and_colours(data, tmp_path):
    (tmp_path / "mine.toml").write_text(
        '[mine]\nsource = "maps"\nshape = [3, 16, 16]\nseed = 1\ntrain_images = 50\ntest_images = 20\n'
    )
    mine = prepare(known_datasets([tmp_path / "mine.toml"])["mine"], data_root(None))
    assert mine.train.images.shape == (50, 3, 16, 16)
    assert not np.array_equal(maps_of(mine.train), maps_of(data.train)[:50])
    assert not np.allclose(mine.law.modes, data.law.modes)


def test_maps_hold_one_to_three_digits_in_cells_of_their_own(data):
    for part in (data.train, data.test):
        maps, labels = maps_of(part)[:2000], part.labels[:2000]
        cells = maps.reshape(-1, 2, 8, 2, 8).swapaxes(2, 3).reshape(-1, 4, 64)
        there = [[sorted(set(cell) - {BACKGROUND}) for cell in image] for image in cells]
        assert all(len(found) <= 1 for image in there for found in image)
        counts = np.bincount([sum(map(len, image)) for image in there])
        assert counts[0] == 0 and len(counts) == 4 and counts[1:].min() > 500
        assert all(next(found[0] for found in image if found) == label for image, label in zip(there, labels))


def test_digits_are_those_of_their_split_anywhere_in_a_cell(data):
    from genbench.data.bundled import DIGITS

    (train, _), (test, _) = DIGITS[8].parts()
    apart = {ink.tobytes() for ink in silhouettes(test)} - {ink.tobytes() for ink in silhouettes(train)}
    seen = {"train": set(), "test": set()}
    lefts = set()
    for name, part in (("train", data.train), ("test", data.test)):
        for image_map in maps_of(part)[:3000]:
            ink = image_map[:8, :8] != BACKGROUND
            if ink.any():
                (one,) = silhouettes(255 * ink[None, None])
                seen[name].add(one.tobytes())
                lefts.add(int(np.flatnonzero(ink.any(0))[0]))
    assert seen["test"] & apart and not seen["train"] & apart and len(lefts) >= 4


def test_colours_are_far_apart_and_levels_hardly_ever_clipped(data):
    distances = np.linalg.norm(COLOURS[:, None] - COLOURS, axis=2) + 9 * np.eye(len(COLOURS))
    assert distances.min() == pytest.approx(math.sqrt(0.5)) and len(COLOURS) == BACKGROUND + 1
    assert ((data.train.images == 0) | (data.train.images == 255)).mean() < 1e-5
    spread = np.sqrt((data.law.modes**2).sum(2))
    assert spread.max(1) == pytest.approx(18.0) and spread.mean() > 5


def test_a_split_for_tuning_has_the_entropy_of_its_own_maps(session_cache, tmp_path):
    (tmp_path / "mine.toml").write_text(
        '[mine]\nsource = "maps"\nshape = [3, 16, 16]\ntrain_images = 60\ntest_images = 10\n'
    )
    entry = known_datasets([tmp_path / "mine.toml"])["mine"]
    tuning = prepare_tuning(entry, data_root(None))
    assert tuning.stamp("map").entropy == tuning.law.entropy(maps_of(tuning.test))
    assert tuning.stamp("map").entropy != prepare(entry, data_root(None)).stamp("map").entropy


@pytest.mark.parametrize("line", ["noise = 3", "rank = 9", "shape = [3, 32, 32]", "images = 3"])
def test_wrong_settings_are_refused(genbench, line, tmp_path):
    shape = "" if "shape" in line else "shape = [3, 16, 16]\n"
    (tmp_path / "mine.toml").write_text(f'[mine]\nsource = "maps"\n{shape}{line}\n')
    result = genbench("plan", "-m", "gaussian", "-d", "mine", "--datasets", "mine.toml")
    assert result.code == 2 and line.split()[0] in result.err


# Reading the class of each pixel


def test_counts_and_mean_iou_by_hand():
    """Two 2x2 maps of classes 0 to 2 of 4: a pixel is unknown, class 3 is nowhere given but read once."""
    given = np.array([[[0, 0], [1, 4]], [[0, 1], [2, 2]]])
    found = np.array([[[0, 1], [1, 3]], [[0, 3], [2, 0]]])
    counts = confusion(np.repeat(given, 4, axis=0), np.repeat(found, 4, axis=0), 4)
    assert counts.shape == (2, 4, 4) and counts[0].sum() == 12 and counts[1].sum() == 16
    assert (counts.sum(0) == 4 * np.array([[2, 1, 0, 0], [0, 1, 0, 1], [1, 0, 1, 0], [0, 0, 0, 0]])).all()
    values = agreement(counts)
    assert values[MIOU].value == pytest.approx((2 / 4 + 1 / 3 + 1 / 2) / 3), "class 3 is left out"
    assert values[PIXELS].value == pytest.approx(4 / 7)


def test_iou_is_right_over_given_or_read():
    assert mean_iou(np.array([[3, 1], [2, 4]])) == pytest.approx((3 / 6 + 4 / 7) / 2)
    nothing = agreement(np.zeros((2, 3, 3), int))
    assert nothing[MIOU].status == nothing[PIXELS].status == "not_applicable"
    assert agreement(np.eye(2, dtype=int)[None])[MIOU].stderr is None, "one condition has no error"


def test_errors_are_those_of_other_conditions():
    """Conditions differ in how many of their pixels are wrong, and classes in their share."""
    random, found = np.random.default_rng(0), {MIOU: [], PIXELS: []}
    for _ in range(200):
        wrong = random.beta(1, 4, 80)
        counts = np.zeros((80, 3, 3), int)
        for each, share in zip(counts, wrong):
            for k, pixels in enumerate((200, 30, 10)):
                read_as = np.where(random.random(pixels) < share, random.integers(0, 3, pixels), k)
                each[k] = np.bincount(read_as, minlength=3)
        for name, value in agreement(counts).items():
            found[name].append((value.value, value.stderr))
    for name, pairs in found.items():
        values, errors = np.array(pairs).T
        assert errors.mean() == pytest.approx(values.std(ddof=1), rel=0.25), name


def test_the_reader_knows_how_colours_are_distributed_at_each_pixel():
    """Against Bayes' rule with SciPy's densities, pixel by pixel."""
    law, shares = make_regions((3, 16, 16), 3, 6.0, 0), np.array([*[0.02] * 10, 0.8])
    images = np.random.default_rng(0).integers(60, 196, (2, 3, 16, 16), dtype=np.uint8)
    found = read(images, law, shares)
    for row, column in ((0, 0), (7, 12), (15, 3)):
        place = [c * 256 + 16 * row + column for c in range(3)]
        for image, mine in zip(images, found):
            score = [
                multivariate_normal(law.means[k, place], law.modes[k, place] @ law.modes[k, place].T + 36 * np.eye(3))
                .logpdf(image[:, row, column]) + math.log(share) for k, share in enumerate(shares)
            ]  # fmt: skip
            assert mine[row, column] == np.argmax(score)


def test_a_class_that_no_training_map_has_is_never_read(data):
    part = Part(data.train.images[:3], None, {"map": {"map": np.array([[[0, 1]], [[1, 11]], [[1, 1]]])}}, {"map": 11})
    shares = shares_of(part)
    assert shares[:2] == pytest.approx([0.2, 0.8]) and not shares[2:].any()
    assert set(np.unique(read(data.test.images[:5], data.law, shares))) <= {0, 1}


# Rows without a model


@pytest.fixture(scope="module")
def rows(data):
    """The metrics of each row, of both kinds."""
    places, found = ConditionPlan.of(data, "map", 1000).numbers, {}
    for name in answers_of(data, "map"):
        samples = Samples(ANSWERS[name](data, "map", places, 0), conditions=places)
        own = values_of(samples, data, "map", JUDGES["maps"])
        found[name] = {**own, **answers.values_of(samples, data, "map", 0)}
    return found


def _varies(data):
    """The mean variance of modes over the pixels of the test maps."""
    classes = np.tile(maps_of(data.test).reshape(2000, -1), 3)
    return float((data.law.modes**2).sum(2)[classes, np.arange(768)].mean())


def test_every_row_is_there_and_nothing_of_holes_or_small_images(rows):
    assert tuple(rows) == NAMES
    for found in rows.values():
        assert {ALIGNED, MIOU, PIXELS, ENERGY, PSNR, SPREAD, SPREAD_RATIO} <= found.keys()
        assert not {KNOWN, CONSISTENCY} & found.keys()


@pytest.mark.parametrize("metric", [MIOU, PIXELS, ALIGNED])
def test_rows_stand_in_the_order_of_what_they_know(rows, metric):
    found = {name: values[metric].value for name, values in rows.items()}
    assert found["original"] >= 0.999 and found["posterior"] == pytest.approx(found["original"], abs=1e-3)
    assert found["posterior"] > found["neighbour"] + 0.05 > found["shuffled"] + 0.2
    assert all(values[MIOU].stderr < 0.02 for values in rows.values())


def test_the_ends_of_aligned_are_those_rows(rows):
    assert rows["original"][ALIGNED].value == pytest.approx(1) and abs(rows["shuffled"][ALIGNED].value) < 0.02
    for name in ("neighbour", "posterior"):
        value = rows[name][MIOU]
        assert value.parts["ceiling"] == rows["original"][MIOU].value
        assert value.parts["floor"] == pytest.approx(rows["shuffled"][MIOU].value, abs=0.02)
        floor, ceiling = value.parts["floor"], value.parts["ceiling"]
        assert rows[name][ALIGNED].value == pytest.approx((value.value - floor) / (ceiling - floor))


def test_exact_draws_have_the_best_energy_score_and_the_exact_mean_the_best_psnr(rows):
    energy = {name: values[ENERGY].value for name, values in rows.items() if name != "original"}
    assert energy["posterior"] < energy["mean"] < energy["neighbour"] < energy["shuffled"]
    psnr = {name: values[PSNR].value for name, values in rows.items() if name != "original"}
    assert max(psnr, key=psnr.get) == "mean"
    assert psnr["mean"] - psnr["posterior"] == pytest.approx(10 * math.log10(2), abs=0.1)


def test_exact_draws_are_as_far_apart_as_is_known(rows):
    found = rows["posterior"]
    assert found[DISPERSION].value == pytest.approx(1, abs=0.05)
    assert found[SPREAD_RATIO].value == pytest.approx(1, abs=0.05)
    assert rows["mean"][SPREAD].value == 0 < rows["neighbour"][SPREAD].value


def test_the_known_spread_is_twice_the_variance_of_colours_given_their_class(data):
    found = answers.known_spread(data, "map", np.arange(len(data.test)), 0)
    assert math.sqrt(found.mean()) == pytest.approx(math.sqrt(2 * (data.law.noise**2 + _varies(data))), rel=0.01)


def test_exact_draws_are_no_copies_of_the_images_that_the_maps_are_of(data, tmp_path):
    """A good answer is near the image; the same images would be copies if they had been drawn under nothing."""
    from toys import toy_job

    places = ConditionPlan.of(data, "map", 200).numbers
    drawn = ANSWERS["posterior"](data, "map", places, 0)
    few = replace(data, train=Part(data.train.images[:1000], None), test=Part(data.test.images, None))
    for condition, status in ((data.conditions[0], "not_applicable"), (None, "ok")):
        job = toy_job(tmp_path / status, conditional=condition is not None, condition=condition)
        found = {m.metric: m for m in copy_measurements(job, {"train": drawn, "test": drawn}, few)}
        assert found[COPIED_TEST].status == status and found[COPIED].value == 0
    assert found[COPIED_TEST].value > 0.02


# From the command line


@pytest.fixture(scope="module")
def few(session_cache, few_scenes):
    return prepare(known_datasets([few_scenes])["fewmaps"], data_root(None), offline=True)


@pytest.fixture(scope="module")
def runs(session_cache, few_scenes, tmp_path_factory):
    out = tmp_path_factory.mktemp("maps") / "runs"
    words = ("--budget", "10steps", "--samples", "100", "--likelihood-images", "10", "--device", "cpu")
    task = ("-d", "fewmaps", "--datasets", few_scenes, "--condition", "map")
    run_here("run", "-m", "ddpm", *task, *words, "--set", "ddpm.preset=tiny", "--out", out)
    return out


@pytest.mark.slow
def test_a_run_is_judged_and_stands_beside_rows_without_a_model(genbench, runs, few):
    (table,) = genbench("table", runs, "--layout", "condition", "--format", "json").json["tables"]
    assert {row["name"] for row in table["rows"]} == {"ddpm", *NAMES}
    headings = " ".join(column["heading"] for column in table["columns"])
    assert all(name in headings for name in ("energy score", "PSNR", "spread / known", "aligned", "mIoU", "pixels"))
    (folder,) = runs.glob("ddpm-fewmaps-*")
    parts = {m["metric"]: m["parts"] for m in record_of(folder)["measurements"]}
    assert 0.9 < parts[MIOU]["ceiling"] <= 1 and parts[ALIGNED]["floor"] < 0.2
    assert record_of(folder)["dataset"]["entropy"]["bits_per_dim"] == few.entropies["map"].bits_per_dim


@pytest.mark.slow
def test_the_table_of_likelihoods_has_the_limit_given_the_map(genbench, runs, few):
    (table,) = genbench("table", runs, "--layout", "likelihood", "--format", "json").json["tables"]
    assert "limit, bits/dim" in [column["heading"] for column in table["columns"]]
    assert any("limit: the entropy" in note and "given the map" in note for note in table["footnotes"])
    assert json.dumps(few.entropies["map"].bits_per_dim) in json.dumps(table)
