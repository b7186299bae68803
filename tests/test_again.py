"""The command that a record has: planning makes the same job of it, whatever the job was."""

import json
import shutil
from contextlib import nullcontext
from pathlib import Path

import pytest
from finished import SMALL, run_of
from rights import unprivileged
from test_damage import DAMAGES, follow
from toys import toy_job

from genbench import plots
from genbench.cli.main import make_request, run
from genbench.planning.session import open_session
from genbench.running.defaults import load_plugins
from genbench.running.source import MOST_BYTES, keep_source

KINDS = {
    "nothing but a model": "-m gaussian",
    "options": "-m vae --set vae.batch_size=32 --set vae.learning_rate=1e-5",
    "a preset and an option": "-m ddpm --set ddpm.preset=tiny --set ddpm.sampler=ddim",
    "a list": "-m ddpm --set ddpm.preset=tiny --set ddpm.betas=[0.5,0.9]",
    "a label": "-m gan --set gan.label=gan-2 --set gan.batch_size=16",
    "a label like a number": "-m gan --set gan.label=1e5",
    "conditional": "-m vae --conditional",
    "a curve": "-m vae --curve 3 --compile",
    "a precision": "-m vae --precision fp32 --likelihood-images 50 --allow-rank-deficient",
    "FLOPs": "-m vae --budget 1.25e12flops --samples 90",
    "seconds": "-m vae --budget 2.5s --seeds 3,5",
    "a sweep": "-m ddpm --set ddpm.preset=tiny --sweep ddpm.steps=5,10",
    "on held-out training images": "-m gaussian --tune --samples 100",
    "several": "-m vae -m gaussian --set vae.batch_size=16",
}


def planned(words, monkeypatch):
    """The jobs of a command's words, those of reference rows apart."""
    monkeypatch.setattr("genbench.devices.check_compiler", lambda device: None)
    request = make_request(run.make_context("run", [*words]).params)
    return [job for job in open_session(request).jobs if job.is_trained]


@pytest.mark.parametrize("kind", KINDS)
def test_the_command_of_a_job_makes_this_job_and_no_other(kind, monkeypatch, session_cache):
    words = ["-d", "digits", "--device", "cpu", *KINDS[kind].split()]
    jobs = planned(words if "--budget" in words else [*words, "--budget", "20steps"], monkeypatch)
    assert len({job.id for job in jobs}) == len(jobs) > 0
    for job in jobs:
        assert job.command[:2] == ("genbench", "run")
        (again,) = planned(job.command[2:], monkeypatch)
        assert (again.id, again.samples_key, again.evaluation_key) == (job.id, job.samples_key, job.evaluation_key)
        assert (again.curve, again.config, again.command) == (job.curve, job.config, job.command)


def test_whoever_only_observes_is_no_part_of_the_command(tmp_path, monkeypatch, session_cache):
    hook = "from genbench import hookimpl\n\n\n@hookimpl\ndef {}:\n    {}\n"
    (tmp_path / "watcher.py").write_text(hook.format("job_finished(record)", "print(record)"))
    (tmp_path / "measurer.py").write_text(hook.format("evaluate(samples)", "return []"))
    given = [word for name in ("watcher", "measurer") for word in ("--plugin", f"{tmp_path / name}.py")]
    (job,) = planned(["-m", "gaussian", "-d", "digits", "--budget", "20steps", "--device", "cpu", *given], monkeypatch)
    assert "measurer.py" in job.command and "watcher.py" not in job.command


@pytest.mark.slow
def test_the_source_of_a_model_of_ones_own_is_kept_and_trains_it_again(finished_runs, gaussian_plugin, monkeypatch):
    folder = run_of(finished_runs, "mine")
    kept, record = folder / "source" / gaussian_plugin.name, (folder / "record.json").read_text()
    assert kept.read_bytes() == gaussian_plugin.read_bytes()
    plain = json.loads(record)
    assert plain["code"]["file"] == f"source/{gaussian_plugin.name}" and not plain["code"]["ships"]
    assert plain["code"]["docstring"].startswith("A Gaussian for every pixel")
    assert f"source/{gaussian_plugin.name}" in plain["files"]
    assert plain["command"][-2:] == ["--plugin", gaussian_plugin.name] and str(gaussian_plugin.parent) not in record
    monkeypatch.chdir(kept.parent)
    (again,) = planned(plain["command"][2:], monkeypatch)
    assert again.id == folder.name


def test_source_that_has_changed_is_shown_nowhere(genbench, runs, gaussian_plugin, monkeypatch):
    monkeypatch.setattr(plots, "ALL", {})
    folder = run_of(runs, "mine")
    (folder / "source" / gaussian_plugin.name).write_text("print('not what ran')")
    result = genbench("verify", folder)
    assert result.code == 3 and f"source/{gaussian_plugin.name}" in result.out
    result = genbench("report", runs, "-o", "out", "--single-file")
    assert result.code == 3 and gaussian_plugin.name in result.err
    assert "not what ran" not in Path("out.html").read_text()


@pytest.mark.slow
@pytest.mark.parametrize("damage", DAMAGES)
def test_damaged_source_is_found_and_the_way_out_leads_to_whole_source(genbench, runs, gaussian_plugin, damage):
    folder = run_of(runs, "mine")
    kept = folder / "source" / gaussian_plugin.name
    DAMAGES[damage](kept)
    with unprivileged() if damage == "forbidden" else nullcontext():
        result = genbench("verify", folder)
    assert result.code == 3
    follow(result)
    assert genbench("run", "--plugin", gaussian_plugin, "-m", "mine", *SMALL, "--out", runs).code == 0
    assert kept.read_bytes() == gaussian_plugin.read_bytes() and genbench("verify", folder).code == 0


def test_a_model_that_ships_leaves_no_source_but_where_it_is(prepared):
    folder = prepared / "runs" / "model"
    code = json.loads((folder / "record.json").read_text())["code"]
    assert code["ships"] and (Path(__file__).parent.parent / code["file"]).is_file()
    assert code["docstring"].startswith("A Gaussian for every pixel") and not (folder / "source").exists()


def test_a_package_is_kept_whole_and_one_that_is_too_large_not_at_all(tmp_path, gaussian_plugin):
    package = tmp_path / "my_package"
    package.mkdir()
    (package / "parts.py").write_text("WIDTH = 4\n")
    text = gaussian_plugin.read_text().replace('"mine"', '"packed"')
    (package / "__init__.py").write_text(text.replace("import torch\n", "import torch\n\nfrom . import parts\n", 1))
    plugins = load_plugins([str(package)])
    job = toy_job(tmp_path / "runs", model=plugins.model("packed")[0])
    assert keep_source(job, plugins).file == "source/my_package/__init__.py"
    assert (job.folder / "source" / "my_package" / "parts.py").read_text() == "WIDTH = 4\n"
    shutil.rmtree(job.folder)
    (package / "parts.py").write_text("#" * MOST_BYTES)
    assert keep_source(job, plugins).file == "" and not job.folder.exists()


def test_further_samples_by_other_code_are_marked(genbench, runs, gaussian_plugin, tmp_path):
    words = ["sample", run_of(runs, "mine"), "-n", "2", "-o", "x.npy", "--plugin"]
    assert "has changed" not in genbench(*words, gaussian_plugin).err
    other = tmp_path / gaussian_plugin.name
    other.write_text(gaussian_plugin.read_text().replace("torch.randn(n,", "1.5 * torch.randn(n,", 1))
    result = genbench(*words, other)
    assert result.code == 0 and "the code of 'mine' has changed since" in result.err
