"""Diffusion as in Ho et al. 2020: the forward process, its posterior, the objectives and the variational bound.

Nothing here knows how a network is built: a `Network` is the raw prediction for (x_t, t), and `Diffusion.denoiser`
turns it into a `Denoiser`. Time runs over t = 1..T as in the paper, and t = 0 is the data. Tables are float64, indexed
by t.
"""

import math
from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Literal, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from genbench.distributions import discretized_gaussian, evenly_spread, normal_log_prob

Network = Callable[[Tensor, Tensor], Tensor]
"""(x_t, t) -> what the network predicts: x_t is (B, C, ...), t is int64 (B,); 2C channels if it learns the variance."""


class Estimate(NamedTuple):
    """What x_t says of x_{t-1}: the estimate of x_0, and the variance sigma_t^2, which broadcasts with it.

    `fraction` is what a network that learns the variance said of it: a respaced process reads it in its own way.
    """

    x0: Tensor
    variance: Tensor
    fraction: Tensor | None = None


Denoiser = Callable[[Tensor, Tensor], Estimate]
"""(x_t, t) -> both parts of the reverse step."""
Prediction = Literal["eps", "x0", "v", "mean", "shift"]
Variance = Literal["beta", "posterior", "learned", "free"]
LEARNED = ("learned", "free")
"""The variances for which a network has one more output per dimension."""
Times = Literal["uniform", "logit_normal"]


def drawn_shares(times: Times, count: int, device: torch.device) -> Tensor:
    """Fractions of the way between data and noise at which to train, (count,), spread evenly over the batch.

    `logit_normal` has sigmoid(z), z ~ N(0, 1), and so favours the times at which the image takes shape. Source: Esser
    et al. 2024, equation 19.
    """
    shares = evenly_spread(count, device)
    return shares if times == "uniform" else torch.special.ndtri(shares).sigmoid()


def linear_betas(steps: int, start: float = 1e-4, end: float = 0.02) -> Tensor:
    """beta_1 = start to beta_T = end in equal steps, float64 (T,). Source: Ho et al. 2020, section 4."""
    return torch.linspace(start, end, steps, dtype=torch.float64)


def scaled_linear_betas(steps: int, start: float, end: float) -> Tensor:
    """beta_1 = start to beta_T = end, equal steps of the square root, float64 (T,): latent diffusion's schedule."""
    return torch.linspace(start**0.5, end**0.5, steps, dtype=torch.float64) ** 2


def cosine_betas(steps: int, offset: float = 0.008, largest: float = 0.999) -> Tensor:
    """The betas, float64 (T,), by which alpha_bar falls as a squared cosine. Source: Nichol & Dhariwal 2021, eq. 17."""
    time = torch.linspace(0, 1, steps + 1, dtype=torch.float64)
    alpha_bar = torch.cos((time + offset) / (1 + offset) * math.pi / 2) ** 2
    return (1 - alpha_bar[1:] / alpha_bar[:-1]).clamp(max=largest)


def erasing_betas(steps: int) -> Tensor:
    """beta_t = 1 / (T - t + 1), float64 (T,): every step erases an equal part of the image, alpha_bar_t = 1 - t / T.

    Source: Sohl-Dickstein et al. 2015, section 2.4.1, and its footnote for continuous data.
    """
    return 1 / torch.arange(steps, 0, -1, dtype=torch.float64)


def per_image(values: Tensor) -> Tensor:
    """(B, ...) summed to float64 (B,)."""
    return values.double().flatten(1).sum(1)


class Diffusion(nn.Module):
    """The process that `betas`, float64 (T,), define; what the network predicts; and the reverse variance sigma_t^2.

    `variance` is `beta`, sigma_t^2 = beta_t, or `posterior`, that of q(x_{t-1} | x_t, x_0) with beta_1 at t = 1, where
    the posterior's is 0: the two extremes of Ho et al. 2020, section 3.2. If it is `learned` or `free`, the network has
    one more output per dimension. It leads from the posterior's variance (at t = 1 that of t = 2) at -1 to beta_t at 1,
    or, if free, from beta_t at 0 anywhere in (0, 1). `levels` are lambda_t = log(signal_t / noise_t), t = 0..T, as
    numbers, by which samplers choose their times wherever the tables are.
    """

    beta: Tensor
    alpha_bar: Tensor
    signal: Tensor
    noise: Tensor
    posterior_x0: Tensor
    posterior_xt: Tensor
    posterior_variance: Tensor
    log_range: Tensor
    sigma2: Tensor

    def __init__(
        self,
        betas: Tensor,
        prediction: Prediction = "eps",
        variance: Variance = "beta",
        times: Times = "uniform",
        levels: Sequence[float] = (),
    ) -> None:
        super().__init__()
        self.steps = len(betas)
        self.prediction, self.variance_kind, self.times = prediction, variance, times
        self.learned, self.free = variance in LEARNED, variance == "free"
        beta = F.pad(betas.double(), (1, 0))
        alpha_bar = torch.cumprod(1 - beta, dim=0)
        before = alpha_bar.roll(1)
        rest = (1 - alpha_bar).where(beta > 0, torch.ones_like(beta))
        posterior_variance = beta * (1 - before) / rest
        inner = torch.arange(self.steps + 1) > 1
        sigma2 = beta if variance == "beta" else posterior_variance.where(inner, beta)
        least = posterior_variance.where(inner, posterior_variance[2] if self.steps > 1 else beta)
        tables = {
            "beta": beta,
            "alpha_bar": alpha_bar,
            "signal": alpha_bar.sqrt(),
            "noise": (1 - alpha_bar).sqrt(),
            "posterior_x0": before.sqrt() * beta / rest,
            "posterior_xt": (1 - beta).sqrt() * (1 - before) / rest,
            "posterior_variance": posterior_variance,
            "log_range": torch.stack([least.log(), beta.log()]),
            "sigma2": sigma2,
        }
        for name, table in tables.items():
            self.register_buffer(name, table, persistent=False)
        of_meta = alpha_bar.is_meta  # as where parameters alone are counted: there are no numbers
        self.levels: Sequence[float] = () if of_meta else levels or torch.logit(alpha_bar).div(2).tolist()

    def at(self, table: Tensor, t: Tensor, like: Tensor) -> Tensor:
        """The entries of `table` at times (B,), with the dtype of `like`, shaped to broadcast with it."""
        return table[t].to(like.dtype).view(-1, *[1] * (like.dim() - 1))

    def respaced(self, times: Sequence[int]) -> "Diffusion":
        """The shorter process through these of the times 1..T, ascending: it keeps their alpha_bars.

        Its betas follow from these. If all times are kept, it is the process itself. Source: Nichol & Dhariwal 2021,
        section 4, equation 19.
        """
        if len(times) == self.steps:
            return self
        kept = self.alpha_bar[[0, *times]].cpu()
        betas = 1 - kept[1:] / kept[:-1]
        levels = [self.levels[t] for t in (0, *times)]
        return Diffusion(betas, self.prediction, self.variance_kind, self.times, levels).to(self.beta.device)

    def per_mille(self, t: Tensor) -> Tensor:
        """Times (B,) on a scale of 0 to 1,000, which suits a network's embedding of time whatever T is."""
        return t * (1000 / self.steps)

    def diffuse(self, x0: Tensor, t: Tensor, eps: Tensor) -> Tensor:
        """x_t ~ q(x_t | x_0), given standard normal noise. Source: Ho et al. 2020, eq. 4."""
        return self.at(self.signal, t, x0) * x0 + self.at(self.noise, t, x0) * eps

    def posterior_mean(self, x0: Tensor, x_t: Tensor, t: Tensor) -> Tensor:
        """The mean of q(x_{t-1} | x_t, x_0); its variance is `posterior_variance`. Source: Ho et al. 2020, eq. 7."""
        return self.at(self.posterior_x0, t, x0) * x0 + self.at(self.posterior_xt, t, x0) * x_t

    def target(self, x0: Tensor, eps: Tensor, t: Tensor) -> Tensor:
        """What the network should predict.

        Sources: Ho et al. 2020, section 3.2; v: Salimans & Ho 2022, appendix D; `shift`, by how much the reverse step's
        mean differs from the forward step's, in units of its noise: the authors' code of Sohl-Dickstein et al. 2015.
        """
        if self.prediction == "eps":
            return eps
        if self.prediction == "x0":
            return x0
        if self.prediction == "v":
            return self.at(self.signal, t, x0) * eps - self.at(self.noise, t, x0) * x0
        x_t = self.diffuse(x0, t, eps)
        mean = self.posterior_mean(x0, x_t, t)
        if self.prediction == "mean":
            return mean
        beta = self.at(self.beta, t, x0)
        return (mean - (1 - beta).sqrt() * x_t) / beta.sqrt()

    def parts(self, output: Tensor) -> tuple[Tensor, Tensor | None]:
        """A network's output, split into the prediction and, if the variance is learned, what says it."""
        if not self.learned:
            return output, None
        prediction, fraction = output.chunk(2, dim=1)
        return prediction, fraction

    def variance(self, x_t: Tensor, t: Tensor, fraction: Tensor | None) -> Tensor:
        """sigma_t^2, from the table or log-interpolated between its extremes. Source: Nichol & Dhariwal 2021, eq. 15.

        Their v is (1 + `fraction`) / 2, so that a network that starts at 0 starts half-way. If it is free, its logit is
        that of beta_t plus a share of the network's output. Source: Sohl-Dickstein et al. 2015, equation 64.
        """
        if fraction is None:
            return self.at(self.sigma2, t, x_t)
        if self.free:
            return (self.at(self.beta.logit(), t, x_t) + fraction / math.sqrt(self.steps)).sigmoid()
        least, most = (self.at(table, t, x_t) for table in self.log_range)
        return torch.lerp(least, most, (1 + fraction) / 2).exp()

    def denoiser(self, network: Network, clip: bool = False) -> Denoiser:
        """The estimates that a network's output stands for; `clip` keeps x_0 in [-1, 1], for images."""

        def denoise(x_t: Tensor, t: Tensor) -> Estimate:
            predicted, fraction = self.parts(network(x_t, t).to(x_t.dtype))
            if self.prediction == "eps":
                x0 = (x_t - self.at(self.noise, t, x_t) * predicted) / self.at(self.signal, t, x_t)
            elif self.prediction == "x0":
                x0 = predicted
            elif self.prediction == "v":
                x0 = self.at(self.signal, t, x_t) * x_t - self.at(self.noise, t, x_t) * predicted
            else:
                mean = predicted if self.prediction == "mean" else self.shifted(x_t, t, predicted)
                x0 = (mean - self.at(self.posterior_xt, t, x_t) * x_t) / self.at(self.posterior_x0, t, x_t)
            return Estimate(x0.clamp(-1, 1) if clip else x0, self.variance(x_t, t, fraction), fraction)

        return denoise

    def shifted(self, x_t: Tensor, t: Tensor, shift: Tensor) -> Tensor:
        """The mean of the reverse step that differs from the forward step's by a multiple `shift` of its noise."""
        beta = self.at(self.beta, t, x_t)
        return (1 - beta).sqrt() * x_t + beta.sqrt() * shift

    def guided(self, network: Network, unconditional: Network, scale: float) -> Network:
        """The prediction pushed away from the unconditional one; 1 leaves it as is. Source: Ho & Salimans 2022, eq. 6.

        Their weight w is `scale` - 1. Every kind of prediction is affine in the noise, so this holds for all. A
        learned variance is that of `network`.
        """

        def guide(x_t: Tensor, t: Tensor) -> Tensor:
            (with_label, fraction), (without, _) = (self.parts(ask(x_t, t)) for ask in (network, unconditional))
            prediction = without + scale * (with_label - without)
            return prediction if fraction is None else torch.cat([prediction, fraction], dim=1)

        return guide

    def draw_times(self, x0: Tensor) -> Tensor:
        """Uniform times in 1..T, int64 (B,), spread evenly over the batch."""
        return self.times_at(evenly_spread(len(x0), x0.device))

    def draw_simple_times(self, x0: Tensor) -> Tensor:
        """Times in 1..T, int64 (B,), for L_simple, which may weight them freely."""
        return self.times_at(drawn_shares(self.times, len(x0), x0.device))

    def times_at(self, shares: Tensor) -> Tensor:
        """The times in 1..T, int64 (B,), at these fractions of the way from the data to the noise."""
        return (shares * self.steps).long().clamp(max=self.steps - 1) + 1

    def simple_loss(self, network: Network, x0: Tensor) -> Tensor:
        """L_simple: the mean squared error of the prediction. Source: Ho et al. 2020, eq. 14."""
        t, eps = self.draw_simple_times(x0), torch.randn_like(x0)
        prediction, _ = self.parts(network(self.diffuse(x0, t, eps), t))
        return F.mse_loss(prediction.float(), self.target(x0, eps, t))

    def variational_loss(self, network: Network, x0: Tensor, discrete: bool = True) -> Tensor:
        """The bound less the constant L_T, nats per dimension, from one t per image. Source: Ho et al. 2020, eq. 5."""
        terms = self.bound_term(self.denoiser(network), x0, self.draw_times(x0), discrete)
        return self.steps * terms.mean().float() / x0[0].numel()

    def hybrid_loss(self, network: Network, x0: Tensor, discrete: bool = True, weight: float = 1e-3) -> Tensor:
        """L_simple, which trains the prediction, and `weight` times the bound, which trains the learned variance alone.

        Both from one t and one network call per image. Source: Nichol & Dhariwal 2021, eq. 16.
        """
        t, eps = self.draw_times(x0), torch.randn_like(x0)
        x_t = self.diffuse(x0, t, eps)
        prediction, fraction = self.parts(network(x_t, t))
        assert fraction is not None
        stopped = torch.cat([prediction.detach(), fraction], dim=1)
        terms = self.term(self.denoiser(lambda *_: stopped)(x_t, t), x0, t, discrete)
        simple = F.mse_loss(prediction.float(), self.target(x0, eps, t))
        return simple + weight * self.steps * terms.mean().float() / x0[0].numel()

    def prior_term(self, x0: Tensor) -> Tensor:
        """L_T = KL(q(x_T | x_0) || N(0, I)), float64 nats (B,)."""
        last = self.alpha_bar[-1]
        return per_image(last * x0.double() ** 2 - last - torch.log1p(-last)) / 2

    def bound_term(self, denoise: Denoiser, x0: Tensor, t: Tensor, discrete: bool = True) -> Tensor:
        """L_{t-1} at times (B,) from one draw of x_t, float64 nats (B,)."""
        return self.term(denoise(self.diffuse(x0, t, torch.randn_like(x0)), t), x0, t, discrete)

    def term(self, estimate: Estimate, x0: Tensor, t: Tensor, discrete: bool = True) -> Tensor:
        """L_{t-1} of a reverse step, float64 nats (B,): a KL divergence; -log p(x_0 | x_1) at t = 1.

        The latter, L_0, is that of the 256 levels (`x0` holds bin centres) if `discrete`, else the Gaussian's density.
        Source: Ho et al. 2020, eq. 5, 8 and 13.
        """
        sigma2, tilde = estimate.variance.double(), self.at(self.posterior_variance, t, x0).double()
        gap = self.at(self.posterior_x0, t, x0) * (x0 - estimate.x0)
        ratio = torch.where(tilde > 0, tilde / sigma2, 1.0)
        terms = per_image(gap.double() ** 2 / sigma2 + ratio - 1 - ratio.log()) / 2
        first = t == 1
        if first.any():
            decoder = discretized_gaussian if discrete else _gaussian
            terms[first] = -per_image(decoder(x0[first], estimate.x0[first], sigma2[first].sqrt()))
        return terms

    def bound(
        self, denoise: Denoiser, x0: Tensor, exact: int = 4, strata: int = 0, discrete: bool = True
    ) -> dict[str, Tensor]:
        """L_T, the sum of L_{t-1} over t = 2..T, and L_0: float64 nats (B,) each, estimated without bias.

        t = 1..`exact` are summed; the rest is divided into `strata` geometric ranges of t, each estimated from one t
        drawn per image; `strata=0` sums all T terms. Every term takes one draw of x_t. The three sum to an upper bound
        on -log p(x_0).
        """
        inner = torch.zeros(len(x0), dtype=torch.float64, device=x0.device)
        for low, high in strata_of(self.steps, exact, strata)[1:]:
            t = torch.randint(low, high, (len(x0),), device=x0.device)
            inner += (high - low) * self.bound_term(denoise, x0, t, discrete)
        ones = torch.ones(len(x0), dtype=torch.int64, device=x0.device)
        return {"L_T": self.prior_term(x0), "L_t": inner, "L_0": self.bound_term(denoise, x0, ones, discrete)}

    def bound_over_time(self, denoise: Denoiser, x0: Tensor, discrete: bool = True) -> tuple[Tensor, Tensor]:
        """The times `times_of(T)` and the term L_{t-1} of each from one draw of x_t, float64 nats (times, B)."""
        times = torch.tensor(times_of(self.steps), device=x0.device)
        return times, torch.stack([self.bound_term(denoise, x0, t.expand(len(x0)), discrete) for t in times])


def times_of(steps: int, count: int = 60) -> list[int]:
    """At most `count` times from 1 to T, ascending, in geometric progression as far as whole numbers allow."""
    return sorted({round(steps ** (k / (count - 1))) for k in range(count)})


def strata_of(steps: int, exact: int, strata: int) -> list[tuple[int, int]]:
    """Half-open ranges that cover 1..T: one time each up to `exact`, then up to `strata` in geometric progression.

    The terms of the bound fall roughly as 1/t, so ranges of equal ratio carry equal shares of it.
    """
    exact = min(exact, steps) if strata else steps
    borders = list(range(1, exact + 2))
    for k in range(1, strata + 1):
        border = round((exact + 1) * ((steps + 1) / (exact + 1)) ** (k / strata))
        if border > borders[-1]:
            borders.append(border)
    return list(pairwise(borders))


def _gaussian(x: Tensor, mean: Tensor, std: Tensor) -> Tensor:
    return normal_log_prob(x.double(), mean.double(), std.double().log())
