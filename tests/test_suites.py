"""Suites that ship, found by name; and rows of one suite that are conditioned differently."""

from pathlib import Path

import pytest
from finished import SMALL
from records_factory import CLASSIFIER, make_record, with_errors

from genbench import load, run
from genbench.cli.main import place_of_report
from genbench.commands.suites import spending
from genbench.condition import OF_DATASET
from genbench.planning.config import Experiment, configure, make_experiment
from genbench.planning.session import Request, open_session
from genbench.planning.suites import QUICK, shipped_suites, suite_file
from genbench.records.slots import Slot
from genbench.running.defaults import load_plugins
from genbench.support.errors import BadInput
from genbench.tables.build import make_tables
from genbench.tables.pairs import partner
from genbench.tables.published import published

FID = Slot("fid_test", CLASSIFIER["name"])
each_suite = pytest.mark.parametrize("name", shipped_suites())
BOTH = """
datasets = ["digits"]
[[models]]
name = "vae"
preset = "tiny"
conditional = true
[[models]]
name = "vae"
preset = "tiny"
"""


def planned(suite, *settings, **options):
    """The trained jobs of a suite, a file or a name."""
    session = open_session(Request(Path(suite), options, (), settings, device="cpu"))
    return [job for job in session.jobs if job.is_trained]


@pytest.fixture
def both(tmp_path):
    (tmp_path / "both.toml").write_text(BOTH)
    return tmp_path / "both.toml"


# Suites that ship


@each_suite
def test_a_suite_that_ships_says_what_the_models_know(name):
    suite, plugins = make_experiment(Path(name), {}, [], []), load_plugins()
    assert suite.title and len(suite.models) > 1
    for choice in suite.models:
        model = plugins.model(choice.name)[0]
        configure(model, choice)
        assert choice.preset != "small", "it is the default"
        assert suite.kind_of(choice) in (None, OF_DATASET, *model.kinds())


@pytest.mark.parametrize("name", [pytest.param(s, marks=[pytest.mark.slow] * ("paper" in s)) for s in shipped_suites()])
def test_a_suite_that_ships_can_be_planned(name, session_cache):
    suite = make_experiment(Path(name), {}, [], [])
    options = {"condition": "class"} if suite.condition == OF_DATASET else {}  # all that mnist5k has
    jobs, suite = planned(name, datasets=["mnist5k"], **options), suite.model_copy(update=options)
    assert [(job.label, job.kind) for job in jobs] == [(row.label, suite.kind_of(row)) for row in suite.models]
    assert len({job.id for job in jobs}) == len(jobs)


def test_the_default_is_quick_and_leads():
    assert suite_file(None) == shipped_suites()[QUICK] and next(iter(shipped_suites())) == QUICK


def test_a_file_of_a_suites_name_comes_first_and_a_folder_does_not(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("quick").mkdir()
    assert suite_file(Path("quick")) == shipped_suites()["quick"]
    Path("quick").rmdir()
    Path("quick").write_text("[[models]]\nname = 'gaussian'\n")
    assert [row.name for row in make_experiment(Path("quick"), {}, [], []).models] == ["gaussian"]
    assert len(make_experiment(None, {}, [], []).models) > 1


@pytest.mark.parametrize(("word", "hint"), [("qiuck", "did you mean 'quick'? these ship: quick"), ("x", "these ship")])
def test_an_unknown_name_gets_the_list(genbench, word, hint):
    for command in ("run", "plan", "suites"):
        result = genbench(command, word)
        assert result.code == 2 and f"no suite '{word}' ships" in result.err and hint in result.err


def test_it_is_the_same_from_python():
    with pytest.raises(BadInput, match="no suite 'qiuck' ships"):
        run("qiuck")


def test_the_report_of_a_suite_that_ships_has_its_name(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for suite, models, place in (
        (None, (), "reports/quick"),
        ("table1", (), "reports/table1"),
        ("table1", ("gan",), None),
        ("my.toml", (), None),
    ):
        words = {"suite": suite and Path(suite), "models": models, "out": Path("runs")}
        assert place_of_report(words, None) == (place and Path(place))
        assert place_of_report(words, Path("mine")) == Path("mine")


@pytest.mark.parametrize(
    ("name", "table", "count"),
    [("table1", "ddpm", 16), ("table1-paper", "ddpm", 16), ("table18", "ldm", 19), ("table18-paper", "ldm", 19)],
)
def test_the_rows_of_a_published_table_are_paired_with_its_rows_in_order(name, table, count):
    suite, rows = make_experiment(Path(name), {}, [], []), published(table).table.rows
    records = [make_record(row.label, conditional=suite.kind_of(row) == "class") for row in suite.models]
    assert [partner(record, table) for record in records] == list(rows) and len(rows) == count


@pytest.mark.parametrize("name", ["table18", pytest.param("table18-paper", marks=pytest.mark.slow)])
def test_rows_of_the_cost_table_that_differ_in_sampling_alone_share_a_training(name, session_cache):
    jobs = planned(name, datasets=["mnist5k"])
    trainings = {job.training_key for job in jobs}
    by = {(job.label, job.conditional): job.training_key for job in jobs}
    assert by["ADM", True] == by["ADM-G-25-steps", True] == by["ADM-G-250-steps", True]
    assert by["LDM-8-G", True] == by["LDM-8", True] != by["LDM-8", False]
    assert by["LDM-4", True] == by["LDM-4-G-scale-1.25", True] == by["LDM-4-G-scale-1.5", True]
    assert by["StyleGAN2-LSUN-Churches-256", False] == by["StyleGAN2-FFHQ-256", False]
    assert len(jobs) == 19 and len(trainings) == (11 if name == "table18" else 12)


def test_the_guided_rows_of_the_cost_table_have_a_classifier_in_the_ledger(digits):
    """And those with a first stage have that apart."""
    suite, plugins = make_experiment(Path("table18"), {}, [], []), load_plugins()
    parts = {}
    for choice in suite.models:
        kind = plugins.model(choice.name)[0]
        model = kind(digits.spec(suite.kind_of(choice)), configure(kind, choice))
        parts[choice.label, suite.kind_of(choice)] = {phase.part for phase in model.phases()}
    assert "classifier" in parts["ADM-G-250-steps", "class"] and "classifier" in parts["LDM-8-G", "class"]
    assert {label for (label, _), own in parts.items() if "first stage" in own} == {
        "LDM-8", "LDM-8-G", "LDM-4", "LDM-4-G-scale-1.25", "LDM-4-G-scale-1.5", "LDM-4-LSUN-Bedrooms-256",
        "LDM-4-CelebA-HQ-256", "LDM-4-FFHQ-256",
    }  # fmt: skip
    assert all(own == {"generator"} for (label, _), own in parts.items() if label.startswith(("VQGAN", "BigGAN")))


def test_the_list_of_suites_says_what_each_runs(genbench):
    rows = {row["name"]: row for row in genbench("suites", "--json").json}
    assert list(rows) == list(shipped_suites())
    quick = rows["quick"]
    assert (quick["rows"], quick["trainings"], quick["training_seconds"], quick["budget"]) == (
        6,
        6,
        360,
        {"seconds": 60},
    )
    assert (quick["later_seconds"], quick["datasets"]) == (None, ["mnist5k"])
    text = genbench("suites").out
    assert "6 rows on mnist5k, 60 seconds each" in text
    assert "6 min of training; sampling and scoring: not known, no earlier run in runs" in text


def test_a_suites_file_is_shown_to_copy_and_change(genbench):
    assert genbench("suites", "quick").out == shipped_suites()["quick"].read_text()
    assert "--json" in genbench("suites", "quick", "--json").json["error"]["message"]


def test_times_are_those_of_earlier_runs_and_a_shared_training_counts_once(prepared, tmp_path):
    def known(models, out, budget="5steps"):
        words = {"models": models, "datasets": ["digits"], "budget": budget, "samples": 100}
        found = spending(Experiment.model_validate(words), load_plugins(), out)
        return found["trainings"], found["training_seconds"], found["later_seconds"], found["later_rows"]

    gaussian = {"name": "gaussian"}
    (record,) = [record for record in load(prepared / "made") if record.job.model == "gaussian"]
    cost = record.cost
    seconds = (cost.train.seconds, cost.sample.seconds + cost.evaluate.seconds)
    assert known([gaussian], prepared / "made") == (1, *map(pytest.approx, seconds), 1)
    assert known([gaussian], tmp_path) == (1, None, None, 0)
    assert known([gaussian, {"name": "vae"}], prepared / "made", "7s") == (2, 14, pytest.approx(seconds[1]), 1)
    steps = [{"name": "ddpm", "label": f"d{n}", "config": {"steps": n}} for n in (5, 10)]
    assert known(steps, tmp_path, "7s") == (1, 7, None, 0)


# Rows that are conditioned differently


def test_a_row_says_what_it_conditions_on_and_else_the_suite_does(both):
    jobs = planned(both)
    assert [(job.row, job.conditional) for job in jobs] == [("vae (class)", True), ("vae", False)]
    both.write_text("conditional = true\n" + BOTH + "conditional = false\n")
    assert [job.id for job in planned(both)] == [job.id for job in jobs]


def test_its_job_is_that_of_the_command_line(both):
    alone = [
        job
        for kind in ({"conditional": True}, {})
        for job in open_session(
            Request(None, {"datasets": ["digits"], **kind}, ("vae",), ("vae.preset=tiny",), device="cpu")
        ).jobs
        if job.is_trained
    ]
    assert [(job.id, job.samples_key, job.command) for job in planned(both)] == [
        (job.id, job.samples_key, job.command) for job in alone
    ]


def test_set_and_sweep_are_of_all_rows_of_a_label(both):
    assert [job.config["batch_size"] for job in planned(both, "vae.batch_size=9")] == [9, 9]
    swept = make_experiment(both, {}, [], [], ["vae.batch_size=3,5"])
    assert [row.label for row in swept.models] == ["vae-batch_size3", "vae-batch_size5"] * 2


def test_they_are_rows_of_blocks_that_are_ranked_apart():
    fids = {("EBM", True): 9.0, ("JEM", True): 8.0, ("EBM", False): 7.0, ("NCSN", False): 6.0}
    records = [make_record(label, fid=fid, conditional=kind) for (label, kind), fid in fids.items()]
    (table,) = make_tables([with_errors(record) for record in records], "quality")
    ranks = {(row.label, row.conditional): row.cells[FID].rank for row in table.rows if row.kind == "model"}
    assert ranks == {("JEM", True): 1, ("EBM", True): 2, ("NCSN", False): 1, ("EBM", False): 2}


@pytest.mark.slow
def test_they_run_together_and_once(genbench, both, tmp_path):
    words = ("run", both.name, "--out", "runs", "--budget", "2steps", *SMALL[2:])
    assert genbench(*words).code == 0
    found = {(record.job.label, record.job.block) for record in load(tmp_path / "runs")}
    assert {("vae", "Conditional"), ("vae", "Unconditional")} <= found
    again = genbench(*words)
    assert again.code == 0 and "train" not in again.err


def test_what_is_wrong_in_two_rows_of_one_label_is_said_once():
    with pytest.raises(BadInput) as caught:
        open_session(Request(Path("table1"), {"datasets": ["digits"]}, (), ("EBM.preset=nosuch",)))
    assert str(caught.value).count("nosuch") == 1


def test_the_suite_of_conditions_takes_what_each_dataset_is_made_for(session_cache):
    jobs = planned("conditions", datasets=["calibration-hole", "calibration-4x", "scenes16", "maps"])
    kinds = {job.dataset: job.kind for job in jobs}
    assert kinds == {"calibration-hole": "hole", "calibration-4x": "image", "scenes16": "text", "maps": "map"}
    assert len(jobs) == 12


def test_own_is_refused_where_a_dataset_is_made_for_nothing(genbench):
    result = genbench("plan", "-m", "ddpm", "-d", "digits", "--condition", "own")
    assert result.code == 2 and "dataset 'digits' has nothing to condition on but the class" in result.err
