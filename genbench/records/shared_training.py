"""One training for all rows that differ only in sampling: one row trains, and the others reuse its weights."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from genbench.records import checkpoint
from genbench.records.job import KEY_DIGITS, Job, read_job
from genbench.records.point import LOG
from genbench.records.run_folder import check_log
from genbench.records.training_state import TrainingState
from genbench.support import store
from genbench.support.errors import Busy, CorruptData
from genbench.support.faults import fault
from genbench.support.lock import in_use
from genbench.support.paths import inside

if TYPE_CHECKING:
    from torch import Tensor

log = logging.getLogger("genbench")
Training = tuple[dict[str, dict[str, "Tensor"]], TrainingState]
"""Tensors by group and name, and the state of the training that produced them."""


def trained_by(job: Job) -> str:
    """The id of the job that trained the weights of this one, stored in its folder or another row's; "" if none did."""
    for folder in (job.folder, *siblings(job)):
        if (state := _finished_state(folder)) is not None:
            return state.job or folder.name
    return ""


def siblings(job: Job) -> Iterator[Path]:
    """The other run folders beside the job's whose rows share its training, whatever their labels."""
    for folder in sorted(job.runtime.out.glob(f"*-{job.training_key[:KEY_DIGITS]}")):
        try:
            if folder.name != job.id and read_job(folder).training_key == job.training_key:
                yield folder
        except CorruptData:
            continue


def _finished_state(folder: Path) -> TrainingState | None:
    """The unchecked state of a run folder's training, if it has finished."""
    try:
        state = checkpoint.read_state(folder / "checkpoint")
    except CorruptData:
        return None
    return state if state is not None and state.finished else None


def finished_training(job: Job) -> Training | None:
    """The job's finished training, copied into its folder if it is another row's; None if the job has to train.

    Raises Busy while another row is, or may be, training.
    """
    own = checkpoint.load(job.folder / "checkpoint")
    if own is not None and own[1].finished:
        check_log(job.folder, own[1])
        return own
    others = list(siblings(job))
    for folder in filter(_finished_state, others):
        try:
            found = checkpoint.load(folder / "checkpoint")
            if found is not None and found[1].finished:
                return _copied(found, folder, job.folder)
        except CorruptData as damage:
            log.warning("%s; not reusing its training", damage.message)
    for folder in filter(in_use, others):
        raise Busy(f"{job.folder}: its shared training is in use by {folder}", "wait for it, then run again")
    return None


def _copied(training: Training, source: Path, target: Path) -> Training:
    """Copy the averaged weights, those of the curve and the log into another row's folder, the checkpoint last.

    Until the checkpoint exists, the copy counts as missing, and nothing in it is relied upon.
    """
    tensors, state = training
    check_log(source, state)
    store.remove(target / "curve")
    for point in state.curve.kept:
        name = Path("curve", str(point.point))
        if (source / name / checkpoint.MANIFEST).exists():
            checkpoint.write(target / name, *checkpoint.read(source / name))
    (target / LOG).unlink(missing_ok=True)
    if (source / LOG).exists():
        store.write_text(target / LOG, inside(source, LOG).read_text(encoding="utf-8"))
    fault("share.copied")
    tensors = {"ema": tensors["ema"]}
    checkpoint.save(target / "checkpoint", tensors, state)
    return tensors, state
