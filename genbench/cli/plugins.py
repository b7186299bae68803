"""Lists of what is available, and the commands about plugins: start a new one, check whether one keeps its promises."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from genbench.cli.console import PreparationProgress, show_json
from genbench.cli.options import DATA_ROOT, DATASETS, FILE_OR_NAME, JSON, OUT, PATH, PLUGIN, WEIGHTS, FiniteRange
from genbench.cli.streams import show
from genbench.support.errors import BadInput
from genbench.support.text import plain, say


@click.command()
@PLUGIN
@JSON
def models(plugins: tuple[str, ...], as_json: bool) -> None:
    """List the models, what each can do, and its options."""
    from genbench.commands.catalogue import model_rows, model_text

    rows = model_rows(plugins)
    show_json(rows) if as_json else show(model_text(rows))


@click.command()
@DATASETS
@PLUGIN
@JSON
def datasets(datasets: Path | None, plugins: tuple[str, ...], as_json: bool) -> None:
    """List the datasets by name, with the names of classes that are folders, in the order of their labels."""
    from genbench.commands.catalogue import dataset_rows, dataset_text

    rows = dataset_rows(datasets, plugins)
    show_json(rows) if as_json else show(dataset_text(rows))


@click.command()
@click.option("--check", is_flag=True, help="Try the extractors on DATASET: which of their metrics may rank models?")
@click.option("-d", "--dataset", metavar="DATASET", help="The images to try them on.")
@click.option("--extractor", "names", multiple=True, metavar="NAME", help="Try this one; default: the dataset's own.")
@click.option("--samples", type=click.IntRange(2), help="Images per row; default as in `genbench run`.")
@click.option("--device", default="auto", show_default=True, help="auto, cpu or cuda:0.")
@PLUGIN
@DATASETS
@DATA_ROOT
@WEIGHTS
@click.option("--offline", is_flag=True, help="Never use the network.")
@JSON
def extractors(check: bool, dataset: str | None, names: tuple[str, ...], as_json: bool, **words: Any) -> None:
    """List the feature extractors by name, or try some on a dataset.

    With --check, held-out real images are spoilt in rising strength (blurred, covered, shuffled, ...). A metric that
    does not see it, or that noise does not score worst in, is shown in tables but ranks nothing.
    """
    if check:
        check_on(dataset, names, as_json, words)
        return
    given = {"-d": dataset, "--extractor": names, "--samples": words["samples"], "--datasets": words["datasets"]}
    if unused := [option for option, value in given.items() if value]:
        raise BadInput(f"{', '.join(unused)}: only for trying extractors on images", "add --check, or leave it out")
    from genbench.commands.catalogue import as_lines, extractor_rows

    rows = extractor_rows(words["plugins"])
    show_json(rows) if as_json else show(as_lines(rows, ["name", "kind", "about"]))


def check_on(dataset: str | None, names: tuple[str, ...], as_json: bool, words: dict[str, Any]) -> None:
    """Try the extractors on a dataset and show the verdicts."""
    from genbench.commands.ruler import advice, rulers
    from genbench.commands.words import Words
    from genbench.tables.ruler import ruler_text

    if dataset is None:
        raise BadInput("--check: on which images?", "give -d DATASET; see `genbench datasets`")
    preparing = None if as_json else PreparationProgress()
    asked, found = Words(dataset=dataset, extractors=names, preparing=preparing, **words), []
    for ruler in rulers(asked):
        found.append(ruler)
        if not as_json:
            show(ruler_text(ruler))
    if as_json:
        show_json([ruler.model_dump(mode="json") for ruler in found])
    elif text := advice(asked, found):
        show(text)


@click.command("plugins")
@PLUGIN
@JSON
def plugins_command(plugins: tuple[str, ...], as_json: bool) -> None:
    """List the plugins, where each comes from, and why one does not work."""
    from genbench.commands.catalogue import as_lines, plugin_rows

    rows = plugin_rows(plugins)
    show_json(rows) if as_json else show(as_lines(rows, ["name", "state", "origin", "models", "reason"]))


@click.command()
@click.argument("name", required=False)
@OUT
@JSON
def suites(name: str | None, out: Path, as_json: bool) -> None:
    """List the suites that ship, what each runs and how long it takes; or show the file of one, to copy and change.

    Training takes its budget in seconds; all other times are those of earlier runs in the output folder.
    """
    from genbench.commands.suites import suite_file_text, suite_rows, suite_text

    if name is not None:
        if as_json:
            raise BadInput("--json: the file of a suite is TOML", "leave out --json, or the suite's name")
        show(suite_file_text(name), end="")
        return
    rows = suite_rows(out)
    show_json(rows) if as_json else show(suite_text(rows, out))


@click.command()
@JSON
def doctor(as_json: bool) -> None:
    """Show what this machine has: devices, extractors and their weights, caches, plugins, versions and free space."""
    from genbench.commands.doctor import doctor_rows, doctor_text

    rows = doctor_rows()
    show_json(rows) if as_json else show(doctor_text(rows))


LISTS = (models, datasets, extractors, plugins_command, suites, doctor)


@click.command("new-plugin")
@click.argument("name")
@click.option("-o", "--out", type=PATH, metavar="DIR", help="The package's folder; default genbench-NAME.")
def new_plugin(name: str, out: Path | None) -> None:
    """Write a package to start from: a model NAME that trains, its test, and a README with three commands.

    The model is one file, which `--plugin FILE` runs without installing it.
    """
    from genbench.commands.new_plugin import write_plugin

    show(plain(write_plugin(name, out)))


@click.command("check-plugin")
@click.argument("plugin", type=FILE_OR_NAME, metavar="NAME|FILE")
@click.option(
    "--hang-timeout", type=FiniteRange(1), default=60.0, show_default=True, metavar="SECONDS",
    help="End the check of a model that makes no progress for this long.",
)  # fmt: skip
@click.option("--device", default="cpu", show_default=True, help="Where to try the models: auto, cpu or cuda:0.")
@JSON
def check_plugin(plugin: str, hang_timeout: float, device: str, as_json: bool) -> None:
    """Report for each promise of a plugin's models whether it is kept, what was observed, and the line to look at.

    The models are built, trained for a few steps, sampled, saved and scored on small images. NAME is an installed
    model's name, FILE a plugin as for `--plugin`. In your own tests, use genbench.testing.check_model. Exit code 1: a
    promise is broken.
    """
    from genbench.conformance.check import check_plugin as check
    from genbench.devices import one_device

    reports = []
    for report in check(plugin, hang_timeout, str(one_device(device)), say):
        reports.append(report)
        if not as_json:
            show(plain(report.text() + "\n"))
    if as_json:
        show_json([row for report in reports for row in report.rows()])
    if any(report.broken for report in reports):
        raise SystemExit(1)
