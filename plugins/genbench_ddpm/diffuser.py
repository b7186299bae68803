"""What diffusion in pixels and in latents both have: a network on a diffusion process, used as the settings say."""

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional as F

from genbench import Condition, DataSpec
from genbench.condition import Given
from genbench.walks import Walk, end_of, reverse_chain
from genbench_ddpm.chains import between, forward_chain
from genbench_ddpm.classifier import UNetClassifier
from genbench_ddpm.diffusion import Denoiser, Diffusion, Network
from genbench_ddpm.guidance import Guide, class_guide, steered
from genbench_ddpm.guided import GuidedConfig
from genbench_ddpm.network import null
from genbench_ddpm.repaint import repaint

Predict = Callable[[Tensor, Tensor, Given], Tensor]
"""(x_t, t, given) -> what the network predicts."""


class Diffuser:
    """Objective, sampler and bound of a network that predicts on a diffusion process; it holds no parameters.

    `data` describes what is diffused, x: images or latents. If it is `discrete`, x holds the bin centres of images:
    estimates of x_0 are clipped to [-1, 1], and the bound is on the probability of the 256 levels. A `classifier` that
    learns the class of x_t guides samples by `classifier_scale` times its gradient. With `repeats`, holes are filled
    without training, each step being taken so often (`repaint`).
    """

    def __init__(
        self,
        predict: Predict,
        diffusion: Diffusion,
        config: GuidedConfig,
        data: DataSpec,
        discrete: bool = False,
        classifier: UNetClassifier | None = None,
        repeats: int = 0,
    ) -> None:
        self.predict, self.diffusion, self.config = predict, diffusion, config
        self.data, self.discrete = data, discrete
        self.classifier = classifier
        self.repeats = repeats

    @property
    def bound_note(self) -> str:
        """What `bound` computes, in a few words."""
        guided = self.config.guidance != 1 or self.config.classifier_scale
        return f"variational bound over all {self.diffusion.steps} steps{', without guidance' if guided else ''}"

    def network(self, given: Given) -> Network:
        """The prediction under conditions (B,), as a function of x_t and t alone."""
        return lambda x_t, t: self.predict(x_t, t, given)

    def denoiser(self, given: Given) -> Denoiser:
        """The network's estimates of x_0 and of the variance, without guidance."""
        return self.diffusion.denoiser(self.network(given), clip=self.discrete)

    def class_logits(self, x_t: Tensor, t: Tensor) -> Tensor:
        """What the classifier takes x_t at times (B,) to be, (B, classes)."""
        assert self.classifier is not None
        logits: Tensor = self.classifier(x_t, self.diffusion.per_mille(t))
        return logits

    def loss(self, x0: Tensor, given: Given) -> Tensor:
        """The chosen objective, some of the conditions left out if guidance is to be possible."""
        network = self.network(self.config.kept(given, self.data.num_classes))
        objective = self.config.objective
        if objective == "simple":
            return self.diffusion.simple_loss(network, x0)
        if objective == "hybrid":
            return self.diffusion.hybrid_loss(network, x0, self.discrete, self.config.vlb_weight)
        return self.diffusion.variational_loss(network, x0, self.discrete)

    def classifier_loss(self, x0: Tensor, labels: Tensor | None) -> dict[str, Tensor]:
        """The cross entropy of the labels (B,) given x_t at uniform times, nats, and the share that is told right."""
        assert labels is not None
        t = self.diffusion.draw_times(x0)
        logits = self.class_logits(self.diffusion.diffuse(x0, t, torch.randn_like(x0)), t).float()
        return {"loss": F.cross_entropy(logits, labels), "accuracy": (logits.argmax(1) == labels).float().mean()}

    def noise(self, n: int) -> Tensor:
        """x_T, (n, ...)."""
        return torch.randn(n, *self.data.shape, device=self.diffusion.beta.device)

    def guided(self, given: Given) -> Network:
        """The network that samples under these conditions (B,) are drawn with."""
        if self.config.guidance == 1 or given is None:
            return self.network(given)
        unconditional = self.network(null(given, self.data.num_classes))
        return self.diffusion.guided(self.network(given), unconditional, self.config.guidance)

    def guide(self, labels: Tensor | None) -> Guide | None:
        """Where the classifier leads samples of these labels (B,), if it does."""
        if not self.config.classifier_scale or labels is None:
            return None
        return class_guide(self.class_logits, labels, self.config.classifier_scale)

    def walk(self, noise: Tensor, given: Given, start: int | None = None) -> Walk:
        """The chosen sampler's way from noise, x_T or x_start, to samples under these conditions (B,)."""
        denoise = self.diffusion.denoiser(self.guided(given), clip=self.discrete)
        chosen, options = self.config.chosen, self.config.sampler_options
        if self.repeats and isinstance(given, Condition):
            steps, grid = options["steps"], options["grid"]
            return repaint(self.diffusion, denoise, noise, given, steps, grid, self.repeats, start)
        if (guide := self.guide(given)) is not None:
            if chosen.moves_means:
                options["guide"] = guide
            else:
                denoise = steered(self.diffusion, denoise, guide, clip=self.discrete)
        return chosen.walk(self.diffusion, denoise, noise, start=start, **options)

    def sample(self, n: int, given: Given = None) -> Tensor:
        """x_0, (n, ...)."""
        return end_of(self.walk(self.noise(n), given))

    def forward_chain(self, x0: Tensor, count: int) -> tuple[Tensor, Tensor]:
        """See `chains.forward_chain`."""
        return forward_chain(self.diffusion, x0, count)

    def reverse_chain(self, n: int, count: int, given: Given = None) -> tuple[Tensor, Tensor]:
        """See `walks.reverse_chain`, from fresh noise."""
        return reverse_chain(self.walk(self.noise(n), given), self.diffusion.steps, count)

    def interpolate(self, first: Tensor, second: Tensor, weights: Tensor, given: Given = None) -> Tensor:
        """See `chains.between`; the conditions (B,) are those of both."""
        return between(self.diffusion, lambda x, t: self.walk(x, given, t), first, second, weights)

    def bound(self, x0: Tensor, given: Given = None) -> dict[str, Tensor]:
        """The parts of the bound on -log p(x_0), nats (B,): L_T, L_t (the sum over t = 2..T) and L_0."""
        c = self.config
        return self.diffusion.bound(self.denoiser(given), x0, c.bound_exact, c.bound_strata, self.discrete)

    def bound_over_time(self, x0: Tensor, given: Given = None) -> tuple[Tensor, Tensor]:
        """About 60 times, int64 (times,), and the term L_{t-1} of each, nats (times, B)."""
        return self.diffusion.bound_over_time(self.denoiser(given), x0, self.discrete)
