"""The conformance check for authors of models.

In a plugin's tests: `from genbench.testing import check_model`, then `check_model(MyModel)`.
"""

from __future__ import annotations

from typing import Any

from genbench.conformance.verdicts import check_cases, failures, merged
from genbench.model import Model

__all__ = ["check_model"]


def check_model(model: type[Model], preset: str | None = None, device: str = "cpu", **options: Any) -> None:
    """Raise AssertionError naming every promise that the model breaks with these options, and where.

    The default preset is `tiny`, if there is one; `device` is where the model is tried, such as `cuda`. `genbench
    check-plugin` gives the same as a report; here a model that hangs also hangs its test.
    """
    __tracebackhide__ = True  # so that pytest shows what is broken, not this function
    if found := failures(merged(check_cases(model, preset, device=device, **options)), []):
        raise AssertionError("\n".join([f"{model.__name__} breaks promises", "", *found]))
