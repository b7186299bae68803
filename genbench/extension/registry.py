"""Plugins, by entry point or `--plugin FILE`: each is loaded apart, so that a broken one stops only what needs it."""

from __future__ import annotations

import hashlib
import importlib
import importlib.util
import inspect
import multiprocessing
import sys
import time
from collections.abc import Callable
from contextlib import redirect_stdout
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import pluggy

from genbench import hookspecs
from genbench.extension.sources import GROUP, source_files
from genbench.support.errors import BadInput, EnvironmentProblem, GenbenchError, describe, did_you_mean, line_of
from genbench.support.names import check_name
from genbench.support.signals import is_interruption
from genbench.support.text import say
from genbench.support.version import __version__

if TYPE_CHECKING:
    from genbench.model import Model

NOUNS = ("register_calibrations", "register_datasets", "register_executors", "register_extractors")
"""The hooks that register values by name."""
SLOW_SECONDS = 10.0
"""An import that takes longer is warned of: every process of a run pays for it."""
State = Literal["ok", "broken", "incompatible", "duplicate"]


@dataclass
class PluginInfo:
    """A plugin as `genbench plugins` lists it: where it came from, and why it does not work, if so."""

    name: str
    origin: str
    distribution: str = ""
    version: str = ""
    state: State = "ok"
    reason: str = ""
    models: list[str] = field(default_factory=list)
    plugin: Any = None

    @cached_property
    def sources(self) -> list[Path]:
        """The Python files behind the plugin's numbers."""
        return source_files(self.plugin)

    def fault(self, message: str, hint: str) -> GenbenchError:
        """The error for one that asks for the plugin: a bad file, or an environment that is not whole."""
        installed = not self.origin.startswith("--plugin")
        return (EnvironmentProblem if installed or self.state == "incompatible" else BadInput)(message, hint)

    @property
    def digest(self) -> str:
        """SHA-256 of the plugin's source files, the part of a job's identity that says which code trained."""
        content = hashlib.sha256()
        for file in self.sources:
            content.update(file.name.encode() + b"\0" + file.read_bytes() + b"\0")
        return content.hexdigest()

    def same_code(self, other: PluginInfo) -> bool:
        """Whether both consist of the same bytes, whatever the names of their files."""
        return [file.read_bytes() for file in self.sources] == [file.read_bytes() for file in other.sources]


class Plugins:
    """The loaded plugins: pluggy's manager with the core's defaults, and what the plugins registered."""

    def __init__(self) -> None:
        self.manager = pluggy.PluginManager(GROUP)
        self.manager.add_hookspecs(hookspecs)
        self.infos: list[PluginInfo] = []
        self._models: dict[str, list[tuple[type[Model], PluginInfo]]] = {}
        self._nouns: dict[str, list[tuple[str, Any, str]]] = {hook: [] for hook in NOUNS}

    def add(self, info: PluginInfo, load: Callable[[], Any]) -> None:
        """Load one plugin into the manager; whatever goes wrong is kept as its state and reason."""
        self.infos.append(info)
        plugin: Any = None
        importlib.import_module("genbench.model")  # and with it torch, whose time is no plugin's
        try:
            with redirect_stdout(sys.stderr):
                plugin = info.plugin = timed(load, info)
                if reason := misfit(plugin):
                    info.state, info.reason = "incompatible", reason
                    return
                self.manager.register(plugin, name=f"{info.origin}:{info.name}")
                self._check_hooks(plugin)
                self._register_models(plugin, info)
                self._register_nouns(plugin, f"{info.origin}:{info.name}")
        except BaseException as error:
            if is_interruption(error):
                raise
            info.state, info.reason = "broken", describe(error) + line_of(error)
            if plugin is not None and self.manager.is_registered(plugin):
                self.manager.unregister(plugin)

    def _check_hooks(self, plugin: Any) -> None:
        known = {
            name
            for name, _ in inspect.getmembers(hookspecs, inspect.isfunction)
            if hasattr(getattr(hookspecs, name), "genbench_spec")
        }
        hooks = [hook.name for hook in self.manager.get_hookcallers(plugin) or []]
        if not hooks:
            raise BadInput("it defines no genbench hook", "mark the hooks with @genbench.hookimpl")
        for hook in hooks:
            if hook not in known:
                raise BadInput(f"it has an unknown hook {hook!r}", did_you_mean(hook, known))

    def _register_models(self, plugin: Any, info: PluginInfo) -> None:
        from genbench.model import Model

        hook = getattr(plugin, "register_models", None)
        if hook is None:
            return
        found: list[type[Model]] = []
        hook(register=found.append)
        for model in found:
            if found.count(model) > 1:
                raise BadInput(f"register() was given {model!r} twice", "register each model once")
            if not (isinstance(model, type) and issubclass(model, Model)):
                raise BadInput(f"register() was given {model!r}", "give it a subclass of genbench.Model")
            check_name(getattr(model, "name", None), f"the name of {model.__qualname__}")
            _check_roles(model)
        for model in found:
            info.models.append(model.name)
            self._models.setdefault(model.name.lower(), []).append((model, info))

    def add_core(self, plugin: Any, name: str) -> None:
        """Take in hooks of the core's own, which are whole."""
        self.manager.register(plugin, name=name)
        self._register_nouns(plugin, name)

    def _register_nouns(self, plugin: Any, origin: str) -> None:
        """Keep what the plugin registers by the hooks that take names and values."""
        for hook in NOUNS:
            if (register := getattr(plugin, hook, None)) is not None:
                found = named(hook, register)
                self._nouns[hook] += [(name, value, origin) for name, value in found.items()]

    def owns(self, verb: str, info: PluginInfo) -> bool:
        """Whether the plugin has a hook of its own for `train` or `sample`, by which it may do its models' work."""
        hooks = getattr(self.manager.hook, verb).get_hookimpls()
        return any(hook.plugin_name == f"{info.origin}:{info.name}" and not hook.wrapper for hook in hooks)

    def measurers(self) -> dict[str, str]:
        """The plugins that measure, by the hook `evaluate`, each with the digest of its source."""
        measuring = {hook.plugin_name for hook in self.manager.hook.evaluate.get_hookimpls()}
        return {info.name: info.digest for info in self.infos if f"{info.origin}:{info.name}" in measuring}

    def mark_duplicates(self) -> None:
        """A model that two plugins offer is neither's: both are listed, and asking for it is an error.

        Unless they are the same code, as a copy of a shipped plugin is: then it is one model, the first plugin's.
        """
        for offers in self._models.values():
            for model, info in offers[1:]:
                if info.same_code(offers[0][1]):
                    info.reason = f"model {model.name!r} is the same code as that of {offers[0][1].origin}"
                    offers.remove((model, info))
            if len(offers) > 1:
                for _, info in offers:
                    others = [other.origin for _, other in offers if other is not info]
                    info.state = "duplicate"
                    info.reason = f"model {offers[0][0].name!r} also comes from {', '.join(others)}"

    @property
    def model_names(self) -> list[str]:
        return sorted(offers[0][0].name for offers in self._models.values() if len(offers) == 1)

    def model(self, name: str) -> tuple[type[Model], PluginInfo]:
        """The class of a model and its plugin.

        Raises BadInput for one that is unknown or offered twice, EnvironmentProblem for one that is broken.
        """
        offers = self._models.get(name.lower(), [])
        if len(offers) == 1 and offers[0][0].name == name:
            return offers[0]
        if len(offers) > 1:
            origins = " and ".join(info.origin for _, info in offers)
            raise BadInput(f"model {name!r} comes from {origins}", "uninstall one, or rename its model")
        for info in self.infos:
            if info.name.lower() == name.lower() and info.state in ("broken", "incompatible"):
                told = f"model {name!r}: its plugin {info.origin} is {info.state}: {info.reason}"
                raise info.fault(told, "see `genbench plugins`")
        raise BadInput(f"unknown model {name!r}", f"{did_you_mean(name, set(self.model_names))}; see `genbench models`")

    def registered(self, hook: str) -> dict[str, tuple[Any, str]]:
        """What was registered by `register_datasets`, `_extractors` or `_executors`: name -> (value, plugin)."""
        found: dict[str, tuple[Any, str]] = {}
        for name, value, origin in self._nouns[hook]:
            if name in found:
                raise BadInput(f"{name!r} is registered by {found[name][1]} and by {origin}", "rename one")
            found[name] = (value, origin)
        return found

    def require_whole(self) -> None:
        """For `--strict-plugins`: raise BadInput if any plugin is broken or a duplicate."""
        faults = [f"{info.origin}: {info.reason}" for info in self.infos if info.state != "ok"]
        if faults:
            raise BadInput("; ".join(faults), "mend or uninstall it, or leave out --strict-plugins")


def misfit(plugin: Any) -> str:
    """Why a plugin is not written for this genbench, by its `genbench_api`; empty where it fits or does not say."""
    oldest, own = hookspecs.OLDEST_API, hookspecs.API
    said = getattr(plugin, "genbench_api", own)
    if type(said) is not int:
        return f"its genbench_api is {said!r}, where a whole number belongs; that of genbench {__version__} is {own}"
    if oldest <= said <= own:
        return ""
    known = f"{oldest} to {own}" if oldest < own else f"{own}"
    upgrade = "genbench" if said > own else "the plugin"
    return f"it is written for genbench_api {said}, genbench {__version__} has {known}: upgrade {upgrade}"


def named(hook: str, register: Callable[..., None]) -> dict[str, Any]:
    """What a hook registers, by name. Raises BadInput for a name that is none or comes twice, or a bad table."""
    found: dict[str, Any] = {}

    def add(name: str, value: Any) -> None:
        if name in found:
            raise BadInput(f"{hook}: {name!r} twice", "rename one")
        found[check_name(name, hook)] = value

    register(register=add)
    if hook == "register_datasets":
        from genbench.data import make_entry

        for name, table in found.items():
            make_entry(name, table, Path.cwd(), hook)
    return found


def _check_roles(model: type[Model]) -> None:
    """Raise BadInput where an option of the model does not say what a change of it invalidates."""
    for name in model.Config.model_fields:
        try:
            model.Config.role(name)
        except TypeError as error:
            raise BadInput(str(error), "its role says what a change of it invalidates") from None


def timed(load: Callable[[], Any], info: PluginInfo) -> Any:
    """What `load` gives; a slow one is warned of, once a command: by the process that has no parent among ours."""
    began = time.perf_counter()
    plugin = load()
    seconds = time.perf_counter() - began
    if seconds > SLOW_SECONDS and multiprocessing.parent_process() is None:
        say(f"warning: plugin {info.name} ({info.origin}): its import took {seconds:.1f} s, in every process anew")
    return plugin
