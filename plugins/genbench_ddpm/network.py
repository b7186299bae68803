"""The options of the U-Net that models of noisy images share, of guidance without a classifier, and what follows."""

import math
from collections.abc import Mapping, Sequence
from typing import Literal, Self

import torch
from pydantic import PositiveInt, model_validator
from torch import Tensor

from genbench import Condition, DataSpec, field
from genbench.condition import KINDS, PLACED, ConditionSpec, Given, Kind
from genbench.embeddings import check_sinusoids
from genbench.nets import UNet, UNetSpec
from genbench.optimization import OptimizerConfig
from genbench_ddpm.diffusion import Times

NETWORK = (
    "widths", "blocks", "attention", "patch", "heads", "head_channels", "context", "dropout", "scale_shift", "resample",
)  # fmt: skip
"""The options that a `UNetSpec` takes as they are."""
LEAST_BATCH, MOST_BATCH, PIXELS = 64, 256, 2**14
"""Images per update if nothing else is said, and their pixels if there may be more than the least."""
WORD_CHANNELS = 64
"""Channels of the words that attention sees."""


def check_attention(
    widths: Sequence[int], attention: Sequence[int], heads: Mapping[str, int], prefix: str = ""
) -> None:
    """Raise ValueError, naming the option, if a resolution is not there or if heads do not divide all of the widths."""
    if any(level not in range(len(widths)) for level in attention):
        levels = list(attention)
        raise ValueError(f"{prefix}attention: {levels} names a resolution that is not in 0..{len(widths) - 1}")
    for name, size in heads.items():
        if size and any(width % size for width in widths):
            raise ValueError(f"{prefix}{name}: {size} does not divide every one of the widths {list(widths)}")


def with_waves(x: Tensor, noise: Tensor, exponents: Sequence[int]) -> Tensor:
    """Images (B, C, H, W) with sin and cos(2^n pi x) as further channels, each attenuated as much as the noise would.

    `noise` is its standard deviation in x, and broadcasts with it. Sources: Kingma et al. 2021, appendix C; the fading:
    Barron et al. 2021, equation 14.
    """
    channels = [x]
    for n in exponents:
        frequency = 2**n * math.pi
        fading = torch.exp(-0.5 * (frequency * noise) ** 2)
        channels += [fading * torch.sin(frequency * x), fading * torch.cos(frequency * x)]
    return torch.cat(channels, dim=1)


def dropped(given: Given, chosen: Tensor, num_classes: int) -> Given:
    """Labels (B,) or a condition, replaced where `chosen`, bool (B,), by the null condition; of labels, the class K."""
    return given.dropped(chosen) if isinstance(given, Condition) else given.masked_fill(chosen, num_classes)


def null(given: Given, num_classes: int) -> Given:
    """As many null conditions."""
    return dropped(given, torch.ones(len(given), dtype=torch.bool, device=given.device), num_classes)


class UNetConfig(OptimizerConfig):
    """The settings of a U-Net of noisy images, of its optimizer, and of guidance by the labels it has dropped."""

    batch_size: int = field(
        0, "train", "images per update; 0: 64, or of small images up to 256, as many as have 16,384 pixels", ge=0
    )

    label_dropout: float = field(
        0.0,
        "train",
        "share of the conditions, such as labels, that training leaves out, for guidance",
        ge=0,
        lt=1,
        only_given=KINDS,
    )

    widths: tuple[PositiveInt, ...] = field(
        (32, 64), "train", "channels of each resolution, finest first", min_length=1
    )
    blocks: int = field(1, "train", "residual blocks of each resolution", ge=1)
    attention: tuple[int, ...] = field((), "train", "resolutions with self-attention; 0 is the finest")
    heads: int = field(1, "train", "number of attention heads", ge=1, only_with={"head_channels": [0]})
    head_channels: int = field(0, "train", "channels of each head, instead of a number of heads; 0: use heads", ge=0)
    context: int = field(
        0, "train", "channels of the class as a token that attention sees; 0: the class is added to the time", ge=0
    )
    times: Literal["auto", Times] = field(
        "auto",
        "train",
        "how the simple loss draws t: uniformly, or more often where the image takes shape (logit_normal); auto: the "
        "second, but uniformly under a map, a hole or an image, which leave open what is settled late",
    )
    words: Literal["tokens", "whole"] = field(
        "tokens",
        "train",
        "attention sees the words of a text, or it is added to the time as a whole alone",
        only_given=("text",),
    )
    patch: int = field(2, "train", "side of the squares of pixels that are folded into channels", ge=1)
    dropout: float = field(0.0, "train", "dropout in the residual blocks", ge=0, lt=1)
    scale_shift: bool = field(True, "train", "time scales and shifts the features; else it is added, as in the paper")
    resample: bool = field(
        False, "train", "residual blocks halve and double the sides; else convolutions do, as in the paper"
    )

    guidance: float = field(
        1.0, "sample", "s of classifier-free guidance, eps_0 + s (eps_label - eps_0); 1 for none", ge=0
    )

    @model_validator(mode="after")
    def network_is_consistent(self) -> Self:
        check_sinusoids(self.widths[0])
        check_attention(self.widths, self.attention, {"heads": self.heads, "head_channels": self.head_channels})
        return self

    @model_validator(mode="after")
    def guidance_is_trained(self) -> Self:
        if self.guidance != 1 and not self.label_dropout:
            raise ValueError(f"guidance: {self.guidance:g} needs a model trained with label_dropout above 0")
        return self

    def check(self, data: DataSpec) -> None:
        if self.guidance != 1 and data.kind is None:
            raise ValueError(f"guidance: {self.guidance:g} needs a condition, and this job is not conditional")
        if self.context and not data.num_classes:
            raise ValueError(f"context: {self.context} needs labels, which this job is not given")

    def unet(
        self, in_channels: int, out_channels: int, data: DataSpec, waves: Sequence[int] = (), factor: int = 1
    ) -> UNet:
        """The network that these settings describe, under the conditions of `data`; the null class is the last.

        Its input may come `with_waves`, and with what `beside` puts there for images that are `factor` larger; both
        enter as far as they help.
        """
        spec = UNetSpec(
            in_channels=in_channels * (1 + 2 * len(waves)) + data.shown * factor**2,
            out_channels=out_channels,
            num_classes=data.num_classes + 1 if data.num_classes and self.label_dropout else data.num_classes,
            **{name: getattr(self, name) for name in NETWORK} | self.told(data.condition),
        )
        net = UNet(spec)
        with torch.no_grad():
            net.stem.weight[:, in_channels * self.patch**2 :] = 0
        return net

    def times_under(self, kind: Kind | None) -> Times:
        """How the simple loss draws times in a job under conditions of this kind."""
        if self.times == "auto":
            return "uniform" if kind in PLACED else "logit_normal"
        return self.times

    def told(self, condition: ConditionSpec | None) -> dict[str, int]:
        """What a `UNetSpec` is told of text, or of a vector, that it is conditioned on."""
        if condition is None:
            return {}
        if condition.kind == "text":
            _, *encoded = condition.shape
            context = WORD_CHANNELS if self.words == "tokens" else 0
            return {"words": condition.size, "encoded": encoded[0] if encoded else 0, "context": context}
        return {"vector": condition.shape[0]} if condition.kind == "vector" else {}

    def kept(self, given: Given, num_classes: int) -> Given:
        """The conditions for training: each replaced by the null condition with probability `label_dropout`."""
        if given is None or not self.label_dropout:
            return given
        return dropped(given, torch.rand(len(given), device=given.device) < self.label_dropout, num_classes)

    def images_per_update(self, shape: tuple[int, int, int]) -> int:
        """A power of two: the time of a step hardly depends on the number of small images, and noise averages out."""
        _, height, width = shape
        small = 2 ** int(math.log2(max(1, PIXELS // (height * width))))
        return self.batch_size or min(max(small, LEAST_BATCH), MOST_BATCH)

    def calls(self, evaluations: int) -> int:
        """The network calls of so many evaluations: guidance asks twice."""
        return evaluations if self.guidance == 1 else 2 * evaluations
