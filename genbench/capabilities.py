"""Optional abilities of a model, known by its methods alone: nothing is declared."""

from typing import Protocol, runtime_checkable

from torch import Tensor


@runtime_checkable
class Likelihood(Protocol):
    """A model with a likelihood, exact, bounded or estimated (see `Model.likelihood`)."""

    def log_prob(self, images: Tensor, labels: Tensor | None = None) -> Tensor:
        """Nats per image, (B,), of dequantised images (B, C, H, W), or of bin centres where the model is discrete."""
        ...


@runtime_checkable
class BoundTerms(Protocol):
    """A model whose likelihood bound has parts; the record keeps them beside the value."""

    def bound_terms(self, images: Tensor, labels: Tensor | None = None) -> dict[str, Tensor]:
        """The parts of -log_prob by name, nats per image (B,): under one seed they sum to it."""
        ...


@runtime_checkable
class BoundOverTime(Protocol):
    """A model whose bound is a sum over the steps of a process; the report draws its terms."""

    def bound_over_time(self, images: Tensor, labels: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Some times, ascending int64 (T,), and the term of each, nats per image (T, B)."""
        ...


@runtime_checkable
class EvidenceBound(Protocol):
    """A model with an evidence lower bound that is looser than its `log_prob`, such as that of a VAE."""

    def elbo_terms(self, images: Tensor, labels: Tensor | None = None) -> dict[str, Tensor]:
        """The parts of -ELBO by name, nats per image (B,)."""
        ...


CAPABILITIES: dict[str, type] = {
    "likelihood": Likelihood,
    "bound terms": BoundTerms,
    "bound over time": BoundOverTime,
    "elbo": EvidenceBound,
}


def capabilities(model: type) -> list[str]:
    """The names of the abilities that a model class has."""
    return [name for name, protocol in CAPABILITIES.items() if issubclass(model, protocol)]
