"""Data runs nothing, leads nowhere and tells no secrets: pickles, paths, plugins, passwords and the network."""

import json
import os
import pickle
import shutil
import socket
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace

import numpy as np
import pytest
import torch
from finished import record_of, rewrite_sealed
from toys import Toy, toy_job

from genbench.data.entries import known_datasets, make_entry
from genbench.data.preparation import prepare
from genbench.metering.meter import Meter
from genbench.records import checkpoint
from genbench.records.record_files import load_records
from genbench.running.run import Run, attempt, failure
from genbench.support import digests, store
from genbench.support.errors import BadInput, CorruptData, EnvironmentProblem
from genbench.support.lock import locked
from genbench.support.paths import inside
from genbench.support.text import impersonal, redacted

ROOT = Path(__file__).parent.parent


class Planted:
    """What leaves a file `planted` in the working folder when it is unpickled."""

    def __reduce__(self):
        return Path("planted").touch, ()


PICKLE = pickle.dumps(Planted())


@pytest.fixture(autouse=True)
def nothing_runs(tmp_path, monkeypatch):
    """Whatever a test reads, nothing that was planted has run at its end."""
    monkeypatch.chdir(tmp_path)
    yield
    assert not (tmp_path / "planted").exists()


@pytest.fixture
def runs(prepared, tmp_path):
    """Finished runs, to change."""
    return shutil.copytree(prepared / "runs", tmp_path / "runs")


def test_the_planted_pickle_would_run(tmp_path):
    pickle.loads(PICKLE)
    (tmp_path / "planted").unlink()


# Pickles


def vouch(file: Path) -> None:
    """The JSON file beside, or the manifest, says that these bytes are right."""
    rewrite_sealed(file.with_suffix(".json"), lambda about: about.update(sha256=digests.file_digest(file)))


def test_in_checkpoints(tmp_path):
    for text in (PICKLE, torch_file(tmp_path)):
        checkpoint.write(tmp_path / "latest", {"ema": {"a": torch.zeros(2)}}, {})
        (tmp_path / "latest" / "ema.safetensors").write_bytes(text)
        manifest = {"files": {"ema.safetensors": digests.digest(text)}, "state": {}}
        (tmp_path / "latest" / "manifest.json").write_text(json.dumps(manifest))
        with pytest.raises(CorruptData, match="not safetensors"):
            checkpoint.load(tmp_path)


def torch_file(folder: Path) -> bytes:
    torch.save({"ema": Planted()}, folder / "planted.pt")
    return (folder / "planted.pt").read_bytes()


def test_in_the_weights_of_extractors(tmp_path, digits):
    from genbench.evaluate.weights import find_weights

    (tmp_path / "weights.pt").write_bytes(torch_file(tmp_path))
    with pytest.raises(CorruptData, match="SHA-256"):
        find_weights("inception-v3-compat", tmp_path / "weights.pt", offline=True)


def test_in_cached_features_and_classifiers(tmp_path, digits):
    from genbench.evaluate import classifier
    from genbench.evaluate.extractor import Extractor
    from genbench.evaluate.features import reference_features

    own = Extractor("own", lambda images: (images.float().flatten(1), None), 64, 0, {})
    wanted = reference_features(own, digits, "test", tmp_path)
    (file,) = (tmp_path / "features").glob("*.safetensors")
    file.write_bytes(PICKLE)
    assert torch.equal(reference_features(own, digits, "test", tmp_path).features, wanted.features)
    file.write_bytes(PICKLE)
    vouch(file)
    with pytest.raises(CorruptData, match="not safetensors"):
        reference_features(own, digits, "test", tmp_path)
    classifier.save_classifier(
        tmp_path / "c.json", classifier.Classifier((1, 8, 8), 10, 8, (4, 4)), about="", trained_on="", train_images=1
    )
    (tmp_path / "c.safetensors").write_bytes(PICKLE)
    vouch(tmp_path / "c.safetensors")
    with pytest.raises(CorruptData, match="not safetensors"):
        classifier.load_classifier(tmp_path / "c.json")


def test_in_arrays(tmp_path):
    np.save(tmp_path / "a.npy", np.array([Planted()], dtype=object), allow_pickle=True)
    np.savez(tmp_path / "a.npz", images=np.array([Planted()], dtype=object))
    (tmp_path / "b.npy").write_bytes(PICKLE)
    for name in ("a.npy", "a.npz", "b.npy"):
        table = {"source": "array", "path": name, "shape": [1, 8, 8]}
        with pytest.raises(BadInput, match="pickled objects"):
            prepare(make_entry("mine", table, tmp_path, "x"), tmp_path)
        with pytest.raises(CorruptData):
            store.read_array(tmp_path / name)


def test_in_the_files_of_cifar(tmp_path):
    """They are pickles; torchvision opens them only when they are the published ones."""
    folder = tmp_path / "cifar-10-batches-py"
    folder.mkdir()
    for name in (
        "data_batch_1",
        "data_batch_2",
        "data_batch_3",
        "data_batch_4",
        "data_batch_5",
        "test_batch",
        "batches.meta",
    ):
        (folder / name).write_bytes(PICKLE)
    with pytest.raises(EnvironmentProblem, match="CIFAR10"):
        prepare(known_datasets()["cifar10"], tmp_path, offline=True)


class Database:
    """What LSUN's lmdb is asked for."""

    def __enter__(self):
        return self

    def __exit__(self, *_):
        return False

    def begin(self, write):
        return self

    def stat(self):
        return {"entries": 1}

    def cursor(self):
        return SimpleNamespace(iternext=lambda keys, values: iter([b"key"]))


def test_in_the_keys_of_lsun_that_torchvision_keeps_in_the_working_folder(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "lmdb", ModuleType("lmdb"))
    sys.modules["lmdb"].open = lambda *_, **__: Database()
    arguments = {"classes": ["bedroom_val"]}
    table = {"source": "torchvision", "dataset": "LSUN", "shape": [3, 8, 8], "train": arguments, "test": arguments}
    entry = make_entry("mine", table, tmp_path, "x")
    from genbench.data.source import Place

    assert entry.source.splits(Place(tmp_path, tmp_path, True))[0].count == 1
    assert not list(tmp_path.glob("_cache_*"))
    root = f"{tmp_path}/lsun/bedroom_val_lmdb"
    (tmp_path / f"_cache_{''.join(c for c in root if c.isascii() and c.isalpha())}").write_bytes(PICKLE)
    with pytest.raises(BadInput, match="never read"):
        entry.source.splits(Place(tmp_path, tmp_path, True))


# Code


def test_code_that_a_run_folder_names_is_not_run(genbench, runs, tmp_path):
    job = runs / "model" / "job.json"
    (tmp_path / "evil.py").write_text("from pathlib import Path\nPath('planted').touch()\n")
    rewrite_sealed(job, lambda plain: plain["runtime"].update(plugins=[str(tmp_path / "evil.py")]))
    assert genbench("sample", runs / "model", "-n", "2", "-o", "x.npy").code == 0
    assert genbench("evaluate", runs / "model", "--extractor", "digits-classifier-v1").code == 0
    rewrite_sealed(job, lambda plain: plain.update(model="evil"))
    result = genbench("sample", runs / "model", "-n", "2", "-o", "x.npy")
    assert result.code == 2 and "evil.py" in result.err and "--plugin" in result.err
    for words in (["verify", runs], ["table", runs], ["report", runs, "-o", "pages"]):
        assert genbench(*words).code in (0, 3)


def test_plugins_of_the_working_folder_are_not_loaded(genbench, tmp_path):
    for name in ("genbench_evil.py", "evil.py", "conftest.py", "sitecustomize.py"):
        (tmp_path / name).write_text("from pathlib import Path\nPath('planted').touch()\n")
    assert genbench("plugins").code == 0


# Paths


def outside(runs: Path) -> tuple[Path, Path]:
    """A run, and a file outside of it that is nobody's business."""
    victim = runs.parent / "victim"
    victim.write_text("precious")
    return runs / "model", victim


@pytest.mark.parametrize("name", [".lock", "progress.jsonl", "record.json", "samples.npy", "job.json", "checkpoint"])
def test_a_link_out_of_a_run_is_found_and_never_written_through(genbench, runs, name):
    run, victim = outside(runs)
    link = run / name
    if link.is_dir():
        shutil.rmtree(link)
    link.unlink(missing_ok=True)
    target = victim if name != "checkpoint" else runs.parent
    link.symlink_to(target)
    result = genbench("verify", run)
    assert result.code == 3 and name in result.out
    with pytest.raises(CorruptData, match="out of"), locked(run):
        pass
    assert victim.read_text() == "precious"


@pytest.mark.parametrize("name", ["../../victim", "/etc/hostname", "checkpoint/../../x"])
def test_a_path_out_of_a_run_among_its_files_is_found(genbench, runs, name):
    run, victim = outside(runs)
    plain = record_of(run)
    plain["files"][name] = digests.file_digest(victim)
    plain.pop("digest")
    (run / "record.json").write_text(json.dumps({**plain, "digest": digests.settings_digest(plain)}))
    result = genbench("verify", run)
    assert result.code == 3 and "out of" in result.out


def test_a_link_within_a_run_and_a_linked_run_are_fine(tmp_path):
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "run").symlink_to("elsewhere")
    (tmp_path / "elsewhere" / "a").write_text("x")
    (tmp_path / "elsewhere" / "b").symlink_to("a")
    with locked(tmp_path / "run"):
        assert inside(tmp_path / "run", "b").read_text() == "x"


# Secrets

SECRET = "hf_" + "s3cr3t" * 4


class Telling(Toy):
    """A model that says all it knows when it fails, and whose data came from an address with a password."""

    external_data = ("weights from https://me:hunter22@example.org/w",)

    def sample(self, n, labels=None):
        raise RuntimeError(
            f"no access to https://me:hunter22@example.org with {os.environ['HUB_TOKEN']} in {Path.home()}"
        )


def test_a_record_keeps_no_password_no_token_and_no_home(tmp_path, digits, monkeypatch):
    monkeypatch.setenv("HUB_TOKEN", SECRET)
    monkeypatch.setenv("HOME", "/home/somebody")
    job = toy_job(tmp_path, Telling)
    job.folder.mkdir(parents=True)
    run = Run(job, digits, None, Meter(torch.device("cpu")))  # type: ignore[arg-type]
    run.model = Telling(digits.spec(False), Telling.Config())
    told = failure(attempt(lambda: run.model.sample(1)), run)
    store.write_text(job.folder / "record.json", run.record("failed", told, []).to_json())
    kept = "".join(file.read_text() for file in job.folder.iterdir())
    assert "no access to https://***@example.org with *** in ~" in told.message
    assert load_records([job.folder])[0].external_data == ["weights from https://***@example.org/w"]
    for secret in (SECRET, "hunter22", "/home/somebody"):
        assert secret not in kept


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("https://me:pw@host/x?a=b", "https://***@host/x?a=b"),
        ("git+ssh://git@host/x", "git+ssh://***@host/x"),
        ("me@example.org", "me@example.org"),
        ("https://host/a@b", "https://host/a@b"),
        (f"x{SECRET}y", "x***y"),
    ],
)
def test_what_is_redacted(monkeypatch, text, shown):
    monkeypatch.setenv("HUB_TOKEN", SECRET)
    monkeypatch.setenv("MAX_TOKENS", "example")
    assert redacted(text) == shown and impersonal(f"{Path.home()}/x") == "~/x"


def test_an_error_shows_no_password_and_records_hold_no_environment(genbench, runs, monkeypatch):
    monkeypatch.setenv("HUB_TOKEN", SECRET)
    result = genbench("table", f"{SECRET}/https://me:hunter22@host")
    assert result.code == 2 and SECRET not in result.err and "hunter22" not in result.err
    kept = "".join(file.read_text(errors="replace") for file in runs.rglob("*.json"))
    assert not any(value in kept for name, value in os.environ.items() if len(value) > 30 and "PATH" not in name)


# The network


@pytest.fixture
def attempts(monkeypatch):
    """Every try to reach another machine, each refused."""
    tried = []

    def refuse(*arguments, **_):
        tried.append(arguments)
        raise OSError("no network here")

    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    real = socket.socket.connect
    monkeypatch.setattr(
        socket.socket, "connect",
        lambda own, address: real(own, address) if own.family == socket.AF_UNIX else refuse(address),
    )  # fmt: skip
    return tried


NEEDING = [
    ["plan", "-m", "gaussian", "-d", "cifar10", "--data-root", "nowhere"],
    ["run", "-m", "gaussian", "-d", "svhn", "--data-root", "nowhere"],
    ["run", "-m", "gaussian", "-d", "digits", "--extractor", "vgg16"],
    ["evaluate", "x.npy", "-d", "digits", "--extractor", "inception-v3-compat"],
]


@pytest.mark.parametrize("words", NEEDING, ids=lambda words: " ".join(words[:1]))
def test_offline_means_no_socket(genbench, attempts, tmp_path, monkeypatch, words):
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "hub"))
    np.save(tmp_path / "x.npy", np.zeros((20, 8, 8), np.uint8))
    assert genbench(*words, "--offline").code == 4 and attempts == []
    if words[0] != "plan":
        assert genbench(*words).code == 4 and attempts != [], "the guard would not have seen it"


def test_without_need_no_socket_either(genbench, attempts):
    assert genbench("plan", "-m", "gaussian", "-d", "digits").code == 0
    assert genbench("doctor").code == 0 and attempts == []
