"""The protocol of a number: every setting that determines it."""

from __future__ import annotations

from importlib.metadata import version

from pydantic import BaseModel, ConfigDict, Field

METRICS = 3
"""Version of the metrics' code; raise it when the same features would give another value."""
LIKELIHOOD = 1
"""Version of the convention; raise it when the same model would get another value."""
LIBRARIES = ("torch-fidelity", "torch", "numpy")


class EvaluationSettings(BaseModel):
    """What an experiment chooses about its measurements; every field is part of their identity."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    extractors: tuple[str, ...] = Field((), description="feature extractors; none: the dataset's default")
    k: int = Field(3, ge=1, description="neighbours of precision, recall, density, coverage and the two-sample test")
    isc_splits: int = Field(10, ge=1, description="parts that the inception score is averaged over")
    kid_subsets: int = Field(100, ge=1, description="random subsets that KID is averaged over")
    error_splits: int = Field(20, ge=2, description="random partitions that sampling errors are taken from")
    seed: int = Field(2020, ge=0, lt=2**32, description="seed of every random choice of the evaluation")
    allow_rank_deficient: bool = Field(False, description="compute FID also where the covariance cannot have full rank")
    likelihood_images: int = Field(1000, ge=2, description="images of each split whose likelihood is measured")
    max_train_reference: int = Field(50_000, ge=2, description="training images of the reference, at most")


def versions() -> dict[str, str]:
    """The versions that compute the metrics: of the installed libraries, without build tags, and of the metrics."""
    return {"metrics": str(METRICS), **{name: version(name).split("+")[0] for name in LIBRARIES}}
