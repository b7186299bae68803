"""Published and measured numbers side by side: who is paired, how alike the orders are, and what is said of both."""

import csv
import io
import json
import math
import re
from pathlib import Path

import pytest
from records_factory import (
    copier,
    full,
    make_record,
    make_ruler,
    quick_suite,
    reference,
    ruled,
    seeds_of,
    write_runs,
)

import genbench
from genbench import plots
from genbench.commands.tables import results_text
from genbench.condition import ConditionSpec
from genbench.plots.style import svg
from genbench.records.slots import Slot
from genbench.report import build_report
from genbench.support.errors import BadInput
from genbench.tables.build import make_tables
from genbench.tables.formats import formats, render, render_compact
from genbench.tables.orders import tau_b
from genbench.tables.pairs import partner
from genbench.tables.published import PUBLISHED, published

FID, IS = Slot("fid_train", "mnist-classifier-v1"), Slot("inception_score", "mnist-classifier-v1")
NLL = Slot("bits_per_dim_test")
TABLE1 = {
    False: ["Diffusion-original", "Gated-PixelCNN", "Sparse-Transformer", "PixelIQN", "EBM", "NCSNv2", "NCSN", "SNGAN",
            "SNGAN-DDLS", "StyleGAN2-ADA-v1", "DDPM-L-fixed-isotropic-Sigma", "DDPM-L_simple"],
    True: ["EBM", "JEM", "BigGAN", "StyleGAN2-ADA-v1"],
}  # fmt: skip
"""Labels for all rows of the published table, by whether they are conditional."""
FOUR = ["DDPM-L_simple", "SNGAN-DDLS", "SNGAN", "NCSN"]
"""Unconditional models in the order of their published FIDs, the best first."""
WIDE = [80, 120]


def beside(*records):
    (table,) = make_tables(records, "beside")
    return table


def row(table, name, block="Unconditional"):
    return next(row for row in table.rows if row.name == name and row.block == block)


def said(table, words):
    found = [note for note in table.told if words in note]
    assert len(found) == 1, table.told
    return found[0]


def ordered(*seeds, labels=FOUR, **changes):
    """Runs of four models, whose FIDs with each seed are given in the order of the published ones."""
    return [
        make_record(label, seed, model="gan", fid=fid, bits=None, **changes)
        for seed, fids in enumerate(seeds)
        for label, fid in zip(labels, fids)
    ]


def everything():
    """A run of every row of the published table, and one that has no row there."""
    models = [
        make_record(label, model="gan", fid=10.0 + 7 * i % 13, conditional=conditional, bits=None)
        for conditional, labels in TABLE1.items()
        for i, label in enumerate(labels)
    ]
    return [*models, make_record("gaussian"), reference("real"), reference("noise")]


# Pairs


@pytest.mark.parametrize("conditional", [False, True])
def test_the_label_says_which_published_row_a_run_is_in_and_the_record_in_which_block(conditional):
    records = [make_record(label, conditional=conditional) for label in TABLE1[conditional]]
    block = [row for row in published("ddpm").table.rows if row.conditional == conditional]
    assert [partner(record, "ddpm") for record in records] == block
    assert not any(partner(make_record("JEM"), name) for name in PUBLISHED), "there is none without classes"


def test_nothing_else_is_paired():
    text = make_record("EBM")
    text.job.condition = ConditionSpec("text", (8,))
    assert [partner(record, "ddpm") for record in (text, make_record("NCSNv3"), make_record("ddpm"))] == [None] * 3


@pytest.mark.parametrize(
    ("label", "conditional", "expected"),
    [
        ("LDM-8-G", True, ("LDM-8-G, 100 steps", "ImageNet 256")),
        ("LDM-4-FFHQ-256", False, ("LDM-4, 200 steps", "FFHQ 256")),
        ("LDM-4-200-steps-LSUN-Bedrooms-256", False, ("LDM-4, 200 steps", "LSUN Bedrooms 256")),
        ("ADM-G-25-steps", True, ("ADM-G, 25 steps", "ImageNet 256")),
        ("LDM-4", False, None),
        ("ADM-G", True, None),
    ],
)
def test_a_row_of_the_other_table_is_called_by_as_much_as_tells_it_apart(label, conditional, expected):
    found = partner(make_record(label, conditional=conditional), "ldm")
    assert (found and (found.name, found.dataset)) == expected


def test_a_table_has_every_published_row_in_its_order_and_dashes_where_nothing_was_measured():
    table = beside(*ordered([90, 80, 70, 60]))
    assert [row.name for row in table.rows] == [row.name for row in published("ddpm").table.rows]
    assert [row.name for row in table.rows if row.records] == ["NCSN", "SNGAN", "SNGAN-DDLS", "DDPM (L_simple)"]
    measured, absent = row(table, "SNGAN"), row(table, "EBM", "Conditional")
    assert (measured.cells[Slot("published_fid_train")].printed, measured.cells[FID].value) == ("21.7", 70 * 1.02)
    assert measured.cells[Slot("published_inception_score")].printed == "8.22 ± 0.05"
    assert (absent.cells[Slot("published_fid_train")].value, absent.cells[FID].value) == (37.9, None)
    assert absent.cells[FID].note == "not measured here" and absent.n == 0


def test_runs_without_a_published_row_are_named_once():
    table = beside(*everything(), make_record("LDM-4"))
    assert said(table, "Not in the published table").startswith(
        "Not in the published table: LDM-4 (several rows are called so), gaussian. A run is paired by its label"
    )
    alone = beside(*quick_suite())
    assert "ddpm, flow, gan, gaussian, ldm, vae" in said(alone, "Not in the published table")
    assert not any(row.records for row in alone.rows)


def test_each_published_table_that_a_run_is_in_has_a_table_of_its_own():
    first, second = make_tables([*ordered([4, 3, 2, 1]), make_record("LDM-8-G", conditional=True)], "beside")
    assert "Table 1 of Ho" in first.told[0] and "Table 18 of Rombach" in second.told[0]
    assert [len(table.rows) for table in (first, second)] == [16, 19]
    assert "LDM-8-G, 100 steps 506 M, here: 0.950 M" in said(second, "Parameters")


def test_two_measured_rows_of_one_model_are_both_shown_and_in_no_order():
    variants = [make_record("SNGAN", model="gan", config={"steps": steps}, fid=steps) for steps in (50, 60)]
    table = beside(*(record for record in ordered([4, 3, 2, 1]) if record.job.label != "SNGAN"), *variants)
    assert [row.name for row in table.rows if row.name.startswith("SNGAN (")] == [
        "SNGAN (steps=50)",
        "SNGAN (steps=60)",
    ]
    words = said(table, "In no order")
    assert words == "In no order: SNGAN: 2 measured rows; NLL test of DDPM (L_simple): the model defines no likelihood."
    assert "FID train no tau" in said(table, "Unconditional: Kendall")


def test_a_reason_to_be_in_no_order_is_said_once_with_all_that_it_concerns():
    records = [make_record(label, model="gan", bits=None) for label in ("Gated-PixelCNN", "DDPM-L_simple")]
    failed = [make_record(label, model="gan", status="diverged") for label in ("PixelIQN", "EBM", "SNGAN")]
    assert said(beside(*records, *failed), "In no order") == (
        "In no order: NLL test of Gated PixelCNN and DDPM (L_simple): the model defines no likelihood; "
        "PixelIQN, EBM and SNGAN: 0 of 1 runs finished."
    )


# Orders


@pytest.mark.parametrize(
    ("a", "b", "tau"),
    [
        ([1, 2, 3, 4], [10, 20, 30, 40], 1.0),
        ([1, 2, 3, 4], [9, 8, 7, 6], -1.0),
        ([1, 2, 3, 4], [1, 3, 2, 4], 4 / 6),
        ([1, 2, 2, 3], [1, 2, 3, 4], 5 / math.sqrt(5 * 6)),
        ([1, 1, 2, 2], [1, 2, 1, 2], 0.0),
        ([1, 2, 3], [5, 5, 5], None),
        ([1], [1], None),
    ],
)
def test_tau_b_counts_pairs_in_order_against_pairs_out_of_order(a, b, tau):
    assert tau_b(a, b) == (None if tau is None else pytest.approx(tau))


def test_one_seed_has_a_tau_and_no_interval():
    words = said(beside(*ordered([40, 60, 50, 70])), "Unconditional: Kendall")
    assert "FID train 0.67 (4 models, one seed: no interval)" in words


def test_several_seeds_have_the_mean_of_their_taus_with_students_interval():
    table = beside(*ordered([40, 50, 60, 70], [40, 60, 50, 70], [60, 50, 70, 80]))
    taus = [1.0, 4 / 6, 4 / 6]
    mean = sum(taus) / 3
    half = 4.302653 * math.sqrt(sum((tau - mean) ** 2 for tau in taus) / 2 / 3)
    assert mean + half > 1, "cut to what a tau can be"
    assert f"FID train {mean:.2f} [{mean - half:.2f}, 1.00] (4 models, 3 seeds)" in said(
        table, "Unconditional: Kendall"
    )
    assert "Student's 95 % interval" in said(table, "tau is 1")
    same = beside(*ordered([40, 50, 60, 70], [41, 51, 61, 71]))
    assert "FID train 1.00 (4 models, the same in each of 2 seeds)" in said(same, "Unconditional: Kendall")


def test_seeds_count_that_every_model_has():
    extra = make_record("SNGAN", 7, model="gan", fid=1.0, bits=None)
    assert "(4 models, the same in each of 2 seeds)" in said(
        beside(*ordered([40, 50, 60, 70], [40, 50, 60, 70]), extra), "Unconditional: Kendall"
    )


def test_conditional_and_unconditional_models_are_never_in_one_order():
    three = ordered([1, 2, 3], labels=FOUR[:3]) + ordered([1, 2, 3], labels=TABLE1[True][:3], conditional=True)
    table = beside(*three)
    for block in ("Unconditional", "Conditional"):
        assert "IS no tau; FID train no tau" in said(table, f"{block}: Kendall")
    assert "fewer than 4 models" in said(table, "no tau: ")
    titles = [axes.texts[-1].get_text() for axes in plots.ranks(full(three)).axes]
    blocks = [title.partition(":")[0].partition(", ")[2] for title in titles]
    assert blocks == ["conditional"] * 2 + ["unconditional"] * 2
    fourth = beside(*three, *ordered([4], labels=["StyleGAN2-ADA-v1"], conditional=True))
    assert "IS -1.00 (4 models, one seed: no interval); FID train -0.67" in said(fourth, "Conditional: Kendall")


def test_exact_likelihoods_and_bounds_are_not_in_one_order():
    labels = [
        "Diffusion-original",
        "DDPM-L-fixed-isotropic-Sigma",
        "DDPM-L_simple",
        "Gated-PixelCNN",
        "Sparse-Transformer",
    ]
    records = [make_record(label, model="gan", bits=1.0 + i, fid=10.0 + i) for i, label in enumerate(labels)]
    assert "NLL test no tau" in said(beside(*records), "Unconditional: Kendall")


def test_a_number_of_another_kind_than_the_published_one_is_marked():
    records = [make_record(label, kind="bound") for label in ("Gated-PixelCNN", "DDPM-L_simple")]
    table = beside(*records)
    assert row(table, "Gated PixelCNN").cells[NLL].remark == "Published as an exact value, measured as an upper bound."
    assert row(table, "DDPM (L_simple)").cells[NLL].remark == ""
    text = render([table], "text")
    assert re.search(r"3\.03 +≤ 1\.410 ± 0\.004 se\*? \[\d+\]", text) and re.search(r"≤ 3\.75 +≤ 1\.410", text)


def test_what_did_not_finish_copies_or_may_not_rank_is_in_no_order():
    good, spoilt = ordered([40, 50, 60, 70]), seeds_of("NCSNv2", [20.0, None], model="score", bits=None)
    table = beside(*good, *spoilt, copier("EBM", model="ebm"), make_record("PixelIQN", status="diverged"))
    assert "FID train 1.00 (4 models" in said(table, "Unconditional: Kendall")
    words = said(table, "In no order")
    assert "NCSNv2: 1 of 2 runs finished" in words and "EBM: its samples are copies" in words
    assert "PixelIQN: 0 of 1 runs finished" in words and "diverged" in render([table], "text")
    refused = ruled(good, make_ruler({"fid_train": "it does not grow with blur"}))
    assert "FID train no tau (it may not rank on these images)" in said(beside(*refused), "Unconditional: Kendall")


def test_published_numbers_are_never_ranked():
    table = beside(*everything())
    columns = [column for column in table.columns if column.key.metric.startswith("published_")]
    assert all(column.better is None for column in columns)
    slots = [column.key for column in columns]
    assert len(slots) == 3 and not any(row.cells[slot].rank for row in table.rows for slot in slots)
    (plain,) = make_tables([record for record in everything() if record.job.label in TABLE1[False]], "quality")
    ranks = {row.label: row.cells[FID].rank for row in plain.rows if row.block == "Unconditional" and row.records}
    assert {row.label: row.cells[FID].rank for row in table.rows if row.block == "Unconditional"} == ranks


# What is said


def test_what_keeps_the_two_apart_is_read_from_the_records():
    table = beside(*ordered([40, 50, 60, 70]), make_record("Sparse-Transformer"))
    assert said(table, "Images").endswith("here: mnist5k (4,000 training images, 1 x 28 x 28).")
    assert said(table, "Features") == "Features: paper: Inception, here: mnist-classifier-v1."
    assert said(table, "FID: against") == "FID: against training images in both."
    assert said(table, "Samples").endswith("here: 1,000.") and "50,000" in said(table, "Samples")
    assert said(table, "Budget").endswith("here: 60 seconds, on cpu (2 threads).")
    words = said(table, "Parameters")
    assert "Sparse Transformer 59.0 M, here: 0.950 M" in words and "not printed for the others, here: 0.950 M" in words


def test_fid_against_test_images_stands_in_and_says_so():
    table = beside(*(make_record(label, values={"fid_test": 5.0}) for label in FOUR))
    assert said(table, "FID: paper") == "FID: paper: against training images, here: test images."


@pytest.mark.parametrize("name", sorted(PUBLISHED))
def test_every_odd_number_has_a_source_and_is_of_a_row_that_there_is(name):
    known = published(name)
    rows = [(row.name, row.conditional) for row in known.table.rows]
    for facts in known.facts.rows:
        assert facts.source and (facts.note or facts.parameters)
        assert all(any(facts.is_of(*row) for row in rows if row[0] == own) for own in facts.names)
    assert {"data", "features", "samples", "reference", "budget"} == known.facts.setting.keys()


def test_the_bound_of_2015_is_4_2_bits_a_dimension():
    """5.4 bits a pixel above that of a Gaussian of variance 1 by 11.5, in levels with a standard deviation of 64."""
    gaussian = -3 * 0.5 * math.log2(2 * math.pi * math.e)
    assert 5.4 - gaussian == pytest.approx(11.5, abs=0.2)
    note = next(row.remark for row in published("ddpm").table.rows if row.name == "Diffusion (original)")
    assert f"= {math.log2(64) - 5.4 / 3:.1f}" in note and "-6.14" in note


def test_the_docs_have_a_line_for_every_row_of_the_table():
    text = (Path(__file__).parent.parent / "docs" / "systems" / "index.md").read_text(encoding="utf-8")
    lines = [line.split(" | ")[0].removeprefix("| ") for line in text.splitlines() if "arXiv:" in line]
    assert lines == [row.name for row in published("ddpm").table.rows]


@pytest.mark.parametrize("layout", ["quality", "full", "beside"])
@pytest.mark.parametrize("format", ["text", "markdown", "latex", "csv", "json"])
def test_what_is_odd_about_a_published_number_is_said_wherever_it_stands(layout, format):
    text = render(make_tables(everything(), layout, published=True), format)
    assert "10.87" in text and "2006.09011" in text and "bits/pixel" in text
    if format == "text":
        assert len(re.findall(r"^NCSNv2 \[\d+\] ", text, re.MULTILINE)) > 0


# Formats


@pytest.mark.parametrize("room", WIDE)
def test_on_a_terminal_all_columns_fit_and_pairs_are_not_torn_apart(room):
    tables = [beside(*everything())]
    short, whole = render_compact(tables, "text", room), render(tables, "text", room)
    for text in (short, whole):
        assert max(map(len, text.splitlines())) <= room
    heads = short.splitlines()[2]
    assert heads.count("paper") == heads.count("here") == 3, "one piece"
    assert "Kendall's tau-b" in short and "Images: paper" in short and "NCSNv2 [" in short
    pieces = [line for line in whole.splitlines() if line.startswith("model")]
    assert all(line.count("paper") == line.count("here") for line in pieces)


def test_every_format_has_both_sides_and_the_footnotes():
    tables = [beside(*everything())]
    for name, format in formats().items():
        text = render(tables, name)
        assert "65.93" in text and (name in ("csv",) or "Kendall" in text)
        if format.write_compact:
            assert "65.93" in (short := format.write_compact(tables, 80)) and "Kendall" in short
    latex = render(tables, "latex")
    assert r"DDPM (L\_simple)\textsuperscript" in latex and r"$\leq$ 5.40" in latex
    markdown = render_compact(tables, "markdown")
    table = [line for line in markdown.splitlines() if line.startswith("|")]
    assert len({line.count("|") for line in table}) == 1
    (plain,) = json.loads(render(tables, "json"))["tables"]
    assert plain["told"] == plain["footnotes"][: len(plain["told"])]
    cells = {row["name"]: row["cells"] for row in plain["rows"] if row["block"] == "Unconditional"}
    assert cells["PixelIQN"]["published_fid_train"]["value"] == 49.46


def test_published_rows_have_no_digest_of_the_images_of_the_others():
    lines = list(csv.DictReader(io.StringIO(render([beside(*ordered([5.0, 6.0, 7.0, 8.0]))], "csv"))))
    assert {(line["dataset"], bool(line["digest"])) for line in lines} == {("CIFAR-10", False), ("mnist5k", True)}


# From Python, at the end of a run, on pages


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("beside") / "runs"
    write_runs(everything(), folder)
    return folder


def test_python_has_the_table_and_the_figure(folder):
    runs = genbench.load(folder)
    frame = runs.table("beside").set_index(["block", "model"])
    line = frame.loc[("Unconditional", "NCSN")]
    assert line["published_fid_train"] == 25.32 and line[str(FID)] > 0
    assert any("Kendall" in note for note in frame.attrs["footnotes"] or runs.table("beside").attrs["footnotes"])
    words = runs.plot("ranks").get_label()
    assert "as published on the left" in words
    with pytest.raises(BadInput, match="nothing to draw"):
        runs.filter(lambda record: record.job.label == "gaussian").plot("ranks")


def test_the_figure_has_both_ranks_of_every_model_and_what_is_not_drawn():
    records = [*ordered([40, 60, 50, 50]), make_record("EBM", status="diverged")]
    figure = plots.ranks(full(records))
    scores, fids = figure.axes
    texts = [text.get_text().replace("\xa0", " ") for text in fids.texts]
    assert {"SNGAN  21.7  3", "1  40.80  DDPM-L_simple", "2=  51.00  SNGAN", "2=  51.00  NCSN"} <= set(texts)
    assert "mnist5k, unconditional: FID train, tau 0.18" in texts
    assert "EBM: 0 of 1 runs finished" in figure.get_label()
    assert svg(figure) == svg(plots.ranks(full(records)))
    assert len(scores.lines) == len(fids.lines) == 4


def test_a_report_has_the_section_with_its_figure(tmp_path):
    records = write_runs([*ordered([40, 50, 60, 70]), make_record("NCSNv2", model="score")], tmp_path / "runs")
    page = (build_report(records, tmp_path / "report").parent / "datasets" / "mnist5k.html").read_text()
    section = page.partition('id="beside"')[2].partition("</section>")[0]
    assert {"mnist5k-ranks.svg", "mnist5k-ranks-dark.svg"} <= set(re.findall(r"[\w-]+\.svg", section))
    assert "Kendall&#39;s tau-b" in section.partition("<details")[0], "in sight"
    assert "arXiv:2006.09011" in section
    assert "arXiv:2006.09011" in (tmp_path / "report" / "published.html").read_text()


def test_a_run_ends_with_it_if_there_is_anything_to_compare(folder, tmp_path):
    records = list(genbench.load(folder))
    for room in (None, 80):
        assert results_text(records, ["quality"], tmp_path, False, room).count("Kendall's tau-b of") == 2
        lone = [record for record in records if record.job.label in ("EBM", "gaussian") and not record.job.conditional]
        assert "Kendall" not in results_text(lone, ["quality"], tmp_path, False, room)
