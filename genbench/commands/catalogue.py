"""What is available: models, datasets, extractors and plugins, as rows for people and programs."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from genbench.data.entries import known_datasets
from genbench.data.source import Place, Source
from genbench.records.class_names import listed
from genbench.running.defaults import load_plugins
from genbench.support.text import plain, summary

Row = dict[str, Any]


def model_rows(files: Iterable[str]) -> list[Row]:
    """One row per model: capabilities, presets and options, from the classes themselves."""
    from genbench.capabilities import capabilities

    plugins = load_plugins(files)
    rows = []
    for name in plugins.model_names:
        model, info = plugins.model(name)
        options = [
            {"name": key, "default": field.default, "role": model.Config.role(key), "about": field.description or ""}
            for key, field in model.Config.model_fields.items()
        ]
        rows.append(
            {"name": name, "plugin": info.origin, "conditional": "class" in model.kinds(),
             "conditions": list(model.kinds()), "capabilities": capabilities(model),
             "likelihood": model.likelihood if "likelihood" in capabilities(model) else None,
             "presets": sorted(model.presets), "about": summary(model.__doc__), "options": options}
        )  # fmt: skip
    return rows


def model_text(rows: list[Row]) -> str:
    """Models with their options indented below them."""
    lines = []
    for row in rows:
        able = [f"likelihood: {row['likelihood'] or 'none'}"]
        able += ["conditional" if kind == "class" else f"conditional on {kind}" for kind in row["conditions"]]
        lines.append(f"{row['name']:10} {row['about']}  [{'; '.join(able)}]")
        if row["presets"]:
            lines.append(f"{'':12}presets: {', '.join(row['presets'])}")
        lines += [f"{'':12}{o['name']} = {o['default']}  ({o['role']}) {o['about']}" for o in row["options"]]
    return plain_lines(lines)


def dataset_rows(file: Path | None, files: Iterable[str]) -> list[Row]:
    """One row per dataset; `classes` are the names of its classes by label, [] if they have none."""
    entries = known_datasets([file] if file else [], load_plugins(files))
    return [
        {"name": name, **entry.source.model_dump(mode="json"), "origin": entry.origin, **_entropy_words(entry.source),
         "classes": list(entry.source.names_of_classes(Place(entry.base, entry.base)))}
        for name, entry in sorted(entries.items())
    ]  # fmt: skip


def dataset_text(rows: list[Row]) -> str:
    """The datasets as aligned text, each with the names of its classes below it, if they have names."""
    first, *lines = as_lines(rows, ["name", "shape", "num_classes", "source", "title"]).splitlines()
    below = [[f"    classes: {listed(row['classes'])}"] if row["classes"] else [] for row in rows]
    return plain_lines([first, *(line for own, names in zip(lines, below) for line in (own, *names))])


def _entropy_words(source: Source) -> Row:
    """The entropy of images whose distribution is known, with a title that gives it."""
    entropy = source.entropy(False)
    if entropy is None:
        return {}
    words = f"{source.title} ({entropy.bits_per_dim:.4f} ± {entropy.error:.4f} bits/dim)"
    return {"title": words, "entropy": entropy.model_dump()}


def extractor_rows(files: Iterable[str]) -> list[Row]:
    """One row per feature extractor."""
    from genbench.evaluate.extractors import known_extractors

    return known_extractors(load_plugins(files).registered("register_extractors"))


def plugin_rows(files: Iterable[str]) -> list[Row]:
    """One row per plugin, working or not."""
    return [
        {"name": info.name, "state": info.state, "origin": info.origin, "version": info.version,
         "models": info.models, "reason": info.reason}
        for info in load_plugins(files).infos
    ]  # fmt: skip


def as_lines(rows: list[Row], columns: Sequence[str]) -> str:
    """Rows as aligned text."""
    cells = [[_cell(row[column]) for column in columns] for row in rows]
    widths = [max(len(row[i]) for row in [list(columns), *cells]) for i in range(len(columns))]
    return plain_lines(
        "  ".join(text.ljust(width) for text, width in zip(row, widths)).rstrip() for row in [list(columns), *cells]
    )


def plain_lines(lines: Iterable[str]) -> str:
    return "\n".join(plain(line) for line in lines)


def _cell(value: Any) -> str:
    return ", ".join(map(str, value)) if isinstance(value, list | tuple) else str(value)
