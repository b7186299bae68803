"""What `run` and `plan` share: from the command line's words to jobs that can run, every mistake found on the way."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from genbench.data.dataset import Dataset
from genbench.data.entries import known_datasets
from genbench.data.folders import as_folder, cache_root, data_root
from genbench.data.preparation import Progress, prepare, stand_in
from genbench.executors import Executor, local
from genbench.executors.built_in import BuiltIn
from genbench.extension.loading import check_known
from genbench.extension.registry import Plugins
from genbench.planning.config import Experiment, configure, make_experiment
from genbench.planning.plan import make_jobs
from genbench.records.job import Job, Runtime
from genbench.records.task import Context, Need, Task, make_task
from genbench.running.defaults import load_plugins
from genbench.support.errors import BadInput, EnvironmentProblem, GenbenchError, did_you_mean, together


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
    """What keeps a dataset's jobs from running, by its name; only where it was asked for to plan nevertheless."""

    def task(self, job: Job, need: Need) -> Task:
        """A job of the session as an executor is handed it."""
        return make_task(job, self.datasets[job.dataset].stamp(job.conditional), self.context, need)


@dataclass(frozen=True)
class Request:
    """The words of the command line; `options` are those of a suite file, None where not given."""

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


def open_session(request: Request, progress: Progress | None = None, incomplete: bool = False) -> Session:
    """Read, check and plan. Raises BadInput or EnvironmentProblem before anything is trained or written.

    An `incomplete` session also has the jobs of datasets that are not here, or lack an extractor's weights.
    """
    experiment = make_experiment(request.suite, request.options, request.models, request.settings, request.sweeps)
    check_known([choice.name for choice in experiment.models], request.plugins)
    check_out(request.out)
    from genbench.evaluate.extractors import check_extractors
    from genbench.planning.shadow import check_models

    groups = find_groups(request, experiment)
    plugins = load_plugins(request.plugins)
    plugins.add_core(BuiltIn(), "genbench executors")
    executor = make_executor(request.executor, plugins)
    if request.strict_plugins:
        plugins.require_whole()
    check_configs(experiment, plugins)
    runtime = Runtime(
        device=groups[0][0], peers=groups[0][1:], threads=local.threads_for(request.jobs * len(groups)),
        executor=request.executor, out=request.out, cache=cache_root(), weights=request.weights,
        offline=request.offline, plugins=request.plugins, timeout=request.timeout, hang_timeout=request.hang_timeout,
    )  # fmt: skip
    files = [request.datasets] if request.datasets else []
    missing: dict[str, list[GenbenchError]] = {}
    absent = missing if incomplete else None
    datasets = open_datasets(experiment.datasets, files, plugins, request, progress, absent, experiment.conditional)
    jobs = make_jobs(experiment, plugins, datasets.values(), runtime)
    check_models(jobs, plugins, datasets)
    for dataset in datasets.values():
        try:
            check_extractors(experiment.extractors, dataset, runtime, plugins.registered("register_extractors"))
        except EnvironmentProblem as problem:
            if not incomplete:
                raise
            missing.setdefault(dataset.name, []).append(problem)
    context = Context.of(files, data_root(request.data_root))
    return Session(experiment, plugins, datasets, jobs, executor, groups, request.jobs, context, missing)


def find_groups(request: Request, experiment: Experiment) -> list[tuple[str, ...]]:
    """The devices as jobs may have them. Raises BadInput or EnvironmentProblem for what they cannot be or do."""
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
        raise BadInput("--precision auto: there is no GPU here to say what it can do", "use --precision bf16 or fp32")
    return groups


def make_executor(name: str, plugins: Plugins) -> Executor:
    """The executor of that name. Raises BadInput for an unknown one, EnvironmentProblem for one that cannot work."""
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
    conditional: bool = False,
) -> dict[str, Dataset]:
    """The named datasets, prepared. Raises BadInput with the nearest names for an unknown one.

    Where `missing` is given, a dataset that cannot be prepared is put there with its reason, and has a stand-in.
    """
    known = known_datasets(files, plugins)
    for name in names:
        if name not in known:
            raise BadInput(f"unknown dataset {name!r}", f"{did_you_mean(name, set(known))}; see `genbench datasets`")
        if conditional and not known[name].source.num_classes:
            mend = "leave --conditional out, or choose a labelled dataset"
            raise BadInput(f"--conditional: dataset {name!r} has no labels", mend)
    found = {}
    for name in names:
        try:
            found[name] = prepare(known[name], data_root(request.data_root), request.offline, progress)
        except GenbenchError as problem:
            if missing is None:
                raise
            missing[name], found[name] = [problem], stand_in(known[name])
    return found


def check_configs(experiment: Experiment, plugins: Plugins) -> None:
    """Raise BadInput naming every model that is not known, and every option that is wrong, of all models together."""
    faults: list[GenbenchError] = []
    for choice in experiment.models:
        try:
            configure(plugins.model(choice.name)[0], choice)
        except BadInput as fault:
            faults += fault.problems or [fault]
    if faults:
        raise together(faults)


def processes_of_launcher(processes: int) -> int:
    """The processes of a job: as many as torchrun has started, where it has, else `processes`.

    The first of torchrun's processes starts a job's others itself, so that one alone writes; the rest end here at once.
    Raises BadInput for a launcher over several machines, or one of another number.
    """
    launched = os.environ.get("WORLD_SIZE") or "1"
    if launched == "1":
        return processes
    if "RANK" not in os.environ or os.environ.get("LOCAL_WORLD_SIZE") != launched:
        raise BadInput(
            f"WORLD_SIZE={launched}: started by a launcher of several processes that is not torchrun on one machine",
            "start genbench once, without a launcher, and let it start the others: --processes N",
        )
    if processes not in (1, int(launched)):
        raise BadInput(f"--processes {processes}: torchrun has started {launched}", "leave --processes out")
    if os.environ["RANK"] != "0":
        raise SystemExit(0)
    return int(launched)


def check_out(out: Path) -> None:
    """Refuse an output folder that is a file, or that cannot be written. Nothing is created yet."""
    out = as_folder("--out", out).absolute()
    found = next(each for each in (out, *out.parents) if each.exists())
    if not os.access(found, os.W_OK | os.X_OK):
        raise EnvironmentProblem(f"--out {out}: {found} cannot be written", "choose another folder by --out")
