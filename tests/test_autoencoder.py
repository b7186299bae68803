"""Encoder and decoder: any side, labels, attention of the coarsest level, and the sizes of published networks."""

import pytest
import torch
from test_nets import SIDES, stirred
from torch import nn

from genbench.autoencoder import AutoencoderSpec, Decoder, Encoder
from genbench.nets import Attention, latent_size


def count(module: nn.Module) -> int:
    return sum(p.numel() for p in module.parameters())


@pytest.mark.parametrize("coarsest", [False, True])
@pytest.mark.parametrize("patch", [1, 2])
@pytest.mark.parametrize("side", SIDES)
def test_decoder_mirrors_the_encoder(side, patch, coarsest):
    spec = AutoencoderSpec((8, 12), patch=patch, attention=True, coarsest_attention=coarsest)
    encoder = Encoder(3, 5, spec)
    decoder = Decoder(5, 3, (side, side), spec)
    latents = encoder(torch.randn(2, 3, side, side))
    assert spec.factor == encoder.factor == decoder.factor == 2 * patch
    assert latents.shape == (2, 5, *latent_size((side, side), encoder.factor))
    assert decoder(latents).shape == (2, 3, side, side)


def test_oblong_images():
    spec = AutoencoderSpec((8, 8))
    assert Decoder(4, 1, (9, 14), spec)(Encoder(1, 4, spec)(torch.randn(1, 1, 9, 14))).shape == (1, 1, 9, 14)


def test_conditional_encoder_and_decoder_use_labels():
    spec = AutoencoderSpec(num_classes=3)
    encoder, decoder = stirred(Encoder(1, 4, spec)), stirred(Decoder(4, 1, (8, 8), spec))
    images, zero, two = torch.randn(1, 1, 8, 8), torch.tensor([0]), torch.tensor([2])
    assert not torch.allclose(encoder(images, zero), encoder(images, two))
    latents = encoder(images, zero)
    assert not torch.allclose(decoder(latents, zero), decoder(latents, two))


def test_attention_follows_every_block_of_the_coarsest_level():
    plain, more = (AutoencoderSpec((8, 12), 2, middle=2, coarsest_attention=attends) for attends in (False, True))
    for half in (lambda spec: Encoder(1, 2, spec), lambda spec: Decoder(2, 1, (8, 8), spec)):
        found = [layer for layer in half(more).modules() if isinstance(layer, Attention)]
        assert [layer.norm.num_channels for layer in found] == [12, 12]
        assert count(half(more)) - count(half(plain)) == sum(map(count, found))
        assert not any(isinstance(layer, Attention) for layer in half(plain).modules())


@pytest.mark.parametrize(
    ("widths", "channels", "coarsest", "sizes"),
    [
        ((128, 256, 512), 3, False, (22_337_411, 32_960_771)),
        ((128, 256, 256, 512), 4, True, (27_397_764, 40_253_955)),
    ],
)
def test_the_halves_of_published_first_stages(widths, channels, coarsest, sizes):
    """Of latent diffusion with a codebook, f = 4 and f = 8; the decoder has one more block on every level."""
    common = {"patch": 1, "middle": 2, "attention": True, "coarsest_attention": coarsest}
    with torch.device("meta"):
        encoder = Encoder(3, channels, AutoencoderSpec(widths, 2, **common))
        decoder = Decoder(channels, 3, (256, 256), AutoencoderSpec(widths, 3, **common))
    assert (count(encoder), count(decoder)) == sizes


def test_no_state_but_parameters():
    for net in (Encoder(1, 2, AutoencoderSpec()), Decoder(2, 1, (8, 8), AutoencoderSpec())):
        assert not list(net.buffers())
