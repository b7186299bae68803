"""Strings that try to break out, in every field of a record, reach every format and the terminal harmless.

`test_report.py` does the same for pages.
"""

import csv
import io
import json
import re

import pytest
from records_factory import PAYLOADS, planted, write_runs

from genbench.support.text import printable
from genbench.tables.build import make_tables
from genbench.tables.formats import FORMATS, render

MORE = [
    "+1+1",
    "-2+3",
    "@SUM(1)",
    "\t=1",
    "\r=1",
    "a\nb",
    "a|b",
    "NA",
    "None",
    "null",
    "007",
    "1e5",
    "100%",
    "\\input{x}",
    "é",
]
LAYOUTS = ("quality", "cost", "full")
HOSTILE = [*PAYLOADS, *MORE]


def everywhere(payloads):
    """The planted records, and the payload in the settings behind the numbers too."""
    records = planted(payloads, "=cmd|' /C calc'!A0\x1b[2J")
    for record, payload in zip(records[::2], payloads):
        record.samples.labels = record.environment.device = payload
        for settings in record.protocols.values():
            settings["note"] = payload
            if isinstance(settings.get("extractor"), dict):
                settings["extractor"] = settings["extractor"] | {"name": payload}
    return records


@pytest.fixture(scope="module")
def rendered():
    tables = {layout: make_tables(everywhere(HOSTILE), layout) for layout in LAYOUTS}
    return {name: {layout: render(some, name) for layout, some in tables.items()} for name in FORMATS}


def of_text(text):
    assert all(printable(f"ddpm{payload}")[:30] in text for payload in HOSTILE)


def of_markdown(text):
    assert not re.search(r"<(?!/?sup>|br>)", text), "a tag of the data's"
    for table in text.split("\n\n"):
        lines = [line for line in table.splitlines() if line.startswith("|")]
        assert len({line.count("|") for line in lines}) <= 1, "a cell of the data's"


def of_latex(text):
    commands = set(re.findall(r"\\([a-zA-Z]+)", text))
    assert not commands & {"input", "write", "frac", "immediate", "include", "def"}
    bare = text.replace(r"\{", "").replace(r"\}", "")
    assert bare.count("{") == bare.count("}") and bare.replace(r"\$", "").count("$") % 2 == 0


def of_csv(text):
    rows = list(csv.DictReader(io.StringIO(text)))
    assert len({len(row) for row in rows}) == 1
    for cell in (cell for row in rows for pair in row.items() for cell in pair):
        assert cell[:1] not in tuple("=+-@\t\r") or is_number(cell), cell


def of_json(text):
    names = {row["label"] for table in json.loads(text, parse_constant=pytest.fail)["tables"] for row in table["rows"]}
    assert {f"ddpm{payload}" for payload in HOSTILE} <= names


def is_number(text):
    try:
        float(text)
    except ValueError:
        return False
    return True


CHECKS = {"text": of_text, "markdown": of_markdown, "latex": of_latex, "csv": of_csv, "json": of_json}


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("name", sorted(FORMATS))
def test_no_format_is_broken_by_what_it_shows(rendered, name, layout):
    text = rendered[name][layout]
    unprintable = {c for c in text if not c.isprintable()} - {"\n", "\xa0"}
    assert not unprintable, unprintable
    CHECKS[name](text)


@pytest.mark.parametrize("command", ["compare", "verify", "table", "plugins"])
def test_the_terminal_gets_no_control_characters(genbench, tmp_path, command):
    records = write_runs([record.model_copy(update={"job": record.job.model_copy(update={"id": f"r{number}"})})
                          for number, record in enumerate(everywhere(PAYLOADS))], tmp_path / "runs")  # fmt: skip
    (tmp_path / "evil.py").write_text("raise RuntimeError('\\x1b[2J\\u202e')")
    words = {
        "compare": ["runs/r0", "runs/r20"],
        "verify": ["runs"], "table": ["runs"], "plugins": ["--plugin", "evil.py"],
    }  # fmt: skip
    result = genbench(command, *words[command])
    assert len(records) == 2 * len(PAYLOADS) and result.code in (0, 2, 3), result.err
    assert not {c for c in result.out + result.err if not c.isprintable()} - {"\n", "\xa0"}
