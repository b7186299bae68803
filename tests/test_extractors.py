"""Extractors: contract, registry, and weights that are checked before anything reads them."""

import hashlib
import json
import subprocess
import sys
import urllib.request
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
import torch

from genbench.data.dataset import Dataset, Part
from genbench.evaluate import classifier_training, extractors, pretrained, weights
from genbench.evaluate.extractor import Extractor
from genbench.evaluate.extractors import check_extractors, extractor, extractor_names, known_extractors
from genbench.support.errors import BadInput, CorruptData, EnvironmentProblem


@dataclass
class Runtime:
    cache: Path
    weights: Path | None = None
    offline: bool = True
    device: str = "cpu"


def images(n=6, shape=(1, 8, 8), seed=0):
    return np.random.default_rng(seed).integers(0, 256, (n, *shape), np.uint8)


def dataset(shape=(1, 8, 8), classes=4, n=40, names=()):
    labels = np.arange(n) % max(classes, 1)
    parts = [Part(images(n, shape, seed), labels if classes else None) for seed in (0, 1)]
    return Dataset("toy", "", "d1" * 32, shape, classes, names, 0, Path(), *parts)


def toy(levels):
    flat = levels.flatten(1).float()
    return flat[:, :5], flat[:, 5:8]


def toy_extractor(network=toy, dim=5, classes=3):
    return Extractor("toy", network, dim, classes, {"layer": "pixels"})


# the contract


def test_features_are_float64_in_order_whatever_the_batch():
    stack = images(23)
    found = toy_extractor().features(stack, batch=7)
    assert found.features.dtype == found.logits.dtype == torch.float64
    assert torch.equal(found.features, torch.from_numpy(stack.reshape(23, -1)[:, :5]).double())
    part = found.take(np.array([4, 2]))
    assert len(part) == 2 and torch.equal(part.logits, found.logits[[4, 2]])


def test_progress_is_told_and_ends_at_the_number_of_images():
    told = []
    toy_extractor().features(images(10), batch=4, progress=lambda done, total: told.append((done, total)))
    assert told == [(4, 10), (8, 10), (10, 10)]


@pytest.mark.parametrize("wrong", [images().astype(np.float32), images().astype(np.int64), images()[0]])
def test_anything_but_uint8_images_is_refused(wrong):
    with pytest.raises(BadInput, match="uint8 images"):
        toy_extractor().features(wrong)


@pytest.mark.parametrize("which", [0, 1])
def test_a_feature_that_is_not_finite_is_named_by_its_image(which):
    def broken(levels):
        outputs = toy(levels)
        outputs[which][levels[:, 0, 0, 0] == 255] = float("nan")
        return outputs

    stack = images(20)
    stack[:, 0, 0, 0] = 0
    stack[[13, 17], 0, 0, 0] = 255
    with pytest.raises(CorruptData, match="image 13 "):
        toy_extractor(broken).features(stack, batch=4)


@pytest.mark.parametrize(
    ("network", "what"),
    [
        (lambda x: (toy(x)[0][:, :4], toy(x)[1]), "features"),
        (lambda x: (toy(x)[0].half(), toy(x)[1]), "features"),
        (lambda x: (toy(x)[0][:, :, None], toy(x)[1]), "features"),
        (lambda x: (toy(x)[0], None), "logits"),
        (lambda x: (toy(x)[0][:-1], toy(x)[1]), "features"),
    ],
)
def test_a_network_that_returns_something_else_is_refused(network, what):
    with pytest.raises(CorruptData, match=f"toy: {what} are"):
        toy_extractor(network).features(images())


# the registry


def test_names_are_listed_and_checked_without_torch():
    code = (
        "import sys; from genbench.evaluate.extractors import known_extractors;"
        "names = [row['name'] for row in known_extractors()];"
        "assert {'mnist-classifier-v1', 'digits-classifier-v1', 'local-classifier', 'vgg16'} <= set(names);"
        "assert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
    assert all(row["kind"] and row["about"] for row in known_extractors())


def test_an_unknown_name_is_answered_with_the_nearest(tmp_path):
    for ask in (check_extractors, lambda names, *rest: extractor(names[0], *rest)):
        with pytest.raises(BadInput) as caught:
            ask(["inception-v3-compact"], dataset(), Runtime(tmp_path))
        assert "did you mean 'inception-v3-compat'?" in caught.value.hint


def test_a_classifier_of_other_images_is_refused(tmp_path):
    with pytest.raises(BadInput, match="mnist-classifier-v1 takes 1x28x28 images, 'toy' has 3x32x32"):
        check_extractors(["mnist-classifier-v1"], dataset((3, 32, 32)), Runtime(tmp_path))
    with pytest.raises(BadInput, match="labels"):
        check_extractors(["local-classifier"], dataset(classes=0), Runtime(tmp_path))
    with pytest.raises(BadInput, match="1 or 3 channels"):
        extractor("vgg16", dataset((2, 8, 8)), Runtime(tmp_path))


def test_the_default_is_the_datasets_own_else_local_else_inception():
    assert extractor_names([], dataset(names=("vgg16",))) == ("vgg16",)
    assert extractor_names(["clip-rn50"], dataset(names=("vgg16",))) == ("clip-rn50",)
    assert extractor_names([], dataset()) == ("local-classifier",)
    assert extractor_names([], dataset(classes=0)) == ("inception-v3-compat",)


def test_a_plugin_adds_its_own(tmp_path):
    registered = {"toy": (toy_extractor, "plugin mine"), "broken": (object, "plugin theirs")}
    check_extractors(["toy"], dataset(), Runtime(tmp_path), registered)
    own = extractor("toy", dataset(), Runtime(tmp_path), registered)
    assert own.features(images()).features.shape == (6, 5) and own.describe()["layer"] == "pixels"
    with pytest.raises(BadInput, match="'broken' of plugin theirs"):
        extractor("broken", dataset(), Runtime(tmp_path), registered)


# shipped and local classifiers


@pytest.mark.parametrize(("name", "shape"), [("mnist-classifier-v1", (1, 28, 28)), ("digits-classifier-v1", (1, 8, 8))])
def test_shipped_classifiers_are_ready_and_identified(name, shape, tmp_path):
    data = dataset(shape, 10)
    check_extractors([name], data, Runtime(tmp_path))
    own = extractor(name, data, Runtime(tmp_path))
    about, stack = own.describe(), images(30, shape)
    weights = extractors.SHIPPED_FOLDER / f"{name}.safetensors"
    assert about["weights_sha256"] == hashlib.sha256(weights.read_bytes()).hexdigest()
    assert (about["name"], about["resize"], about["dtype"], about["local"]) == (name, "none", "float32", False)
    json.dumps(about, allow_nan=False)
    whole, single = own.features(stack), own.features(stack, batch=1)
    assert whole.features.shape == (30, own.dim) and whole.logits.shape == (30, 10) and own.dim < 1000
    assert torch.allclose(whole.features, single.features, rtol=1e-5, atol=1e-5)


@pytest.fixture
def short(monkeypatch):
    monkeypatch.setattr(classifier_training, "UPDATES", 3)


def test_a_local_classifier_is_trained_once_and_reproducible(tmp_path, short, monkeypatch):
    data = dataset()
    first = extractor("local-classifier", data, Runtime(tmp_path / "a"))
    again = extractor("local-classifier", data, Runtime(tmp_path / "b"))
    assert (
        first.describe() == again.describe()
        and first.describe()["local"]
        and first.describe()["trained_on"] == data.digest
    )
    assert torch.equal(first.features(images()).features, again.features(images()).features)

    def refuse(*arguments):
        raise AssertionError("trained again")

    monkeypatch.setattr(classifier_training, "train_classifier", refuse)
    cached = extractor("local-classifier", data, Runtime(tmp_path / "a"))
    assert torch.equal(cached.features(images()).features, first.features(images()).features)
    with pytest.raises(AssertionError, match="trained again"):
        extractor("local-classifier", replace(data, digest="e2" * 32), Runtime(tmp_path / "a"))


def test_a_local_classifier_that_was_changed_is_refused(tmp_path, short):
    extractor("local-classifier", dataset(), Runtime(tmp_path))
    (weights,) = tmp_path.rglob("*.safetensors")
    content = bytearray(weights.read_bytes())
    content[-1] ^= 1
    weights.write_bytes(content)
    with pytest.raises(CorruptData, match=weights.name) as caught:
        extractor("local-classifier", dataset(), Runtime(tmp_path))
    assert caught.value.hint.startswith(f"`rm -rf {weights.parent}`")


# weights of others


def pin(monkeypatch, table):
    """Let these be the published weights."""
    for module in (weights, pretrained, extractors):
        monkeypatch.setattr(module, "pinned", lambda: table)


@pytest.fixture
def vgg(tmp_path, monkeypatch):
    """vgg16 with a published weights file of our own making; returns its table entry and its bytes."""
    content = b"not really weights"
    source = tmp_path / "published" / "vgg16-397923af.pth"
    source.parent.mkdir()
    source.write_bytes(content)
    about = {**weights.pinned()["vgg16"], "sha256": hashlib.sha256(content).hexdigest(), "url": source.as_uri()}
    pin(monkeypatch, {"vgg16": about})
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    return about, content


def test_missing_weights_offline_say_what_to_get_where_and_where_to_put_it(tmp_path, vgg, monkeypatch):
    def refuse(*arguments, **more):
        raise AssertionError("the network was used")

    monkeypatch.setattr(urllib.request, "urlopen", refuse)
    about, _ = vgg
    with pytest.raises(EnvironmentProblem) as caught:
        check_extractors(["vgg16"], dataset(), Runtime(tmp_path))
    error = caught.value
    assert error.exit_code == 4 and about["file"] in error.message
    target = tmp_path / "torch" / "hub" / "checkpoints" / about["file"]
    for part in (about["url"], about["sha256"], str(target), "GENBENCH_WEIGHTS"):
        assert part in error.hint
    with pytest.raises(EnvironmentProblem, match="no such file"):
        weights.find_weights("vgg16", tmp_path / "nowhere", offline=True)


def test_weights_are_found_by_file_by_folder_and_in_torch_hubs_cache(tmp_path, vgg):
    about, content = vgg
    published = tmp_path / "published" / about["file"]
    assert weights.find_weights("vgg16", published, offline=True) == published
    assert weights.find_weights("vgg16", published.parent, offline=True) == published
    cached = tmp_path / "torch" / "hub" / "checkpoints" / about["file"]
    cached.parent.mkdir(parents=True)
    cached.write_bytes(content)
    assert weights.find_weights("vgg16", tmp_path / "torch", offline=True) == cached


def test_weights_are_downloaded_once_and_kept_only_if_they_are_the_published_ones(tmp_path, vgg, capfd):
    about, content = vgg
    path = weights.find_weights("vgg16")
    assert path.read_bytes() == content and "downloading" in capfd.readouterr().err
    Path(about["url"].removeprefix("file://")).write_bytes(b"other")
    assert weights.find_weights("vgg16") == path
    path.unlink()
    with pytest.raises(CorruptData, match="SHA-256"):
        weights.find_weights("vgg16")
    assert list(path.parent.iterdir()) == []
    Path(about["url"].removeprefix("file://")).unlink()
    with pytest.raises(EnvironmentProblem, match="cannot download"):
        weights.find_weights("vgg16")


def test_wrong_weights_are_refused_before_torch_fidelity_sees_them(tmp_path, vgg, monkeypatch):
    monkeypatch.setattr(pretrained, "build_network", lambda *_: pytest.fail("the file was handed on"))
    bad = tmp_path / "vgg16-397923af.pth"
    bad.write_bytes(b"cos\nsystem\n(S'touch hacked'\ntR.")
    with pytest.raises(CorruptData) as caught:
        extractor("vgg16", dataset(), Runtime(tmp_path, weights=tmp_path))
    assert caught.value.exit_code == 3 and str(bad) in caught.value.message


def test_every_pinned_extractor_is_torch_fidelitys_and_its_digest_agrees_with_the_file_name():
    from torch_fidelity.feature_extractor_clip import MODEL_URLS
    from torch_fidelity.feature_extractor_inceptionv3 import URL_INCEPTION_V3
    from torch_fidelity.registry import FEATURE_EXTRACTORS_REGISTRY

    urls = {**MODEL_URLS, "inception-v3-compat": URL_INCEPTION_V3}
    for name, about in weights.pinned().items():
        if "package" in about:
            continue
        layers = FEATURE_EXTRACTORS_REGISTRY[name].get_provided_features_list()
        assert about["layer"] in layers and about.get("logits_layer", about["layer"]) in layers
        assert len(about["sha256"]) == 64 and about["url"].startswith("https://")
        if "dinov2" not in name:
            assert about["sha256"].startswith(Path(about["file"]).stem.rsplit("-", 1)[1])
        assert about["url"] == urls.get(name, about["url"])


@pytest.fixture
def inception(tmp_path_factory, monkeypatch):
    """A file of random Inception weights, pinned by its digest."""
    from torch_fidelity import feature_extractor_inceptionv3 as module

    with monkeypatch.context() as patch, torch.random.fork_rng():
        torch.manual_seed(0)
        patch.setattr(module, "load_state_dict_from_url", lambda *_, **__: {})
        patch.setattr(torch.nn.Module, "load_state_dict", lambda *_, **__: None)
        random = module.FeatureExtractorInceptionV3("inception-v3-compat", ["2048"], verbose=False)
        for layer in random.modules():
            if isinstance(layer, torch.nn.Conv2d):
                torch.nn.init.kaiming_normal_(layer.weight)
    about = dict(weights.pinned()["inception-v3-compat"])
    file = tmp_path_factory.mktemp("weights") / about["file"]
    torch.save(random.state_dict(), file)
    about["sha256"] = hashlib.sha256(file.read_bytes()).hexdigest()
    pin(monkeypatch, {"inception-v3-compat": about})
    yield file
    file.unlink()


def test_inception_equals_torch_fidelitys_and_repeats_one_channel(inception, tmp_path):
    from torch_fidelity.utils import create_feature_extractor

    gray = images(3, (1, 8, 8))
    own = extractor("inception-v3-compat", dataset(), Runtime(tmp_path, inception.parent))
    found = own.features(gray, batch=2)
    theirs = create_feature_extractor(
        "inception-v3-compat", ["2048", "logits_unbiased"], cuda=False, verbose=False,
        feature_extractor_weights_path=str(inception),
    )(torch.from_numpy(gray.repeat(3, axis=1)))  # fmt: skip
    for ours, wanted in zip((found.features, found.logits), theirs):
        size = float(wanted.abs().max())
        assert 1e-2 < size < 1e4 and torch.allclose(ours, wanted.double(), rtol=1e-5, atol=1e-5 * size)
    about = own.describe()
    assert (about["layer"], about["channels"], own.dim, own.num_classes) == ("2048", "1 repeated to 3", 2048, 1008)
    assert about["torch_fidelity"].startswith("0.4") and "299x299" in about["resize"]
    colour = extractor("inception-v3-compat", dataset((3, 8, 8)), Runtime(tmp_path, inception.parent))
    assert colour.describe() != about


def test_parameters_that_are_not_float32_are_refused(tmp_path, monkeypatch):
    from torch_fidelity import utils

    monkeypatch.setattr(utils, "create_feature_extractor", lambda *_, **__: torch.nn.Linear(2, 2).double())
    with pytest.raises(CorruptData, match="float64"):
        pretrained.build_network("vgg16", ["fc2_relu"], tmp_path / "weights.pth")


HUB = """
import torch

class Mean(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(384, 3))

    def forward(self, x):
        return x.mean((2, 3)) @ self.weight.T

def dinov2_vits14(pretrained=True):
    assert not pretrained
    return Mean()
"""


def test_dinov2_runs_local_code_only(tmp_path, monkeypatch):
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    weight = torch.randn(384, 3, generator=torch.Generator().manual_seed(0))
    torch.save({"weight": weight}, tmp_path / "dinov2_vits14_pretrain.pth")
    digest = hashlib.sha256((tmp_path / "dinov2_vits14_pretrain.pth").read_bytes()).hexdigest()
    about = {**weights.pinned()["dinov2-vit-s-14"], "sha256": digest}
    pin(monkeypatch, {"dinov2-vit-s-14": about})
    runtime = Runtime(tmp_path, tmp_path, offline=False)
    with pytest.raises(EnvironmentProblem, match="needs the code of DINOv2") as caught:
        check_extractors(["dinov2-vit-s-14"], dataset(), runtime)
    assert "git clone" in caught.value.hint
    (tmp_path / pretrained.DINO_CODE).mkdir()
    (tmp_path / pretrained.DINO_CODE / "hubconf.py").write_text(HUB)
    check_extractors(["dinov2-vit-s-14"], dataset(), runtime)
    own = extractor("dinov2-vit-s-14", dataset(), runtime)
    found = own.features(np.full((2, 1, 8, 8), 124, np.uint8))
    scaled = [(124 / 255 - mean) / std for mean, std in ((0.485, 0.229), (0.456, 0.224), (0.406, 0.225))]
    assert torch.allclose(found.features[1], weight.double() @ torch.tensor(scaled, dtype=torch.float64), atol=1e-4)
    assert found.logits is None and len(own.describe()["code_sha256"]) == 64


def test_folded_inception_equals_torch_fidelitys_whatever_the_batch(inception, tmp_path):
    """With normalisation that does something; the stated tolerance is 1e-5 of the largest feature."""
    from torch_fidelity.utils import create_feature_extractor

    state = torch.load(inception, weights_only=True)
    generator = torch.Generator().manual_seed(0)
    for name in [name for name in state if ".bn." in name and "num_batches" not in name]:
        drawn = torch.rand(state[name].shape, generator=generator)
        state[name] = drawn + 0.5 if name.endswith(("weight", "var")) else drawn - 0.5
    file = tmp_path / "weights.pth"
    torch.save(state, file)
    levels = torch.from_numpy(images(3, (3, 8, 8)))
    layers = ["2048", "logits_unbiased"]
    options = {"cuda": False, "verbose": False, "feature_extractor_weights_path": str(file)}
    wanted = create_feature_extractor("inception-v3-compat", layers, **options)(levels)
    network = pretrained.build_network("inception-v3-compat", layers, file)
    own = Extractor("inception", pretrained.on_colour(network), 2048, 1008, {})
    for batch in (1, 3):
        found = own.features(levels.numpy(), batch)
        for ours, theirs in zip((found.features, found.logits), wanted):
            largest = float(theirs.abs().max())
            assert 1e-3 < largest < 1e6 and float((ours - theirs).abs().max()) < 1e-5 * largest
