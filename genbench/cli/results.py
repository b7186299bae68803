"""The commands about finished runs: their tables and pages, what differs between two, and more images of one."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path
from typing import Any

import click

from genbench.cli.console import show_error, show_json, show_left_out
from genbench.cli.options import FILE_OR_NAME, JSON, PATH, PLUGIN, RUNS
from genbench.cli.streams import show
from genbench.support.errors import together
from genbench.support.seeds import MAX_SEED
from genbench.support.text import plain
from genbench.tables.formats import FORMATS
from genbench.tables.layouts import LAYOUTS

V100 = click.option(
    "--v100-factor", "v100", type=FILE_OR_NAME, metavar="F|FILE",
    help="Also V100-days: how many V100s a device equals, or a calibration.",
)  # fmt: skip


@click.command()
@RUNS
@click.option("--format", "format_", type=click.Choice(FORMATS), default="text", show_default=True)
@click.option("--layout", type=click.Choice(LAYOUTS), default="quality", show_default=True)
@click.option("--published", is_flag=True, help="Add the published rows, marked and never ranked.")
@V100
def table(runs: tuple[Path, ...], format_: Any, layout: Any, published: bool, v100: str | None) -> None:
    """Print tables of finished runs: as in the two published tables, in full, or likelihoods and their limit."""
    from genbench.records.v100 import find_converted
    from genbench.tables.build import make_tables
    from genbench.tables.formats import render

    found = find_converted(runs, v100)
    show(render(make_tables(found.shown, layout, published), format_))
    raise SystemExit(show_left_out(found, format_ == "json"))


@click.command()
@RUNS
@click.option("-o", "--out", type=PATH, required=True, help="The report's folder, or its file.")
@click.option("--single-file", "form", flag_value="single_file", help="One HTML file, for mail, instead of a folder.")
@click.option(
    "--archive", "form", flag_value="archive", help="One .zip of pages, records and samples, for a supplement."
)
@V100
def report(runs: tuple[Path, ...], out: Path, form: Any, v100: str | None) -> None:
    """Write pages on finished runs that open from disk: tables, plots, samples, costs, and every number's protocol.

    There is an overview, a page for each dataset, model and run, and one for the protocols, all made from the records.
    """
    from genbench.records.v100 import find_converted
    from genbench.report import build_report

    found = find_converted(runs, v100)
    show(str(build_report(found.shown, out, found.corrupt, found.unfinished, found.spoilt, form or "folder")))
    raise SystemExit(show_left_out(found))


@click.command()
@click.argument("run_a", type=PATH)
@click.argument("run_b", type=PATH)
@JSON
def compare(run_a: Path, run_b: Path, as_json: bool) -> None:
    """Show what differs between two runs: configuration, protocol, environment, numbers."""
    from genbench.commands.compare import differences
    from genbench.records.record_files import load_each
    from genbench.tables.wording import UNRANKED

    rows = differences(*load_each([run_a, run_b]))
    if as_json:
        show_json(rows)
        return
    for row in rows:
        key = f"{row['key']} {UNRANKED}" if row["unranked"] else row["key"]
        show(plain(f"{key:48} {row['a']!s:>28} {row['b']!s:>28}"))
    for row in rows:
        if row["unranked"]:
            show(plain(f"{UNRANKED} {row['key'].removeprefix('measurements.')} may not rank: {row['unranked']}"))
    if not rows:
        show("no difference")


@click.command()
@click.argument("run_folder", metavar="RUN", type=PATH)
@click.option("-n", "count", type=click.IntRange(1, 1_000_000), default=64, show_default=True, help="Images.")
@click.option(
    "--seed", type=click.IntRange(0, MAX_SEED), metavar="S",
    help="Draw from another stream; default: the run's own, after its samples.",
)  # fmt: skip
@click.option(
    "--labels", metavar="CLASS,...", help="Classes to cycle through, by name or number; for a conditional run."
)
@click.option("--steps", type=click.IntRange(1), help="Sampling steps, for a model that has them.")
@click.option(
    "-o", "--out", type=PATH, default=Path("samples.png"), show_default=True, help="FILE.png (a sheet) or FILE.npy."
)
@PLUGIN
def sample(run_folder: Path, **words: Any) -> None:
    """Draw further images from a finished run: other than those that it has, and the same ones whenever it is asked.

    With --seed they come from another stream, with --labels from the classes that it names.
    """
    from genbench.commands.sample import draw_from_run

    show(str(draw_from_run(run_folder, **words)))


@click.command()
@RUNS
@JSON
def status(runs: tuple[Path, ...], as_json: bool) -> None:
    """Show how far the runs of a folder are: done, running (by whom, step, loss), waiting, interrupted, failed.

    It disturbs no run, and may be asked as often as you like.
    """
    from genbench.commands.status import as_plain, lines, statuses

    found, faults = statuses(runs)
    if as_json:
        show_json(as_plain(found))
    else:
        for line in lines(found, shutil.get_terminal_size().columns if sys.stdout.isatty() else None):
            show(line)
    if faults:
        error = together(faults)
        show_error(error, as_json, to_stderr=True)
        raise SystemExit(error.exit_code)


RESULTS = (status, table, report, compare, sample)
