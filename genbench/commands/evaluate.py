"""`genbench evaluate`: score samples made elsewhere, or finished runs with more extractors, in this process."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from genbench.commands.words import Words
from genbench.data.dataset import Dataset
from genbench.data.entries import known_datasets
from genbench.data.foreign import Stack, open_samples, row_name
from genbench.devices import exact_arithmetic, use_threads
from genbench.evaluate.extractors import (
    check_extractors,
    check_unseen,
    extractor_names,
    extractor_stamps,
    known_extractors,
)
from genbench.evaluate.likelihood import protocol
from genbench.extension.registry import Plugins
from genbench.metering.meter import Meter
from genbench.records.budget import Budget
from genbench.records.job import Job, Runtime
from genbench.records.protocol import EvaluationSettings
from genbench.records.record import ALWAYS, NO_SAMPLES, REFERENCES, Measurement, PluginStamp, Record
from genbench.records.record_files import load_records, read_record, runs_at
from genbench.records.run_folder import begin, end, previous_record
from genbench.records.samples import Samples
from genbench.running.defaults import load_plugins
from genbench.running.rescore import Finished, open_finished, score_again, with_references
from genbench.running.run import Run, is_done, run_job
from genbench.support import progress, store
from genbench.support.denials import look
from genbench.support.errors import BadInput
from genbench.support.lock import locked
from genbench.support.pace import Facts
from genbench.support.paths import check_writable
from genbench.support.text import say

ELSEWHERE = "the samples were made elsewhere: there is no model to have a likelihood"


@dataclass(frozen=True, kw_only=True)
class ScoringWords(Words):
    """The words of `genbench evaluate`."""

    target: Path
    name: str | None = None
    conditional: bool = False
    labels: Path | None = None
    span: str | None = None
    allow_rank_deficient: bool = False
    quiet: bool = False


# Samples made elsewhere


def score_samples(words: ScoringWords) -> list[Record]:
    """Score samples made elsewhere as a row, and add the reference rows if there are none."""
    name = row_name(words.name, words.target)
    check_samples_there(words.target)
    if words.dataset is None:
        raise BadInput(
            f"{words.target}: which dataset do the samples imitate?", "give -d DATASET; see `genbench datasets`"
        )
    check_writable("--out", words.out)
    runtime, plugins = words.runtime(), load_plugins(words.plugins)
    data = words.open_dataset(words.dataset, plugins)
    evaluation = evaluation_of(words, data)
    stack = open_samples(words.target, data, words.conditional, words.labels, words.span)
    for remark in stack.remarks if not words.quiet else ():
        say(f"note: {name}: {remark}")
    stack = stack.subset(words.samples, evaluation.seed)
    check_extractors(evaluation.extractors, data, runtime, plugins.registered("register_extractors"))
    job = foreign_job(name, stack, data, evaluation, runtime, plugins)
    with scoring(runtime, words.quiet):
        if not is_done(job):
            add_row(job, stack, data, plugins)
        references = [reference for reference in reference_jobs(job) if usable(reference, data, words.quiet)]
        for reference in references:
            if not is_done(reference):
                run_job(reference, data, plugins)
    records = load_records([each.folder for each in (job, *references)])
    for warning in next(record.warnings for record in records if record.job.label == name):
        say(f"warning: {name}: {warning}")
    return records


def check_samples_there(target: Path) -> None:
    """Raise BadInput if there is nothing at `target`, or a run that has not ended."""
    if not look(target).exists():
        raise BadInput(f"{target}: no such file or folder", "give samples, a run, or a folder of runs")
    _, unfinished, _ = runs_at(target)
    if unfinished:
        raise BadInput(f"{unfinished[0]}: a run that has not ended", "run its command again first")


def evaluation_of(words: ScoringWords, data: Dataset) -> EvaluationSettings:
    """The settings of the dataset's other rows in the same folder, so that a table can rank them together."""
    changes: dict[str, Any] = {"extractors": extractor_names(words.extractors, data)}
    settings = EvaluationSettings()
    for run in siblings(words.out, data.digest):
        settings = run.job.evaluation
        changes["extractors"] = words.extractors or tuple(run.record.extractors) or changes["extractors"]
    if words.allow_rank_deficient:
        changes["allow_rank_deficient"] = True
    return settings.model_copy(update=changes)


def siblings(out: Path, digest: str) -> Iterator[Finished]:
    """The finished reference rows of a dataset in a folder of runs."""
    for file in sorted(out.glob("*/record.json")):
        record = read_record(file)
        if record.job.model in REFERENCES and record.dataset.digest == digest and record.status == "complete":
            yield open_finished(file.parent)


def foreign_job(
    name: str, stack: Stack, data: Dataset, evaluation: EvaluationSettings, runtime: Runtime, plugins: Plugins
) -> Job:
    """The job of a row of foreign samples: identified by their content, and never trained."""
    digest = stack.digest
    return Job(
        model=name, label=name, config={"samples": digest[:12]}, plugin=PluginStamp(name="elsewhere", version=""),
        dataset=data.name, dataset_digest=data.digest, conditional=stack.kind is not None, samples=len(stack),
        budget=Budget(unit="images", amount=0), evaluation=evaluation, runtime=runtime, foreign=digest,
        external_data=(stack.source,),
        extractor_stamps=extractor_stamps(evaluation.extractors, plugins.registered("register_extractors")),
        measurers=plugins.measurers(),
    )  # fmt: skip


def add_row(job: Job, stack: Stack, data: Dataset, plugins: Plugins) -> None:
    """Score foreign samples and write their run folder, the record last."""
    with locked(job.folder):
        store.sweep(job.folder)
        run = Run(job, data, plugins, Meter(torch.device(job.runtime.device)), previous=previous_record(job))
        run.samples = Samples(stack.images).under(stack.kind, stack.labels)
        run.evaluate()
        run.check_rulers()
        measured = {m.metric for m in run.known.measurements}
        run.known.measurements += [m for m in no_likelihood(job, data) if m.metric not in measured]
        begin(job, data.stamp(job.kind))
        run.keep_samples()
        run.draw()
        end(job, run.record("complete", None, []))


def no_likelihood(job: Job, data: Dataset) -> list[Measurement]:
    """Measurements without a value for bits/dim, under the protocol of the rows that have one."""
    return [
        Measurement(
            metric=f"bits_per_dim_{split}", value=None, better="lower", status="not_applicable", note=ELSEWHERE,
            settings=protocol(job, data, split, part),
        )
        for split, part in (("test", data.test), ("train", data.train))
    ]  # fmt: skip


def reference_jobs(job: Job) -> list[Job]:
    """The jobs of the reference rows under the protocol of a foreign row."""
    stamp = PluginStamp(name="genbench", version="")
    changes: dict[str, Any] = {"config": {}, "conditional": False, "foreign": "", "external_data": (), "plugin": stamp}
    plain = {name: getattr(job, name) for name in Job.model_fields} | changes
    return [Job(**(plain | {"model": name, "label": name})) for name in ALWAYS]


def usable(reference: Job, data: Dataset, quiet: bool) -> bool:
    """Whether the reference row exists with as many samples, or can be made without changing an existing one."""
    if reference.samples > len(data.train):
        why = f"{reference.label}: left out; {data.name} has {len(data.train)} training images, not {reference.samples}"
    elif (there := finished_count(reference)) not in (None, reference.samples):
        why = (
            f"{reference.label} exists with {there} samples, not {reference.samples}: tables keep rows with different "
            f"numbers of samples apart; --samples {there} takes a subset"
        )
    else:
        return True
    if not quiet:
        say(why)
    return False


def finished_count(job: Job) -> int | None:
    """The number of samples of the job's finished record, if it has one."""
    if not (job.folder / "record.json").exists():
        return None
    record = load_records([job.folder])[0]
    return record.samples.count if record.status == "complete" else None


# Finished runs


def score_runs(words: ScoringWords) -> list[Record]:
    """Score finished runs, and the reference rows beside them, with more extractors."""
    unused = {"-d": words.dataset, "--name": words.name, "--samples": words.samples, "--labels": words.labels,
              "--range": words.span, "--conditional": words.conditional or None,
              "--allow-rank-deficient": words.allow_rank_deficient or None}  # fmt: skip
    for option, value in unused.items():
        if value is not None:
            raise BadInput(f"{option}: {words.target} is a finished run, where this is already set", "leave it out")
    if not words.extractors:
        raise BadInput(f"{words.target}: a finished run needs --extractor NAME", "see `genbench extractors`")
    folders = [record.folder for record in load_records([words.target]) if record.folder]
    one = (words.target / "record.json").is_file()
    runs = with_references(open_finished(f) for f in folders if one or finished(f, words.quiet))
    names, runtime = list(dict.fromkeys(words.extractors)), words.runtime()
    images = {(run.job.dataset, run.job.tune) for run in runs}
    plugins = light_plugins(words, {name for name, _ in images})
    datasets = {(name, tune): words.open_dataset(name, plugins, tune) for name, tune in images}
    for data in datasets.values():
        check_extractors(names, data, runtime, plugins.registered("register_extractors"))
    for run in runs:
        check_unseen(run.folder.name, run.record.seen_extractors, names)
    with scoring(runtime, words.quiet):
        return [score_again(run, names, datasets[run.job.dataset, run.job.tune], plugins, runtime) for run in runs]


def finished(folder: Path, quiet: bool) -> bool:
    """Whether a run among several has samples to score; one without is reported and left out."""
    record = load_records([folder])[0]
    scorable = record.status == "complete" and not record.draws_nothing
    if not scorable and not quiet:
        say(f"{folder}: {NO_SAMPLES if record.draws_nothing else record.status}: left out")
    return scorable


def light_plugins(words: ScoringWords, datasets: Iterable[str]) -> Plugins:
    """No plugins if the extractors and datasets need none, so that a run can be scored without its model's plugin."""
    known = {row["name"] for row in known_extractors()}
    if words.plugins or not known.issuperset(words.extractors):
        return load_plugins(words.plugins)
    try:
        enough = set(known_datasets(words.files)).issuperset(datasets)
    except BadInput:  # an installed plugin may provide the kind of source
        enough = False
    return Plugins() if enough else load_plugins()


@contextmanager
def scoring(runtime: Runtime, quiet: bool) -> Iterator[None]:
    """Set threads and arithmetic as for jobs, and report progress on stderr."""
    use_threads(runtime.threads)
    exact_arithmetic()
    said: set[str] = set()

    def tell(stage: str, share: float, text: str, facts: Facts) -> None:
        if stage in ("evaluate", "note") and text and text not in said:
            said.add(text)
            say(f"scoring: {text}")

    progress.listen(None if quiet else tell)
    try:
        yield
    finally:
        progress.listen(None)
