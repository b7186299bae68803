"""What a training or a sampling had of its machine, and whether its seconds can be compared with another's."""

from __future__ import annotations

from pydantic import FiniteFloat

from genbench.records.stored import Stored

ENOUGH = 0.8
"""The share of what it could have had with which a run is still equal to others."""
LEAST_SECONDS = 2.0
"""A shorter clock is not judged: counters of the system advance in steps of up to 10 ms, and nothing is warm yet."""


class Usage(Stored):
    """What all threads of all processes had while the clock ran; None where the system does not tell.

    `processor_seconds` they computed, and `waiting_seconds` they could have computed, had a processor been free (Linux;
    a quota's throttling is part of it, and `throttled_seconds` of the control group); `delayed_seconds` is the waiting
    of the thread that waited most. `others_seconds` is what all others computed on the same processors, also during
    stops. `share` is what follows from these: the part that it had of the processor time that its threads could have
    used; None for a short clock.

    `stopped_seconds`, in `stops`, the whole process was stopped: they are not on the clock. `gap_seconds` are, in
    `gaps` between steps: many times the usual step, without computing.
    """

    processor_seconds: FiniteFloat | None = None
    waiting_seconds: FiniteFloat | None = None
    delayed_seconds: FiniteFloat | None = None
    throttled_seconds: FiniteFloat | None = None
    others_seconds: FiniteFloat | None = None
    share: FiniteFloat | None = None
    stops: int = 0
    stopped_seconds: FiniteFloat = 0.0
    gaps: int = 0
    gap_seconds: FiniteFloat = 0.0

    def __add__(self, more: Usage) -> Usage:
        """Of two spans together; what is unknown of one of them is unknown of both. Shares do not add up."""
        return Usage(**{name: _sum(getattr(self, name), getattr(more, name)) for name in SUMMED})

    def others(self, seconds: float) -> float | None:
        """How many processors others used on average, of a clock that has counted `seconds`."""
        passed = seconds + self.stopped_seconds
        return None if self.others_seconds is None or not passed else self.others_seconds / passed

    def is_equal(self, seconds: float) -> bool:
        """Whether it had enough of what it could have in `seconds` on the clock; true if that is not known."""
        return (self.share is None or self.share >= ENOUGH) and self.gap_seconds <= (1 - ENOUGH) * seconds

    def words(self, seconds: float) -> list[str]:
        """What was not as it should be: `had 52 % of the processor time that its threads could use, ...`."""
        told = []
        if self.share is not None and self.share < ENOUGH:
            others = self.others(seconds)
            load = "" if others is None else f" (others used {others:.1f} processors)"
            told.append(f"had {100 * self.share:.0f} % of the processor time that its threads could use{load}")
        if self.gaps:
            often = f"in {self.gaps} gap{'s' * (self.gaps > 1)} between steps"
            told.append(f"stood still for {self.gap_seconds:.1f} of its {seconds:.1f} seconds, {often}")
        if self.stops:
            often = f" in {self.stops} stops" if self.stops > 1 else ""
            told.append(f"was stopped for {self.stopped_seconds:.1f} seconds{often}, which are not counted")
        return told


SUMMED = [name for name in Usage.model_fields if name != "share"]


def _sum(one: float | None, other: float | None) -> float | None:
    return None if one is None or other is None else one + other
