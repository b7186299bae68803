"""The commands about finished runs: their tables and pages, what differs between two, and more images of one."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from genbench.cli.console import show_error, show_json, show_left_out
from genbench.cli.options import ENCODER, FILE_OR_NAME, FULL, JSON, PATH, PLUGIN, RUNS
from genbench.cli.streams import show, terminal_columns
from genbench.support.errors import BadInput, together
from genbench.support.seeds import MAX_SEED
from genbench.tables.formats import FORMATS
from genbench.tables.layouts import LAYOUTS

V100 = click.option(
    "--v100-factor", "v100", type=FILE_OR_NAME, metavar="F|FILE",
    help="Also V100-days: how many V100s a device equals, or a calibration.",
)  # fmt: skip


@click.command()
@RUNS
@click.option("--format", type=click.Choice(FORMATS), default="text", show_default=True)
@click.option(
    "--layout", type=click.Choice(LAYOUTS), help="Which columns; default: quality, or the most important ones."
)
@click.option(
    "--columns", metavar="NAME,...",
    help="These columns instead, in this order: metrics and costs as in record.json, or fid, kid, is, nll for short.",
)  # fmt: skip
@click.option("--compact", is_flag=True, help="A line per row that fits a page; text, Markdown and LaTeX.")
@FULL
@click.option("--published", is_flag=True, help="Add the published rows, marked and never ranked.")
@V100
def table(runs: tuple[Path, ...], v100: str | None, **words: Any) -> None:
    """Print tables of finished runs: as in the two published tables or beside their numbers, in full, or likelihoods.

    On a terminal in short: a line per row, who wins, and what misleads; --full prints all. Elsewhere always whole.
    """
    from genbench.commands.tables import Wanted, table_text
    from genbench.records.v100 import find_converted

    wanted = Wanted(room=terminal_columns(), **words)
    found = find_converted(runs, v100)
    show(table_text(found.shown, wanted, runs))
    raise SystemExit(show_left_out(found, wanted.format == "json"))


@click.command()
@RUNS
@click.option("-o", "--out", type=PATH, required=True, help="The report's folder, or its file.")
@click.option("--single-file", "form", flag_value="single_file", help="One HTML file, for mail, instead of a folder.")
@click.option(
    "--archive", "form", flag_value="archive", help="One .zip of pages, records and samples, for a supplement."
)
@click.option("--title", help="A title for all pages.")
@click.option("--author", "authors", multiple=True, metavar="NAME", help="Who made it; repeatable.")
@click.option("--about", type=PATH, metavar="FILE.md", help="An introduction in Markdown, for the first page.")
@click.option("--link", "links", multiple=True, metavar="URL", help="Where more is, such as a paper; repeatable.")
@V100
def report(
    runs: tuple[Path, ...], out: Path, form: Any, title: str | None, authors: tuple[str, ...], about: Path | None,
    links: tuple[str, ...], v100: str | None,
) -> None:  # fmt: skip
    """Write pages on finished runs that open from disk: tables, plots, samples, costs, and every number's protocol.

    There is an overview, a page for each dataset, model and run, and one for the protocols, all made from the records.
    """
    from genbench.records.v100 import find_converted
    from genbench.report import build_report
    from genbench.report.publication import publication

    words = publication(title, authors, about, links)
    found = find_converted(runs, v100)
    parts = (found.shown, out, found.corrupt, found.unfinished, found.spoilt)
    show(str(build_report(*parts, form or "folder", words)))
    raise SystemExit(show_left_out(found))


@click.command()
@click.argument("runs", nargs=-1, required=True, type=PATH, metavar="RUN_A RUN_B | RUNS...")
@click.option("--labels", nargs=2, metavar="A B", help="Two labels of RUNS, over the seeds that both were run with.")
@click.option("--format", type=click.Choice(["text", "json"]), default="text", show_default=True)
@click.option("--raw", is_flag=True, help="Only the list of everything in the two records that differs.")
@click.option("--json", "as_json", is_flag=True, help="That list as strict JSON; --format json is the head to head.")
def compare(runs: tuple[Path, ...], labels: tuple[str, str] | None, format: str, raw: bool, as_json: bool) -> None:
    """Two runs head to head, or two labels: which is better in what, how sure that is, at what cost, and what differs.

    Numbers of different datasets or protocols are never compared. Of labels with several seeds, the list of differences
    is that of the first seed that both were run with.
    """
    from genbench.commands.compare import compared
    from genbench.tables.formats.text import WIDTH

    if raw and format == "json":
        raise BadInput("--raw and --format json exclude each other", "--json is the raw list as JSON")
    found, comparisons = compared(runs, labels)
    if as_json:
        show_json([row for comparison in comparisons for row in comparison.rows])
    elif format == "json":
        show_json({"comparisons": [comparison.as_dict() for comparison in comparisons]})
    else:
        room = terminal_columns() or WIDTH
        show("\n\n".join(comparison.raw() if raw else comparison.text(room) for comparison in comparisons))
    raise SystemExit(show_left_out(found, as_json or format == "json"))


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
@click.option("--text", metavar="WORDS", help="A caption, in words that the run's captions have.")
@ENCODER
@click.option("--map", type=PATH, metavar="FILE", help="An image whose levels are the classes of its pixels.")
@click.option("--hole", type=PATH, metavar="FILE", help="An image whose transparent pixels are to be filled.")
@click.option("--image", type=PATH, metavar="FILE", help="A small image to be enlarged.")
@click.option("--steps", type=click.IntRange(1), help="Sampling steps, for a model that has them.")
@click.option(
    "-o", "--out", type=PATH, default=Path("samples.png"), show_default=True, help="FILE.png (a sheet) or FILE.npy."
)
@PLUGIN
def sample(run_folder: Path, **words: Any) -> None:
    """Draw further images from a finished run: other than those that it has, and the same ones whenever it is asked.

    With --seed they come from another stream, with --labels from the classes that it names. A run that conditions on
    text, maps, holes or small images takes one by --text, --map, --hole or --image.
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
        for line in lines(found, terminal_columns()):
            show(line)
    if faults:
        error = together(faults)
        show_error(error, as_json, to_stderr=True)
        raise SystemExit(error.exit_code)


RESULTS = (status, table, report, compare, sample)
