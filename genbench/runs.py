"""genbench from Python: finished runs as pandas frames and figures, and `run`, the command with the command's words."""

from __future__ import annotations

import html
import os
import warnings
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from genbench.support.denials import denial
from genbench.support.errors import BadInput, CorruptData, GenbenchError, did_you_mean
from genbench.support.text import say

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

    from genbench.records.record import Record
    from genbench.tables.layout import Table

Names = str | Iterable[str]
Settings = Iterable[str] | Mapping[str, Any]
"""As on the command line, `["gan.batch_size=32"]`, or by option, `{"gan.batch_size": 32}`."""
KEYWORDS = {"dataset": "datasets", "datasets": "datasets_file", "report_to": "report", "as_json": "quiet"}
"""The keyword of `run` that stands for a parameter of the command, if it has another name."""
OF_A_TERMINAL = ("as_json", "full", "traceback")
"""Parameters of the command that say what it prints."""
PARTS = (".low", ".high", ".rank")
MOST_NAMED = 6


@dataclass(frozen=True, repr=False)
class Runs:
    """Runs: a sequence of records, and the frames, tables and figures that are made from them.

    A run that has not ended is a record whose status is `running` or `interrupted`. `unfinished` are folders of those
    that do not say what they are yet, `corrupt` has by file why others cannot be read.
    """

    records: list[Record]
    unfinished: list[Path] = field(default_factory=list)
    corrupt: dict[Path, GenbenchError] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.records)

    def __iter__(self) -> Iterator[Record]:
        return iter(self.records)

    def __getitem__(self, index: int) -> Record:
        return self.records[index]

    def filter(self, wanted: Callable[[Record], bool]) -> Runs:
        """Those of the runs whose record is wanted: `runs.filter(lambda record: record.job.label == "gan")`."""
        return Runs([record for record in self.records if wanted(record)])

    @property
    def measurements(self) -> pd.DataFrame:
        """One row a number: whose it is, the number with its interval and status, the run's cost, and its options.

        An option of a model is the column `option.NAME`. A run without a number is a row whose `metric` is None.
        """
        from genbench.tables.frames import measurement_frame

        return measurement_frame(self.records)

    @property
    def curves(self) -> pd.DataFrame:
        """One row a number along a training, over share, step, images, seconds and FLOPs as far as they are known.

        `metric` is `loss` and what else the model reports in its learning curve, by `phase`, or a metric of the points
        that `--curve` scored. Raises CorruptData if a learning curve cannot be read.
        """
        from genbench.tables.frames import curve_frame

        return curve_frame(self.records)

    @property
    def costs(self) -> pd.DataFrame:
        """One row a run: how it ended, what it cost, and its options."""
        from genbench.tables.frames import run_frame

        return run_frame(self.records)

    def table(self, layout: str = "quality", published: bool = False, columns: Names = ()) -> pd.DataFrame:
        """The tables of a layout, or with these `columns`, as `genbench table` prints them, by the names of a CSV.

        The sentences below the tables are in `attrs["footnotes"]`. Raises BadInput for an unknown layout or column.
        """
        from genbench.tables.build import make_tables
        from genbench.tables.chosen import chosen_layout
        from genbench.tables.frames import table_frame
        from genbench.tables.layouts import LAYOUTS

        if layout not in LAYOUTS:
            raise BadInput(f"layout {layout!r}: unknown", _known(layout, LAYOUTS))
        names = [columns] if isinstance(columns, str) else list(columns)
        chosen = chosen_layout(names, self.records) if names else layout
        return table_frame(make_tables(self.records, chosen, published))

    def plot(self, name: str) -> Figure:
        """A figure of the report by its name, such as `likelihoods`; also `samples`, and `fid-training`, which leads.

        It is not one of pyplot's: a notebook shows it, and `savefig` writes it. Raises BadInput for an unknown name, or
        if the runs have nothing to draw.
        """
        from genbench import plots

        draw = {key: plot.draw for key, plot in plots.ALL.items()}
        draw |= {
            "fid-training": lambda tables, looks: draw[plots.of_training_cost(tables)](tables, looks),
            "samples": lambda tables, looks: plots.sample_grids(tables),
        }
        if name not in draw:
            raise BadInput(f"plot {name!r}: unknown", _known(name, draw))
        figure = draw[name](self._full, plots.palette(self._full))
        if not any(axes.has_data() for axes in figure.axes):
            raise BadInput(f"plot {name!r}: these runs have nothing to draw", str(figure.get_label()))
        return figure

    @cached_property
    def _full(self) -> list[Table]:
        from genbench.tables.build import make_tables
        from genbench.tables.layouts import FULL

        return make_tables(self.records, FULL)

    def __repr__(self) -> str:
        from genbench.tables.groups import is_reference

        datasets = ", ".join(dict.fromkeys(record.dataset.name for record in self.records))
        models_first = sorted(self.records, key=is_reference)
        labels = list(dict.fromkeys(record.job.label for record in models_first))
        more = [f"and {len(labels) - MOST_NAMED} more"] if len(labels) > MOST_NAMED else []
        states = Counter[str](record.status for record in self.records if record.status != "complete")
        lacking = {**states, "unfinished": len(self.unfinished), "unreadable": len(self.corrupt)}
        words = "".join(f"; {count} {what}" for what, count in lacking.items() if count)
        shown = f" on {datasets}: {', '.join([*labels[:MOST_NAMED], *more])}" if self.records else ""
        return f"<{len(self)} runs{shown}{words}>"

    def _repr_html_(self) -> str:
        table = self.table()
        values = table[[name for name in map(str, table) if not name.endswith(PARTS)]]
        return f"<p>{html.escape(repr(self))}</p>{values.to_html(index=False, na_rep='', border=0)}"


def load(*runs: str | os.PathLike[str] | Iterable[str | os.PathLike[str]]) -> Runs:
    """The runs in run folders, or in folders of run folders, as far as they are: one or several. Needs no torch.

    What cannot be read is left out with a warning. Raises BadInput if a path has no record, CorruptData or
    EnvironmentProblem if none can be read.
    """
    from genbench.records.record_files import find_records

    paths = [Path(path) for some in runs for path in ([some] if isinstance(some, str | os.PathLike) else some)]
    if not paths:
        raise BadInput("load: of which runs?", 'give a folder, such as genbench.load("runs")')
    with _plain_errors():
        found = find_records(paths)
    for fault in found.corrupt.values():
        warnings.warn(f"left out: {fault.message} ({fault.hint})", RuntimeWarning, stacklevel=2)
    return Runs(found.shown, found.silent, found.corrupt)


def run(
    suite: str | os.PathLike[str] | None = None,
    *,
    models: Names = (),
    datasets: Names = (),
    seeds: int | str | Sequence[int] | None = None,
    budget: str | None = None,
    samples: int | None = None,
    settings: Settings = (),
    sweeps: Settings = (),
    device: str = "auto",
    precision: Literal["auto", "fp32", "bf16"] | None = None,
    conditional: bool = False,
    condition: str | None = None,
    encoder: str | None = None,
    jobs: int = 1,
    executor: str = "local",
    extractors: Names = (),
    curve: int | None = None,
    tune: bool = False,
    likelihood_images: int | None = None,
    processes: int = 1,
    compile: bool = False,
    plugins: Names = (),
    datasets_file: str | os.PathLike[str] | None = None,
    data_root: str | os.PathLike[str] | None = None,
    weights: str | os.PathLike[str] | None = None,
    out: str | os.PathLike[str] = "runs",
    timeout: float | None = None,
    hang_timeout: float | None = None,
    allow_rank_deficient: bool = False,
    offline: bool = False,
    strict_plugins: bool = False,
    report: str | os.PathLike[str] | None = None,
    quiet: bool = False,
) -> Runs:
    """`genbench run` with the same words (`genbench run --help`): what is missing runs; the runs of this call return.

    Progress goes to stderr unless `quiet`. A run that failed is among the runs, and a RuntimeWarning says so. Raises
    the errors of the command, such as BadInput, before anything runs; KeyboardInterrupt once checkpoints are written,
    and the same call then resumes.
    """
    with _plain_errors():
        return _run(locals())


def _run(given: Mapping[str, Any]) -> Runs:
    import torch

    from genbench.cli.main import carry_out, place_of_report
    from genbench.report import build_report

    words, spoilt = _words(given), list[CorruptData]()
    place, quiet = place_of_report(words, words.pop("report_to")), given["quiet"]
    try:
        with torch.random.fork_rng(devices=[]):  # planning builds models, and the caller's numbers are not ours
            records = carry_out(words, quiet)
    except KeyboardInterrupt:
        if not quiet:
            say("genbench: interrupted; the same call resumes")
        raise
    told = [f"{record.job.id}: {record.status}: {record.error.message}" for record in records if record.error]
    if place is not None:
        page = build_report(records, place, spoilt=spoilt)
        if not quiet:
            say(f"report: {page}")
        told += [fault.message for fault in spoilt]
    for text in told:
        warnings.warn(text, RuntimeWarning, stacklevel=3)
    return Runs(records)


def _words(given: Mapping[str, Any]) -> dict[str, Any]:
    """What click makes of the same words on the command line, whose checks and messages are these ones' too."""
    from genbench.cli.main import cli

    command, line, last = cli.commands["run"], [], []
    for param in command.params:
        name, value = str(param.name), given.get(KEYWORDS.get(str(param.name), str(param.name)))
        if name in OF_A_TERMINAL or value is None or value is False:
            continue
        if param.param_type_name == "argument":
            last = ["--", os.fspath(value)]
        elif getattr(param, "is_flag", False):
            line.append(param.opts[-1])
        else:
            texts = _texts(value, name == "sweeps") if param.multiple else [_text(value)]
            if not texts and value != ():
                raise BadInput(f"{KEYWORDS.get(name, name)}: empty", "give at least one, or leave it out")
            line += [f"{param.opts[-1]}={text}" for text in texts]
    with command.make_context("genbench run", [*line, *last]) as context:
        return context.params


def _texts(value: Names | Settings, swept: bool) -> list[str]:
    """The words of a repeatable option: one, several, or a value, or if `swept` several, by a model's option."""
    import json

    if isinstance(value, Mapping):
        texts = {key: json.dumps(each, ensure_ascii=False, default=str) for key, each in value.items()}
        return [f"{key}={text[1:-1] if swept else text}" for key, text in texts.items()]
    return [value] if isinstance(value, str | os.PathLike) else [os.fspath(each) for each in value]


def _text(value: Any) -> str:
    """The word of an option that is given once; several numbers are a list even if there is but one, `7,`."""
    if isinstance(value, Sequence) and not isinstance(value, str):
        return "".join(f"{each}," for each in value)
    return os.fspath(value) if isinstance(value, os.PathLike) else str(value)


def _known(name: str, known: Iterable[str]) -> str:
    """The nearest names, and all."""
    names = sorted(known)
    near = did_you_mean(name, names)
    return near if near.startswith("known") else f"{near} known: {', '.join(names)}"


@contextmanager
def _plain_errors() -> Iterator[None]:
    """Whatever would end the command, as an exception of genbench's."""
    import click

    try:
        yield
    except click.ClickException as error:
        raise BadInput(error.format_message(), "`genbench run --help` explains each option") from None
    except OSError as error:
        raise denial(error) or error from error
    except SystemExit:
        hint = "call it in one process; `processes` trains a model in several"
        raise BadInput("genbench.run: started by torchrun in a process other than the first", hint) from None
