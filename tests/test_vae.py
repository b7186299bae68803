"""The VAE: shapes, the two terms of its bound, the bound's known answers on the model itself, and learning."""

import math

import pytest
import torch
from torch import Tensor

from genbench import Batch, Condition, ConditionSpec, DataSpec, Likelihood, Muon
from genbench.capabilities import capabilities
from genbench.distributions import discretized_gaussian, discretized_logistic_log_prob
from genbench.images import LEVELS, to_float
from genbench_vae import VAE, VAEConfig


def make(side: int = 8, channels: int = 1, classes: int = 0, **config: object) -> VAE:
    torch.manual_seed(0)
    settings = {**VAE.presets["tiny"], **config}
    return VAE(DataSpec("toy", (channels, side, side), classes), VAEConfig(**settings))


def levels(*shape: int) -> Tensor:
    return to_float(torch.randint(0, LEVELS, shape, dtype=torch.uint8))


@pytest.mark.parametrize("classes", [0, 3])
@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("side", [8, 15, 16, 28, 32, 64])
def test_samples_and_bounds_have_their_shapes_at_every_size(side: int, channels: int, classes: int) -> None:
    model = make(side, channels, classes, iwae=2).eval()
    labels = torch.arange(3) % classes if classes else None
    with torch.no_grad():
        images = model.sample(3, labels)
        bound = model.log_prob(levels(3, channels, side, side), labels)
    assert images.shape == (3, channels, side, side) and images.abs().max() <= 1
    assert bound.shape == (3,) and bound.dtype == torch.float32 and torch.isfinite(bound).all()


@pytest.mark.parametrize(
    ("shape", "latent", "width"),
    [
        ((1, 8, 8), 16, 128),
        ((1, 28, 28), 16, 128),
        ((3, 32, 32), 64, 128),
        ((3, 64, 64), 256, 512),
        ((3, 256, 256), 512, 1024),
    ],
)
def test_larger_images_get_more_latent_dimensions(shape: tuple[int, int, int], latent: int, width: int) -> None:
    model = VAE(DataSpec("toy", shape), VAEConfig())
    assert model.encode(torch.zeros(2, *shape))[0].shape == (2, latent)
    assert model.prior.couplings[0].net[0].out_features == width
    assert make(latent=5, couplings=1, prior_width=7).prior.couplings[0].net[0].out_features == 7


def test_it_has_a_discrete_bound() -> None:
    assert isinstance(make(), Likelihood) and "likelihood" in capabilities(VAE)
    assert VAE.discrete and VAE.likelihood == "bound"


def test_the_loss_is_the_negative_elbo_per_dimension_and_beta_weighs_the_kl() -> None:
    for beta in (1.0, 0.25):
        model, images = make(beta=beta), levels(6, 1, 8, 8)
        torch.manual_seed(3)
        likelihood, kl = model.elbo(images)
        torch.manual_seed(3)
        loss = model.loss("train", Batch(images))
        assert loss["loss"].item() == pytest.approx((beta * kl - likelihood).mean().item() / 64, rel=1e-5)
        assert (kl >= 0).all()


def test_the_kl_adds_over_the_dimensions_of_the_latent() -> None:
    model = make(latent=8)
    torch.nn.init.zeros_(model.to_latent.weight)
    model.to_latent.bias.data = torch.cat([torch.ones(8), torch.zeros(8)])  # N(1, 1) in each
    torch.testing.assert_close(model.elbo(levels(3, 1, 8, 8))[1], torch.full((3,), 4.0))


def collapse(model: VAE) -> None:
    """Make the posterior the prior, and the pixels ignore the latent: then the bound is exact."""
    for layer in (model.to_latent, model.from_latent):
        torch.nn.init.zeros_(layer.weight)
        torch.nn.init.zeros_(layer.bias)


def test_a_decoder_without_latent_has_an_exact_bound_for_every_k() -> None:
    images, values = levels(7, 1, 8, 8), []
    for k in (1, 5):
        model = make(iwae=k).eval()
        collapse(model)
        with torch.no_grad():
            likelihood, kl = model.elbo(images)
            assert kl.abs().max() < 1e-6
            values.append(model.log_prob(images))
            torch.testing.assert_close(values[-1], likelihood, rtol=1e-5, atol=1e-3)
    torch.testing.assert_close(*values, rtol=1e-5, atol=1e-3)


each_likelihood = pytest.mark.parametrize("likelihood", ["logistic", "gaussian"])


@each_likelihood
def test_a_pixels_probabilities_sum_to_one_over_the_256_levels(likelihood: str) -> None:
    model = make(iwae=1, likelihood=likelihood).eval()
    collapse(model)
    images = levels(1, 1, 8, 8).repeat(LEVELS, 1, 1, 1)
    images[:, 0, 3, 4] = to_float(torch.arange(LEVELS, dtype=torch.uint8))
    with torch.no_grad():
        log_prob = model.log_prob(images).double()
        mean, log_scale = model.decode(torch.zeros(1, 8))
    rest = images[:1].clone()
    if likelihood == "gaussian":
        pixels = discretized_gaussian(rest, mean, log_scale.exp())[0, 0]
    else:
        pixels = discretized_logistic_log_prob(rest, mean, log_scale)[0, 0].double()
    others = pixels.sum() - pixels[3, 4]
    assert (log_prob - others).exp().sum().item() == pytest.approx(1, abs=2e-4)


def test_the_likelihoods_are_different_distributions_of_one_network() -> None:
    logistic, gaussian = make().eval(), make(likelihood="gaussian").eval()
    gaussian.load_state_dict(logistic.state_dict())
    images, z = levels(3, 1, 8, 8), torch.randn(3, 8)
    with torch.no_grad():
        values = [model.log_likelihood(images, z, None) for model in (logistic, gaussian)]
    assert all(value.dtype == torch.float32 for value in values)
    assert (values[0] - values[1]).abs().min() > 1


def test_more_draws_tighten_the_bound_and_one_draw_is_the_elbo() -> None:
    images, bounds = levels(1, 1, 8, 8).repeat(400, 1, 1, 1), []
    for k in (1, 4, 32):
        model = make(iwae=k).eval()
        torch.nn.init.normal_(model.from_latent.weight, std=1.0)
        torch.manual_seed(5)
        with torch.no_grad():
            bounds.append(model.log_prob(images).mean().item())
            likelihood, kl = model.elbo(images)
        if k == 1:
            elbo = likelihood - kl
            assert abs(bounds[0] - elbo.mean().item()) < 6 * elbo.std().item() / math.sqrt(len(images))
    assert bounds[0] < bounds[1] < bounds[2]


def test_the_bound_is_computed_in_pieces_of_bounded_size(monkeypatch: pytest.MonkeyPatch) -> None:
    model, sizes = make(classes=3, iwae=1).eval(), []
    decode = model.decode

    def spy(z: Tensor, labels: Tensor | None = None) -> tuple[Tensor, Tensor]:
        sizes.append(len(z))
        return decode(z, labels)

    monkeypatch.setattr(model, "decode", spy)
    with torch.no_grad():
        assert model.log_prob(levels(601, 1, 8, 8), torch.arange(601) % 3).shape == (601,)
    assert sum(sizes) == 601 and max(sizes) <= 250


def test_labels_change_samples_and_bounds() -> None:
    model = make(classes=3, iwae=1)
    for p in model.parameters():  # residual branches start at zero
        p.data.add_(0.1 * torch.randn_like(p))
    model.eval()
    images, results = levels(4, 1, 8, 8), []
    for label in (0, 1):
        labels = torch.full((4,), label)
        torch.manual_seed(2)
        with torch.no_grad():
            results.append((model.sample(4, labels), model.log_prob(images, labels)))
    assert not torch.allclose(results[0][0], results[1][0])
    assert not torch.allclose(results[0][1], results[1][1])


def test_the_decoder_of_the_bound_knows_the_label() -> None:
    model = make(classes=3, iwae=1).eval()
    for p in model.parameters():
        p.data.add_(0.1 * torch.randn_like(p))
    collapse(model)  # the posterior sees neither image nor label
    images = levels(4, 1, 8, 8)
    with torch.no_grad():
        bounds = [model.log_prob(images, torch.full((4,), label)) for label in (0, 1)]
    assert not torch.allclose(*bounds)


@each_likelihood
def test_draws_are_noisier_than_means_and_follow_them(likelihood: str) -> None:
    mean_model, draw_model = make(likelihood=likelihood).eval(), make(likelihood=likelihood, draw=True).eval()
    draw_model.load_state_dict(mean_model.state_dict())
    samples = []
    for model in (mean_model, draw_model):
        collapse(model)
        with torch.no_grad():
            samples.append(model.sample(500))
    means, draws = samples
    assert means.std(0).max() < 1e-6 and draws.std(0).min() > 0.05
    assert (draws.mean(0) - means.mean(0)).abs().max() < 0.15
    with torch.no_grad():
        scale = draw_model.decode(torch.zeros(1, 8))[1].exp()[0]
    spread = math.pi / math.sqrt(3) if likelihood == "logistic" else 1.0  # standard deviations of a scale
    assert (draws.std(0) / (spread * scale)).mean().item() == pytest.approx(1, abs=0.03)


def test_config_roles_keep_the_training_when_only_the_samples_change() -> None:
    assert VAEConfig.role("iwae") == VAEConfig.role("draw") == "sample"
    assert VAEConfig.role("beta") == VAEConfig.role("latent") == VAEConfig.role("likelihood") == "train"


@each_likelihood
def test_training_under_bfloat16_lowers_the_loss(likelihood: str) -> None:
    model, losses = make(likelihood=likelihood), []
    images = torch.full((64, 1, 8, 8), 10, dtype=torch.uint8)
    images[:32, :, 2:6, 2:6] = 200
    (phase,) = model.phases()
    for _ in range(60):
        with torch.autocast("cpu", torch.bfloat16):
            loss = model.loss("train", Batch(to_float(images)))["loss"]
        phase.optimizer.zero_grad()
        loss.backward()
        phase.optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.6 * losses[0]


def test_muon_moves_the_matrices_that_images_pass_and_adamw_those_that_labels_do() -> None:
    model = VAE(DataSpec("toy", (3, 32, 32), 10), VAEConfig())
    (phase,) = model.phases()
    assert isinstance(phase.optimizer, Muon)
    rest, matrices = ({id(p) for p in group["params"]} for group in phase.optimizer.param_groups)
    assert id(model.to_latent.weight) in matrices
    assert {id(p) for p in model.encoder.label.parameters()} <= rest
    (phase,) = VAE(model.data, VAEConfig(optimizer="adamw")).phases()
    assert not isinstance(phase.optimizer, Muon)


@pytest.mark.parametrize("likelihood", ["gaussian", "logistic"])
def test_what_is_shown_is_kept_and_costs_nothing(likelihood: str) -> None:
    torch.manual_seed(0)
    spec = DataSpec("toy", (3, 8, 8), 0, ConditionSpec("hole", (3, 8, 8)))
    model = VAE(spec, VAEConfig(**VAE.presets["tiny"], likelihood=likelihood, draw=True)).eval()
    images, hole = levels(5, 3, 8, 8), torch.zeros(5, 1, 8, 8, dtype=torch.bool)
    hole[..., 4:] = True
    given = Condition({"image": images.masked_fill(hole, 0), "hole": hole})
    z = torch.randn(5, model.latent)
    with torch.no_grad():
        drawn = model.sample(5, given)
        whole = model.log_likelihood(images, z, given)
        nothing = model.log_likelihood(images, z, Condition({"image": images, "hole": torch.zeros_like(hole)}))
    assert (drawn - images)[..., :4].abs().max() < 1 / LEVELS
    assert nothing.abs().max() < 1e-3 and (whole < -1).all()
