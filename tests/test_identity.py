"""Nothing is reused that belongs to something else: what a number depends on is in its protocol and in every key."""

import os
from dataclasses import replace
from importlib.metadata import version

import numpy as np
import pytest
import torch
from toys import toy_job

from genbench.data.entries import make_entry
from genbench.data.preparation import prepare
from genbench.evaluate import classifier, classifier_training, features
from genbench.evaluate import extractor as extraction
from genbench.evaluate.classifier import load_classifier, save_classifier
from genbench.evaluate.extractor import Extractor
from genbench.evaluate.extractors import extractor, extractor_stamps
from genbench.evaluate.features import reference_features
from genbench.evaluate.local_classifier import local_classifier
from genbench.evaluate.samples import score
from genbench.planning.plan import make_jobs
from genbench.records import checkpoint, protocol
from genbench.records.job import Runtime
from genbench.records.protocol import EvaluationSettings
from genbench.records.task import Context
from genbench.running.defaults import load_plugins
from genbench.running.run import is_done, run_job
from genbench.support import store
from genbench.support.errors import CorruptData

IMAGES = np.random.default_rng(0).integers(0, 256, (60, 8, 8), dtype=np.uint8)
SETTINGS = {"kid_subsets": 3, "isc_splits": 2}


def mine(folder, images=IMAGES, **table):
    """A dataset of the user's own, always of one name."""
    np.save(folder / "images.npy", images)
    table = {"source": "array", "path": "images.npy", "shape": [1, 8, 8], "test_fraction": 0.4, **table}
    return prepare(make_entry("mine", table, folder, "test.toml"), folder, offline=True)


def toy_extractor(**identity):
    def network(levels):
        network.calls += len(levels)
        flat = levels.flatten(1).float()
        return flat[:, :5], flat[:, 5:8]

    network.calls = 0
    own = Extractor("toy", network, 5, 3, {"layer": "pixels", "resize": "none", "weights_sha256": "0", **identity})
    return own, network


def measured(folder, data, own, count=20, **change):
    """Every metric with its protocol, of a set of images under the settings as changed."""
    job = toy_job(folder, evaluation=EvaluationSettings(**{**SETTINGS, **change}), dataset_digest=data.digest)
    images = np.asarray(IMAGES[:count, None])
    references = {split: reference_features(own, data, split, folder / "cache") for split in ("train", "test")}
    return {m.metric: m for m in score(job, data, own, own.features(images), references)}


FIDELITY = {"fid_test", "fid_train", "inception_score", "kid_test", "kid_train", "precision", "recall"}
NEIGHBOURS, SEEDED = {"precision", "recall"}, FIDELITY - {"fid_test", "fid_train"}
CHANGES = {
    "N": ({"count": 30}, FIDELITY),
    "seed": ({"seed": 1}, SEEDED),
    "k": ({"k": 4}, NEIGHBOURS),
    "splits of the score": ({"isc_splits": 4}, {"inception_score"}),
    "subsets": ({"kid_subsets": 4}, {"kid_test", "kid_train"}),
    "reference": ({"max_train_reference": 25}, {"fid_train", "kid_train"}),
}


@pytest.mark.parametrize("name", CHANGES)
def test_a_changed_setting_is_another_protocol(tmp_path, name):
    change, moved = CHANGES[name]
    data, (own, _) = mine(tmp_path), toy_extractor()
    before, after = measured(tmp_path, data, own), measured(tmp_path, data, own, **change)
    assert moved <= {metric for metric in before if before[metric].protocol != after[metric].protocol}


def test_the_subset_size_of_kid_is_in_its_protocol(tmp_path):
    data, (own, _) = mine(tmp_path), toy_extractor()
    few, more = (measured(tmp_path, data, own, count) for count in (8, 12))
    assert [m["kid_test"].settings["subset_size"] for m in (few, more)] == [4, 6]


def test_splits_are_two_protocols_and_two_cached_files(tmp_path):
    data, (own, _) = mine(tmp_path), toy_extractor()
    found = measured(tmp_path, data, own)
    assert found["fid_test"].protocol != found["fid_train"].protocol
    for split, part in (("train", data.train), ("test", data.test)):
        wanted = torch.from_numpy(np.asarray(part.images).reshape(len(part), -1)[:, :5]).double()
        assert torch.equal(reference_features(own, data, split, tmp_path / "cache").features, wanted), split


@pytest.mark.parametrize("key", ["weights_sha256", "layer", "resize"])
def test_another_extractor_of_one_name_is_another_protocol_and_a_miss(tmp_path, key):
    data, (own, _), (other, network) = mine(tmp_path), toy_extractor(), toy_extractor(**{key: "other"})
    before, after = measured(tmp_path, data, own), measured(tmp_path, data, other)
    assert all(before[metric].protocol != after[metric].protocol for metric in FIDELITY)
    assert network.calls == 20 + 60, "features of the other extractor were reused"


@pytest.mark.parametrize(
    ("module", "name", "moved"),
    [(protocol, "METRICS", FIDELITY), (extraction, "CODE", FIDELITY)],
    ids=["metric version", "extraction version"],
)
def test_a_new_version_of_the_code_is_another_protocol(tmp_path, monkeypatch, module, name, moved):
    data, (own, network) = mine(tmp_path), toy_extractor()
    before = measured(tmp_path, data, own)
    monkeypatch.setattr(module, name, 99)
    after = measured(tmp_path, data, own)
    assert all(before[metric].protocol != after[metric].protocol for metric in moved)
    assert network.calls == 20 + 60 + 20 + (60 if name == "CODE" else 0)


def test_features_are_extracted_once_and_anew_with_another_torch(tmp_path, monkeypatch):
    data, (own, network) = mine(tmp_path), toy_extractor()
    first = reference_features(own, data, "test", tmp_path)
    assert torch.equal(reference_features(own, data, "test", tmp_path).features, first.features)
    assert network.calls == len(data.test)
    monkeypatch.setattr(features, "version", lambda name: "99" if name == "torch" else version(name))
    reference_features(own, data, "test", tmp_path)
    assert network.calls == 2 * len(data.test)


def test_cached_features_that_have_changed_on_disk_are_extracted_anew(tmp_path):
    data, (own, network) = mine(tmp_path), toy_extractor()
    first = reference_features(own, data, "test", tmp_path).features
    (file,) = (tmp_path / "features").glob("*.safetensors")
    content = bytearray(file.read_bytes())
    content[-1] ^= 1
    file.write_bytes(content)
    assert torch.equal(reference_features(own, data, "test", tmp_path).features, first)
    assert network.calls == 2 * len(data.test)


# One pixel


def changed_pixel(images=IMAGES, index=3):
    images = images.copy()
    images[index, 4, 4] ^= 1
    return images


@pytest.mark.parametrize("index", [3, 59], ids=["train", "test"])
def test_one_pixel_of_one_image_is_another_dataset_protocol_and_a_miss(tmp_path, index):
    """The file has the same name, size and time: a copy that keeps times."""
    (own, network), first = toy_extractor(), mine(tmp_path)
    before = measured(tmp_path, first, own)
    about = (tmp_path / "images.npy").stat()
    np.save(tmp_path / "images.npy", changed_pixel(index=index))
    os.utime(tmp_path / "images.npy", ns=(about.st_atime_ns, about.st_mtime_ns))
    entry = {"source": "array", "path": "images.npy", "shape": [1, 8, 8], "test_fraction": 0.4}
    second = prepare(make_entry("mine", entry, tmp_path, "test.toml"), tmp_path, offline=True)
    assert second.digest != first.digest and second.name == first.name
    network.calls = 0
    after = measured(tmp_path, second, own)
    assert network.calls == 20 + 60
    assert all(before[metric].protocol != after[metric].protocol for metric in FIDELITY)


def test_the_split_and_the_shape_are_part_of_a_dataset(tmp_path):
    whole = mine(tmp_path)
    assert mine(tmp_path, test_fraction=0.5).digest != whole.digest
    wide = mine(tmp_path, IMAGES.reshape(30, 8, 16), shape=[1, 8, 16], test_fraction=0.4)
    assert wide.digest != whole.digest


def test_an_image_moved_to_another_class_is_another_dataset(tmp_path):
    """With names, sizes, times and the order of the files as before."""
    from PIL import Image

    for label, names in (("a", ("1", "2", "3", "4")), ("b", ("5", "6", "7"))):
        (tmp_path / "images" / label).mkdir(parents=True)
        for name in names:
            Image.fromarray(IMAGES[int(name)]).save(tmp_path / "images" / label / f"{name}.png")

    def ready():
        table = {"source": "folder", "path": "images", "layout": "classes", "shape": [1, 8, 8], "num_classes": 2}
        return prepare(make_entry("classes", table | {"test_fraction": 0.5}, tmp_path, "t"), tmp_path, offline=True)

    before = ready()
    (tmp_path / "images" / "a" / "4.png").rename(tmp_path / "images" / "b" / "4.png")
    after = ready()
    labels = [sorted([*data.train.labels, *data.test.labels]) for data in (before, after)]
    assert labels == [[0] * 4 + [1] * 3, [0] * 3 + [1] * 4] and before.digest != after.digest


def test_torchvisions_files_are_part_of_a_prepared_dataset(tmp_path):
    from torchvision.datasets import CIFAR10

    entry = {"source": "torchvision", "dataset": "CIFAR10", "shape": [3, 32, 32], "train": {}, "test": {}}
    source, place = make_entry("c", entry, tmp_path, "t").source, features_place(tmp_path)
    file = tmp_path / CIFAR10.base_folder / "test_batch"
    file.parent.mkdir()
    file.write_bytes(b"one")
    before = source.state(place)
    file.write_bytes(b"two")
    assert before and source.state(place) != before


def features_place(folder):
    from genbench.data.source import Place

    return Place(folder, folder)


def test_a_dataset_that_changes_while_jobs_wait_is_refused(tmp_path):
    """A job says which images it is of; its process opens the dataset anew."""
    from genbench.running.loading import prepared

    toml = tmp_path / "mine.toml"
    toml.write_text('[mine]\nsource = "array"\npath = "images.npy"\nshape = [1, 8, 8]\ntest_fraction = 0.4\n')
    job = toy_job(tmp_path, dataset="mine", dataset_digest=mine(tmp_path).digest)
    assert prepared(job, Context.of([toml], tmp_path)).digest == job.dataset_digest
    np.save(tmp_path / "images.npy", changed_pixel())
    with pytest.raises(CorruptData, match=f"'mine' has changed.*{job.dataset_digest[:12]}"):
        prepared(job, Context.of([toml], tmp_path))


# Extractors and classifiers


def test_one_byte_of_the_weights_is_another_extractor(tmp_path, monkeypatch):
    monkeypatch.setattr(classifier_training, "UPDATES", 2)
    data = replace(mine(tmp_path), num_classes=2)
    data = replace(data, train=replace(data.train, labels=np.arange(len(data.train)) % 2))
    runtime = Runtime(cache=tmp_path / "cache")
    own = extractor("local-classifier", data, runtime)
    reference_features(own, data, "test", runtime.cache)
    (file,) = (tmp_path / "cache").rglob("classifier.json")
    model, facts = load_classifier(file)
    bits = model.head.bias.view(torch.int32)
    bits[0] ^= 1
    save_classifier(file, model, about="", trained_on=data.digest, train_images=facts.train_images)
    other = extractor("local-classifier", data, runtime)
    assert other.describe() != own.describe()
    reference_features(other, data, "test", runtime.cache)
    assert len(list((tmp_path / "cache" / "features").glob("*.safetensors"))) == 2


def test_another_recipe_or_other_images_are_another_classifier(tmp_path, monkeypatch):
    monkeypatch.setattr(classifier_training, "UPDATES", 2)
    data = replace(mine(tmp_path), num_classes=2)
    data = replace(data, train=replace(data.train, labels=np.arange(len(data.train)) % 2))
    files = [local_classifier(data, tmp_path / "cache")]
    monkeypatch.setattr(classifier, "RECIPE", 99)
    files.append(local_classifier(data, tmp_path / "cache"))
    files.append(local_classifier(replace(data, digest="e" * 64), tmp_path / "cache"))
    assert len(set(files)) == 3


PLUGIN = """
from genbench import hookimpl
from genbench.evaluate.extractor import Extractor

@hookimpl
def register_extractors(register):
    register("corner", build)

def build():
    return Extractor("corner", lambda levels: (levels.flatten(1)[:, :5].float(), None), 5, 0, {"layer": "corner"})
"""


def test_a_plugins_extractor_is_identified_by_its_code_too(tmp_path):
    """Its author changed the network, and not what it says of itself."""
    data, found = mine(tmp_path), []
    for text in (PLUGIN, PLUGIN.replace(":5]", "5:10]")):
        (tmp_path / "corner.py").write_text(text)
        registered = load_plugins([str(tmp_path / "corner.py")]).registered("register_extractors")
        own = extractor("corner", data, Runtime(cache=tmp_path), registered)
        values = reference_features(own, data, "test", tmp_path / "cache").features
        found.append((own.describe(), extractor_stamps(["corner"], registered), values))
    assert found[0][0] != found[1][0] and found[0][1] != found[1][1]
    assert not torch.equal(found[0][2], found[1][2])


# Jobs


@pytest.mark.parametrize(
    ("module", "name", "names"),
    [
        (protocol, "METRICS", ["digits-classifier-v1"]),
        (protocol, "LIKELIHOOD", ["digits-classifier-v1"]),
        (extraction, "CODE", ["digits-classifier-v1"]),
        (classifier, "RECIPE", ["local-classifier"]),
    ],
)
def test_a_new_version_of_what_measures_scores_again_without_training(
    tmp_path, digits, monkeypatch, module, name, names
):
    from genbench.planning.config import Experiment

    experiment = Experiment.model_validate({"models": ({"name": "gaussian"},), "extractors": names})

    def job():
        made = make_jobs(experiment, load_plugins(), [digits], Runtime(out=tmp_path))[0]
        return (made.id, made.samples_key), (made.evaluation_key, made.extractor_stamps)

    before = job()
    monkeypatch.setattr(module, name, 99)
    after = job()
    assert after[0] == before[0] and after[1] != before[1]


def test_another_version_of_an_extractor_measures_again_and_replaces_its_numbers(tmp_path, digits, monkeypatch):
    first = gaussian_job(tmp_path, digits)
    old = run_job(first, digits, load_plugins())
    assert is_done(first)
    monkeypatch.setattr(extraction, "CODE", 99)
    second = gaussian_job(tmp_path, digits)
    assert second.id == first.id and not is_done(second)
    new = run_job(second, digits, load_plugins())
    assert is_done(second) and len(new.measurements) == len(old.measurements)
    assert {m.protocol for m in new.measurements if m.metric == "fid_test"}.isdisjoint(
        m.protocol for m in old.measurements
    )


def test_a_model_is_identified_by_the_code_it_borrows():
    sources = {info.name: {file.name for file in info.sources} for info in load_plugins().infos}
    assert {"diffusion.py", "samplers.py", "nets.py", "autoencoder.py", "distributions.py"} <= sources["ldm"]
    assert {"vqgan.py", "codebook.py", "critic.py", "autoencoder.py", "adversarial.py"} <= sources["vqgan"]
    assert {"jem.py", "model.py", "networks.py", "langevin.py"} <= sources["jem"]
    assert "nets.py" in sources["gan"] and "distributions.py" in sources["vae"] and "lattice.py" in sources["flow"]


def gaussian_job(folder, digits, **change):
    from genbench.planning.config import Experiment

    words = {"models": ({"name": "gaussian"},), "budget": "5steps", "samples": 40, "likelihood_images": 4, **change}
    return make_jobs(Experiment.model_validate(words), load_plugins(), [digits], Runtime(out=folder, cache=folder))[0]


def test_samples_of_other_weights_are_drawn_anew(tmp_path, digits):
    """A checkpoint was removed, and the model trained again within a budget in seconds: other weights, the same job."""
    job, plugins = gaussian_job(tmp_path, digits), load_plugins()
    assert run_job(job, digits, plugins).status == "complete" and is_done(job)
    first = (job.folder / "samples.npy").read_bytes()
    again = gaussian_job(tmp_path, digits, likelihood_images=5)
    assert not is_done(again) and again.folder == job.folder
    stamp = (job.folder / "samples.npy").stat().st_ino
    tensors, state = checkpoint.load(job.folder / "checkpoint")
    tensors["ema"]["mean"] = tensors["ema"]["mean"] + 0.5
    checkpoint.save(job.folder / "checkpoint", tensors, state)
    record = run_job(again, digits, plugins)
    assert record.status == "complete" and (job.folder / "samples.npy").stat().st_ino != stamp
    assert (job.folder / "samples.npy").read_bytes() != first


def test_samples_that_were_changed_are_drawn_anew(tmp_path, digits):
    job, plugins = gaussian_job(tmp_path, digits), load_plugins()
    run_job(job, digits, plugins)
    first = (job.folder / "samples.npy").read_bytes()
    store.write_array(job.folder / "samples.npy", np.zeros((40, 1, 8, 8), np.uint8))
    run_job(gaussian_job(tmp_path, digits, likelihood_images=5), digits, plugins)
    assert (job.folder / "samples.npy").read_bytes() == first


def test_no_cache_of_torch_fidelity_is_used(tmp_path, monkeypatch):
    """Its keys are names; an answer from it may be about other images."""
    from torch_fidelity import metric_fid, metric_isc, metric_kid, metric_prc, utils

    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    for module in (utils, metric_fid, metric_isc, metric_kid, metric_prc):
        for name in dir(module):
            if "cache" in name and callable(getattr(module, name)):
                monkeypatch.setattr(module, name, lambda *_, name=name, **__: pytest.fail(f"{name} was called"))
    found = measured(tmp_path, mine(tmp_path), toy_extractor()[0])
    assert {found[metric].status for metric in FIDELITY} == {"ok"}
    assert not (tmp_path / "torch").exists()
