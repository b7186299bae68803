"""Runs under way: what the terminal, `status`, tables and pages show of them, and that looking disturbs nothing."""

import json
import os
import shutil
import subprocess
import sys
import time
from collections import Counter
from contextlib import contextmanager
from pathlib import Path

import pytest
from records_factory import make_record, quick_suite, write_runs
from toys import toy_job

from genbench.cli.ahead import Ahead
from genbench.cli.console import JobProgress, columns_of
from genbench.records import record_files, run_folder
from genbench.records.queue import QUEUE, queued, queues
from genbench.records.record import UNDER_WAY, Record
from genbench.records.unfinished import state_of
from genbench.support import progress
from genbench.support.errors import BadInput, CorruptData
from genbench.support.lock import holder, locked
from genbench.support.pace import SEEN, Pace, clock, words_of
from genbench.tables.build import make_tables

ROOT = Path(__file__).parent.parent
STAMP = make_record("vae").dataset


def begun(out, label, points=0, **changes):
    """The run folder of a job that has begun, with a learning curve of so many points."""
    job = toy_job(out, label=label, dataset=STAMP.name, dataset_digest=STAMP.digest, **changes)
    job.folder.mkdir(parents=True)
    run_folder.begin(job, STAMP)
    curve = [{"step": i, "images": 8 * i, "seconds": i, "phase": "train", "loss": 1 / i} for i in range(1, points + 1)]
    (job.folder / "progress.jsonl").write_text("".join(json.dumps(point) + "\n" for point in curve))
    return job


@contextmanager
def at_work(folder, *more):
    """Another process that holds the locks of these folders; its number."""
    script = (
        "import sys; from contextlib import ExitStack; from pathlib import Path\n"
        "from genbench.support.lock import locked\n"
        "with ExitStack() as stack:\n"
        "    for folder in sys.argv[1:]: stack.enter_context(locked(Path(folder)))\n"
        "    print('held', flush=True); sys.stdin.read()"
    )
    command = [sys.executable, "-c", script, folder, *more]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as other:
        assert other.stdout.readline() == "held\n"
        yield other.pid
        other.stdin.close()


def news(folder, **changes):
    plain = {"time": 0.0, "stage": "train", "share": 0.41, "text": "step 120", "facts": {
        "step": 120, "losses": {"train": 0.0312}, "images_per_second": 5310.4, "seconds_left": 35.2}}  # fmt: skip
    (folder / progress.NEWS).write_text(json.dumps(plain | changes) + "   ")


@pytest.fixture
def everything(tmp_path):
    """A folder with a run in every state: finished, failed, running, interrupted, waiting, never begun."""
    out = tmp_path / "runs"
    write_runs([*quick_suite()[:1], make_record("flow", status="diverged")], out)
    working, left, waits = begun(out, "busy", 5), begun(out, "left", 3), toy_job(out, label="next", budget="60s")
    news(working.folder)
    (working.folder / progress.WHERE).write_bytes(b"train 123".ljust(progress.WIDTH))
    with pytest.raises(KeyboardInterrupt), queued(out, [toy_job(out, label="never")]):
        raise KeyboardInterrupt
    with queued(out, [waits]), at_work(working.folder) as pid:
        yield out, pid, left


def contents(out):
    return {path: (path.stat().st_mtime_ns, path.read_bytes() if path.is_file() else b"") for path in out.rglob("*")}


# status


def test_status_tells_every_state_and_touches_nothing(genbench, everything):
    out, pid, _ = everything
    before = contents(out)
    result = genbench("status", out, "--json")
    assert result.code == 0 and result.err == ""
    rows = {row["label"]: row for row in result.json["runs"]}
    states = {"ddpm": "done", "flow": "diverged", "busy": "running", "left": "interrupted",
              "next": "waiting", "never": "not begun"}  # fmt: skip
    assert {label: row["state"] for label, row in rows.items()} == states
    assert result.json["counts"] == {state: [*states.values()].count(state) for state in states.values()}
    busy = rows["busy"]
    assert busy["holder"]["pid"] == pid and busy["holder"]["host"] and busy["holder"]["since"]
    assert (busy["stage"], busy["share"], busy["text"]) == ("train", 0.41, "step 123"), "the step, from its last words"
    assert busy["facts"]["losses"] == {"train": 0.0312} and busy["facts"]["seconds_left"] == 35.2
    assert rows["ddpm"]["told"] == "FID test 118.0, 1.420 bits/dim"
    assert rows["flow"]["told"] == "RuntimeError: the loss is not finite"
    assert rows["next"]["budget"] == {"seconds": 60} and rows["next"]["holder"]["pid"] == os.getpid()
    assert contents(out) == before


def test_status_fits_a_terminal(genbench, everything, monkeypatch):
    out, pid, _ = everything
    whole = genbench("status", out).out.splitlines()
    assert any(f"0:35 left, process {pid} on " in line for line in whole), "where nobody reads a terminal"
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True, raising=False)
    monkeypatch.setattr(shutil, "get_terminal_size", lambda *_: os.terminal_size((80, 24)))
    lines = genbench("status", out).out.splitlines()
    assert max(map(len, lines)) <= 80
    (busy,) = [line for line in lines if line.startswith("running")]
    assert busy.endswith("train 41% loss 0.0312, 5,310/s, 0:35 left")
    assert lines[-1].startswith("1 done, 1 diverged, 1 interrupted, 1 running (") and str(pid) in lines[-1]


def test_a_failed_run_that_is_queued_again_waits(genbench, tmp_path):
    out = tmp_path / "runs"
    job = begun(out, "again")
    run_folder.end(job, make_record("again", status="failed").model_copy(update={"job": job.stamp()}))
    os.utime(job.folder / "record.json", (1, 1))
    assert genbench("status", out, "--json").json["counts"] == {"failed": 1}
    with queued(out, [job]):
        (row,) = genbench("status", out, "--json").json["runs"]
    assert (row["state"], row["told"]) == ("waiting", "20 steps of training, failed before")


def test_what_cannot_be_read_is_told_with_its_exit_code(genbench, everything):
    out, _, left = everything
    (left.folder / "job.json").write_text("{}")
    result = genbench("status", out, "--json")
    assert result.code == 3 and result.json["counts"]["unreadable"] == 1 and result.json["counts"]["running"] == 1
    assert str(left.folder) in json.loads(result.err)["error"]["message"]
    assert genbench("status", "nowhere").code == 2


def test_news_that_are_half_written_are_none(tmp_path):
    for text in ("", '{"stage": "tra', '{"facts": {"step": "x"}}', '{"facts": {"step": NaN}}', "[]"):
        (tmp_path / progress.NEWS).write_text(text)
        assert progress.latest_news(tmp_path) == {}


def test_a_process_leaves_its_news_until_it_has_ended(tmp_path):
    progress.watch(tmp_path, None)
    progress.report("train", 0.5, "step 1,000", {"step": 1000, "losses": {"train": 1.5}})
    progress.report("train", 0.6, "", {})
    told = progress.latest_news(tmp_path)
    assert (told["stage"], told["share"], told["text"]) == ("train", 0.6, ""), (
        "a shorter one leaves no rest of a longer"
    )
    progress.unwatch()
    assert progress.latest_news(tmp_path) == {} and not list(tmp_path.iterdir())


# Locks and queues


def test_asking_for_the_holder_takes_no_lock_and_loses_none(tmp_path):
    assert holder(tmp_path) is None and not list(tmp_path.iterdir())
    ask = "import sys; from pathlib import Path; from genbench.support.lock import *; print(holder(Path(sys.argv[1])))"
    with locked(tmp_path):
        assert holder(tmp_path).pid == os.getpid()
        told = subprocess.run([sys.executable, "-c", ask, tmp_path], capture_output=True, text=True).stdout
        assert f"pid={os.getpid()}," in told, "this process has asked for it, and still has it"
    assert holder(tmp_path) is None


def test_a_queue_lasts_as_long_as_it_says_something(tmp_path):
    first, second = (toy_job(tmp_path, seed=seed) for seed in (0, 1))
    with queued(tmp_path, [first, second]):
        (queue,) = queues(tmp_path)
        assert [job["id"] for job in queue.jobs] == [first.id, second.id] and queue.holder.pid == os.getpid()
    assert not list(tmp_path.iterdir())
    with pytest.raises(KeyboardInterrupt), queued(tmp_path, [first]):
        raise KeyboardInterrupt
    assert [queue.holder for queue in queues(tmp_path)] == [None]
    with queued(tmp_path, [second]):
        assert len(queues(tmp_path)) == 2, "the first job is still nobody's"
    with queued(tmp_path, [first, second]):
        assert len(queues(tmp_path)) == 1


def test_a_finished_command_leaves_no_queue(finished_runs):
    assert not list(finished_runs.glob(f"{QUEUE}*"))


# Tables and pages


def test_runs_under_way_are_rows_and_pages_without_values(genbench, everything):
    out, *_ = everything
    text = genbench("table", out)
    assert text.code == 0 and "0/1 running" in text.out and "0/1 interrupted" in text.out
    assert "no run of busy has finished yet" in text.out and "1 interrupted, 1 running" in text.err
    rows = {row["name"]: row for row in genbench("table", out, "--format", "json").json["tables"][0]["rows"]}
    assert {name: row["status"] for name, row in rows.items()} == {
        "ddpm": None, "flow": None, "busy": "running", "left": "interrupted"
    }  # fmt: skip
    assert rows["busy"]["statuses"] == {"running": 1}
    assert {cell["status"] for cell in rows["busy"]["cells"].values()} == {"running"}
    head, *lines = genbench("table", out, "--format", "csv").out.splitlines()
    assert "status" in head.split(",") and [line for line in lines if ",busy," in line and line.endswith(",running")]
    assert genbench("report", out, "-o", "pages").code == 0
    pages = {page.stem.partition("-")[0]: page.read_text() for page in Path("pages/runs").glob("*.html")}
    assert "learning-curves.svg" in pages["busy"] and "learning-curves.svg" in pages["left"]
    assert "Interrupted: the same command goes on" in pages["left"]
    assert "2 under way" in Path("pages/index.html").read_text()


def test_where_nothing_has_ended_there_is_a_table_of_what_runs(genbench, tmp_path):
    job = begun(tmp_path / "runs", "first")
    assert genbench("table", "runs").out.splitlines()[0].startswith("mnist5k (4,000 train, 1,000 test images")
    assert genbench("report", "runs", "-o", "pages").code == 0
    assert "It has no learning curve yet" in next(Path("pages/runs").glob("first-*")).read_text()
    with pytest.raises(BadInput, match="its run is interrupted"):
        record_files.load_one(job.folder)
    assert genbench("sample", job.folder).code == 2 and genbench("compare", job.folder, job.folder).code == 2


def test_a_run_under_way_is_no_rival_and_its_model_is_not_yet_ranked_first():
    def of(label, seed, status):
        done = make_record(label, seed, fid=20.0)
        return done.model_copy(update={"status": status, "measurements": [], "protocols": {}})

    def ranks(*records):
        (table,) = make_tables(records)
        (column,) = [column for column in table.columns if column.metric == "fid_test"]
        return {row.name: row.cells[column.key].rank for row in table.rows}

    whole = make_record("vae", fid=10.0)
    assert ranks(whole, of("gan", 0, "failed")) == {"vae": 1, "gan": None}
    assert ranks(whole, of("gan", 0, "running")) == {"vae": None, "gan": None}
    assert ranks(whole, make_record("gan", fid=5.0), of("gan", 1, "running")) == {"vae": 1, "gan": 2}


def test_no_file_holds_a_run_under_way(tmp_path):
    for status in UNDER_WAY:
        text = make_record().to_json().replace('"complete"', f'"{status}"', 1)
        with pytest.raises(CorruptData, match=r"status: .*has ended"):
            Record.from_json(text, tmp_path / "record.json")


# A folder that moves while it is read


def test_a_record_that_is_set_aside_while_it_is_read_is_a_run_under_way(tmp_path, monkeypatch):
    out = tmp_path / "runs"
    job = begun(out, "again")
    run_folder.end(job, make_record("again").model_copy(update={"job": job.stamp()}))
    look = record_files.runs_at

    def late(path):
        found = look(path)
        run_folder.begin(job, STAMP)
        return found

    monkeypatch.setattr(record_files, "runs_at", late)
    found = record_files.find_records([out])
    assert not found.records and not found.corrupt and [row.status for row in found.under_way] == ["interrupted"]


def test_files_of_a_job_that_began_again_are_no_damage_and_others_are(genbench, tmp_path):
    out = tmp_path / "runs"
    job = begun(out, "again", 3)
    done = make_record("again").model_copy(update={"job": job.stamp(), "files": run_folder.file_digests(job.folder)})
    run_folder.end(job, done)
    (record,) = record_files.find_records([out]).records
    (job.folder / "progress.jsonl").write_text("{}\n")
    with pytest.raises(CorruptData):
        run_folder.read_progress(record)
    run_folder.begin(job, STAMP)
    assert run_folder.read_progress(record) == [] and record_files.begun_again(record)
    assert genbench("report", out, "-o", "pages").code == 0


def test_a_failed_record_is_set_aside_too_and_its_attempt_is_not_forgotten(tmp_path):
    job = begun(tmp_path, "again")
    run_folder.end(job, make_record("again", status="failed"))
    assert state_of(job.folder) == "ended"
    run_folder.begin(job, STAMP)
    assert state_of(job.folder) == "interrupted" and run_folder.last_record(job.folder).status == "failed"
    assert [attempt["status"] for attempt in run_folder.earlier_attempts(job.folder)] == ["failed"]
    run_folder.end(job, make_record("again"))
    assert not list(job.folder.glob("attempt.json")) and state_of(job.folder) == "ended"


# The terminal


def test_a_pace_follows_from_the_last_reports():
    pace = Pace()
    assert pace.facts("train", 0.0, "", {"seconds": 1.0, "images": 8}) == {"seconds": 1.0, "images": 8}
    told = pace.facts("train", 0.1, "", {"seconds": 3.0, "images": 108})
    assert told["images_per_second"] == 50 and told["seconds_left"] == pytest.approx(18.0)
    for i in range(1, SEEN + 1):  # twice as fast from here on: what was long ago no longer counts
        told = pace.facts("train", 0.1 + i / 50, "", {"seconds": 3.0 + i / 5, "images": 108 + 20 * i})
    assert told["images_per_second"] == pytest.approx(100) and told["seconds_left"] == pytest.approx(58 / 10)
    assert "seconds_left" not in pace.facts("train", 1.0, "", {"seconds": 9.0})


def test_a_pace_begins_with_the_work_and_with_each_part_of_an_evaluation():
    pace = Pace()
    for share, seconds in ((0.0, 0.0), (0.0, 100.0)):  # getting ready
        pace.facts("sample", share, "", {"seconds": seconds})
    assert pace.facts("sample", 0.5, "", {"seconds": 110.0})["seconds_left"] == pytest.approx(10.0)
    assert "seconds_left" not in pace.facts("evaluate", 0.5, "one", {"seconds": 120.0})
    assert pace.facts("evaluate", 0.75, "one", {"seconds": 130.0})["seconds_left"] == pytest.approx(10.0)
    assert "seconds_left" not in pace.facts("evaluate", 0.9, "two", {"seconds": 131.0})


def test_the_words_fit_and_tell_the_time_that_is_left_first():
    facts = {"losses": {"critic": 1.573, "generator": -0.457}, "images_per_second": 1215.7, "seconds_left": 3723.4}
    assert words_of("step 9", facts) == "step 9, loss critic 1.57, generator -0.457, 1,216 images/s, 1:02:03 left"
    assert words_of("step 9", facts, 40) == "loss 1.57, -0.457, 1,216/s, 1:02:03 left"
    assert words_of("step 9", facts, 12) == "1:02:03 left"
    assert words_of("training the local classifier of mnist5k", {"seconds_left": 9.0}, 24) == "training the…, 0:09 left"
    assert (clock(0), clock(59.6), clock(3599.4)) == ("0:00", "1:00", "59:59")
    assert columns_of(80) == (20, 38) and sum(columns_of(80)) + 13 + 3 + 6 == 80


def test_all_jobs_take_at_least_what_their_budgets_say(tmp_path):
    jobs = [toy_job(tmp_path, seed=seed, budget="60s") for seed in range(3)]
    shared = toy_job(tmp_path, label="other", seed=2, budget="60s")
    (jobs[1].folder / "checkpoint").mkdir(parents=True)
    ahead = Ahead([*jobs, shared, toy_job(tmp_path, seed=9)], 2)
    assert ahead.seconds == 60, "one has trained, one shares, one has no budget in seconds, and two run at a time"
    ahead.hear(jobs[0], "train", {"seconds_left": 20.0})
    ahead.hear(jobs[2], "end", {})
    assert ahead.seconds == 20
    ahead.hear(jobs[0], "evaluate", {})
    assert ahead.seconds == 0 == Ahead(jobs, 0).seconds


def test_a_log_tells_the_pace_once_it_is_known(tmp_path, capsys):
    job = toy_job(tmp_path)
    facts = {"losses": {"train": 0.5}, "images_per_second": 100.0, "seconds_left": 30.0}
    with JobProgress(1) as shown:
        for share, known in ((0.0, {}), (0.1, facts), (0.2, facts)):
            shown.update(job, "train", share, "step 1", known)
        shown.update(job, "end", 1.0, "failed", {})
    assert capsys.readouterr().err.splitlines() == [
        f"{job.id}: train 0% step 1", f"{job.id}: train 10% step 1, loss 0.5, 100 images/s, 0:30 left",
        f"{job.id}: failed (1/1)",
    ]  # fmt: skip


# Killed while it is read

KILLER = """
import importlib, os, random, signal, sys, time
from pathlib import Path
sys.path.insert(0, "tools")
import soak
from genbench.planning.plan import make_jobs
from genbench.records.queue import queued
from genbench.records.job import Runtime
from genbench.running.run import is_done, run_job
from genbench.support import progress
from genbench.support.processes import PRELOADED

out, cache, chance, seconds = Path(sys.argv[1]), Path(sys.argv[2]), random.Random(0), float(sys.argv[3])
soak.Soak.undisturbed = lambda self: ({}, 0.0)
killer = soak.Soak(cache, ["gaussian", "vae"], "jobs", print)
killer.experiment = killer.experiment.model_copy(update={"seeds": tuple(range(40)), "curve": 0})
planned = killer.jobs(out)
for name in PRELOADED:
    importlib.import_module(name)

def live(most=None):
    signal.signal(signal.SIGTERM, lambda *_: progress.request_stop())
    jobs = [job for job in planned if not is_done(job)][:most]
    with queued(out, jobs):
        for job in jobs:
            run_job(job, killer.data, killer.plugins, watched=True)

if not (pid := os.fork()):
    live(2)
    os._exit(0)
os.waitpid(pid, 0)
print("ready", flush=True)
kills, end = 0, time.monotonic() + seconds
while time.monotonic() < end:
    pid = os.fork()
    if not pid:
        sys.stderr = open(os.devnull, "w")
        try:
            live()
        finally:
            os._exit(0)
    time.sleep(chance.uniform(0.05, chance.choice((0.3, 1.0, 4.0))))
    if chance.random() < 0.3:  # leaves a cancelled run, which is then begun again
        os.kill(pid, signal.SIGTERM)
        time.sleep(chance.uniform(0.0, 0.2))
    os.kill(pid, signal.SIGKILL)
    kills += os.WIFSIGNALED(os.waitpid(pid, 0)[1])
print(kills, flush=True)
"""


@pytest.mark.slow
def test_looking_at_runs_that_are_killed_never_fails(genbench, tmp_path):
    out = tmp_path / "runs"
    words = [sys.executable, "-c", KILLER, out, tmp_path / "cache", "15"]
    with subprocess.Popen(words, cwd=ROOT, stdout=subprocess.PIPE, text=True) as killer:
        assert killer.stdout.readline() == "ready\n"
        while not list(out.glob("*/job.json")):
            time.sleep(0.01)
        looks = [("status", out), ("status", out, "--json"), ("table", out), ("table", out, "--format", "json")]
        seen, counted = Counter(), 0
        while killer.poll() is None:
            for look in [*looks, *looks, ("report", out, "-o", "pages")]:
                result = genbench(*look)
                assert result.code == 0 and "error[" not in result.err and "Traceback" not in result.err, result
                counted += 1
                if look[-1] == "--json":
                    seen.update(result.json["counts"].keys())
        kills = int(killer.stdout.read().split()[-1])
    print(f"{kills} kills, {counted} looks, {dict(seen)}")
    assert kills > 5 and {"done", "interrupted"} <= seen.keys() and {"running", "waiting"} & seen.keys()
