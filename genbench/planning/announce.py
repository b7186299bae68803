"""What `run` says before it starts: that a classifier is trained first, and scoring that takes longer than training."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from genbench.planning.needs import PATIENCE_SECONDS, alike
from genbench.planning.shadow import build_job
from genbench.planning.sharing import trainers
from genbench.planning.summary import classifier_text
from genbench.records.job import Job
from genbench.records.shared_training import trained_by
from genbench.records.task import Context
from genbench.support.errors import GenbenchError
from genbench.support.processes import Child, Say

if TYPE_CHECKING:
    from genbench.planning.session import Session

CALLS = 100
"""Calls of the network that a likelihood may take per image."""
LITTLE = 3e9
"""Parameters times calls of the network: what scores in fewer is not looked at, since it takes seconds at most."""


def announcements(session: Session, waiting: list[Job]) -> Iterator[str]:
    """A line for each dataset whose classifier is trained first, and for each model whose scoring takes long.

    Models are tried in a process of its own, as `needs`: a plugin that crashes or hangs there is not announced.
    """
    for data in session.datasets.values():
        if text := classifier_text(data, waiting):
            yield text
    shared = trainers(waiting)
    heavy = [job for job in waiting if job.is_trained and job.id not in shared and not trained_by(job)]
    heavy = [job for job in {alike(job): job for job in heavy}.values() if calls(job, session) > LITTLE]
    if not heavy or heavy[0].runtime.executor != "local":
        return
    plain = [job.model_dump(mode="json") for job in heavy]
    with Child("outlays", outlays_main, plain, session.context) as child, suppress(GenbenchError):
        for job, warning in zip(heavy, child.said(PATIENCE_SECONDS)):
            if warning:
                yield f"{job.row} on {job.dataset}: {warning}"


def calls(job: Job, session: Session) -> float:
    """Parameters times calls of the network, at most, of sampling and scoring a job."""
    from genbench.capabilities import Likelihood

    model = build_job(job, session.plugins, session.datasets[job.dataset])
    drawn = job.samples * max(1, job.curve) * (model.nfe if job.samples else 0)
    scored = 2 * job.evaluation.likelihood_images * CALLS if isinstance(model, Likelihood) else 0
    return (drawn + scored) * sum(parameter.numel() for parameter in model.parameters())


def outlays_main(say: Say, plain: Iterable[dict[str, Any]], context: Context) -> None:
    """Entry point of the process: say the warning of each job in turn, "" for none."""
    from genbench.planning.needs import estimated
    from genbench.planning.outlay import Trials

    for job, data, about, plugins in estimated(plain, context):
        try:
            say(Trials(plugins).outlay(job, about(), data()).warning())
        except Exception:
            say("")
