"""Accuracy of models that classify: known answers, what is refused, and its place in records and tables."""

import math

import numpy as np
import pytest
import torch
from finished import record_of, run_of
from plugin_sources import plugin_source
from records_factory import make_record
from toys import Toy, toy_job

from genbench.evaluate.classification import classification_measurements
from genbench.metrics import metric_named
from genbench.metrics.accuracy import accuracy
from genbench.records.job import Runtime
from genbench.records.record import Measurement
from genbench.records.slots import Slot
from genbench.support.errors import BadInput, Diverged
from genbench.tables.build import make_tables


def test_accuracy_by_hand():
    """Right, wrong, right, and a tie, of which the first class counts."""
    logits = np.array([[2.0, 1.0, 0.0], [0.0, 3.0, 1.0], [-2.0, -3.0, -1.0], [1.0, 1.0, 0.0]])
    found = accuracy(logits, np.array([0, 2, 2, 1]))
    assert found.value == 0.5
    assert found.stderr == pytest.approx(math.sqrt(0.5 * 0.5 / 4))
    assert found.interval == pytest.approx((0.0676, 0.9324), abs=1e-4)  # Clopper and Pearson, 2 of 4


def test_a_classifier_that_is_right_more_often_scores_higher():
    labels = np.arange(300) % 10
    sure = 5 * np.eye(10)[labels]
    values = [
        accuracy(sure + noise * np.random.default_rng(0).normal(size=(300, 10)), labels).value for noise in (0, 5)
    ]
    assert values[0] == 1.0 and 0.1 < values[1] < 1.0
    assert metric_named("accuracy").better == "higher"


def test_no_images_have_no_accuracy():
    assert accuracy(np.zeros((0, 3)), np.zeros(0, np.int64)).status == "not_enough_samples"


class Knows(Toy):
    """Tells an image by looking it up among the test images; says class 0 of the first `wrong` of them."""

    conditional = True
    wrong = 0

    def classify(self, images):
        levels = ((images + 1) * 128).to(torch.uint8).flatten(1)
        places = (levels[:, None] == self.known.flatten(1)).all(2).float().argmax(1)
        told = torch.where(places < self.wrong, (self.labels[places] + 1) % 10, self.labels[places])
        return torch.nn.functional.one_hot(told, 10).float()


def measured(kind, data, tmp_path, **changes):
    runtime = Runtime(out=tmp_path, cache=tmp_path / "cache")
    job = toy_job(tmp_path, kind, dataset_digest=data.digest, runtime=runtime, conditional=True, **changes)
    model = kind(data.spec(job.kind), kind.Config()).eval()
    model.known, model.labels = torch.from_numpy(data.test.images.copy()), torch.from_numpy(data.test.labels.copy())
    return classification_measurements(job, model, data)


@pytest.mark.parametrize("wrong", [0, 30])
def test_it_is_over_all_test_images_in_their_order(digits, tmp_path, monkeypatch, wrong):
    monkeypatch.setattr(Knows, "wrong", wrong)
    (found,) = measured(Knows, digits, tmp_path)
    count = len(digits.test)
    assert (found.metric, found.count, found.better) == ("accuracy", count, "higher")
    assert found.value == pytest.approx(1 - wrong / count)
    assert found.settings["split"] == "test" and found.settings["family"] == "classification"


@pytest.mark.parametrize(
    ("wrong", "raised", "words"),
    [
        (lambda self, x: torch.zeros(len(x), 9), BadInput, r"floats of shape \(250, 10\)"),
        (lambda self, x: torch.zeros(len(x), 10, dtype=torch.int64), BadInput, "floats of shape"),
        (lambda self, x: torch.full((len(x), 10), math.nan), Diverged, "not finite"),
    ],
)
def test_what_are_no_logits_is_refused(digits, tmp_path, monkeypatch, wrong, raised, words):
    monkeypatch.setattr(Knows, "classify", wrong)
    with pytest.raises(raised, match=words):
        measured(Knows, digits, tmp_path)


def test_there_is_none_without_classes_or_without_the_method(digits, tmp_path):
    job = toy_job(tmp_path, Knows)
    assert classification_measurements(job, Knows(digits.spec(None), Knows.Config()), digits) == []
    assert measured(Toy, digits, tmp_path) == []


JOINT = """
class Joint(Model):
    name = "joint"
    conditional = True
    def __init__(self, data, config):
        super().__init__(data, config)
        self.classes = nn.Linear(data.dims, max(1, data.num_classes))
    def classify(self, images):
        return self.classes(images.flatten(1))
    def loss(self, phase, batch):
        return nn.functional.cross_entropy(self.classify(batch.images), batch.labels)
    def sample(self, n, labels=None):
        return torch.rand(n, *self.data.shape) * 2 - 1
"""


@pytest.mark.slow
def test_a_run_records_it(genbench, tmp_path):
    (file := tmp_path / "joint.py").write_text(plugin_source(JOINT))
    options = [
        "-d",
        "digits",
        "--budget",
        "60steps",
        "--samples",
        "100",
        "--device",
        "cpu",
        "--conditional",
        "--set",
        "joint.learning_rate=0.03",
    ]
    done = genbench("run", "--plugin", file, "-m", "joint", *options)
    assert done.code == 0, done.err
    record = record_of(run_of(tmp_path / "runs", "joint"))
    (found,) = [m for m in record["measurements"] if m["metric"] == "accuracy"]
    assert found["value"] > 0.6 and found["interval"][0] < found["value"] < found["interval"][1]
    assert "classifier" in record["capabilities"]
    assert genbench("verify", "runs").code == 0


def test_the_full_table_has_its_column():
    joint = make_record("joint")
    right = Measurement(metric="accuracy", value=0.98, better="higher", settings={"family": "classification"})
    joint = joint.model_copy(update={"measurements": [*joint.measurements, right]})
    vae = make_record("vae").model_copy(update={"capabilities": ["likelihood"]})
    (table,) = make_tables([joint, vae], "full")
    cells = {row.label: row.cells[Slot("accuracy")] for row in table.rows}
    assert cells["joint"].value == 0.98 and cells["vae"].note == "the model has no classifier"
