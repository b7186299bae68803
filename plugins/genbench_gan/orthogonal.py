"""Initial weights, and weights that are kept apart: orthogonal initialisation and regularisation."""

from collections.abc import Iterator

import torch
from torch import Tensor, nn

DEVIATION = 0.02
"""Of normal initial weights (Radford et al. 2016)."""


def initialise(network: nn.Module, how: str) -> None:
    """Draw all weights, embeddings too but not biases and gains: "orthogonal" (Saxe et al. 2014), or "normal"."""
    for weight in (parameter for parameter in network.parameters() if parameter.dim() > 1):
        if how == "orthogonal":
            nn.init.orthogonal_(weight)
        elif how == "normal":
            nn.init.normal_(weight, 0, DEVIATION)


def filters(network: nn.Module) -> Iterator[Tensor]:
    """The weights of convolutions and linear maps as (outputs, inputs), before any spectral normalisation."""
    for layer in network.modules():
        if isinstance(layer, nn.Conv2d | nn.ConvTranspose2d | nn.Linear):
            weight = next(parameter for parameter in layer.parameters() if parameter.dim() > 1)
            yield (weight.transpose(0, 1) if isinstance(layer, nn.ConvTranspose2d) else weight).flatten(1)


def orthogonal_penalty(network: nn.Module) -> Tensor:
    """Sum of the squared inner products of different filters of a layer (Brock et al. 2019, equation 3).

    It pulls filters apart without bounding their norms, so that a generator can do without the tails of its latents.
    All products, those of a filter with itself included, have the same sum of squares as those of the inputs: the
    smaller of the two matrices is computed.
    """
    found = []
    for weight in filters(network):
        products = weight @ weight.mT if len(weight) < weight.shape[1] else weight.mT @ weight
        found.append(products.square().sum() - weight.square().sum(1).square().sum())
    return torch.stack(found).sum()
