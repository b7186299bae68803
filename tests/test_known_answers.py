"""Known answers that need more than one module: bits/dim through the harness, a VAE with a closed form, costs, and
one direction a metric. Those of a single module stand in its own tests (test_fidelity, test_ddpm, test_flow, ...).
"""

import math

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from toys import Toy, toy_job

from genbench import Batch, DataSpec
from genbench.data.dataset import Dataset, Part
from genbench.evaluate.fidelity import fidelity_measurements, kid
from genbench.evaluate.likelihood import likelihood_measurements
from genbench.images import bits_per_dim, to_float
from genbench.metering.flops import FlopCounter
from genbench.metrics.features import Features
from genbench.records.protocol import EvaluationSettings
from genbench_ddpm.diffusion import Diffusion, cosine_betas, linear_betas
from genbench_vae import VAE, VAEConfig


def normal(*shape, seed=0):
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


# KID


def test_kid_of_two_points_by_hand():
    """All images of a set alike, at 1/2 and at 2 on a line: k(x, x) + k(y, y) - 2 k(x, y) with k = (xy + 1)^3."""
    first, second = (torch.full((6, 1), value, dtype=torch.float64) for value in (0.5, 2.0))
    value = kid(first, second, subsets=3)
    assert value.value == pytest.approx(1.25**3 + 5**3 - 2 * 2**3) == 110.953125
    assert value.deviation == 0 and value.stderr is None


def test_kid_is_computed_in_float64():
    """At 2,048 dimensions float32 kernels are half a per cent off."""
    generator = torch.Generator().manual_seed(0)
    a, b = (torch.randn(200, 2048, generator=generator).relu() for _ in range(2))
    value = kid(a, b, subsets=3, seed=5).value
    rng, wanted = np.random.RandomState(5), []
    for _ in range(3):
        x, y = (s.double()[torch.from_numpy(rng.choice(200, 100, replace=False))] for s in (a, b))
        kxx, kyy, kxy = ((p @ q.T / 2048 + 1) ** 3 for p, q in ((x, x), (y, y), (x, y)))
        inner = (kxx.sum() - kxx.trace() + kyy.sum() - kyy.trace()) / (100 * 99)
        wanted.append(float(inner - 2 * kxy.mean()))
    assert value == pytest.approx(np.mean(wanted), rel=1e-9)


# Directions


def features(n, noise=0.0, seed=0, classes=4):
    """Four clusters far apart in 8 dimensions, with logits that know them; noise blurs both."""
    labels = torch.arange(n) % classes
    centres = 6 * torch.eye(8, dtype=torch.float64)[:classes]
    blurred = centres[labels] + normal(n, 8, seed=seed) + noise * normal(n, 8, seed=seed + 1)
    return Features(blurred, blurred[:, :classes])


def measurements(generated):
    test, train = features(300, seed=10), features(400, seed=20)
    found = fidelity_measurements(generated, train, test, EvaluationSettings(kid_subsets=5), dict)
    return {m.metric: m for m in found}


GOOD, BLURRED = measurements(features(300, seed=30)), measurements(features(300, noise=3.0, seed=30))
COPIED = measurements(features(400, seed=20))
COLLAPSED = measurements(features(300, seed=30).take(np.tile(np.arange(0, 300, 4), 4)))


@pytest.mark.parametrize("metric", GOOD)
def test_a_better_set_scores_better_in_every_metric(metric):
    """`better` says which way; every metric must see one fault at least: blur, a collapse to one cluster, or copies."""
    sign = 1 if GOOD[metric].better == "higher" else -1
    worse = [sign * (GOOD[metric].value - bad[metric].value) for bad in (BLURRED, COLLAPSED, COPIED)]
    assert max(worse) > 0, "neither blur nor collapse nor copying is worse"
    if metric.startswith(("fid", "kid", "inception")):
        assert min(worse[:2]) > 0


def test_blur_costs_precision_and_collapse_costs_recall():
    assert GOOD["precision"].value > BLURRED["precision"].value + 0.3
    assert COLLAPSED["precision"].value > 0.6
    assert GOOD["recall"].value > COLLAPSED["recall"].value + 0.4


# bits/dim, through the harness


class Uniform(Toy):
    """Says that all images are equally likely, as a density on [-1, 1) or as probabilities of `levels` levels."""

    levels = 256

    def log_prob(self, images, labels=None):
        width = math.log(2.0) if not self.discrete else math.log(self.levels)
        return torch.full((len(images),), -self.data.dims * width)


class UniformLevels(Uniform):
    discrete = True


class FiveBits(UniformLevels):
    levels = 32


class Bound(Uniform):
    likelihood = "bound"


class Estimate(Uniform):
    likelihood = "estimate"


def bits(folder, kind, data, **change):
    job = toy_job(folder, evaluation=EvaluationSettings(likelihood_images=300), **change)
    model = kind(data.spec(job.conditional), kind.Config())
    return {m.metric: m for m in likelihood_measurements(job, model, data)}


@pytest.mark.parametrize(("kind", "wanted"), [(Uniform, 8.0), (UniformLevels, 8.0), (FiveBits, 5.0)])
def test_a_uniform_model_has_the_bits_of_its_levels(tmp_path, digits, kind, wanted):
    found = bits(tmp_path, kind, digits)
    assert set(found) == {"bits_per_dim_test", "bits_per_dim_train"}
    for m in found.values():
        assert m.value == pytest.approx(wanted, abs=1e-5) and m.stderr == pytest.approx(0, abs=1e-6)
        assert m.count == 300


@pytest.mark.parametrize(("kind", "word"), [(Uniform, "exact"), (Bound, "bound"), (Estimate, "estimate")])
def test_a_likelihood_is_called_what_it_is(tmp_path, digits, kind, word):
    found = bits(tmp_path, kind, digits)
    assert {m.kind for m in found.values()} == {word} and all(word in m.note for m in found.values())


class Normal(Toy):
    """A standard normal density of every pixel."""

    def log_prob(self, images, labels=None):
        return torch.distributions.Normal(0.0, 1.0).log_prob(images).flatten(1).sum(1)


class Sharp(UniformLevels):
    """Sure of black images."""

    def log_prob(self, images, labels=None):
        black = (images < -1 + 1 / 128).float().flatten(1)
        return (black * math.log(0.999) + (1 - black) * math.log(0.001 / 255)).sum(1)


def constant(level, n=300):
    images = np.full((n, 1, 8, 8), level, np.uint8)
    part = Part(images, None)
    return Dataset("flat", "", "0" * 64, (1, 8, 8), 0, (), 0, None, part, part)


def test_a_density_of_dequantised_pixels_has_its_mean_over_the_bin(tmp_path):
    """E[x^2] of x uniform on level 200's bin [200/128 - 1, 201/128 - 1): exact by calculus."""
    low, high = 200 / 128 - 1, 201 / 128 - 1
    square = (high**3 - low**3) / 3 / (high - low)
    wanted = (0.5 * math.log(2 * math.pi) + 0.5 * square) / math.log(2) + 7
    for m in bits(tmp_path, Normal, constant(200)).values():
        assert m.value == pytest.approx(wanted, abs=5 * m.stderr) and 0 < m.stderr < 1e-3


def test_a_sharp_model_of_black_images_has_almost_no_bits(tmp_path):
    found = bits(tmp_path, Sharp, constant(0))["bits_per_dim_test"]
    assert found.value == pytest.approx(-math.log2(0.999), rel=1e-4) and found.value < 0.01
    assert bits(tmp_path, Sharp, constant(1))["bits_per_dim_test"].value > 15


def test_test_and_train_are_their_own_images_and_the_better_model_has_fewer_bits(tmp_path):
    data = constant(0)
    data = Dataset(**{**vars(data), "train": constant(255).train})
    for kind, better in ((Sharp, True), (UniformLevels, False)):
        found = bits(tmp_path, kind, data)
        assert (found["bits_per_dim_test"].value < 1) == better
        assert found["bits_per_dim_train"].value > 7.99
    assert bits(tmp_path, Sharp, data)["bits_per_dim_test"].better == "lower"


class Labelled(UniformLevels):
    conditional = True

    def log_prob(self, images, labels=None):
        return -self.data.dims * math.log(2.0) * labels.float()


def test_an_image_is_scored_under_its_own_label(tmp_path, digits):
    found = bits(tmp_path, Labelled, digits, conditional=True)["bits_per_dim_test"]
    from genbench.metrics.features import chosen

    labels = digits.test.labels[chosen(len(digits.test), 300, 2020, "likelihood", "test")]
    assert found.value == pytest.approx(labels.mean(), abs=1e-6)
    assert found.stderr == pytest.approx(labels.std(ddof=1) / math.sqrt(300), rel=1e-6)


def test_a_model_without_likelihood_has_a_reason_and_a_broken_one_too(tmp_path, digits, monkeypatch):
    without = bits(tmp_path, Toy, digits)["bits_per_dim_test"]
    assert (without.value, without.status) == (None, "not_applicable")
    monkeypatch.setattr(Uniform, "log_prob", lambda self, images, labels=None: torch.full((len(images),), math.nan))
    broken = bits(tmp_path, Uniform, digits)["bits_per_dim_test"]
    assert (broken.value, broken.status) == (None, "failed") and "300 of 300" in broken.note


# Diffusion


def test_the_bound_of_a_gaussian_in_bits():
    entropy = torch.tensor([0.5 * math.log(2 * math.pi * math.e)])
    assert float(bits_per_dim(-entropy, 1, discrete=True)) == pytest.approx(2.0471, abs=5e-5)


@pytest.mark.parametrize("betas", [linear_betas(1000), cosine_betas(1000)], ids=["linear", "cosine"])
def test_the_prior_term_vanishes_and_is_the_closed_form(betas):
    process, x0 = Diffusion(betas), to_float(torch.arange(256, dtype=torch.uint8))[:, None]
    left = float(process.alpha_bar[-1])
    wanted = 0.5 * (left * x0.double() ** 2 - left - math.log1p(-left))
    torch.testing.assert_close(process.prior_term(x0), wanted[:, 0])
    assert 0 <= float(process.prior_term(x0).max()) < 5e-5
    assert float(Diffusion(linear_betas(3)).prior_term(x0).mean()) > 1


# VAE


class LinearVAE(VAE):
    """Probabilistic PCA through the shipped model's own bound: p(x|z) = N(Wz, s^2 I), W of orthogonal columns.

    log p(x) = N(0, W W' + s^2 I) in closed form (Tipping & Bishop 1999), and so is the exact posterior, which `shift`
    and `widen` spoil.
    """

    noise = 0.5
    shift, widen = 0.0, 1.0

    @property
    def weight(self):
        columns = torch.linalg.qr(normal(64, 3, seed=1))[0]
        return (columns * torch.tensor([3.0, 2.0, 1.0], dtype=torch.float64)).float()

    def encode(self, images, labels=None):
        variance = self.noise**2 / (self.noise**2 + self.weight.square().sum(0))
        mean = images.flatten(1) @ self.weight * variance / self.noise**2
        return mean + self.shift, (0.5 * (variance * self.widen).log()).expand(len(images), -1)

    def log_likelihood(self, images, z, labels):
        return torch.distributions.Normal(z @ self.weight.T, self.noise).log_prob(images.flatten(1)).sum(1)

    def exact(self, images):
        covariance = self.weight @ self.weight.T + self.noise**2 * torch.eye(64)
        return torch.distributions.MultivariateNormal(torch.zeros(64), covariance).log_prob(images.flatten(1))


def linear_vae(iwae=1, **change):
    torch.manual_seed(0)
    model = LinearVAE(DataSpec("toy", (1, 8, 8)), VAEConfig(**VAE.presets["tiny"] | {"iwae": iwae, "latent": 3}))
    for name, value in change.items():
        setattr(model, name, value)
    z, noise = normal(200, 3, seed=2).float(), normal(200, 64, seed=3).float()
    return model, (z @ model.weight.T + model.noise * noise).view(-1, 1, 8, 8)


@pytest.mark.parametrize("iwae", [1, 5])
def test_the_bound_of_a_linear_vae_with_its_posterior_is_exact(iwae):
    model, images = linear_vae(iwae)
    torch.testing.assert_close(model.log_prob(images), model.exact(images), rtol=0, atol=2e-3)
    assert model.exact(images).mean() < -40


def test_the_elbo_of_a_linear_vae_is_its_likelihood_and_the_loss_its_negative():
    model, images = linear_vae()
    likelihood, kl = model.elbo(images)
    gap = likelihood - kl - model.exact(images)
    assert abs(float(gap.mean())) < 4 * float(gap.std()) / math.sqrt(200)
    loss = float(model.loss("train", Batch(images))["loss"]) * 64
    assert loss == pytest.approx(-float(model.exact(images).mean()), abs=8 * float(gap.std()) / math.sqrt(200))


def test_the_bound_of_a_linear_vae_with_another_posterior_rises_to_the_likelihood():
    gaps = []
    for iwae in (1, 10, 100, 1000):
        model, images = linear_vae(iwae, shift=0.1, widen=2.0)
        gap = model.exact(images) - model.log_prob(images)
        gaps.append(float(gap.mean()))
        assert gaps[-1] > -3 * float(gap.std()) / math.sqrt(200)
    assert gaps == sorted(gaps, reverse=True) and gaps[0] > 0.3 and abs(gaps[-1]) < 0.02


# FLOPs


def count(action):
    with FlopCounter() as counter:
        action()
    return counter


def test_flops_of_grouped_convolutions_and_contractions():
    grouped = nn.Conv2d(4, 16, 3, padding=1, groups=4)
    assert count(lambda: grouped(torch.randn(1, 4, 8, 8))).flops == 2 * 16 * 9 * 64 == 18_432
    first, second = torch.randn(2, 3, 4), torch.randn(2, 4, 10)
    assert count(lambda: torch.einsum("bij,bjk->bik", first, second)).flops == 480


@pytest.mark.parametrize("backend", [SDPBackend.MATH, SDPBackend.FLASH_ATTENTION])
def test_flops_of_a_transformer_layer_whatever_its_attention_runs_on(backend):
    layer, tokens = nn.TransformerEncoderLayer(16, 2, 32, 0.0, batch_first=True), torch.randn(1, 8, 16)
    with sdpa_kernel(backend):
        assert count(lambda: layer(tokens)).flops == 36_864


def test_kernels_that_hide_their_products_are_named():
    layer, tokens = nn.TransformerEncoderLayer(16, 2, 32, batch_first=True).eval(), torch.randn(1, 8, 16)

    def fused():
        with torch.no_grad():
            layer(tokens)

    assert "_transformer_encoder_layer_fwd" in count(fused).uncounted
    found = count(lambda: nn.LSTM(8, 8)(torch.randn(3, 2, 8)))
    assert found.flops > 0 or found.uncounted, "an LSTM without cost"
