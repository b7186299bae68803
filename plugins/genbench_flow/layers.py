"""Couplings, their networks, and the levels built of them.

A layer maps `x, labels` to `y, log_det`, with log |det dy/dx| in nats per image (B,), and its `inverse` maps back.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from genbench.condition import Given
from genbench_flow.transforms import SCALE, Transform


class Network(nn.Module):
    """A small residual network: `channels` (B, c, H, W) to `outputs` (B, o, H, W), which start at zero.

    It knows its position (a learned bias for every pixel) and, with `num_classes` > 0, the class. With `shown` it sees
    so many channels of a condition's maps of an `image`, whose pixels it takes in squares of `factor`: the fainter the
    more there are, since a step of Adam moves the weights of all of them by as much. With `places`, one output in so
    many has a linear map of the context added.
    """

    def __init__(
        self,
        channels: int,
        outputs: int,
        width: int,
        blocks: int,
        size: tuple[int, int],
        kernel: int,
        num_classes: int,
        shown: int = 0,
        factor: int = 1,
        places: int = 0,
        image: tuple[int, int] = (1, 1),
    ) -> None:
        super().__init__()
        self.factor, self.places, self.image = factor, places, image
        self.first = nn.Conv2d(channels, width, kernel, padding="same")
        self.shown = nn.Conv2d(shown * factor**2, width, kernel, padding="same", bias=False) if shown else None
        self.place = nn.Parameter(torch.zeros(width, *size))
        self.labels = nn.Embedding(num_classes, width) if num_classes else None
        self.blocks = nn.ModuleList(nn.Conv2d(width, width, kernel, padding="same") for _ in range(blocks))
        self.last = nn.Conv2d(width, outputs, 1)
        self.linear = nn.Conv2d(channels, outputs // places, kernel, padding="same", bias=False) if places else None
        for weights in (self.last.weight, self.last.bias, *(self.linear.parameters() if self.linear else ())):
            nn.init.zeros_(weights)
        self.to(memory_format=torch.channels_last)

    def features(self, context: Tensor, given: Given) -> Tensor:
        """What the residual blocks leave, (B, width, H, W)."""
        h: Tensor = self.first(context * SCALE) + self.place
        if self.labels is not None:
            h = h + self.labels(given)[:, :, None, None]
        if self.shown is not None:
            below, right = (n * self.factor - side for n, side in zip(context.shape[2:], self.image))
            maps = F.pad(given.maps(self.image), (0, right, 0, below), mode="replicate")
            h = h + self.shown(F.pixel_unshuffle(maps, self.factor).to(context.dtype) * (SCALE / self.factor))
        for block in self.blocks:
            h = h + block(F.silu(h))
        return h

    def forward(self, context: Tensor, labels: Given) -> Tensor:
        outputs: Tensor = self.last(F.silu(self.features(context, labels)))
        if self.linear is not None:
            outputs[:, :: self.places] += self.linear(context * SCALE)
        return outputs

    def at(self, pixels: Tensor, context: Tensor, labels: Given) -> Tensor:
        """The outputs (B, N, o) of N pixels, by their places in a row of all."""
        outputs = F.linear(
            F.silu(_rows(self.features(context, labels), pixels)), self.last.weight.flatten(1), self.last.bias
        )
        if self.linear is not None:
            outputs[..., :: self.places] += _rows(self.linear(context * SCALE), pixels)
        return outputs


def _rows(maps: Tensor, pixels: Tensor) -> Tensor:
    """The pixels of maps (B, C, H, W), by their places in a row of all, (B, N, C)."""
    return maps.permute(0, 2, 3, 1).flatten(1, 2).index_select(1, pixels)


class Constant(nn.Module):
    """The network of a coupling without context: `outputs` learned numbers, per class if there are classes."""

    def __init__(self, outputs: int, num_classes: int) -> None:
        super().__init__()
        self.value = nn.Parameter(torch.zeros(max(num_classes, 1), outputs))

    def forward(self, context: Tensor, labels: Given) -> Tensor:
        value = self.value[labels] if isinstance(labels, Tensor) else self.value.expand(len(context), -1)
        return value[:, :, None, None].expand(-1, -1, *context.shape[2:])


class ActNorm(nn.Module):
    """y = (x + bias) exp(log_scale), per channel (Kingma & Dhariwal 2018, section 3.1).

    If `pending` is set, both are chosen from the next batch, so that it comes out standardised.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.bias = nn.Parameter(torch.zeros(channels, 1, 1))
        self.log_scale = nn.Parameter(torch.zeros(channels, 1, 1))
        self.pending = False

    def fit(self, x: Tensor) -> None:
        """Choose bias and scale so that each channel of `x` (B, C, H, W) comes out with mean 0 and deviation 1."""
        deviation, mean = torch.std_mean(x, dim=(0, 2, 3), keepdim=True)
        self.bias.data = -mean[0]
        self.log_scale.data = -deviation[0].clamp_min(1e-3).log()
        self.pending = False

    def forward(self, x: Tensor, labels: Given = None) -> tuple[Tensor, Tensor]:
        """x (B, C, H, W) to y of the same shape, and log |det dy/dx| (B,), the same for every image."""
        if self.pending:
            self.fit(x)
        log_det = self.log_scale.sum() * (x.shape[2] * x.shape[3])
        return (x + self.bias) * self.log_scale.exp(), log_det.expand(len(x))

    def inverse(self, y: Tensor, labels: Given = None) -> Tensor:
        """The x (B, C, H, W) that `forward` maps to y."""
        return y * (-self.log_scale).exp() - self.bias


class Coupling(nn.Module):
    """Transforms the channels `target`, elementwise, by parameters from a network of the channels `context`.

    All other channels pass as they are, and of the target those pixels that are not `inside`, bool (T, H, W), become 0.
    Source: Dinh et al. 2015. Raises ValueError if the two overlap.
    """

    target: Tensor
    context: Tensor
    inside: Tensor | None

    def __init__(
        self,
        target: Sequence[int],
        context: Sequence[int],
        network: nn.Module,
        transform: Transform,
        inside: Tensor | None = None,
    ) -> None:
        super().__init__()
        if set(target) & set(context):
            raise ValueError("a coupling's target and context overlap")
        self.register_buffer("target", torch.tensor(target), persistent=False)
        self.register_buffer("context", torch.tensor(context, dtype=torch.long), persistent=False)
        self.network, self.transform = network, transform
        if inside is not None and inside.all():
            inside = None
        self.register_buffer("inside", None if inside is None else self.placed(inside), persistent=False)

    def placed(self, inside: Tensor) -> Tensor:
        """What is inside, as `parts` has the target."""
        return inside.permute(1, 2, 0)

    def within(self, values: Tensor) -> Tensor:
        """Values of the target with 0 outside of the image."""
        return values if self.inside is None else values * self.inside

    def seen(self, x: Tensor) -> Tensor:
        """What the network sees of x (B, C, H, W), in the network's precision."""
        return x.index_select(1, self.context).to(next(self.network.parameters()).dtype)

    def parts(self, x: Tensor, labels: Given) -> tuple[Tensor, Tensor]:
        """The target (B, H, W, T) and its parameters (B, H, W, T, P), in the precision of x.

        Only the network computes in its own precision, or in that of autocast.
        """
        parameters = self.network(self.seen(x), labels).to(x.dtype).permute(0, 2, 3, 1)
        target = x.index_select(1, self.target).permute(0, 2, 3, 1)
        return target, parameters.reshape(*target.shape, self.transform.parameters_each)

    def put(self, x: Tensor, target: Tensor) -> Tensor:
        """x (B, C, H, W) with the target channels replaced by `target` (B, H, W, T)."""
        return x.index_copy(1, self.target, target.permute(0, 3, 1, 2))

    def forward(self, x: Tensor, labels: Given = None) -> tuple[Tensor, Tensor]:
        """x (B, C, H, W) to y of the same shape, and log |det dy/dx| (B,)."""
        y, log_slope = self.transform(*self.parts(x, labels))
        return self.put(x, self.within(y)), self.within(log_slope).flatten(1).sum(1)

    def inverse(self, y: Tensor, labels: Given = None) -> Tensor:
        """The x (B, C, H, W) that `forward` maps to y: the context is the same in both, and so are the parameters."""
        return self.put(y, self.within(self.transform.inverse(*self.parts(y, labels))))


class Level(nn.Module):
    """Squeeze, layers, split: the squeezed channels `keep` go on to the next level, the others are latents."""

    keep: Tensor
    leave: Tensor

    def __init__(
        self, factor: tuple[int, int], channels: int, keep: Sequence[int], layers: Sequence[nn.Module]
    ) -> None:
        super().__init__()
        leave = [channel for channel in range(channels) if channel not in set(keep)]
        self.register_buffer("keep", torch.tensor(keep, dtype=torch.long), persistent=False)
        self.register_buffer("leave", torch.tensor(leave), persistent=False)
        self.factor, self.layers = factor, nn.ModuleList(layers)

    def forward(self, x: Tensor, labels: Given = None) -> tuple[Tensor, Tensor, Tensor]:
        """x (B, C, H, W) to what goes on (B, K, H/f, W/g), the latents (B, L, H/f, W/g) and log |det| (B,)."""
        x, log_det = squeeze(x, self.factor), x.new_zeros(len(x))
        for layer in self.layers:
            x, change = layer(x, labels)
            log_det = log_det + change
        return x[:, self.keep], x[:, self.leave], log_det

    def inverse(self, kept: Tensor, latents: Tensor, labels: Given = None) -> Tensor:
        """The x (B, C, H, W) that `forward` maps to these two."""
        channels = len(self.keep) + len(self.leave)
        y = latents.new_empty(len(latents), channels, *latents.shape[2:])
        y = y.index_copy(1, self.leave, latents).index_copy(1, self.keep, kept)
        for layer in reversed(self.layers):
            y = layer.inverse(y, labels)  # type: ignore[operator]
        return unsqueeze(y, self.factor)


def squeeze(x: Tensor, factor: tuple[int, int]) -> Tensor:
    """(B, C, H, W) to (B, C f g, H/f, W/g): place (i, j) of channel c's patches becomes channel (c f + i) g + j."""
    (b, c, h, w), (f, g) = x.shape, factor
    return x.reshape(b, c, h // f, f, w // g, g).permute(0, 1, 3, 5, 2, 4).reshape(b, c * f * g, h // f, w // g)


def unsqueeze(x: Tensor, factor: tuple[int, int]) -> Tensor:
    """The inverse of `squeeze`."""
    (b, c, h, w), (f, g) = x.shape, factor
    return x.reshape(b, c // (f * g), f, g, h, w).permute(0, 1, 4, 2, 5, 3).reshape(b, c // (f * g), h * f, w * g)
