"""Shared fixtures: a cache of the session's own, one thread, no network, and the command line in this process."""

import json
import os
import shutil
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest
from finished import SMALL, run_here, run_of

collect_ignore = ["third_party"]  # packages of their own, which tests/test_third_party.py installs

os.environ["OMP_NUM_THREADS"] = "1"


@dataclass
class Result:
    """What a command left: exit code, stdout, stderr."""

    code: int
    out: str
    err: str

    @property
    def json(self):
        return json.loads(self.out, parse_constant=refuse)


def refuse(constant):
    raise AssertionError(f"{constant} is not strict JSON")


@pytest.fixture(scope="session", autouse=True)
def session_cache(tmp_path_factory):
    """Nothing of the user's cache is read or written."""
    import torch

    torch.set_num_threads(1)
    shared = Path(tmp_path_factory.getbasetemp())
    root = shared.parent if "PYTEST_XDIST_WORKER" in os.environ else shared
    os.environ["GENBENCH_CACHE"] = str(root / "cache")
    os.environ.pop("GENBENCH_WEIGHTS", None)


@pytest.fixture
def genbench(capfd, monkeypatch, tmp_path):
    """Run `genbench ARGUMENTS` in a folder of the test's own."""
    from genbench.cli.main import main

    monkeypatch.chdir(tmp_path)

    def run(*arguments) -> Result:
        monkeypatch.setattr(sys, "argv", ["genbench", *map(str, arguments)])
        capfd.readouterr()
        with pytest.raises(SystemExit) as stop:
            main()
        out, err = capfd.readouterr()
        return Result(stop.value.code, out, err)

    return run


@pytest.fixture(scope="session")
def digits(session_cache):
    """The prepared 8x8 digits."""
    from genbench.data.entries import known_datasets
    from genbench.data.folders import data_root
    from genbench.data.preparation import prepare

    return prepare(known_datasets()["digits"], data_root(None), offline=True)


@pytest.fixture(scope="session")
def gaussian_plugin(tmp_path_factory):
    """The worked example as a file outside the project, under another name."""
    source = Path(__file__).parent.parent / "plugins" / "genbench_gaussian" / "__init__.py"
    file = tmp_path_factory.mktemp("outside") / "my_model.py"
    file.write_text(source.read_text().replace('name = "gaussian"', 'name = "mine"'))
    return file


@pytest.fixture(scope="session")
def finished_runs(tmp_path_factory, gaussian_plugin):
    """A run folder with a model of a plugin that is gone, and the reference rows."""
    folder = tmp_path_factory.mktemp("made")
    plugin = shutil.copy(gaussian_plugin, folder / gaussian_plugin.name)
    run_here("run", "--plugin", plugin, "-m", "mine", *SMALL, "--out", folder / "runs")
    plugin.unlink()
    return folder / "runs"


@pytest.fixture(scope="session")
def prepared(tmp_path_factory, session_cache):
    """A cache with the digits, and finished runs of them: `model`, `real` and `noise`."""
    from genbench.planning.session import Request, open_session
    from genbench.running.defaults import load_plugins
    from genbench.running.run import run_job

    folder = tmp_path_factory.mktemp("prepared")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("GENBENCH_CACHE", str(folder / "cache"))
        patch.setenv("GENBENCH_DATA", str(folder / "data"))
        options = {"datasets": ["digits"], "budget": "5steps", "samples": 100, "likelihood_images": 10}
        session = open_session(Request(None, options, ("gaussian",), (), device="cpu", out=folder / "made"))
        for job in session.jobs:
            run_job(job, session.datasets["digits"], load_plugins())
            name = {"gaussian": "model"}.get(job.model, job.model)
            shutil.copytree(job.folder, folder / "runs" / name)
    return folder


@pytest.fixture
def runs(finished_runs, tmp_path):
    """A copy of the runs, to change."""
    return shutil.copytree(finished_runs, tmp_path / "runs")


@pytest.fixture
def samples(runs, tmp_path):
    """The run's own samples, as a file made elsewhere would be."""
    return shutil.copy(run_of(runs, "mine") / "samples.npy", tmp_path / "theirs.npy")


@pytest.fixture
def quick_classifier(monkeypatch):
    """A local classifier that is soon trained."""
    from genbench.evaluate import classifier_training

    monkeypatch.setattr(classifier_training, "UPDATES", 20)


@pytest.fixture(scope="session")
def few_scenes(tmp_path_factory):
    """A datasets file with a few scenes and maps, whose classifiers are trained in seconds."""
    file = tmp_path_factory.mktemp("few") / "few.toml"
    few = "shape = [3, 16, 16]\ntrain_images = 400\ntest_images = 200\n"
    file.write_text(f'[few]\nsource = "scenes"\n{few}\n[fewmaps]\nsource = "maps"\n{few}')
    return file
