"""`genbench check-plugin`: the conformance kit in separate processes, so that a plugin may hang or die."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from genbench.conformance.places import SourceLine, dumped_at, own_sources, place_of, real
from genbench.conformance.promise import Promise
from genbench.conformance.verdicts import Report, Verdict, check_cases, merged
from genbench.devices import use_threads
from genbench.executors.local import threads_for
from genbench.extension.loading import installed
from genbench.extension.registry import Plugins
from genbench.running.defaults import load_plugins
from genbench.support.errors import BadInput
from genbench.support.processes import Child, Say
from genbench.support.progress import at, last_words, unwatch, watch


class Ended(Exception):
    """A process that ended early: how, and the traceback it left, if any."""

    def __init__(self, how: str, dump: str) -> None:
        super().__init__(how)
        self.how, self.dump = how, dump


def check_plugin(
    plugin: str, limit: float, device: str = "cpu", tell: Callable[[str], object] = lambda line: None
) -> Iterator[Report]:
    """Yield a report for each model once it is complete.

    `tell` receives a line when a model is first checked on images of a kind. A check that makes no progress for `limit`
    seconds is killed: its promise counts as broken, and later ones are not checked.
    Raises BadInput for a plugin that is unknown or cannot be loaded.
    """
    try:
        (names,) = _said_by(say_models, limit, plugin)
    except Ended as end:
        place = dumped_at(end.dump, {real(plugin)})
        at_line = f", at {place}" if place else ""
        raise BadInput(f"{plugin}: {end.how}, while it was loaded{at_line}", "look at what its import does") from None
    for name in names:
        yield _check(plugin, name, limit, device, tell)


def _check(plugin: str, name: str, limit: float, device: str, tell: Callable[[str], object]) -> Report:
    report, sources, found = Report(name, plugin, [], []), set[str](), list[Verdict]()
    begun: tuple[str, str, SourceLine | None] = ("", "", None)
    try:
        for kind, said in _said_by(say_verdicts, limit, plugin, name, device):
            if kind == "model":
                report.origin, sources = said
            elif kind == "begun":
                begun = said
                if begun[0] not in report.cases:
                    report.cases.append(begun[0])
                    tell(f"checking {name} on images of {begun[0]}")
            else:
                found.append(said)
    except Ended as end:
        case, promise, place = begun
        found.append(Verdict(promise, "FAIL", end.how, dumped_at(end.dump, sources) or place, (case,)))
    report.verdicts += merged(found)
    return report


def _said_by(main: Callable[..., None], limit: float, *words: str) -> Iterator[Any]:
    """Yield what `main` says in a separate process until it ends. Raises Ended, or the error that it reported."""
    with (
        tempfile.TemporaryDirectory(prefix="genbench-") as folder,
        Child("check", check_main, main, words, Path(folder), limit) as child,
    ):
        yield from child.said(None)
        child.process.join()
        end = last_words(Path(folder))
        if child.process.exitcode or end.hook:
            hung = f"no progress for {limit:g} seconds (--hang-timeout; a busy machine needs longer)"
            how = hung if end.hung else f"its process {child.ending()}"
            raise Ended(how, end.traceback)


# In the separate process


def check_main(say: Say, main: Callable[..., None], words: tuple[str, ...], folder: Path, limit: float) -> None:
    """Run `main`, and leave last words in the folder if it does not end normally."""
    os.dup2(2, 1)  # what a plugin prints is not part of the report
    use_threads(threads_for(1))
    watch(folder, limit)
    at("check")
    main(say, *words)
    unwatch()


def say_models(say: Say, plugin: str) -> None:
    """Send the names of a plugin's models."""
    plugins, names = _opened(plugin)
    for name in names:
        plugins.model(name)
    if not names:
        raise BadInput(f"{plugin}: it registers no model", "register one by the hook register_models")
    say(names)


def say_verdicts(say: Say, plugin: str, name: str, device: str) -> None:
    """Send everything about one model: its origin, each promise as its check begins, and the verdict."""
    model, info = _opened(plugin)[0].model(name)
    say(("model", (info.origin.removeprefix("--plugin "), own_sources(model))))

    def begun(case: str, promise: Promise) -> None:
        say(("begun", (case, promise.text, place_of(model, promise.about))))

    for verdict in check_cases(model, begun=begun, device=device):
        say(("verdict", verdict))


def _opened(plugin: str) -> tuple[Plugins, list[str]]:
    """The plugins, and the models to check: those in the file, or the one of the name; installed names come first."""
    known = plugin in {point.name for point in installed()}
    file = not known and (Path(plugin).suffix == ".py" or Path(plugin).exists())
    plugins = load_plugins([plugin] if file else [])
    return plugins, plugins.infos[-1].models if file else [plugin]
