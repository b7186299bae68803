"""genbench: which family of generative models is better, on these images, at what cost?

The names here are what a plugin, a script or a notebook may import; they are resolved on first use, so that
`genbench --help` and `genbench.load` need no torch.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from genbench.support.version import __version__ as __version__

if TYPE_CHECKING:
    from genbench.capabilities import Likelihood
    from genbench.condition import Condition, ConditionSpec
    from genbench.data.dataset import Dataset
    from genbench.evaluate.extractor import Extractor
    from genbench.hookspecs import hookimpl
    from genbench.metering.meter import Meter
    from genbench.metering.progress_log import ProgressLog
    from genbench.metrics.features import Features
    from genbench.model import Batch, Config, DataSpec, Model, Phase, field
    from genbench.optimizers import Muon, adamw
    from genbench.records.job import Job
    from genbench.records.record import Measurement, Record
    from genbench.records.samples import Samples
    from genbench.runs import Runs, load, run
    from genbench.schedules import warmup_constant, warmup_cosine, warmup_linear
    from genbench.support.errors import BadInput, Busy, CorruptData, EnvironmentProblem, GenbenchError

__all__ = [
    "BadInput",
    "Batch",
    "Busy",
    "Condition",
    "ConditionSpec",
    "Config",
    "CorruptData",
    "DataSpec",
    "Dataset",
    "EnvironmentProblem",
    "Extractor",
    "Features",
    "GenbenchError",
    "Job",
    "Likelihood",
    "Measurement",
    "Meter",
    "Model",
    "Muon",
    "Phase",
    "ProgressLog",
    "Record",
    "Runs",
    "Samples",
    "adamw",
    "field",
    "hookimpl",
    "load",
    "run",
    "warmup_constant",
    "warmup_cosine",
    "warmup_linear",
]

_HOMES = {
    "genbench.capabilities": ("Likelihood",),
    "genbench.condition": ("Condition", "ConditionSpec"),
    "genbench.data.dataset": ("Dataset",),
    "genbench.evaluate.extractor": ("Extractor",),
    "genbench.hookspecs": ("hookimpl",),
    "genbench.metering.meter": ("Meter",),
    "genbench.metering.progress_log": ("ProgressLog",),
    "genbench.metrics.features": ("Features",),
    "genbench.model": ("Batch", "Config", "DataSpec", "Model", "Phase", "field"),
    "genbench.optimizers": ("Muon", "adamw"),
    "genbench.records.job": ("Job",),
    "genbench.records.record": ("Measurement", "Record"),
    "genbench.records.samples": ("Samples",),
    "genbench.support.errors": ("BadInput", "Busy", "CorruptData", "EnvironmentProblem", "GenbenchError"),
    "genbench.runs": ("Runs", "load", "run"),
    "genbench.schedules": ("warmup_constant", "warmup_cosine", "warmup_linear"),
}
_HOME_OF = {name: home for home, names in _HOMES.items() for name in names}


def __getattr__(name: str) -> Any:
    if name in _HOME_OF:
        return getattr(import_module(_HOME_OF[name]), name)
    raise AttributeError(f"module 'genbench' has no attribute {name!r}")


def __dir__() -> list[str]:
    return __all__
