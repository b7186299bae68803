"""The settings that diffusion in pixels and in latents share, and what follows from them alone."""

from typing import Literal, Self

from pydantic import model_validator

from genbench import field
from genbench.condition import Kind
from genbench_ddpm.diffusion import (
    LEARNED,
    Diffusion,
    Prediction,
    Variance,
    cosine_betas,
    erasing_betas,
    linear_betas,
    scaled_linear_betas,
)
from genbench_ddpm.network import UNetConfig
from genbench_ddpm.samplers import SamplerConfig

Schedule = Literal["linear", "scaled_linear", "cosine", "erase"]
LINEAR = ["linear", "scaled_linear"]
"""The schedules that begin and end at given noise."""


class DiffusionConfig(UNetConfig, SamplerConfig):
    """The settings of the process, the objective and the bound, beside those of network, optimizer and sampler."""

    timesteps: int = field(1000, "train", "T, the number of noise levels", ge=2)
    schedule: Schedule = field(
        "cosine",
        "train",
        "how beta_t grows: linearly, its square root linearly, or so that alpha_bar is a cosine or falls linearly to 0",
    )
    beta_start: float = field(1e-4, "train", "beta_1", gt=0, lt=1, only_with={"schedule": LINEAR})
    beta_end: float = field(0.02, "train", "beta_T", gt=0, lt=1, only_with={"schedule": LINEAR})
    prediction: Prediction = field(
        "v",
        "train",
        "what the network predicts: noise, data, v, the posterior mean or by how much that differs from a forward step",
    )
    objective: Literal["simple", "variational", "hybrid"] = field(
        "simple", "train", "L_simple, the variational bound, or L_simple plus the bound for a learned variance"
    )
    vlb_weight: float = field(
        1e-3, "train", "lambda, the weight of the bound", gt=0, only_with={"objective": ["hybrid"]}
    )
    variance: Variance = field(
        "beta",
        "train",
        "sigma_t^2 of the reverse process: beta_t, the posterior's, learned between the two, or learned freely",
    )

    bound_exact: int = field(4, "sample", "terms of the bound that are summed exactly, from t = 1 up", ge=1)
    bound_strata: int = field(
        12, "sample", "ranges of t that estimate the other terms from one t each; 0 sums every t", ge=0
    )

    def unused(self, name: str) -> str:
        if name == "times" and self.objective != "simple":
            return f"objective = {self.objective}"
        return super().unused(name)

    @model_validator(mode="after")
    def process_is_consistent(self) -> Self:
        if self.sampler_steps > self.timesteps:
            raise ValueError(f"steps: {self.steps} is more than the {self.timesteps} timesteps")
        if self.objective == "hybrid" and self.variance not in LEARNED:
            raise ValueError(f"objective: hybrid trains a learned variance, and variance is {self.variance}")
        if self.objective == "simple" and self.variance in LEARNED:
            told = f"variance: {self.variance} is not trained by the objective simple"
            raise ValueError(f"{told}; take hybrid or variational")
        if self.schedule == "erase" and self.prediction == "eps":
            raise ValueError("prediction: eps says nothing of x_0 at t = T, where the schedule erase leaves no signal")
        if self.sampler == "respaced" and self.variance == "free":
            raise ValueError("sampler: respaced has no variance of its own steps if variance is free; take ancestral")
        return self

    def process(self, kind: Kind | None = None) -> Diffusion:
        """The diffusion process that these settings describe, in a job under conditions of this kind."""
        if self.schedule in LINEAR:
            make = linear_betas if self.schedule == "linear" else scaled_linear_betas
            betas = make(self.timesteps, self.beta_start, self.beta_end)
        else:
            betas = {"cosine": cosine_betas, "erase": erasing_betas}[self.schedule](self.timesteps)
        return Diffusion(betas, self.prediction, self.variance, self.times_under(kind))

    def outputs(self, channels: int) -> int:
        """Channels of the output of a network that predicts for so many."""
        return channels * (2 if self.variance in LEARNED else 1)

    @property
    def sampler_steps(self) -> int:
        """Steps of the chosen sampler: `steps`, or one per noise level."""
        return int(self.sampler_options.get("steps", self.timesteps))

    @property
    def network_calls(self) -> int:
        """Network calls that one sample costs."""
        return self.calls(self.chosen.calls(self.sampler_steps))
