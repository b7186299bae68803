"""The VAE's prior: a density that its draws have, told of labels, and learned towards what the encoder gives."""

import math

import pytest
import torch

from genbench import Batch, DataSpec
from genbench.testing import check_model
from genbench_vae import VAE, VAEConfig
from genbench_vae.prior import Prior


def prior(dims=5, couplings=3, classes=0, std=0.5):
    """One whose couplings do something."""
    torch.manual_seed(0)
    made = Prior(dims, couplings, 16, classes)
    for parameter in made.parameters():
        torch.nn.init.normal_(parameter, std=std)
    return made.requires_grad_(False)


def test_without_couplings_and_before_training_it_is_the_standard_normal():
    z = torch.randn(7, 5)
    expected = torch.distributions.Normal(0, 1).log_prob(z).sum(1)
    for couplings in (0, 4):
        made = Prior(5, couplings, 16, 0)
        torch.testing.assert_close(made.log_prob(z, None), expected)


@pytest.mark.parametrize("classes", [0, 3])
def test_the_density_is_that_of_its_draws(classes):
    made, noise = prior(classes=classes).double(), torch.randn(4, 5).double()
    labels = torch.arange(4) % classes if classes else None
    z = made.draw(noise, labels)
    for i in range(4):
        one = None if labels is None else labels[i : i + 1]
        jacobian = torch.autograd.functional.jacobian(lambda e, one=one: made.draw(e[None], one)[0], noise[i])
        base = -0.5 * (noise[i].square() + math.log(2 * math.pi)).sum()
        expected = base - torch.linalg.slogdet(jacobian)[1]
        torch.testing.assert_close(made.log_prob(z[i : i + 1], one)[0], expected, atol=1e-5, rtol=1e-5)


def test_the_density_integrates_to_one():
    made, edge = prior(dims=2, std=0.25), torch.linspace(-12, 12, 1201)
    grid = torch.cartesian_prod(edge, edge)
    mass = made.log_prob(grid, None).double().exp().sum() * (edge[1] - edge[0]) ** 2
    assert float(mass) == pytest.approx(1, abs=1e-3)


def test_labels_matter():
    made, z = prior(classes=3), torch.randn(4, 5)
    assert not torch.equal(made.log_prob(z, torch.zeros(4).long()), made.log_prob(z, torch.ones(4).long()))


def test_training_moves_it_to_where_the_encoder_puts_the_images():
    """The rate falls below that of the standard normal, whose KL the same posteriors would have to pay."""
    torch.manual_seed(0)
    model = VAE(DataSpec("toy", (1, 8, 8)), VAEConfig(**{**VAE.presets["tiny"], "couplings": 2, "prior_width": 16}))
    torch.nn.init.zeros_(model.to_latent.weight)
    model.to_latent.bias.data = torch.cat([torch.ones(8), torch.full((8,), -2.0)])
    batch = Batch(torch.rand(16, 1, 8, 8) * 2 - 1)
    optimizer = torch.optim.Adam(model.prior.parameters(), 1e-2)
    rates = []
    for _ in range(150):
        rate = model.elbo(batch.images)[1].mean()
        optimizer.zero_grad()
        rate.backward()
        optimizer.step()
        rates.append(rate.item())
    fixed = 8 * (math.exp(-4) + 1 - 1 + 4) / 2
    assert rates[0] == pytest.approx(fixed, rel=0.1)
    assert rates[-1] < 0.2 * fixed


@pytest.mark.slow
def test_it_keeps_the_promises_with_a_prior_of_its_own():
    check_model(VAE, couplings=2, prior_width=16)
