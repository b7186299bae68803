"""RePaint: against a Gaussian whose conditional is known, what is kept, what it costs, and what is said of it."""

import pytest
import torch

from genbench import Batch, Condition, ConditionSpec, DataSpec
from genbench.walks import end_of
from genbench_ddpm import DDPM
from genbench_ddpm.diffusion import Diffusion, Estimate, cosine_betas
from genbench_ddpm.repaint import calls_of, renoised, repaint

HOLE = DataSpec("toy", (1, 8, 8), 0, ConditionSpec("hole", (1, 8, 8)))
COVARIANCE = torch.tensor([[0.25, 0.2], [0.2, 0.25]])


def exact(diffusion):
    """E[x_0 | x_t] of two pixels that are N(0, COVARIANCE)."""

    def denoise(x, t):
        signal, noise = float(diffusion.signal[t[0]]), float(diffusion.noise[t[0]])
        gain = signal * COVARIANCE @ torch.linalg.inv(signal**2 * COVARIANCE + noise**2 * torch.eye(2))
        return Estimate((x.flatten(1) @ gain.T).view_as(x), torch.zeros(()))

    return denoise


def filled(repeats, count=4000, known=0.4):
    """The second of two pixels, of which the first is known."""
    torch.manual_seed(0)
    diffusion = Diffusion(cosine_betas(1000))
    image = torch.tensor([known, 0.0]).expand(count, 1, 1, 2)
    hole = torch.tensor([False, True]).expand(count, 1, 1, 2)
    given = Condition({"image": image, "hole": hole})
    noise = torch.randn(count, 1, 1, 2)
    return end_of(repaint(diffusion, exact(diffusion), noise, given, 50, "time", repeats))


def test_repeats_bring_what_is_filled_in_near_the_exact_conditional():
    """Mean .32 and deviation .3; without repeats what is known comes too late to be followed."""
    once, often = filled(1), filled(10)
    assert (often[..., 0] == 0.4).all() and (once[..., 0] == 0.4).all()
    mean, deviation = 0.4 * 0.2 / 0.25, (0.25 - 0.2**2 / 0.25) ** 0.5
    assert often[..., 1].mean() == pytest.approx(mean, abs=0.03)
    assert often[..., 1].std() == pytest.approx(deviation, abs=0.05)
    assert abs(once[..., 1].mean() - mean) > 2 * abs(often[..., 1].mean() - mean)


def test_noise_is_added_back_as_by_the_forward_process():
    torch.manual_seed(0)
    diffusion = Diffusion(cosine_betas(100))
    x0 = torch.full((20_000, 1), 0.7, dtype=torch.float64)
    x10 = diffusion.diffuse(x0, torch.full((20_000,), 10), torch.randn_like(x0))
    x60 = renoised(diffusion, x10, 10, 60)
    assert float(x60.mean()) == pytest.approx(0.7 * float(diffusion.signal[60]), abs=0.02)
    assert float(x60.std()) == pytest.approx(float(diffusion.noise[60]), abs=0.02)


def build(**options):
    torch.manual_seed(0)
    return DDPM(HOLE, DDPM.Config(**{**DDPM.presets["tiny"], "holes": "repaint", "repeats": 2, "steps": 4, **options}))


def shown(n):
    hole = torch.zeros(n, 1, 8, 8, dtype=torch.bool)
    hole[..., 4:] = True
    return Condition({"hole": hole, "image": (torch.rand(n, 1, 8, 8) * 2 - 1).masked_fill(hole, 0)})


def test_the_network_is_that_of_no_condition_and_learns_without_holes():
    model, free = build(), DDPM(DataSpec("toy", (1, 8, 8)), DDPM.Config(**DDPM.presets["tiny"]))
    sizes = [{name: tensor.shape for name, tensor in each.state_dict().items()} for each in (model, free)]
    assert sizes[0] == sizes[1]
    images, losses = torch.rand(4, 1, 8, 8) * 2 - 1, []
    for given in (shown(4), shown(4)):
        torch.manual_seed(3)
        losses.append(float(model.loss("train", Batch.of(images, given))))
    assert losses[0] == losses[1]


def test_what_is_shown_is_kept_and_the_network_is_called_as_often_as_it_says():
    model, given, calls = build().eval(), shown(3), []
    model.net.register_forward_hook(lambda *_: calls.append(1))
    with torch.no_grad():
        drawn = model.sample(3, given)
    hole = given["hole"]
    assert torch.allclose(drawn[~hole], given["image"][~hole], atol=1e-6)
    assert len(calls) == model.nfe == calls_of(4, 2) == 7


def test_a_reader_is_told_and_a_trained_model_says_nothing():
    plain, untrained = DDPM(HOLE, DDPM.Config(**DDPM.presets["tiny"])), build()
    assert untrained.remark == "it was not trained to fill holes: RePaint, each step 2 times" and plain.remark == ""
    assert untrained.likelihood_note.endswith("of whole images: nothing is shown of them")
    assert "whole" not in plain.likelihood_note


def test_options_of_a_sampler_that_it_does_not_read_are_told():
    on_a_grid, plain = build(grid="time").config, build().config
    assert on_a_grid.unused("eta") == on_a_grid.unused("sampler") == plain.unused("eta") == "holes = repaint"
    assert plain.unused("sampler") == plain.unused("grid") == "", "the sampler decides the grid"


@pytest.mark.parametrize(
    ("data", "options", "told"),
    [
        (DataSpec("toy", (1, 8, 8)), {}, "which this job is not given"),
        (HOLE, {"sampler": "ancestral"}, "a sampler with a grid"),
        (HOLE, {"label_dropout": 0.1}, "neither guidance nor label_dropout"),
    ],
)
def test_what_it_cannot_be_combined_with_is_refused(data, options, told):
    with pytest.raises(ValueError, match=told):
        DDPM(data, DDPM.Config(**{**DDPM.presets["tiny"], "holes": "repaint", **options}))
