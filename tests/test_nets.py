"""Shared networks: any side, any number of channels, and blocks that start as nothing."""

import math

import pytest
import torch
from torch import nn

from genbench import nets
from genbench.embeddings import LabelEmbedding, sinusoidal
from genbench.nets import (
    Attention,
    Block,
    Conv,
    Layer,
    ResBlock,
    SpatialTransformer,
    UNet,
    UNetSpec,
    Upsample,
    downsample,
    folded,
    group_norm,
    pad_to_multiple,
    resized,
    steered,
    unfolded,
)
from genbench.transformer import Context, TokenAttention, TransformerBlock

SIDES = [8, 16, 28, 32, 64, 7]


def stirred(net: nn.Module) -> nn.Module:
    """The network with no parameter at zero, so that every branch shows."""
    torch.manual_seed(0)
    for parameter in net.parameters():
        nn.init.normal_(parameter, std=0.1)
    return net.eval()


@pytest.mark.parametrize("patch", [1, 2, 4])
@pytest.mark.parametrize("side", SIDES)
def test_unet_keeps_the_shape(side, patch):
    for channels in (1, 3):
        net = UNet(UNetSpec(channels, 2 * channels, (8, 12, 8), 1, (1,), patch=patch))
        out = net(torch.randn(2, channels, side, side), torch.tensor([1, 1000]))
        assert out.shape == (2, 2 * channels, side, side)


def test_oblong_images():
    assert UNet(UNetSpec(1, 1, (8, 8), patch=2))(torch.randn(1, 1, 9, 14), torch.ones(1)).shape == (1, 1, 9, 14)


def test_the_unet_of_the_paper_has_its_parameters():
    with torch.device("meta"):
        net = UNet(UNetSpec(3, 3, (128, 256, 256, 256), 2, (1,), dropout=0.1, scale_shift=False))
    assert sum(p.numel() for p in net.parameters()) == 35_746_307  # 35.7 million in Ho et al. 2020, appendix B


def test_unet_starts_at_zero_and_depends_on_all_its_inputs():
    images, time, labels = torch.randn(2, 1, 8, 8), torch.tensor([10.0, 500.0]), torch.tensor([0, 1])
    net = UNet(UNetSpec(1, 1, (8, 8), num_classes=2)).eval()
    assert not net(images, time, labels).any()
    out = stirred(net)(images, time, labels)
    assert not torch.allclose(out, net(images + 0.1, time, labels))
    assert not torch.allclose(out, net(images, time + 100, labels))
    assert not torch.allclose(out, net(images, time, labels.flip(0)))


@pytest.mark.parametrize("scale_shift", [True, False])
def test_the_embedding_reaches_the_block(scale_shift):
    block = stirred(ResBlock(8, 8, embedding=4, scale_shift=scale_shift))
    x = torch.randn(2, 8, 4, 4)
    assert not torch.allclose(block(x, torch.zeros(2, 4)), block(x, torch.ones(2, 4)))


@pytest.mark.parametrize("most", [nets.MOST_GROUPS, 8], ids=["one-pass", "too-many-groups"])
@pytest.mark.parametrize("norm", [group_norm(12), nn.BatchNorm2d(12)], ids=["group", "batch"])
def test_scales_and_shifts_of_each_image_are_those_of_what_is_normalised(norm, most, monkeypatch):
    monkeypatch.setattr(nets, "MOST_GROUPS", most)
    norm = stirred(norm).double()
    x, weights = torch.randn(2, 3, 12, 4, 5).double()
    scale, shift = torch.randn(2, 3, 12).double()

    def gradients(steer):
        leaves = [tensor.clone().requires_grad_() for tensor in (x, scale, shift)]
        out = steer(norm, *leaves)
        return [out, *torch.autograd.grad((out * weights).sum(), [*leaves, norm.weight, norm.bias])]

    def one_after_the_other(norm, x, scale, shift):
        return norm(x) * (1 + scale[:, :, None, None]) + shift[:, :, None, None]

    for found, expected in zip(gradients(steered), gradients(one_after_the_other), strict=True):
        torch.testing.assert_close(found, expected)


def test_one_image_does_not_see_another():
    net = stirred(UNet(UNetSpec(1, 1, (8, 8), 1, (0,), patch=2)))
    images, time = torch.randn(3, 1, 8, 8), torch.tensor([1.0, 2.0, 3.0])
    torch.testing.assert_close(net(images, time)[1:2], net(images[1:2], time[1:2]), rtol=1e-4, atol=1e-5)


def test_labels():
    like = torch.zeros(2, 4)
    assert not LabelEmbedding(0, 4)(like, None).any()
    assert LabelEmbedding(3, 4)(like, torch.tensor([0, 2])).shape == (2, 4)
    with pytest.raises(ValueError, match="needs labels"):
        LabelEmbedding(3, 4)(like, None)


def test_residual_branches_start_as_nothing():
    x = torch.randn(2, 8, 5, 5)
    assert torch.equal(ResBlock(8, 8)(x), x)
    assert torch.equal(Attention(8)(x), x)


def test_attention_is_softmax_attention():
    attention = stirred(Attention(8, heads=2))
    x = torch.randn(1, 8, 3, 3)
    q, k, v = attention.qkv(attention.norm(x)).reshape(3, 2, 4, 9)
    weights = torch.softmax(torch.einsum("hcq,hck->hqk", q, k) / math.sqrt(4), dim=-1)
    mixed = torch.einsum("hqk,hck->hcq", weights, v).reshape(1, 8, 3, 3)
    torch.testing.assert_close(attention(x), x + attention.out(mixed), rtol=1e-4, atol=1e-5)


def test_heads_of_a_given_size_are_as_many_as_fit():
    def heads(net):
        return [layer.heads for layer in net.modules() if isinstance(layer, Attention)]

    given = UNet(UNetSpec(1, 1, (8, 16), 1, (0, 1), head_channels=4))
    assert heads(given) == [2, 4, 4, 4, 4, 2, 2]
    assert set(heads(UNet(UNetSpec(1, 1, (8, 16), 1, (0, 1), heads=8)))) == {8}


def test_token_attention_is_softmax_attention_to_the_context():
    attention = stirred(TokenAttention(8, 6, heads=2))
    tokens, seen = torch.randn(2, 5, 8), torch.randn(2, 3, 6)
    q, k, v = attention.query(tokens), attention.key(seen), attention.value(seen)
    heads = []
    for part in (slice(0, 4), slice(4, 8)):
        weights = torch.softmax(q[..., part] @ k[..., part].mT / math.sqrt(4), dim=-1)
        heads.append(weights @ v[..., part])
    torch.testing.assert_close(attention(tokens, Context(seen)), attention.out(torch.cat(heads, dim=2)))


def test_a_transformer_starts_as_nothing_and_sees_all_places_and_the_context():
    x, seen = torch.randn(2, 8, 3, 5), torch.randn(2, 1, 6)
    block, context = SpatialTransformer(8, 6, heads=2), Context(seen)
    assert torch.equal(block(x, context=context), x)
    out, other = stirred(block)(x, context=context), x.clone()
    other[:, :, 2, 4] += 1
    assert out.shape == x.shape
    assert (block(other, context=context) - out)[:, :, 0, 0].abs().min() > 0  # the far corner is seen
    assert (block(x, context=Context(seen + 1)) - out).abs().flatten(1).max(1).values.min() > 0
    alone = block(x[:1], context=Context(seen[:1]))
    torch.testing.assert_close(alone, out[:1], rtol=1e-4, atol=1e-5)  # and no other image


def test_a_context_brings_the_class_into_the_unet_by_attention_alone():
    net = stirred(UNet(UNetSpec(1, 1, (8, 8), 1, (1,), num_classes=3, context=6)))
    images, time = torch.randn(2, 1, 8, 8), torch.tensor([10.0, 500.0])
    first, second = (net(images, time, torch.full((2,), label)) for label in (0, 1))
    assert net.label.table.weight.shape == (3, 6) and not torch.allclose(first, second)
    for layer in net.modules():
        if isinstance(layer, TransformerBlock):
            nn.init.zeros_(layer.cross.value.weight)
    assert torch.equal(*(net(images, time, torch.full((2,), label)) for label in (0, 1)))
    with pytest.raises(ValueError, match="context of 6 channels needs classes"):
        UNet(UNetSpec(1, 1, (8, 8), context=6))


def test_sinusoids():
    found = sinusoidal(torch.tensor([0, 3]), 8)
    assert found[0].tolist() == [0, 0, 0, 0, 1, 1, 1, 1]
    frequencies = [1, 0.1, 0.01, 0.001]
    wanted = [math.sin(3 * f) for f in frequencies] + [math.cos(3 * f) for f in frequencies]
    torch.testing.assert_close(found[1], torch.tensor(wanted))


@pytest.mark.parametrize(("channels", "groups"), [(256, 32), (128, 32), (64, 16), (48, 12), (8, 2), (6, 1), (3, 1)])
def test_groups_have_at_least_four_channels(channels, groups):
    assert group_norm(channels).num_groups == groups


def test_resizing_takes_means_or_neighbours():
    x = torch.arange(16.0).reshape(1, 1, 4, 4)
    assert resized(x, (2, 2)).flatten().tolist() == [2.5, 4.5, 10.5, 12.5]
    assert torch.equal(resized(resized(x, (8, 8)), (4, 4)), x)
    assert resized(x[:, :, :2, :2], (4, 4))[0, 0, 0].tolist() == [0, 0, 1, 1]
    assert resized(x[:, :, :2], (4, 2))[0, 0, 0].tolist() == [0.5, 2.5], "taller and narrower"


def test_a_block_that_resizes_starts_as_the_resizing_and_then_sees_more():
    block, x = ResBlock(8, 8, embedding=4), torch.randn(2, 8, 6, 6)
    assert torch.equal(block(x, torch.zeros(2, 4), size=(3, 3)), resized(x, (3, 3)))
    stirred(block)
    assert not torch.allclose(block(x, torch.zeros(2, 4), size=(12, 12)), block(x, torch.ones(2, 4), size=(12, 12)))


@pytest.mark.parametrize("side", SIDES)
def test_a_unet_that_resamples_in_residual_blocks_keeps_the_shape(side):
    net = stirred(UNet(UNetSpec(1, 2, (8, 12, 8), 1, (1,), resample=True)))
    assert not any(isinstance(layer, nn.Conv2d) and layer.stride != (1, 1) for layer in net.modules())
    assert net(torch.randn(2, 1, side, side), torch.ones(2)).shape == (2, 2, side, side)


def test_padding_repeats_the_edge():
    padded = pad_to_multiple(torch.arange(3.0).reshape(1, 1, 1, 3), 2)
    assert padded.tolist() == [[[[0, 1, 2, 2], [0, 1, 2, 2]]]]


def test_folding_pads_until_squares_and_the_multiple_fit():
    images = torch.arange(6.0).reshape(1, 1, 2, 3)
    assert folded(images, 2).tolist() == [[[[0, 2]], [[1, 2]], [[3, 5]], [[4, 5]]]]
    assert folded(images, 2, 4).shape == (1, 4, 2, 2) and folded(images, 2, 3).shape == (1, 4, 3, 3)
    assert torch.equal(folded(images, 1), images)


@pytest.mark.parametrize(("shape", "patch"), [((2, 3, 8, 12), 4), ((1, 2, 5, 7), 2), ((1, 1, 3, 3), 1)])
def test_unfolding_undoes_folding(shape, patch):
    images = torch.randn(shape)
    assert torch.equal(unfolded(folded(images, patch), patch, shape[2:]), images)
    assert torch.equal(unfolded(folded(images, patch, 3 * patch), patch, shape[2:]), images), "and more padding"


LAYERS = {
    "identity": Layer(),
    "convolution": Conv(8, 8, 3, padding=1),
    "downsample": downsample(8, 8),
    "upsample": Upsample(8, 8),
    "residual": ResBlock(8, 8, embedding=6),
    "attention": Attention(8),
    "transformer": SpatialTransformer(8, 5),
    "block": Block(ResBlock(8, 8, embedding=6), SpatialTransformer(8, 5)),
}


@pytest.mark.parametrize("name", LAYERS)
def test_every_layer_takes_what_steers_any_of_them(name):
    layer = stirred(LAYERS[name])
    x, embedding, seen = torch.randn(2, 8, 4, 4), torch.randn(2, 6), torch.randn(2, 3, 5)
    context = Context(seen)
    size = (2, 2) if name in ("residual", "downsample") else (8, 8)
    out, resizes = layer(x, embedding, context, size), name in ("residual", "upsample", "downsample")
    assert out.shape == (2, 8, *(size if resizes else (4, 4)))
    assert torch.equal(layer(x, embedding + 1, context, size), out) == (name not in ("residual", "block"))
    assert torch.equal(layer(x, embedding, Context(seen + 1), size), out) == (name not in ("transformer", "block"))
    assert torch.equal(out, x) == (name == "identity")


def test_an_upsampling_of_no_given_size_doubles_the_sides():
    layer, x = Upsample(8, 8), torch.randn(1, 8, 3, 5)
    assert torch.equal(layer(x), layer(x, size=(6, 10)))


def test_no_state_but_parameters():
    assert not list(UNet(UNetSpec(1, 1)).buffers())
