"""The commands about numbers: score more samples, check stored data, check the metrics themselves."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from genbench.cli.console import PreparationProgress, show_json
from genbench.cli.options import DATA_ROOT, DATASETS, FULL, JSON, OUT, PATH, PLUGIN, RUNS, WEIGHTS
from genbench.cli.streams import show, terminal_columns
from genbench.support.text import say

RANGES = ("0,1", "-1,1", "0,255")


@click.command()
@click.argument("target", metavar="SAMPLES|RUN", type=PATH)
@click.option("-d", "--dataset", metavar="DATASET", help="The dataset that the samples imitate.")
@click.option("--name", help="The row's name; default: that of the file or folder.")
@click.option("--extractor", "extractors", multiple=True, metavar="NAME", help="Feature extractor; repeatable.")
@click.option("--samples", type=click.IntRange(2), help="Score a seeded subset of this size; default all.")
@click.option("--conditional", is_flag=True, help="The samples were drawn for their labels.")
@click.option("--labels", type=PATH, metavar="FILE.npy", help="The labels, if the samples' file has none.")
@click.option("--range", "span", type=click.Choice(RANGES), help="The values of black and white in float samples.")
@click.option("--allow-rank-deficient", is_flag=True, help="FID also from fewer samples than features.")
@click.option("--device", default="auto", show_default=True, help="auto, cpu or cuda:0.")
@PLUGIN
@DATASETS
@DATA_ROOT
@WEIGHTS
@OUT
@click.option("--offline", is_flag=True, help="Never use the network.")
@FULL
@JSON
@click.option("--traceback", is_flag=True, help="Show the traceback of an error.")
def evaluate(target: Path, full: bool, as_json: bool, traceback: bool, **words: Any) -> None:
    """Score samples made elsewhere as a row like any other, or a finished run with another extractor.

    SAMPLES is a folder of images, a .npy (uint8, N x C x H x W, N x H x W x C or N x H x W) or a .npz (`images` and
    optionally `labels`). RUN is a run folder, or a folder of run folders; its reference rows are scored too.
    """
    from genbench.commands.evaluate import ScoringWords, score_runs, score_samples
    from genbench.commands.run import worst_exit_code
    from genbench.commands.tables import results_text
    from genbench.tables.build import make_tables
    from genbench.tables.formats import render

    runs = (target / "record.json").is_file() or next(target.glob("*/record.json"), None) is not None
    given = ScoringWords(target=target, quiet=as_json, preparing=None if as_json else PreparationProgress(), **words)
    records = score_runs(given) if runs else score_samples(given)
    if as_json:
        show(render(make_tables(records, "full"), "json"))
    else:
        show(results_text(records, ("quality",), words["out"], full, terminal_columns()))
        for record in records:
            say(f"scored: {record.folder}")
    raise SystemExit(worst_exit_code(records))


@click.command()
@RUNS
@JSON
def verify(runs: tuple[Path, ...], as_json: bool) -> None:
    """Check every record, protocol, manifest and digest of finished runs, changing nothing."""
    from genbench.commands.verify import verify_runs
    from genbench.support.text import plain

    verdicts = verify_runs(runs)
    if as_json:
        show_json([verdict.as_dict() for verdict in verdicts])
    else:
        for verdict in verdicts:
            show(plain(verdict.line()))
    if any(verdict.state == "wrong" for verdict in verdicts):
        raise SystemExit(3)


@click.command()
@click.option("--device", default="auto", show_default=True, help="auto, cpu or cuda:0.")
@click.option(
    "--v100", type=PATH, metavar="FILE", help="Also measure the device, for the tables' `--v100-factor FILE`."
)
@DATA_ROOT
@WEIGHTS
@JSON
def calibrate(device: str, v100: Path | None, data_root: Path | None, weights: Path | None, as_json: bool) -> None:
    """Check the evaluator against known constants: closed forms, bundled data, and CIFAR-10 if present."""
    from genbench.commands.calibrate import Setup, calibrations

    setup = Setup.resolve(device, data_root, weights)
    if v100 is not None:
        say(f"{v100}: {setup.write_conversion(v100)}")
    checks = calibrations(setup, None if as_json else say)
    if as_json:
        show_json([check.as_dict() for check in checks])
    else:
        for check in checks:
            show(check.line())
    if any(check.state == "FAIL" for check in checks):
        raise SystemExit(1)
