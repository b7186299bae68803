"""The dataset whose entropy is known: its density against SciPy's, its bounds against sampling, its bytes."""

import math

import numpy as np
import pytest
import torch
from scipy.integrate import quad
from scipy.special import logsumexp
from scipy.stats import multivariate_normal, norm
from toys import train_toy

from genbench.data.entries import known_datasets
from genbench.data.folders import data_root
from genbench.data.mixture import Mixture, make_mixture
from genbench.data.preparation import prepare
from genbench.images import to_float
from genbench.records.record_files import load_records
from genbench.running.defaults import load_plugins

BITS = 64 * math.log(2)
SMALL = """
[mine]
source = "mixture"
shape = [3, 16, 12]
num_classes = 4
seed = 1
train_images = 200
test_images = 100
"""


@pytest.fixture(scope="module")
def calibration(session_cache):
    return prepare(known_datasets()["calibration"], data_root(None), offline=True)


@pytest.fixture(scope="module")
def mixture():
    return make_mixture((1, 8, 8), 10, 3, 6.0, 0)


def log_density(mixture: Mixture, images: np.ndarray) -> np.ndarray:
    """Nats, by SciPy, (N, K): of every image under every component."""
    flat = images.reshape(len(images), -1).astype(float)
    return np.stack([multivariate_normal(*part).logpdf(flat) for part in zip(mixture.means, mixture.covariances)], 1)


def line(means, noise: float = 6.0) -> Mixture:
    """A mixture of one dimension."""
    return Mixture(np.array(means, float)[:, None], np.zeros((len(means), 1, 1)), noise)


def discrete_entropy(mixture: Mixture) -> float:
    """That of the levels of a mixture of one dimension, nats, summed over the 256."""
    edges = np.concatenate([[-np.inf], np.arange(0.5, 255), [np.inf]])
    p = np.diff(norm.cdf(edges, mixture.means, mixture.noise).mean(0))
    return float(-(p[p > 0] * np.log(p[p > 0])).sum())


def test_the_images_are_the_same_everywhere(calibration):
    assert calibration.digest == "b1e6cbd9d2a735b05b3a517695b12cc1560412c509a4bd5fff3b0223b79d92df"
    assert (len(calibration.train), len(calibration.test), calibration.overlap) == (20_000, 5_000, 0)
    assert calibration.shape == (1, 8, 8) and calibration.num_classes == 10


def test_another_seed_gives_other_images(calibration, tmp_path):
    file = tmp_path / "mine.toml"
    file.write_text(SMALL)
    mine = prepare(known_datasets([file])["mine"], data_root(None))
    assert mine.train.images.shape == (200, 3, 16, 12) and set(mine.train.labels) == set(range(4))
    assert mine.entropies[None].bits_per_dim != calibration.entropies[None].bits_per_dim


def test_images_are_smooth_distinct_and_hardly_ever_clipped(calibration):
    images, labels = calibration.train.images[:, 0].astype(float), calibration.train.labels
    assert np.bincount(labels).min() > 1800
    means = np.stack([images[labels == label].mean(0) for label in range(10)])
    steps = np.abs(np.diff(means, axis=1)).mean() + np.abs(np.diff(means, axis=2)).mean()
    assert steps < means.std()
    assert min(np.abs(a - b).mean() for i, a in enumerate(means) for b in means[:i]) > 10
    assert ((images == 0) | (images == 255)).mean() < 1e-5


def test_its_density_is_that_of_scipy(calibration, mixture):
    levels, labels = calibration.test.images[:50], calibration.test.labels[:50]
    log_p = log_density(mixture, levels)
    assert calibration.law.log_prob(levels.reshape(50, -1)) == pytest.approx(logsumexp(log_p, axis=1) - math.log(10))
    assert calibration.law.log_prob(levels.reshape(50, -1), labels) == pytest.approx(log_p[np.arange(50), labels])


@pytest.mark.parametrize("split", ["train", "test"])
def test_the_entropy_is_the_mean_surprise_of_the_images(calibration, mixture, split):
    log_p = log_density(mixture, getattr(calibration, split).images)
    labels = getattr(calibration, split).labels
    for bits, entropy in [
        (-(logsumexp(log_p, axis=1) - math.log(10)) / BITS, calibration.entropies[None]),
        (-log_p[np.arange(len(labels)), labels] / BITS, calibration.entropies["class"]),
    ]:
        error = bits.std() / math.sqrt(len(bits))
        assert error < 0.002 and entropy.error < 0.001
        assert abs(bits.mean() - entropy.bits_per_dim) < 3 * error + entropy.error


def test_knowing_the_label_is_worth_its_information(calibration):
    gain = calibration.entropies[None].bits_per_dim - calibration.entropies["class"].bits_per_dim
    assert gain == pytest.approx(math.log2(10) / 64, abs=1e-6)


@pytest.mark.parametrize("means", [[127.5], [100, 160], [100, 130], [120, 121, 150], [3, 250]])
@pytest.mark.parametrize("noise", [0.3, 1.0, 6.0])
def test_the_bounds_hold_the_exact_entropy_of_one_dimension(means, noise):
    """Also where components overlap, where noise is finer than a level, and where images are clipped."""
    found = line(means, noise).entropy()
    assert abs(found.bits_per_dim - discrete_entropy(line(means, noise)) / math.log(2)) <= found.error + 1e-9


@pytest.mark.parametrize("noise", [0.4, 1.0, 6.0])
@pytest.mark.parametrize("centre", [127.5, 127.0, 127.3])
def test_rounding_adds_less_than_the_bound_and_most_of_it(noise, centre):
    mixture = line([centre], noise)
    added = discrete_entropy(mixture) - math.log(noise * math.sqrt(2 * math.pi * math.e))
    assert 0 < added <= mixture.rounding()
    if noise >= 1:
        assert added == pytest.approx(1 / (24 * noise**2), rel=0.05)  # to second order


def test_rounding_by_monte_carlo(mixture):
    """KL(p || p averaged over the bin) of the images' own density, by averaging 64 draws in every bin."""
    stream = np.random.default_rng(0)
    part = Mixture(mixture.means[:1], mixture.modes[:1], mixture.noise)
    x = multivariate_normal(part.means[0], part.covariances[0]).rvs(4000, random_state=1)
    inside = [np.rint(x) + half for u in stream.random((32, *x.shape)) - 0.5 for half in (u, -u)]
    averaged = logsumexp([log_density(part, y)[:, 0] for y in inside], axis=0) - math.log(len(inside))
    added = log_density(part, x)[:, 0] - averaged
    error = added.std() / math.sqrt(len(added))
    assert error < 0.15 * part.rounding()
    assert -3 * error < added.mean() < part.rounding() + 3 * error


def test_overlap_bounds_the_uncertainty_of_the_component():
    mixture = line([100, 118], 6.0)

    def unsure(x):
        p = norm.pdf(x, mixture.means[:, 0], 6.0) / 2
        return float(-(p * np.log(p / p.sum())).sum())

    exact = quad(unsure, 60, 160)[0]
    assert 0.1 < exact < mixture.overlap() < 3 * exact
    assert line([100, 100]).overlap() == pytest.approx(math.log(2))
    assert line([100, 200]).overlap() < 1e-10


def test_an_entropy_says_how_it_was_found(calibration):
    told = calibration.entropies[None].note
    assert "10 Gaussians in 64 dimensions" in told and "clipping" in told
    assert "given the component" in calibration.entropies["class"].note


@pytest.mark.slow
@pytest.mark.parametrize("model", ["pixelcnn", "sparse_transformer"])
def test_an_exact_likelihood_comes_near_the_true_one_and_not_above_it(tmp_path, calibration, model):
    kind, _ = load_plugins().model(model)
    config = kind.Config().model_dump(mode="json")
    trained, _ = train_toy(tmp_path, calibration, kind, budget="4000images", config=config)
    levels = calibration.test.images[:1000]
    with torch.no_grad():
        log_p = trained.log_prob(to_float(torch.from_numpy(levels))).numpy()
    gaps = (calibration.law.log_prob(levels.reshape(1000, -1)) - log_p) / BITS
    assert 0 < gaps.mean() < 0.25, "of the KL divergence, bits/dim"


def test_other_datasets_have_no_entropy(digits):
    assert digits.entropies == {}


@pytest.mark.slow
def test_records_keep_the_entropy(genbench, tmp_path):
    (tmp_path / "mine.toml").write_text(SMALL.replace("[3, 16, 12]", "[1, 8, 8]"))
    wanted = prepare(known_datasets([tmp_path / "mine.toml"])["mine"], data_root(None))
    options = ["-d", "mine", "--datasets", "mine.toml", "--extractor", "digits-classifier-v1", "--device", "cpu"]
    options += ["--budget", "3steps", "--samples", "100", "--likelihood-images", "40", "--out", "runs", "--jobs", "2"]
    assert genbench("run", "-m", "gaussian", "-m", "vae", "--conditional", *options).code == 0
    kept = {record.job.model: record.dataset.entropy for record in load_records([tmp_path / "runs"])}
    assert kept["gaussian"] == kept["real"] == wanted.entropies[None]
    assert kept["vae"] == wanted.entropies["class"]


def test_the_list_of_datasets_says_the_entropy_and_its_error(genbench, calibration):
    row = next(row for row in genbench("datasets", "--json").json if row["name"] == "calibration")
    assert row["entropy"] == calibration.entropies[None].model_dump() and "(4.7780 ± 0.0010 bits/dim)" in row["title"]
    assert row["title"] in genbench("datasets").out


@pytest.mark.parametrize("line", ["noise = 2.0", "rank = 9", "num_classes = 1", "images = 3"])
def test_wrong_settings_are_refused(genbench, line, tmp_path):
    (tmp_path / "mine.toml").write_text(f'[mine]\nsource = "mixture"\nshape = [1, 8, 8]\n{line}\n')
    result = genbench("plan", "-m", "gaussian", "-d", "mine", "--datasets", "mine.toml")
    assert result.code == 2 and line.split()[0] in result.err
