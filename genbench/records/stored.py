"""The base of everything that a record holds."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict


class Stored(BaseModel):
    """A part of a record: keeps keys of newer versions, refuses non-finite numbers."""

    model_config = ConfigDict(extra="allow", allow_inf_nan=False)
