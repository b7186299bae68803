"""Published rows, shipped as package data: shown beside measured ones, marked, never ranked with them."""

from __future__ import annotations

import csv
from collections.abc import Callable, Iterable
from importlib.resources import files

from genbench.records.slots import Slot
from genbench.tables.columns import likelihood_column
from genbench.tables.layout import Cell, Column, Row, Table
from genbench.tables.layouts import layouts

MARK = "published, not measured here"
DDPM = (
    "Ho, Jain, Abbeel (2020), Denoising Diffusion Probabilistic Models, Table 1: CIFAR-10, FID against the training "
    "set, NLL in bits/dim (≤: an upper bound). The paper also gives a test-set FID of 5.24 for L_simple."
)
LDM = (
    "Rombach et al. (2022), High-Resolution Image Synthesis with Latent Diffusion Models, Table 18: compute in "
    "V100-days (A100 time times 2.2), samples/s on one A100. That ImageNet's rows are class-conditional is our reading."
)


def published_tables(layout: str, datasets: Iterable[str] | None) -> list[Table]:
    """The published tables that are laid out like this one, cut to the given datasets; None: all."""
    tables = [PUBLISHED[name]() for name in layouts()[layout].published]
    if datasets is None:
        return tables
    wanted = {_plain(name) for name in datasets}
    return [cut for table in tables if (cut := _only(table, wanted)).rows]


def _plain(name: str) -> str:
    """`CIFAR-10` and `cifar10` are one dataset."""
    return "".join(letter for letter in name.lower() if letter.isalnum())


def _only(table: Table, datasets: set[str]) -> Table:
    rows = tuple(row for row in table.rows if _plain(row.dataset) in datasets)
    return Table(table.layout, table.title, table.columns, rows, table.footnotes, published=True)


def _read(name: str) -> list[dict[str, str]]:
    text = files(__name__).joinpath(name).read_text(encoding="utf-8")
    return list(csv.DictReader(text.splitlines()))


def _cell(text: str, error: str = "", bound: bool = False, millions: bool = False) -> Cell:
    """A number as it is printed; a printed range such as 128-256 is an interval; nothing is a dash."""
    if not text:
        return Cell(status="not_published", note="not given in the source")
    low, _, high = text.partition("-")
    printed = (f"{low}–{high}" if high else low) + (f" ± {error}" if error else "") + (" M" if millions else "")
    if high:
        return Cell(interval=(float(low), float(high)), status="published", note=MARK, printed=printed)
    return Cell(
        value=float(text) * (1e6 if millions else 1), spread=float(error) if error else None, n_ok=1, n=1,
        status="published", relation="<=" if bound else "", note=MARK, printed=printed,
    )  # fmt: skip


def _row(name: str, dataset: str, block: str, conditional: str, cells: dict[str, Cell], note: str = "") -> Row:
    slots = {Slot(key): cell for key, cell in cells.items()}
    return Row(name, name, name, "published", block, slots, dataset, conditional=conditional == "true", note=note)


def _ddpm() -> Table:
    rows = []
    for line in _read("ddpm_table1_cifar10.csv"):
        bound = line["nll_kind"] == "bound"
        cells = {
            "inception_score": _cell(line["inception_score"], line["inception_score_std"]),
            "fid_train": _cell(line["fid"]),
            "bits_per_dim_test": _cell(line["nll_test"], bound=bound),
            "bits_per_dim_train": _cell(line["nll_train"], bound=bound),
        }
        block = "Conditional" if line["conditional"] == "true" else "Unconditional"
        rows.append(_row(line["model"], "CIFAR-10", block, line["conditional"], cells))
    columns = (
        Column((Slot("inception_score"),), "IS (Inception)", ("score",), "inception_score", "inception", "higher"),
        Column((Slot("fid_train"),), "FID train (Inception)", ("fid",), "fid_train", "inception", "lower"),
        likelihood_column(),
    )
    return Table("quality", f"CIFAR-10, {MARK}", columns, tuple(rows), (f"Source: {DDPM}",), "CIFAR-10", published=True)


def _ldm() -> Table:
    rows = []
    for line in _read("ldm_table18.csv"):
        cells = {
            "generator_v100_days": _cell(line["generator_v100_days"]),
            "classifier_v100_days": _cell(line["classifier_v100_days"]),
            "overall_v100_days": _cell(line["overall_v100_days"]),
            "images_per_second": _cell(line["samples_per_second"]),
            "parameters": _cell(line["parameters_millions"], millions=True),
            "fid": _cell(line["fid"]),
            "inception_score": _cell(line["inception_score"], line["inception_score_std"]),
            "precision": _cell(line["precision"]),
            "recall": _cell(line["recall"]),
        }
        steps = f", {line['sampling_steps']} steps" if line["sampling_steps"] else ""
        block = line["dataset"] + (", class-conditional" if line["conditional"] == "true" else "")
        rows.append(_row(line["method"] + steps, line["dataset"], block, line["conditional"], cells, line["note"]))
    columns = (
        Column((Slot("generator_v100_days"),), "generator compute, V100-days", ("rate",)),
        Column((Slot("classifier_v100_days"),), "classifier compute, V100-days", ("rate",)),
        Column((Slot("overall_v100_days"),), "overall, V100-days", ("rate",)),
        Column((Slot("images_per_second"),), "samples/s", ("rate",), better="higher"),
        Column((Slot("parameters"),), "parameters", ("si",)),
        Column((Slot("fid"),), "FID (Inception)", ("fid",), "fid", "inception", "lower"),
        Column((Slot("inception_score"),), "IS (Inception)", ("score",), "inception_score", "inception", "higher"),
        Column((Slot("precision"),), "precision", ("share",), "precision", better="higher"),
        Column((Slot("recall"),), "recall", ("share",), "recall", better="higher"),
    )
    return Table(
        "cost", f"Image synthesis at 256x256, {MARK}", columns, tuple(rows), (f"Source: {LDM}",), published=True
    )


PUBLISHED: dict[str, Callable[[], Table]] = {"ddpm": _ddpm, "ldm": _ldm}
"""What a layout may name."""
