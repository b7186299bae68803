"""SNGAN's networks by the published tables, residual blocks, and batch normalisation with its statistics."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from test_gan import batch
from toys import killed_at, train_toy

from genbench import DataSpec
from genbench.conformance.case import Case
from genbench.data.dataset import Dataset
from genbench.training import loop
from genbench.training.ema import WeightAverage
from genbench_gan import GAN, GANConfig
from genbench_gan.networks import Leaky, NormReLU, class_norms
from genbench_gan.residual import DownBlock, UpBlock


def conv(inputs: int, outputs: int, side: int) -> int:
    """Weights and biases of a convolution; of a dense layer where `side` is 1."""
    return inputs * outputs * side**2 + outputs


def batch_norm(channels: int) -> int:
    return 2 * channels


def count(module: torch.nn.Module) -> int:
    return sum(p.numel() for p in module.parameters())


def built(preset: str, channels: int = 3, side: int = 32, classes: int = 0, **config: object) -> GAN:
    torch.manual_seed(0)
    return GAN(DataSpec("images", (channels, side, side), classes), GANConfig(**GAN.presets[preset] | config))


def test_the_paper_preset_is_table_3_of_miyato_et_al() -> None:
    """Line by line, and batch normalisation after the dense layer, which the table leaves out and their code has."""
    generator = [
        conv(128, 4 * 4 * 512, 1), batch_norm(512),
        conv(512, 256, 4), batch_norm(256),
        conv(256, 128, 4), batch_norm(128),
        conv(128, 64, 4), batch_norm(64),
        conv(64, 3, 3),
    ]  # fmt: skip
    critic = [
        conv(3, 64, 3), conv(64, 64, 4),
        conv(64, 128, 3), conv(128, 128, 4),
        conv(128, 256, 3), conv(256, 256, 4),
        conv(256, 512, 3),
        conv(4 * 4 * 512, 1, 1),
    ]  # fmt: skip
    model = built("paper")
    assert count(model.generator) == sum(generator) == 3_813_379
    assert count(model.critic) == sum(critic) == 2_935_873
    slopes = {layer.slope * layer.gain for layer in model.critic.modules() if isinstance(layer, Leaky)}
    assert slopes == {0.1}


def test_the_paper_resnet_preset_is_table_4_of_miyato_et_al() -> None:
    """Blocks as in figure 8: two convolutions, norms before them in the generator, and a 1x1 one where sides change."""
    up = batch_norm(256) + conv(256, 256, 3) + batch_norm(256) + conv(256, 256, 3) + conv(256, 256, 1)
    first = conv(3, 128, 3) + conv(128, 128, 3) + conv(3, 128, 1)
    plain = conv(128, 128, 3) + conv(128, 128, 3)
    down = plain + conv(128, 128, 1)
    model = built("paper-resnet")
    generator = [conv(128, 4 * 4 * 256, 1), up, up, up, batch_norm(256), conv(256, 3, 3)]
    assert count(model.generator) == sum(generator) == 4_276_739
    assert count(model.critic) == first + down + plain + plain + conv(128, 1, 1) == 1_053_825
    assert model.critic.features(torch.zeros(1, 3, 32, 32)).shape == (1, 128, 8, 8)


@pytest.mark.parametrize("preset", ["small", "paper", "paper-resnet"])
@pytest.mark.parametrize(("channels", "side"), [(3, 32), (1, 28)])
def test_presets_run_forward_and_backward_on_small_images(preset: str, channels: int, side: int) -> None:
    model = built(preset, channels, side, batch_size=2)
    for phase in model.phases():
        losses = model.loss(phase.name, batch(model, 2))
        losses["loss"].backward()
        assert torch.isfinite(losses["loss"])
        assert all(p.grad is not None and p.grad.isfinite().all() for p in phase.module.parameters())
        model.zero_grad()
    assert model.eval().sample(2).shape == (2, channels, side, side)
    assert model.critic(torch.zeros(2, channels, side, side)).shape == (2,)


def test_the_papers_optimizers() -> None:
    """Setting C of table 1, and the one of appendix B.2."""
    for preset, betas, steps in (("paper", (0.5, 0.999), 1), ("paper-resnet", (0.0, 0.9), 5)):
        critic, generator = built(preset).phases()
        assert (critic.repeats, generator.repeats) == (steps, 1)
        for phase in (critic, generator):
            (group,) = phase.optimizer.param_groups
            assert (group["lr"], group["betas"], group["weight_decay"]) == (2e-4, betas, 0)


TINY = {"width": 8, "critic_width": 8, "latent": 8, "batch_size": 8}


def test_residual_blocks_with_branches_at_zero_only_resize() -> None:
    up, down = (
        UpBlock(4, 4, lambda channels: NormReLU(channels, None)),
        DownBlock(4, 4, halve=True, first=False, normed=torch.nn.Identity()),
    )
    for block in (up, down):
        for layer in (block.conv2, block.skip):
            torch.nn.init.zeros_(layer.weight), torch.nn.init.zeros_(layer.bias)
        block.skip.weight.data[:, :, 0, 0] = torch.eye(4)
    x = torch.randn(2, 4, 6, 6)
    torch.testing.assert_close(up(x, None), x.repeat_interleave(2, 2).repeat_interleave(2, 3))
    torch.testing.assert_close(down(x), x.unflatten(3, (3, 2)).mean(4).unflatten(2, (3, 2)).mean(3))
    plain = DownBlock(4, 4, halve=False, first=False, normed=torch.nn.Identity())
    torch.nn.init.zeros_(plain.conv2.weight), torch.nn.init.zeros_(plain.conv2.bias)
    assert torch.equal(plain(x), x)


def test_only_the_first_block_of_a_critic_sees_negative_values() -> None:
    seen = torch.tensor([[[[-1.0]]]]).expand(1, 3, 4, 4)
    for first in (True, False):
        block = DownBlock(3, 5, halve=False, first=first, normed=torch.nn.Identity())
        torch.nn.init.zeros_(block.skip.weight)
        changed = not torch.allclose(block(seen), block(torch.zeros_like(seen)))
        assert changed == first


def test_the_residual_critic_scores_the_sum_over_all_places_and_projects_it_on_the_class() -> None:
    critic = built("small", 1, 8, classes=3, network="residual", **TINY).critic.eval()
    images, labels = torch.randn(4, 1, 8, 8), torch.tensor([0, 1, 2, 0])
    features = critic.features(torch.nn.functional.pixel_unshuffle(images, 2)).sum((2, 3))
    assert (features >= 0).all()
    expected = critic.head(features).squeeze(1) + (critic.embed.weight[labels] * features).sum(1)
    torch.testing.assert_close(critic(images, labels), expected)


def batch_norms(classes: int) -> Callable[[int], NormReLU]:
    return class_norms(DataSpec("images", (1, 5, 5), classes), GANConfig(norm="batch"))


@pytest.mark.parametrize("classes", [0, 3])
def test_batch_normalisation_uses_the_batch_in_training_and_running_averages_after_it(classes: int) -> None:
    torch.manual_seed(0)
    layer, x = batch_norms(classes)(4), 3 + 2 * torch.randn(64, 4, 5, 5)
    labels = torch.arange(64) % classes if classes else None
    y = layer(x, labels)
    assert y.mean().item() == pytest.approx(1 / (2 * torch.pi) ** 0.5, abs=0.02)  # of a rectified standard normal
    for _ in range(60):
        layer(x, labels)
    alone = layer.eval()(x[:1], None if labels is None else labels[:1])
    torch.testing.assert_close(alone, y[:1], atol=0.02, rtol=0.02)


def test_class_conditional_normalisation_has_a_scale_and_a_shift_of_each_class_and_no_other() -> None:
    layer = batch_norms(3)(4)
    assert [tuple(p.shape) for p in layer.parameters()] == [(3, 8)]
    layer.steer.weight.data[1, 4:] = 5.0  # the shift of class 1
    x = torch.randn(30, 4, 3, 3)
    zero, one = (layer(x, torch.full((30,), label)) for label in (0, 1))
    assert zero.mean().item() < 1 and one.mean().item() == pytest.approx(5, abs=0.1)


@pytest.mark.parametrize("network", ["conv", "residual"])
def test_samples_of_a_batch_normalised_generator_do_not_depend_on_their_batch(network: str) -> None:
    model = built("small", 1, 8, network=network, norm="batch", ema_decay=0, **TINY)
    for _ in range(3):
        model.loss("generator", batch(model, 8))
    z = torch.randn(6, 8)
    with torch.no_grad():
        assert not torch.allclose(model.generator(z)[:2], model.generator(z[:2]), atol=1e-4)
        model.eval()
        torch.testing.assert_close(model.generator(z)[:2], model.generator(z[:2]), atol=1e-5, rtol=0)


def test_what_is_sampled_has_the_statistics_and_the_weights_of_the_last_step() -> None:
    """Without averaging the copy that the harness keeps is the trained model, buffers and all."""
    config = GANConfig(network="residual", norm="batch", ema_decay=0, critic_steps=2, **TINY)
    case = Case(GAN, config, (1, 8, 8), "class")
    assert not case.trained.training
    running = {name: b for name, b in case.trained.named_buffers() if "running" in name}
    assert running and all(b.abs().sum() > 0 for b in running.values())
    fresh = dict(case.build().named_buffers())
    assert not any(torch.equal(b, fresh[name]) for name, b in running.items())

    model = case.build()
    phases = model.phases()
    average = WeightAverage(model, phases, config.ema_decay)
    for step, phase in enumerate(phases):
        model.loss(phase.name, case.batch)["loss"].backward()
        phase.optimizer.step()
        average.update(phase.name, step + 1)
    average.copy_buffers(model)
    mine = average.model.state_dict()
    assert all(torch.equal(value, mine[name]) for name, value in model.state_dict().items())


def test_a_killed_and_resumed_training_keeps_the_statistics(
    tmp_path: Path, digits: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = GANConfig(norm="batch", ema_decay=0, critic_steps=2, **TINY)
    job = {f"{role}_config": config.of_role(role) for role in ("train", "sample")}
    job |= {"config": config.model_dump(mode="json"), "budget": "5steps"}
    whole, _ = train_toy(tmp_path / "whole", digits, GAN, **job)
    monkeypatch.setattr(loop, "CHECKPOINT_SECONDS", -1.0)
    with killed_at(3, monkeypatch):
        train_toy(tmp_path / "killed", digits, GAN, **job)
    resumed, _ = train_toy(tmp_path / "killed", digits, GAN, **job)
    state = resumed.state_dict()
    assert all(torch.equal(value, state[name]) for name, value in whole.state_dict().items())
    assert any("running_var" in name for name in state)
