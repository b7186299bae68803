"""Published and measured numbers of the same models side by side, and how alike the two orders are."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from genbench.records.slots import Slot
from genbench.tables.columns import slot_columns
from genbench.tables.contrast import contrast
from genbench.tables.groups import Group, is_reference
from genbench.tables.layout import Cell, Column, Layout, Relation, Row, Table
from genbench.tables.orders import LEAST_ROWS, Order, left_out, orders
from genbench.tables.pairs import (
    COUNTERPARTS,
    Both,
    Pair,
    candidates,
    costs_beside,
    counterparts,
    joined,
    paired_tables,
    pairs_of,
    partner,
    printed_slot,
)  # fmt: skip
from genbench.tables.published import PUBLISHED, published
from genbench.tables.verdicts import judged
from genbench.tables.wording import has_value, metric_words

TITLE = "Beside published numbers"
KINDS: dict[Relation, str] = {"": "an exact value", "<=": "an upper bound", "~": "an estimate"}
NONE = "no tau"
HOW = "A run is paired by its label, of which letters and digits count: `--set gan.label=SNGAN`."


@dataclass(frozen=True)
class Beside:
    """The layout of one published table; `alone` are the labels of runs that have no row in any."""

    name: str
    alone: tuple[str, ...] = ()

    def columns(self, group: Group) -> list[Column]:
        """A published column and the measured one beside it, in the order of the published table."""
        return [column for there, here in self._both(group) for column in (_printed(there), _measured(here))]

    def _both(self, group: Group) -> Both:
        metrics = dict.fromkeys(metric for some in COUNTERPARTS.values() for metric in some)
        columns = [judged(column, group) for column in slot_columns(group, metrics)]
        return [*costs_beside(self.name), *counterparts(columns, self.name)]

    def finish(self, rows: list[Row], group: Group) -> list[Row]:
        """The rows of the published table, each with the measured numbers of its model, or with dashes."""
        both, found = self._both(group), []
        for pair in pairs_of(rows, self.name):
            found += [_with_dashes(joined(pair, row, both), both) for row in pair.measured or (None,)]
        return found

    def told(self, rows: list[Row], columns: Sequence[Column]) -> list[str]:
        """How alike the orders are, what differs from the published runs, and which runs are not in the table."""
        pairs, both = pairs_of(rows, self.name), counterparts(columns, self.name)
        facts, out = published(self.name).facts, left_out(pairs, both)
        return [
            f"paper: as printed in {facts.table}, and never ranked with what was measured here.",
            *_taus(pairs, both),
            *contrast(pairs, both, self.name),
            *([f"In no order: {'; '.join(out)}."] if out else []),
            *([f"Not in the published table: {', '.join(self.alone)}. {HOW}"] if self.alone else []),
        ]


def _printed(column: Column) -> Column:
    return Column((printed_slot(column),), f"paper {metric_words(column)}", column.styles[:1])


def _measured(column: Column) -> Column:
    return replace(column, heading=f"here {column.heading}")


def _with_dashes(row: Row, both: Both) -> Row:
    """The row with a cell in every column; a measured number of another kind than the published one says so."""
    cells: dict[Slot, Cell] = {}
    for there, here in both:
        own = row.cells.get(here.key, Cell(status="not_measured", note="not measured here"))
        printed = row.cells[printed_slot(there)]
        known = own.value is not None and printed.value is not None
        if known and own.relation != printed.relation:
            remark = f"Published as {KINDS[printed.relation]}, measured as {KINDS[own.relation]}."
            own = replace(own, remark=remark)
        cells |= {here.key: own}
    return replace(row, cells=row.cells | cells)


def _taus(pairs: list[Pair], both: Both) -> list[str]:
    """Kendall's tau of each block and metric, and what it is."""
    blocks = dict.fromkeys(pair.printed.block for pair in pairs if pair.measured)
    found = [order for order in orders(pairs, both) if order.tau is not None]
    told = []
    for block in blocks:
        words = []
        told_of = [pair.printed.cells for pair in pairs if pair.printed.block == block]
        for printed, measured in both:
            if not any(has_value(cells[printed.key]) for cells in told_of):
                continue
            own = [order for order in found if order.block == block and order.printed is printed]
            words += [_tau_words(order) for order in own] or [f"{metric_words(printed)} {NONE}{_why(measured)}"]
        told.append(f"{block}: Kendall's tau-b of the published and the measured order: {'; '.join(words)}.")
    if found:
        how = " Over several seeds it is their mean, with Student's 95 % interval over the seeds that all models have."
        several = any(order.interval for order in found)
        told.append(f"tau is 1 for one order, -1 for the reverse, about 0 for unrelated ones.{how * several}")
    if any(NONE in words for words in told):
        told.append(f"{NONE}: fewer than {LEAST_ROWS} models have both numbers, exact ones or bounds alone.")
    return told


def _tau_words(order: Order) -> str:
    """`FID train 0.71 [0.55, 0.88] (11 models, 3 seeds)`."""
    kind = {"": "", "<=": " (bounds)", "~": ""}[order.relation]
    seeds, interval = len(order.by_seed), order.interval
    if interval is None:
        range_, about = "", "one seed: no interval" if seeds == 1 else "no two seeds in common: no interval"
    elif interval[0] == interval[1]:
        range_, about = "", f"the same in each of {seeds} seeds"
    else:
        range_, about = f" [{interval[0]:.2f}, {interval[1]:.2f}]", f"{seeds} seeds"
    return f"{metric_words(order.printed)}{kind} {order.tau:.2f}{range_} ({len(order.rows)} models, {about})"


def _why(measured: Column) -> str:
    return " (it may not rank on these images)" if measured.unranked else ""


def parts(group: Group) -> list[tuple[Layout, Group]]:
    """The layout of each published table that a run of the group has a row in, with the runs that have one.

    Without any, that of the first table, which says how none of them is called.
    """
    models = [view for view in group.views if not is_reference(view.record)]
    names = paired_tables(view.record for view in models)
    alone = [view.record for view in models if not any(partner(view.record, name) for name in names)]
    several = {record.job.label for record in alone if any(candidates(record, name) for name in PUBLISHED)}
    labels = [
        f"{label} (several rows are called so)" if label in several else label
        for label in sorted({record.job.label for record in alone})
    ]
    found: list[tuple[Layout, Group]] = []
    for name in names or [next(iter(PUBLISHED))]:
        kept = [view for view in group.views if is_reference(view.record) or partner(view.record, name)]
        own = Beside(name, tuple(labels) if not found else ())
        found.append((layout_of(own), replace(group, views=kept if names else group.views)))
    return found


def layout_of(own: Beside) -> Layout:
    return Layout(TITLE, PLACE, own.columns, finish=own.finish, told=own.told, paired=True)


def is_paired(table: Table) -> bool:
    """Whether enough models of the table are measured to compare: one may be called as a published one by chance."""
    return sum(bool(row.records) for row in table.rows) > 1


PLACE = 15
LAYOUT = Layout(TITLE, PLACE, lambda group: [], is_shown=is_paired, parts=parts)
