"""Rows that copy the dataset's images: marked, behind all that do not, and winners of nothing."""

import json
from dataclasses import replace

import pytest
from page import Page
from records_factory import (
    CLASSIFIER,
    copier,
    full,
    make_record,
    quick_suite,
    reference,
    with_copies,
    with_errors,
    write_runs,
)

from genbench import plots
from genbench.metrics import metric_named
from genbench.plots import fid_against_sampling
from genbench.records.slots import Slot
from genbench.report import build_report
from genbench.tables.build import make_tables
from genbench.tables.copying import copying
from genbench.tables.formats import render
from genbench.tables.headlines import headlines
from genbench.tables.ranking import Entrant, rank, without_error

FID, KID = Slot("fid_test", CLASSIFIER["name"]), Slot("kid_test", CLASSIFIER["name"])
NLL, SPEED = Slot("bits_per_dim_test"), Slot("images_per_second")
SENTENCE = "98 % of the samples are copies of training images"


def only(records, layout="full"):
    (table,) = make_tables(records, layout)
    return table


def places(table, slot):
    return {row.name: row.cells[slot].rank for row in table.rows if row.kind == "model"}


def entrant(name, values, copies=False, ranges=()):
    seeds = {(i, 0): value for i, value in enumerate(values)}
    return Entrant(name, seeds, {(i, 0): own for i, own in enumerate(ranges)}, copies=copies)


# Ranks


def test_a_model_that_copies_ranks_behind_all_others_and_changes_nothing_for_them():
    honest = [entrant("a", [10.0]), entrant("b", [20.0]), entrant("gan", [1.0, None])]
    before = rank(honest, "lower")[0]
    cheats = [entrant("memoriser", [0.1], copies=True), entrant("other", [0.2, 0.3], copies=True)]
    assert rank([*honest, *cheats], "lower")[0] == before | {"memoriser": 4, "other": 4}


def test_where_all_copy_none_is_first():
    assert rank([entrant("a", [1.0], copies=True), entrant("b", [2.0], copies=True)], "lower")[0] == {"a": 2, "b": 2}
    assert rank([entrant("a", [1.0], copies=True), entrant("b", [2.0])], "lower")[0] == {"a": 2, "b": 1}


def test_more_seeds_of_a_model_that_copies_keep_nobody_from_the_first_place():
    found, pairs = rank([entrant("a", [10.0]), entrant("b", [20.0]), entrant("c", [1.0] * 7, copies=True)], "lower")
    assert (found, pairs) == ({"a": 1, "b": 2, "c": 3}, [])


def test_values_without_an_error_stand_apart_from_those_with_one():
    known = [entrant("a", [10.0], ranges=[(9.0, 11.0)]), entrant("seeds", [30.0, 31.0])]
    assert without_error([*known, entrant("bare", [1.0])]) == {"bare"}
    assert without_error(known) == set()
    assert without_error([entrant("x", [1.0]), entrant("y", [2.0])]) == set(), "nobody's error is known"
    assert without_error([entrant("x", [1.0]), entrant("gan", [1.0, 2.0, None])]) == set(), "which is not compared"


# Tables


def suite(**changes):
    return [*quick_suite(), copier(fid=1.0, bits=0.9, rate=1e6, **changes)]


def test_a_copier_ranks_last_in_every_column_of_samples_and_is_marked():
    table = only(suite())
    for some, slot in ((table, FID), (table, KID), (only(suite(), "cost"), SPEED)):
        found = places(some, slot)
        assert found["memoriser"] == 7 == max(found.values()), slot
        assert 1 in found.values()
    assert places(table, NLL)["memoriser"] == 1, "a likelihood is not of samples"
    assert [row.name for row in table.rows if row.kind == "model"][-1] == "memoriser"
    (note,) = [note for note in table.footnotes if note.startswith("‡")]
    assert f"memoriser copies: {SENTENCE} (49 % exact); of test images, 0.4 % are." in note
    assert "memoriser\xa0‡" in render([table], "text")
    assert r"memoriser~$\ddagger$" in render([table], "latex")
    (plain,) = json.loads(render([table], "json"))["tables"]
    assert {row["name"]: bool(row["copying"]) for row in plain["rows"]} == {
        row.name: row.name == "memoriser" for row in table.rows
    }
    assert SENTENCE in render([table], "csv")


def test_a_table_of_copiers_alone_has_no_best():
    table = only([copier("one", fid=1.0), copier("two", fid=2.0), reference("real")])
    assert not any(row.cells[FID].best for row in table.rows)
    assert headlines([table])[0].winner == ""
    (head,) = headlines(full([copier("one", fid=1.0)]))
    assert (head.winner, head.sure) == ("", "one copies the dataset's images, and nothing else was measured.")


def test_one_seed_that_copies_marks_the_row():
    seeds = [make_record("vae", 0, fid=1.0), with_copies(make_record("vae", 1, fid=1.1), 0.5), make_record("gan", 0)]
    table = only(seeds)
    assert {row.name: bool(row.copying) for row in table.rows} == {"vae": True, "gan": False}
    assert places(table, FID)["vae"] == 2


@pytest.mark.parametrize(
    ("share", "metric", "copies"),
    [(0.05, "copied_share", True), (0.025, "copied_share", False), (0.05, "copied_test_share", True)],
)
def test_a_run_copies_if_its_interval_lies_above_that_of_real_images(share, metric, copies):
    assert bool(copying(with_copies(make_record("vae"), share, metric=metric))) == copies


def test_references_are_never_said_to_copy(monkeypatch):
    monkeypatch.setattr("genbench.tables.groups.REFERENCES", ("real", "noise", "copies"))
    copies = with_copies(make_record("copies", values={"fid_test": 3.0}), 1.0)
    table = only([*quick_suite(), copies])
    assert [row.name for row in table.rows][:2] == ["real", "copies"]
    assert not any(row.copying or row.cells[FID].rank for row in table.rows if row.is_reference)
    assert any("copies are training images" in note for note in table.footnotes)
    (head,) = headlines([table])
    assert "copies of training images 3.00 and noise" in head.scale


def test_values_without_an_error_are_shown_and_not_ranked_beside_others():
    records = [*map(with_errors, quick_suite()), make_record("bare", fid=1.0)]
    table = only(records)
    assert places(table, FID) == {"gan": 1, "ddpm": 2, "ldm": 3, "vae": 4, "flow": 5, "gaussian": 6, "bare": None}
    (bare,) = [row for row in table.rows if row.name == "bare"]
    assert bare.cells[FID].value == 1.0
    assert "its error is unknown" in bare.cells[FID].unranked
    assert any("of bare is not ranked: its error is unknown" in note for note in table.footnotes)
    (head,) = headlines([table])
    assert head.winner == "gan"
    assert "bare is lower, but its error is unknown" in head.sure
    alone = only(quick_suite())
    assert 1 in places(alone, FID).values(), "where nobody's error is known"
    assert any("values are ranked as they stand" in note for note in alone.footnotes)


def test_a_metric_that_is_not_to_be_ranked_has_no_direction(monkeypatch):
    entry = replace(metric_named("kid_test"), ranked=False)
    monkeypatch.setattr(
        "genbench.tables.columns.metric_named", lambda name: entry if name == "kid_test" else metric_named(name)
    )
    table = only(quick_suite())
    assert set(places(table, KID).values()) == {None}
    (column,) = [column for column in table.columns if column.metric == "kid_test"]
    assert (column.better, column.unranked) == (None, "")
    assert 1 in places(table, FID).values()


# Headlines, figures and pages


def test_a_copier_wins_no_headline_and_is_told_of():
    (head,) = headlines(full(suite()))
    assert head.winner == "gan"
    assert f"memoriser is lower, but {SENTENCE}" in head.sure
    assert head.margin == "ddpm, 118.0, is next: 1.41 times as high"
    assert {s.row.name: s.ratio for s in head.rows}["memoriser"] is None


def test_a_copier_is_on_no_pareto_front():
    figure = fid_against_sampling(full(suite()))
    (front,) = [line for line in figure.axes[0].lines if line.get_drawstyle() == "steps-post"]
    assert min(front.get_ydata()) == 83.4
    assert "‡: its samples are copies" in figure.get_label()


def test_the_overview_and_the_page_of_a_copier_say_so(tmp_path, monkeypatch):
    monkeypatch.setattr(plots, "ALL", {})
    folder = build_report(write_runs(suite(), tmp_path / "runs"), tmp_path / "out").parent
    for name in ("index", "models/memoriser", "datasets/mnist5k"):
        assert SENTENCE in Page(folder / f"{name}.html").text, name
    assert "Copies, ranked behind all that do not" in Page(folder / "index.html").text
    assert "It copies" not in Page(folder / "models" / "gan.html").text
