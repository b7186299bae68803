"""What a run had of its machine: counted by the kernel's own numbers, judged, shown, and no reason for a rank."""

import json
import os

import pytest
import torch
from records_factory import CLASSIFIER, full, make_record, quick_suite, with_errors, write_runs

from genbench.commands.run import usage_remarks
from genbench.metering import meter as metering
from genbench.metering import processors
from genbench.metering.meter import Meter
from genbench.metering.processors import Reading, judged
from genbench.records.budget import Budget
from genbench.records.record import Record
from genbench.records.slots import Slot
from genbench.records.training_state import MeterState
from genbench.records.usage import Usage
from genbench.report import build_report
from genbench.tables.build import make_tables
from genbench.tables.formats import render
from genbench.tables.frames import run_frame
from genbench.tables.head_to_head import Side, head_to_head, verdict
from genbench.tables.headlines import headlines

FID, SPEED = Slot("fid_test", CLASSIFIER["name"]), Slot("images_per_second")
CROWDED = Usage(processor_seconds=31.0, waiting_seconds=29.0, others_seconds=60.0, share=0.52)
ALONE = Usage(processor_seconds=60.0, waiting_seconds=0.1, others_seconds=0.5, share=0.998)
STOPPED = ALONE.model_copy(update={"stops": 1, "stopped_seconds": 25.0})


# Shares


@pytest.mark.parametrize(
    ("used", "threads", "share"),
    [
        ({"waiting_seconds": 0.1, "delayed_seconds": 0.1, "others_seconds": 0.3}, 1, 0.99),
        ({"waiting_seconds": 10.0, "delayed_seconds": 10.0, "others_seconds": 10.0}, 1, 0.5),
        # threads that wait for one another alone have all that there is
        ({"waiting_seconds": 10.0, "delayed_seconds": 10.0, "others_seconds": 0.0}, 1, 1.0),
        # a quota that keeps them is no program that takes from them
        ({"waiting_seconds": 10.0, "delayed_seconds": 10.0, "others_seconds": 0.0, "throttled_seconds": 10.0}, 1, 0.5),
        # one thread that is delayed delays those that wait for it
        ({"processor_seconds": 40.0, "waiting_seconds": 8.0, "delayed_seconds": 8.0, "others_seconds": 10.0}, 4, 0.6),
        # what others used while it was stopped was not taken from it
        ({"waiting_seconds": 9, "delayed_seconds": 9, "others_seconds": 3, "stopped_seconds": 20}, 1, 10 / 11.5),
    ],
)  # fmt: skip
def test_the_share_is_what_it_had_of_what_it_could_use(used, threads, share):
    found = judged(Usage(**{"processor_seconds": 10.0, **used}), 20.0, threads)
    assert found.share == pytest.approx(share, abs=0.01)
    assert found.is_equal(20.0) is (share >= 0.8)


def test_idle_threads_lack_nothing():
    lazy = Usage(processor_seconds=2.0, waiting_seconds=0.0, delayed_seconds=0.0, others_seconds=15.0)
    assert judged(lazy, 10.0, 8).share == 1.0, "a model whose steps leave its threads idle, beside a busy program"


def test_where_the_kernel_does_not_tell_the_load_does(monkeypatch):
    monkeypatch.setattr(processors, "available", lambda: 2)
    load = Usage(processor_seconds=11.0, others_seconds=9.0)
    assert judged(load, 10.0, 2).share == pytest.approx(11 / 20)
    assert judged(load, 10.0, 1).share == 1.0, "the others had the processor that it left free"
    assert judged(Usage(processor_seconds=11.0), 10.0, 2).share is None


def test_a_short_clock_is_not_judged():
    found = judged(Usage(processor_seconds=1.0, waiting_seconds=1.0, delayed_seconds=1.0), 1.5, 1)
    assert found.share is None and found.is_equal(1.5) and not found.words(1.5)


# Counters


def proc(folder, times):
    """A /proc with (computed, waited, turns) by process and thread."""
    for (process, thread), numbers in times.items():
        place = folder / str(process) / "task" / str(thread)
        place.mkdir(parents=True, exist_ok=True)
        (place / "schedstat").write_text(" ".join(map(str, numbers)))
    return folder


def test_the_counters_of_all_threads_and_processes_are_added_up(tmp_path, monkeypatch):
    second = 10**9
    first = {(7, 7): (5 * second, second, 9), (7, 8): (second, 0, 9), (9, 9): (0, 0, 1)}
    later = {(7, 7): (8 * second, 3 * second, 9), (9, 9): (4 * second, second, 2), (9, 10): (second, 0, 1)}
    busy = iter([100.0, 120.0])
    monkeypatch.setattr(processors, "_busy", lambda: next(busy))
    readings = []
    for name, times in (("before", first), ("after", later)):
        monkeypatch.setattr(processors, "PROC", proc(tmp_path / name, times))
        readings.append(Reading.of([7, 9]))
    used = readings[0].until(readings[1])
    assert (used.processor_seconds, used.waiting_seconds, used.delayed_seconds) == (8.0, 3.0, 2.0)
    assert used.others_seconds == 12.0


def test_a_kernel_that_counts_nothing_is_not_believed(tmp_path, monkeypatch):
    monkeypatch.setattr(processors, "PROC", proc(tmp_path, {(os.getpid(), os.getpid()): (0, 0, 0)}))
    found = Reading.of([os.getpid()])
    assert found.waited is None and sum(found.computed.values()) > 0, "its processor time is known all the same"
    assert found.until(Reading.of([os.getpid()])).waiting_seconds is None


def test_a_process_that_has_ended_is_left_out(tmp_path):
    here = [os.getpid()]
    assert Reading.of([*here, 2**22 + 1]).computed.keys() == Reading.of(here).computed.keys()


def test_spans_add_up_and_what_is_unknown_of_one_is_unknown_of_both():
    whole = CROWDED + ALONE + STOPPED
    assert (whole.processor_seconds, whole.stops, whole.stopped_seconds, whole.share) == (151.0, 1, 25.0, None)
    assert (whole + Usage()).processor_seconds is None


# Gaps


@pytest.fixture
def timed(monkeypatch):
    """A meter whose clocks a test moves: `step(seconds, computing)`."""
    moment = {"now": 0.0, "computed": 0.0}
    monkeypatch.setattr(metering.clock, "now", lambda: moment["now"])
    monkeypatch.setattr(metering.time, "process_time", lambda: moment["computed"])
    meter = Meter(torch.device("cpu"))

    def step(seconds, computing=1.0):
        moment["now"] += seconds
        moment["computed"] += seconds * computing
        meter.stepped()

    with meter.training():
        yield meter, step


@pytest.mark.parametrize(
    ("seconds", "computing", "gaps"),
    [(5.0, 0.0, 1), (5.0, 1.0, 0), (0.9, 0.0, 0), (1.9, 0.0, 0)],
    ids=["idle", "a large evaluation", "short", "less than twenty steps"],
)
def test_a_gap_is_many_steps_long_and_computes_nothing(timed, seconds, computing, gaps):
    meter, step = timed
    for _ in range(30):
        step(0.1)
    step(seconds, computing)
    step(0.1)
    with meter.pause():
        assert (meter.usage.gaps, meter.usage.gap_seconds) == (gaps, pytest.approx(seconds * gaps))
    assert meter.steps == 32


def test_neither_the_first_steps_nor_one_with_a_pause_in_it_are_gaps(timed):
    meter, step = timed
    for seconds in (60.0, 0.1, 0.1, 5.0):
        step(seconds, 0.0)
    for _ in range(300):
        step(0.1)
    with meter.pause():
        pass
    step(20.0, 0.0)
    with meter.pause():
        assert meter.usage.gaps == 0


# Records


def test_records_and_checkpoints_without_it_stay_readable():
    record = make_record()
    assert '"usage"' not in record.to_json() and remarks_free(record)
    assert MeterState.model_validate({"seconds": 3.0}).usage is None
    meter = Meter(torch.device("cpu"))
    meter.restore_finished(MeterState(seconds=60.0, steps=600, usage=CROWDED))
    assert meter.train_cost().usage == CROWDED and meter.state().usage == CROWDED


def remarks_free(record):
    return usage_remarks([record]) == []


def test_what_was_recorded_is_read_again(tmp_path):
    record = had(make_record(), CROWDED)
    assert Record.from_json(record.to_json(), tmp_path / "record.json").cost.train.usage == CROWDED


# Tables


def had(record, usage, **changes):
    """The record of a training with this usage."""
    train = record.cost.train.model_copy(update={"usage": usage, **changes})
    return record.model_copy(update={"cost": record.cost.model_copy(update={"train": train})})


def suite(label="", usage=None, budget="60s"):
    """The quick suite, in which the model of this label had this usage."""
    stamped = [
        r.model_copy(update={"job": r.job.model_copy(update={"budget": Budget.parse(budget)})})
        for r in map(with_errors, quick_suite())
    ]
    return [had(r, usage) if r.job.label == label else r for r in stamped]


def row_of(table, label):
    (row,) = [row for row in table.rows if row.label == label]
    return row


def ranks(table, without=""):
    return {row.name: row.cells[FID].rank for row in table.rows if row.kind == "model" and row.label != without}


def footnotes(table):
    return [note for note in table.footnotes if note.startswith("§")]


@pytest.mark.parametrize("label", ["gan", "gaussian"])
def test_under_a_budget_in_seconds_a_crowded_model_neither_wins_nor_loses(label):
    """Not even if it is the best of all, or the worst."""
    (table,) = full(suite(label, CROWDED))
    (others,) = full([record for record in suite() if record.job.label != label])
    assert ranks(table, without=label) == ranks(others)
    crowded = row_of(table, label)
    assert crowded.cells[FID].value is not None and crowded.cells[FID].rank is None and not crowded.cells[FID].best
    (note,) = footnotes(table)
    assert note.startswith(f"§ {label}: training had 52 % of the processor time that its threads could use")
    assert "(others used 1.0 processors)" in note and "no rank by quality" in note


def test_models_of_one_crowded_machine_share_a_note():
    both = [record for record in suite("gan", CROWDED) if record.job.label != "gaussian"]
    both += [record for record in suite("gaussian", CROWDED) if record.job.label == "gaussian"]
    (note,) = footnotes(full(both)[0])
    assert "gan: training had" in note and "gaussian: training had" in note and note.count("no rank by quality") == 1


def test_a_budget_in_images_decides_by_quality_all_the_same():
    (plain,) = full(suite(budget="200000images"))
    (table,) = full(suite("gan", CROWDED, budget="200000images"))
    assert ranks(table) == ranks(plain) and row_of(table, "gan").unequal
    (note,) = footnotes(table)
    assert "Quality does not depend on that; seconds do" in note


def test_a_stop_is_told_and_costs_no_rank():
    (plain,) = full(suite())
    (table,) = full(suite("gan", STOPPED))
    assert ranks(table) == ranks(plain)
    (note,) = footnotes(table)
    assert note == "§ gan: training was stopped for 25.0 seconds, which are not counted."


def test_a_gap_costs_the_rank_if_it_cost_a_fifth_of_the_time():
    brief, long = (ALONE.model_copy(update={"gaps": 1, "gap_seconds": s}) for s in (5.0, 20.0))
    (table,) = full(suite("gan", brief))
    assert ranks(table)["gan"] == 1 and "stood still for 5.0 of its 60.0 seconds, in 1 gap" in footnotes(table)[0]
    assert ranks(full(suite("gan", long))[0])["gan"] is None


def test_nothing_is_marked_where_nothing_was_amiss():
    (table,) = full(suite("gan", ALONE))
    assert not footnotes(table) and not row_of(table, "gan").unequal
    assert "§" not in render([table], "text")


def test_speed_that_was_measured_beside_others_is_not_ranked():
    records = suite()
    drawn = records[0].cost.sample.model_copy(update={"usage": CROWDED})
    records[0] = records[0].model_copy(update={"cost": records[0].cost.model_copy(update={"sample": drawn})})
    (table,) = make_tables(records, "cost")
    speeds = {row.label: row.cells[SPEED].rank for row in table.rows if row.kind == "model"}
    assert speeds.pop("ddpm") is None and sorted(speeds.values()) == [1, 2, 3, 4, 5]
    assert ranks(table)["ddpm"], "what it trained does not depend on how fast it sampled"
    assert "§ ddpm: sampling had 52 %" in footnotes(table)[0]


@pytest.mark.parametrize("usage", [ALONE, CROWDED])
def test_head_to_head_a_crowded_model_is_told_of_and_its_seconds_are_no_verdict(usage):
    sides = [next(r for r in suite("gan", usage, "200000images") if r.job.label == label) for label in ("gan", "vae")]
    train = sides[1].cost.train.model_copy(update={"seconds": 5 * sides[0].cost.train.seconds})
    sides[1] = sides[1].model_copy(update={"cost": sides[1].cost.model_copy(update={"train": train})})
    told = verdict(head_to_head(*(Side(record.job.label, (record,)) for record in sides)))
    crowded = usage is CROWDED
    assert any(line.startswith("gan: training had 52 % of the processor time") for line in told) == crowded
    assert ("vae trains 5 times as long as gan" in " ".join(told)) != crowded
    assert "is better than" in " ".join(told), "quality does not depend on the time that images took"


@pytest.mark.parametrize("format", ["text", "markdown", "latex", "csv", "json"])
def test_every_format_marks_the_row(format):
    text = render(full(suite("vae", CROWDED)), format)
    if format == "json":
        rows = json.loads(text)["tables"][0]["rows"]
        assert [row["name"] for row in rows if row["unequal"]] == ["vae"]
    else:
        assert "training had 52" in text and (format == "csv" or "vae" in text)
    if format in ("text", "markdown"):
        assert "vae\xa0§" in text


def test_a_row_of_several_seeds_tells_its_worst():
    records = [make_record("gan", seed) for seed in range(5)] + [make_record("vae", seed) for seed in range(5)]
    shares = [0.7, 0.4, 0.99, 0.6, 0.5]
    crowded = [had(r, CROWDED.model_copy(update={"share": share})) for r, share in zip(records, shares)]
    (table,) = full([*crowded, *records[5:]])
    (note,) = footnotes(table)
    assert "§ gan: seed 1: training had 40 %" in note and "seed 4: training had 50 %" in note
    assert "1 more of its 5 runs alike" in note and "99 %" not in note


def test_the_warning_stands_once_under_a_table():
    words = "training had 52 % of the processor time that its threads could use (others used 1.0 processors)"
    records = [r.model_copy(update={"warnings": [words]}) if r.job.label == "gan" else r for r in suite("gan", CROWDED)]
    (table,) = full(records)
    assert [words in note for note in table.footnotes].count(True) == 1


def test_the_frame_of_runs_has_the_numbers():
    frame = run_frame(suite("gan", STOPPED)).set_index("label")
    assert frame.loc["gan", "processor_share"] == 0.998 and frame.loc["gan", "stopped_seconds"] == 25.0


# Pages, and the end of a run


def test_a_crowded_model_wins_no_headline_and_is_told_of():
    best = headlines(full(suite("gan", CROWDED)))[0]
    assert best.winner == "ddpm" and "gan is lower, but its machine gave it less" in best.sure
    rest = headlines(full(suite("gaussian", CROWDED)))[0]
    assert rest.winner == "gan" and "gaussian is not compared: its machine gave it less" in rest.sure
    everyone = headlines(full([had(r, CROWDED) if r.cost.train else r for r in suite()]))[0]
    assert not everyone.winner and "its machine gave it less" in everyone.sure


def test_pages_show_what_a_run_had(tmp_path):
    (tmp_path / "runs").mkdir()
    records = write_runs(suite("gan", CROWDED + STOPPED), tmp_path / "runs")
    crowded = CROWDED.model_copy(update={"stops": 1, "stopped_seconds": 25.0, "gaps": 2, "gap_seconds": 3.0})
    build_report([had(r, crowded) if r.job.label == "gan" else r for r in records], tmp_path / "report")
    page = next((tmp_path / "report" / "runs").glob("gan-*.html")).read_text()
    told = {
        "training processor-seconds": "31.0",
        "of what its threads could use": "52 %",
        "gaps between steps": "3.0 s in 2",
        "training stopped, not counted": "25.0 s in 1",
    }
    for name, value in told.items():
        assert f"{name}</th><td>{value}</td>" in page, name
    assert "gan</a>\xa0§" in next((tmp_path / "report" / "datasets").glob("*.html")).read_text()


def test_a_run_ends_with_what_was_amiss_and_what_to_do():
    lines = usage_remarks(suite("gan", CROWDED))
    assert lines[0].startswith("gan-mnist5k-") and ": warning: training had 52 % of the processor time" in lines[0]
    assert all(word in lines[1] for word in ("--jobs 1", "images, steps or FLOPs", "--out"))
    assert usage_remarks(suite()) == [] == usage_remarks(suite("gan", ALONE))
    assert len(usage_remarks(suite("gan", STOPPED))) == 1, "there is nothing to do about a stop that is not counted"
