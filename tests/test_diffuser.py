"""What diffusion in pixels and in latents both have."""

import copy

import pytest
import torch

from genbench import DataSpec
from genbench_ddpm import DDPM
from genbench_ddpm.diffuser import Diffuser
from genbench_ddpm.diffusion import Diffusion, linear_betas
from genbench_ldm import LatentDiffusion

DATA = DataSpec("toy", (1, 4, 4))


@pytest.mark.parametrize("discrete", [True, False])
def test_estimates_stay_in_the_range_of_images_if_they_are_images(discrete):
    process, config = Diffusion(linear_betas(20), "x0"), DDPM.Config(timesteps=20, steps=3, eta=0)
    diffuser = Diffuser(lambda x, t, labels: 9 * x, process, config, DATA, discrete)
    largest = (
        diffuser.sample(8).abs().max(),
        diffuser.denoiser(None)(diffuser.noise(8), torch.full((8,), 5)).x0.abs().max(),
    )
    assert all((size <= 1) == discrete for size in largest)


@pytest.mark.parametrize("model", [DDPM, LatentDiffusion])
def test_a_copy_of_a_model_predicts_by_its_own_weights(model):
    built = model(DataSpec("toy", (1, 8, 8)), model.Config(**model.presets["tiny"]))
    twin = copy.deepcopy(built)
    torch.nn.init.ones_(twin.net.head.bias)
    x, t = built.diffuser.noise(2), torch.tensor([3, 7])
    assert twin.diffuser.diffusion is twin.diffusion
    assert not built.diffuser.network(None)(x, t).any() and (twin.diffuser.network(None)(x, t) == 1).all()
