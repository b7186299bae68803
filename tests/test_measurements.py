"""All fidelity measurements of one set of samples: which there are, on how many images, under which protocol."""

import json

import numpy as np
import pytest
from records_factory import make_record
from test_fidelity import normal

from genbench.evaluate import fidelity
from genbench.evaluate.fidelity import fid, fidelity_measurements, inception_score, kid
from genbench.metrics.features import Features
from genbench.metrics.frechet import fid_infinity
from genbench.metrics.memorisation import memorised_share
from genbench.records.protocol import EvaluationSettings
from genbench.records.record import Measurement, Record, fingerprint


def features(n, d=6, seed=0, classes=10, **more):
    logits = normal(n, classes, seed + 1000, 4.0) if classes else None
    return Features(normal(n, d, seed, **more), logits)


def measure(generated=None, train=None, test=None, **change):
    found = fidelity_measurements(
        generated or features(200),
        train or features(700, seed=1),
        test or features(300, seed=2, mean=0.1),
        EvaluationSettings(**{"kid_subsets": 5, **change}),
        lambda own: {**own, "extractor": {"name": "toy"}},
    )
    return {m.metric: m for m in found}


NEIGHBOURS = ["precision", "recall", "density", "coverage", "two_sample"]
TEST = ["fid_test", "kid_test", "fid_test_infinity"]
CLASSES = ["class_coverage", "class_tv"]
NAMES = ["inception_score", *TEST, "fid_train", "kid_train", *NEIGHBOURS, *CLASSES, "memorised_share"]


def test_measurements_are_all_there_and_equal_the_functions():
    generated, train, test = features(200), features(700, seed=1), features(300, seed=2, mean=0.1)
    found = measure(generated, train, test)
    assert list(found) == NAMES and {m.status for m in found.values()} == {"ok"}
    assert {name for name, m in found.items() if m.better == "higher"} == {
        "inception_score",
        "class_coverage",
        *NEIGHBOURS,
    }
    assert found["fid_test"].value == fid(generated.features, test.features).value
    assert found["fid_train"].value == fid(generated.features, train.features).value
    assert found["kid_test"].value == kid(generated.features, test.features, subsets=5).value
    assert found["inception_score"].value == inception_score(generated.logits).value
    shares = memorised_share(generated.features, train.features, test.features)
    assert found["memorised_share"].value == shares.value
    assert found["fid_test_infinity"].value == fid_infinity(generated.features, test.features).value
    for m in found.values():
        assert m.stderr is not None and m.interval[0] <= m.value <= m.interval[1], m.metric
    assert all(m.count == 200 for m in found.values())
    for m in found.values():
        assert m.protocol == fingerprint(m.settings) and m.settings["extractor"] == {"name": "toy"}
        json.dumps(m.model_dump(mode="json"), allow_nan=False)
    assert len({m.protocol for m in found.values()}) == len(NAMES)


def test_a_reference_that_is_not_given_is_left_out():
    generated, test = features(200), features(300, seed=2)
    found = fidelity_measurements(generated, None, test, EvaluationSettings(), dict)
    assert [m.metric for m in found] == ["inception_score", *TEST, *NEIGHBOURS, *CLASSES]
    found = fidelity_measurements(generated, test, None, EvaluationSettings(), dict)
    assert [m.metric for m in found] == ["inception_score", "fid_train", "kid_train"]
    found = fidelity_measurements(generated, test, None, EvaluationSettings(), dict, held_out=features(80, seed=3))
    assert [m.metric for m in found] == ["inception_score", "fid_train", "kid_train", "memorised_share"]
    assert found[-1].settings["held_out_images"] == 80


def test_precision_and_recall_use_equally_many_images_chosen_by_the_seed():
    few, many = features(150), features(600, seed=2)
    for generated, test in ((few, many), (many, few)):
        found = measure(generated, None, test)
        assert found["precision"].count == found["precision"].settings["reference_images"] == 150
    values = {measure(few, None, many, seed=seed)["recall"].value for seed in range(8)}
    assert len(values) > 1 and measure(few, None, many) == measure(few, None, many)


def test_the_train_reference_is_bounded_by_a_seeded_choice():
    train = features(700, seed=1)
    indices = fidelity.chosen(700, 400, 2020, "train reference")
    assert len(set(indices.tolist())) == 400 and (np.diff(indices) > 0).all()
    found = measure(None, train, max_train_reference=400)
    assert found["fid_train"].settings["reference_images"] == 400
    assert found["fid_train"].value == fid(features(200).features, train.features[indices]).value


def test_an_extractor_without_classes_has_no_inception_score():
    score = measure(features(200, classes=0))["inception_score"]
    assert score.value is None and score.status == "not_applicable" and score.note


def test_too_few_images_are_a_status_and_never_a_number():
    few = features(6), features(50, seed=1), features(50, seed=2)
    found = measure(*few)
    assert {name for name, m in found.items() if m.status == "not_enough_samples"} == {
        "inception_score",
        "fid_test",
        "fid_test_infinity",
        "fid_train",
    }
    allowed = measure(*few, allow_rank_deficient=True)
    assert allowed["fid_test"].status == "ok" and "rank-deficient" in allowed["fid_test"].note


@pytest.mark.parametrize(
    ("change", "moved"),
    [
        ({"k": 5}, set(NEIGHBOURS)),
        ({"isc_splits": 5}, {"inception_score"}),
        ({"kid_subsets": 7}, {"kid_test", "kid_train"}),
        ({"allow_rank_deficient": True}, {"fid_test", "fid_train"}),
        ({"max_train_reference": 500}, {"fid_train", "kid_train", "memorised_share"}),
        ({"error_splits": 7}, {"fid_test", "fid_train", "fid_test_infinity", *NEIGHBOURS}),
        ({"seed": 1}, set(NAMES)),
        ({"likelihood_images": 77}, set()),
    ],
)
def test_a_setting_changes_the_protocols_of_the_numbers_it_stands_behind(change, moved):
    before, after = measure(), measure(**change)
    assert {name for name in NAMES if before[name].protocol != after[name].protocol} == moved


def test_every_protocol_names_what_the_number_depends_on():
    before, bigger = measure(), measure(features(201), features(701, seed=1), features(301, seed=2))
    assert {"samples", "reference_images", "split", "versions", "extractor"} <= set(before["fid_test"].settings)
    assert all(before[name].protocol != bigger[name].protocol for name in NAMES)


def test_settings_refuse_what_cannot_be():
    for wrong in ({"k": 0}, {"error_splits": 1}, {"isc_splits": 0}, {"seed": -1}, {"kk": 3}):
        with pytest.raises(ValueError):
            EvaluationSettings(**wrong)


@pytest.mark.parametrize(
    ("wrong", "meant"), [("std_err", "stderr"), ("vale", "value"), ("setting", "settings"), ("devation", "deviation")]
)
def test_a_misspelt_field_is_refused_when_a_measurement_is_made(wrong, meant):
    with pytest.raises(ValueError, match=f"no field '{wrong}': did you mean '{meant}'"):
        Measurement(metric="a", value=1.0, better="lower", **{wrong: 0.1})


def test_a_record_of_a_newer_version_keeps_what_this_one_does_not_know(tmp_path):
    record = make_record("vae")
    plain = json.loads(record.to_json())
    plain["measurements"][0]["of_the_future"] = 7
    again = Record.from_json(json.dumps(plain), tmp_path / "record.json")
    assert again.measurements[0].model_extra == {"of_the_future": 7}
    assert json.loads(again.to_json())["measurements"][0]["of_the_future"] == 7
