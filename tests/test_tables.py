"""Tables: what is grouped, averaged, ranked, marked and said below; and the frames of runs and curves."""

import math

import pandas as pd
import pytest
from records_factory import make_record, measure, quick_suite, reference, seeds_of, values_of, write_runs

from genbench.records.slots import Slot
from genbench.support.errors import CorruptData
from genbench.tables.build import make_tables
from genbench.tables.formats import render
from genbench.tables.frames import curve_frame, measurement_frame, run_frame

FID = Slot("fid_test", "mnist-classifier-v1")


def only(records, layout="quality"):
    tables = make_tables(records, layout)
    assert len(tables) == 1
    return tables[0]


def row(table, name):
    return next(row for row in table.rows if row.name == name)


# Ranking


def test_rows_are_ordered_by_fid_between_real_and_noise():
    names = [row.name for row in only(quick_suite()).rows]
    assert names == ["real", "gan", "ddpm", "ldm", "vae", "flow", "gaussian", "noise"]


def test_rank_1_is_marked_with_its_ties_and_never_for_reference_rows():
    table = only(quick_suite(), "full")
    marked = {column.metric: [row.name for row in table.rows if row.cells[column.key].best] for column in table.columns}
    assert marked["fid_test"] == marked["precision"] == ["gan"]
    assert marked["inception_score"] == ["gan", "ddpm", "ldm"], "their intervals overlap"
    assert marked["bits_per_dim_test"] == ["ddpm"]
    assert marked[""] == []


def test_seeds_give_mean_deviation_and_error():
    cell = row(only([make_record("ddpm", 0, fid=10.0), make_record("ddpm", 1, fid=14.0)]), "ddpm").cells[FID]
    assert (cell.value, cell.n_ok, cell.n, cell.values) == (12.0, 2, 2, (10.0, 14.0))
    assert cell.spread == pytest.approx(math.sqrt(8))
    assert cell.stderr == pytest.approx(2.0)


def test_one_seed_keeps_its_own_standard_error():
    cell = row(only([make_record("ddpm")]), "ddpm").cells[Slot("inception_score", "mnist-classifier-v1")]
    assert (cell.stderr, cell.spread) == (0.12, None)


def test_a_failed_seed_never_improves_a_rank():
    records = [make_record("ddpm", seed, fid=15.0) for seed in range(3)]
    records += [
        make_record("gan", 0, fid=12.0),
        make_record("gan", 1, fid=14.0),
        make_record("gan", 2, status="diverged"),
    ]
    table = only(records)
    assert [row.name for row in table.rows] == ["ddpm", "gan"]
    gan = row(table, "gan")
    assert gan.cells[FID].value == 13.0
    assert (gan.n_ok, gan.n, gan.statuses) == (2, 3, {"complete": 2, "diverged": 1})
    assert not gan.cells[FID].best
    assert row(table, "ddpm").cells[FID].best
    text = render([table], "text")
    assert "2/3, 1 diverged" in text
    assert "gan: 2 of 3 seeds finished; seed 2 diverged: RuntimeError: the loss is not finite." in text


def test_a_value_that_one_seed_lacks_is_not_ranked_either():
    lacking = make_record("gan", 1, values=values_of(1.0) | {"fid_test": None})
    table = only([make_record("gan", 0, fid=1.0), lacking, make_record("ddpm", 0, fid=9.0)])
    cell = row(table, "gan").cells[FID]
    assert (cell.n_ok, cell.n, cell.best) == (1, 2, False)
    assert row(table, "ddpm").cells[FID].best


def test_a_model_without_any_result_is_a_row_with_its_reason():
    table = only([*quick_suite(), make_record("new", status="failed")])
    new = row(table, "new")
    assert new.name == table.rows[-2].name
    assert (new.cells[FID].value, new.cells[FID].status, new.n_ok, new.n) == (None, "failed", 0, 1)
    assert "new: 0 of 1 seeds finished; seed 0 failed: RuntimeError" in render([table], "markdown")


def test_measurements_of_a_failed_run_do_not_count():
    broken = make_record("gan", fid=1.0).model_copy(update={"status": "failed"})
    assert row(only([make_record("ddpm"), broken]), "gan").cells[FID].value is None


def test_the_cost_of_an_unfinished_run_does_not_lower_the_mean():
    stopped = make_record("ddpm", 1, status="failed")
    stopped.cost.train.device_seconds = 1.0
    assert (
        row(only([make_record("ddpm", 0), stopped], "cost"), "ddpm").cells[Slot("overall_device_seconds")].value == 60.0
    )


@pytest.mark.parametrize(
    ("first", "second", "ok"), [("complete", "complete", 1), ("failed", "complete", 1), ("complete", "diverged", 0)]
)
def test_the_same_run_twice_counts_once(first, second, ok):
    twice = [make_record("ddpm", fid=10.0, status=first), make_record("ddpm", fid=5.0, status=second)]
    table = only([*twice, make_record("gan")])
    ddpm = row(table, "ddpm")
    assert (ddpm.n_ok, ddpm.n) == (ok, 1)
    assert any("ddpm seed 0 is present more than once" in note for note in table.footnotes)


def test_variants_of_one_label_are_rows_named_by_what_differs():
    records = [make_record("vae", config={"beta": 1.0}), make_record("vae", config={"beta": 2.0}), make_record("ddpm")]
    assert {row.name for row in only(records).rows} == {"vae (beta=1.0)", "vae (beta=2.0)", "ddpm"}
    table = only([make_record("vae", config={"beta": beta, "width": beta}) for beta in (1, 2)])
    assert {row.name for row in table.rows} == {"vae (beta=1)", "vae (beta=2)"}
    assert "The rows of vae differ in beta, width." in table.footnotes
    devices = [make_record("vae"), make_record("vae", device="cuda:0"), make_record("vae", 1, device="cuda:1")]
    assert {(row.name, row.n) for row in only(devices).rows} == {("vae (device=cpu)", 1), ("vae (device=cuda)", 2)}


# Groups


def test_two_protocols_are_two_tables_that_name_the_difference():
    records = [*quick_suite(), make_record("ddpm", 5, fid=1.0, protocol={"samples": 2000})]
    first, second = make_tables(records)
    assert [row.name for row in second.rows] == ["ddpm"]
    assert row(first, "ddpm").cells[FID].value == 118.0
    assert "samples = 1000" in first.title
    assert "samples = 2000" in second.title
    assert any(column.heading == "FID test@2000 (mnist-classifier-v1)" for column in second.columns)


def test_a_failed_run_stands_with_its_other_seeds_and_without_any_in_every_group():
    records = [make_record("ddpm"), make_record("gan", protocol={"samples": 2000})]
    records += [make_record("ddpm", 1, status="failed"), make_record("new", status="failed")]
    tables = make_tables(records)
    assert [[(row.name, row.n) for row in table.rows] for table in tables] == [
        [("ddpm", 2), ("new", 1)], [("gan", 1), ("new", 1)],
    ]  # fmt: skip


def test_one_run_scored_under_two_protocols_stands_in_both_tables():
    record = make_record("ddpm", fid=10.0)
    record.measurements.append(measure("fid_test", 7.0, record.protocols, protocol={"seed": 1}))
    first, second = make_tables([record, make_record("gan", fid=9.0)])
    assert (row(first, "ddpm").cells[FID].value, row(second, "ddpm").cells[FID].value) == (10.0, 7.0)
    assert [row.name for row in second.rows] == ["ddpm"]
    assert "seed = 1" in second.title


def test_two_digests_of_one_dataset_are_never_ranked_together():
    tables = make_tables([make_record("ddpm"), make_record("gan", digest="f" * 60)])
    assert [[row.name for row in table.rows] for table in tables] == [["ddpm"], ["gan"]]
    assert "dataset digest = ffffffffffff" in tables[1].title


def test_two_extractors_are_two_columns_of_one_table():
    record = make_record("ddpm", fid=10.0)
    record.measurements.append(
        measure("fid_test", 3.0, record.protocols, protocol={"extractor": {"name": "inception-v3-compat", "dim": 2048}})
    )
    table = only([record, make_record("gan", fid=11.0)])
    cells = row(table, "ddpm").cells
    assert (cells[Slot("fid_test", "inception-v3-compat")].value, cells[FID].value) == (3.0, 10.0)
    assert row(table, "gan").cells[Slot("fid_test", "inception-v3-compat")].status == "not_measured"
    assert any("1,000 samples in 2,048 feature dimensions" in note for note in table.footnotes)


def test_conditional_and_unconditional_models_are_blocks_with_their_own_best():
    records = [make_record("ddpm", fid=9.0), make_record("gan", fid=8.0)]
    records += [make_record("ddpm", fid=5.0, conditional=True), make_record("gan", fid=6.0, conditional=True)]
    table = only([*records, reference("real")])
    assert [(block, [row.name for row in rows]) for block, rows in table.blocks] == [
        ("", ["real"]), ("Conditional", ["ddpm", "gan"]), ("Unconditional", ["gan", "ddpm"]),
    ]  # fmt: skip
    assert [row.name for row in table.rows if row.cells[FID].best] == ["ddpm", "gan"]


def test_a_reference_row_stays_where_only_one_of_its_protocols_differs():
    real = reference("real")
    position = next(i for i, m in enumerate(real.measurements) if m.metric == "fid_train")
    real.measurements[position] = measure("fid_train", 30.0, real.protocols, protocol={"samples": 500})
    table = only([make_record("ddpm"), real])
    cells = row(table, "real").cells
    assert cells[FID].value == 20.9
    train = cells[Slot("fid_train", "mnist-classifier-v1")]
    assert (train.value, train.status) == (None, "not_comparable")


# Likelihoods and layouts


def test_bounds_and_estimates_are_marked():
    kinds = {"ddpm": ("bound", 1.5), "flow": ("exact", 1.6), "odd": ("estimate", 0.5)}
    table = only([make_record(name, kind=kind, bits=bits) for name, (kind, bits) in kinds.items()])
    relations = {row.name: row.cells[Slot("bits_per_dim_test")].relation for row in table.rows}
    assert relations == {"ddpm": "<=", "flow": "<=", "odd": "~"}
    assert [row.name for row in table.rows if row.cells[Slot("bits_per_dim_test")].best] == ["ddpm"]
    text = render([table], "text")
    assert "≤ 1.500 ± 0.004 se* (≤ 1.480 ± 0.004 se)" in text
    assert "~ 0.500" in text
    assert r"$\leq$ 1.600" in render([table], "latex")


def test_a_missing_value_is_a_dash_with_its_reason():
    text = render([only([make_record("gan", bits=None), make_record("vae")])], "text")
    assert "– [1]" in text
    assert "[1] the model defines no likelihood" in text


@pytest.mark.parametrize("format", ["text", "markdown", "latex"])
def test_a_column_of_dashes_alone_is_left_out_where_people_read_and_a_note_says_why(format):
    alone = [make_record("gan", bits=None), make_record("ldm", bits=None), reference("real")]
    lone, beside = (render([only(records)], format) for records in (alone, [*alone, make_record("vae")]))
    assert "Left out, as no row has a value: NLL test (train) (the model defines no likelihood)." in lone
    assert "NLL in bits/dim" not in lone, "a footnote about nothing that is there"
    assert "Left out" not in beside and "NLL in bits/dim" in beside
    data = [render([only(alone)], name) for name in ("csv", "json")]
    assert "bits_per_dim_test.status" in data[0] and "NLL test (train)" in data[1]


def test_a_table_in_which_nothing_has_a_value_keeps_its_columns():
    text = render([only([make_record("gan", status="failed")])], "text")
    assert "NLL test" in text and "Left out" not in text


def test_quality_has_the_columns_of_the_published_layout_within_120_characters():
    table = only(quick_suite())
    assert [column.heading for column in table.columns] == [
        "IS@1000 (mnist-classifier-v1)", "FID test@1000 (mnist-classifier-v1)", "FID train@1000 (mnist-classifier-v1)",
        "NLL test (train)",
    ]  # fmt: skip
    text = render([table], "text")
    assert max(map(len, text.splitlines())) <= 120
    for words in ("bias FID upwards", "not Inception's", "One seed per model", "all test images"):
        assert words in text


def test_cost_has_the_columns_of_the_published_layout():
    table = only(quick_suite(), "cost")
    heads = [column.heading for column in table.columns]
    parts = ["generator compute", "classifier compute", "overall", "of which first stage"]
    assert heads[:8] == [f"{part}, {unit}" for unit in ("device-seconds (FLOPs)", "V100-days") for part in parts]
    assert heads[8:10] == ["samples/s", "parameters"]
    assert [head.split("@")[0] for head in heads[10:]] == ["FID test", "IS", "precision", "recall"]
    text = render([table], "text")
    assert "60.0 (1.18e14)" in text
    assert "no classifier guidance was used" in text.replace("\n", " ")
    assert "aten::grid_sampler" in text


# Published rows


def test_published_rows_come_with_their_dataset_or_when_asked_for():
    assert [table.published for table in make_tables(quick_suite(), "quality")] == [False]
    matching = make_tables(quick_suite(dataset="cifar10"), "quality")
    assert [table.published for table in matching] == [False, True]
    assert [len(table.rows) for table in make_tables(quick_suite(), "full", published=True)][1:] == [16, 19]


def test_published_numbers_stand_as_printed_and_are_never_best():
    tables = make_tables(quick_suite(), "full", published=True)[1:]
    text = render(tables, "text")
    for printed in (
        "published, not measured here",
        "≤ 3.75 (≤ 3.72)",
        "9.46 ± 0.11",
        "128–256",
        "37.9 ",
        "59 M",
        "Ho, Jain, Abbeel",
    ):
        assert printed in text
    assert not any(cell.best for table in tables for row in table.rows for cell in row.cells.values())
    cells = {row.name: row.cells for row in tables[1].rows}
    assert cells["BigGAN-deep"][Slot("generator_v100_days")].interval == (128.0, 256.0)
    assert cells["BigGAN-deep"][Slot("generator_v100_days")].value is None


# Frames


def test_the_measurement_frame_has_a_row_a_measurement_and_one_for_a_failure():
    records = [make_record("ddpm"), make_record("gan", status="failed")]
    frame = measurement_frame(records)
    assert len(frame) == len(records[0].measurements) + 1
    failed = frame[frame["label"] == "gan"].iloc[0]
    assert pd.isna(failed["metric"])
    assert (failed["run_status"], failed["status"]) == ("failed", "failed")
    assert run_frame(records)["seconds_per_1000"].iloc[0] == pytest.approx(1000 / 41)


def test_a_learning_curve_cut_short_is_read_up_to_the_cut(tmp_path):
    (record,) = write_runs([make_record("gan")], tmp_path)
    file = record.folder / "progress.jsonl"
    lines = file.read_text().splitlines()
    file.write_text("\n".join(lines) + '\n{"step": 9')
    frame = curve_frame([record])
    losses = frame[frame["metric"] == "loss"]
    assert len(losses) == len(lines) and set(losses["phase"]) == {"generator", "critic"}
    assert set(frame["metric"]) == {"loss", "learning_rate", "kl"}


def test_a_broken_line_within_a_learning_curve_is_named(tmp_path):
    (record,) = write_runs([make_record("ddpm")], tmp_path)
    file = record.folder / "progress.jsonl"
    file.write_text('{"step": 1, "images": 64, "loss": 1.0}\n{"step": 2, "im\n{"step": 3}\n')
    with pytest.raises(CorruptData, match=r"progress\.jsonl:2"):
        curve_frame([record])


def test_a_seed_that_failed_under_two_protocols_is_one_failure_of_each_group():
    records = []
    for samples in (1000, 2000):
        changes = {"protocol": {"samples": samples}}
        some = [*seeds_of("ddpm", [20.0, 21.0], **changes), make_record("ddpm", 2, status="failed", **changes)]
        for record in some:
            record.samples.key = str(samples)
        records += some
    assert [(row.n_ok, row.n) for table in make_tables(records) for row in table.rows] == [(2, 3), (2, 3)]
