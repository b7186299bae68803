"""Write docs/reference/api.md from the source, without importing it: `python tools/reference.py`.

Of each public class and function its signature, docstring, fields and methods, as they stand there: the text is the
same under every version of Python.
"""

from __future__ import annotations

import ast
import inspect
import re
import sys
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parent.parent
PAGE = ROOT / "docs" / "reference" / "api.md"
HEAD = """# The names of `genbench`

Signatures and fields of what plugins, scripts and notebooks use. A name without a module can be imported from
`genbench` itself. This page is written by `python tools/reference.py` from the source; [models](models.md),
[hooks](hooks.md) and [records](records.md) explain how the names belong together.
"""
SECTIONS = {
    "Models": {
        "genbench.model": ("Model", "Model.Config", "field", "DataSpec", "Batch", "Phase"),
        "genbench.condition": ("ConditionSpec", "Condition"),
        "genbench.capabilities": ("Likelihood", "Reconstruction", "Codebook", "Classifier"),
    },
    "Optimizers and schedules": {
        "genbench.optimizers": ("adamw", "Muon"),
        "genbench.schedules": ("warmup_constant", "warmup_cosine", "warmup_linear"),
    },
    "What hooks are given": {
        "genbench.records.job": ("Job", "Runtime"),
        "genbench.records.budget": ("Budget",),
        "genbench.data.dataset": ("Dataset", "Part"),
        "genbench.records.samples": ("Samples",),
        "genbench.metering.meter": ("Meter",),
        "genbench.metering.progress_log": ("ProgressLog",),
        "genbench.evaluate.extractor": ("Extractor",),
        "genbench.metrics.features": ("Features",),
    },
    "Records": {
        "genbench.records.record": (
            "Record", "JobStamp", "SamplesStamp", "DatasetStamp", "Environment", "Measurement", "CurvePoint", "Failure",
        ),
        "genbench.records.cost": ("Cost", "TrainCost", "PhaseCost", "SampleCost", "EvaluateCost"),
    },
    "From Python": {"genbench.runs": ("load", "run", "Runs")},
    "Errors": {
        "genbench.support.errors": ("GenbenchError", "BadInput", "CorruptData", "EnvironmentProblem", "Busy"),
    },
}  # fmt: skip
"""By heading and module, what the page has."""
LEFT_OUT = {"Config", "hookimpl"}
"""Public names that are described elsewhere: as `Model.Config`, and on the page of the hooks."""
Definition = ast.ClassDef | ast.FunctionDef


def page() -> str:
    """The whole page."""
    parts = [HEAD]
    for heading, modules in SECTIONS.items():
        parts.append(f"## {heading}\n")
        for module, names in modules.items():
            text = (ROOT / Path(*module.split("."))).with_suffix(".py").read_text(encoding="utf-8")
            parts += [described(name, module, text) for name in names]
    return "\n".join(parts)


def described(name: str, module: str, text: str) -> str:
    """The entry of a class or function."""
    node: ast.AST = ast.parse(text)
    for part in name.split("."):
        node = next(each for each in definitions(node) if each.name == part)
    assert isinstance(node, Definition)
    origin = "" if name.split(".")[0] in public() else f"\n\nOf `{module}`."
    if isinstance(node, ast.FunctionDef):
        return f"### {name}\n\n`{signature(node, text)}`\n\n{prose(node)}{origin}\n"
    bases = ", ".join(ast.get_source_segment(text, base) or "" for base in node.bases)
    head = f"### {name}\n\n`class {name}{f'({bases})' if bases else ''}`\n\n{prose(node)}{origin}\n"
    return "\n".join([head, *fields(node, text), *methods(node, text)])


def public() -> set[str]:
    """The names that `genbench` exports."""
    tree = ast.parse((ROOT / "genbench" / "__init__.py").read_text(encoding="utf-8"))
    lists = [node.value for node in tree.body if isinstance(node, ast.Assign) and node.targets[0].id == "__all__"]
    return set(ast.literal_eval(lists[0]))


def definitions(node: ast.AST) -> Iterator[Definition]:
    return (each for each in ast.iter_child_nodes(node) if isinstance(each, Definition))


def signature(node: ast.FunctionDef, text: str) -> str:
    """`name(a, b=1) -> int`, as it is written, on one line, without `self`."""
    lines = text.splitlines()[node.lineno - 1 : node.body[0].lineno - 1] or [text.splitlines()[node.lineno - 1]]
    written = " ".join(line.partition("  #")[0].strip() for line in lines)
    written = written[written.index("def ") + 4 : written.rindex(":")]
    for pattern, new in ((r"\(\s+", "("), (r",?\s+\)", ")"), (r"\((self|cls)(, |(?=\)))", "(")):
        written = re.sub(pattern, new, written)
    return written


def prose(node: Definition) -> str:
    """The docstring as Markdown: an indented example becomes a fenced block."""
    words = inspect.cleandoc(ast.get_docstring(node) or "")
    return re.sub(
        r"::\n\n((?: {4}.*\n|\n)+)",
        lambda match: f":\n\n```python not run: a part\n{inspect.cleandoc(match[1])}\n```\n\n",
        words,
    )


def fields(node: ast.ClassDef, text: str) -> list[str]:
    """The table of a class's own fields."""
    rows = []
    for place, item in enumerate(node.body):
        if not (isinstance(item, ast.AnnAssign) and isinstance(item.target, ast.Name)) or item.target.id[0] == "_":
            continue
        default, about = default_of(item.value, text)
        after = node.body[place + 1] if place + 1 < len(node.body) else None
        if isinstance(after, ast.Expr) and isinstance(after.value, ast.Constant):
            about = inspect.cleandoc(str(after.value.value))
        kind = code(ast.get_source_segment(text, item.annotation) or "")
        rows.append(f"| `{item.target.id}` | {kind} | {code(default)} | {cell(about)} |")
    return ["| field | type | default | |", "|---|---|---|---|", *rows, ""] if rows else []


def default_of(value: ast.expr | None, text: str) -> tuple[str, str]:
    """The default of a field as it is written, and what a `field(default, role, about)` says of it."""
    if value is None:
        return "", ""
    if isinstance(value, ast.Name) and value.id.isupper():
        assigned = re.search(rf"^{value.id} = (.+)$", text, re.MULTILINE)
        return assigned[1] if assigned else value.id, ""
    if not (isinstance(value, ast.Call) and isinstance(value.func, ast.Name) and value.func.id in ("field", "Field")):
        return ast.get_source_segment(text, value) or "", ""
    given = {word.arg: ast.get_source_segment(text, word.value) or "" for word in value.keywords}
    if "default_factory" in given:
        return f"{given['default_factory']}()", ""
    default = ast.get_source_segment(text, value.args[0]) if value.args else given.get("default", "")
    constants = [each.value for each in value.args[1:] if isinstance(each, ast.Constant)]
    return default or "", f"{constants[1]} ({constants[0]})" if len(constants) == 2 else ""


def methods(node: ast.ClassDef, text: str) -> list[str]:
    """A paragraph for each public method and property that has a docstring."""
    found = []
    for item in definitions(node):
        if isinstance(item, ast.ClassDef) or item.name.startswith("_") or not ast.get_docstring(item):
            continue
        decorators = {each.id for each in item.decorator_list if isinstance(each, ast.Name)}
        written = signature(item, text)
        written = (
            re.sub(r"\(\)( -> )?", ": " if "->" in written else "", written) if "property" in decorators else written
        )
        found.append(f"- `{written}`: {cell(prose(item))}" if "```" not in prose(item) else f"- `{written}`")
    return [*found, ""] if found else []


def code(words: str) -> str:
    return f"`{' '.join(words.split())}`".replace("|", r"\|") if words else ""


def cell(words: str) -> str:
    return " ".join(words.split()).replace("|", r"\|")


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
    sys.stdout.write(f"{PAGE}: written\n")
