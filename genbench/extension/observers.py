"""The plugins that observe a job: told how it goes, without a say in it."""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable
from contextlib import redirect_stdout
from typing import Any

from genbench.devices import generators_kept
from genbench.extension.registry import Plugins
from genbench.records.job import Job
from genbench.records.point import Point
from genbench.records.record import Record
from genbench.support.signals import is_interruption

log = logging.getLogger("genbench")


class Observers:
    """Calls the observing hooks of a job. An exception is logged, once a plugin and hook, and never fatal.

    No global generator moves, and what an observer prints goes to stderr.
    """

    def __init__(self, plugins: Plugins, job: Job) -> None:
        self.plugins, self.job = plugins, job
        self.failed: set[tuple[str, str]] = set()

    def progress(self, point: Point) -> None:
        """Tell of a point of the learning curve; each observer gets a copy of its own."""
        self._tell("job_progress", lambda: {"point": point.as_dict()})

    def finished(self, record: Record) -> None:
        """Tell of the job's record, which is written, with the folder that it lies in."""
        self._tell("job_finished", lambda: {"record": record.model_copy(update={"folder": self.job.folder})})

    def _tell(self, hook: str, news: Callable[[], dict[str, Any]]) -> None:
        for implementation in getattr(self.plugins.manager.hook, hook).get_hookimpls():
            arguments = {"job": self.job, **news()}
            try:
                with generators_kept(), redirect_stdout(sys.stderr):
                    implementation.function(**{name: arguments[name] for name in implementation.argnames})
            except BaseException as error:
                if is_interruption(error):
                    raise
                if (implementation.plugin_name, hook) not in self.failed:
                    self.failed.add((implementation.plugin_name, hook))
                    log.exception("plugin %s: %s failed", implementation.plugin_name, hook)
