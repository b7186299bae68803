"""A head to head as text for a terminal, and as plain data."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from typing import Any

from genbench.support.text import DASH, number, printable
from genbench.tables.compact import DIGITS, shortened_names
from genbench.tables.head_to_head import Difference, HeadToHead, Side, Spent, heading, verdict
from genbench.tables.intervals import Interval
from genbench.tables.wording import ARROWS, RELATIONS, UNRANKED, value_text, width

GAP = 2
LONGEST_NAME = 16
UNKNOWN, UNRANKED_WORD = "not known", "not ranked"


def text_of(match: HeadToHead, differs: Sequence[str], room: int) -> str:
    """The verdict, the metrics side by side with their differences, the costs as ratios, and what differs."""
    names = shortened_names([match.a.name, match.b.name], LONGEST_NAME)
    out = _wrapped([_title(match)], room) + _wrapped(verdict(match), room)
    if match.differences:
        out += ["", *_fitting(_metric_tables(match, names), room)]
        out += _wrapped(_notes(match), room)
    if match.costs:
        lines = [_cost_line(cost) for cost in match.costs]
        ratios = (f"{names[1]} / {names[0]}", "ratio")
        out += ["", *_fitting([[["cost", *names, ratio], *lines] for ratio in ratios], room)]
    return "\n".join([*out, "", *_wrapped(["What differs:", *differs], room)])


def _title(match: HeadToHead) -> str:
    stamp = match.a.records[0].dataset
    seeds = f"seed{'s' * (len(match.seeds) > 1)} {', '.join(map(str, match.seeds))}" if match.seeds else ""
    return f"{match.a.name} against {match.b.name} on {stamp.name}" + (f", {seeds}" if seeds else "")


def _wrapped(lines: Sequence[str], room: int) -> list[str]:
    return [part for line in lines for part in textwrap.wrap(printable(line), room, subsequent_indent="  ")]


def _metric_tables(match: HeadToHead, names: list[str]) -> list[list[list[str]]]:
    """The metrics in words, the widest form first: with errors, without them, without differences."""
    several = len({d.column.extractor for d in match.differences if d.column.extractor}) > 1
    apart = f"{names[0]} − {names[1]} [95 %]"
    heads = [["metric", *names, apart, "better"], ["metric", *names, apart, "better"], ["metric", *names, "better"]]
    lines: list[list[list[str]]] = [[head] for head in heads]
    for d in match.differences:
        style = d.column.styles[0]
        mark = UNRANKED if d.column.unranked else ARROWS[d.column.better]
        name = f"{heading(d.column)} {mark}".rstrip() + (f" ({d.column.extractor})" if several else "")
        unknown = UNRANKED_WORD if d.column.unranked else UNKNOWN if match.rivals and d.column.better else ""
        better = names["ab".index(d.better)] if d.better else unknown
        short = [RELATIONS[cell.relation] + number(cell.value or 0.0, style) for cell in (d.a, d.b)]
        full = [value_text(cell, style, DIGITS) for cell in (d.a, d.b)]
        lines[0].append([name, *full, _apart(d), better])
        lines[1].append([name, *short, _apart(d), better])
        lines[2].append([name, *short, better])
    return lines


def _apart(d: Difference) -> str:
    """`-3.2 [-4.1, -2.3]`."""
    style, like = d.column.styles[0], max(abs(d.a.value or 0.0), abs(d.b.value or 0.0))
    places = len(number(like, style).partition(".")[2])
    written = f"{d.value:+,.{places}f}"
    return written if d.interval is None else f"{written} {_interval(d.interval, places)}"


def _interval(interval: Interval, places: int) -> str:
    return f"[{interval[0]:,.{places}f}, {interval[1]:,.{places}f}]"


def _notes(match: HeadToHead) -> list[str]:
    """What the intervals are, and why it is not known which is better."""
    told = []
    if any(d.interval for d in match.differences):
        within = "from the standard errors within the two runs, which say nothing of other seeds"
        of = f"of the paired differences over {len(match.seeds)} seeds (Student's t)"
        told.append(f"[95 %]: the interval {of if match.paired else within}.")
    reasons: dict[str, list[str]] = {}
    for d in match.differences:
        if d.why and d.column.better and (match.rivals or d.column.unranked):
            reasons.setdefault(d.why, []).append(f"{UNRANKED} " * bool(d.column.unranked) + heading(d.column))
    told += [f"{', '.join(dict.fromkeys(names))}: {why}." for why, names in reasons.items()]
    if tied := [heading(d.column) for d in match.differences if d.tied_in_tables]:
        told.append(
            f"In a table, which compares many models, the two tie in {', '.join(dict.fromkeys(tied))}: their own "
            "intervals overlap."
        )
    return told


def _cost_line(cost: Spent) -> list[str]:
    values = [number(value, cost.style) for value in (cost.a, cost.b)]
    return [cost.heading, *values, DASH if cost.ratio is None else f"{cost.ratio:.3g}"]


def _fitting(tables: list[list[list[str]]], room: int) -> list[str]:
    """The first of some forms that fits."""
    written = [_table(lines, room) for lines in tables]
    return next((lines for lines in written if max(map(width, lines)) <= room), written[-1])


def _table(lines: list[list[str]], room: int) -> list[str]:
    """Lines under a heading: words to the left, numbers to the right; the first column is wrapped if need be."""
    shown = [[printable(word, "\xa0") for word in line] for line in lines]
    sizes = [max(width(line[i]) for line in shown) for i in range(len(shown[0]))]
    sizes[0] = min(sizes[0], max(10, room - sum(sizes[1:]) - GAP * (len(sizes) - 1)))
    rule = "─" * (sum(sizes) + GAP * (len(sizes) - 1))
    out = []
    for line in shown:
        name = textwrap.wrap(line[0], sizes[0], subsequent_indent=" ") or [""]
        rest = [" " * (size - width(word)) + word for size, word in zip(sizes[1:], line[1:])]
        pad = " " * (sizes[0] - width(name[0]))
        out += [(" " * GAP).join([name[0] + pad, *rest]).rstrip(), *name[1:]]
    return [rule, out[0], rule, *out[1:], rule]


def plain_of(match: HeadToHead, differs: Sequence[str], raw: list[dict[str, Any]]) -> dict[str, Any]:
    """The head to head as JSON has it; `raw` are the rows of everything that differs."""
    return {
        "a": _plain_side(match.a), "b": _plain_side(match.b), "dataset": match.a.records[0].dataset.name,
        "seeds": match.seeds, "apart": match.apart, "verdict": verdict(match),
        "metrics": [_plain_difference(d) for d in match.differences],
        "costs": [
            {"cost": c.name, "heading": c.heading, "a": c.a, "b": c.b, "ratio": c.ratio} for c in match.costs
        ],
        "differs": list(differs), "raw": raw,
    }  # fmt: skip


def _plain_side(side: Side) -> dict[str, Any]:
    return {"name": side.name, "runs": [record.job.id for record in side.records], "seeds": sorted(side.seeds)}


def _plain_difference(d: Difference) -> dict[str, Any]:
    return {
        "metric": d.column.metric, "extractor": d.column.extractor or None, "better_is": d.column.better,
        "a": d.a.value, "b": d.b.value, "values_a": d.a.values, "values_b": d.b.values, "difference": d.value,
        "interval": d.interval, "p": d.p, "better": d.better or None, "why": d.why or None,
        "unranked": d.column.unranked or None,
    }  # fmt: skip
