"""How fast a job gets on: what follows from its reports, and the facts of a report in words."""

from __future__ import annotations

import time
from collections import deque
from typing import Any

Facts = dict[str, Any]
"""Plain data of a report, all of it optional.

`step`, `images` (so far), `seconds` (on the training's clock), `losses` (by phase), and what follows from the pace:
`images_per_second` and `seconds_left`, of the stage, or of the part of it that the report names.
"""
SEEN = 16
"""Reports over which a pace is taken: what was long ago says little about what is left."""


def is_sound(facts: Any) -> bool:
    """Whether these can be facts: numbers by name, and losses that are numbers by name."""
    if not isinstance(facts, dict) or not isinstance(losses := facts.get("losses", {}), dict):
        return False
    values = [*losses.values(), *(value for name, value in facts.items() if name != "losses")]
    return all(isinstance(value, int | float) for value in values)


class Pace:
    """The last reports of one stage: when they came, by the training's own clock if they tell it, and what was done."""

    def __init__(self) -> None:
        self.of = ""
        self.seen: deque[tuple[float, float, int | None]] = deque(maxlen=SEEN)

    def facts(self, stage: str, share: float, text: str, facts: Facts) -> Facts:
        """The facts of a report, with the images per second and the seconds left if the reports so far tell them."""
        of = f"{stage} {text}" if stage == "evaluate" else stage  # whose shares are those of its parts
        if stage in ("warning", "note"):
            return facts
        if of != self.of or (self.seen and share < self.seen[-1][1]):
            self.of = of
            self.seen.clear()
        now, images = facts.get("seconds", time.monotonic()), facts.get("images")
        if len(self.seen) == 1 and share == self.seen[0][1]:  # nothing was done but to get ready
            self.seen.clear()
        self.seen.append((now, share, images))
        begun, done, before = self.seen[0]
        passed, told = now - begun, dict(facts)
        if passed > 0 and images is not None and before is not None and images > before:
            told["images_per_second"] = (images - before) / passed
        if passed > 0 and done < share < 1:
            told["seconds_left"] = (1 - share) * passed / (share - done)
        return told


def clock(seconds: float) -> str:
    """`0:35`, `12:03`, `1:02:03`."""
    whole = round(seconds)
    minutes = f"{whole // 60 % 60}:{whole % 60:02}"
    return minutes if whole < 3600 else f"{whole // 3600}:{minutes:0>5}"


def left_words(facts: Facts) -> str:
    """`0:35 left`, at least a second; nothing if it is not known."""
    return f"{clock(max(1.0, facts['seconds_left']))} left" if "seconds_left" in facts else ""


def words_of(text: str, facts: Facts, room: int | None = None) -> str:
    """`step 120, loss 0.0312, 5,310 images/s, 0:35 left`: what is known, or as much of it as finds room.

    The time that is left is told in any case, then the loss, then the pace; the text is cut.
    """
    left, losses = left_words(facts), facts.get("losses", {})
    rate = f"{facts['images_per_second']:,.3g}" if facts.get("images_per_second", 1e9) < 10 else ""
    rate = rate or (f"{facts['images_per_second']:,.0f}" if "images_per_second" in facts else "")
    values = ", ".join(f"{value:.3g}" for value in losses.values())
    named = ", ".join(f"{phase} {value:.3g}" for phase, value in losses.items())
    loss = f"loss {values if len(losses) == 1 else named}" if losses else ""
    tries = [
        [text, loss, rate and f"{rate} images/s", left],
        [loss, rate and f"{rate} images/s", left],
        [losses and f"loss {values}", rate and f"{rate}/s", left],
        [losses and f"loss {values}", left],
    ]
    lines = [", ".join(filter(None, words)) for words in tries]
    if room is None or len(lines[0]) <= room:
        return lines[0]
    if losses:
        return next((line for line in lines if len(line) <= room), left[:room])
    space = room - len(left) - 2 * bool(left)
    return ", ".join(filter(None, [text if len(text) <= space else f"{text[: space - 1]}…", left]))
