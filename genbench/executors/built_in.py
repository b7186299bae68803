"""The executors that come with genbench."""

from __future__ import annotations

from collections.abc import Callable

from genbench.hookspecs import hookimpl
from genbench.records.task import Executor


class BuiltIn:
    """`local`, this machine, and `ray`, a Ray cluster."""

    @hookimpl
    def register_executors(self, register: Callable[[str, Callable[[], Executor]], None]) -> None:
        from genbench.executors.local import Local
        from genbench.executors.ray import RayCluster

        register("local", Local)
        register("ray", RayCluster)
