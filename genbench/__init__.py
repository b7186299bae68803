"""genbench: which family of generative models is better, on these images, at what cost?

The names here are what a plugin may import; they are resolved on first use, so that `genbench --help` needs no torch.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from genbench.capabilities import Likelihood
    from genbench.hookspecs import hookimpl
    from genbench.model import Batch, Config, DataSpec, Model, Phase, field
    from genbench.optimizers import Muon, adamw
    from genbench.records import Measurement
    from genbench.schedules import warmup_constant, warmup_cosine, warmup_linear

__version__ = "0.1.0"
__all__ = [
    "Batch",
    "Config",
    "DataSpec",
    "Likelihood",
    "Measurement",
    "Model",
    "Muon",
    "Phase",
    "adamw",
    "field",
    "hookimpl",
    "warmup_constant",
    "warmup_cosine",
    "warmup_linear",
]

_HOMES = {
    "genbench.capabilities": {"Likelihood"},
    "genbench.hookspecs": {"hookimpl"},
    "genbench.model": {"Batch", "Config", "DataSpec", "Model", "Phase", "field"},
    "genbench.optimizers": {"Muon", "adamw"},
    "genbench.records": {"Measurement"},
    "genbench.schedules": {"warmup_constant", "warmup_cosine", "warmup_linear"},
}


def __getattr__(name: str) -> Any:
    for home, names in _HOMES.items():
        if name in names:
            return getattr(import_module(home), name)
    raise AttributeError(f"module 'genbench' has no attribute {name!r}")


def __dir__() -> list[str]:
    return __all__
