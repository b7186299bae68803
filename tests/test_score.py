"""Score networks: Langevin and score matching on Gaussians against closed forms, and the published networks."""

import math
from statistics import NormalDist

import pytest
import torch
from torch import nn

from genbench import Batch, DataSpec
from genbench.walks import last
from genbench_score import Score, ScoreConfig
from genbench_score.annealing import annealed_langevin
from genbench_score.levels import (
    consistent_noise,
    consistent_rate,
    geometric,
    largest_distance,
    logit_normal,
    number_of_levels,
    variance_after,
)
from genbench_score.refinenet import InstanceNormPlus


def built(preset: str = "tiny", shape: tuple[int, int, int] = (1, 8, 8), classes: int = 0, **config: object) -> Score:
    torch.manual_seed(0)
    return Score(DataSpec("images", shape, classes), ScoreConfig(**Score.presets[preset] | config))


# Levels


def test_levels_are_geometric_and_those_of_the_papers():
    """Song & Ermon 2019, section 4.3; Song & Ermon 2020, appendix B."""
    for preset, count, first, calls in (("paper", 10, 1.0, 1000), ("paper-v2", 232, 50.0, 1160)):
        with torch.device("meta"):
            model = built(preset, (3, 32, 32))
        ratios = [a / b for a, b in zip(model.levels, model.levels[1:])]
        assert len(model.levels) == count and model.nfe == calls
        assert (model.levels[0], model.levels[-1]) == (first, pytest.approx(0.01))
        assert max(ratios) == pytest.approx(min(ratios))
        assert built(preset, (1, 8, 8), width=4, denoise=True).nfe == calls + 1


def test_the_rules_give_what_the_paper_has():
    """CIFAR-10: sigma_1 = 50 by the data, 232 levels, epsilon = 6.2e-6; images in [0, 1] are at most sqrt(D) apart."""
    assert largest_distance(3072) == pytest.approx(math.dist([0.0] * 3072, [1.0] * 3072))
    assert number_of_levels(3072, 50, 0.01) == 220
    gamma = (50 / 0.01) ** (1 / 231)
    rate = 6.2e-6 / 0.01**2
    assert variance_after(rate, 2 * rate, gamma, 5) == pytest.approx(1.056, abs=1e-3)
    assert ScoreConfig(**Score.presets["paper-v2"]).pace([50.0, 50 / gamma]) == (rate, 2 * rate)


@pytest.mark.parametrize("dims", [64, 784, 3072])
def test_neighbouring_levels_overlap_by_half(dims):
    """The formula of technique 2; rounding up to a whole number of levels can only make it more."""
    gamma = (20 / 0.01) ** (1 / (number_of_levels(dims, 20, 0.01) - 1))
    away = math.sqrt(2 * dims) * (gamma - 1)
    overlap = NormalDist().cdf(away + 3 * gamma) - NormalDist().cdf(away - 3 * gamma)
    assert 0.5 <= overlap < 0.65


def test_training_visits_levels_as_often_as_ddpm_visits_the_times_of_their_noise():
    """t of the cosine schedule with noise tan(pi t / 2) is the sigmoid of a standard normal."""
    sigmas = geometric(28.0, 0.01, 400)
    shares = torch.tensor(logit_normal(sigmas), dtype=torch.float64)
    below = torch.tensor([math.log(t / (1 - t)) for t in (2 / math.pi * math.atan(2 * s) for s in sigmas)])
    for z in (-1.0, 0.0, 1.5):
        assert float(shares[below < z].sum()) == pytest.approx(NormalDist().cdf(z), abs=0.01)


@pytest.mark.parametrize("draws", ["uniform", "logit_normal"])
def test_a_batch_has_the_levels_in_their_shares(draws):
    torch.manual_seed(0)
    model = built(draws=draws)
    counts = torch.bincount(model.drawn(6000), minlength=6) / 6000
    torch.testing.assert_close(counts, torch.tensor(model.config.shares(model.levels)), atol=2e-4, rtol=0)
    assert (draws == "uniform") is bool((counts > 0.16).all())


# Langevin


def gaussian_score(sigmas: list[float], mean: float, variance: float):
    """The true score of N(mean, variance) with the noise of each level."""
    return lambda i, x: (mean - x) / (variance + sigmas[i] ** 2)


def test_annealed_langevin_on_a_gaussian_follows_its_recursion_at_every_level():
    """x <- x + a (m - x) / (v + s^2) + sqrt(b) s z keeps Gaussians: their mean and variance have a closed recursion."""
    torch.manual_seed(0)
    sigmas, steps, rate, noise, m, v = geometric(2.0, 0.1, 6), 3, 0.3, 0.5, 0.7, 0.05
    mean, variance = 0.2, 0.5
    start = mean + variance**0.5 * torch.randn(40_000, dtype=torch.float64)
    walk = annealed_langevin(start, gaussian_score(sigmas, m, v), sigmas, steps, rate, noise, denoise=False)
    assert next(walk)[0] == 6
    for sigma, (t, x) in zip(sigmas, walk):
        for _ in range(steps):
            kept = 1 - rate * sigma**2 / (v + sigma**2)
            mean, variance = m + kept * (mean - m), kept**2 * variance + noise * sigma**2
        assert sigmas[5 - t] == sigma
        assert float(x.mean()) == pytest.approx(mean, abs=4 * (variance / len(x)) ** 0.5)
        assert float(x.var()) == pytest.approx(variance, rel=0.03)
    assert t == 0


@pytest.mark.parametrize(("gamma", "steps"), [(1.08, 1), (1.2, 1), (1.67, 10), (1.037, 5)])
def test_the_rule_keeps_the_spread_of_noise_and_of_images_from_level_to_level(gamma, steps):
    """In directions of any variance v it is v + sigma^2 in the end, exactly at v = 0 and nearly elsewhere."""
    sigmas = geometric(10.0, 0.01, 1 + round(math.log(1000) / math.log(gamma)))
    rate, noise = ScoreConfig(steps=steps).pace(sigmas)
    assert noise < 2 * rate < 2
    for v in (0.0, 0.001, 0.1, 1.0, 4.0):
        variance = v + sigmas[0] ** 2 * gamma**2
        for sigma in sigmas:
            for _ in range(steps):
                variance = (1 - rate * sigma**2 / (v + sigma**2)) ** 2 * variance + noise * sigma**2
        assert variance == pytest.approx(v + sigmas[-1] ** 2, rel=0.11 if v else 1e-6)


def test_pure_noise_ends_each_level_with_the_variance_of_the_closed_form():
    torch.manual_seed(0)
    gamma, steps = 3.0 ** (1 / 3), 2
    sigmas, x = geometric(3.0, 1.0, 4), 3 * gamma * torch.randn(40_000, dtype=torch.float64)
    rate = consistent_rate(gamma, steps)
    for noise, end in (
        (consistent_noise(rate, gamma, steps), 1.0),
        (2 * rate, variance_after(rate, 2 * rate, gamma, 2)),
    ):
        walk = annealed_langevin(x, gaussian_score(sigmas, 0.0, 0.0), sigmas, steps, rate, noise, denoise=False)
        next(walk)
        assert float(next(walk)[1].var()) / 9 == pytest.approx(end, rel=0.03)
    assert end > 1.1


def test_levels_that_are_too_far_apart_are_drawn_afresh_from_the_expected_image():
    assert consistent_rate(4.0, 1) == pytest.approx(1) and consistent_noise(1.0, 4.0, 1) == 1


def test_the_last_step_takes_the_noise_away():
    """All images alike: their score leads to the one image, exactly; without the step its noise stays."""
    torch.manual_seed(0)
    sigmas = geometric(1.0, 0.1, 5)
    ends = {}
    for denoise in (True, False):
        walk = annealed_langevin(torch.rand(5000), gaussian_score(sigmas, 0.4, 0.0), sigmas, 5, 0.2, 0.4, denoise)
        ends[denoise] = last(walk)[1]
    torch.testing.assert_close(ends[True], torch.full((5000,), 0.4))
    assert 0.1 < float(ends[False].std()) < 0.13


# Denoising score matching


class Affine(Score):
    """With a gain and a bias for every level in place of the network."""

    def __init__(self, data: DataSpec, config: ScoreConfig) -> None:
        super().__init__(data, config)
        self.table = nn.Parameter(torch.zeros(len(self.levels), 2))

    def network(self, images, level, labels):
        gain, bias = self.table[level][:, :, None, None, None].unbind(1)
        return gain * images + bias


@pytest.mark.parametrize("draws", ["uniform", "logit_normal"])
def test_what_matching_learns_from_gaussian_images_is_their_score(draws):
    """sigma^2-weighted matching on N(m, v) pixels is least at s(x) = (m - x) / (v + sigma^2), at every level."""
    m, v = 0.6, 0.04
    torch.manual_seed(0)
    config = ScoreConfig(draws=draws, levels=4, sigma_begin=1.0, sigma_end=0.1, widths=(4,))
    model = Affine(DataSpec("images", (1, 8, 8)), config)
    optimizer = torch.optim.Adam([model.table], 0.1)
    scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, 300)
    for _ in range(300):
        images = 2 * (m + v**0.5 * torch.randn(128, 1, 8, 8)) - 1
        optimizer.zero_grad()
        model.loss("train", Batch(images)).backward()
        optimizer.step(), scheduler.step()
    x = torch.linspace(-1, 2, 16).view(1, 1, 4, 4).expand(4, 1, 4, 4)
    sigma = model.sigmas.view(4, 1, 1, 1)
    found = model.score(x, torch.arange(4), None).detach()
    torch.testing.assert_close(sigma * found, sigma * (m - x) / (v + sigma**2), atol=0.06, rtol=0.03)


# The model


def test_an_untrained_network_has_the_score_of_gaussian_images_at_every_level():
    """It predicts v = 0, which images N(1/2, 1/4) in [0, 1] have on average."""
    model, x = built(), torch.rand(6, 1, 8, 8)
    found = model.score(x, torch.arange(6), None)
    torch.testing.assert_close(found, (0.5 - x) / (0.25 + model.at(torch.arange(6)).square()))


def test_a_network_that_is_not_told_the_level_is_only_scaled_by_it():
    x, levels = torch.rand(1, 1, 8, 8).expand(2, -1, -1, -1), torch.tensor([0, 5])
    for conditioning, same in (("division", True), ("both", False)):
        model = built(conditioning=conditioning)
        for parameter in model.parameters():
            nn.init.normal_(parameter, std=0.3)
        scaled = (model.score(x, levels, None) * model.at(levels)).detach()
        assert torch.allclose(scaled[0], scaled[1], rtol=1e-4, atol=1e-5) is same


def test_labels_and_levels_choose_their_own_normalisation():
    model = built(shape=(1, 8, 8), classes=3, network="refinenet", width=4, conditioning="embedding", levels=5)
    assert model.net.norm.table.weight.shape == (15, 12)
    x = torch.rand(1, 1, 8, 8).expand(3, -1, -1, -1)
    scores = model.score(x, torch.tensor([1, 1, 2]), torch.tensor([0, 2, 0]))
    assert not torch.allclose(scores[0], scores[1]) and not torch.allclose(scores[0], scores[2])


def test_instance_norm_plus_keeps_how_bright_channels_are_relative_to_each_other():
    norm, x, row = InstanceNormPlus(4, 2), torch.randn(1, 4, 6, 6), torch.zeros(1, dtype=torch.int64)
    brighter = x + torch.tensor([3.0, 0, 0, 0]).view(1, 4, 1, 1)
    torch.testing.assert_close(norm(x + 3, row), norm(x, row), atol=1e-4, rtol=1e-4)
    assert not torch.allclose(norm(brighter, row), norm(x, row), atol=0.1)
    assert not torch.allclose(norm(x, row + 1), norm(x, row))


def test_chains_go_to_the_noise_of_every_level_and_end_in_samples():
    model = built().eval()
    with torch.no_grad():
        times, states = model.forward_chain(torch.zeros(400, 1, 8, 8), 4)
        torch.manual_seed(1)
        back, chain = model.reverse_chain(2, 4)
        torch.manual_seed(1)
        samples = model.sample(2)
    noise = [0.0, *reversed(model.levels)]
    assert times.tolist() == [0, 2, 4, 6] and back[0] == 6 and back[-1] == 0
    for t, x in zip(times.tolist(), states):
        assert float(x.std()) == pytest.approx(2 * noise[t], rel=0.03)
    torch.testing.assert_close(chain[-1].clamp(-1, 1), samples)


def test_sampling_tells_how_far_it_is(monkeypatch):
    model, told = built().eval(), []
    monkeypatch.setattr(model, "report", told.append)
    with torch.no_grad():
        model.sample(1)
    assert told == sorted(told) and told[-1] == 1 and len(told) == 7


@pytest.mark.parametrize(
    ("config", "shape", "words"),
    [
        ({"levels": 1}, (1, 8, 8), "levels"),
        ({"step_size": 2e-4}, (1, 8, 8), "step_size"),
        ({"sigma_begin": 0.01}, (1, 8, 8), "sigma_begin"),
        ({"network": "refinenet"}, (1, 3, 8), "refinenet"),
    ],
)
def test_what_cannot_work_is_refused(config, shape, words):
    with pytest.raises(ValueError, match=words):
        built(shape=shape, **config)


# The published networks


@pytest.mark.parametrize(
    ("preset", "shape", "width", "count"),
    [
        ("paper", (3, 32, 32), 128, 30_117_635),
        ("paper-v2", (3, 32, 32), 128, 29_694_083),
        ("paper", (1, 28, 28), 64, 7_638_657),
        ("paper-v2", (1, 28, 28), 64, 7_426_881),
    ],
)
def test_parameters_of_the_published_networks(preset, shape, width, count):
    with torch.device("meta"):
        assert sum(p.numel() for p in built(preset, shape, width=width).parameters()) == count


def test_the_papers_training():
    """Song & Ermon 2019, appendix B.2; Song & Ermon 2020, appendix B, with the authors' configurations."""
    first, second = (ScoreConfig(**Score.presets[name]) for name in ("paper", "paper-v2"))
    assert (first.learning_rate, first.steps, first.step_size, first.ema_decay) == (1e-3, 100, 2e-5, 0)
    assert (second.learning_rate, second.steps, second.step_size, second.ema_decay) == (1e-4, 5, 6.2e-6, 0.999)
    assert (first.conditioning, second.conditioning) == ("embedding", "division")
    for config in (first, second):
        assert (config.batch_size, config.flip, config.betas, config.annealing) == (128, True, (0.9, 0.999), "constant")
        assert not config.denoise and config.network == "refinenet" and config.draws == "uniform"


def update(model: Score) -> None:
    """A gradient for every parameter, and a score of the images' shape."""
    images = torch.rand(1, *model.data.shape) * 2 - 1
    loss = model.loss("train", Batch(images))
    loss.backward()
    assert loss.isfinite()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in model.parameters())
    assert model.score(images, torch.zeros(1, dtype=torch.int64), None).shape == images.shape


@pytest.mark.parametrize("preset", ["paper", "paper-v2"])
@pytest.mark.parametrize("shape", [(1, 28, 28), (3, 15, 15)])
def test_the_same_structure_with_fewer_channels(preset, shape):
    update(built(preset, shape, width=4))


@pytest.mark.slow
@pytest.mark.parametrize("preset", ["paper", "paper-v2"])
def test_the_published_networks_train(preset):
    update(built(preset, (3, 32, 32)))
