"""ADM: its blocks and its whole U-Net worked out apart, what its presets say, the weight of its bound."""

import math

import pytest
import torch
from torch.nn import functional as F

from genbench import DataSpec
from genbench.images import to_float
from genbench.nets import Attention, ResBlock, UNet, UNetSpec
from genbench_ddpm import DDPM

SPEC = UNetSpec(3, 6, (8, 16), 1, (1,), head_channels=4, num_classes=3, resample=True)
each_scale = pytest.mark.parametrize("scale", [1.0, 3e-3], ids=["unit", "small"])
"""Of maps: small ones have a variance of about the epsilon of a normalisation."""


def stirred(net):
    torch.manual_seed(0)
    for parameter in net.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    return net.eval()


# Dhariwal & Nichol 2021 by hand: p has the weights by name, `at` where in it.


def norm(p, at, x):
    """Groups of four channels, as many as small networks have; the published ones have 32."""
    groups = x.reshape(len(x), -1, 4 * x[0, 0].numel())
    mean, variance = groups.mean(2, keepdim=True), groups.var(2, keepdim=True, unbiased=False)
    normed = ((groups - mean) / (variance + 1e-5).sqrt()).reshape(x.shape)
    return normed * p[f"{at}.weight"][:, None, None] + p[f"{at}.bias"][:, None, None]


def conv(p, at, x):
    weight = p[f"{at}.weight"]
    return F.conv2d(x, weight, p[f"{at}.bias"], padding=weight.shape[-1] // 2)


def silu(x):
    return x * torch.sigmoid(x)


def halved(x):
    return (x[..., ::2, ::2] + x[..., 1::2, ::2] + x[..., ::2, 1::2] + x[..., 1::2, 1::2]) / 4


def doubled(x):
    return x.repeat_interleave(2, dim=2).repeat_interleave(2, dim=3)


def residual(p, at, x, embedding, resample=lambda x: x):
    """Normalise, SiLU, resample, convolve; scale and shift what is normalised again; SiLU, convolve; the skip."""
    h = conv(p, f"{at}.conv1", resample(silu(norm(p, f"{at}.norm1", x))))
    told = silu(embedding) @ p[f"{at}.embed.weight"].T + p[f"{at}.embed.bias"]
    scale, shift = told[:, : h.shape[1], None, None], told[:, h.shape[1] :, None, None]
    h = conv(p, f"{at}.conv2", silu(norm(p, f"{at}.norm2", h) * (1 + scale) + shift))
    skip = resample(x)
    return h + (conv(p, f"{at}.skip", skip) if f"{at}.skip.weight" in p else skip)


def attended(p, at, x, size):
    """Softmax attention between all places, in heads of `size` channels; queries and keys by the fourth root of it."""
    b, c, h, w = x.shape
    qkv = conv(p, f"{at}.qkv", norm(p, f"{at}.norm", x)).reshape(b, 3, c // size, size, h * w)
    q, k, v = (qkv[:, part] for part in range(3))
    weights = torch.einsum("bhcq,bhck->bhqk", q / size**0.25, k / size**0.25).exp()
    mixed = torch.einsum("bhqk,bhck->bhcq", weights / weights.sum(3, keepdim=True), v)
    return x + conv(p, f"{at}.out", mixed.reshape(x.shape))


def by_hand(p, x, time, labels):
    """The network of `SPEC`."""
    rates = torch.exp(-math.log(10_000) * torch.arange(4) / 4)
    waves = torch.cat([torch.sin(time[:, None] * rates), torch.cos(time[:, None] * rates)], 1)
    e = silu(waves @ p["time.net.0.weight"].T + p["time.net.0.bias"])
    e = e @ p["time.net.2.weight"].T + p["time.net.2.bias"] + p["label.table.weight"][labels]
    stem = conv(p, "stem", x)
    fine = residual(p, "down.0.res", stem, e)
    half = residual(p, "down.1", fine, e, halved)
    coarse = attended(p, "down.2.attention", residual(p, "down.2.res", half, e), 4)
    h = attended(p, "middle.0.attention", residual(p, "middle.0.res", coarse, e), 4)
    h = residual(p, "middle.1.res", h, e)
    for place, skip in enumerate((coarse, half)):
        h = residual(p, f"up.{place}.res", torch.cat([h, skip], 1), e)
        h = attended(p, f"up.{place}.attention", h, 4)
    h = residual(p, "up.2", h, e, doubled)
    for place, skip in ((3, fine), (4, stem)):
        h = residual(p, f"up.{place}.res", torch.cat([h, skip], 1), e)
    return conv(p, "head", silu(norm(p, "norm", h)))


@torch.no_grad()
def test_the_whole_network_is_what_the_paper_says():
    net = stirred(UNet(SPEC))
    x, time, labels = torch.randn(2, 3, 8, 8), torch.tensor([3.0, 700.0]), torch.tensor([0, 2])
    wanted = by_hand(dict(net.named_parameters()), x, time, labels)
    torch.testing.assert_close(net(x, time, labels), wanted, rtol=1e-4, atol=1e-4)
    assert wanted.std() > 0.1


@torch.no_grad()
@each_scale
@pytest.mark.parametrize(("size", "resample"), [(None, lambda x: x), ((4, 4), halved), ((16, 16), doubled)])
def test_residual_blocks(scale, size, resample):
    block = stirred(ResBlock(8, 12, embedding=6))
    x, embedding = scale * torch.randn(2, 8, 8, 8), torch.randn(2, 6)
    wanted = residual({f"a.{name}": p for name, p in block.named_parameters()}, "a", x, embedding, resample)
    torch.testing.assert_close(block(x, embedding, size=size), wanted, rtol=1e-4, atol=1e-4)


@torch.no_grad()
@each_scale
def test_attention_blocks(scale):
    block = stirred(Attention(8, heads=2))
    x = scale * torch.randn(2, 8, 5, 5)
    wanted = attended({f"a.{name}": p for name, p in block.named_parameters()}, "a", x, 4)
    torch.testing.assert_close(block(x), wanted, rtol=1e-4, atol=1e-5)


def test_outputs_and_the_last_layers_of_branches_start_at_zero():
    zero = {name for name, p in UNet(SPEC).named_parameters() if not p.any() and name.endswith("weight")}
    ends = {name for name, _ in UNet(SPEC).named_parameters() if name.endswith((".conv2.weight", ".out.weight"))}
    assert zero == ends | {"head.weight"} and len(ends) == 10 + 4


# Presets


def test_hyper_parameters_of_the_paper():
    """Dhariwal & Nichol 2021, appendix I; the flags of the authors' README."""
    found = {name: DDPM.Config(**preset) for name, preset in DDPM.presets.items() if "paper-adm" in name}
    rows = {name: (c.batch_size, c.learning_rate, c.schedule, c.dropout, c.blocks) for name, c in found.items()}
    usual = (256, 1e-4, "linear", 0.0, 2)
    assert rows == {
        "paper-adm-64": (2048, 3e-4, "cosine", 0.1, 3),
        "paper-adm-128": usual,
        "paper-adm-256": usual,
        "paper-adm-lsun": (256, 1e-4, "linear", 0.1, 2),
        "paper-adm-g-128": usual,
        "paper-adm-g-256": usual,
    }
    for name, c in found.items():
        assert (c.prediction, c.variance, c.objective, c.timesteps) == ("eps", "learned", "hybrid", 1000)
        assert (c.scale_shift, c.resample, c.patch, c.fourier) == (True, True, 1, ())
        assert (c.optimizer, c.betas, c.weight_decay) == ("adamw", (0.9, 0.999), 0)
        assert (c.annealing, c.warmup) == ("constant", 1)
        assert (c.ema_decay, c.flip, c.guidance) == (0.9999, True, 1)
        assert c.network_calls == (1000 if "lsun" in name else 750 if "-g-" in name else 250)
        assert c.classifier == ("-g-" in name)
        if c.classifier:
            assert (c.classifier_learning_rate, c.classifier_weight_decay) == (3e-4, 0.05)
            assert (c.classifier_pool, c.classifier_blocks, c.classifier_head_channels) == ("attention", 2, 64)
    assert (found["paper-adm-g-128"].classifier_scale, found["paper-adm-g-256"].classifier_scale) == (0.5, 1.0)
    fast = {"sampler": "ddim", "steps": 25, "eta": 0.0, "classifier_scale": 2.5}
    assert DDPM.Config(**DDPM.presets["paper-adm-g-256"] | fast).network_calls == 75


def test_the_classifier_for_images_of_64_pixels_has_its_parameters():
    sizes = {"widths": (128, 256, 384, 512), "blocks": 4, "attention": (1, 2, 3), "head_channels": 64}
    options = {f"classifier_{name}": value for name, value in sizes.items()} | {"classifier_pool": "attention"}
    config = DDPM.Config(**DDPM.presets["paper-adm-64"] | options, classifier=True)
    with torch.device("meta"):
        classifier = config.noisy_classifier(DataSpec("toy", (3, 64, 64), 1000))
    assert sum(p.numel() for p in classifier.parameters()) == 65_438_568


@pytest.mark.parametrize("preset", ["paper-adm-256", "small-adm", "small-guided"])
def test_the_bound_weighs_one_bit_of_the_drawn_term(preset, monkeypatch):
    """The squared error plus the divergence of two Gaussians, in bits per dimension."""
    config = DDPM.Config(**DDPM.presets[preset])
    process = config.process()
    monkeypatch.setattr(process, "draw_times", lambda x0: torch.full((len(x0),), 3))
    x0 = to_float(torch.randint(0, 256, (8, 3, 4, 4), generator=torch.Generator().manual_seed(1), dtype=torch.uint8))

    def network(x, t):
        return torch.cat([0.7 * x, 0.3 * x], 1)

    torch.manual_seed(2)
    loss = process.hybrid_loss(network, x0, weight=config.vlb_weight)
    torch.manual_seed(2)
    t, eps = process.draw_times(x0), torch.randn_like(x0)
    x_t = process.diffuse(x0, t, eps)
    step = process.denoiser(network)(x_t, t)
    true = torch.distributions.Normal(
        process.posterior_mean(x0, x_t, t), process.at(process.posterior_variance, t, x0).sqrt().expand_as(x0)
    )
    model = torch.distributions.Normal(process.posterior_mean(step.x0, x_t, t), step.variance.sqrt())
    bits = torch.distributions.kl_divergence(true, model).mean() / math.log(2)
    error = F.mse_loss(0.7 * x_t, process.target(x0, eps, t))
    assert float(loss) == pytest.approx(float(error + bits), rel=1e-3)
    assert float(bits) > 0.05 * float(error)  # so that a wrong weight would show
