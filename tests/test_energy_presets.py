"""The networks of energy-based models: parameters by hand, in the sizes of the papers; any size of image."""

from itertools import pairwise

import pytest
import torch
from torch.nn import functional as F

from genbench import Batch, DataSpec
from genbench_energy.ebm import EBM
from genbench_energy.jem import JEM
from genbench_energy.networks import ResidualBlock, WideBlock


def built(kind, preset, shape=(3, 32, 32), classes=0, **config):
    torch.manual_seed(0)
    return kind(DataSpec("images", shape, classes), kind.Config(**kind.presets[preset] | config))


def count(module):
    return sum(p.numel() for p in module.parameters())


def conv(inputs, outputs, side=3):
    """Weights of a convolution without a bias."""
    return inputs * outputs * side**2


@pytest.mark.parametrize(
    ("preset", "classes", "widths", "blocks", "weights", "total"),
    [
        ("paper", 0, (128, 256, 512), 3, 18_583_425, 18_591_105),
        ("paper-conditional", 10, (128, 256, 256), 2, 5_312_129, 5_349_249),
    ],
)
def test_the_residual_networks_of_du_and_mordatch(preset, classes, widths, blocks, weights, total):
    """Convolutions and the head; then, in each block, two biases and a gain of each class."""
    chain = [128, *(wide for wide in widths for _ in range(blocks))]
    pairs = list(pairwise(chain))
    expected = conv(3, 128) + sum(conv(i, o) + conv(o, o) + (conv(i, o) if i != o else 0) for i, o in pairs)
    expected += widths[-1] + 1
    vectors = max(1, classes) * sum(i + 2 * o for i, o in pairs)
    assert expected == weights and expected + vectors == total
    assert count(built(EBM, preset, classes=classes, memory=128)) == total


def test_the_wide_residual_network_of_grathwohl_et_al():
    """Wide ResNet 28-10: stages of 4 blocks, biases everywhere, no normalisation."""
    expected, width = conv(3, 16) + 16, 16
    for wide in (160, 320, 640):
        expected += conv(width, wide, 1) + wide
        for _ in range(4):
            expected += conv(width, wide) + wide + conv(wide, wide) + wide
            width = wide
    model = built(JEM, "paper", classes=10, memory=64)
    assert count(model) == expected + 640 * 10 + 10 == 36_471_338
    sides, x = [], torch.zeros(1, 3, 32, 32)
    with torch.no_grad():
        x = model.network.stem(x)
        for block in model.network.blocks:
            x = block(x)
            sides.append(x.shape[-1])
    assert sides == [32] * 4 + [16] * 4 + [8] * 4


def test_the_sides_of_the_residual_network_are_halved_in_the_first_block_of_each_width():
    model = built(EBM, "paper", memory=128, widths=(4, 8, 8), blocks=2).eval()
    x, sides = torch.zeros(1, 3, 32, 32), []
    with torch.no_grad():
        x = model.network.stem(x)
        for block in model.network.blocks:
            x = block(x, None)
            sides.append(x.shape[-1])
    assert sides == [16, 16, 8, 8, 4, 4]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("kind", "preset", "classes"), [(EBM, "paper", 0), (EBM, "paper-conditional", 10), (JEM, "paper", 10)]
)
def test_the_papers_sizes_run_forward_and_backward(kind, preset, classes):
    model = built(kind, preset, classes=classes, batch_size=2, memory=4, steps=1)
    labels = torch.arange(2) if classes else None
    loss = model.loss("energy", Batch(torch.rand(2, 3, 32, 32) * 2 - 1, labels))["loss"]
    loss.backward()
    assert loss.isfinite() and all(p.grad is not None and p.grad.isfinite().all() for p in model.parameters())


@pytest.mark.parametrize("shape", [(1, 8, 8), (1, 28, 28), (3, 32, 32), (1, 15, 15), (3, 9, 20)])
@pytest.mark.parametrize(("kind", "classes"), [(EBM, 0), (EBM, 3), (JEM, 3), ("residual", 3)])
def test_images_of_any_size_are_learned_and_drawn(kind, classes, shape):
    network = {"network": kind} if kind == "residual" else {}
    kind = EBM if kind == "residual" else kind
    model = built(kind, "tiny", shape, classes, widths=(4, 4, 4), batch_size=3, **network)
    labels = torch.arange(3) if classes else None
    loss = model.loss("energy", Batch(torch.rand(3, *shape) * 2 - 1, labels))["loss"]
    loss.backward()
    assert loss.isfinite()
    with torch.no_grad():
        images = model.eval().sample(3, labels)
    assert images.shape == (3, *shape) and images.isfinite().all() and images.abs().max() <= 1


def test_the_strided_network_by_hand():
    """A 3x3 convolution of folded pixels, then 4x4 ones of stride 2, sums over places, the energy of the class."""
    network = built(EBM, "tiny", (1, 8, 8), 3, widths=(4, 6)).network
    first, second = network.convolutions
    images, labels = torch.randn(5, 1, 8, 8), torch.tensor([0, 2, 1, 1, 0])
    x = F.silu(F.conv2d(F.pixel_unshuffle(images, 2), first.weight, first.bias, padding=1))
    x = F.silu(F.conv2d(x, second.weight, second.bias, stride=2, padding=1))
    assert x.shape == (5, 6, 2, 2)
    energies = x.sum((2, 3)) @ network.head.weight.T + network.head.bias
    torch.testing.assert_close(network(images, labels).squeeze(1), energies[torch.arange(5), labels])


def test_a_residual_block_is_its_formula():
    torch.manual_seed(0)
    config = EBM.Config(network="residual", spectral_norm=False, activation="leaky_relu")
    block, x, labels = ResidualBlock(3, 5, True, 2, config), torch.randn(4, 3, 6, 6), torch.tensor([0, 1, 1, 0])
    for table in (block.bias1.table, block.bias2.table, block.gain.table):
        torch.nn.init.normal_(table)

    def of(vector):
        return vector.table[labels][:, :, None, None]

    h = F.leaky_relu(block.conv1(x + of(block.bias1)), 0.2)
    h = of(block.gain) * block.conv2(h + of(block.bias2)) + block.skip(x)
    torch.testing.assert_close(block(x, labels), F.leaky_relu(F.avg_pool2d(h, 2), 0.2))


def test_a_wide_block_is_its_formula():
    torch.manual_seed(0)
    config, x = JEM.Config(activation="leaky_relu"), torch.randn(4, 3, 6, 6)
    block = WideBlock(3, 5, 2, config)
    h = block.conv2(F.leaky_relu(block.conv1(F.leaky_relu(x, 0.2)), 0.2))
    torch.testing.assert_close(block(x), h + F.conv2d(x, block.skip.weight, block.skip.bias, stride=2))
    assert isinstance(WideBlock(5, 5, 1, config).skip, torch.nn.Identity)


def test_every_convolution_is_divided_by_its_spectral_norm_and_the_head_is_not():
    network = built(EBM, "tiny", network="residual", widths=(8, 8)).network
    for p in network.parameters():
        p.data.mul_(3)
    for _ in range(100):
        network(torch.randn(2, 3, 32, 32))
    layers = [m for m in network.modules() if isinstance(m, torch.nn.Conv2d)]
    norms = [torch.linalg.matrix_norm(layer.weight.flatten(1), ord=2).item() for layer in layers]
    assert len(norms) == 5 and norms == pytest.approx([1] * 5, abs=0.02)
    assert not hasattr(network.head, "parametrizations")
    plain = built(EBM, "tiny", network="residual", spectral_norm=False).network
    assert not any("parametrizations" in name for name, _ in plain.named_parameters())
