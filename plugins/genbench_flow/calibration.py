"""The arithmetic of the flow against autograd, for `genbench calibrate`."""

import math
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from genbench import DataSpec, Model


def log_determinants(flow: type[Model]) -> Iterator[tuple[str, float, float, float]]:
    """The log-determinant of `flow`, which has `encode`, against that of the Jacobian by autograd."""
    for mixing, coupling in (("lattice", "logistic"), ("lattice", "spline"), ("conv", "affine")):
        config = flow.Config.model_validate(
            {**flow.presets["tiny"], "width": 8, "mixing": mixing, "coupling": coupling}
        )
        model: Any = flow(DataSpec("calibrate", (1, 4, 4)), config).double().eval()
        for parameter in model.parameters():
            fan = max(parameter[0].numel() if parameter.dim() > 1 else 1, 1)
            parameter.data += 0.4 * torch.randn_like(parameter) / math.sqrt(fan)
        image = torch.rand(1, 1, 4, 4, dtype=torch.float64) * 1.98 - 0.99

        def latents(flat: Tensor, model: Any = model) -> Tensor:
            return torch.cat([z.flatten() for z in model.encode(flat.view(1, 1, 4, 4))[0]])

        jacobian = torch.autograd.functional.jacobian(latents, image.flatten())  # type: ignore[no-untyped-call]
        expected = float(torch.linalg.slogdet(jacobian).logabsdet)
        found = float(model.encode(image)[1].detach())
        yield f"log-determinant of the flow, {coupling}", found, expected, 1e-8
