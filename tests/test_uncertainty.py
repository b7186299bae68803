"""What a table says of seeds, failures, groups and ranks, through the command line, in every format."""

import ast
import csv
import io
import re
from pathlib import Path

import pandas as pd
import pytest
from records_factory import (
    full,
    make_record,
    measure,
    quick_suite,
    reference,
    seeds_of,
    uneven_suite,
    values_of,
    with_errors,
    write_runs,
)

import genbench as package
from genbench.records.slots import Slot
from genbench.tables.build import make_tables
from genbench.tables.frames import measurement_frame
from genbench.tables.headlines import headlines

FID = Slot("fid_test", "mnist-classifier-v1")
NLL = Slot("bits_per_dim_test")
FORMATS = ("text", "markdown", "latex", "csv", "json")
RANKS = {"ddpm": 1, "vae": 1, "flow": 3, "gan": 4, "other": None, "real": None, "noise": None}


@pytest.fixture
def uneven(tmp_path):
    write_runs(uneven_suite(), tmp_path / "runs")
    return tmp_path / "runs"


def plain(text):
    """The text without what a format escapes."""
    return re.sub(r"\\(?=[\[\]#])", "", text)


@pytest.mark.parametrize("format", ["text", "markdown", "latex"])
def test_a_failed_seed_and_two_protocols_print_groups_intervals_counts_and_ranks(genbench, uneven, format):
    result = genbench("table", uneven, "--format", format)
    assert result.code == 0
    text = plain(result.out)
    for words in ("Group 1 of 2", "Group 2 of 2", "samples = 1000", "samples = 2000"):
        assert words in text, "groups, and the key that differs"
    for words in ("[18.52, 23.48] #1=", "[19.41, 22.99] #1=", "[68.52, 73.48] #3", "[0.29, 25.71] #4 2/3"):
        assert words in text, "intervals, and ranks with ties"
    for words in ("2/3, 1 diverged", "3/3", "seed 2 diverged: RuntimeError: the loss is not finite"):
        assert words in text, "how many finished, and why not all"
    best = {"text": "21.00 ± 1.00*", "markdown": "**21.00 ± 1.00**", "latex": r"\textbf{21.00 $\pm$ 1.00}"}[format]
    assert best in text
    assert r"\\[" not in result.out, "LaTeX would take the interval for an option of the line's end"
    assert "nan" not in text.lower().replace("nance", "")


def test_json_has_ranks_intervals_and_counts_and_is_strict(genbench, uneven):
    first, second = genbench("table", uneven, "--format", "json").json["tables"]
    assert (first["differs"], second["differs"]) == ("samples = 1000", "samples = 2000")
    rows = {row["name"]: row for table in (first, second) for row in table["rows"]}
    assert {name: row["cells"][str(FID)]["rank"] for name, row in rows.items()} == RANKS
    gan, ddpm = rows["gan"]["cells"][str(FID)], rows["ddpm"]["cells"][str(FID)]
    assert (gan["n_ok"], gan["n"], gan["values"]) == (2, 3, [12.0, 14.0, None])
    assert ddpm["interval"] == pytest.approx([18.5159, 23.4841], abs=1e-4)
    assert (ddpm["interval_of"], ddpm["tied"], ddpm["spread"]) == ("seeds", True, 1.0)
    assert first["tests"] == [], "no test below six seeds"


def test_csv_has_ranks_intervals_and_counts_as_numbers(genbench, uneven):
    frame = pd.read_csv(io.StringIO(genbench("table", uneven, "--format", "csv").out), keep_default_na=False, dtype=str)
    rows = {line["model"]: line for line in frame.to_dict("records")}
    assert {name: line[f"{FID}.rank"] for name, line in rows.items()} == {
        name: "" if place is None else str(place) for name, place in RANKS.items()
    }
    gan = rows["gan"]
    assert (gan[f"{FID}.n_ok"], gan[f"{FID}.n"], gan["n_ok"], gan["n"]) == ("2", "3", "2", "3")
    assert float(gan[f"{FID}.low"]) == pytest.approx(0.2938, abs=1e-4)
    assert float(gan[f"{FID}.high"]) == pytest.approx(25.7062, abs=1e-4)
    assert (rows["ddpm"]["differs"], rows["other"]["differs"]) == ("samples = 1000", "samples = 2000")


def test_a_deviation_of_zero_is_a_number(genbench, tmp_path):
    write_runs(seeds_of("ddpm", [20.0, 20.0]), tmp_path / "runs")
    line = next(csv.DictReader(io.StringIO(genbench("table", "runs", "--format", "csv").out)))
    assert (line[f"{FID}.spread"], line[f"{FID}.low"], line[f"{FID}.high"]) == ("0.0", "20.0", "20.0")


@pytest.mark.parametrize("format", FORMATS)
def test_two_digests_of_one_dataset_are_told_apart_by_them(genbench, tmp_path, format):
    write_runs([make_record("ddpm"), make_record("gan", fid=1.0, digest="f" * 60)], tmp_path / "runs")
    out = genbench("table", "runs", "--format", format).out
    assert "dataset digest = ffffffffffff" in out
    assert "dataset digest = a1b2c3d4e5f6" in out
    assert "#1" not in plain(out)


CHANGES = [
    ("extractor", {"name": "mnist-classifier-v1", "dim": 64, "digest": "0" * 64}, "extractor.digest = "),
    ("samples", 999, "samples = 999"),
    ("seed", 7, "seed = 7"),
    ("split", "validation", "split = validation"),
    ("versions", {"torch": "3.0"}, "versions.torch = 3.0"),
]


@pytest.mark.parametrize(("key", "value", "words"), CHANGES, ids=[change[0] for change in CHANGES])
def test_each_setting_of_a_protocol_splits_the_table_and_is_named(genbench, tmp_path, key, value, words):
    other = make_record("gan", fid=1.0, protocol={key: value})
    write_runs([make_record("ddpm"), make_record("vae", fid=9.0), other], tmp_path / "runs")
    first, second = genbench("table", "runs", "--format", "json").json["tables"]
    assert ([row["name"] for row in first["rows"]], [row["name"] for row in second["rows"]]) == (
        ["vae", "ddpm"],
        ["gan"],
    )
    assert words in second["differs"]


def test_six_seeds_are_tested_in_pairs_with_their_p_values(genbench, tmp_path):
    drift = [0.0, 8.0, -6.0, 3.0, 5.0, -9.0]
    wobble = [0.1, -0.1, 0.2, -0.2, 0.0, 0.1]
    records = seeds_of("a", [50 + d for d in drift]) + seeds_of("b", [52 + d + w for d, w in zip(drift, wobble)])
    write_runs([*records, *seeds_of("gone", [1.0, 1.0, 1.0, 1.0, 1.0, None])], tmp_path / "runs")
    (table,) = genbench("table", "runs", "--format", "json").json["tables"]
    places = {row["name"]: row["cells"][str(FID)]["rank"] for row in table["rows"]}
    assert places == {"a": 1, "b": 2, "gone": 3}, "their intervals overlap, their differences do not"
    (test,) = [test for test in table["tests"] if test["column"] == str(FID)]
    assert (test["a"], test["b"], test["seeds"], test["better"]) == ("a", "b", 6, "a")
    assert 0 < test["p_corrected"] == pytest.approx(3 * test["p"])
    assert test["p_corrected"] < 0.001
    text = " ".join(genbench("table", "runs").out.split())
    assert "a paired t-test over at least 6 common seeds" in text
    assert "Holm's correction" in text


def test_fewer_than_six_seeds_claim_nothing(genbench, uneven):
    text = genbench("table", uneven).out
    assert "no claim of significance" in text
    assert "t-test" not in text


def test_one_seed_has_the_interval_of_its_run_and_says_so(genbench, tmp_path):
    records = quick_suite()
    for record in records:
        first = record.measurements[0]
        record.measurements[0] = first.model_copy(update={"interval": (0.9 * first.value, 1.1 * first.value)})
    write_runs(records, tmp_path / "runs")
    text = genbench("table", "runs").out
    assert "[75.06, 91.74] #1" in text
    assert "95 % interval within the single run that finished, and says nothing about other seeds" in text
    assert "One seed per model" in text
    assert "Where no model of a column and block has an interval" in text, "FID against training images has none"


def test_values_that_all_have_intervals_need_no_excuse(genbench, uneven):
    assert "has an interval, values are ranked" not in " ".join(genbench("table", uneven).out.split())


def test_a_model_with_fewer_seeds_than_others_is_told_and_never_best():
    records = [*seeds_of("many", [20.0, 21.0, 22.0]), make_record("few", 0, fid=1.0)]
    (table,) = make_tables(map(with_errors, records))
    assert {row.name: row.cells[FID].rank for row in table.rows} == {"few": 2, "many": 2}
    assert any("few was not run with seeds 1, 2" in note for note in table.footnotes)


def test_conditional_rows_references_and_estimates_are_never_ranked_with_others():
    records = [
        *quick_suite(),
        make_record("ddpm", fid=1.0, conditional=True),
        make_record("odd", fid=999.0, kind="estimate", bits=0.1),
    ]
    (table,) = make_tables(records)
    cells = {(row.name, row.block): row.cells for row in table.rows}
    assert cells["ddpm", "Conditional"][FID].rank is None, "alone in its block"
    assert cells["gan", "Unconditional"][FID].rank == 1
    assert cells["real", ""][FID].rank is None
    assert cells["odd", "Unconditional"][NLL].rank is None
    assert cells["ddpm", "Unconditional"][NLL].rank == 1


def test_bounds_are_ranked_among_bounds_and_exact_values_among_exact_ones():
    records = [make_record(name, bits=bits) for name, bits in (("a", 1.5), ("b", 1.6))]
    for name, bits in (("c", 1.2), ("d", 1.3)):
        record = make_record(name, bits=None)
        record.measurements[:] = [m for m in record.measurements if not m.metric.startswith("bits")]
        exact = measure("bits_per_dim_test", bits, record.protocols, kind="exact", discrete=True)
        record.measurements.append(exact)
        records.append(record)
    ranks = {row.name: row.cells[NLL].rank for table in make_tables(records) for row in table.rows}
    assert ranks == {"a": 1, "b": 2, "c": 1, "d": 2}


# What pandas would do


def test_a_mean_that_skips_the_failed_seed_would_win_and_ours_does_not():
    records = [*seeds_of("ddpm", [15.0, 15.0, 15.0]), *seeds_of("gan", [12.0, 14.0, None])]
    frame = measurement_frame(records)
    naive = frame[frame["metric"] == "fid_test"].groupby("label")["value"].mean()
    assert naive.idxmin() == "gan"
    assert (frame["label"] == "gan").sum() > 0 and (frame["run_status"] == "diverged").sum() == 1
    (table,) = make_tables(records)
    assert {row.name: row.cells[FID].rank for row in table.rows} == {"ddpm": 1, "gan": 2}


def test_models_with_the_names_of_missing_values_keep_their_numbers(genbench, tmp_path):
    write_runs(
        [make_record(name, fid=10.0 + i) for i, name in enumerate(("NA", "None", "null", "007"))], tmp_path / "runs"
    )
    out = genbench("table", "runs", "--format", "csv").out
    frame = pd.read_csv(io.StringIO(out), keep_default_na=False, dtype={"model": str})
    assert dict(zip(frame["model"], frame[str(FID)])) == {"NA": 10.0, "None": 11.0, "null": 12.0, "007": 13.0}
    assert list(frame[f"{FID}.rank"]) == [1, 2, 3, 4]


SKIPPING = {
    "mean",
    "std",
    "var",
    "sem",
    "min",
    "max",
    "idxmin",
    "idxmax",
    "rank",
    "groupby",
    "agg",
    "nanmean",
    "nanstd",
}


def test_nothing_that_skips_missing_values_is_called_where_tables_and_plots_are_made():
    folder = Path(package.__file__).parent
    for file in [folder / "plots/__init__.py", *(folder / "tables").glob("*.py"), *(folder / "report").glob("*.py")]:
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
                assert node.func.attr not in SKIPPING, f"{file.name}:{node.lineno}: {node.func.attr}"


def test_a_run_that_failed_after_sampling_is_not_ranked_by_its_speed():
    broken = make_record("gan", rate=1e6).model_copy(update={"status": "failed"})
    (table,) = make_tables([make_record("ddpm", rate=10.0), make_record("vae", rate=20.0), broken], "cost")
    cells = {row.name: row.cells[Slot("images_per_second")] for row in table.rows}
    assert {name: cell.rank for name, cell in cells.items()} == {"vae": 1, "ddpm": 2, "gan": None}
    assert (cells["gan"].value, cells["gan"].n_ok, cells["gan"].n) == (1e6, 0, 1)
    assert any("of 1 run that did not finish" in note for note in table.footnotes)


@pytest.mark.parametrize("layout", ["quality", "cost", "full"])
def test_no_text_table_is_wider_than_118_columns_and_none_loses_a_column(genbench, tmp_path, layout):
    write_runs([*uneven_suite(), reference("real", dataset="digits"), make_record("x" * 60)], tmp_path / "runs")
    text = genbench("table", "runs", "--layout", layout).out
    assert max(map(len, text.splitlines())) <= 118
    heads = {"cost": ("compute", "classifier", "samples/s", "parameters", "FID", "IS@", "precision", "recall")}
    for head in heads.get(layout, ("IS@", "FID", "NLL test")):
        assert head in text
    if layout == "cost":
        assert "60.0 ± 0.0 (4.20e14)" in text


def test_where_higher_is_better_the_highest_is_first():
    records = [make_record("a", values=values_of(5.0)), make_record("b", values=values_of(50.0))]
    (table,) = make_tables(records, "full")
    key = Slot("precision", "mnist-classifier-v1")
    assert {row.name: row.cells[key].rank for row in table.rows} == {"a": 1, "b": 2}, "higher is better"


# The headline of a report


def test_six_seeds_give_a_test_and_its_p_value():
    wobble = [0.0, 1.0, -1.0, 2.0, 0.5, -0.5]
    for gap, words in ((50.0, "a significant difference (p = "), (0.1, "no significant difference: a tie (p = ")):
        records = seeds_of("a", [20.0 + 3 * s for s in range(6)])
        records += seeds_of("b", [20.0 + 3 * s + gap + w for s, w in enumerate(wobble)])
        (head,) = headlines(full(records))
        assert "paired t-test over 6 seeds after Holm's correction" in head.sure
        assert words in head.sure
        assert "No claim" not in head.sure


def test_a_model_with_fewer_seeds_does_not_win():
    records = [*seeds_of("many", [20.0, 30.0, 40.0]), *seeds_of("few", [19.0])]
    (head,) = headlines(full(map(with_errors, records)))
    assert head.winner == ""
    assert "all those that others were run with" in head.sure
