"""The sentences under a table without which its numbers mislead."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from genbench.condition import EACH, OPEN
from genbench.metrics import is_likelihood
from genbench.metrics.reconstruction import RFID
from genbench.records.record import OTHER_CODE, Record
from genbench.records.slots import sample_count
from genbench.support.text import list_words
from genbench.tables.cost_notes import of_cost, of_training
from genbench.tables.groups import Group, variant
from genbench.tables.layout import Cell, Column, Row
from genbench.tables.limits import KIND, LIMIT, entropies_of
from genbench.tables.pressing import (
    bare,
    behind,
    copying,
    failed,
    rank_deficient,
    ruler_instead,
    tuning,
    unequal,
    unranked,
    warnings,
)  # fmt: skip
from genbench.tables.ranking import LEAST_SEEDS
from genbench.tables.ruler import about_text
from genbench.tables.verdicts import rulers_of

FEW_SAMPLES = 10_000


def caveats(group: Group, columns: list[Column], rows: list[Row], spare: list[Record], tested: bool) -> list[str]:
    """What a reader must know of this table, in the order of its columns; never empty.

    `tested` says that ranks rest on tests.
    """
    metrics = {column.metric for column in columns if column.metric}
    return [
        *tuning(group.records),
        *unranked(columns),
        *ruler_instead(group.records, columns),
        *copying(rows),
        *unequal(rows),
        *_references(rows),
        *_extractors(group, columns),
        *_ranks(rows, columns, tested),
        *_errors(rows, columns),
        *_fid(group, metrics),
        *_inception_score(columns),
        *_reconstruction(metrics),
        *_likelihood(columns, rows),
        *_limit(group, columns),
        *of_cost(group, columns),
        *of_training(group),
        *_code(rows),
        *_notes(columns, rows),
        *warnings(rows),
        *_runs(rows, spare),
    ]


REFERENCE_WORDS = {
    "real": "real is the floor (held-out real images: training images against the test set, test images against the "
    "training set)",
    "noise": "noise is the ceiling",
    "copies": "copies are training images, what a model that copies would score",
    "original": "original is the image that a condition was made of",
    "posterior": "posterior are draws from the exact distribution, whose energy score no model can beat",
    "mean": "mean is the mean of what is possible, or of the nearest training images",
    "neighbour": "neighbour are the training images whose conditions are nearest",
    "shuffled": "shuffled are images of other conditions",
}


def _references(rows: list[Row]) -> Iterator[str]:
    shown = {row.kind for row in rows}
    if told := [words for kind, words in REFERENCE_WORDS.items() if kind in shown]:
        yield f"{'; '.join(told)}; {'none of them is ranked' if len(told) > 1 else 'it is not ranked'}."


def _extractors(group: Group, columns: list[Column]) -> Iterator[str]:
    """What is known of extractors that were trained here; which have no ruler, as in records of earlier versions."""
    names = {column.extractor for column in columns if column.extractor}
    tried = rulers_of(group.records)
    for name in sorted(names & tried.keys()):
        if about := about_text(tried[name]):
            yield f"{name} was trained on this dataset: {about}."
    if untried := sorted(names - tried.keys()):
        check = "" if group.is_tuning else f", or `genbench extractors --check -d {group.dataset}`"
        yield (
            f"Whether metrics in the features of {list_words(untried)} tell good images from bad ones was not tried on "
            f"these images: run again{check}."
        )


def _ranks(rows: list[Row], columns: list[Column], tested: bool) -> Iterator[str]:
    models = [row for row in rows if row.kind == "model"]
    cells = [cell for row in models for cell in row.cells.values()]
    yield from bare(models, columns)
    if not any(cell.rank for cell in cells):
        return
    if any(cell.best for cell in cells):
        yield "* rank 1: no model of its column and block is known to be better."
    apart = "whose interval lies entirely on the better side, which is no claim of significance"
    test = (
        f"that a paired t-test over at least {LEAST_SEEDS} common seeds finds better (p ≤ 0.05 after Holm's correction "
        f"for all pairs of the column and block) or, with fewer seeds, {apart}"
    )
    yield f"#: rank within its column and block, = if shared: 1 + the number of models {test if tested else apart}."
    if any(cell.rank and cell.interval is None and cell.n_ok == cell.n > 0 for cell in cells):
        yield "Where no model of a column and block has an interval, values are ranked as they stand."
    yield from behind(rows, columns)


def _errors(rows: list[Row], columns: list[Column]) -> Iterator[str]:
    keys = [key for column in columns if column.metric for key in column.keys]
    cells = [row.cells[key] for row in rows for key in keys if key in row.cells]
    if any(cell.spread is not None for cell in cells):
        yield "± is the standard deviation over seeds."
    if any(cell.spread is None and cell.stderr is not None for cell in cells):
        yield "± ... se is the standard error within a single run; it says nothing about other seeds."
    yield from _intervals(cells)
    if any(row.n > 1 for row in rows):
        yield "runs: seeds finished, of all; means are over those that finished."
    most = max((row.n for row in rows if row.kind == "model"), default=0)
    if most == 1:
        yield "One seed per model: differences may be due to the seed alone."
    elif most < LEAST_SEEDS:
        yield f"Fewer than {LEAST_SEEDS} seeds: no claim of significance."


def _intervals(cells: list[Cell]) -> Iterator[str]:
    over_seeds, in_run = (any(cell.interval_of == what for cell in cells) for what in ("seeds", "run"))
    several = "of the mean over seeds (Student's t)"
    one = "within the single run that finished, and says nothing about other seeds"
    if over_seeds and in_run:
        yield f"[low, high] is the 95 % interval {several} if several finished; if one did, it is {one}."
    elif over_seeds or in_run:
        yield f"[low, high] is the 95 % interval {several if over_seeds else one}."


def _fid(group: Group, metrics: set[str]) -> Iterator[str]:
    protocols = [group.settings_of(key) for key in group.protocols if key.metric.startswith("fid")]
    if not protocols or not any(metric.startswith("fid") for metric in metrics):
        return
    sides = [side for side in ("test", "train") if f"fid_{side}" in metrics]
    against = {"test": "all test images", "train": "the training images"}
    both = "; the two columns are not comparable with each other" if len(sides) == 2 else ""
    yield " ".join(f"FID {side} is against {against[side]}." for side in sides)[:-1] + both + "."
    counts = sorted({count for protocol in protocols if (count := sample_count(protocol))})
    if counts and counts[0] < FEW_SAMPLES:
        amount = ", ".join(f"{count:,}" for count in counts)
        yield f"{amount} samples bias FID upwards, by an amount that depends on the model: compare at equal N only."
    if any(record.job.kind in OPEN for record in group.records):
        yield (
            f"Given captions, maps, holes or small images, {EACH} samples are drawn of each condition, and all rows "
            "share the conditions: the error of FID is over other samples, not over other conditions."
        )
    yield from rank_deficient(protocols)


def _inception_score(columns: list[Column]) -> Iterator[str]:
    others = sorted(
        {c.extractor for c in columns if c.metric == "inception_score" and not c.extractor.startswith("inception")}
    )
    if others:
        yield f"IS is in the classes of {', '.join(others)}, not Inception's: not comparable with published scores."


def _reconstruction(metrics: set[str]) -> Iterator[str]:
    if RFID in metrics:
        yield (
            "rFID is the FID of the reconstructions of all test images against these images. It says what encoding "
            "loses, not how well a model samples, and is no lower limit of its FID."
        )


RELATION_WORDS = {
    "<=": "≤ marks upper bounds on the discrete NLL, among them exact densities of dequantised images",
    "~": "~ marks estimates, which may lie on either side and are not ranked",
}


def _likelihood(columns: list[Column], rows: list[Row]) -> Iterator[str]:
    keys = [key for column in columns if is_likelihood(column.metric) for key in column.keys]
    if keys:
        cells = [row.cells[key] for row in rows for key in keys if key in row.cells]
        shown = {cell.relation for cell in cells if cell.value is not None}
        marks = [words for relation, words in RELATION_WORDS.items() if relation in shown]
        yield f"{'; '.join(['NLL in bits/dim', *marks])}. A uniform model scores 8."


def _limit(group: Group, columns: list[Column]) -> Iterator[str]:
    """What the limit is, or that there is none."""
    keys = {key for column in columns for key in column.keys}
    entropies = entropies_of(group.records)
    if LIMIT in keys and entropies:
        notes = "; or ".join(dict.fromkeys(entropy.note.rstrip(".") for entropy in entropies if entropy.note))
        how = f" ({notes})" if notes else ""
        yield (
            f"limit: the entropy of the distribution that the images were drawn from{how}, ± its largest possible "
            "error: no model's NLL on test images can be below it."
        )
        yield "gap: NLL test minus the limit; its interval includes the limit's error."
    elif KIND in keys:
        yield f"The entropy of {group.dataset} is not known: there is no limit to compare with."


def _code(rows: list[Row]) -> Iterator[str]:
    if any(OTHER_CODE in row.name for row in rows):
        yield (
            f"Rows with {OTHER_CODE} were run by an earlier version; it is not known whether the model's source has "
            "changed since: they are not counted as seeds of the others."
        )


def _notes(columns: list[Column], rows: list[Row]) -> Iterator[str]:
    """The notes that measurements carry beside their values, each once, with the rows they stand in."""
    told: dict[tuple[str, str], list[str]] = {}
    for column in columns:
        for key in column.keys:
            for row in rows:
                cell = row.cells.get(key)
                if cell and cell.value is not None and cell.note:
                    told.setdefault((column.heading, cell.note), []).append(row.name)
    everyone = [row.name for row in rows]
    for (heading, note), names in told.items():
        who = "" if names == everyone else f" of {', '.join(dict.fromkeys(names))}"
        yield f"{heading}{who}: {note.rstrip('.')}."


def _runs(rows: list[Row], spare: list[Record]) -> Iterator[str]:
    yield from failed(rows)
    for label, settings in variants(row.records[0] for row in rows if row.kind == "model").items():
        yield f"The rows of {label} differ in {', '.join(settings)}."
    for name in sorted({f"{record.job.label} seed {record.job.seed}" for record in spare}):
        yield f"{name} is present more than once and counted once."


def variants(records: Iterable[Record]) -> dict[str, list[str]]:
    """The settings in which the models of one label differ, for labels that several models have."""
    models: dict[str, list[dict[str, str]]] = {}
    for record in records:
        models.setdefault(record.job.label, []).append(variant(record))
    differing = {
        label: [
            key for key in dict.fromkeys(key for own in some for key in own) if len({own.get(key) for own in some}) > 1
        ]
        for label, some in models.items()
    }
    return {label: keys for label, keys in differing.items() if keys}
