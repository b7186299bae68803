"""The diffusion model against closed forms: process, posterior, bound, decoder, samplers."""

import math
from typing import get_args

import pytest
import torch
from pydantic import ValidationError

from genbench import Batch, DataSpec
from genbench.images import to_float
from genbench.optimizers import is_matrix
from genbench.walks import end_of
from genbench_ddpm import DDPM
from genbench_ddpm.diffusion import Diffusion, cosine_betas, discretized_gaussian, linear_betas, strata_of
from genbench_ddpm.network import with_waves
from genbench_ddpm.samplers import SAMPLERS, Sampler, ancestral, ddim, ddim_variance

GAUSSIAN_ENTROPY = 0.5 * math.log(2 * math.pi * math.e)
SCHEDULES = {
    "linear": linear_betas(1000),
    "cosine": cosine_betas(1000),
    "short": linear_betas(10, 0.01, 0.5),
    "constant": linear_betas(7, 0.3, 0.3),
}
each_schedule = pytest.mark.parametrize("betas", SCHEDULES.values(), ids=SCHEDULES)
each_prediction = pytest.mark.parametrize("prediction", ["eps", "x0", "v", "mean", "shift"])


def tiny(shape=(1, 8, 8), num_classes=0, **config) -> DDPM:
    """The preset `tiny`, with an output layer that is not zero."""
    torch.manual_seed(0)
    model = DDPM(DataSpec("toy", shape, num_classes), DDPM.Config(**DDPM.presets["tiny"] | config))
    for parameter in model.net.parameters():
        parameter.data += 0.05 * torch.randn_like(parameter)
    return model.eval()


def levels(n, shape=(1, 8, 8)):
    """Smooth images, as bin centres."""
    generator = torch.Generator().manual_seed(1)
    coarse = torch.rand(n, shape[0], 2, 2, generator=generator)
    smooth = torch.nn.functional.interpolate(coarse, shape[1:], mode="bilinear")
    return to_float((smooth * 255).to(torch.uint8))


# The process.


@each_schedule
def test_schedules_add_noise_at_every_step(betas):
    assert ((betas > 0) & (betas < 1)).all()
    process = Diffusion(betas)
    assert process.alpha_bar[0] == 1 and (process.alpha_bar.diff() < 0).all()
    torch.testing.assert_close(process.signal**2 + process.noise**2, torch.ones_like(process.signal))


def test_known_schedules():
    betas = linear_betas(1000)
    assert betas[0] == 1e-4 and betas[-1] == pytest.approx(0.02) and betas.diff().std() < 1e-12
    assert Diffusion(betas).alpha_bar[-1] == pytest.approx(4.0358e-5, rel=1e-3)
    half = Diffusion(cosine_betas(1000)).alpha_bar[500]
    assert half == pytest.approx((math.cos(0.508 / 1.008 * math.pi / 2) / math.cos(0.008 / 1.008 * math.pi / 2)) ** 2)
    assert cosine_betas(1000)[-1] == 0.999


@each_schedule
def test_posterior_is_bayes(betas):
    """Precisions add: q(x_{t-1} | x_t, x_0) is proportional to q(x_t | x_{t-1}) q(x_{t-1} | x_0)."""
    process = Diffusion(betas)
    x0, x_t = torch.randn(2, 5, dtype=torch.float64)
    for step in (2, 3, len(betas)):
        t, beta, before = torch.full((5,), step), betas[step - 1], process.alpha_bar[step - 1]
        precision = (1 - beta) / beta + 1 / (1 - before)
        mean = ((1 - beta).sqrt() / beta * x_t + before.sqrt() / (1 - before) * x0) / precision
        torch.testing.assert_close(process.posterior_mean(x0, x_t, t), mean)
        torch.testing.assert_close(process.posterior_variance[step], 1 / precision)


@each_prediction
def test_every_prediction_stands_for_the_data(prediction):
    process = Diffusion(linear_betas(100), prediction)
    x0, eps = torch.randn(2, 4, 3, dtype=torch.float64)
    for step in (1, 2, 50, 100):
        t = torch.full((4,), step)
        perfect = process.denoiser(lambda x_t, t: process.target(x0, eps, t))
        torch.testing.assert_close(perfect(process.diffuse(x0, t, eps), t).x0, x0)


def test_clipping_keeps_to_the_range_of_images():
    denoise = Diffusion(linear_betas(10), "x0").denoiser(lambda x_t, t: 3 * x_t, clip=True)
    found = denoise(torch.tensor([[-1.0], [0.1]]), torch.tensor([1, 1])).x0
    assert found.flatten().tolist() == [-1, pytest.approx(0.3)]


def test_times_are_spread_over_the_batch():
    process = Diffusion(linear_betas(20))
    assert sorted(process.draw_times(torch.zeros(20, 1)).tolist()) == list(range(1, 21))
    times = torch.cat([process.draw_times(torch.zeros(3, 1)) for _ in range(400)])
    assert times.min() == 1 and times.max() == 20 and times.bincount()[1:].min() > 30


def test_times_of_the_simple_loss_may_follow_a_logit_normal_and_those_of_the_bound_never():
    process = Diffusion(linear_betas(1000), times="logit_normal")
    shares = process.draw_simple_times(torch.zeros(10_000, 1)).double() / 1000
    for threshold, below in ((0.25, 0.1360), (0.5, 0.5), (0.75, 0.8640)):  # Phi(logit(threshold))
        assert (shares <= threshold).double().mean().item() == pytest.approx(below, abs=2e-3)
    seen = []

    def network(x_t, t):
        seen.append(t)
        return torch.zeros_like(x_t)

    x0 = torch.zeros(1000, 1)
    process.simple_loss(network, x0)
    process.variational_loss(network, x0)
    simple, bound = ((t <= 100).double().mean().item() for t in seen)
    assert simple < 0.03 and bound == pytest.approx(0.1, abs=0.002)


# The bound.


class SecondMoments:
    """Four points (x_0, eps) whose moments up to the second are the standard normal's: quadratics average exactly."""

    x0 = torch.tensor([[1.0], [1.0], [-1.0], [-1.0]], dtype=torch.float64)
    eps = torch.tensor([[1.0], [-1.0], [1.0], [-1.0]], dtype=torch.float64)


def gaussian_bound(process, monkeypatch) -> float:
    """The full bound, nats, of x_0 ~ N(0, 1) under the best predictor, eps(x, t) = sqrt(1 - alpha_bar_t) x."""
    perfect = {
        "eps": lambda x, t: process.at(process.noise, t, x) * x,
        "x0": lambda x, t: process.at(process.signal, t, x) * x,
        "v": lambda x, t: 0 * x,
        "shift": lambda x, t: 0 * x,
        "mean": lambda x, t: process.posterior_mean(process.at(process.signal, t, x) * x, x, t),
    }
    monkeypatch.setattr(torch, "randn_like", lambda x: SecondMoments.eps)
    parts = process.bound(process.denoiser(perfect[process.prediction]), SecondMoments.x0, strata=0, discrete=False)
    return float(sum(part.mean() for part in parts.values()))


@each_schedule
@each_prediction
def test_bound_of_a_gaussian_is_its_entropy(betas, prediction, monkeypatch):
    found = gaussian_bound(Diffusion(betas, prediction, "beta"), monkeypatch)
    assert found == pytest.approx(1.4189385332046727, abs=1e-9) == GAUSSIAN_ENTROPY


@pytest.mark.parametrize(("schedule", "excess"), [("short", 2.657), ("linear", 0.465), ("constant", 0.111)])
def test_bound_with_the_posterior_variance_is_larger(schedule, excess, monkeypatch):
    found = gaussian_bound(Diffusion(SCHEDULES[schedule], "eps", "posterior"), monkeypatch)
    assert found - GAUSSIAN_ENTROPY == pytest.approx(excess, abs=5e-4)


def test_bound_of_a_gaussian_by_monte_carlo():
    process = Diffusion(SCHEDULES["linear"])
    denoise = process.denoiser(lambda x, t: process.at(process.noise, t, x) * x)
    torch.manual_seed(0)
    x0 = torch.randn(2000, 20)
    parts = process.bound(denoise, x0, exact=4, strata=12, discrete=False)
    per_dim = sum(parts.values()) / 20
    assert per_dim.mean() == pytest.approx(GAUSSIAN_ENTROPY, abs=4 * float(per_dim.std()) / len(x0) ** 0.5)
    assert per_dim.std() / len(x0) ** 0.5 < 0.02


def test_a_worse_predictor_has_a_larger_bound():
    process = Diffusion(SCHEDULES["linear"])
    torch.manual_seed(0)
    x0 = torch.randn(500, 20)
    found = []
    for factor in (1.0, 0.9, 0.5):
        denoise = process.denoiser(lambda x, t, f=factor: f * process.at(process.noise, t, x) * x)
        found.append(float(sum(process.bound(denoise, x0, strata=12, discrete=False).values()).mean()))
    assert found == sorted(found)


def test_variational_loss_is_the_bound_without_its_constant():
    process = Diffusion(SCHEDULES["short"])
    torch.manual_seed(0)
    x0 = torch.randn(len(SCHEDULES["short"]), 20_000)
    loss = process.variational_loss(lambda x, t: process.at(process.noise, t, x) * x, x0, discrete=False)
    constant = float(process.prior_term(x0).mean()) / 20_000
    assert loss == pytest.approx(GAUSSIAN_ENTROPY - constant, abs=0.02)


@pytest.mark.parametrize("mean", [-3.0, -1.0, -0.3, 0.002, 0.999, 40.0])
@pytest.mark.parametrize("std", [1e-3, 0.01, 0.5])
def test_decoder_probabilities_sum_to_one(mean, std):
    centres = to_float(torch.arange(256).to(torch.uint8))
    found = discretized_gaussian(centres, torch.tensor(mean), torch.tensor(std))
    assert found.isfinite().all()
    assert found.exp().sum() == pytest.approx(1, abs=1e-9)
    normal = torch.distributions.Normal(torch.tensor(mean).double(), torch.tensor(std).double())
    borders = normal.cdf(torch.arange(257).double() / 128 - 1)
    borders[0], borders[-1] = 0, 1
    torch.testing.assert_close(found.exp(), borders.diff(), rtol=0, atol=1e-9)


def test_decoder_trains():
    mean = torch.tensor([-9.0, -0.5, 0.0, 9.0], requires_grad=True)
    discretized_gaussian(torch.tensor([1.0, -0.5, -0.998, -0.2]), mean, torch.tensor(0.01)).sum().backward()
    assert mean.grad.isfinite().all() and mean.grad[0] > 0 and mean.grad[3] < 0


@pytest.mark.parametrize(
    ("steps", "exact", "strata"), [(1000, 4, 12), (1000, 1, 40), (50, 4, 12), (5, 9, 3), (7, 2, 0)]
)
def test_strata_cover_every_time_once(steps, exact, strata):
    ranges = strata_of(steps, exact, strata)
    assert [t for low, high in ranges for t in range(low, high)] == list(range(1, steps + 1))
    assert all(high - low == 1 for low, high in ranges[: min(exact, steps)])
    assert len(ranges) <= (exact + strata if strata else steps)


def test_monte_carlo_agrees_with_the_full_sum():
    images, config = levels(16), {"timesteps": 20, "steps": 5}
    full, some = tiny(**config, bound_strata=0), tiny(**config, bound_strata=3, bound_exact=2)
    torch.manual_seed(3)
    with torch.inference_mode():
        wanted = torch.stack([full.log_prob(images).mean() for _ in range(8)])
        found = torch.stack([some.log_prob(images).mean() for _ in range(60)])
    error = (found.var() / len(found) + wanted.var() / len(wanted)).sqrt()
    assert abs(found.mean() - wanted.mean()) < 3.5 * error
    assert error < 0.03 * abs(wanted.mean())


def test_bound_terms_sum_to_the_log_prob():
    model, images = tiny(), levels(5)
    torch.manual_seed(0)
    parts = model.bound_terms(images)
    torch.manual_seed(0)
    assert torch.equal(model.log_prob(images), -(parts["L_T"] + parts["L_t"] + parts["L_0"]))
    assert set(parts) == {"L_T", "L_t", "L_0"} and all(part.shape == (5,) for part in parts.values())
    assert (parts["L_T"] >= 0).all() and (parts["L_t"] >= 0).all()


def test_the_bound_is_never_respaced():
    images = levels(3)
    found = []
    for sampler in ({"steps": 2}, {"steps": 9, "eta": 1.0}, {"sampler": "ancestral"}):
        torch.manual_seed(0)
        found.append(tiny(**sampler).log_prob(images))
    assert torch.equal(found[0], found[1]) and torch.equal(found[0], found[2])


# The samplers.


@each_schedule
def test_ddim_with_eta_one_has_the_posterior_variance(betas):
    process = Diffusion(betas)
    for t in (2, 3, len(betas)):
        assert ddim_variance(process, t, t - 1, eta=1) == pytest.approx(float(process.posterior_variance[t]), rel=1e-9)
        assert ddim_variance(process, t, t - 1, eta=0) == 0
    assert ddim_variance(process, 1, 0, eta=1) == 0


def test_ddim_with_eta_one_and_all_steps_is_ancestral():
    process = Diffusion(linear_betas(20, 0.01, 0.4), "x0", "posterior")
    denoise = process.denoiser(lambda x, t: torch.tanh(x) * 0.9)
    noise = torch.randn(3, 4, dtype=torch.float64)
    found = []
    for sampler in (ancestral, lambda *a: ddim(*a, steps=20, eta=1.0)):
        torch.manual_seed(0)
        found.append(end_of(sampler(process, denoise, noise)))
    torch.testing.assert_close(found[0], found[1])


@pytest.mark.parametrize("variance", ["beta", "posterior"])
@pytest.mark.parametrize("sampler", ["ancestral", "ddim", "ddim with noise"])
def test_samplers_draw_the_data(sampler, variance):
    """Under the exact denoiser of N(0.5, 0.2^2) every sampler gives that distribution."""
    process, mean, std = Diffusion(cosine_betas(400), "x0", variance), 0.5, 0.2

    def network(x, t):
        signal, noise = process.at(process.signal, t, x), process.at(process.noise, t, x)
        return mean + std**2 * signal / (std**2 * signal**2 + noise**2) * (x - signal * mean)

    torch.manual_seed(0)
    noise, denoise = torch.randn(20_000, 1), process.denoiser(network)
    if sampler == "ancestral":
        drawn = end_of(ancestral(process, denoise, noise))
    else:
        drawn = end_of(ddim(process, denoise, noise, steps=200, eta=float("noise" in sampler)))
    assert drawn.mean() == pytest.approx(mean, abs=0.01)
    assert drawn.std() == pytest.approx(std, rel=0.05)


def test_ddim_is_a_function_of_its_noise():
    model, noise = tiny(), torch.randn(2, 1, 8, 8)
    denoise = model.diffuser.denoiser(None)
    first = end_of(ddim(model.diffusion, denoise, noise, steps=5))
    torch.manual_seed(9)
    assert torch.equal(end_of(ddim(model.diffusion, denoise, noise, steps=5)), first)
    assert not torch.equal(end_of(ddim(model.diffusion, denoise, noise, steps=5, eta=1.0)), first)


# The model.


def test_waves_show_what_the_pixels_hide_and_fade_under_noise():
    """A quarter of a grey level moves a wave a hundred times as far as the pixel; under noise of 0.1 it is gone."""
    model = tiny(shape=(3, 8, 8), fourier=[6])
    images = torch.zeros(2, 3, 8, 8)
    images[1] += 0.25 / 128
    near, far = (with_waves(images, model.diffusion.noise[t].float(), [6]) for t in (1, 25))
    assert near.shape == (2, 9, 8, 8) and torch.equal(near[:, :3], images)
    fading = math.exp(-0.5 * float(64 * math.pi * model.diffusion.noise[1]) ** 2)
    assert near[1, 3:6].unique() == pytest.approx(fading * math.sin(64 * math.pi * 0.25 / 128), rel=1e-4)
    assert near[0, 6:].unique() == pytest.approx(fading, rel=1e-4)
    assert model.diffusion.noise[25] > 0.1 and far[:, 3:].abs().max() < 1e-9
    assert torch.equal(with_waves(images, model.diffusion.noise[1], []), images)


def test_the_network_starts_without_the_waves_and_learns_to_see_them():
    torch.manual_seed(0)
    model = DDPM(DataSpec("toy", (1, 8, 8)), DDPM.Config(**DDPM.presets["tiny"] | {"fourier": [3]}))
    seen = model.net.stem.weight[:, :4]
    assert model.net.stem.weight.shape[1] == 12 and not model.net.stem.weight[:, 4:].any() and seen.all()
    optimizer = model.phases()[0].optimizer
    for _ in range(3):  # the output starts at zero too
        optimizer.zero_grad()
        model.loss("train", Batch(levels(8))).backward()
        optimizer.step()
    assert model.net.stem.weight[:, 4:].abs().max() > 0


def test_the_mean_of_a_wave_under_noise_is_the_faded_wave():
    model, t = tiny(fourier=[4], timesteps=1000), torch.full((200_000,), 5)
    x0 = torch.full((200_000, 1, 1, 1), 0.01)
    x_t = model.diffusion.diffuse(x0, t, torch.randn_like(x0))
    frequency = 16 * math.pi
    clean = math.sin(frequency * 0.01 * float(model.diffusion.signal[5]))
    fading = float(with_waves(x0[:1] * 0, model.diffusion.noise[5], [4])[0, 2])
    assert torch.sin(frequency * x_t).mean() == pytest.approx(fading * clean, abs=0.01)


@pytest.mark.parametrize("config", [{"steps": 3, "eta": 0.5}, *({"sampler": name} for name in SAMPLERS)])
def test_nfe_counts_network_calls(config):
    model, calls = tiny(**config), []
    model.net.register_forward_hook(lambda *_: calls.append(1))
    with torch.inference_mode():
        assert model.sample(2).shape == (2, 1, 8, 8)
    assert len(calls) == model.nfe


def test_the_table_of_samplers_has_their_names_their_options_and_their_words():
    assert set(get_args(DDPM.Config.model_fields["sampler"].annotation)) == set(SAMPLERS)
    with pytest.raises(ValidationError, match=f"'{next(iter(SAMPLERS))}'"):
        tiny(sampler="none of them")
    for name, sampler in SAMPLERS.items():
        assert set(sampler.options) <= set(DDPM.Config.model_fields)
        assert f"{name}, {sampler.about}" in DDPM.Config.model_fields["sampler"].description


def test_one_more_entry_of_the_table_is_one_more_sampler(monkeypatch):
    seen = {}

    def walk(diffusion, denoise, noise, start, steps):
        seen.update(start=start, steps=steps)
        yield 0, 0 * noise + 0.25

    monkeypatch.setitem(SAMPLERS, "quarter", Sampler("a quarter", walk, ("steps",), calls=lambda steps: 2 * steps - 1))
    config = DDPM.Config(timesteps=50, steps=9, guidance=2.0, label_dropout=0.1).model_copy(
        update={"sampler": "quarter"}
    )
    model = DDPM(DataSpec("toy", (1, 8, 8), 3), config)
    assert (model.sample(2, torch.tensor([0, 1])) == 0.25).all()
    assert seen == {"start": None, "steps": 9} and model.nfe == 2 * 17


def test_steps_are_at_most_the_noise_levels_where_the_sampler_takes_them():
    with pytest.raises(ValidationError, match="51 is more than the 50 timesteps"):
        tiny(steps=51)
    assert tiny(steps=51, sampler="ancestral").nfe == 50


def test_labels_change_samples_and_likelihood():
    model, images = tiny(num_classes=3), levels(2)
    found = []
    for label in (0, 2):
        torch.manual_seed(0)
        labels = torch.full((2,), label)
        found.append((model.sample(2, labels), model.log_prob(images, labels)))
    assert not torch.equal(found[0][0], found[1][0])
    assert not torch.equal(found[0][1], found[1][1])


@each_prediction
@pytest.mark.parametrize("objective", ["simple", "variational"])
def test_every_objective_has_a_gradient(prediction, objective):
    model = tiny(prediction=prediction, objective=objective, schedule="linear")
    loss = model.loss("train", Batch(levels(4)))
    loss.backward()
    assert loss.isfinite() and all(p.grad.isfinite().all() for p in model.net.parameters())
    assert any(p.grad.any() for p in model.net.parameters())


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"steps": 51}, "more than the 50 timesteps"),
        ({"attention": [2]}, "names a resolution"),
        ({"heads": 3}, "does not divide"),
        ({"head_channels": 3}, "head_channels: 3 does not divide"),
        ({"prediction": "epsilon"}, "prediction"),
        ({"timestep": 3}, "timestep"),
    ],
)
def test_wrong_settings_are_refused(config, message):
    with pytest.raises(ValidationError, match=message):
        tiny(**config)


def test_training_lowers_loss_and_bound():
    """Sixty steps on smooth images: under the 8 bits of noise."""
    model, images = tiny().train(), levels(64)
    optimizer = torch.optim.Adam(model.net.parameters(), 1e-2)

    def bits():
        torch.manual_seed(5)
        with torch.inference_mode():
            return float(-model.eval().log_prob(images[:16]).mean()) / 64 / math.log(2)

    before, losses = bits(), []
    model.train()
    for step in range(60):
        torch.manual_seed(step)
        loss = model.loss("train", Batch(images[torch.randperm(64)[:32]]))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert sum(losses[-10:]) < 0.7 * sum(losses[:10])
    assert bits() < min(before, 7.5)


def test_muon_moves_the_matrices_that_images_pass_and_adamw_what_embeds_times_and_labels():
    model = tiny(num_classes=20, widths=(16, 32), attention=(0,), optimizer="muon")
    (phase,) = model.phases()
    by_muon = {id(p) for p in phase.optimizer.param_groups[1]["params"]}
    large = {name: id(p) in by_muon for name, p in model.net.named_parameters() if is_matrix(p)}
    steering = {name for name in large if name.startswith(("time.", "label.")) or ".embed." in name}
    assert {"time.net.2.weight", "label.table.weight", "down.0.res.embed.weight"} <= steering
    assert {"down.0.res.conv1.weight", "down.0.attention.qkv.weight"} <= set(large) - steering
    assert all(moved != (name in steering) for name, moved in large.items())
