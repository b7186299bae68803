"""StyleGAN2's networks: published sizes, what modulation and demodulation do, and what the critic sees of a batch."""

import math

import pytest
import torch
from pytest import approx
from torch import Tensor, nn
from torch.nn import functional as F

from genbench import Batch, DataSpec
from genbench.planning.config import configure, make_experiment
from genbench.support.errors import BadInput
from genbench_gan import GAN, GANConfig
from genbench_gan.presets import half_life
from genbench_gan.style import (
    Blur,
    CriticBlock,
    Linear,
    Mapping,
    ModulatedConv,
    Scaled,
    StyleLayer,
    unit,
    with_deviation,
)  # fmt: skip


def built(side: int = 16, channels: int = 1, classes: int = 0, **config: object) -> GAN:
    torch.manual_seed(0)
    tiny = GAN.presets["tiny"] | {"network": "style", "mapping": 2, "depth": 2, "base": 4, **config}
    return GAN(DataSpec("toy", (channels, side, side), classes), GANConfig(**tiny))


def count(module: nn.Module) -> int:
    return sum(p.numel() for p in module.parameters())


@pytest.mark.parametrize(
    ("preset", "side", "classes", "generator", "critic"),
    [
        ("paper-style", 256, 0, 30_034_338, 28_864_129),
        ("paper-style", 1024, 0, 30_370_060, 29_012_513),
        ("paper-ada", 32, 0, 19_947_539, 20_720_641),
        ("paper-ada", 32, 10, 20_215_315, 20_988_416),
    ],
)
def test_the_published_networks(preset: str, side: int, classes: int, generator: int, critic: int) -> None:
    """1024x1024 has two more levels, of 64 and 32 channels."""
    width = 128 * 256 // side if preset == "paper-style" else 512
    config = GANConfig(**GAN.presets[preset] | {"width": width, "critic_width": width})
    with torch.device("meta"):
        model = GAN(DataSpec("images", (3, side, side), classes), config)
    assert (count(model.generator), count(model.critic)) == (generator, critic)


def test_the_published_training() -> None:
    model = built(side=8, **{**GAN.presets["paper-style"], "width": 8, "critic_width": 8, "latent": 8})
    critic, r1, generator, path = model.phases()
    assert (r1.every, path.every) == (16, 8)
    assert r1.optimizer is critic.optimizer and path.optimizer is generator.optimizer
    for phase, share in ((critic, 16 / 17), (generator, 8 / 9)):
        (group,) = phase.optimizer.param_groups
        assert group["lr"] == approx(2e-3 * share) and group["betas"] == approx((0, 0.99**share))
        assert phase.factor(0.03, 0) == phase.factor(0.99, 0) == 1
    assert half_life(32, 10_000) ** (10_000 / 32) == approx(0.5)
    assert model.eager == (model.critic, model.generator)
    assert built().eager == ()


def test_the_published_augmentation() -> None:
    """All transforms, and p from 0 to 1 in 500,000 images, a step in every fourth batch of 64."""
    augment = built(
        side=8, channels=3, **GAN.presets["paper-ada"] | {"width": 8, "critic_width": 8, "latent": 8}
    ).augment
    assert (augment.target, augment.step, augment.interval) == (0.6, approx(4 * 64 / 500_000), 4)
    assert len(augment.geometry) == 8 and len(augment.colours) == 5, "one of them, the rotation, twice"


@pytest.mark.parametrize("double", [False, True])
def test_scaled_feature_maps_are_what_scaled_weights_make(double: bool) -> None:
    """Equations 1 and 3, image by image."""
    torch.manual_seed(0)
    conv, x, w = ModulatedConv(5, 7, 3, 4, double, demodulate=True), torch.randn(3, 5, 6, 6), torch.randn(3, 4)
    found = conv(x, w)
    for one, style, images in zip(x, conv.style(w), found):
        weight = conv.weight * (style[:, None, None, None] if double else style[:, None, None])
        norms = weight.square().sum((0, 2, 3) if double else (1, 2, 3), keepdim=True).sqrt()
        weight = weight / norms
        if double:
            expected = Blur(1, gain=4.0)(F.conv_transpose2d(one[None], weight, stride=2))
        else:
            expected = F.conv2d(one[None], weight, padding=1)
        torch.testing.assert_close(images[None], expected, atol=1e-5, rtol=1e-4)
    assert found.shape == (3, 7, 12, 12) if double else (3, 7, 6, 6)


def test_demodulation_gives_unit_variance_whatever_the_styles() -> None:
    torch.manual_seed(0)
    x, w = torch.randn(4, 64, 12, 12), torch.tensor([0.1, 1.0, 5.0, 30.0])[:, None] * torch.randn(4, 8)
    conv = ModulatedConv(64, 64, 3, 8, double=False, demodulate=True)
    variances = conv(x, w)[..., 1:-1, 1:-1].var((1, 2, 3))
    assert variances.tolist() == approx([1.0] * 4, abs=0.1)
    conv.demodulate = False
    assert conv(x, w).var((1, 2, 3))[3] > 50


def test_doubling_after_a_transposed_convolution_is_bilinear() -> None:
    """With one central weight, except at the edge, where zeros are around."""
    conv = ModulatedConv(1, 1, 3, 1, double=True, demodulate=False)
    nn.init.zeros_(conv.weight), nn.init.zeros_(conv.style.weight)
    conv.weight.data[0, 0, 1, 1] = 1 / conv.scale
    x = torch.randn(1, 1, 6, 6)
    expected = F.interpolate(x, scale_factor=2, mode="bilinear")
    torch.testing.assert_close(conv(x, torch.zeros(1, 1))[..., 2:-2, 2:-2], expected[..., 2:-2, 2:-2])


def test_the_critics_blocks_halve_and_keep_constants() -> None:
    block = CriticBlock(3, 3, depth=1, skip=True)
    nn.init.zeros_(block.convs[0].weight)
    block.skip.weight.data = torch.eye(3)[:, :, None, None] / block.skip.scale
    x = torch.randn(3)[:, None, None].expand(1, 3, 8, 8)
    halved = block(x)
    assert halved.shape == (1, 3, 4, 4)
    torch.testing.assert_close(halved[..., 1:-1, 1:-1], x[..., 3:5, 3:5] / math.sqrt(2))


def test_noise_has_its_learned_strength() -> None:
    layer, x, w = StyleLayer(4, 4, 2, double=False), torch.randn(2, 4, 6, 6), torch.randn(2, 2)
    assert torch.equal(layer(x, w), layer(x, w))
    nn.init.zeros_(layer.conv.weight), layer.strength.data.fill_(3.0)
    noise = torch.cat([layer(x, w) for _ in range(200)])
    assert torch.equal(noise[:, 0], noise[:, 1]), "one map for all channels"
    assert noise.clamp(min=0).square().mean().item() == approx(3.0**2, rel=0.05)  # half of 2 * 3^2 N(0, 1)^2


def test_a_mapping_sees_the_direction_of_a_latent_only() -> None:
    z = torch.randn(5, 8)
    assert unit(z).square().mean(1).tolist() == approx([1.0] * 5, rel=1e-5)
    mapping = Mapping(8, 0, 3, 0.01)
    torch.testing.assert_close(mapping(z), mapping(7 * z))
    slow, fast = Linear(4, 2, bias=1.0, rate=0.01), Linear(4, 2, bias=1.0)
    assert slow.bias.tolist() == [100, 100] and torch.equal(slow(torch.zeros(1, 4)), torch.ones(1, 2))
    for layer in (slow, fast):
        before = layer(torch.ones(1, 4)).detach()
        for p in layer.parameters():  # a step of Adam moves each number by its rate
            p.data += 0.1
        moved = (layer(torch.ones(1, 4)) - before).detach()
        assert moved.tolist()[0] == approx([0.1 * layer.rate * (1 + 4 / 2)] * 2, rel=1e-3)


def test_labels_enter_the_mapping_and_the_scores() -> None:
    model = built(classes=3).eval()
    z, labels = torch.randn(4, 8), torch.arange(4) % 3
    images = model.generator(z, labels)
    assert not torch.allclose(images, model.generator(z, (labels + 1) % 3))
    critic = model.critic
    features: list[Tensor] = []
    critic.head.register_forward_hook(lambda module, args, out: features.append(out))
    score = critic(images, labels)
    classes = unit(critic.embed(torch.eye(3)))[labels]
    torch.testing.assert_close(score, (features[0] * classes).sum(1) / 4)  # of 16 features


def test_the_deviation_of_a_minibatch_by_hand() -> None:
    x = torch.tensor([[0.0, 4.0], [2.0, 4.0], [5.0, 1.0], [5.0, 7.0]])[:, :, None, None].expand(4, 2, 3, 3)
    found = with_deviation(x, 2)
    assert found.shape == (4, 3, 3, 3) and torch.equal(found[:, :2], x)
    assert found[:, 2, 1, 1].tolist() == approx([0.5, 0.5, 1.5, 1.5], rel=1e-3)  # (1 + 0) / 2 and (0 + 3) / 2
    alone = with_deviation(x[:1], 2)
    assert alone[:, 2].abs().max() < 1e-3
    assert with_deviation(x[:3], 2)[:, 2].abs().max() < 1e-3, "of one image each"


def test_no_group_has_real_and_generated_images() -> None:
    config = ("gan.preset=tiny", "gan.network=style")
    with pytest.raises(BadInput, match="deviation_group: 3 does not divide batch_size, 16"):
        configure_gan(*config, "gan.deviation_group=3")
    with pytest.raises(BadInput, match="deviation_group: 4 does not divide micro_batch, 2"):
        configure_gan(*config, "gan.micro_batch=2")
    assert configure_gan("gan.preset=tiny", "gan.deviation_group=3").deviation_group == 3


def configure_gan(*settings: str) -> GANConfig:
    (choice,) = make_experiment(None, {}, ["gan"], settings).models
    return configure(GAN, choice)


def test_two_latents_make_an_image_in_training_and_one_in_evaluation(monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(0)
    generator = built(mixing=0.5).generator
    seen: list[list[Tensor]] = []
    monkeypatch.setattr(generator, "synthesis", lambda styles: seen.append(styles))
    z = torch.randn(400, 8)
    w = generator.mapping(z)
    generator(z)
    own = torch.stack([(style == w).all(1) for style in seen[0]])  # by layer and image
    assert own[0].all() and len(own) == generator.styles == 4, "three layers, and the last colours"
    assert (own[1:] <= own[:-1]).all(), "never back to the first latent"
    lasting = own.float().mean(1)
    assert lasting[-1].item() == approx(0.5, abs=0.1)
    assert (lasting[:-1] - lasting[1:]).tolist() == approx([0.5 / 3] * 3, abs=0.07), "from each layer on, as often"
    generator.eval()(z)
    assert all(torch.equal(style, w) for style in seen[1])


def test_each_layer_has_a_style_of_its_own_and_the_finest_colours_have_one_more() -> None:
    generator = built().generator
    styles = [torch.randn(2, 8, requires_grad=True) for _ in range(generator.styles)]
    x = []
    for layer in generator.levels[-1].layers:
        layer.register_forward_hook(lambda module, args, out: x.append(args[1]))
    generator.synthesis(styles).square().sum().backward()
    assert all(style.grad is not None and style.grad.abs().sum() > 0 for style in styles)
    assert x[0] is styles[1] and x[1] is styles[2], "after the one layer of the coarsest level"


def test_weights_that_are_not_scaled_when_used_make_the_same_networks_at_first() -> None:
    """Of equal random weights; layers of the mapping have the rate of all others."""
    scaled, plain = built(equalized=True, mapping_rate=1.0), built(equalized=False)
    z, images = torch.randn(4, 8), torch.rand(4, 1, 16, 16)
    torch.testing.assert_close(scaled.generator(z), plain.generator(z), atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(scaled.critic(images), plain.critic(images), atol=1e-5, rtol=1e-4)
    assert {layer.scale for layer in plain.modules() if isinstance(layer, Scaled)} == {1.0}
    assert 1.0 not in {layer.scale for layer in scaled.modules() if isinstance(layer, Scaled)}


@pytest.mark.parametrize(("channels", "side", "classes"), [(1, 28, 0), (3, 32, 3), (1, 15, 3), (1, 4, 0), (3, 18, 0)])
def test_images_of_any_size(channels: int, side: int, classes: int) -> None:
    model = built(side, channels, classes, path_length=0.1, r1=1.0)
    labels = torch.arange(8) % classes if classes else None
    for phase in model.phases():
        model.zero_grad()
        with torch.autocast("cpu", torch.bfloat16):
            loss = model.loss(phase.name, Batch(torch.rand(8, channels, side, side) * 2 - 1, labels))["loss"]
        loss.backward()
        phase.optimizer.step()
        assert loss.isfinite()
    samples = model.eval().sample(8, labels)
    assert samples.shape == (8, channels, side, side) and samples.abs().max() <= 1


def test_path_lengths_are_of_half_a_batch(monkeypatch: pytest.MonkeyPatch) -> None:
    model = built(path_length=0.1, path_every=3)
    counts: list[int] = []
    monkeypatch.setattr(
        model.path_length, "forward", lambda images, w: (counts.append(len(images)), w.sum(), w.sum())[1:]
    )
    losses = model.loss("path_length", Batch(torch.zeros(9, 1, 16, 16)))
    assert counts == [5] and losses["loss"].item() == approx(3 * 0.1 * losses["penalty"].item())


@pytest.mark.parametrize("option", [{"init": "orthogonal"}, {"orthogonal": 1.0}, {"norm": "batch"}])
def test_options_of_the_other_networks_have_no_effect_as_they_say(option: dict[str, object]) -> None:
    models = built(), built(**option)
    (name,) = option
    assert models[1].config.unused(name) == "network = style"
    found = []
    for model in models:
        torch.manual_seed(1)
        images = Batch(torch.rand(8, 1, 16, 16))
        loss = model.loss("generator", images)["loss"]
        model.settle(images)
        found.append({**model.state_dict(), "loss": loss.detach(), "state": torch.get_rng_state()})
    assert all(torch.equal(value, found[1][key]) for key, value in found[0].items())
