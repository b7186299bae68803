"""What calls itself a likelihood and is none: values that look at other images or at labels, and too much mass."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from test_likelihood import noise, some_job

from genbench import DataSpec, Model
from genbench.data.dataset import Part
from genbench.data.mixture import make_mixture
from genbench.evaluate.evidence import DRAWS, Generator, PixelByPixel, Uniform, excess_mass
from genbench.evaluate.likelihood import likelihood_measurements
from genbench.evaluate.over_time import keep_bound_over_time
from genbench.evaluate.own_noise import OwnNoise
from genbench.records.record_files import load_records
from genbench_ddpm import DDPM
from genbench_ddpm.cascade import Cascade
from genbench_flow import Flow
from genbench_gaussian import PixelGaussian
from genbench_ldm import LatentDiffusion
from genbench_vae import VAE

SHAPE = (1, 8, 8)
BIT = 64 * math.log(2)


# The noise of an image


def draws(count):
    """Draws of many kinds, each led by the batch, then some that are not."""
    x = torch.zeros(count, 3)
    own = [
        torch.randn(count, 2), torch.randn_like(x), torch.rand(count, 1, 2), torch.randint(0, 1000, (count,)),
        torch.empty(count, 2).normal_(), torch.empty(count, 2).uniform_(), torch.normal(x, 1.0),
        torch.bernoulli(torch.full((count, 30), 0.5)), torch.multinomial(torch.ones(count, 1000), 1),
        torch.distributions.Gamma(x + 1, x + 1).sample(), torch.nn.functional.dropout(torch.ones(count, 30), 0.5),
        torch.rand(count, 2, generator=torch.Generator().manual_seed(0)),
    ]  # fmt: skip
    return own, [torch.rand(()), torch.randn(5)]


@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode, torch.enable_grad])
def test_an_image_draws_the_same_in_every_batch(mode):
    with mode():
        with OwnNoise(range(37), 1) as noise:
            many, shared = draws(37)
        with OwnNoise([5], 1, led=noise.led):
            alone, shared_alone = draws(1)
        with OwnNoise([7, 5, 3], 1, led=noise.led):
            moved, _ = draws(3)
        with OwnNoise([5], 2, led=noise.led):
            other, _ = draws(1)
    assert noise.led == [1] * 12 + [0, 0]
    for index, drawn in enumerate(many):
        assert torch.equal(drawn[5:6], alone[index]) and torch.equal(drawn[5:6], moved[index][1:2])
        assert not torch.equal(drawn[5], drawn[6]) and not torch.equal(alone[index], other[index])
    assert all(map(torch.equal, shared, shared_alone))


@pytest.mark.parametrize("interleaved", [False, True])
def test_several_draws_of_an_image_are_told_apart_by_their_layout(interleaved):
    with OwnNoise(range(5), 1, interleaved) as noise:
        many = torch.randn(15, 2)
    with OwnNoise([3], 1, interleaved, noise.led):
        alone = torch.randn(3, 2)
    assert noise.led == [3]
    assert torch.equal(many[9:12] if interleaved else many[3::5], alone) and len(alone.unique()) == 6


# Other images


class Known(Model):
    """A normal density of every pixel, or a bound on it with noise, each with a method to spoil it."""

    name = "known"
    noise = 0.0

    def __init__(self):
        super().__init__(DataSpec("toy", SHAPE), Model.Config())
        self.seen = []

    def log_prob(self, images, given=None):
        self.seen.append(given)
        nats = torch.distributions.Normal(0.0, 1.0).log_prob(images).flatten(1).sum(1)
        return self.spoiled(nats + self.noise * torch.randn(len(images))) if self.noise else self.spoiled(nats)

    def spoiled(self, nats):
        return nats


class Bound(Known):
    likelihood, noise = "bound", 5.0


class BoundOfItsBatch(Bound):
    def spoiled(self, nats):
        return nats + 0.2 * (nats.mean() - nats)


class ExactBelow100(Known):
    def spoiled(self, nats):
        return nats + BIT if len(nats) > 100 else nats


class BoundBelow200(Bound):
    def spoiled(self, nats):
        return nats + BIT if len(nats) > 200 else nats


class InOrder(Known):
    def spoiled(self, nats):
        return nats + 0.01 * torch.arange(len(nats))


class NotAlone(Bound):
    def spoiled(self, nats):
        return nats + 3 if len(nats) > 1 else nats


class SharedNoise(Bound):
    """An honest estimate whose noise is one number for all images of a batch."""

    def log_prob(self, images, given=None):
        return super().log_prob(images, given) + 5 * torch.randn(2)[0]


class Chunked(Bound):
    """An honest bound that takes 30 images at a time."""

    def log_prob(self, images, given=None):
        return torch.cat([super(Chunked, self).log_prob(part, given) for part in images.split(30)])


class Repeated(Bound):
    """An honest bound from two draws an image, in one batch."""

    def log_prob(self, images, given=None):
        return super().log_prob(images.repeat_interleave(2, 0), given).view(-1, 2).mean(1)


def scored(model, count=250):
    job = some_job(images=count)
    return likelihood_measurements(job, model, noise(count))


@pytest.mark.parametrize("model", [BoundOfItsBatch, ExactBelow100, BoundBelow200, InOrder, NotAlone])
def test_a_value_that_depends_on_other_images_fails_with_its_numbers(model):
    for found in scored(model()):
        assert (found.value, found.stderr, found.status) == (None, None, "failed")
        assert "bits/dim" in found.note and "among" in found.note and "depends on no other image" in found.note


def test_an_exact_value_that_depends_on_other_images_is_told_of_one_of_them():
    note = scored(ExactBelow100())[0].note
    assert "bits/dim alone" in note and "among 250" in note
    alone, among = (
        float(word) for word in note.replace(":", " ").split() if word.replace(".", "").isdigit() and "." in word
    )
    assert alone - among == pytest.approx(1, abs=0.01)


@pytest.mark.parametrize("model", [Known, Bound, SharedNoise, Chunked, Repeated])
@pytest.mark.parametrize("count", [2, 40, 250])
def test_an_honest_value_stays(model, count):
    assert {found.status for found in scored(model(), count)} == {"ok"}


@pytest.mark.parametrize("conditional", [False, True])
@pytest.mark.parametrize(
    ("model", "options"),
    [
        (DDPM, {"bound_exact": 1, "bound_strata": 2}),
        (LatentDiffusion, {"bound_exact": 1, "bound_strata": 2}),
        (Cascade, {"bound_exact": 1, "bound_strata": 2}),
        (VAE, {"iwae": 2, "couplings": 2}),
        (Flow, {}),
        (Flow, {"dequantization": "variational"}),
        (PixelGaussian, {}),
    ],
    ids=lambda value: getattr(value, "name", "") or "-".join(value),
)
def test_shipped_models_give_an_image_one_value(model, options, conditional):
    if conditional and not model.conditional:
        pytest.skip("it takes no labels")
    torch.manual_seed(0)
    plain = noise(110)
    part = Part(plain.test.images, np.arange(110) % 10)
    data = replace(plain, num_classes=10, train=part, test=part)
    built = model(data.spec(conditional), model.Config(**model.presets.get("tiny", {}) | options)).eval()
    with torch.no_grad():
        for parameter in built.parameters():
            parameter.add_(0.02 * torch.randn_like(parameter))
    job = some_job(images=110).model_copy(update={"conditional": conditional})
    assert {found.status for found in likelihood_measurements(job, built, data)} == {"ok"}


# Labels


def test_no_method_sees_a_label_that_the_job_does_not_condition_on(tmp_path):
    class Peeks(Bound):
        def bound_terms(self, images, given=None):
            return {"whole": -self.log_prob(images, given)}

        def elbo_terms(self, images, given=None):
            return self.bound_terms(images, given)

        def bound_over_time(self, images, given=None):
            self.seen.append(given)
            return torch.tensor([1]), torch.ones(1, len(images))

    plain = noise(40)
    part = Part(plain.test.images, np.arange(40) % 10)
    data, job = replace(plain, num_classes=10, train=part, test=part), some_job()
    for conditional in (False, True):
        model, asked = Peeks(), job.model_copy(update={"conditional": conditional})
        likelihood_measurements(asked, model, data)
        keep_bound_over_time(asked, model, data, tmp_path)
        assert len(model.seen) > 8
        assert all((given is not None) == conditional for given in model.seen)


# Mass


@pytest.fixture(scope="module")
def source():
    return Generator(make_mixture(SHAPE, 10, 3, 6.0, 0), SHAPE)


@pytest.mark.parametrize("conditional", [False, True])
def test_the_true_distribution_has_no_more_mass_and_half_a_bit_more_is_found(source, conditional):
    law = replace(source, conditional=conditional)
    assert excess_mass(lambda y, k: torch.from_numpy(law.log_prob(y, k)), [law], 0) == ""
    told = excess_mass(lambda y, k: torch.from_numpy(law.log_prob(y, k) + 0.5 * BIT), [law], 0)
    assert "10^9.6" in told and "bits/dim" in told


def test_an_e_value_is_one_on_average():
    """Of a narrower distribution under a wider one: its mean ratio is its mass, 1, whatever the draws."""
    wide, narrow = (PixelByPixel(torch.zeros(1, 1, 2), torch.full((1, 1, 2), std)) for std in (0.4, 0.3))
    levels, _ = wide.draw(20_000, 0)
    assert np.exp(narrow.log_prob(levels, None) - wide.log_prob(levels, None)).mean() == pytest.approx(1, abs=0.03)
    assert Uniform((1, 1, 2)).log_prob(levels, None)[0] == pytest.approx(-2 * math.log(256))


def test_evidence_is_told_from_one_law_among_several_and_not_from_what_is_not_finite(source):
    laws = [Uniform(SHAPE), source]
    assert source.words in excess_mass(lambda y, k: torch.from_numpy(source.log_prob(y, k) + BIT), laws, 0)
    assert excess_mass(lambda y, k: torch.full((DRAWS,), math.nan), laws, 0) == ""
    assert excess_mass(lambda y, k: torch.zeros(DRAWS), [], 0) == ""


PLUGIN = """
import math
import torch
import genbench
from genbench_gaussian import PixelGaussian

@genbench.hookimpl
def register_models(register):
    register(Honest)
    register(TooGood)
    register(Unscaled)

class Honest(PixelGaussian):
    name = "honest"
    class Config(PixelGaussian.Config):
        learning_rate: float = genbench.field(0.05, "train", "peak learning rate")

class TooGood(Honest):
    name = "toogood"
    def log_prob(self, images, labels=None):
        return super().log_prob(images) + self.data.dims * math.log(2)

class Unscaled(Honest):
    name = "unscaled"
    def sample(self, n, labels=None):
        return (super().sample(n).clamp(-1, 1) + 1) / 2
"""


KNOWN = """
[known]
source = "mixture"
shape = [1, 8, 8]
num_classes = 4
train_images = 400
test_images = 200
"""


@pytest.mark.slow
def test_a_run_tells_of_too_much_mass_and_of_a_wrong_range(genbench, tmp_path):
    (tmp_path / "mine.py").write_text(PLUGIN)
    (tmp_path / "mine.toml").write_text(KNOWN)
    models = [
        "-m",
        "honest",
        "-m",
        "toogood",
        "-m",
        "unscaled",
        "--plugin",
        "mine.py",
        "--datasets",
        "mine.toml",
        "-d",
        "known",
    ]
    options = [
        "--budget",
        "200steps",
        "--samples",
        "100",
        "--likelihood-images",
        "60",
        "--device",
        "cpu",
        "--jobs",
        "1",
    ]
    result = genbench("run", *models, *options, "--extractor", "digits-classifier-v1", "--out", "runs")
    assert result.code == 1
    records = {record.job.model: record for record in load_records([tmp_path / "runs"])}
    found = {
        name: [m for m in record.measurements if m.metric.startswith("bits_per_dim")]
        for name, record in records.items()
    }
    assert all(m.status == "ok" for m in found["honest"]) and len(found["honest"]) == 2
    for m in found["toogood"]:
        assert m.value is None and m.status == "failed" and "more mass than 1" in m.note and "10^1" in m.note
    assert records["toogood"].status == "complete" and records["unscaled"].status == "failed"
    assert "values lie in [0, 1], images in [-1, 1]" in records["unscaled"].error.message
    assert "more mass than 1" in genbench("table", "runs", "--layout", "likelihood").out
