"""Named points at which a test can make this process fail: GENBENCH_FAULT=name[:count]:kill9|raise|enospc|sigterm.

Without that variable, passing a point costs one look-up of a global name.
"""

from __future__ import annotations

import errno
import os
import signal
import time
from dataclasses import dataclass

from genbench.support.errors import BadInput, did_you_mean

VARIABLE = "GENBENCH_FAULT"
ACTIONS = ("kill9", "raise", "enospc", "sigterm")
POINTS = {
    "store.begin": "before a temporary file or folder is made",
    "store.written": "a temporary file is complete, neither flushed nor renamed",
    "store.renamed": "a file has its final name, its folder is not flushed",
    "store.folder_written": "a temporary folder is complete, neither flushed nor renamed",
    "store.folder_renamed": "a folder has its final name, the one it replaced still exists",
    "job.begun": "the job is locked and job.json written",
    "checkpoint.begin": "before a checkpoint",
    "checkpoint.written": "a checkpoint is complete beside the latest and the previous one",
    "checkpoint.rotated": "the latest has become the previous one, the new one is not yet the latest",
    "checkpoint.end": "after a checkpoint",
    "train.update": "between a gradient and the step of its optimizer",
    "train.step": "after a step, before what follows it (log, curve, checkpoint)",
    "train.kept": "weights for the curve are stored, no checkpoint mentions them yet",
    "train.end": "the budget is spent and the last checkpoint stored, before training returns",
    "share.copied": "another row's training is copied but for its weights, which make it count",
    "sample.block": "before a block of samples",
    "sample.drawn": "after a block of samples",
    "sample.shard": "a part of the samples is stored",
    "sample.stored": "samples.npy is new, samples.json not yet",
    "sample.end": "all samples and their digest are stored",
    "evaluate.begin": "before anything is measured",
    "evaluate.measured": "after the measurements of one extractor, or of one split's likelihood",
    "evaluate.end": "everything is measured",
    "record.begin": "before the record",
    "record.end": "after the record",
    "rescore.measured": "a finished run is measured again, its record not yet written",
    "report.page": "between two pages of a report",
    "report.built": "a report is complete beside its destination",
}


class InjectedFault(RuntimeError):
    """What the action `raise` raises."""


@dataclass
class Wish:
    """The requested fault: at the `count`-th passing of the point `name` from now on."""

    name: str
    count: int
    action: str


_wish: Wish | None = None


def parse(text: str) -> Wish:
    """Parse `name[:count]:action`. Raises BadInput listing the known names or actions."""
    name, *count, action = text.split(":") if ":" in text else (text, "")
    if name not in POINTS:
        raise BadInput(f"{VARIABLE}={text}: no fault point {name!r}", did_you_mean(name, set(POINTS)))
    if action not in ACTIONS:
        raise BadInput(f"{VARIABLE}={text}: no action {action!r}", f"known: {', '.join(ACTIONS)}")
    if len(count) > 1 or not all(part.isdigit() and int(part) for part in count):
        raise BadInput(f"{VARIABLE}={text}: the count must be at least 1", f"{VARIABLE}={name}:2:{action}")
    return Wish(name, int(count[0]) if count else 1, action)


def arm(text: str | None = None) -> None:
    """Make this process fail as `text`, or else the environment, says; "" disarms. Raises BadInput."""
    global _wish
    text = os.environ.get(VARIABLE, "") if text is None else text
    _wish = parse(text) if text else None


def fault(name: str) -> None:
    """Pass the point `name`, which does nothing unless a fault was requested there."""
    if _wish is not None:
        _strike(_wish, name)


def _strike(wish: Wish, name: str) -> None:
    if name != wish.name or wish.count == 0:
        return
    wish.count -= 1
    if wish.count:
        return
    if wish.action == "raise":
        raise InjectedFault(f"requested at {name}")
    if wish.action == "enospc":
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    os.kill(os.getpid(), signal.SIGKILL if wish.action == "kill9" else signal.SIGTERM)
    time.sleep(0.01)  # the signal's handler runs here, not some instructions later
