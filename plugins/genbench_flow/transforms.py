"""Elementwise maps of a flow: the front, logit or linear, and the transforms of couplings: affine, spline, logistic."""

import math
from typing import Protocol

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from genbench.images import LEVELS

MIN_BIN = 1e-3
MIN_SLOPE = 1e-3
UNIT_SLOPE = math.log(math.expm1(1 - MIN_SLOPE))
MAX_LOG_SCALE = 3.0
LEAST = 1e-6
"""How near to an end of its box a logistic takes a value to be, in units of its scale, so that its logit is finite."""
INK = 0.2
"""The share of black and white values from which a logit is the front; photographs have a few per cent."""
SCALE = 0.3
"""Of what a network sees: logits of levels, which reach several units, come to the size its weights begin with."""


class Transform(Protocol):
    """An elementwise map of values, with parameters from a network."""

    parameters_each: int
    placed: bool
    """Whether the first parameter says where a value is, in the units that networks see."""

    def __call__(self, x: Tensor, parameters: Tensor) -> tuple[Tensor, Tensor]:
        """`x` (...), `parameters` (..., parameters_each); returns y and log dy/dx, (...) each."""
        ...

    def inverse(self, y: Tensor, parameters: Tensor) -> Tensor:
        """The x (...) that the map takes to y."""
        ...


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
        return logistic_log_prob(y) - math.log(1 - 2 * self.alpha)


class LinearFront(nn.Module):
    """y = bound * x, from [-1, 1] to [-bound, bound]: pixels as they are, in a range that suits the couplings."""

    def __init__(self, bound: float = 6.0) -> None:
        super().__init__()
        self.bound = bound

    def forward(self, x: Tensor, labels: Tensor | None = None) -> tuple[Tensor, Tensor]:
        return self.bound * x, x.new_full((len(x),), math.log(self.bound) * x[0].numel())

    def inverse(self, y: Tensor, labels: Tensor | None = None) -> Tensor:
        return y / self.bound

    def uniform_log_prob(self, y: Tensor) -> Tensor:
        return torch.full_like(y, -math.log(2 * self.bound))


class FittedFront(nn.Module):
    """A logit for images much of which is black or white, as ink on paper is; for others a factor, to the same box.

    A logit widens the ends of the range; a density that is bent there leaves stray black and white pixels in images
    that have few.
    """

    inked: Tensor

    def __init__(self, alpha: float) -> None:
        super().__init__()
        self.logit = LogitFront(alpha)
        self.linear, self.bound = LinearFront(self.logit.bound), self.logit.bound
        self.register_buffer("inked", torch.zeros((), dtype=torch.bool))

    def fit(self, images: Tensor) -> None:
        """Choose by images in [-1, 1], which may be dequantised."""
        self.inked.copy_((images.abs() > 1 - 2 / LEVELS).float().mean() > INK)

    def forward(self, x: Tensor, labels: Tensor | None = None) -> tuple[Tensor, Tensor]:
        (y, slope), (plain, plain_slope) = self.logit(x), self.linear(x)
        return torch.where(self.inked, y, plain), torch.where(self.inked, slope, plain_slope)

    def inverse(self, y: Tensor, labels: Tensor | None = None) -> Tensor:
        return torch.where(self.inked, self.logit.inverse(y), self.linear.inverse(y))

    def uniform_log_prob(self, y: Tensor) -> Tensor:
        """Log density, elementwise, of what a uniform x on [-1, 1) becomes."""
        return torch.where(self.inked, self.logit.uniform_log_prob(y), self.linear.uniform_log_prob(y))


Front = LogitFront | LinearFront | FittedFront


class Affine(nn.Module):
    """y = (x + shift) exp(log_scale), |log_scale| < 3 (Dinh et al. 2017, equation 7, with a bounded scale)."""

    parameters_each = 2
    placed = False

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

    placed = False

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


class Logistic(nn.Module):
    """z = spline(logit F(x)): F is the distribution function of a logistic, cut to the box [-bound, bound].

    Its centre and log-scale are the first parameters: a network says where a value is by one number, which a linear map
    of its neighbours predicts well (`placed`), and bends the density by the spline. Maps the box to the real line, in
    logits, since values of F near 1 would be rounded to it. Source: Ho et al. 2019, section 3.2, whose mixture of
    logistics is one logistic and a spline here.
    """

    placed = True
    reach = 8.0
    max_log_scale = 6.0

    def __init__(self, bins: int, bound: float) -> None:
        super().__init__()
        self.bound, self.spline = bound, Spline(bins, self.reach)
        self.parameters_each = 2 + self.spline.parameters_each

    def units(self, parameters: Tensor) -> tuple[Tensor, ...]:
        """The logistic's centre and log-scale (...), and both ends of the box in its units."""
        centre, raw = parameters[..., 0] / SCALE, parameters[..., 1]
        log_scale = math.log(self.bound / 3) + self.max_log_scale * torch.tanh(raw / self.max_log_scale)
        slope = (-log_scale).exp()
        return centre, log_scale, (-self.bound - centre) * slope, (self.bound - centre) * slope

    def forward(self, x: Tensor, parameters: Tensor) -> tuple[Tensor, Tensor]:
        """`x` (...), `parameters` (..., 3K + 3); returns z and log dz/dx, (...) each."""
        centre, log_scale, low, high = self.units(parameters)
        y = (x - centre) * (-log_scale).exp()
        below, above = (y - low).clamp_min(LEAST), (high - y).clamp_min(LEAST)
        w = y + F.logsigmoid(-low) - F.logsigmoid(high) + _log1mexp(below) - _log1mexp(above)
        z, change = self.spline(w, parameters[..., 2:])
        return z, change + torch.log(1 + _odds(below) + _odds(above)) - log_scale

    def inverse(self, z: Tensor, parameters: Tensor) -> Tensor:
        centre, log_scale, low, high = self.units(parameters)
        w = self.spline.inverse(z, parameters[..., 2:]) - F.logsigmoid(-low) + F.logsigmoid(high)
        y = torch.logaddexp(w, low) - F.softplus(w - high)
        return (centre + y * log_scale.exp()).clamp(-self.bound, self.bound)


def logistic_log_prob(z: Tensor) -> Tensor:
    """Log density of a standard logistic, elementwise."""
    return F.logsigmoid(z) + F.logsigmoid(-z)


def _log1mexp(x: Tensor) -> Tensor:
    """log(1 - exp(-x)) for x > 0."""
    return (-torch.expm1(-x)).log()


def _odds(x: Tensor) -> Tensor:
    """1 / (exp(x) - 1) for x > 0, whose gradient is finite for a large x too."""
    return torch.exp(-x) / -torch.expm1(-x)
