"""`genbench doctor`: where weights, encoders and classifiers are, and what the caches hold."""

import numpy as np
import pytest

from genbench.commands import doctor
from genbench.evaluate import classifier_training, weights
from genbench.evaluate.extractors import extractor, known_extractors
from genbench.evaluate.weights import pinned
from genbench.records.job import Runtime
from genbench.support.errors import EnvironmentProblem


@pytest.fixture
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("GENBENCH_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def states(genbench):
    return {row["what"]: row for row in genbench("doctor", "--json").json}


def test_every_extractor_is_there_or_says_what_it_lacks(genbench, cache, tmp_path, monkeypatch):
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "hub"))
    monkeypatch.setattr(weights, "_installed", lambda about: None)
    rows = states(genbench)
    assert {f"extractor {row['name']}" for row in known_extractors()} <= rows.keys()
    assert rows["extractor digits-classifier-v1"]["ready"]
    inception, photographs = rows["extractor inception-v3-compat"], rows["extractor efficientnet-lite0"]
    assert not inception["ready"] and inception["needs_network"] and "downloaded" in inception["state"]
    assert inception["path"] == str(tmp_path / "hub" / "hub" / "checkpoints" / pinned()["inception-v3-compat"]["file"])
    assert not photographs["ready"] and not photographs["needs_network"] and "[photographs]" in photographs["state"]
    own = tmp_path / "mine"
    own.mkdir()
    (own / pinned()["inception-v3-compat"]["file"]).write_bytes(b"")
    monkeypatch.setenv("GENBENCH_WEIGHTS", str(own))
    there = states(genbench)["extractor inception-v3-compat"]
    assert there["ready"] and there["path"].startswith(str(own)) and str(own) in there["state"]
    assert "inception-v3-compat" in states(genbench)["offline"]["state"]


def test_weights_without_their_code_are_not_ready(genbench, cache, tmp_path, monkeypatch):
    name = "dinov2-vit-s-14"
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "hub"))
    monkeypatch.setenv("GENBENCH_WEIGHTS", str(tmp_path))
    (tmp_path / pinned()[name]["file"]).write_bytes(b"")
    row = states(genbench)[f"extractor {name}"]
    assert not row["ready"] and "code of DINOv2" in row["state"]


def test_classifiers_and_sizes_of_the_cache_are_told(genbench, digits, cache, monkeypatch):
    monkeypatch.setattr(classifier_training, "UPDATES", 3)
    assert states(genbench)["cached classifiers"]["bytes"] == 0
    extractor("local-classifier", digits, Runtime(cache=cache))
    (cache / "datasets" / "mine-0123456789abcdef").mkdir(parents=True)
    np.save(cache / "datasets" / "mine-0123456789abcdef" / "train_images.npy", np.zeros(1000, np.uint8))
    rows = states(genbench)
    own = rows["classifier digits"]
    assert own["digest"] == digits.digest and own["bytes"] > 10_000 and 0 <= own["test_accuracy"] <= 1
    assert "10 classes" in own["state"] and own["date"] in own["state"]
    assert rows["cached classifiers"]["count"] == 1 and rows["cached classifiers"]["bytes"] == own["bytes"]
    assert rows["cached datasets"]["bytes"] == 1128 and rows["cached datasets"]["state"].endswith("MiB: mine")
    next(cache.rglob("classifier.safetensors")).write_bytes(b"rotten")
    assert "SHA-256" in next(row["state"] for row in doctor.classifier_rows())


def test_people_read_it_at_80_columns(genbench, cache, monkeypatch, tmp_path):
    monkeypatch.setenv("GENBENCH_WEIGHTS", str(tmp_path / ("long" * 40)))
    text = genbench("doctor").out
    assert max(map(len, text.splitlines())) <= 80
    assert "GiB free" in text and "feature extractors\n" in text and "plugins\n" in text


def test_a_closed_cache_is_told(genbench, monkeypatch):
    def closed():
        raise EnvironmentProblem("no home folder", "set GENBENCH_CACHE")

    monkeypatch.setattr(doctor, "cache_root", closed)
    result = genbench("doctor")
    assert result.code == 0 and "no home folder" in result.out and "cached" not in result.out
