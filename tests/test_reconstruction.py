"""rFID, PSNR, SSIM and the use of a codebook: known answers, directions, errors; rows of models without samples."""

import json
import math
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from finished import record_of, run_of, times
from page import Page
from plugin_sources import plugin_source
from records_factory import make_record, quick_suite, reference
from toys import Toy, toy_job

from genbench import DataSpec
from genbench.conformance.verdicts import check_cases
from genbench.evaluate.reconstruction import reconstruction_measurements
from genbench.metrics.frechet import fid_of_pairs
from genbench.metrics.reconstruction import codebook_metrics, psnr, ssim
from genbench.records.job import Runtime
from genbench.records.record import SamplesStamp
from genbench.records.slots import Slot
from genbench.running.defaults import load_plugins
from genbench.support.errors import BadInput, Diverged
from genbench.tables.build import make_tables
from genbench_ldm import LatentDiffusion
from genbench_vae import VAE


def normal(n, d, seed=0, scale=1.0):
    return scale * torch.randn(n, d, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def levels(n, seed=0, low=1, high=255):
    return np.random.default_rng(seed).integers(low, high, (n, 1, 8, 8), dtype=np.uint8)


# PSNR


@pytest.mark.parametrize("shift", [1, -1, 7])
def test_a_constant_shift_has_the_psnr_of_its_closed_form(shift):
    images = levels(1700, low=7, high=248)
    found = psnr(images, (images.astype(int) + shift).astype(np.uint8))
    assert found.value == pytest.approx(20 * math.log10(255 / abs(shift)))
    assert found.stderr == pytest.approx(0, abs=1e-9)


def test_psnr_is_a_mean_over_images_not_of_their_errors():
    images = np.full((2, 1, 4, 4), 100, np.uint8)
    found = psnr(images, images + np.array([1, 10], np.uint8)[:, None, None, None])
    first, second = (20 * math.log10(255 / shift) for shift in (1, 10))
    assert found.value == pytest.approx((first + second) / 2)
    assert found.stderr == pytest.approx((first - second) / 2)


def test_an_exact_reconstruction_has_no_finite_psnr_and_says_so():
    images = levels(10)
    changed = images.copy()
    changed[3:] += 1
    found = psnr(images, changed)
    assert (found.value, found.status) == (None, "not_applicable")
    assert found.note == "3 of 10 images are reconstructed exactly, their PSNR is infinite"


def test_more_noise_lowers_psnr():
    images, noise = levels(50, low=60, high=200), np.random.default_rng(1).standard_normal((50, 1, 8, 8))
    found = [psnr(images, (images + scale * noise).astype(np.uint8)).value for scale in (2, 5, 20)]
    assert found == sorted(found, reverse=True)


# SSIM


def pictures(n, side=24, seed=0):
    """Smooth ones, uint8 (n, 2, side, side)."""
    coarse = torch.rand(n, 2, 5, 5, generator=torch.Generator().manual_seed(seed))
    smooth = torch.nn.functional.interpolate(coarse, (side, side), mode="bicubic").clamp(0, 1)
    return (200 * smooth + 20).to(torch.uint8).numpy()


def test_equal_images_have_a_similarity_of_1():
    found = ssim(pictures(5), pictures(5))
    assert found.value == pytest.approx(1) and found.stderr == pytest.approx(0, abs=1e-9)


@pytest.mark.parametrize(("x", "y"), [(100, 130), (0, 255), (200, 200)])
def test_flat_images_differ_by_their_means_alone(x, y):
    """Where nothing varies, (2 x y + C) / (x^2 + y^2 + C), C = 2.55^2."""
    images = np.full((3, 1, 16, 16), x, np.uint8)
    wanted = (2 * x * y + 2.55**2) / (x**2 + y**2 + 2.55**2)
    assert ssim(images, np.full_like(images, y)).value == pytest.approx(wanted, abs=1e-9)


def test_similarity_is_that_of_its_formula_in_one_window():
    """11x11 pixels hold one window; its weights are those of a Gaussian of deviation 1.5, which sum to 1."""
    x, y = (side[:1, :1].astype(float) for side in (pictures(1, 11), pictures(1, 11, seed=1)))
    one = np.exp(-((np.arange(11) - 5) ** 2) / (2 * 1.5**2))
    weights = np.outer(one, one) / one.sum() ** 2

    def mean(values):
        return float((weights * values).sum())

    variances = mean(x**2) - mean(x) ** 2 + mean(y**2) - mean(y) ** 2
    covariance = mean(x * y) - mean(x) * mean(y)
    wanted = (2 * mean(x) * mean(y) + 2.55**2) * (2 * covariance + 7.65**2)
    wanted /= (mean(x) ** 2 + mean(y) ** 2 + 2.55**2) * (variances + 7.65**2)
    assert ssim(x.astype(np.uint8), y.astype(np.uint8)).value == pytest.approx(wanted)


def test_channels_and_images_are_averaged(monkeypatch):
    images, others = pictures(7), pictures(7, seed=1)
    each = [ssim(a[None, None], b[None, None]).value for x, y in zip(images, others) for a, b in zip(x, y)]
    assert ssim(images, others).value == pytest.approx(np.mean(each))
    assert ssim(images, others).stderr == pytest.approx(np.reshape(each, (7, 2)).mean(1).std(ddof=1) / 7**0.5)
    monkeypatch.setattr("genbench.metrics.pieces.PIECE", 3 * images[0].size)
    assert ssim(images, others).value == pytest.approx(np.mean(each)), "in pieces too"


def test_noise_is_less_similar_than_a_shift_of_the_same_psnr():
    """A shift of all levels leaves structure alone: at equal PSNR, noise has the lower similarity."""
    images = pictures(20)
    noise = np.random.default_rng(0).choice([-8, 8], images.shape)
    shifted, noisy = ((images.astype(int) + change).astype(np.uint8) for change in (8, noise))
    assert psnr(images, shifted).value == pytest.approx(psnr(images, noisy).value)
    assert ssim(images, noisy).value < ssim(images, shifted).value - 0.01
    worse = (images.astype(int) + 2 * noise).clip(0, 255).astype(np.uint8)
    assert ssim(images, worse).value < ssim(images, noisy).value


def test_images_that_no_window_fits_in_have_no_similarity():
    found = ssim(levels(3), levels(3))
    assert (found.value, found.status) == (None, "not_applicable") and "8x8" in found.note and "11x11" in found.note


# rFID


def test_identical_pairs_have_no_distance_and_no_error():
    features = normal(200, 8)
    found = fid_of_pairs(features, features, error_splits=5)
    assert found.value == pytest.approx(0, abs=1e-9) and found.stderr == pytest.approx(0, abs=1e-9)


def test_blurrier_reconstructions_have_a_higher_rfid():
    features = normal(500, 8)
    found = [fid_of_pairs(keep * features, features).value for keep in (1.0, 0.9, 0.5)]
    assert found == sorted(found) and found[0] < 1e-9
    shrunk = fid_of_pairs(0.5 * features, features)
    assert shrunk.value == pytest.approx(0.25 * float(features.mean(0).square().sum() + features.var(0).sum()))


def test_the_error_of_rfid_is_that_of_other_images():
    """Both sides change together, so that it is far below that of independent samples."""
    draws = [(normal(400, 8, seed), normal(400, 8, seed + 100)) for seed in range(30)]
    found = [fid_of_pairs(0.9 * images + 0.3 * noise, images, error_splits=20) for images, noise in draws]
    true = float(np.std([value.value for value in found], ddof=1))
    assert 0.6 * true < np.mean([value.stderr for value in found]) < 1.6 * true


def test_rfid_says_why_it_has_no_value():
    few = fid_of_pairs(normal(6, 8), normal(6, 8), error_splits=5)
    assert (few.value, few.status) == (None, "not_enough_samples")
    deficient = fid_of_pairs(normal(6, 8), normal(6, 8, 1), allow_rank_deficient=True, error_splits=5)
    assert deficient.value > 0 and deficient.stderr > 0 and "rank-deficient" in deficient.note


# Codes


def test_the_use_of_a_codebook_by_hand():
    """Of 8 codes 3 occur, with shares 1/2, 1/4, 1/4: an entropy of 1.5 bits."""
    found = codebook_metrics(np.array([[0, 0], [5, 7]]), 8)
    assert found["code_use"].value == 3 / 8
    assert found["code_perplexity"].value == pytest.approx(2**1.5)
    assert "4 positions for 8 codes" in found["code_use"].note


def test_a_codebook_that_is_used_evenly_has_its_size_as_perplexity():
    even = codebook_metrics(np.tile(np.arange(16), (50, 1)), 16, error_splits=5)
    assert even["code_use"].value == 1 and even["code_perplexity"].value == pytest.approx(16)
    assert even["code_use"].stderr == 0 and even["code_use"].note == ""
    assert even["code_perplexity"].interval[1] >= even["code_perplexity"].value


def test_a_codebook_that_collapses_scores_lower():
    codes = np.random.default_rng(0).integers(0, 64, (100, 4, 4))
    found = [codebook_metrics(codes % used, 64, 10) for used in (64, 16, 1)]
    for metric in ("code_use", "code_perplexity"):
        values = [value[metric].value for value in found]
        assert values == sorted(values, reverse=True)
        assert all(value[metric].stderr is not None for value in found)
    assert (found[2]["code_use"].value, found[2]["code_perplexity"].value) == (1 / 64, 1)


# From the model


class Keeper(Toy):
    """Reconstructs images as they are, up to `shift` levels; its codes are the levels."""

    shift = 0

    def reconstruct(self, images, labels=None):
        return images + self.shift / 128

    def codes(self, images, labels=None):
        return ((images + 1) * 128).long().flatten(1)

    def codebook_size(self):
        return 256


def measured(kind, data, tmp_path, **changes):
    runtime = Runtime(out=tmp_path, cache=tmp_path / "cache")
    job = toy_job(tmp_path, kind, dataset_digest=data.digest, runtime=runtime, **changes)
    evaluation = job.evaluation.model_copy(update={"extractors": ("digits-classifier-v1",), "error_splits": 3})
    model = kind(data.spec(job.conditional), kind.Config()).eval()
    found = reconstruction_measurements(job.model_copy(update={"evaluation": evaluation}), model, data, load_plugins())
    return {m.metric: m for m in found}


@pytest.mark.parametrize("discrete", [False, True])
def test_a_model_that_keeps_every_image_has_rfid_0(digits, tmp_path, monkeypatch, discrete):
    monkeypatch.setattr(Keeper, "discrete", discrete)
    found = measured(Keeper, digits, tmp_path)
    assert found["rfid"].value == pytest.approx(0, abs=1e-6) and found["rfid"].stderr == pytest.approx(0, abs=1e-6)
    assert found["psnr"].status == "not_applicable" and "infinite" in found["psnr"].note
    assert found["ssim"].status == "not_applicable" and "smaller than its window" in found["ssim"].note
    used = len(np.unique(digits.test.images))
    assert found["code_use"].value == used / 256 and 1 < found["code_perplexity"].value < used
    assert {m.count for m in found.values()} == {len(digits.test)}
    assert {name: m.better for name, m in found.items()} == {
        "rfid": "lower", "psnr": "higher", "ssim": "higher", "code_use": "higher", "code_perplexity": "higher",
    }  # fmt: skip


def test_psnr_is_of_quantised_reconstructions(digits, tmp_path, monkeypatch):
    """0.6 of a level up from the middle of a bin is the next level."""
    monkeypatch.setattr(Keeper, "discrete", True)
    monkeypatch.setattr(Keeper, "shift", 0.6)
    images = digits.test.images[digits.test.images.reshape(len(digits.test), -1).max(1) < 255]
    data = SimpleNamespace(**vars(digits) | {"test": type(digits.test)(images, None), "spec": digits.spec})
    assert measured(Keeper, data, tmp_path)["psnr"].value == pytest.approx(20 * math.log10(255))


@pytest.mark.parametrize(
    ("method", "wrong", "raised", "words"),
    [
        ("reconstruct", lambda self, x, y=None: x[:, :, 1:], BadInput, "floats of shape"),
        ("reconstruct", lambda self, x, y=None: x.long(), BadInput, "floats of shape"),
        ("reconstruct", lambda self, x, y=None: x * math.nan, Diverged, "not finite"),
        ("codes", lambda self, x, y=None: x.flatten(1), BadInput, "int64 of shape"),
        ("codes", lambda self, x, y=None: torch.zeros((), dtype=torch.int64), BadInput, "int64 of shape"),
        ("codes", lambda self, x, y=None: torch.full((len(x), 1), 256), BadInput, "0 to codebook_size"),
        ("codes", lambda self, x, y=None: torch.full((len(x), 1), -1), BadInput, "0 to codebook_size"),
    ],
)  # fmt: skip
def test_what_is_no_reconstruction_is_refused(digits, tmp_path, monkeypatch, method, wrong, raised, words):
    monkeypatch.setattr(Keeper, method, wrong)
    with pytest.raises(raised, match=words):
        measured(Keeper, digits, tmp_path)


def test_a_model_without_the_methods_has_none_of_it(digits, tmp_path):
    assert measured(Toy, digits, tmp_path) == {}


@pytest.mark.parametrize("kind", [VAE, LatentDiffusion])
def test_a_first_stage_reconstructs_by_the_mean_of_its_posterior(kind):
    torch.manual_seed(0)
    model = kind(DataSpec("digits", (1, 8, 8)), kind.Config(**kind.presets["tiny"])).eval()
    images = torch.rand(3, 1, 8, 8) * 2 - 1
    with torch.no_grad():
        found = model.reconstruct(images)
        if kind is VAE:
            expected = model.decode(model.encode(images)[0])[0]
        else:
            model.scale.fill_(3.0)  # of the diffusion, and none of the first stage's
            expected = model.autoencoder.decode(model.autoencoder.encode(images)[0])
        torch.testing.assert_close(found, expected.clamp(-1, 1))
        torch.testing.assert_close(model.reconstruct(images), found)


# Rows without samples

STAGES = """
class Stage(Model):
    name = "stage"
    def __init__(self, data, config):
        super().__init__(data, config)
        self.encoder, self.decoder = nn.Linear(data.dims, 4), nn.Linear(4, data.dims)
    def codebook_size(self):
        return 16
    def codes(self, images, labels=None):
        return ((torch.tanh(self.encoder(images.flatten(1))) + 1) * 8).long().clamp(0, 15)
    def reconstruct(self, images, labels=None):
        return self.decoder((self.codes(images) + 0.5) / 8 - 1).view(images.shape).clamp(-1, 1)
    def loss(self, phase, batch):
        latents = torch.tanh(self.encoder(batch.images.flatten(1)))
        return (self.decoder(latents) - batch.images.flatten(1)).square().mean()

class Density(Model):
    name = "density"
    def __init__(self, data, config):
        super().__init__(data, config)
        self.mean = nn.Parameter(torch.zeros(data.shape))
    def log_prob(self, images, labels=None):
        return torch.distributions.Normal(self.mean, 1.0).log_prob(images).flatten(1).sum(1)
    def loss(self, phase, batch):
        return -self.log_prob(batch.images).mean()

class Nothing(Model):
    name = "nothing"
    def __init__(self, data, config):
        super().__init__(data, config)
        self.mean = nn.Parameter(torch.zeros(data.shape))
    def loss(self, phase, batch):
        return (batch.images - self.mean).square().mean()
"""
SMALL = ["-d", "digits", "--budget", "20steps", "--samples", "100", "--likelihood-images", "40", "--device", "cpu"]


@pytest.fixture(scope="module")
def stages(tmp_path_factory):
    file = tmp_path_factory.mktemp("stages") / "stages.py"
    file.write_text(plugin_source(STAGES))
    return file


@pytest.mark.slow
def test_a_model_without_samples_is_trained_scored_and_shown(genbench, stages, tmp_path):
    models = ["--plugin", stages, "-m", "stage", "-m", "density", "-m", "gaussian"]
    done = genbench("run", *models, *SMALL, "--curve", "2", "--report", "pages")
    assert done.code == 0, done.err
    folder, record = run_of(tmp_path / "runs", "stage"), record_of(run_of(tmp_path / "runs", "stage"))
    assert record["status"] == "complete" and record["samples"]["count"] == 0
    assert record["cost"]["sample"] is None and record["cost"]["train"]["steps"] == 20
    assert not [file for file in folder.rglob("*") if "samples" in file.name or "labels" in file.name]
    found = {m["metric"]: m for m in record["measurements"]}
    assert {"rfid", "psnr", "code_use", "code_perplexity"} <= found.keys()
    assert all(found[metric]["status"] == "ok" for metric in ("rfid", "psnr", "code_use", "code_perplexity"))
    assert [len(point["measurements"]) > 0 for point in record["curve"]] == [True, True]
    density = record_of(run_of(tmp_path / "runs", "density"))
    assert {m["metric"] for m in density["measurements"]} == {"bits_per_dim_test", "bits_per_dim_train"}

    (table,) = genbench("table", "runs", "--layout", "full", "--format", "json").json["tables"]
    rows = {row["label"]: row["cells"] for row in table["rows"]}
    fid, rfid = "fid_test:digits-classifier-v1", "rfid:digits-classifier-v1"
    assert rows["stage"][fid]["value"] is None and rows["stage"][fid]["rank"] is None
    assert rows["stage"][fid]["note"] == rows["density"]["images_per_second"]["note"] == "the model draws no samples"
    assert rows["stage"][rfid]["value"] > 0 and rows["gaussian"][rfid]["note"] == "the model has no reconstruction"
    assert rows["density"]["bits_per_dim_test"]["rank"] in (1, 2)

    assert genbench("verify", "runs").code == 0
    page = Page(tmp_path / "pages" / "runs" / f"{folder.name}.html")
    assert "below each, what is left of it after encoding and decoding" in page.text and "as drawn" not in page.text
    assert "no samples stage: the model draws none" in Page(tmp_path / "pages" / "index.html").text


def test_a_measurer_of_version_1_is_not_asked_about_a_row_without_samples(genbench, stages, tmp_path):
    old = Path(__file__).with_name("version1_plugin.py")
    done = genbench(
        "run", "--plugin", stages, "--plugin", old, "-m", "density", "-m", "gaussian", *SMALL, "--curve", "2"
    )
    assert done.code == 0, done.err
    metrics = [
        {m["metric"] for m in record_of(run_of(tmp_path / "runs", name))["measurements"]}
        for name in ("density", "gaussian")
    ]
    assert "mean_level" not in metrics[0] and "mean_level" in metrics[1]


def test_what_needs_samples_is_refused_for_a_model_without(genbench, stages, tmp_path):
    assert genbench("run", "--plugin", stages, "-m", "stage", *SMALL).code == 0
    folder = run_of(tmp_path / "runs", "stage")
    drawn = genbench("sample", folder, "--plugin", stages, "-o", "x.png")
    assert drawn.code == 2 and "draws no samples" in drawn.err and not (tmp_path / "x.png").exists()
    scored = genbench("evaluate", folder, "--extractor", "local-classifier")
    assert scored.code == 2 and "draws no samples" in scored.err


@pytest.mark.slow
def test_a_run_without_samples_is_done_once_and_takes_further_extractors(genbench, stages, tmp_path, quick_classifier):
    command = ["run", "--plugin", stages, "-m", "stage", *SMALL]
    assert genbench(*command).code == 0
    folder = run_of(tmp_path / "runs", "stage")
    before, first = times(tmp_path / "runs"), record_of(folder)
    again = genbench(*command, "--samples", "50")
    assert again.code == 0 and {f: t for f, t in times(tmp_path / "runs").items() if f.parent == folder} == {
        f: t for f, t in before.items() if f.parent == folder
    }
    more = genbench(*command, "--extractor", "digits-classifier-v1", "--extractor", "local-classifier")
    assert more.code == 0, more.err
    record = record_of(folder)
    assert [m["metric"] for m in record["measurements"]].count("rfid") == 2
    assert [m for m in first["measurements"] if m not in record["measurements"]] == []


def test_a_plan_leaves_sampling_out_of_a_model_without(genbench, stages):
    done = genbench("plan", "--plugin", stages, "-m", "stage", *SMALL, "--json")
    (row,) = [row for row in done.json if row["label"] == "stage"]
    assert row["samples"] == 0 and row["estimate"]["sample_nfe"] is None
    assert row["estimate"]["reasons"]["sample_flops"] == "the model draws no samples"
    assert row["estimate"]["train_flops"] > 0


def test_a_model_with_nothing_to_be_scored_by_is_refused(genbench, stages, tmp_path):
    done = genbench("run", "--plugin", stages, "-m", "nothing", *SMALL)
    assert done.code == 2 and "Nothing has no method sample()" in done.err and "reconstruct()" in done.err
    assert not (tmp_path / "runs").exists()


def test_the_promises_about_samples_are_not_those_of_a_model_without(stages):
    namespace = {}
    exec(stages.read_text(), namespace)
    verdicts = {v.promise: v for v in check_cases(namespace["Stage"])}
    assert not [v for v in verdicts.values() if v.state in ("FAIL", "?")]
    assert verdicts["samples are finite and in the range of images, [-1, 1]"].found == "no sample()"
    for kept in ("Python's and NumPy's generators are left alone", "the same training twice gives the same weights"):
        assert verdicts[kept].state == "pass"
    broken = [v.promise for v in check_cases(namespace["Nothing"]) if v.state == "FAIL"]
    assert set(broken) == {"sample(n) gives n float images of the data's shape"}


def without_samples(label, **values):
    record = make_record(label, values=values, bits=None)
    return record.model_copy(update={"samples": SamplesStamp(), "capabilities": ["reconstruction"]})


def test_a_row_without_samples_stands_in_every_table_that_it_fits():
    records = [*quick_suite(), make_record("other", protocol={"samples": 2000}), without_samples("stage", rfid=3.0)]
    tables = make_tables(records, "quality")
    assert len(tables) == 2
    for table in tables:
        (row,) = [row for row in table.rows if row.label == "stage"]
        cell = row.cells[Slot("fid_test", "mnist-classifier-v1")]
        assert (cell.value, cell.rank, cell.note) == (None, None, "the model draws no samples")


def test_a_reference_row_has_no_reconstruction():
    record = without_samples("stage", rfid=3.0)
    (table,) = make_tables([record, make_record("vae"), reference("real")], "full")
    cells = {row.label: row.cells[Slot("rfid", "mnist-classifier-v1")] for row in table.rows}
    assert cells["stage"].value == 3.0 and cells["stage"].rank is None
    assert cells["real"].note.startswith("a reference row has no model") and cells["vae"].note == "not measured"
    assert any(note.startswith("rFID is the FID of the reconstructions") for note in table.footnotes)


def test_a_picture_pairs_test_images_with_their_reconstructions(genbench, stages, tmp_path, digits):
    assert genbench("run", "--plugin", stages, "-m", "stage", *SMALL).code == 0
    folder = run_of(tmp_path / "runs", "stage")
    images = np.load(folder / "pictures" / "reconstructions.npy")
    assert images.shape == (2, 8, 1, 8, 8) and json.loads((folder / "pictures.json").read_text())["failed"] == {}
    known = {image.tobytes() for image in digits.test.images}
    assert all(image.tobytes() in known for image in images[0])
    assert not any(image.tobytes() in known for image in images[1])
