"""The ancestral sampler on a re-spaced process (Nichol & Dhariwal 2021, section 4) against closed forms."""

from itertools import pairwise

import pytest
import torch
from pydantic import ValidationError

from genbench import DataSpec
from genbench.walks import end_of
from genbench_ddpm import DDPM
from genbench_ddpm.diffusion import Diffusion, cosine_betas, erasing_betas, linear_betas
from genbench_ddpm.samplers import ancestral, kept_times, respaced

BETAS = {"linear": linear_betas(1000), "cosine": cosine_betas(1000), "short": linear_betas(10, 0.01, 0.5)}
each_schedule = pytest.mark.parametrize("betas", BETAS.values(), ids=BETAS)


@pytest.mark.parametrize(("total", "steps"), [(1000, 250), (1000, 999), (1000, 1000), (50, 7), (9, 2), (5, 5)])
def test_kept_times_go_from_end_to_end(total, steps):
    times = kept_times(total, steps)
    assert times[0] == 1 and times[-1] == total and len(times) == steps
    assert times == sorted(set(times))
    gaps = {then - now for now, then in pairwise(times)}
    assert max(gaps) - min(gaps) <= 1


def test_kept_times_by_hand():
    assert kept_times(10, 4) == [1, 4, 7, 10]
    assert kept_times(1000, 1) == [1000]


@each_schedule
@pytest.mark.parametrize("variance", ["beta", "posterior", "learned"])
def test_the_shorter_process_has_the_kept_alpha_bars(betas, variance):
    process = Diffusion(betas, "v", variance)
    times = kept_times(len(betas), 7)
    shorter = process.respaced(times)
    assert shorter.steps == 7 and shorter.prediction == "v" and shorter.learned == process.learned
    torch.testing.assert_close(shorter.alpha_bar, process.alpha_bar[[0, *times]], rtol=1e-8, atol=0)
    between = process.alpha_bar[times[3]] / process.alpha_bar[times[2]]  # of q(x_then | x_now), times 3 to 4
    assert float(shorter.beta[4]) == pytest.approx(1 - float(between), rel=1e-9)
    assert process.respaced(range(1, len(betas) + 1)) is process


def test_a_process_that_ends_in_nothing_keeps_its_end():
    shorter = Diffusion(erasing_betas(40)).respaced([1, 20, 40])
    assert shorter.alpha_bar.tolist() == pytest.approx([1, 39 / 40, 1 / 2, 0])


def network_of(channels=2, seen=None):
    def predict(x, t):
        if seen is not None:
            seen.append(int(t[0]))
        wave = torch.sin(3 * x + t[:, None] / 7)
        return torch.cat([wave] * channels, dim=1)

    return predict


@pytest.mark.parametrize("variance", ["beta", "posterior", "learned"])
@pytest.mark.parametrize("steps", [30, 100])
def test_with_all_steps_it_is_the_ancestral_sampler_to_the_byte(variance, steps):
    process = Diffusion(linear_betas(30, 1e-3, 0.3), "eps", variance)
    denoise = process.denoiser(network_of(1 + process.learned), clip=True)
    drawn = []
    for walk in (ancestral, lambda *words: respaced(*words, steps=steps)):
        torch.manual_seed(0)
        drawn.append([*walk(process, denoise, torch.randn(5, 3))])
    for (t, x), (other, y) in zip(*drawn, strict=True):
        assert t == other and torch.equal(x, y)


def test_the_network_is_told_the_times_of_the_whole_process():
    process, seen = Diffusion(linear_betas(1000), "eps", "learned"), []
    walk = respaced(process, process.denoiser(network_of(seen=seen)), torch.randn(2, 3), steps=4)
    assert [t for t, _ in walk] == [1000, 667, 334, 1, 0]
    assert seen == [1000, 667, 334, 1]
    assert kept_times(1000, 4) == seen[::-1]


def test_one_step_is_the_estimate_of_the_data():
    process = Diffusion(linear_betas(1000), "eps", "learned")
    denoise, noise = process.denoiser(network_of()), torch.randn(2, 3)
    wanted = denoise(noise, torch.full((2,), 1000)).x0
    torch.testing.assert_close(end_of(respaced(process, denoise, noise, steps=1)), wanted)


@pytest.mark.parametrize("start", [1, 2, 500])
def test_it_begins_where_it_is_told_to(start):
    process, seen = Diffusion(linear_betas(1000), "eps", "learned"), []
    walk = respaced(process, process.denoiser(network_of(seen=seen)), torch.randn(2, 3), steps=5, start=start)
    times = [t for t, _ in walk]
    assert times[0] == start and times[-2:] == [1, 0] and times[:-1] == seen and len(seen) == min(5, start)


@pytest.mark.parametrize("betas", [linear_betas(1000), cosine_betas(1000)], ids=["linear", "cosine"])
@pytest.mark.parametrize("deviation", [1.0, 0.3])
def test_with_the_best_variance_a_gaussian_comes_out_right_in_any_number_of_steps(betas, deviation):
    """The variance between the extremes of the shorter process; between those of the whole one it is far too small.

    The last step takes the mean of x_0 given x_1. Of the standard normal the best variance is the larger extreme.
    """
    process, steps = Diffusion(betas, "x0", "learned"), 6
    times = [0, *kept_times(1000, steps)]
    shorter = process.respaced(times[1:])

    def ratio(t):
        return deviation**2 * process.signal[t] / (deviation**2 * process.signal[t] ** 2 + process.noise[t] ** 2)

    def network(x, t):
        place = times.index(int(t[0]))
        spread = deviation**2 * (1 - ratio(int(t[0])) * process.signal[int(t[0])])
        true = shorter.posterior_variance[place] + shorter.posterior_x0[place] ** 2 * spread
        low, high = shorter.log_range[:, place]
        fraction = 2 * (true.log() - low) / (high - low) - 1 if place > 1 else torch.zeros(())
        assert deviation < 1 or place == 1 or float(fraction) == pytest.approx(1, abs=1e-3)
        return torch.cat([ratio(int(t[0])) * x, fraction * torch.ones_like(x)], dim=1)

    torch.manual_seed(0)
    drawn = end_of(respaced(process, process.denoiser(network), torch.randn(40_000, 1).double(), steps=steps))
    wanted = deviation * float(ratio(1) * process.signal[1]) ** 0.5
    assert float(drawn.std()) == pytest.approx(wanted, rel=0.02)
    assert float(drawn.mean()) == pytest.approx(0, abs=0.03 * deviation)


def test_a_variance_without_extremes_is_refused():
    options = DDPM.presets["small-2015"] | {"sampler": "respaced"}
    with pytest.raises(ValidationError, match="sampler: respaced has no variance of its own steps if variance is free"):
        DDPM.Config(**options)


def test_more_steps_than_levels_are_refused():
    with pytest.raises(ValidationError, match="steps: 51 is more than the 50 timesteps"):
        DDPM.Config(**DDPM.presets["tiny"] | {"steps": 51, "sampler": "respaced"})


def test_a_model_draws_by_it_in_pixels_and_reads_its_steps():
    options = {"sampler": "respaced", "steps": 4, "variance": "learned", "objective": "hybrid"}
    torch.manual_seed(0)
    model = DDPM(DataSpec("toy", (1, 8, 8)), DDPM.Config(**DDPM.presets["tiny"] | options)).eval()
    with torch.no_grad():
        assert model.nfe == 4 and model.sample(2).shape == (2, 1, 8, 8)
        times, states = model.reverse_chain(2, 4)
    assert times[0] == 50 and times[-1] == 0 and len(times) == len(states)
    assert model.interpolate(*torch.zeros(2, 2, 1, 8, 8), torch.tensor([0.5])).shape == (1, 2, 1, 8, 8)
