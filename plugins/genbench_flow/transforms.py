"""Elementwise maps of a flow: the front, logit or linear, and the transforms of couplings, affine or spline."""

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

MIN_BIN = 1e-3
MIN_SLOPE = 1e-3
UNIT_SLOPE = math.log(math.expm1(1 - MIN_SLOPE))
MAX_LOG_SCALE = 3.0


class LogitFront(nn.Module):
    """y = logit(alpha + (1 - 2 alpha) (x + 1)/2), from [-1, 1] to [-bound, bound] (Dinh et al. 2017, section 4.1)."""

    def __init__(self, alpha: float) -> None:
        super().__init__()
        self.alpha = alpha
        self.bound = math.log((1 - alpha) / alpha)

    def forward(self, x: Tensor, labels: Tensor | None = None) -> tuple[Tensor, Tensor]:
        p = self.alpha + (1 - 2 * self.alpha) * (x + 1) / 2
        slope = math.log((1 - 2 * self.alpha) / 2) - p.log() - (1 - p).log()
        return torch.logit(p), slope.flatten(1).sum(1)

    def inverse(self, y: Tensor, labels: Tensor | None = None) -> Tensor:
        return (y.sigmoid() - self.alpha) / (1 - 2 * self.alpha) * 2 - 1

    def uniform_log_prob(self, y: Tensor) -> Tensor:
        """Log density, elementwise, of what a uniform x on [-1, 1) becomes: a logistic, cut to the box."""
        return F.logsigmoid(y) + F.logsigmoid(-y) - math.log(1 - 2 * self.alpha)


class LinearFront(nn.Module):
    """y = bound * x, from [-1, 1] to [-bound, bound]: pixels as they are, in a range that suits the couplings."""

    bound = 6.0

    def forward(self, x: Tensor, labels: Tensor | None = None) -> tuple[Tensor, Tensor]:
        return self.bound * x, x.new_full((len(x),), math.log(self.bound) * x[0].numel())

    def inverse(self, y: Tensor, labels: Tensor | None = None) -> Tensor:
        return y / self.bound

    def uniform_log_prob(self, y: Tensor) -> Tensor:
        return torch.full_like(y, -math.log(2 * self.bound))


class Affine(nn.Module):
    """y = (x + shift) exp(log_scale), |log_scale| < 3 (Dinh et al. 2017, equation 7, with a bounded scale)."""

    parameters_each = 2

    def scale(self, parameters: Tensor) -> tuple[Tensor, Tensor]:
        shift, raw = parameters.unbind(-1)
        return shift, MAX_LOG_SCALE * torch.tanh(raw / MAX_LOG_SCALE)

    def forward(self, x: Tensor, parameters: Tensor) -> tuple[Tensor, Tensor]:
        """`x` (...), `parameters` (..., 2); returns y and log dy/dx, (...) each."""
        shift, log_scale = self.scale(parameters)
        return (x + shift) * log_scale.exp(), log_scale

    def inverse(self, y: Tensor, parameters: Tensor) -> Tensor:
        shift, log_scale = self.scale(parameters)
        return y * (-log_scale).exp() - shift


class Spline(nn.Module):
    """Monotone rational-quadratic spline from [-bound, bound] to itself, the identity outside (Durkan et al. 2019).

    Widths, heights and all slopes at the knots are free, so that a hard edge of the box needs no tail.
    """

    def __init__(self, bins: int, bound: float) -> None:
        super().__init__()
        self.bins, self.bound = bins, bound
        self.parameters_each = 3 * bins + 1

    def knots(self, raw: Tensor) -> Tensor:
        """Edges (..., K + 1) of bins (..., K). The softmax is written out: over a short axis it is faster."""
        weight = raw.clamp(-12, 12).exp()
        share = MIN_BIN + (1 - MIN_BIN * self.bins) * weight / weight.sum(-1, keepdim=True)
        return 2 * self.bound * F.pad(share.cumsum(-1), (1, 0)) - self.bound

    def bin(self, value: Tensor, parameters: Tensor, inverse: bool) -> tuple[Tensor, ...]:
        """The bin that holds `value`: its left x and y, width, height, and the slopes at its two ends."""
        sizes, slopes = torch.split_with_sizes(parameters, (2 * self.bins, self.bins + 1), -1)
        edges = self.knots(sizes.reshape(*value.shape, 2, self.bins))
        inner = edges[..., int(inverse), 1:-1].detach().contiguous()
        k = torch.searchsorted(inner, value.detach()[..., None].contiguous(), right=True)
        ends = torch.cat([k, k + 1], -1)
        d0, d1 = (MIN_SLOPE + F.softplus(slopes.gather(-1, ends) + UNIT_SLOPE)).unbind(-1)
        corner, opposite = edges.gather(-1, ends[..., None, :].expand(*k.shape[:-1], 2, 2)).unbind(-1)
        (left, bottom), (width, height) = corner.unbind(-1), (opposite - corner).unbind(-1)
        return left, bottom, width, height, d0, d1

    def forward(self, x: Tensor, parameters: Tensor) -> tuple[Tensor, Tensor]:
        """`x` (...), `parameters` (..., 3K + 1); returns y and log dy/dx, (...) each (equations 4 and 5)."""
        inside = x.clamp(-self.bound, self.bound)
        left, bottom, width, height, d0, d1 = self.bin(inside, parameters, inverse=False)
        s, t = height / width, (inside - left) / width
        u = t * (1 - t)
        bend = s + (d0 + d1 - 2 * s) * u
        y = bottom + height * (s * t * t + d0 * u) / bend
        log_slope = 2 * s.log() + (d1 * t * t + 2 * s * u + d0 * (1 - t) ** 2).log() - 2 * bend.log()
        within = x.abs() <= self.bound
        return torch.where(within, y, x), torch.where(within, log_slope, 0.0)

    def inverse(self, y: Tensor, parameters: Tensor) -> Tensor:
        """The x (...) that `forward` maps to y: the root of equation 6, in the form without cancellation."""
        inside = y.clamp(-self.bound, self.bound)
        left, bottom, width, height, d0, d1 = self.bin(inside, parameters, inverse=True)
        s, rise = height / width, inside - bottom
        bend = rise * (d0 + d1 - 2 * s)
        a, b, c = height * (s - d0) + bend, height * d0 - bend, -s * rise
        t = 2 * c / (-b - (b * b - 4 * a * c).clamp_min(0).sqrt())
        return torch.where(y.abs() <= self.bound, left + t.clamp(0, 1) * width, y)
