"""The command line: options in, exit codes out; no logic, and no heavy import before a command needs it."""

from __future__ import annotations

import gc
import io
import os
import sys
import traceback
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from genbench.cli.console import JobProgress, PreparationProgress, show_error, show_json, show_left_out, show_remarks
from genbench.cli.options import EXPERIMENT, FULL, PATH, FiniteRange
from genbench.cli.plugins import LISTS, check_plugin, new_plugin
from genbench.cli.results import RESULTS
from genbench.cli.scores import calibrate, evaluate, verify
from genbench.cli.streams import discard, open_streams, show, terminal_columns
from genbench.support.denials import denial
from genbench.support.errors import BadInput, CorruptData, EnvironmentProblem, GenbenchError, describe, did_you_mean
from genbench.support.faults import arm
from genbench.support.paths import check_writable, real
from genbench.support.signals import exit_code, interrupt_on_signals, is_interruption
from genbench.support.store import keep_text
from genbench.support.text import redacted, say
from genbench.support.version import __version__

if TYPE_CHECKING:
    from genbench.records.record import Record

SUITE_OPTIONS = (
    "budget", "samples", "precision", "compile", "conditional", "condition", "likelihood_images",
    "allow_rank_deficient", "curve", "tune",
)  # fmt: skip


def experiment_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add the arguments that `run` and `plan` share."""
    for option in reversed(EXPERIMENT):
        command = option(command)
    return command


def make_request(words: dict[str, Any]) -> Any:
    """Make the Request from the shared options."""
    from genbench.planning.config import parse_seeds
    from genbench.planning.session import Request

    given = {
        "datasets": list(words["dataset"]) or None,
        "seeds": list(parse_seeds(words["seeds"])) if words["seeds"] else None,
        "extractors": list(words["extractors"]) or None,
        **{key: words[key] for key in SUITE_OPTIONS},
    }  # fmt: skip
    same = ("suite", "models", "settings", "device", "jobs", "processes", "executor", "plugins", "strict_plugins",
            "datasets", "data_root", "weights", "out", "offline", "timeout", "hang_timeout", "sweeps",
            "encoder")  # fmt: skip
    return Request(options=given, **{key: words[key] for key in same})


def place_of_report(words: dict[str, Any], report_to: Path | None) -> Path | None:
    """Where a run's report goes, which may be written: as asked, and that of a suite that ships to reports/NAME."""
    from genbench.planning.suites import shipped_name
    from genbench.report.place import check_place

    if report_to is None and not words["models"] and (name := shipped_name(words["suite"])):
        report_to = Path("reports") / name
    if report_to is not None:
        check_place(report_to)
        check_writable("--report", report_to)
        if real(words["out"]).is_relative_to(real(report_to)):
            raise BadInput(
                f"--report {report_to}: the runs would lie in it (--out {words['out']})", "choose another folder"
            )
    return report_to


def carry_out(words: dict[str, Any], quiet: bool) -> list[Record]:
    """Run what the words of `run` say, with its progress on stderr, and return the records of all its jobs."""
    from genbench.commands.run import run_session
    from genbench.planning.session import open_session

    preparing, encoding = (None, None) if quiet else (PreparationProgress(), PreparationProgress.of_captions())
    session = open_session(make_request(words), preparing, encoding=encoding)
    if not quiet:
        show_remarks(session.remarks)
    slots = session.at_once * len(session.groups) if words["executor"] == "local" else 0
    with JobProgress(len(session.jobs), quiet, session.jobs, slots) as progress:
        return run_session(session, progress.update, None if quiet else announce)


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="genbench")
def cli() -> None:
    """Which family of generative models is better, on these images, at what cost?

    `genbench run` with no argument compares five families on a bundled dataset in about ten minutes.
    """


@cli.command()
@experiment_options
@click.option("--report", "report_to", type=PATH, metavar="DIR", help="Also write the report pages there.")
@FULL
def run(report_to: Path | None, full: bool, **words: Any) -> None:
    """Train, sample and score every model; running it again does only what is missing.

    SUITE is a TOML file, or the name of a suite that ships (`genbench suites`), whose report goes to reports/NAME; a
    file of that name comes first. Without a suite or a model: the suite quick.
    """
    from genbench.commands.run import usage_remarks, worst_exit_code
    from genbench.commands.tables import results_text
    from genbench.records.record_files import Found
    from genbench.report import build_report
    from genbench.tables.build import make_tables
    from genbench.tables.formats import render

    as_json = words["as_json"]
    report_to = place_of_report(words, report_to)
    records = carry_out(words, quiet=as_json)
    spoilt: list[CorruptData] = []
    if as_json:
        show(render(make_tables(records, "full"), "json"))
    else:
        show(results_text(records, ("quality", "cost"), words["out"], full, terminal_columns()))
    for record in records:
        if record.error is not None:
            where = words["out"] / record.job.id / record.error.traceback
            say(f"{record.job.id}: {record.status}: {record.error.message} (see {where})")
    for line in usage_remarks(records):
        say(line)
    if report_to is not None:
        say(f"report: {build_report(records, report_to, spoilt=spoilt)}")
    left_out = show_left_out(Found(spoilt=spoilt), as_json)
    raise SystemExit(worst_exit_code(records) or left_out)


@cli.command()
@experiment_options
@click.option(
    "--v100-utilisation", type=FiniteRange(0, 1, min_open=True), default=0.3, show_default=True, metavar="SHARE",
    help="Share of its nominal rate in a job's precision that a V100 is assumed to sustain.",
)  # fmt: skip
def plan(v100_utilisation: float, **words: Any) -> None:
    """Show which jobs `run` would start with the same arguments, their cost, what is done, and what cannot run.

    Nothing is trained. Parameters, FLOPs, peak memory and V100-days are estimates, each with its method; seconds come
    from earlier runs in the output folder. Datasets may be missing.
    """
    from genbench.planning.outlook import as_rows, as_text, prospects
    from genbench.planning.session import open_session

    quiet = words["as_json"]
    progress, encoding = (None, None) if quiet else (PreparationProgress(), PreparationProgress.of_captions())
    session = open_session(make_request(words), progress, True, encoding)
    if not words["as_json"]:
        show_remarks(session.remarks)
    found = prospects(session, v100_utilisation)
    show_json(as_rows(found, session)) if words["as_json"] else show(as_text(found, v100_utilisation, session))
    problems = [problem for several in session.missing.values() for problem in several]
    if problems and not words["as_json"]:
        raise problems[0]
    if problems:
        raise SystemExit(problems[0].exit_code)


def announce(text: str) -> None:
    """Say what takes longer than one would think."""
    say(f"note: {text}")


for command in (*RESULTS, evaluate, verify, calibrate, *LISTS, new_plugin, check_plugin):
    cli.add_command(command)


def main() -> None:
    """Run the command line and exit with its exit code: the console script."""
    open_streams()
    os.environ["MPLBACKEND"] = "agg"  # that of the notebook which may have started this need not be installed here
    as_json, out = asks_for_json(sys.argv), sys.stdout
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    try:
        code = result_of(as_json)
        if sys.stdout is not out:  # click replaces it when the reader has gone away
            raise BrokenPipeError
        show("", end="")  # whatever click has left
    except BrokenPipeError:
        discard(out)
        code = 141
    except EnvironmentProblem as error:  # even the error did not find room on stdout
        show_error(error, as_json=False)
        code = error.exit_code
    gc.freeze()  # otherwise garbage collection at exit walks all of torch, for a second or more
    sys.exit(code)


def result_of(as_json: bool) -> int:
    """Run the command, report its error, and return its exit code."""
    try:
        arm()
        Path.cwd()  # raises if it is gone, where loading torch would end the process without a word of ours
        interrupt_on_signals()
        cli.main(standalone_mode=False)
        return 0
    except GenbenchError as error:
        show_error(error, as_json)
        if "--traceback" in sys.argv:
            traceback.print_exc()
        return error.exit_code
    except click.exceptions.NoArgsIsHelpError as error:
        show(error.format_message())
        return 2
    except click.ClickException as error:
        near = did_you_mean(sys.argv[1], set(cli.commands)) if "No such command" in error.format_message() else ""
        show_error(BadInput(error.format_message(), near or "see --help"), as_json)
        return 2
    except (KeyboardInterrupt, click.Abort) as stop:
        cause = stop if stop.__cause__ is None else stop.__cause__  # click turns it into an Abort
        if not is_interruption(cause):
            return report_bug(cause, as_json)
        say("genbench: interrupted; run the same command to resume")
        return exit_code()
    except BrokenPipeError:
        raise
    except OSError as error:
        if (problem := denial(error)) is None:
            return report_bug(error, as_json)
        show_error(problem, as_json)
        return problem.exit_code
    except SystemExit as stop:
        return stop.code if isinstance(stop.code, int) else 0
    except Exception as error:
        return report_bug(error, as_json)


def asks_for_json(words: list[str]) -> bool:
    """Whether the command line asks for JSON, whatever else is wrong with it."""
    return "--json" in words or "--format=json" in words or ("--format", "json") in pairwise(words)


def report_bug(error: BaseException, as_json: bool) -> int:
    """Save the traceback of a bug of ours in a file, or show it, say where it is, and return the exit code."""
    text = redacted("".join(traceback.format_exception(error)))
    try:
        where = f"in {keep_text(text)}"
    except OSError:
        where = "above"
        for line in text.splitlines():
            say(line)
    show_error(GenbenchError(describe(error), f"please report it with the traceback {where}"), as_json)
    return 70
