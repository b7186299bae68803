"""Plugins, by entry point or `--plugin FILE`: each is loaded separately, so a broken one stops only what needs it."""

from __future__ import annotations

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
from genbench.records.record import Measurement, PluginStamp
from genbench.support import digests
from genbench.support.errors import BadInput, EnvironmentProblem, GenbenchError, describe, did_you_mean, line_of
from genbench.support.names import check_name
from genbench.support.signals import is_interruption
from genbench.support.text import say
from genbench.support.version import __version__

if TYPE_CHECKING:
    from genbench.model import Model

NOUNS = (
    "register_calibrations",
    "register_datasets",
    "register_encoders",
    "register_executors",
    "register_extractors",
    "register_sources",
)
"""The hooks that register values by name."""
SLOW_SECONDS = 10.0
"""An import that takes longer gets a warning: every process of a run pays for it."""
State = Literal["ok", "broken", "incompatible", "duplicate"]
GIVEN = "--plugin "
"""How the origin of a plugin that was given by the option begins."""
OBSERVING = {"job_progress", "job_finished"}
"""The hooks on which no number depends."""


@dataclass
class PluginInfo:
    """A plugin as `genbench plugins` lists it: where it came from, and why it does not work, if it does not."""

    name: str
    origin: str
    distribution: str = ""
    version: str = ""
    state: State = "ok"
    reason: str = ""
    models: list[str] = field(default_factory=list)
    plugin: Any = None
    error: BaseException | None = None

    @property
    def key(self) -> str:
        """The name under which pluggy knows the plugin."""
        return f"{self.origin}:{self.name}"

    @cached_property
    def sources(self) -> list[Path]:
        """The Python files that the plugin's results depend on."""
        return source_files(self.plugin)

    @property
    def stamp(self) -> PluginStamp:
        """What a job and its record keep of the plugin."""
        return PluginStamp(name=self.name, version=self.version, digest=self.digest, digest_of="meaning")

    def fault(self, message: str, hint: str) -> GenbenchError:
        """The error for a request that needs the plugin: BadInput for a broken file, else EnvironmentProblem.

        A plugin that itself says what its environment lacks knows the way out better than `hint`.
        """
        if isinstance(self.error, EnvironmentProblem):
            return EnvironmentProblem(message.removesuffix(f" ({self.error.hint})"), self.error.hint or hint)
        installed = not self.origin.startswith("--plugin")
        return (EnvironmentProblem if installed or self.state == "incompatible" else BadInput)(message, hint)

    @property
    def digest(self) -> str:
        """Digest of the meaning of the plugin's source, by which a job's identity says which code trained it."""
        return digests.settings_digest({"files": [(file.name, digests.code_digest(file)) for file in self.sources]})

    def same_code(self, other: PluginInfo) -> bool:
        """Whether both have the same code, whatever their files are called."""
        mine, theirs = ([digests.code_digest(file) for file in info.sources] for info in (self, other))
        return mine == theirs


class Plugins:
    """The loaded plugins: pluggy's manager with the core's defaults, and what the plugins registered."""

    def __init__(self) -> None:
        self.manager = pluggy.PluginManager(GROUP)
        self.manager.add_hookspecs(hookspecs)
        self.infos: list[PluginInfo] = []
        self._models: dict[str, list[tuple[type[Model], PluginInfo]]] = {}
        self.nouns: dict[str, list[tuple[str, Any, str]]] = {hook: [] for hook in NOUNS}

    def add(self, info: PluginInfo, load: Callable[[], Any]) -> None:
        """Load one plugin into the manager; a failure is kept as its state and reason."""
        self.infos.append(info)
        importlib.import_module("genbench.model")  # imports torch, whose time no plugin should be charged for
        try:
            with redirect_stdout(sys.stderr):
                plugin = info.plugin = timed(load, info)
                if reason := misfit(plugin):
                    info.state, info.reason = "incompatible", reason
                    return
                self.manager.register(plugin, name=info.key)
                self._check_hooks(plugin)
                self._register_models(plugin, info)
                self._register_nouns(plugin, info.key)
        except BaseException as error:
            if is_interruption(error):
                raise
            self._break(info, error)

    def _break(self, info: PluginInfo, error: BaseException) -> None:
        """Mark the plugin as broken, and drop everything that it registered."""
        info.state, info.reason, info.error = "broken", describe(error) + line_of(error), error
        info.models.clear()
        for offers in self._models.values():
            offers[:] = [offer for offer in offers if offer[1] is not info]
        for hook, registered in self.nouns.items():
            self.nouns[hook] = [noun for noun in registered if noun[2] != info.key]
        if info.plugin is not None and self.manager.is_registered(info.plugin):
            self.manager.unregister(info.plugin)

    def check_registered(self, hook: str, check: Callable[[str, Any], object]) -> None:
        """Mark as broken every plugin that registered with `hook` something that `check(name, value)` refuses."""
        for info in self.infos:
            try:
                for name, value, _ in [noun for noun in self.nouns[hook] if noun[2] == info.key]:
                    check(name, value)
            except Exception as error:
                self._break(info, error)

    def _check_hooks(self, plugin: Any) -> None:
        known = {
            name
            for name, _ in inspect.getmembers(hookspecs, inspect.isfunction)
            if hasattr(getattr(hookspecs, name), "genbench_spec")
        }
        hooks = [hook.name for hook in self.manager.get_hookcallers(plugin) or []]
        if not hooks:
            raise BadInput("it defines no genbench hook", "decorate the hooks with @genbench.hookimpl")
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
        """Register the core's own hooks without the checks plugins get."""
        self.manager.register(plugin, name=name)
        self._register_nouns(plugin, name)

    def _register_nouns(self, plugin: Any, origin: str) -> None:
        """Keep what the plugin registers with the hooks that take names and values."""
        for hook in NOUNS:
            if (register := getattr(plugin, hook, None)) is not None:
                found = named(hook, register)
                self.nouns[hook] += [(name, value, origin) for name, value in found.items()]

    def owns(self, verb: str, info: PluginInfo) -> bool:
        """Whether the plugin implements the hook `train` or `sample`, and so may do this for its models."""
        hooks = getattr(self.manager.hook, verb).get_hookimpls()
        return any(hook.plugin_name == info.key and not hook.wrapper for hook in hooks)

    def measure(self, **arguments: Any) -> list[Measurement]:
        """Everything that the hook `evaluate` measures; `arguments` are the hook's.

        A plugin written for version 1 is left out if there are no samples, which it does not know to be possible.
        """
        hook = self.manager.hook.evaluate
        if arguments["samples"] is None:
            registered = [info.plugin for info in self.infos if self.manager.is_registered(info.plugin)]
            hook = self.manager.subset_hook_caller("evaluate", [each for each in registered if api_of(each) < 2])
        return [measurement for measured in hook(**arguments) for measurement in measured]

    def measurers(self) -> dict[str, str]:
        """The plugins that implement the hook `evaluate`, each with the digest of its source."""
        measuring = {hook.plugin_name for hook in self.manager.hook.evaluate.get_hookimpls()}
        return {info.name: info.digest for info in self.infos if info.key in measuring}

    def observers(self) -> set[str]:
        """Those of the files and packages given by `--plugin` that do no more than observe jobs."""
        given = [info for info in self.infos if info.origin.startswith(GIVEN) and info.state == "ok"]
        hooks = {info.origin: self.manager.get_hookcallers(info.plugin) or [] for info in given}
        watching = [origin for origin, found in hooks.items() if {hook.name for hook in found} <= OBSERVING]
        return {origin.removeprefix(GIVEN) for origin in watching}

    def mark_duplicates(self) -> None:
        """Mark plugins that offer the same model as duplicates: neither gets it, and asking for it is an error.

        If they are the same code, as with a copy of a shipped plugin, it is one model, the first plugin's.
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
                message = f"model {name!r}: its plugin {info.origin} is {info.state}: {info.reason}"
                raise info.fault(message, "see `genbench plugins`")
        raise BadInput(f"unknown model {name!r}", f"{did_you_mean(name, set(self.model_names))}; see `genbench models`")

    def registered(self, hook: str) -> dict[str, tuple[Any, str]]:
        """What one of NOUNS registered: name -> (value, plugin). Raises BadInput if two plugins share a name."""
        found: dict[str, tuple[Any, str]] = {}
        for name, value, origin in self.nouns[hook]:
            if name in found:
                raise BadInput(f"{name!r} is registered by {found[name][1]} and by {origin}", "rename one")
            found[name] = (value, origin)
        return found

    def require_whole(self) -> None:
        """For `--strict-plugins`: raise BadInput if any plugin is broken or a duplicate."""
        faults = [f"{info.origin}: {info.reason}" for info in self.infos if info.state != "ok"]
        if faults:
            raise BadInput("; ".join(faults), "fix or uninstall it, or leave out --strict-plugins")


def api_of(plugin: Any) -> Any:
    """The version of the API that a plugin states, by default this one."""
    return getattr(plugin, "genbench_api", hookspecs.API)


def misfit(plugin: Any) -> str:
    """Why a plugin is incompatible with this genbench, by its `genbench_api`; "" if it fits or states none."""
    oldest, own = hookspecs.OLDEST_API, hookspecs.API
    said = api_of(plugin)
    if type(said) is not int:
        return f"its genbench_api is {said!r}, not a whole number; that of genbench {__version__} is {own}"
    if oldest <= said <= own:
        return ""
    known = f"{oldest} to {own}" if oldest < own else f"{own}"
    upgrade = "genbench" if said > own else "the plugin"
    return f"it is written for genbench_api {said}, but genbench {__version__} has {known}: upgrade {upgrade}"


def named(hook: str, register: Callable[..., None]) -> dict[str, Any]:
    """What a hook registers, by name. Raises BadInput for an invalid or repeated name."""
    found: dict[str, Any] = {}

    def add(name: str, value: Any) -> None:
        if name in found:
            raise BadInput(f"{hook}: {name!r} is registered twice", "rename one")
        found[check_name(name, hook)] = value

    register(register=add)
    return found


def _check_roles(model: type[Model]) -> None:
    """Raise BadInput if an option of the model does not say what changing it invalidates."""
    for name in model.Config.model_fields:
        try:
            model.Config.role(name)
        except TypeError as error:
            raise BadInput(str(error), "its role says what changing it invalidates") from None


def timed(load: Callable[[], Any], info: PluginInfo) -> Any:
    """The result of `load`, with a warning if it is slow, printed once per command by its first process."""
    began = time.perf_counter()
    plugin = load()
    seconds = time.perf_counter() - began
    if seconds > SLOW_SECONDS and multiprocessing.parent_process() is None:
        say(f"warning: plugin {info.name} ({info.origin}): its import took {seconds:.1f} s, and will in every process")
    return plugin
