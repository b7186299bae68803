"""Rulers as files: how each rung scored, for programs."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterable
from typing import Any

from genbench.records.ruler import Ruler
from genbench.tables.formats.csv import csv_text

Named = tuple[str, str, Ruler]
"""The name and the digest of a dataset, and a ruler on it."""


def csv_of(rulers: Iterable[Named]) -> str:
    """A line per value of a rung, tidy: the dataset, the ruler, the rung, and the metric with its error and verdict."""
    header = (
        "dataset", "digest", "extractor", "images", "reference_images", "control", "strength", "metric", "value",
        "stderr", "unranked",
    )  # fmt: skip
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(header)
    for dataset, digest, ruler in rulers:
        about = (dataset, digest, ruler.extractor, ruler.images, ruler.reference_images)
        for rung in ruler.rungs:
            for metric, value in rung.values.items():
                why = ruler.verdicts.get(metric, "")
                line: tuple[Any, ...] = (rung.control, rung.strength, metric, value, rung.errors.get(metric), why)
                writer.writerow(csv_text(word) for word in (*about, *line))
    return out.getvalue()


def json_of(rulers: Iterable[Named]) -> str:
    """The rulers as their records have them, each with its dataset."""
    plain = [
        {"dataset": dataset, "digest": digest, **ruler.model_dump(mode="json")} for dataset, digest, ruler in rulers
    ]
    return json.dumps({"rulers": plain}, indent=1, allow_nan=False) + "\n"
