"""Denoising diffusion probabilistic models (Ho et al. 2020): learn to remove the noise that a fixed process adds.

    q(x_t | x_0) = N(sqrt(alpha_bar_t) x_0, (1 - alpha_bar_t) I),   p(x_{t-1} | x_t) = N(mu(x_t, t), sigma_t^2 I)

The default is v-prediction (Salimans & Ho 2022) on the cosine schedule (Nichol & Dhariwal 2021), sampled by
DPM-Solver++ (Lu et al. 2022) with the posterior's noise.
"""

from collections.abc import Callable
from dataclasses import replace
from typing import ClassVar, Literal

from torch import Tensor, nn

from genbench import Batch, DataSpec, Model, Phase, field, hookimpl
from genbench.capabilities import SumOfTerms
from genbench.condition import Given, beside
from genbench.hookspecs import Calibration
from genbench_ddpm.calibration import gaussian_bounds
from genbench_ddpm.diffuser import Diffuser
from genbench_ddpm.guided import GuidedConfig
from genbench_ddpm.network import NETWORK, with_waves
from genbench_ddpm.original import Original, OriginalConfig
from genbench_ddpm.presets import PRESETS
from genbench_ddpm.repaint import calls_of


@hookimpl
def register_models(register: Callable[[type[Model]], None]) -> None:
    register(DDPM)


@hookimpl
def register_calibrations(register: Callable[[str, Calibration], None]) -> None:
    register("diffusion", gaussian_bounds)


class DDPMConfig(GuidedConfig, OriginalConfig):
    """The settings of `ddpm`; the defaults are the preset `small`."""

    network: Literal["unet", "original"] = field(
        "unet", "train", "a U-Net, or the network of 2015, which takes no labels and learns of the time at its readout"
    )
    fourier: tuple[int, ...] = field(
        (2,), "train", "n of the waves sin and cos(2^n pi x) that make small changes of a pixel visible to the network"
    )
    holes: Literal["trained", "repaint"] = field(
        "trained", "train", "how holes are filled: by a network that is trained under them, or by RePaint without that"
    )
    repeats: int = field(
        10,
        "sample",
        "times that RePaint takes each step, going back in between",
        ge=1,
        only_with={"holes": ["repaint"]},
    )

    @property
    def network_calls(self) -> int:
        if self.holes == "repaint":
            return calls_of(self.sampler_steps, self.repeats)
        return super().network_calls

    def unused(self, name: str) -> str:
        if self.network == "original" and (name in NETWORK or name == "fourier"):
            return "network = original"
        if self.holes == "repaint" and (name == "eta" or (name == "sampler" and self.grid != "own")):
            return "holes = repaint"
        return super().unused(name)

    def check(self, data: DataSpec) -> None:
        super().check(data)
        if self.network == "original" and data.kind:
            raise ValueError("network: original takes no condition, and this job is conditional")
        if self.holes == "repaint" and data.kind != "hole":
            raise ValueError("holes: repaint fills holes, which this job is not given")
        if self.holes == "repaint" and (self.guidance != 1 or self.label_dropout or "grid" not in self.chosen.options):
            raise ValueError("holes: repaint takes a sampler with a grid, and neither guidance nor label_dropout")


class DDPM(SumOfTerms, Model):
    """Denoising diffusion in pixel space; its likelihood is the variational bound on that of the 256 levels."""

    name = "ddpm"
    Config = DDPMConfig
    config: DDPMConfig
    presets = PRESETS
    conditional = True
    conditions = ("text", "map", "hole", "image", "vector")
    discrete = True
    likelihood: ClassVar[Literal["exact", "bound", "estimate"]] = "bound"

    def __init__(self, data: DataSpec, config: DDPMConfig) -> None:
        super().__init__(data, config)
        seen = replace(data, condition=None) if config.holes == "repaint" else data
        self.diffusion = config.process(seen.kind)
        channels = data.shape[0]
        self.net: nn.Module
        if config.network == "original":
            self.net = Original(config, data.shape, config.outputs(channels), config.timesteps)
        else:
            outputs = config.outputs(channels)
            self.net = config.unet(channels, outputs, seen, config.fourier)
        self.classifier = config.noisy_classifier(data)
        self.diffuser = Diffuser(
            self.predict, self.diffusion, config, data, discrete=True, classifier=self.classifier,
            repeats=config.repeats if config.holes == "repaint" else 0,
        )  # fmt: skip

    @property
    def nfe(self) -> int:
        return self.config.network_calls

    @property
    def likelihood_note(self) -> str:
        of_whole = ", of whole images: nothing is shown of them" if self.config.holes == "repaint" else ""
        return f"{self.diffuser.bound_note}{of_whole}"

    @property
    def remark(self) -> str:
        if self.config.holes == "repaint":
            return f"it was not trained to fill holes: RePaint, each step {self.config.repeats} times"
        return super().remark

    def phases(self) -> list[Phase]:
        return self.config.stages("train", self.net, self.classifier)

    def predict(self, x_t: Tensor, t: Tensor, given: Given) -> Tensor:
        """What the network predicts; a U-Net sees t on a scale of 0 to 1,000 whatever T is."""
        if self.config.holes == "repaint":
            given = None
        if self.config.network == "original":
            out: Tensor = self.net(x_t, t)
        else:
            noise = self.diffusion.at(self.diffusion.noise, t, x_t)
            seen, told = beside(with_waves(x_t, noise, self.config.fourier), given, self.data.shape[1:])
            out = self.net(seen, self.diffusion.per_mille(t), told)
        return out

    def loss(self, phase: str, batch: Batch) -> Tensor | dict[str, Tensor]:
        if phase == "classifier":
            return self.diffuser.classifier_loss(batch.images, batch.labels)
        return self.diffuser.loss(batch.images, batch.given)

    def sample(self, n: int, given: Given = None) -> Tensor:
        return self.diffuser.sample(n, given)

    def bound_terms(self, images: Tensor, given: Given = None) -> dict[str, Tensor]:
        """The parts of -log_prob, nats per image (B,): L_T, L_t (the sum over t = 2..T) and L_0."""
        return self.diffuser.bound(images, given)

    def bound_over_time(self, images: Tensor, given: Given = None) -> tuple[Tensor, Tensor]:
        """L_{t-1}, nats per image (T, B), at about 60 values of t."""
        return self.diffuser.bound_over_time(images, given)

    def forward_chain(self, images: Tensor, count: int) -> tuple[Tensor, Tensor]:
        return self.diffuser.forward_chain(images, count)

    def reverse_chain(self, n: int, count: int, given: Given = None) -> tuple[Tensor, Tensor]:
        return self.diffuser.reverse_chain(n, count, given)

    def interpolate(self, first: Tensor, second: Tensor, weights: Tensor, given: Given = None) -> Tensor:
        return self.diffuser.interpolate(first, second, weights, given)
