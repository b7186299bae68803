"""What an experiment keeps equal for all its models: images, steps, seconds or FLOPs of training."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, FiniteFloat, model_validator

from genbench.support.errors import BadInput

Unit = Literal["images", "steps", "seconds", "flops"]
SUFFIXES: dict[str, Unit] = {"images": "images", "steps": "steps", "s": "seconds", "flops": "flops"}
"""How each unit is written on the command line."""
FORM = "use 180s, 200000images, 2000steps or 1e15flops"


class Budget(BaseModel):
    """An amount of one unit; 0 for a row that is not trained here."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    unit: Unit = "images"
    amount: FiniteFloat = Field(0, ge=0)

    @model_validator(mode="before")
    @classmethod
    def _from_record(cls, value: Any) -> Any:
        """Accept `{"seconds": 180}`, as records store it."""
        if isinstance(value, Mapping) and len(value) == 1 and set(value) <= set(SUFFIXES.values()):
            ((unit, amount),) = value.items()
            return {"unit": unit, "amount": amount}
        return value

    @classmethod
    def parse(cls, text: str) -> Budget:
        """The budget written as `180s`, `200000images`, `2000steps` or `1e15flops`."""
        match = re.fullmatch(r"\s*([0-9.]+(?:[eE][+-]?[0-9]+)?)\s*([a-z]+)\s*", text)
        if not match or match[2] not in SUFFIXES:
            raise BadInput(f"budget {text!r}", FORM)
        try:
            budget = cls(unit=SUFFIXES[match[2]], amount=float(match[1]))
        except ValueError as error:
            raise BadInput(f"budget {text!r}: the amount must be a positive number", FORM) from error
        if not budget.amount:
            raise BadInput(f"budget {text!r}: the amount must be a positive number", FORM)
        if budget.unit in ("images", "steps") and budget.amount != int(budget.amount):
            raise BadInput(f"budget {text!r}: {budget.unit} are whole numbers", FORM)
        return budget

    @property
    def is_timed(self) -> bool:
        """Whether it is in seconds, so that the training it allows depends on the machine."""
        return self.unit == "seconds"

    def spent(self, *, images: float, steps: float, seconds: float, flops: float) -> float:
        """The share of the budget that this much training spends."""
        taken = {"images": images, "steps": steps, "seconds": seconds, "flops": flops}
        return taken[self.unit] / self.amount

    def as_dict(self) -> dict[str, float]:
        """`{"seconds": 180}`, as records store it; `{}` for a row that is not trained here."""
        if not self.amount:
            return {}
        whole = self.amount == int(self.amount)
        return {self.unit: int(self.amount) if whole else self.amount}

    @property
    def option(self) -> str:
        """`200000images`, as `parse` reads it."""
        short, whole = f"{self.amount:g}", f"{self.amount:.0f}"
        exact = next((text for text in (short, whole) if float(text) == self.amount), repr(self.amount))
        return exact + next(suffix for suffix, unit in SUFFIXES.items() if unit == self.unit)

    def words(self) -> str:
        """`200,000 images`; nothing for a row that is not trained here."""
        return f"{self.amount:,.10g} {self.unit}" if self.amount else ""
