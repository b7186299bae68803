"""The published networks of the diffusion families: their sizes, and one update of the same structure."""

import gc

import pytest
import torch
from torch import nn

from genbench import Batch, DataSpec
from genbench.images import to_float
from genbench.nets import Attention, SpatialTransformer
from genbench_ddpm import DDPM
from genbench_ldm import LatentDiffusion

CLASSES = 1000
UNETS = {
    (DDPM, "paper"): 35_746_307,  # Ho et al. 2020, appendix B: 35.7 M
    (DDPM, "paper-lsun"): 113_673_219,  # 114 M
    (LatentDiffusion, "paper"): 274_056_163,  # Rombach et al. 2022, table 18: 274 M
    (LatentDiffusion, "paper-ffhq"): 274_056_163,  # 274 M
    (LatentDiffusion, "paper-bedrooms"): 274_056_163,  # 274 M
    (LatentDiffusion, "paper-churches"): 256_401_796,  # 256 M
    (LatentDiffusion, "paper-churches-released"): 294_966_916,  # table 12: 294 M
    (LatentDiffusion, "paper-imagenet"): 400_920_579 + 1001 * 512,  # 400 M
    (LatentDiffusion, "paper-imagenet-8"): 394_984_196 + 1000 * 512,  # 395 M
    (LatentDiffusion, "paper-imagenet-8-guided"): 394_984_196 + 1000 * 512,  # 506 M with the classifier
    (DDPM, "paper-adm-64"): 295_904_454,  # Dhariwal & Nichol 2021, table 11: 296 M
    (DDPM, "paper-adm-128"): 421_529_606,  # 422 M
    (DDPM, "paper-adm-256"): 553_838_086,  # 554 M
    (DDPM, "paper-adm-lsun"): 552_814_086,  # 552 M
    (DDPM, "paper-adm-g-128"): 421_529_606,
    (DDPM, "paper-adm-g-256"): 553_838_086,  # 608 M with the classifier
}
CLASSIFIERS = {
    (LatentDiffusion, "paper-imagenet-8-guided"): 111_604_200,
    (DDPM, "paper-adm-g-128"): 42_568_040,
    (DDPM, "paper-adm-g-256"): 54_096_360,
}
FIRST_STAGES = {("vq", 4): 55_322_782, ("vq", 8): 67_717_295, ("kl", 8): 83_653_863}
PARTS = ("paper-imagenet-8", "paper-adm-128", "paper-adm-256")
"""Presets whose networks others have too, beside a classifier."""
LARGEST = ("paper-imagenet-8-guided", "paper-adm-128", "paper-adm-256", "paper-adm-lsun", "paper-adm-g-256")
"""Presets of the same layers as smaller ones."""
SHARED = ("paper-ffhq", "paper-bedrooms")
"""Presets whose networks are those of `paper`."""


def presets_without(*names):
    chosen = [key for key in UNETS if key[1] not in names]
    return pytest.mark.parametrize(("model", "preset"), chosen, ids=lambda value: getattr(value, "name", value))


each_preset, each_structure = presets_without(), presets_without(*PARTS)
each_small_enough = presets_without(*LARGEST, *SHARED)
each_shape = pytest.mark.parametrize("shape", [(3, 32, 32), (1, 28, 28)], ids=["colour", "gray"])


def built(model, preset, shape, **change):
    """The model of a preset, conditional where the paper's was."""
    config = model.Config(**model.presets[preset] | change)
    conditional = config.context or (preset.startswith("paper-adm") and preset != "paper-adm-lsun")
    return model(DataSpec("toy", shape, CLASSES if conditional else 0), config)


def published(model, preset):
    """The shape of the images of the paper."""
    small = {"paper-adm-64": 64, "paper-adm-128": 128, "paper-adm-g-128": 128, "paper": 32 if model is DDPM else 256}
    side = small.get(preset, 256)
    return 3, side, side


def count(module: nn.Module) -> int:
    return sum(p.numel() for p in module.parameters())


@pytest.mark.parametrize("model", [DDPM, LatentDiffusion], ids=lambda model: model.name)
def test_every_preset_is_valid_and_every_published_one_is_counted(model):
    for name, preset in model.presets.items():
        assert model.Config(**preset).timesteps
        assert "paper" not in name or (model, name) in UNETS or name == "paper-2015"  # in test_diffusion_2015.py


@each_preset
def test_published_networks_have_their_parameters(model, preset):
    with torch.device("meta"):
        whole = built(model, preset, published(model, preset))
    assert count(whole.net) == UNETS[model, preset]
    assert (0 if whole.classifier is None else count(whole.classifier)) == CLASSIFIERS.get((model, preset), 0)
    if model is LatentDiffusion:
        stage, factor = whole.config.first_stage, whole.config.factor
        first = whole.autoencoder.coder if stage == "vq" else whole.autoencoder
        scale = 0 if stage == "vq" else whole.autoencoder.log_scale.numel()
        assert count(first) == FIRST_STAGES[stage, factor] + scale
        assert whole.latent_shape == ((3, 64, 64) if factor == 4 else (4, 32, 32))


def test_the_published_first_stage_of_factor_4_without_a_codebook():
    with torch.device("meta"):
        whole = built(LatentDiffusion, "paper", (3, 256, 256), first_stage="kl")
    assert count(whole.autoencoder) == 55_312_063 + whole.autoencoder.log_scale.numel()


def resolutions(net, side):
    """The sides of the feature maps that attention sees, and the heads there, in a forward pass of `net`."""
    found = set()
    for layer in net.modules():
        if isinstance(layer, Attention | SpatialTransformer):
            heads = layer.heads if isinstance(layer, Attention) else layer.block.own.heads
            layer.register_forward_hook(lambda _, x, __, heads=heads: found.add((x[0].shape[-1], heads)))
    channels = net.stem.in_channels
    labels = torch.zeros(1, dtype=torch.int64, device="meta") if net.label.table is not None else None
    net(torch.zeros(1, channels, side, side, device="meta"), torch.ones(1, device="meta"), labels)
    return found


@each_preset
def test_attention_is_where_the_papers_have_it(model, preset):
    """Resolutions and heads there; the middle of a U-Net has attention too, at its coarsest resolution."""
    churches, adm = {(32, 8), (16, 8), (8, 8), (4, 8), (2, 8)}, {(32, 8), (16, 16), (8, 16)}
    wanted = {
        "paper-lsun": {(16, 1), (8, 1)},
        "paper-churches": churches,
        "paper-churches-released": churches,
        "paper-imagenet": {(32, 1), (16, 1), (8, 1)},
        "paper-imagenet-8": {(32, 8), (16, 16), (8, 32)},
        "paper-imagenet-8-guided": {(32, 8), (16, 16), (8, 32)},
        "paper-adm-64": {(32, 6), (16, 9), (8, 12)},
        "paper-adm-128": {(32, 4), (16, 4), (8, 4)},
        "paper-adm-g-128": {(32, 4), (16, 4), (8, 4)},
        "paper-adm-256": adm,
        "paper-adm-lsun": adm,
        "paper-adm-g-256": adm,
    }.get(preset, {(32, 14), (16, 21), (8, 28)} if model is LatentDiffusion else {(16, 1), (4, 1)})
    with torch.device("meta"):
        whole = built(model, preset, published(model, preset))
    side = whole.data.shape[1] if model is DDPM else whole.latent_shape[1]
    assert resolutions(whole.net, side) == wanted


def test_hyper_parameters_of_the_papers():
    """Ho et al. 2020, section 4 and appendix B; Rombach et al. 2022, tables 12, 15 and 18."""
    cifar, lsun = (DDPM.Config(**DDPM.presets[name]) for name in ("paper", "paper-lsun"))
    assert (cifar.batch_size, cifar.learning_rate, cifar.dropout) == (128, 2e-4, 0.1)
    assert (lsun.batch_size, lsun.learning_rate, lsun.dropout) == (64, 2e-5, 0.0)
    for config in (cifar, lsun):
        assert (config.schedule, config.beta_start, config.beta_end, config.timesteps) == ("linear", 1e-4, 0.02, 1000)
        assert (config.prediction, config.objective, config.sampler) == ("eps", "simple", "ancestral")
        assert config.fourier == () and config.patch == 1 and config.ema_decay == 0.9999
        assert (config.annealing, config.warmup, config.flip) == ("constant", 5000, True)
    found = {name: LatentDiffusion.Config(**preset) for name, preset in LatentDiffusion.presets.items()}
    rows = {name: (c.batch_size, c.learning_rate, c.steps) for name, c in found.items() if "paper" in name}
    assert rows == {
        "paper": (48, 9.6e-5, 500),
        "paper-ffhq": (42, 8.4e-5, 200),
        "paper-bedrooms": (48, 9.6e-5, 200),
        "paper-churches": (96, 5e-5, 100),
        "paper-churches-released": (96, 5e-5, 400),
        "paper-imagenet": (1200, 1e-4, 250),
        "paper-imagenet-8": (64, 6.4e-5, 200),
        "paper-imagenet-8-guided": (64, 6.4e-5, 200),
    }
    for name in rows:
        process = found[name].process()
        assert process.beta[1] == pytest.approx(0.0015)
        assert process.beta[-1] == pytest.approx(0.0155 if "churches" in name else 0.0195)
        assert process.beta[1:].sqrt().diff().std() < 1e-12  # the root grows linearly
        assert found[name].network_calls == found[name].steps * (3 if found[name].classifier else 1)
        assert (found[name].annealing, found[name].warmup) == ("constant", 10_000 if "churches" in name else 1)
    guided = LatentDiffusion.Config(**LatentDiffusion.presets["paper-imagenet"] | {"guidance": 1.5})
    assert guided.network_calls == 500


def update(model: nn.Module, shape):
    """The gradients of every phase, and a sample, on one image."""
    levels = torch.randint(0, 256, (2, *shape), generator=torch.Generator().manual_seed(1), dtype=torch.uint8)
    labels = torch.tensor([0, CLASSES - 1]) if model.data.num_classes else None
    batch = Batch(to_float(levels[:1]), None if labels is None else labels[:1])
    for phase in model.phases():
        model.zero_grad()
        loss = model.loss(phase.name, batch)
        (loss["loss"] if isinstance(loss, dict) else loss).backward()
        for name, parameter in phase.module.named_parameters():
            assert parameter.grad is not None and parameter.grad.isfinite().all(), name
    with torch.no_grad():  # not in inference mode, in which a classifier has no gradient
        assert model.eval().sample(1, batch.labels).shape == (1, *shape)


def narrow(preset):
    """A sixteenth of the channels, or an eighth, and few steps."""
    by = 8 if preset.get("head_channels") == 32 or preset.get("heads") == 8 else 16
    widths = ("widths", "ae_widths", "classifier_widths")
    sizes = ("head_channels", "context", "classifier_head_channels", "critic_width")
    smaller = {key: tuple(width // by for width in preset[key]) for key in widths if key in preset}
    smaller |= {key: preset[key] // by for key in sizes if key in preset}
    return smaller | {"timesteps": 3, "steps": 2}


@each_structure
@each_shape
def test_the_same_structure_with_fewer_channels_trains_and_samples(model, preset, shape):
    torch.manual_seed(0)
    update(built(model, preset, shape, **narrow(model.presets[preset])), shape)


@pytest.mark.slow
@each_small_enough
def test_the_published_networks_train_and_sample(model, preset):
    torch.manual_seed(0)
    shape = (3, 32, 32) if (model, preset) == (DDPM, "paper") else (1, 8, 8)
    small = {"critic_layers": 1} if model is LatentDiffusion else {}
    update(built(model, preset, shape, timesteps=3, steps=2, **small), shape)
    gc.collect()  # a model and its diffuser know each other, and would keep gigabytes until some later collection
