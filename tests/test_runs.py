"""genbench from Python: what `load` reads, that `run` is the command, and that neither surprises its caller."""

import ast
import inspect
import json
import shutil
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest
from finished import record_of
from records_factory import make_record, with_curve, write_runs

import genbench as package
from genbench.cli.main import cli
from genbench.runs import KEYWORDS, OF_A_TERMINAL, Runs, _words

DOCS = Path(__file__).parent.parent / "docs"
NOTEBOOK = json.loads((DOCS / "notebook.ipynb").read_text())
CELLS = [cell for cell in NOTEBOOK["cells"] if cell["cell_type"] == "code"]
SMALL = {"datasets": "digits", "budget": "20steps", "samples": 100, "likelihood_images": 20, "device": "cpu"}


@pytest.fixture(scope="module")
def loaded(prepared):
    return package.load(prepared / "runs")


# Reading


def test_every_number_of_a_record_is_a_row_with_all_that_it_depends_on(loaded):
    frame = loaded.measurements
    for record in loaded:
        own = frame[frame["run"] == record.job.id]
        assert own["value"].dropna().tolist() == [m.value for m in record.measurements if m.value is not None]
    (row,) = frame[(frame["model"] == "gaussian") & (frame["metric"] == "fid_test")].to_dict("records")
    assert row["low"] < row["value"] < row["high"] and row["stderr"] > 0 and row["count"] == 100
    told = {
        "split": "test",
        "budget": 5,
        "budget_unit": "steps",
        "block": "Unconditional",
        "better": "lower",
        "seed": 0,
    }
    assert {name: row[name] for name in told} == told
    config = record_of(next(record.folder for record in loaded if record.job.model == "gaussian"))["job"]["config"]
    assert {name: row[f"option.{name}"] for name in config} == config
    splits = frame.drop_duplicates("metric").set_index("metric")["split"]
    assert [splits[name] for name in ("bits_per_dim_train", "kid_test", "inception_score")] == ["train", "test", "none"]
    assert frame[frame["reference"]]["budget"].isna().all()
    tuned = [r.model_copy(update={"dataset": r.dataset.model_copy(update={"tuning": True})}) for r in loaded]
    assert set(Runs(tuned).measurements["split"]) == {"train", "tuning", "none"}


def test_columns_keep_their_kinds_whatever_is_missing(loaded):
    frame = loaded.measurements
    assert loaded.costs["train_joules"].dtype == loaded.table("cost")["classifier_device_seconds"].dtype == "float64"
    assert set(frame["folder"]) == {str(record.folder) for record in loaded}
    batch = frame["option.batch_size"].dropna()
    assert pd.api.types.is_integer_dtype(batch) and pd.api.types.is_bool_dtype(frame["option.flip"].dropna())


def test_a_training_is_one_frame_of_losses_and_of_what_was_scored_on_the_way(tmp_path):
    runs = Runs(write_runs([make_record("gan"), with_curve("ddpm")], tmp_path))
    frame = runs.curves
    losses = frame[frame["metric"] == "loss"]
    assert set(losses["phase"]) >= {"generator", "critic"} and losses["images"].notna().all()
    scored = frame[frame["share"].notna() & frame["value"].notna()]
    points = next(record for record in runs if record.curve).curve
    assert scored["share"].drop_duplicates().tolist() == [point.share for point in points]
    assert "fid_test" in set(scored["metric"]) and scored["flops"].notna().all()


def test_a_table_has_the_numbers_that_the_command_prints(loaded, genbench, prepared, tmp_path):
    (tmp_path / "t.csv").write_text(genbench("table", prepared / "runs", "--layout", "full", "--format", "csv").out)
    printed, frame = pd.read_csv(tmp_path / "t.csv"), loaded.table("full")
    assert frame["model"].tolist() == printed["model"].tolist() and len(frame.columns) > 20
    for name in set(frame) - {"dataset", "block", "model"}:
        pd.testing.assert_series_equal(frame[name].astype(float), printed[name].astype(float))
    assert any("floor" in note for note in frame.attrs["footnotes"])
    few = loaded.table(columns=["recall", "fid_test"])
    assert [name for name in few if "." not in name][-2:] == [
        f"{name}:digits-classifier-v1" for name in ("recall", "fid_test")
    ]
    with pytest.raises(package.BadInput, match="recal"):
        loaded.table(columns="recal")


def test_a_figure_is_that_of_the_report_and_leaves_pyplot_alone(loaded):
    import matplotlib.pyplot as plt

    figure = loaded.plot("fid-training")
    assert figure.axes[0].get_xlabel() == "training, device-seconds"
    assert figure._repr_png_().startswith(b"\x89PNG") and plt.get_fignums() == []
    assert len(loaded.plot("samples").axes) == 4
    with pytest.raises(package.BadInput, match="fid-samplin") as fault:
        loaded.plot("fid-samplin")
    assert "did you mean 'fid-sampling'" in fault.value.hint and "cost-by-phase" in fault.value.hint
    with pytest.raises(package.BadInput, match="nothing to draw"):
        loaded.plot("bound-over-time")
    with pytest.raises(package.BadInput, match="qualty"):
        loaded.table("qualty")


def test_runs_are_a_sequence_that_says_what_it_is(loaded, prepared):
    assert len(loaded) == 4 == len(list(loaded)) and loaded[0].job.id == next(iter(loaded)).job.id
    assert repr(loaded) == "<4 runs on digits: gaussian, copies, noise, real>"
    page = loaded._repr_html_()
    assert "&lt;4 runs on digits" in page and "<table" in page and "fid_test" in page
    only = loaded.filter(lambda record: record.job.label == "gaussian")
    assert set(only.measurements["label"]) == {"gaussian"}
    none = loaded.filter(lambda record: False)
    assert "value" in none.measurements and len(none.curves) == len(none.table()) == 0 and repr(none) == "<0 runs>"
    assert len(package.load([prepared / "runs" / "real", prepared / "runs" / "noise"])) == 2


def test_what_cannot_be_read_is_left_out_and_told(prepared, tmp_path):
    folder = shutil.copytree(prepared / "runs", tmp_path / "runs")
    file = folder / "noise" / "record.json"
    file.write_text(file.read_text().replace('"complete"', '"failed"', 1))
    (folder / "real" / "record.json").unlink()
    with pytest.warns(RuntimeWarning, match="digest does not match") as told:
        found = package.load(folder)
    assert told[0].filename == __file__ and set(found.corrupt) == {file}
    assert repr(found) == "<3 runs on digits: gaussian, copies, real; 1 interrupted; 1 unreadable>"
    for nothing in ((), (tmp_path / "nowhere",)):
        with pytest.raises(package.BadInput):
            package.load(*nothing)


def test_reading_needs_no_torch(prepared):
    script = (
        "import sys, genbench; runs = genbench.load(sys.argv[1]); runs.measurements, runs.curves, runs.table('cost');"
        "sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", script, prepared / "runs"]).returncode == 0


# Running


def test_every_option_of_the_command_has_its_keyword_and_default():
    """If this fails, an option of `genbench run` is new or has changed: give `genbench.run` the same."""
    command, keywords = cli.commands["run"], inspect.signature(package.run).parameters
    assert set(keywords) == {KEYWORDS.get(p.name, p.name) for p in command.params} - set(OF_A_TERMINAL)
    defaults = {name: parameter.default for name, parameter in keywords.items()}
    assert _words(defaults) == command.make_context("run", []).params


def test_each_keyword_is_the_option_of_its_name():
    words = {
        "suite": "suite.toml", "models": ["gan", "vae"], "datasets": "digits", "datasets_file": "own.toml",
        "settings": {"gan.batch_size": 32, "vae.preset": "tiny"}, "sweeps": {"ddpm.steps": [5, 10]},
        "seeds": [7], "out": Path("there"), "conditional": True,
    }  # fmt: skip
    line = [
        "suite.toml", "-m", "gan", "-m", "vae", "-d", "digits", "--datasets", "own.toml", "--seeds", "7,",
        "--set", "gan.batch_size=32", "--set", 'vae.preset="tiny"', "--sweep", "ddpm.steps=5, 10", "--out", "there",
        "--conditional",
    ]  # fmt: skip
    asked = cli.commands["run"].make_context("run", line).params
    assert _words(words) == asked


@pytest.mark.parametrize(
    ("words", "told"),
    [
        ({"jobs": 0}, "--jobs"),
        ({"samples": "many"}, "--samples"),
        ({"suite": "nowhere.toml"}, "nowhere.toml"),
        ({"models": "vaee"}, "'vae'"),
        ({"models": []}, "models: empty"),
        ({"models": "vae", "budget": "5 minutes"}, "180s"),
        ({"models": "vae", "out": "file"}, "file"),
        ({"models": "vae", "report": "file"}, "file"),
        ({"models": "vae", "data_root": "x" * 300}, "too long"),
    ],
    ids=lambda value: str(value)[:30],
)
def test_a_mistake_is_the_exception_of_the_command(words, told, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("file").touch()
    with pytest.raises(package.BadInput) as fault:
        package.run(**{**SMALL, **words})
    assert told in f"{fault.value.message} {fault.value.hint}" and [str(path) for path in Path().iterdir()] == ["file"]


PLUGIN = """
import os, signal, time
from pathlib import Path
import torch
from genbench import Model, hookimpl


class Fails(Model):
    name = "fails"

    def __init__(self, data, config):
        super().__init__(data, config)
        self.weight = torch.nn.Parameter(torch.zeros(1))

    def loss(self, phase, batch):
        raise ValueError("no loss today")

    def sample(self, n, given=None):
        return torch.zeros(n, *self.data.shape)


class Interrupts(Fails):
    name = "interrupts"

    def loss(self, phase, batch):
        if not Path("interrupted").exists():
            Path("interrupted").touch()
            os.kill(int(os.environ["CALLER"]), signal.SIGINT)
        time.sleep(0.05)
        return self.weight.square().sum()


@hookimpl
def register_models(register):
    register(Fails)
    register(Interrupts)
"""
SCRIPT = f"""
import json, os, threading, warnings
import torch
import genbench

print("once")
os.environ["CALLER"] = str(os.getpid())
words = {SMALL!r}
told, before = {{}}, torch.get_rng_state()


def in_a_thread():
    told["runs"] = repr(genbench.run(models="gaussian", **words, report="pages"))


thread = threading.Thread(target=in_a_thread)
thread.start()
thread.join()
assert (torch.get_rng_state() == before).all()
with warnings.catch_warnings(record=True) as caught:
    warnings.simplefilter("always")
    failed = genbench.run(models="fails", plugins="plugin.py", **words, quiet=True)
told["failed"], told["warned"] = repr(failed), [str(each.message) for each in caught]
told["row"] = failed.measurements.query("label == 'fails'")[["run_status", "note"]].values.tolist()
again = lambda: genbench.run(models="interrupts", plugins="plugin.py", **words)
try:
    again()
except KeyboardInterrupt:
    told["stopped"] = genbench.load("runs").costs.set_index("label")["run_status"]["interrupts"]
told["resumed"] = again().costs.set_index("label")["steps"]["interrupts"]
print(json.dumps(told))
"""


@pytest.mark.slow
def test_a_script_needs_no_guard_and_gets_the_rows_of_its_call(tmp_path, session_cache):
    (tmp_path / "plugin.py").write_text(PLUGIN)
    (tmp_path / "script.py").write_text(SCRIPT)
    done = subprocess.run([sys.executable, "script.py"], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    once, line = done.stdout.splitlines()
    told = json.loads(line)
    assert once == "once" and told["runs"] == "<4 runs on digits: gaussian, real, noise, copies>"
    assert (tmp_path / "pages" / "index.html").exists() and "report: " in done.stderr
    assert told["failed"] == "<4 runs on digits: fails, real, noise, copies; 1 failed>"
    ((status, note),) = told["row"]
    assert status == "failed" and "no loss today" in note and any("no loss today" in text for text in told["warned"])
    assert "gaussian-digits" in done.stderr and "fails" not in done.stderr  # the second call is quiet
    assert told["stopped"] == "cancelled" and told["resumed"] == 20 and "the same call resumes" in done.stderr


# The notebook


def test_the_notebook_shows_what_it_says_and_names_no_machine():
    assert all(
        cell["outputs"] and cell["execution_count"] for cell in CELLS if not "".join(cell["source"]).startswith("#")
    )
    outputs = [output for cell in CELLS for output in cell["outputs"]]
    assert {output["output_type"] for output in outputs} == {"execute_result"}
    assert sum("image/png" in output["data"] for output in outputs) >= 3
    text = json.dumps(NOTEBOOK)
    assert not [word for word in ("/tmp", "/home", "/root", "/work", "/usr") if word in text]
    for cell in CELLS:
        ast.parse("".join(cell["source"]))


@pytest.mark.slow
def test_the_notebook_runs(tmp_path):
    """In a kernel if there is one (extra `docs`), else its cells in order in one namespace."""
    try:
        import ipykernel  # noqa: F401
        import nbclient  # noqa: F401
    except ImportError:
        source = "\n".join("".join(cell["source"]) for cell in CELLS)
        command = [sys.executable, "-"]
    else:
        tools = str(DOCS.parent / "tools")
        source = f"import sys\nsys.path.insert(0, {tools!r})\nimport notebook, pathlib\n"
        source += f"notebook.execute(pathlib.Path({str(DOCS / 'notebook.ipynb')!r}), pathlib.Path.cwd())\n"
        command = [sys.executable, "-"]
    done = subprocess.run(command, input=source, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert len(list(tmp_path.glob("runs/vae-*/record.json"))) == 2
