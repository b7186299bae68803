"""Conditions of another kind than the class: a plugin's images with a vector each, and a model that paints by it."""

import copy
import json

import numpy as np
import pytest
import torch
from toys import Toy, toy_job

from genbench import Batch, Condition, ConditionSpec, DataSpec, Model
from genbench.data.condition_plan import ConditionPlan, conditions_of
from genbench.data.dataset import Part
from genbench.data.entries import known_datasets
from genbench.data.folders import data_root
from genbench.data.preparation import prepare, stand_in
from genbench.planning.shadow import build
from genbench.records.record import JobStamp
from genbench.records.samples import Samples, StoredSamples, write_samples
from genbench.running.defaults import load_plugins

PLUGIN = '''
import math

import numpy as np
import torch
from torch import nn

from genbench import ConditionSpec, Model, hookimpl
from genbench.data.source import Source, Split
from genbench.images import to_uint8


class Levels(Source):
    """Images of one level, each with a vector whose first number is that level in [-1, 1)."""

    def conditions(self):
        return (ConditionSpec("vector", (2,)),)

    def splits(self, place):
        return self.split(0, 60), self.split(1, 40)

    def split(self, seed, count):
        vectors = np.random.default_rng(seed).uniform(-0.9, 0.9, (count, 2)).astype(np.float32)
        images = to_uint8(torch.from_numpy(vectors[:, :1, None, None])).expand(-1, *self.shape).numpy()
        return Split(count, ((image, -1) for image in images), {"vector": {"vector": vectors}})

    def state(self, place):
        return []


class Painter(Model):
    """Paints the level of its vector; refuses images of one level that is not their vector's.

    Images of several levels are none of the dataset's: its mass is tried on them.
    """

    name = "painter"
    conditions = ("vector",)

    def __init__(self, data, config):
        super().__init__(data, config)
        self.of_vector = nn.Linear(*data.condition.shape, 1)

    def check(self, images, condition):
        if images.flatten(1).std(1).max() < 0.02:
            assert torch.allclose(images.mean((1, 2, 3)), condition["vector"][:, 0], atol=0.02)

    def loss(self, phase, batch):
        assert batch.labels is None
        self.check(batch.images, batch.condition)
        return (self.of_vector(batch.condition["vector"]) - batch.images.mean((1, 2, 3))[:, None]).square().mean()

    def log_prob(self, images, condition=None):
        self.check(images, condition)
        return torch.full((len(images),), -self.data.dims * math.log(2))

    def sample(self, n, condition=None):
        assert len(condition) == n
        return condition["vector"][:, :1, None, None].expand(n, *self.data.shape)

    def forward_chain(self, images, count):
        return torch.arange(2), images.expand(2, *images.shape)

    def reverse_chain(self, n, count, condition=None):
        return torch.tensor([1, 0]), self.sample(n, condition).expand(2, n, *self.data.shape)

    def interpolate(self, first, second, weights, condition=None):
        self.check(first, condition)
        return first.expand(len(weights), *first.shape)


@hookimpl
def register_models(register):
    register(Painter)


@hookimpl
def register_sources(register):
    register("levels", Levels)


@hookimpl
def register_datasets(register):
    register("levels", {"source": "levels", "shape": [1, 8, 8], "extractors": ["digits-classifier-v1"]})
'''
WORDS = ("--plugin", "mine.py", "-d", "levels", "--budget", "10steps", "--samples", "50", "--likelihood-images", "20",
         "--device", "cpu")  # fmt: skip
SPEC = ConditionSpec("vector", (2,))


# The nouns


def test_a_condition_is_sliced_and_moved_as_a_whole():
    whole = Condition({"tokens": torch.arange(6).reshape(3, 2), "real": torch.ones(3, 2, dtype=torch.bool)})
    part = whole[1:].to("meta")
    assert len(whole) == 3 and len(part) == 2
    assert part["tokens"].device.type == part["real"].device.type == "meta"
    assert whole[1:]["tokens"].tolist() == [[2, 3], [4, 5]]


def test_a_condition_has_one_length():
    with pytest.raises(ValueError, match="one length"):
        Condition({"tokens": torch.zeros(3), "real": torch.zeros(2)})


def test_constructors_of_version_1_mean_what_they_meant():
    assert DataSpec("d", (1, 8, 8)).kind is None and DataSpec("d", (1, 8, 8), 3).kind == "class"
    assert DataSpec("d", (1, 8, 8), 0, SPEC).kind == "vector"
    images, labels = torch.zeros(4, 1, 8, 8), torch.arange(4)
    assert Batch(images).given is None and Batch(images, labels).given is labels
    condition = Condition({"vector": torch.zeros(4, 2)})
    assert Batch.of(images, condition).given is condition and Batch.of(images, labels).labels is labels
    assert (
        Batch(images, labels)[1:].labels.tolist() == [1, 2, 3] and len(Batch.of(images, condition)[:1].condition) == 1
    )
    assert Batch(images)[:2].given is None and Batch(images, progress=0.5)[:2].progress == 0.5


def test_conditional_means_that_the_class_is_among_a_models_kinds():
    class Old(Toy):
        conditional = True

    class New(Toy):
        conditions = ("class", "vector")

    class Both(New):
        conditional = True

    assert (Toy.kinds(), Old.kinds(), New.kinds()) == ((), ("class",), ("class", "vector"))
    assert Both.kinds() == New.kinds()


# Plans


def test_every_test_condition_comes_once_before_any_comes_again(digits):
    plan = ConditionPlan.of(digits, "vector", len(digits.test) + 5)
    once, again = plan.numbers[: len(digits.test)], plan.numbers[len(digits.test) :]
    assert sorted(once) == list(range(len(digits.test))) and list(again) == list(once[:5])
    assert (ConditionPlan.of(digits, "vector", 7).numbers == once[:7]).all() and list(once) != sorted(once)


def test_classes_come_in_the_proportions_of_the_training_labels(digits):
    numbers = ConditionPlan.of(digits, "class", 500).numbers
    shares = np.bincount(digits.train.labels) / len(digits.train)
    assert numbers.dtype == np.int64 and (np.abs(np.bincount(numbers) - 500 * shares) < 1).all()
    assert ConditionPlan.of(digits, None, 500).given(0, 3, "cpu") is None


def test_pairs_share_their_condition_where_any_do():
    labels = np.array([0, 1, 0, 1, 2])
    part = Part(np.zeros((5, 1, 8, 8), np.uint8), labels)
    assert labels[conditions_of("class").pairs(part, np.arange(5))].tolist() == [[0, 0], [1, 1]]
    assert conditions_of(None).pairs(part, np.arange(5)).tolist() == [[0, 1], [2, 3]]


@pytest.mark.parametrize(("spec", "dtype"), [(SPEC, torch.float32), (ConditionSpec("map", (4, 4), 3), torch.int64)])
def test_an_example_has_the_shape_that_the_spec_says(spec, dtype):
    example = conditions_of(spec.kind).example(DataSpec("d", (1, 8, 8), 0, spec), 5, "cpu")
    assert example[spec.kind].shape == (5, *spec.shape) and example[spec.kind].dtype == dtype


# Identity


def test_what_is_stored_of_a_class_is_what_version_1_stored(tmp_path):
    """Job files, records and samples.json of earlier runs stay what they are, byte for byte."""
    for job in (toy_job(tmp_path), toy_job(tmp_path, conditional=True)):
        assert "condition" not in job.model_dump(mode="json") and "condition" not in job.identity
        assert "condition" not in job.stamp().model_dump(mode="json")
    samples = Samples(np.zeros((3, 1, 8, 8), np.uint8), np.arange(3))
    write_samples(tmp_path, samples, StoredSamples(key="k"))
    about = json.loads((tmp_path / "samples.json").read_text())
    assert about["labels_sha256"] and "conditions_sha256" not in about and not (tmp_path / "conditions.npy").exists()


def test_another_condition_is_another_job_and_another_block(tmp_path):
    jobs = [toy_job(tmp_path, conditional=True)]
    jobs += [toy_job(tmp_path, conditional=True, condition=ConditionSpec("vector", (n,))) for n in (2, 3)]
    jobs += [toy_job(tmp_path, conditional=True, condition=ConditionSpec("text", (2,), 9, "clip"))]
    assert len({job.id for job in jobs}) == len({job.samples_key for job in jobs}) == 4
    assert "-vector-seed0" in jobs[1].id and "-cond-seed0" in jobs[0].id
    blocks = [job.stamp().block for job in jobs]
    assert blocks == ["Conditional", "Conditional on vector", "Conditional on vector", "Conditional on text by clip"]
    back = JobStamp.model_validate(json.loads(jobs[1].stamp().model_dump_json()))
    assert back.condition == ConditionSpec("vector", (2,)) and back.kind == "vector"


def test_samples_remember_what_they_were_drawn_under():
    samples, numbers = Samples(np.zeros((3, 1, 8, 8), np.uint8)), np.arange(3)
    assert samples.numbers is None and samples.under(None, None).numbers is None
    assert samples.under("class", numbers).labels is numbers and samples.under("class", numbers).conditions is None
    other = samples.under("vector", numbers)
    assert other.conditions is other.numbers is numbers and other.labels is None


def test_a_model_of_another_condition_is_built_from_its_spec():
    class Of(Toy):
        def __init__(self, data: DataSpec, config: Model.Config) -> None:
            super().__init__(data, config)
            self.embed = torch.nn.Linear(*data.condition.shape, 1)

    assert build(Of, DataSpec("d", (1, 8, 8), 0, SPEC), Of.Config()).embed.in_features == 2


# From a plugin's images to stored samples, through the command line


@pytest.fixture
def painted(genbench, tmp_path, monkeypatch):
    """The command line in a folder with the plugin, and a cache of the test's own."""
    monkeypatch.setenv("GENBENCH_CACHE", str(tmp_path / "cache"))
    (tmp_path / "mine.py").write_text(PLUGIN)
    return genbench


def test_a_second_kind_goes_from_a_source_to_stored_samples(painted, tmp_path):
    result = painted("run", *WORDS, "-m", "painter", "--condition", "vector", "--json")
    assert result.code == 0, result.err
    (run,) = (tmp_path / "runs").glob("painter-levels-vector-*")
    record = json.loads((run / "record.json").read_text())
    assert record["status"] == "complete" and "vector" in record["job"]["id"]
    assert record["job"]["condition"] == {"kind": "vector", "shape": [2], "size": 0, "encoder": ""}
    assert (record["samples"]["labels"], record["samples"]["conditions"]) == (
        "none",
        "test conditions in a seeded order",
    )
    samples, places = np.load(run / "samples.npy"), np.load(run / "conditions.npy")
    (test,) = (tmp_path / "cache" / "datasets").glob("levels-*/test_images.npy")
    assert (samples == np.load(test)[places]).all() and not (run / "labels.npy").exists()
    assert set(json.loads((run / "pictures.json").read_text())["columns"]) == {
        "neighbours", "forward", "reverse", "between"
    }  # fmt: skip
    assert {m["metric"] for m in record["measurements"] if m["value"] is not None} >= {
        "bits_per_dim_test", "kid_test"
    }  # fmt: skip
    again = painted("run", *WORDS, "-m", "painter", "--condition", "vector", "--json")
    assert again.code == 0 and painted("verify", "runs").code == 0
    np.save(run / "conditions.npy", places + 100)
    verdict = painted("verify", "runs")
    assert verdict.code == 3 and "conditions.npy: not 50 places from 40" in verdict.out


def test_a_model_that_does_not_take_the_kind_is_refused(painted):
    result = painted("plan", *WORDS, "-m", "gan", "--condition", "vector")
    told = "model 'gan' takes class and hole and image; the condition asked for is vector"
    assert result.code == 2 and told in result.err


def test_a_kind_that_the_images_lack_is_refused(painted):
    result = painted("plan", *WORDS, "-m", "painter", "--condition", "text")
    assert result.code == 2 and "dataset 'levels' has no conditions of kind 'text'" in result.err
    result = painted("plan", *WORDS, "-m", "painter", "--condition", "colour")
    assert result.code == 2 and "condition: Input should be 'class', 'text'" in result.err and "colour" in result.err


def test_condition_class_is_conditional(genbench):
    words = ("plan", "-m", "vae", "-m", "gaussian", "-d", "digits", "--budget", "5steps", "--samples", "50", "--json")
    plans = [genbench(*words, *more).json for more in (("--conditional",), ("--condition", "class"))]
    measured = ("estimate", "outlay", "schedule")  # in part, here and now
    one, other = ([{k: v for k, v in row.items() if k not in measured} for row in plan] for plan in plans)
    assert one == other and "-cond-" in json.dumps(one)


@pytest.mark.parametrize(
    ("old", "new", "told"),
    [
        ('{"vector": {"vector": vectors}}', "{}", "conditions of kind none"),
        ('{"vector": {"vector": vectors}}', '{"vector": {"other": vectors}}', "without 'vector'"),
        ('{"vector": {"vector": vectors}}', '{"vector": {"vector": vectors[:-1]}}', "numbers of shape (60, 2)"),
        ('{"vector": {"vector": vectors}}', '{"vector": {"vector": vectors.astype(str)}}', "<U"),
    ],
)
def test_conditions_that_are_not_what_the_source_declares_are_refused(painted, tmp_path, old, new, told):
    (tmp_path / "mine.py").write_text(PLUGIN.replace(old, new))
    result = painted("plan", *WORDS, "-m", "painter", "--condition", "vector")
    assert result.code == 2 and told in result.err and "levels" in result.err


def test_further_samples_of_another_kind_are_refused(painted, tmp_path):
    assert painted("run", *WORDS, "-m", "painter", "--condition", "vector", "--json").code == 0
    (run,) = (tmp_path / "runs").glob("painter-*")
    result = painted("sample", run, "--plugin", "mine.py")
    assert result.code == 2 and "a run with conditions of kind 'vector' cannot draw further samples" in result.err


def prepared(file, text):
    """The plugin's dataset."""
    file.write_text(text)
    entry = known_datasets((), load_plugins([str(file)]))["levels"]
    return prepare(entry, data_root(None), offline=True)


def test_the_digest_of_a_dataset_covers_its_conditions(tmp_path, monkeypatch):
    monkeypatch.setenv("GENBENCH_CACHE", str(tmp_path / "cache"))
    plain = prepared(tmp_path / "one.py", PLUGIN)
    other = prepared(tmp_path / "two.py", PLUGIN.replace("return Split(", "vectors[:, 1] += 1; return Split("))
    assert (plain.train.images == other.train.images).all() and plain.digest != other.digest


def test_another_process_maps_the_conditions_too(tmp_path, monkeypatch):
    monkeypatch.setenv("GENBENCH_CACHE", str(tmp_path / "cache"))
    data = prepared(tmp_path / "one.py", PLUGIN)
    copied = copy.deepcopy(data)
    for one, other in ((data.train, copied.train), (data.test, copied.test)):
        assert (one.conditions["vector"]["vector"] == other.conditions["vector"]["vector"]).all()
        assert isinstance(other.conditions["vector"]["vector"], np.memmap)
    assert data.spec("vector") == DataSpec("levels", (1, 8, 8), 0, SPEC) and data.spec(None).kind is None


def test_a_dataset_that_is_absent_has_its_conditions_in_a_plan(tmp_path):
    (tmp_path / "one.py").write_text(PLUGIN)
    entry = known_datasets((), load_plugins([str(tmp_path / "one.py")]))["levels"]
    assert stand_in(entry).spec("vector").condition == SPEC and entry.source.kinds() == ("vector",)
