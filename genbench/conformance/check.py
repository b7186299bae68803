"""`genbench check-plugin`: the conformance kit in processes of their own, which may hang or die: the check goes on."""

from __future__ import annotations

import multiprocessing
import os
import signal
import tempfile
from collections.abc import Callable, Iterator
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from genbench.conformance.places import Place, dumped_at, own_sources, place_of, real
from genbench.conformance.promise import Promise
from genbench.conformance.verdicts import Report, Verdict, check_cases, merged
from genbench.extension.loading import installed
from genbench.extension.registry import Plugins
from genbench.running.defaults import load_plugins
from genbench.support.errors import BadInput, GenbenchError, as_error, plain_error
from genbench.support.processes import die_with_parent, ending, start_forkserver
from genbench.support.progress import at, last_words, unwatch, watch

Say = Callable[[Any], object]


class Ended(Exception):
    """A process that ended before its time: how, and what it left of a traceback."""

    def __init__(self, how: str, dump: str) -> None:
        super().__init__(how)
        self.how, self.dump = how, dump


def check_plugin(
    plugin: str, limit: float, device: str = "cpu", tell: Callable[[str], object] = lambda line: None
) -> Iterator[Report]:
    """A report a model, each when it is whole. Raises BadInput for a plugin that is unknown or cannot be loaded.

    `tell` hears which model is tried next, and on which images.

    What makes no progress for `limit` seconds is ended: then that promise is broken, and what follows is not checked.
    """
    try:
        (names,) = _said_by(say_models, (plugin,), limit)
    except Ended as end:
        place = dumped_at(end.dump, {real(plugin)})
        at_line = f", at {place}" if place else ""
        raise BadInput(f"{plugin}: {end.how}, while it was loaded{at_line}", "look at what its import does") from None
    for name in names:
        yield _check(plugin, name, limit, device, tell)


def _check(plugin: str, name: str, limit: float, device: str, tell: Callable[[str], object]) -> Report:
    report, sources, found = Report(name, plugin, [], []), set[str](), list[Verdict]()
    begun: tuple[str, str, Place | None] = ("", "", None)
    try:
        for kind, said in _said_by(say_verdicts, (plugin, name, device), limit):
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


def _said_by(task: Callable[..., None], words: tuple[str, ...], limit: float) -> Iterator[Any]:
    """What a task in a process of its own says, until it ends. Raises Ended, or the error that it told."""
    start_forkserver()
    spawn = multiprocessing.get_context("forkserver")
    receiver, sender = spawn.Pipe(duplex=False)
    with tempfile.TemporaryDirectory(prefix="genbench-") as folder:
        process = spawn.Process(target=child_main, args=(task, words, Path(folder), limit, sender))
        process.start()
        sender.close()
        try:
            while (said := _next(receiver)) is not None:
                if isinstance(said, dict):
                    raise as_error(said)
                yield said
            process.join()
            end = last_words(Path(folder))
            if process.exitcode or end.hook:
                died = f"its process {ending(process.exitcode or 0)}"
                how = f"no progress for {limit:g} seconds" if end.hung else died
                raise Ended(how, end.traceback)
        finally:
            process.kill()
            process.join()


def _next(receiver: Connection) -> Any:
    try:
        return receiver.recv()
    except EOFError:
        return None


# In such a process


def child_main(
    task: Callable[..., None], words: tuple[str, ...], folder: Path, limit: float, sender: Connection
) -> None:
    """Do the task, and leave last words in the folder where that does not end well."""
    die_with_parent()
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's, with whom this process ends
    os.dup2(2, 1)  # what a plugin prints is no report
    watch(folder, limit)
    at("check")
    try:
        task(*words, sender.send)
    except GenbenchError as error:
        sender.send(plain_error(error))
    unwatch()


def say_models(plugin: str, say: Say) -> None:
    """The names of a plugin's models."""
    plugins, names = _opened(plugin)
    for name in names:
        plugins.model(name)
    if not names:
        raise BadInput(f"{plugin}: it registers no model", "register one by the hook register_models")
    say(names)


def say_verdicts(plugin: str, name: str, device: str, say: Say) -> None:
    """All about one model: where it comes from, each promise when its check begins, and the verdict on it."""
    model, info = _opened(plugin)[0].model(name)
    say(("model", (info.origin.removeprefix("--plugin "), own_sources(model))))

    def begun(case: str, promise: Promise) -> None:
        say(("begun", (case, promise.text, place_of(model, promise.about))))

    for verdict in check_cases(model, begun=begun, device=device):
        say(("verdict", verdict))


def _opened(plugin: str) -> tuple[Plugins, list[str]]:
    """The plugins, and the names of the models that a file stands for, or a name, which an installed plugin goes by."""
    known = plugin in {point.name for point in installed()}
    file = not known and (Path(plugin).suffix == ".py" or Path(plugin).exists())
    plugins = load_plugins([plugin] if file else [])
    return plugins, plugins.infos[-1].models if file else [plugin]
