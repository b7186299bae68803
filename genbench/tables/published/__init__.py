"""Published rows, shipped as package data: shown beside measured ones, marked, never ranked with them."""

from __future__ import annotations

import csv
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from functools import cache
from importlib.resources import files

from genbench.metrics.reconstruction import RFID
from genbench.records.slots import Slot
from genbench.tables.columns import likelihood_column
from genbench.tables.layout import Cell, Column, Row, Table
from genbench.tables.published.facts import Facts, read_facts

MARK = "published, not measured here"
FIRST_STAGE = "(first stage)"
"""What the names of rows end with that have no samples, but reconstructions, and encode whatever the class."""


@dataclass(frozen=True)
class Published:
    """A published table, and what must be known of it."""

    table: Table
    facts: Facts


def published_tables(names: Iterable[str], datasets: Iterable[str] | None) -> list[Table]:
    """The published tables of these names, cut to the given datasets; None: all."""
    tables = [published(name).table for name in names]
    if datasets is None:
        return tables
    wanted = {_plain(name) for name in datasets}
    return [cut for table in tables if (cut := _only(table, wanted)).rows]


@cache
def published(name: str) -> Published:
    """The published table of this name, one of PUBLISHED, with its facts."""
    make, file = PUBLISHED[name]
    facts = read_facts(f"{file}.toml")
    return Published(make(_read(f"{file}.csv"), facts), facts)


def _plain(name: str) -> str:
    """`CIFAR-10` and `cifar10` are one dataset."""
    return "".join(letter for letter in name.lower() if letter.isalnum())


def _only(table: Table, datasets: set[str]) -> Table:
    rows = tuple(row for row in table.rows if _plain(row.dataset) in datasets)
    return Table(table.layout, table.title, table.columns, rows, table.footnotes, published=True)


def _read(name: str) -> list[dict[str, str]]:
    text = files(__name__).joinpath(name).read_text(encoding="utf-8")
    return list(csv.DictReader(text.splitlines()))


def _cell(text: str, error: str = "", kind: str = "", millions: bool = False) -> Cell:
    """A number as it is printed; a printed range such as 128-256 is an interval; nothing is a dash."""
    if not text:
        return Cell(status="not_published", note="not given in the source")
    low, _, high = text.partition("-")
    printed = (f"{low}–{high}" if high else low) + (f" ± {error}" if error else "") + (" M" if millions else "")
    if high:
        return Cell(interval=(float(low), float(high)), status="published", note=MARK, printed=printed)
    return Cell(
        value=float(text) * (1e6 if millions else 1), spread=float(error) if error else None, n_ok=1, n=1,
        status="published", relation="<=" if kind == "bound" else "", kind=kind, note=MARK, printed=printed,
    )  # fmt: skip


def _row(line: dict[str, str], name: str, model: str, block: str, cells: dict[str, Cell], facts: Facts) -> Row:
    conditional = line["conditional"] == "true"
    note = line.get("note", "")
    words = [f"{note[:1].upper()}{note[1:]}." if note else "", facts.of(name, conditional).remark]
    return Row(
        name=name, label=name, model=model, kind="published", block=block,
        cells={Slot(key): cell for key, cell in cells.items()}, dataset=line.get("dataset", "CIFAR-10"),
        conditional=conditional, remark=" ".join(filter(None, words)),
    )  # fmt: skip


def _ddpm(lines: list[dict[str, str]], facts: Facts) -> Table:
    rows = []
    for line in lines:
        kind = line["nll_kind"]
        cells = {
            "inception_score": _cell(line["inception_score"], line["inception_score_std"]),
            "fid_train": _cell(line["fid"]),
            "bits_per_dim_test": _cell(line["nll_test"], kind=kind),
            "bits_per_dim_train": _cell(line["nll_train"], kind=kind),
        }
        block = "Conditional" if line["conditional"] == "true" else "Unconditional"
        rows.append(_row(line, line["model"], line["model"], block, cells, facts))
    columns = (
        Column((Slot("inception_score"),), "IS (Inception)", ("score",), "inception_score", "inception", "higher"),
        Column((Slot("fid_train"),), "FID train (Inception)", ("fid",), "fid_train", "inception", "lower"),
        likelihood_column(),
    )
    title, source = f"CIFAR-10, {MARK}", f"Source: {facts.source}"
    return Table("quality", title, columns, tuple(rows), (source,), "CIFAR-10", published=True)


def _ldm(lines: list[dict[str, str]], facts: Facts) -> Table:
    rows = []
    for line in lines:
        rebuilt = line["method"].endswith(FIRST_STAGE)
        fid, none = _cell(line["fid"]), _cell("")
        elsewhere = replace(none, note="the number that is printed is of reconstructions, and stands under rFID")
        cells = {
            "generator_v100_days": _cell(line["generator_v100_days"]),
            "classifier_v100_days": _cell(line["classifier_v100_days"]),
            "overall_v100_days": _cell(line["overall_v100_days"]),
            "images_per_second": _cell(line["samples_per_second"]),
            "parameters": _cell(line["parameters_millions"], millions=True),
            "fid": elsewhere if rebuilt else fid,
            RFID: fid if rebuilt else none,
            "inception_score": _cell(line["inception_score"], line["inception_score_std"]),
            "precision": _cell(line["precision"]),
            "recall": _cell(line["recall"]),
        }
        steps = f", {line['sampling_steps']} steps" if line["sampling_steps"] else ""
        block = line["dataset"] + (", class-conditional" if line["conditional"] == "true" else "")
        row = _row(line, line["method"] + steps, line["method"], block, cells, facts)
        rows.append(replace(row, conditional=False) if rebuilt else row)
    columns = (
        Column((Slot("generator_v100_days"),), "generator compute, V100-days", ("rate",)),
        Column((Slot("classifier_v100_days"),), "classifier compute, V100-days", ("rate",)),
        Column((Slot("overall_v100_days"),), "overall, V100-days", ("rate",)),
        Column((Slot("images_per_second"),), "samples/s", ("rate",), better="higher"),
        Column((Slot("parameters"),), "parameters", ("si",)),
        Column((Slot("fid"),), "FID (Inception)", ("fid",), "fid", "inception", "lower"),
        Column((Slot(RFID),), "rFID (Inception)", ("fid",), RFID, "inception", "lower"),
        Column((Slot("inception_score"),), "IS (Inception)", ("score",), "inception_score", "inception", "higher"),
        Column((Slot("precision"),), "precision", ("share",), "precision", better="higher"),
        Column((Slot("recall"),), "recall", ("share",), "recall", better="higher"),
    )
    title, source = f"Image synthesis at 256x256, {MARK}", f"Source: {facts.source}"
    return Table("cost", title, columns, tuple(rows), (source,), published=True)


PUBLISHED: dict[str, tuple[Callable[[list[dict[str, str]], Facts], Table], str]] = {
    "ddpm": (_ddpm, "ddpm_table1_cifar10"),
    "ldm": (_ldm, "ldm_table18"),
}
"""What a layout may name: how it is laid out, and the name of its files."""
