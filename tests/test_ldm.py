"""Latent diffusion: the two stages, the scale between them, and what is shared with `ddpm`."""

import math

import pytest
import torch
from pydantic import ValidationError
from torch import nn

from genbench import Batch, DataSpec, Likelihood
from genbench.distributions import discretized_logistic_log_prob, logistic_draw
from genbench.images import to_float, to_uint8
from genbench.training.phases import checked_phases
from genbench_ddpm.diffusion import Diffusion
from genbench_ldm import LatentDiffusion, draw


def tiny(shape=(1, 8, 8), num_classes=0, **config) -> LatentDiffusion:
    """The preset `tiny`, with no branch at zero."""
    torch.manual_seed(0)
    tiny = LatentDiffusion.presets["tiny"]
    model = LatentDiffusion(DataSpec("toy", shape, num_classes), LatentDiffusion.Config(**tiny | config))
    for parameter in model.parameters():
        parameter.data += 0.05 * torch.randn_like(parameter)
    return model.eval()


def batch(n=6, shape=(1, 8, 8)) -> Batch:
    """Smooth images, as bin centres."""
    generator = torch.Generator().manual_seed(1)
    coarse = torch.rand(n, shape[0], 2, 2, generator=generator)
    smooth = torch.nn.functional.interpolate(coarse, shape[1:], mode="bilinear")
    return Batch(to_float((smooth * 255).to(torch.uint8)), torch.arange(n) % 2)


@pytest.mark.parametrize("factor", [1, 2, 4])
@pytest.mark.parametrize("shape", [(1, 8, 8), (3, 16, 16), (1, 28, 28), (3, 64, 64), (1, 9, 14)])
def test_latents_are_smaller_by_the_factor(shape, factor):
    model = tiny(shape, factor=factor, latent_channels=2)
    mean, log_std = model.autoencoder.encode(batch(2, shape).images)
    assert mean.shape == log_std.shape == (2, *model.latent_shape)
    assert model.latent_shape == (2, -(-shape[1] // factor), -(-shape[2] // factor))
    with torch.inference_mode():
        samples = model.sample(2)
    assert samples.shape == (2, *shape) and samples.abs().max() <= 1


@pytest.mark.parametrize("phase", ["autoencoder", "diffusion"])
def test_a_phase_moves_its_module_alone(phase):
    model = tiny()
    loss = model.loss(phase, batch())
    (loss["loss"] if isinstance(loss, dict) else loss).backward()
    moved = {p.name: {id(q) for group in p.optimizer.param_groups for q in group["params"]} for p in model.phases()}
    for parameter in model.parameters():
        assert (parameter.grad is not None) == (id(parameter) in moved[phase])
    assert {id(q) for q in model.parameters()} == moved["autoencoder"] | moved["diffusion"]


def test_the_phases_share_the_budget():
    first, second = tiny(ae_share=0.3).phases()
    assert (first.name, first.span, second.name, second.span) == ("autoencoder", (0, 0.3), "diffusion", (0.3, 1))
    assert (first.part, second.part) == ("first stage", "generator")


@pytest.mark.parametrize(
    ("options", "images"),
    [
        ({}, 64),
        ({"first_stage": "vq"}, 16),
        ({"first_stage": "vq", "batch_size": 3}, 1),
        ({"first_stage": "vq", "ae_batch_size": 24}, 24),
        ({"ae_batch_size": 8}, 8),
    ],
)
def test_a_codebook_is_learned_in_smaller_batches(options, images):
    first, second = checked_phases(tiny(**{"batch_size": 64, **options}))
    assert (first.batch_size, second.batch_size) == (images, options.get("batch_size", 64))


def test_diffusion_sees_latents_of_unit_variance(monkeypatch):
    model, data, seen = tiny(), batch(64), []
    model.prepare("autoencoder", data)
    assert model.scale == 1
    with torch.no_grad():
        model.prepare("diffusion", data)
    assert model.scale != 1
    monkeypatch.setattr(model.diffusion, "simple_loss", lambda network, z: seen.append(z) or z.sum())
    model.loss("diffusion", data)
    assert seen[0].std() == pytest.approx(1, abs=0.05) and not seen[0].requires_grad
    other = tiny()
    other.load_state_dict(model.state_dict())
    assert other.scale == model.scale


@torch.no_grad()
def test_the_first_phase_that_sees_latents_sets_their_scale_whatever_it_is():
    model, data = tiny(num_classes=2, classifier=True, ae_share=0.3), batch(64)
    assert [phase.name for phase in model.phases()] == ["autoencoder", "classifier", "diffusion"]
    model.prepare("classifier", data)
    model.scale.fill_(1.0)  # as if it had come out so
    model.prepare("diffusion", data)
    assert model.scale == 1, "what the classifier has learned from stays"


def test_scaling_is_undone_before_decoding(monkeypatch):
    model, wanted = tiny(), torch.randn(2, 4, 4, 4)
    model.scale.fill_(5.0)
    monkeypatch.setattr(model.diffuser, "walk", lambda *arguments: iter([(0, wanted * 5)]))
    assert torch.allclose(model.sample(2), model.autoencoder.decode(wanted).clamp(-1, 1), atol=1e-5)


@torch.inference_mode()
def test_the_first_stage_is_the_elbo_with_a_weight():
    model, images = tiny(kl_weight=0.25), batch().images
    parts = model.autoencoder.loss("autoencoder", images)
    assert parts["loss"] == pytest.approx(float(parts["distortion"] + 0.25 * parts["rate"]))
    assert parts["rate"] > 0 and parts["distortion"] > 0
    for parameter in model.autoencoder.encoder.head.parameters():
        parameter.data.zero_()
    assert model.autoencoder.loss("autoencoder", images)["rate"] == 0  # q(z|x) is the prior


def test_draws_follow_the_posterior():
    torch.manual_seed(0)
    drawn = draw(torch.full((50_000,), 2.0), torch.full((50_000,), -1.0))
    assert drawn.mean() == pytest.approx(2, abs=0.01) and drawn.std().log() == pytest.approx(-1, abs=0.02)


@pytest.mark.parametrize("config", [{}, {"sampler": "ancestral"}])
def test_nfe_counts_the_decoder_too(config):
    model, calls = tiny(**config), []
    model.net.register_forward_hook(lambda *_: calls.append(1))
    model.autoencoder.decoder.register_forward_hook(lambda *_: calls.append(1))
    with torch.inference_mode():
        model.sample(1)
    assert len(calls) == model.nfe


def test_labels_change_samples():
    model, found = tiny(num_classes=2), []
    for label in (0, 1):
        torch.manual_seed(0)
        found.append(model.sample(2, torch.full((2,), label)))
    assert not torch.equal(*found)


def test_the_mathematics_is_the_other_plugins():
    model = tiny()
    assert type(model.diffusion) is Diffusion
    assert issubclass(LatentDiffusion, Likelihood)
    assert model.loss("diffusion", batch()).isfinite()
    assert tiny(objective="variational").loss("diffusion", batch()).isfinite()


def test_wrong_settings_are_refused():
    with pytest.raises(ValidationError, match="too small for the 3 levels"):
        LatentDiffusion.Config(factor=2, ae_widths=(8, 8, 8))
    with pytest.raises(ValidationError):
        LatentDiffusion.Config(factor=3)


def test_the_first_stage_learns_to_reconstruct():
    model, data = tiny().train(), batch(64)
    optimizer = model.phases()[0].optimizer

    @torch.no_grad()
    def error():
        mean, _ = model.autoencoder.encode(data.images)
        return float((model.autoencoder.decode(mean) - data.images).abs().mean())

    before = error()
    for step in range(80):
        torch.manual_seed(step)
        optimizer.zero_grad()
        model.loss("autoencoder", data)["loss"].backward()
        optimizer.step()
    assert error() < 0.4 * before


# The bound.


class Toy(nn.Module):
    """One latent z ~ N(0, 1), pixels logistic about weight * z: log P(x) and the posterior's moments by quadrature."""

    def __init__(self):
        super().__init__()
        self.weight = torch.linspace(-0.1, 0.25, 64).view(1, 8, 8)
        self.log_scale = torch.full((1, 1, 1), -2.0)
        self.grid = torch.linspace(-6, 6, 241)

    def joint(self, images):
        """log P(x, z) dz, nats, (B, grid)."""
        means = self.decode(self.grid.view(-1, 1, 1, 1))
        pixels = discretized_logistic_log_prob(images[:, None], means, self.log_scale).double().flatten(2).sum(2)
        return pixels - self.grid.double() ** 2 / 2 - math.log(math.sqrt(2 * math.pi) / 0.05)

    def log_prob(self, images):
        return self.joint(images).logsumexp(1)

    def encode(self, images):
        p, grid = self.joint(images).softmax(1), self.grid.double()
        mean = (p * grid).sum(1)
        deviation = (p * (grid - mean[:, None]) ** 2).sum(1).sqrt()
        return mean.float().view(-1, 1, 1, 1), deviation.log().float().view(-1, 1, 1, 1)

    def decode(self, latents):
        return latents * self.weight

    def images(self, n):
        z = torch.randn(n, 1, 1, 1)
        return to_float(to_uint8(logistic_draw(self.decode(z), self.log_scale)))


def toy(scale: float, monkeypatch) -> LatentDiffusion:
    """Latent diffusion on the toy, with the denoiser that is exact for latents u = scale * z."""
    model = tiny(factor=8, ae_widths=[8], latent_channels=1, timesteps=1000)
    model.autoencoder = Toy()
    model.scale.fill_(scale)
    process = model.diffusion

    def network(u, t):
        signal, noise = process.at(process.signal, t, u), process.at(process.noise, t, u)
        x0 = scale**2 * signal / (scale**2 * signal**2 + noise**2) * u
        return (signal * u - x0) / noise

    monkeypatch.setattr(model.diffuser, "network", lambda labels: network)
    return model


@pytest.mark.parametrize("scale", [0.4, 1.0, 2.5])
@torch.inference_mode()
def test_the_bound_is_above_the_truth_and_close(scale, monkeypatch):
    """At every scale: without its log-determinant, 0.92 nats at 0.4 and at 2.5, it would not be."""
    model = toy(scale, monkeypatch)
    torch.manual_seed(0)
    images = model.autoencoder.images(1500)
    gap = model.autoencoder.log_prob(images) - model.log_prob(images)
    error = float(gap.std()) / len(gap) ** 0.5
    assert error < 0.06
    assert -3 * error < gap.mean() < 0.06 + 3 * error


@torch.inference_mode()
def test_the_parts_are_what_they_are_called(monkeypatch):
    model = toy(2.5, monkeypatch)
    torch.manual_seed(0)
    images = model.autoencoder.images(500)
    parts = {name: float(part.mean()) for name, part in model.bound_terms(images).items()}
    assert list(parts) == ["reconstruction", "log q(u|x)", "L_T", "L_t", "L_0"]
    _, log_std = model.autoencoder.encode(images)
    entropy = 0.5 * math.log(2 * math.pi * math.e) + float(log_std.mean()) + math.log(2.5)
    assert parts["log q(u|x)"] == pytest.approx(-entropy, rel=1e-5)
    latent = 0.5 * math.log(2 * math.pi * math.e) + math.log(2.5)  # the entropy of u, which the diffusion's bound is
    assert parts["L_T"] + parts["L_t"] + parts["L_0"] == pytest.approx(latent, abs=0.35)


@torch.inference_mode()
def test_a_worse_encoder_decoder_or_denoiser_has_a_larger_bound(monkeypatch):
    torch.manual_seed(0)
    images = Toy().images(800)
    found = {}
    for fault in ("none", "encoder", "decoder", "denoiser"):
        with monkeypatch.context() as patch:
            model = toy(1.0, patch)
            if fault == "encoder":
                encode = model.autoencoder.encode
                patch.setattr(model.autoencoder, "encode", lambda x, e=encode: (e(x)[0], e(x)[1] + 1.0))
            if fault == "decoder":
                patch.setattr(model.autoencoder, "decode", lambda z: z * Toy().weight + 0.05)
            if fault == "denoiser":
                exact = model.diffuser.network(None)
                patch.setattr(model.diffuser, "network", lambda labels, f=exact: lambda u, t: f(u, t) + 0.3)
            torch.manual_seed(1)
            found[fault] = -float(model.log_prob(images).mean())
    assert all(found[fault] > found["none"] + 0.1 for fault in ("encoder", "decoder", "denoiser"))


def test_labels_reach_the_bound():
    model, images = tiny(num_classes=2), batch(4).images
    found = []
    for label in (0, 1):
        torch.manual_seed(0)
        found.append(model.log_prob(images, torch.full((4,), label)))
    assert not torch.equal(*found)
