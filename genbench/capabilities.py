"""Optional abilities of a model, known by its methods alone: nothing is declared."""

from typing import Protocol, runtime_checkable

from torch import Tensor


@runtime_checkable
class Likelihood(Protocol):
    """A model with a likelihood, exact, bounded or estimated (see `Model.likelihood`)."""

    def log_prob(self, images: Tensor, labels: Tensor | None = None) -> Tensor:
        """Nats per image, (B,), of dequantised images (B, C, H, W), or of bin centres where the model is discrete."""
        ...


CAPABILITIES: dict[str, type] = {"likelihood": Likelihood}


def capabilities(model: type) -> list[str]:
    """The names of the abilities that a model class has."""
    return [name for name, protocol in CAPABILITIES.items() if issubclass(model, protocol)]
