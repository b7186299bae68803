"""What `run` and `plan` share: turning the command line into jobs that can run, and reporting mistakes."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from types import MappingProxyType
from typing import Any

from genbench.condition import OF_DATASET, Kind
from genbench.data.condition_plan import conditions_of
from genbench.data.dataset import Dataset
from genbench.data.encoders import Chosen, choose, described, encode
from genbench.data.entries import known_datasets
from genbench.data.folders import cache_root, data_root
from genbench.data.preparation import Progress, prepare, stand_in
from genbench.data.tuning import prepare_tuning
from genbench.executors import Executor, local
from genbench.executors.built_in import BuiltIn
from genbench.extension.loading import check_known
from genbench.extension.registry import Plugins
from genbench.planning.command import with_command
from genbench.planning.config import Experiment, configure, make_experiment
from genbench.planning.plan import make_jobs
from genbench.planning.suites import shipped_name
from genbench.planning.too_few import too_few_images
from genbench.planning.unused import unused_words
from genbench.records.job import Job, Runtime
from genbench.records.task import Context, Need, Task, make_task
from genbench.running.defaults import load_plugins
from genbench.support.errors import BadInput, EnvironmentProblem, GenbenchError, did_you_mean, together
from genbench.support.paths import check_writable, real


@dataclass(frozen=True)
class Session:
    """An experiment, ready to run."""

    experiment: Experiment
    plugins: Plugins
    datasets: dict[str, Dataset]
    jobs: list[Job]
    executor: Executor
    groups: list[tuple[str, ...]]
    at_once: int
    context: Context
    missing: dict[str, list[GenbenchError]]
    """What keeps a dataset's jobs from running, by dataset name; empty unless the session is `incomplete`."""

    @property
    def remarks(self) -> list[str]:
        """What users should know of the images and of their own words before anything runs."""
        of_images = [f"{name}: {remark}" for name, data in self.datasets.items() for remark in data.remarks]
        named = [f"the suite names the plugin {name}" for name in self.experiment.plugins]
        few = too_few_images(self.jobs, self.datasets, self.plugins.registered("register_extractors"))
        return [*named, *of_images, *few, *unused_words(self.experiment, self.plugins)]

    def task(self, job: Job, need: Need) -> Task:
        """The task that an executor gets for a job."""
        return make_task(job, self.datasets[job.dataset].stamp(job.kind), self.context, need)


@dataclass(frozen=True)
class Request:
    """The command line; `options` are those that a suite file also has, None if not given."""

    suite: Path | None
    options: Mapping[str, Any]
    models: tuple[str, ...]
    settings: tuple[str, ...]
    device: str = "auto"
    jobs: int = 1
    processes: int = 1
    executor: str = "local"
    plugins: tuple[str, ...] = ()
    strict_plugins: bool = False
    datasets: Path | None = None
    data_root: Path | None = None
    weights: Path | None = None
    out: Path = Path("runs")
    offline: bool = False
    timeout: float | None = None
    hang_timeout: float | None = None
    sweeps: tuple[str, ...] = ()
    encoder: str | None = None
    """`NAME=FOLDER`, the frozen encoder of text; None: numbers of words, whose meaning is trained along."""


def open_session(
    request: Request, progress: Progress | None = None, incomplete: bool = False, encoding: Progress | None = None
) -> Session:
    """Read, check and plan. Raises BadInput or EnvironmentProblem before anything is trained or written.

    An `incomplete` session keeps the jobs of datasets that are not available or lack an extractor's weights. `progress`
    is told how far the preparation of a dataset is, `encoding` how many of its captions are encoded.
    """
    experiment = make_experiment(request.suite, request.options, request.models, request.settings, request.sweeps)
    files = plugin_files(experiment, request)
    check_known([choice.name for choice in experiment.models], files)
    check_writable("--out", request.out)
    from genbench.evaluate.extractors import check_extractors, kind_of
    from genbench.planning.shadow import check_models

    groups = find_groups(request, experiment)
    plugins = load_plugins(files)
    plugins.add_core(BuiltIn(), "genbench executors")
    executor = make_executor(request.executor, plugins)
    if request.strict_plugins:
        plugins.require_whole()
    check_configs(experiment, plugins)
    for name in experiment.extractors:
        kind_of(name, plugins.registered("register_extractors"))
    encoder = chosen_encoder(request, experiment, plugins)
    runtime = Runtime(
        device=groups[0][0], peers=groups[0][1:], threads=local.threads_for(request.jobs * len(groups)),
        executor=request.executor, out=request.out, cache=cache_root(), weights=request.weights,
        offline=request.offline, plugins=files, timeout=request.timeout, hang_timeout=request.hang_timeout,
    )  # fmt: skip
    tables = [request.datasets] if request.datasets else []
    missing: dict[str, list[GenbenchError]] = {}
    absent = missing if incomplete else None
    wanted = {kind: without(kind, experiment, request) for kind in experiment.kinds}
    datasets = open_datasets(experiment.datasets, tables, plugins, request, progress, absent, wanted, experiment.tune)
    if encoder is not None:
        datasets = {name: described(data, encoder) for name, data in datasets.items()}
    jobs = make_jobs(experiment, plugins, datasets.values(), runtime)
    jobs = [with_command(job, experiment, tables, plugins.observers(), request.encoder) for job in jobs]
    check_models(jobs, plugins, datasets)
    for dataset in datasets.values():
        try:
            check_extractors(experiment.extractors, dataset, runtime, plugins.registered("register_extractors"))
        except EnvironmentProblem as problem:
            if not incomplete:
                raise
            missing.setdefault(dataset.name, []).append(problem)
    if encoder is not None:
        device = runtime.device if request.executor == "local" else "cpu"
        here = {name: data for name, data in datasets.items() if data.digest}
        datasets |= {name: encode(data, encoder, device, encoding) for name, data in here.items()}
    context = Context.of(tables, data_root(request.data_root))
    return Session(experiment, plugins, datasets, jobs, executor, groups, request.jobs, context, missing)


def plugin_files(experiment: Experiment, request: Request) -> tuple[str, ...]:
    """The plugins of the suite, then those of `--plugin`, each once."""
    return tuple({str(real(Path(name))): name for name in (*experiment.plugins, *request.plugins)}.values())


def chosen_encoder(request: Request, experiment: Experiment, plugins: Plugins) -> Chosen | None:
    """The frozen encoder of text that is asked for; None for none. Raises BadInput if no row conditions on text."""
    if request.encoder is None:
        return None
    if not {"text", OF_DATASET}.intersection(experiment.kinds):
        raise BadInput(f"--encoder {request.encoder}: no row conditions on text", "give --condition text")
    return choose(request.encoder, plugins.registered("register_encoders"), cache_root())


def find_groups(request: Request, experiment: Experiment) -> list[tuple[str, ...]]:
    """The devices of each job slot. Raises BadInput or EnvironmentProblem for impossible or unavailable ones."""
    import torch

    from genbench.devices import check_compiler, devices_elsewhere, group_devices, resolve_devices

    processes = processes_of_launcher(request.processes)
    if request.executor == "local":
        devices = resolve_devices(request.device)
        if experiment.compile:
            check_compiler(devices[0])
        return group_devices(devices, processes)
    groups = devices_elsewhere(request.device, processes)
    if experiment.precision == "auto" and groups[0][0] != "cpu" and not torch.cuda.is_available():
        raise BadInput("--precision auto: no GPU here to check bf16 support", "use --precision bf16 or fp32")
    return groups


def make_executor(name: str, plugins: Plugins) -> Executor:
    """The executor of that name. Raises BadInput for an unknown one, EnvironmentProblem for one that cannot be used."""
    known = plugins.registered("register_executors")
    if name not in known:
        raise BadInput(f"--executor {name}: unknown", did_you_mean(name, set(known)))
    executor: Executor = known[name][0]()
    return executor


def open_datasets(
    names: Iterable[str],
    files: list[Path],
    plugins: Plugins,
    request: Request,
    progress: Progress | None,
    missing: dict[str, list[GenbenchError]] | None = None,
    wanted: Mapping[Kind, str] = MappingProxyType({}),
    tune: bool = False,
) -> dict[str, Dataset]:
    """The named datasets, prepared, or their tuning splits. Raises BadInput with the nearest names for an unknown one.

    `wanted` are the kinds that they must have to condition on, each with what to do about a dataset that has not.
    If `missing` is given, a dataset that cannot be prepared is replaced by a stand-in, and the reason recorded there.
    """
    known = known_datasets(files, plugins)
    for name in names:
        if name not in known:
            raise BadInput(f"unknown dataset {name!r}", f"{did_you_mean(name, set(known))}; see `genbench datasets`")
        kinds = known[name].source.kinds()
        for kind, hint in wanted.items():
            if kind == OF_DATASET and set(kinds) <= {"class"}:
                raise BadInput(f"dataset {name!r} has nothing to condition on but the class", "use --conditional")
            if kind != OF_DATASET and kind not in kinds:
                words = f"dataset {name!r} has no {conditions_of(kind).words} to condition on"
                raise BadInput(words, f"it has {', '.join(kinds)}" if kinds else hint)
    found, opened = {}, prepare_tuning if tune else prepare
    for name in names:
        try:
            found[name] = opened(known[name], data_root(request.data_root), request.offline, progress)
        except GenbenchError as problem:
            if missing is None:
                raise
            missing[name], found[name] = [problem], replace(stand_in(known[name]), tuning=tune)
    return found


def without(kind: Kind, experiment: Experiment, request: Request) -> str:
    """How to do without conditions of a kind: by other options, or by other rows of the suite."""
    if request.options.get("conditional") or request.options.get("condition"):
        return "run it unconditionally: leave out --conditional or --condition"
    rows = dict.fromkeys(choice.label for choice in experiment.models if experiment.kind_of(choice) == kind)
    name = shipped_name(request.suite)
    file = f"a file of your own, from `genbench suites {name} > mine.toml`" if name else str(request.suite)
    return f"leave out the rows that ask for them ({', '.join(rows)}) in {file}"


def check_configs(experiment: Experiment, plugins: Plugins) -> None:
    """Raise one BadInput that names every unknown model and every invalid option, once for all rows of a label."""
    faults: dict[str, GenbenchError] = {}
    for choice in experiment.models:
        try:
            configure(plugins.model(choice.name)[0], choice)
        except BadInput as fault:
            faults |= {each.message: each for each in fault.problems or [fault]}
    if faults:
        raise together(list(faults.values()))


def processes_of_launcher(processes: int) -> int:
    """The number of processes per job: as many as torchrun started or, without torchrun, `processes`.

    Rank 0 starts the other processes of a job itself, so that only one writes; torchrun's other ranks exit here.
    Raises BadInput for a launcher that spans machines or starts another number of processes.
    """
    launched = os.environ.get("WORLD_SIZE") or "1"
    if launched == "1":
        return processes
    if "RANK" not in os.environ or os.environ.get("LOCAL_WORLD_SIZE") != launched:
        raise BadInput(
            f"WORLD_SIZE={launched}: started by a multi-process launcher other than single-machine torchrun",
            "start genbench once, without a launcher, and pass --processes N",
        )
    if processes not in (1, int(launched)):
        raise BadInput(f"--processes {processes}: torchrun started {launched}", "leave --processes out")
    if os.environ["RANK"] != "0":
        raise SystemExit(0)
    return int(launched)
