"""Every format of a table, with names that try to break it."""

import csv
import io
import json
import math

import pandas as pd
import pytest
from records_factory import DIGEST, make_record, quick_suite

from genbench.support.errors import BadInput
from genbench.support.text import printable
from genbench.tables.build import make_tables
from genbench.tables.formats import FORMATS, render

FID = "fid_test:mnist-classifier-v1"
HOSTILE = [
    "NA",
    "None",
    "null",
    "007",
    "$x_1$",
    "<b>",
    "=1+1",
    "-2",
    "@x",
    "a|b",
    "_hidden",
    "100%",
    "{x}",
    "\\frac{$",
    "~^#&",
]


def refuse(constant):
    raise AssertionError(f"{constant} is not strict JSON")


def plain(records, layout="quality", published=False):
    return json.loads(render(make_tables(records, layout, published), "json"), parse_constant=refuse)["tables"]


@pytest.mark.parametrize("layout", ["quality", "cost", "full"])
@pytest.mark.parametrize("format", sorted(FORMATS))
def test_every_layout_in_every_format_names_every_row(format, layout):
    records = [*quick_suite(), make_record("gan", 1, fid=70), make_record("gan", 2, status="diverged")]
    text = render(make_tables(records, layout, published=True), format)
    assert all(name in text for name in ("real", "noise", "ddpm", "gaussian"))
    assert "nan" not in text.lower().replace("nance", "")


def test_an_unknown_format_is_refused():
    with pytest.raises(BadInput, match="htm"):
        render([], "htm")


def test_hostile_names_stand_verbatim_in_text_and_json():
    records = [make_record(name) for name in HOSTILE]
    text = render(make_tables(records), "text")
    assert all(any(line.startswith(name + " ") for line in text.splitlines()) for name in HOSTILE)
    assert {row["name"] for row in plain(records)[0]["rows"]} == set(HOSTILE)


def test_csv_keeps_names_as_text_numbers_as_numbers_and_formulas_harmless():
    text = render(make_tables([make_record(name, fid=12.5) for name in HOSTILE]), "csv")
    frame = pd.read_csv(io.StringIO(text), keep_default_na=False, dtype={"model": str})
    assert set(frame["model"]) == {f"'{name}" if name[0] in "=+-@" else name for name in HOSTILE}
    assert (frame[FID] == 12.5).all()
    assert (frame[f"{FID}.count"] == 1000).all()
    assert set(frame["bits_per_dim_test.relation"]) == {"<="}


def test_csv_of_a_negative_number_is_a_number():
    record = make_record("ddpm", values={"kid_test": -0.001})
    line = next(csv.DictReader(io.StringIO(render(make_tables([record], "full"), "csv"))))
    assert float(line["kid_test:mnist-classifier-v1"]) == -0.001


def test_json_is_strict_and_machine_readable():
    records = [*quick_suite(), make_record("gan", 1, fid=70), make_record("gan", 2, status="diverged")]
    table = plain(records)[0]
    gan = next(row for row in table["rows"] if row["name"] == "gan")
    cell = gan["cells"][FID]
    assert (cell["value"], cell["n_ok"], cell["n"], cell["values"]) == (pytest.approx(76.7), 2, 3, [83.4, 70.0, None])
    assert cell["protocol"] in table["protocols"]
    assert table["protocols"][cell["protocol"]]["samples"] == 1000
    assert table["digest"] == DIGEST
    assert {column["better"] for column in table["columns"]} == {"lower", "higher"}


def test_json_refuses_what_is_not_finite():
    record = make_record("ddpm")
    next(iter(record.protocols.values()))["seed"] = math.nan
    with pytest.raises(ValueError, match="JSON"):
        render(make_tables([record]), "json")


def test_markdown_and_latex_escape_what_they_would_interpret():
    tables = make_tables([make_record(name) for name in HOSTILE])
    markdown, latex = render(tables, "markdown"), render(tables, "latex")
    assert r"| \$x\_1\$ |" in markdown
    assert "| &lt;b&gt; |" in markdown
    assert "| a&#124;b |" in markdown
    lines = [line for line in markdown.splitlines() if line.startswith("|")]
    assert len({line.count("|") for line in lines}) == 1
    assert r"\$x\_1\$ &" in latex
    assert r"\textasciitilde{}\textasciicircum{}\#\& &" in latex
    bare = latex.replace(r"\{", "").replace(r"\}", "")
    assert bare.count("{") == bare.count("}")
    assert bare.replace(r"\$", "").count("$") % 2 == 0


def test_control_and_direction_characters_are_made_visible():
    assert printable("a\x1b[2J\u202eb\x00\n") == r"a\x1b[2J\u202eb\x00\n"
    text = render(
        make_tables([make_record("evil\x1b[2J", status="failed", error=("E", "bell\x07\u202e\nmore"))]), "text"
    )
    assert "\x1b" not in text
    assert "\u202e" not in text
    assert r"bell\x07\u202e" in text


def test_a_name_of_300_letters_does_not_break_the_layout():
    table = make_tables([make_record("x" * 300)])
    assert max(map(len, render(table, "text").splitlines())) <= 140
    assert "x" * 300 in render(table, "json")
