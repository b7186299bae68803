"""The classifier of a dataset's own labels: what it is trained on, what is told of it, and who pays for it."""

import time
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
from finished import record_of, run_of

from genbench.evaluate import classifier_training, local_classifier
from genbench.evaluate.extractors import extractor
from genbench.evaluate.held_out import held_out
from genbench.evaluate.local_classifier import classifier_facts, refusal
from genbench.records.job import Runtime


class Images:
    """As much of a dataset as decides what is held out."""

    def __init__(self, count):
        self.train = range(count)


@pytest.mark.parametrize(("count", "apart"), [(2, 0), (4, 1), (400, 100), (5000, 1000), (9999, 1000), (20000, 2000)])
def test_a_tenth_is_held_out_and_more_of_a_small_set(count, apart):
    found = held_out(Images(count))
    assert len(found) == apart == len(np.unique(found)) and (found == np.sort(found)).all()
    assert (found == held_out(Images(count))).all()
    assert not apart or abs(found.mean() / count - 0.5) < 3 / apart**0.5


def test_it_sees_no_image_that_is_held_out_and_tells_its_accuracy(tmp_path, digits, monkeypatch):
    seen, levels = [], classifier_training.Examples.levels
    monkeypatch.setattr(classifier_training, "UPDATES", 30)
    monkeypatch.setattr(classifier_training.Examples, "levels", lambda own, i: (seen.append(i), levels(own, i))[1])
    monkeypatch.setattr(classifier_training.Best, "consider", keep_the_last)
    own = extractor("local-classifier", digits, Runtime(cache=tmp_path))
    assert not np.isin(np.concatenate(seen), held_out(digits)).any()
    about, facts = own.describe(), own.about
    assert facts["classes"] == 10 and facts["held_out_images"] == len(held_out(digits)) and about["updates"] == 30
    assert facts["train_images"] + facts["held_out_images"] == len(digits.train)
    for split in ("train", "held_out", "test"):
        assert 0.3 < facts[f"{split}_accuracy"] <= 1
    right = own.features(digits.test.images).logits.argmax(1).numpy() == digits.test.labels
    assert facts["test_accuracy"] == pytest.approx(right.mean(), abs=0.005)


def keep_the_last(best, model):
    best.state = {name: tensor.clone() for name, tensor in model.state_dict().items()}


def test_one_that_guesses_is_refused():
    facts = {"classes": 10, "held_out_accuracy": 0.9, "test_accuracy": 0.36}
    said = refusal(facts)
    assert "36%" in said and "chance 10%" in said and "below 37%" in said and "test images" in said
    assert refusal({**facts, "test_accuracy": 0.38}) == ""
    assert refusal({**facts, "test_accuracy": None}) == ""
    assert "held-out images" in refusal({**facts, "test_accuracy": None, "held_out_accuracy": 0.2})
    assert refusal({"classes": 2, "test_accuracy": 0.64}) and not refusal({"classes": 2, "test_accuracy": 0.66})
    assert "no image" in refusal({"classes": 2})
    rare = {"classes": 4, "test_accuracy": 0.97, "most_frequent": 0.97}
    assert "chance 97%" in refusal(rare), "what always names one class has learned nothing"
    assert refusal({**rare, "test_accuracy": 0.99}) == "" and refusal(
        {**rare, "test_accuracy": 1.0, "most_frequent": 1.0}
    )


def test_chance_is_always_naming_the_most_frequent_label_of_the_images_that_are_tried(digits):
    labels = np.array([0] * 97 + [1, 2, 3])
    facts = SimpleNamespace(num_classes=4, model_dump=lambda include: {"test_accuracy": 0.97})
    uneven = replace(digits, test=replace(digits.test, labels=labels))
    assert classifier_facts(facts, uneven) == {"classes": 4, "test_accuracy": 0.97, "most_frequent": 0.97}


def test_its_training_is_planned_announced_and_booked_on_no_model(genbench, runs, tmp_path, monkeypatch):
    monkeypatch.setenv("GENBENCH_CACHE", str(tmp_path / "cache"))  # other tests train it too
    monkeypatch.setattr(classifier_training, "UPDATES", 3)
    monkeypatch.setattr(local_classifier, "ESTIMATED_AFTER_SECONDS", 0.0)
    took, train = [], classifier_training.train_classifier

    def slow(*arguments):
        began = time.perf_counter()
        model = train(*arguments)
        time.sleep(1)
        took.append(time.perf_counter() - began)
        return model

    monkeypatch.setattr(classifier_training, "train_classifier", slow)
    wanted = ("-m", "gaussian", "-d", "digits", "--budget", "5steps", "--extractor", "local-classifier")
    plan = genbench("plan", *wanted)
    assert (
        " ".join(plan.out.split()).count("trains the local classifier first, once: 3 updates on 1,082 images") == 1
    ), plan.out + plan.err
    run = run_of(runs, "mine")
    before, began = record_of(run)["cost"]["evaluate"]["seconds"], time.perf_counter()
    result = genbench("evaluate", run, "--device", "cpu", "--extractor", "local-classifier")
    passed = time.perf_counter() - began
    assert result.code == 0 and len(took) == 1
    assert "training the local classifier of digits, once: about" in result.err
    assert 0 < record_of(run)["cost"]["evaluate"]["seconds"] - before < passed - took[0]
    protocols = [p for p in record_of(run)["protocols"].values() if p.get("extractor", {}).get("local")]
    assert protocols and all(0 <= p["extractor"]["test_accuracy"] <= 1 for p in protocols)
    assert " ".join(genbench("plan", *wanted).out.split()).count("the local classifier is in the cache") == 1
