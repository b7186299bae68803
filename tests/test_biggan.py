"""BigGAN: its networks by their published sizes, what steers each level, orthogonal weights, and truncated latents."""

from itertools import permutations

import pytest
import torch
from scipy import stats
from test_gan import batch, chosen
from torch import Tensor, nn
from torch.nn import functional as F

from genbench import Batch, DataSpec
from genbench.support.errors import BadInput
from genbench_gan import GAN, GANConfig
from genbench_gan.hierarchy import Attention, DeepDownBlock, DeepUpBlock, levels
from genbench_gan.latent_langevin import truncated_normal
from genbench_gan.networks import NormReLU, unchanged
from genbench_gan.orthogonal import filters, orthogonal_penalty

TINY = {"width": 8, "critic_width": 8, "latent": 8, "embedding": 4, "batch_size": 8}
NETWORKS = ["biggan", "biggan_deep"]


def make(network: str = "biggan", side: int = 16, channels: int = 1, classes: int = 3, **config: object) -> GAN:
    torch.manual_seed(0)
    return GAN(DataSpec("toy", (channels, side, side), classes), GANConfig(**{"network": network, **TINY, **config}))


def size(module: nn.Module) -> int:
    return sum(p.numel() for p in module.parameters())


@pytest.mark.parametrize(
    ("preset", "change", "side", "classes", "generator", "critic"),
    [
        ("paper-biggan", {}, 32, 10, 4_304_387, 4_207_361),
        ("paper-biggan-128", {}, 128, 1000, 70_433_988, 87_982_370),
        ("paper-biggan-deep", {}, 256, 1000, 55_736_708, 38_247_426),
        ("paper-biggan-deep", {"multipliers": (1, 2, 4, 8, 16), "attention": (1,)}, 128, 1000, 50_244_484, 34_590_210),
    ],
)
def test_the_published_networks(
    preset: str, change: dict[str, object], side: int, classes: int, generator: int, critic: int
) -> None:
    plain = {"init": "default", "spectral_norm": False, "generator_spectral_norm": False}  # no other sizes, but quick
    with torch.device("meta"):
        model = GAN(DataSpec("images", (3, side, side), classes), GANConfig(**GAN.presets[preset] | change | plain))
    assert (size(model.generator), size(model.critic)) == (generator, critic)
    assert model.generator.coarsest == (4, 4) and len(levels(model.data, model.config)) == len(bin(side)) - 4


@pytest.mark.parametrize(
    ("preset", "side"),
    [
        ("paper-biggan", 32),
        pytest.param("paper-biggan-128", 64, marks=pytest.mark.slow),
        pytest.param("paper-biggan-deep", 128, marks=pytest.mark.slow),
    ],
)
def test_the_published_networks_run_forward_and_backward(preset: str, side: int) -> None:
    config = GANConfig(**GAN.presets[preset] | {"batch_size": 1, "init": "default"})
    model = GAN(DataSpec("images", (3, side, side), 3), config)
    for phase in model.phases():
        loss = model.loss(phase.name, batch(model, 1))["loss"]
        loss.backward()
        assert loss.isfinite()
        assert all(p.grad is not None and p.grad.isfinite().all() for p in phase.module.parameters())
        model.zero_grad()
    assert model.eval().sample(1, torch.zeros(1, dtype=torch.long)).shape == (1, 3, side, side)


@pytest.mark.parametrize("network", NETWORKS)
@pytest.mark.parametrize("classes", [0, 3])
@pytest.mark.parametrize("side", [8, 15, 28, 32])
def test_images_of_any_size_with_attention_at_every_level(network: str, classes: int, side: int) -> None:
    plain = make(network, side, 3, classes)
    all_levels = tuple(range(len(levels(plain.data, plain.config.sized(plain.data))) - 1))
    model = make(network, side, 3, classes, attention=all_levels, generator_spectral_norm=True)
    images = model.sample(5, torch.arange(5) % classes if classes else None)
    assert images.shape == (5, 3, side, side) and images.abs().max() <= 1
    for phase in ("critic", "generator"):
        assert model.loss(phase, batch(model, 4))["loss"].isfinite()


def stages_seen(model: GAN, z: Tensor, labels: Tensor | None) -> list[Tensor]:
    """What leaves the stem and each stage."""
    seen: list[Tensor] = []
    hooks = [
        module.register_forward_hook(lambda module, inputs, out: seen.append(out))
        for module in (model.generator.stem, *(stage[-1] for stage in model.generator.stages))
    ]
    model.generator(z, labels)
    for hook in hooks:
        hook.remove()
    return seen


def test_each_level_has_a_part_of_the_latent_of_its_own() -> None:
    model, labels = make(side=32, latent=9).eval(), torch.zeros(2, dtype=torch.long)
    assert [(part.start, part.stop) for part in model.generator.parts] == [(0, 4), (4, 9)]
    model = make(side=32, latent=9, base=4).eval()
    assert [(part.start, part.stop) for part in model.generator.parts] == [(0, 3), (3, 6), (6, 9)]
    z = torch.randn(2, 9)
    before = stages_seen(model, z, labels)
    for place, part in enumerate(model.generator.parts):
        other = z.clone()
        other[:, part] += 1
        changed = [not torch.allclose(a, b) for a, b in zip(before, stages_seen(model, other, labels))]
        assert changed == [False] * place + [True] * (3 - place)


def test_the_deep_network_shows_the_whole_latent_and_the_class_to_the_stem_and_to_every_level() -> None:
    model = make("biggan_deep", side=32, base=4).eval()
    assert model.generator.stem.in_features == 8 + 4
    layers = [m for m in model.generator.modules() if isinstance(m, nn.Linear) and m is not model.generator.stem]
    assert len(layers) == 2 * 4 * 2 * 2 and {layer.in_features for layer in layers} == {8 + 4}
    plain = make("biggan_deep", side=32, base=4, hierarchical=False)
    assert {m.in_features for m in plain.generator.modules() if isinstance(m, nn.Linear)} == {8 + 4, 4}


@pytest.mark.parametrize("network", NETWORKS)
def test_one_class_embedding_serves_all_normalisations_or_each_has_a_table(network: str) -> None:
    shared = make(network, side=32, base=4)
    assert [tuple(m.weight.shape) for m in shared.generator.modules() if isinstance(m, nn.Embedding)] == [(3, 4)]
    tables = make(network, side=32, base=4, embedding=0, hierarchical=False)
    found = [m for m in tables.generator.modules() if isinstance(m, nn.Embedding)]
    assert len(found) == (4 if network == "biggan" else 16) and all(len(m.weight) == 3 for m in found)
    for model in (shared, tables):
        for p in model.generator.parameters():
            p.data.add_(0.1 * torch.randn_like(p))
        z = torch.randn(2, 8)
        zero, one = (model.generator(z, torch.full((2,), label)) for label in (0, 1))
        assert not torch.allclose(zero, one)


def test_the_last_normalisation_is_the_same_for_all() -> None:
    assert make().generator.norm.steer is None and make(norm="batch").generator.norm.norm.affine
    assert not any(m.affine for m in make(norm="batch").generator.stages.modules() if isinstance(m, nn.BatchNorm2d))


def test_options_that_do_not_fit_each_other_are_refused() -> None:
    with pytest.raises(ValueError, match="embedding = 0"):
        make(embedding=0)
    assert make(embedding=0, classes=0).generator.embed is None
    with pytest.raises(BadInput, match="multipliers"):
        chosen("network=biggan_deep", "multipliers=[2, 1]")
    with pytest.raises(ValueError, match="attention"):
        make(attention=(7,))
    with pytest.raises(ValueError, match="latent"):
        make(latent=1)


def test_attention_is_the_softmax_of_products_with_pooled_keys_of_pooled_values() -> None:
    torch.manual_seed(0)
    layer, x = Attention(8, unchanged), torch.randn(2, 8, 4, 6)
    assert torch.equal(layer(x), x)  # until the gain moves
    layer.gain.data.fill_(0.5)
    query, key, value = layer.query(x), F.max_pool2d(layer.key(x), 2), F.max_pool2d(layer.value(x), 2)
    for b, i, j in [(0, 0, 0), (1, 3, 5), (1, 2, 1)]:
        logits = torch.stack([query[b, :, i, j] @ key[b, :, k, m] for k in range(2) for m in range(3)])
        seen = torch.stack([value[b, :, k, m] for k in range(2) for m in range(3)])
        mixed = (logits.softmax(0)[:, None] * seen).sum(0)
        expected = x[b, :, i, j] + 0.5 * layer.out.weight[:, :, 0, 0] @ mixed
        torch.testing.assert_close(layer(x)[b, :, i, j], expected)


def test_deep_blocks_whose_last_convolution_is_zero_only_resize_and_leave_out_or_append_channels() -> None:
    x = torch.randn(2, 8, 4, 4)
    up = DeepUpBlock(8, 4, lambda channels: NormReLU(channels, None), unchanged, double=True)
    down = DeepDownBlock(8, 12, halve=True, normed=unchanged)
    for block in (up, down):
        nn.init.zeros_(block.convs[-1].weight), nn.init.zeros_(block.convs[-1].bias)
    torch.testing.assert_close(up(x, None), x[:, :4].repeat_interleave(2, 2).repeat_interleave(2, 3))
    pooled = F.avg_pool2d(x, 2)
    torch.testing.assert_close(down(x), torch.cat([pooled, down.more(pooled)], 1))


def test_critics_halve_until_their_own_base_and_attend_at_their_levels() -> None:
    model = make(side=32, patch=1, base=4, critic_base=8, multipliers=(1, 2, 3), attention=(1,))
    layers = list(model.critic.features)
    assert [type(layer).__name__ for layer in layers] == [
        "DownBlock",
        "Attention",
        "DownBlock",
        "DownBlock",
        "DownBlock",
        "ReLU",
    ]
    assert model.critic.features(torch.zeros(1, 1, 32, 32)).shape == (1, 24, 8, 8)
    deep = make("biggan_deep", side=32, patch=1, base=4, critic_base=4, multipliers=(1, 2, 3), depth=3)
    assert [type(layer).__name__ for layer in deep.critic.features].count("DeepDownBlock") == 9
    assert deep.critic.features(torch.zeros(1, 1, 32, 32)).shape == (1, 24, 4, 4)


# Orthogonal weights


def test_the_orthogonal_penalty_is_the_sum_of_squared_products_of_different_filters() -> None:
    layer = nn.Linear(2, 2)
    layer.weight.data = torch.tensor([[3.0, 0.0], [2.0, 5.0]])
    assert orthogonal_penalty(layer).item() == 2 * 6.0**2
    layer.weight.data = torch.tensor([[3.0, 0.0], [0.0, 5.0]])
    assert orthogonal_penalty(layer).item() == 0  # norms are free
    conv, transposed, wide = nn.Conv2d(2, 3, 3), nn.ConvTranspose2d(3, 2, 3), nn.Linear(4, 9)
    layers = nn.ModuleList([conv, transposed, wide, nn.Embedding(4, 4)])
    assert [tuple(w.shape) for w in filters(layers)] == [(3, 18), (2, 27), (9, 4)]
    expected = 0.0
    for weight in (conv.weight, transposed.weight.transpose(0, 1), wide.weight):
        rows = weight.detach().flatten(1)
        expected += sum((a @ b).item() ** 2 for a, b in permutations(rows, 2))
    assert orthogonal_penalty(layers).item() == pytest.approx(expected, rel=1e-4)


@pytest.mark.parametrize("normed", [False, True])
def test_regularisation_makes_filters_orthogonal_and_adds_its_weight_to_the_loss(normed: bool) -> None:
    model = make(generator_spectral_norm=normed)
    losses = []
    for weight in (0.0, 1.0, 3.0):
        model.config = model.config.model_copy(update={"orthogonal": weight})
        torch.manual_seed(1)
        losses.append(model.eval().loss("generator", batch(model, 4))["loss"])
    assert losses[1] > losses[0]
    assert (losses[2] - losses[0]).item() == pytest.approx(3 * (losses[1] - losses[0]).item(), rel=1e-4)
    optimizer, before = torch.optim.Adam(model.generator.parameters(), 1e-2), orthogonal_penalty(model.generator).item()
    for _ in range(50):
        optimizer.zero_grad()
        orthogonal_penalty(model.generator).backward()
        optimizer.step()
    assert orthogonal_penalty(model.generator).item() < 0.1 * before


def test_initial_weights_are_as_asked_for_also_under_spectral_normalisation() -> None:
    model = make(init="orthogonal", generator_spectral_norm=True)
    for weight in (*filters(model.generator), *filters(model.critic), model.generator.embed.weight):
        gram = weight @ weight.mT if len(weight) <= weight.shape[1] else weight.mT @ weight
        torch.testing.assert_close(gram, torch.eye(len(gram)), atol=1e-5, rtol=0)
    wide = make(init="normal", width=32)
    drawn = torch.cat([weight.flatten() for weight in filters(wide.generator)])
    assert drawn.std().item() == pytest.approx(0.02, rel=0.02)


# Truncation


def test_truncated_latents_are_those_of_a_prior_whose_tails_are_drawn_again() -> None:
    torch.manual_seed(0)
    for threshold in (0.5, 2.0):
        z = truncated_normal(2000, 4, threshold, torch.device("cpu"))
        assert z.shape == (2000, 4) and z.abs().max() <= threshold
        redrawn = torch.randn(40_000)
        redrawn = redrawn[redrawn.abs() <= threshold]
        assert stats.ks_2samp(z.flatten(), redrawn[:8000]).pvalue > 0.01
        assert stats.kstest(z.flatten(), stats.truncnorm(-threshold, threshold).cdf).pvalue > 0.01
    assert truncated_normal(500_000, 4, 9.0, torch.device("cpu")).isfinite().all()


def test_truncation_changes_samples_towards_one_image_and_never_training() -> None:
    spread, losses = [], []
    for truncation in (0.0, 0.1):
        model = make(truncation=truncation).eval()
        torch.manual_seed(1)
        spread.append(model.sample(64, torch.zeros(64, dtype=torch.long)).std(0).mean().item())
        torch.manual_seed(1)
        losses.append([model.loss(phase, batch(model, 4))["loss"].item() for phase in ("critic", "generator")])
    assert spread[1] < 0.3 * spread[0] and losses[0] == losses[1]
    assert GANConfig.role("truncation") == GANConfig.role("sampler") == "sample"


# Standing statistics


def statistics(model: GAN) -> list[Tensor]:
    return [b.clone() for name, b in model.generator.named_buffers() if "running" in name]


def test_standing_statistics_are_those_of_a_long_average_over_generated_batches() -> None:
    torch.manual_seed(0)
    model = make(norm="batch", ema_decay=0.9)
    for p in model.generator.parameters():
        p.data.add_(0.1 * torch.randn_like(p))
    means: dict[str, list[Tensor]] = {}

    def note(name: str) -> object:
        return lambda module, inputs: means.setdefault(name, []).append(
            torch.stack([inputs[0].mean((0, 2, 3)), inputs[0].var((0, 2, 3))])
        )

    layers = {n: m for n, m in model.generator.named_modules() if isinstance(m, nn.BatchNorm2d)}
    hooks = [layer.register_forward_pre_hook(note(name)) for name, layer in layers.items()]
    with torch.no_grad():
        for _ in range(600):
            model.fakes(8, torch.arange(8) % 3)
        for hook in hooks:
            hook.remove()
        for layer in layers.values():  # what training left behind must not matter
            layer.running_mean.fill_(50.0), layer.running_var.fill_(7.0)
        model.eval().settle(Batch(torch.rand(30, 1, 16, 16), torch.arange(30) % 3))
    assert not model.training and all(layer.momentum == 0.1 for layer in layers.values())
    for name, layer in layers.items():
        long = torch.stack(means[name])
        error = 5 * long.std(0) * (1 / 600 + 1 / 100) ** 0.5
        for found, expected, most in zip((layer.running_mean, layer.running_var), long.mean(0), error):
            assert ((found - expected).abs() < most + 1e-6).all()


def test_statistics_of_weights_that_are_not_averaged_stay_those_of_training() -> None:
    model = make(norm="batch", ema_decay=0.0)
    model.loss("generator", batch(model, 8))
    before = statistics(model)
    with torch.no_grad():
        model.eval().settle(batch(model, 8))
    assert all(torch.equal(a, b) for a, b in zip(before, statistics(model)))
