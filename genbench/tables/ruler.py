"""A ruler in words: which metrics may rank in an extractor's features, and how each rung scored."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping

from genbench.metrics import in_order, metric_named
from genbench.records.ruler import Ruler, Rung
from genbench.records.slots import flatten
from genbench.support.text import DASH, number, printable, shortened
from genbench.tables.wording import width

REAL, HALVES, COPIES, NOISE = "real", "test halves", "copies", "noise"
"""Controls that have columns of their own in a table of a ruler, or that are no change for the worse."""
PHOTOGRAPHIC = "efficientnet-lite0"
WIDTH = 80
LONGEST = 30
NAME = 26


def ordered(ruler: Ruler) -> list[str]:
    """The metrics of a ruler in the order of a record, those of plugins last."""
    return in_order(ruler.verdicts, "record")


def value_of(ruler: Ruler, control: str, metric: str) -> str:
    """How a metric scores the first rung of a control, as text; a dash if it does not."""
    found = (rung.values[metric] for rung in ruler.rungs if rung.control == control and metric in rung.values)
    return next((number(value, metric_named(metric).style) for value in found), DASH)


def worst(ruler: Ruler, metric: str) -> Rung | None:
    """The rung, noise and real images apart, that a metric finds worst."""
    rungs = [
        rung for rung in ruler.rungs if metric in rung.values and rung.control not in (REAL, HALVES, COPIES, NOISE)
    ]
    sign = -1 if metric_named(metric).better == "higher" else 1
    return max(rungs, key=lambda rung: sign * rung.values[metric], default=None)


def worst_text(ruler: Ruler, metric: str) -> tuple[str, str]:
    """The value of the worst rung, and its name; dashes if there is none."""
    rung = worst(ruler, metric)
    if rung is None:
        return DASH, ""
    return number(rung.values[metric], metric_named(metric).style), rung_name(rung)


def rung_name(rung: Rung) -> str:
    """`blur, σ = 2`."""
    return f"{rung.control}, {rung.strength}" if rung.strength else rung.control


def about_words(ruler: Ruler) -> dict[str, str]:
    """What is known of an extractor that was trained here: `{"accuracy (test)": "0.721"}`."""
    words = {}
    for key, value in flatten(ruler.about).items():
        name, _, part = key.replace("_", " ").partition(".")
        text = f"{value:.3f}" if isinstance(value, float) else f"{value:,}" if isinstance(value, int) else str(value)
        words[f"{name} ({part})" if part else name] = text
    return words


def about_text(ruler: Ruler) -> str:
    """The same in one line."""
    return "; ".join(f"{name}: {value}" for name, value in about_words(ruler).items())


def refusal(ruler: Ruler) -> str:
    """Why none of the metrics may rank, if that is one reason; else ""."""
    reasons = set(ruler.verdicts.values())
    return reasons.pop() if len(reasons) == 1 else ""


def better_ruler(dataset: str, shape: tuple[int, ...], refused: Mapping[str, str]) -> str:
    """Which extractor to try on photographs of which FID ranks nothing; "" if it ranks, or there is none to try.

    `refused` says by extractor why its FID may not rank.
    """
    if shape[0] != 3 or PHOTOGRAPHIC in refused or not refused or not all(refused.values()):
        return ""
    return (
        f'A better ruler for few photographs is `--extractor {PHOTOGRAPHIC}` (pip install "genbench[photographs]"): '
        f"`genbench extractors --check -d {dataset} --extractor {PHOTOGRAPHIC}` says whether its FID ranks these."
    )


def sizes_text(ruler: Ruler) -> str:
    """How many images were compared with how many."""
    return f"{ruler.images:,} images a rung, compared with {ruler.reference_images:,} test images"


def ruler_text(ruler: Ruler) -> str:
    """The ruler as an aligned table that is readable at 80 columns: a line per metric, and below it why it is refused.

    What refuses all of them stands above it.
    """
    out = textwrap.wrap(f"{printable(ruler.extractor)}: {sizes_text(ruler)}", WIDTH)
    out += textwrap.wrap(printable(about_text(ruler)), WIDTH, initial_indent="  ", subsequent_indent="  ")
    if everything := refusal(ruler):
        words = printable(f"ranks nothing: {everything}")
        out += textwrap.wrap(words, WIDTH, initial_indent="  ", subsequent_indent="  ")
    lines = [("metric", "ranks", "real", "worst rung", "", "noise")]
    for metric in ordered(ruler):
        value, name = worst_text(ruler, metric)
        able = "no" if ruler.verdicts[metric] else "yes"
        heading = shortened(printable(metric_named(metric).heading), LONGEST)
        real, noise = (value_of(ruler, control, metric) for control in (REAL, NOISE))
        lines.append((heading, able, real, value, shortened(printable(name), NAME), noise))
    sizes = [max(width(line[i]) for line in lines) for i in range(len(lines[0]))]
    rule = "─" * min(WIDTH, sum(sizes) + 2 * len(sizes) - 2)
    written = ["  ".join(_padded(word, size, i) for i, (word, size) in enumerate(zip(line, sizes))) for line in lines]
    out += [rule, written[0].rstrip(), rule]
    for line, metric in zip(written[1:], ordered(ruler)):
        out.append(line.rstrip())
        why = "" if everything else printable(ruler.verdicts[metric])
        out += textwrap.wrap(why, WIDTH, initial_indent="    ", subsequent_indent="    ")
    return "\n".join([*out, rule])


def _padded(word: str, size: int, column: int) -> str:
    """Words to the left, numbers to the right."""
    space = " " * (size - width(word))
    return word + space if column in (0, 1, 4) else space + word
