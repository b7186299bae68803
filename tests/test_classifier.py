"""The domain classifier: its recipe, its shipped weights, and what its features are good for."""

import json

import numpy as np
import pytest
import torch

from genbench.data.entries import known_datasets
from genbench.data.folders import data_root
from genbench.data.preparation import prepare
from genbench.evaluate import classifier
from genbench.evaluate.classifier import Classifier, accuracy, load_classifier, save_classifier, train_classifier
from genbench.evaluate.extractor import Extractor
from genbench.evaluate.extractors import SHIPPED_FOLDER
from genbench.evaluate.fidelity import fid, inception_score, precision_recall
from genbench.support.errors import CorruptData


def images(n=4, shape=(1, 8, 8), seed=0):
    return np.random.default_rng(seed).integers(0, 256, (n, *shape), np.uint8)


def toy_set(n=300):
    """Bright left or bright right halves, in noise."""
    labels = np.arange(n) % 2
    stack = images(n) // 4
    stack[labels == 0, :, :, :4] += 150
    stack[labels == 1, :, :, 4:] += 150
    return stack, labels


@pytest.mark.parametrize("shape", [(1, 8, 8), (3, 8, 12), (1, 28, 28), (3, 32, 32), (2, 33, 17), (3, 64, 64)])
def test_any_image_from_8x8_up_gives_features_and_logits(shape):
    model = Classifier(shape, 7).eval()
    features, logits = model(torch.from_numpy(images(3, shape)))
    assert features.shape == (3, model.dim) and logits.shape == (3, 7) and features.isfinite().all()
    assert not any(isinstance(layer, torch.nn.modules.batchnorm._BatchNorm) for layer in model.modules())


def test_features_depend_on_no_other_image_and_see_contrast():
    model = Classifier((1, 28, 28), 10).eval()
    stack = torch.from_numpy(images(9, (1, 28, 28)))
    whole, single = model(stack)[0], torch.cat([model(image[None])[0] for image in stack])
    assert torch.allclose(whole, single, rtol=1e-5, atol=1e-6)
    assert not torch.allclose(model(stack // 2)[0], whole, rtol=0.1)


def test_training_learns_repeats_and_leaves_the_global_generator_alone(monkeypatch):
    monkeypatch.setattr(classifier, "UPDATES", 40)
    stack, labels = toy_set()
    torch.manual_seed(5)
    before, shares = torch.get_rng_state(), []
    model = train_classifier(stack, labels, 2, seed=3, progress=shares.append)
    assert torch.equal(torch.get_rng_state(), before)
    assert len(shares) == 40 and shares[-1] == 1.0
    again, other = (train_classifier(stack, labels, 2, seed=seed) for seed in (3, 4))
    for name, tensor in model.state_dict().items():
        assert torch.equal(tensor, again.state_dict()[name])
    assert not torch.equal(model.head.weight, other.head.weight)
    assert accuracy(model, *toy_set(100)) > 0.95
    assert not model.training and not any(p.requires_grad for p in model.parameters())
    features = model(torch.from_numpy(stack))[0]
    assert float(features.var(0).mean()) == pytest.approx(1, rel=1e-3)


def test_features_are_scaled_to_unit_variance_and_logits_are_not():
    model, stack = Classifier((1, 8, 8), 3), torch.from_numpy(images(200))
    with torch.no_grad():
        before = model(stack)
        model.standardize(stack)
        features, logits = model(stack)
    assert float(features.var(0).mean()) == pytest.approx(1, rel=1e-4)
    assert float(before[0].var(0).mean()) < 0.9 and torch.allclose(logits, before[1], rtol=1e-4, atol=1e-5)


def test_augmentation_moves_but_does_not_mirror():
    stack = torch.zeros(200, 1, 28, 28, dtype=torch.uint8)
    stack[:, :, 4:8, 4:8] = 255
    moved = classifier.augment(stack, torch.Generator().manual_seed(0))
    assert len({round(float(image.mean()), 6) for image in moved}) > 100
    assert (moved[:, :, :14, :14].amax((1, 2, 3)) > 0.5).all() and (moved[:, :, 16:, 16:].amax((1, 2, 3)) < -0.9).all()


def saved(tmp_path):
    model = Classifier((1, 8, 8), 3)
    save_classifier(tmp_path / "c.json", model, about="toy", trained_on="nothing", train_images=0)
    return model, tmp_path / "c.json"


def test_a_stored_classifier_is_the_same_classifier(tmp_path):
    model, file = saved(tmp_path)
    loaded, facts = load_classifier(file)
    stack, model = torch.from_numpy(images()), model.to(memory_format=torch.channels_last)
    assert torch.equal(loaded(stack)[0], model(stack)[0]) and facts.num_classes == 3
    assert json.loads(file.read_text())["sha256"] == facts.sha256


def flip(file):
    content = bytearray(file.read_bytes())
    content[-1] ^= 1
    file.write_bytes(content)


@pytest.mark.parametrize(
    "harm",
    [
        lambda json_file, weights: flip(weights),
        lambda json_file, weights: weights.unlink(),
        lambda json_file, weights: json_file.write_text("{"),
        lambda json_file, weights: json_file.write_text("{}"),
        lambda json_file, weights: json_file.write_text(json_file.read_text().replace('"dim": 64', '"dim": 32')),
    ],
)
def test_files_that_were_harmed_are_refused(tmp_path, harm):
    _, file = saved(tmp_path)
    harm(file, file.with_suffix(".safetensors"))
    with pytest.raises(CorruptData, match=r"c\.(json|safetensors)"):
        load_classifier(file)


# shipped weights


@pytest.fixture(scope="module")
def mnist5k(session_cache):
    return prepare(known_datasets()["mnist5k"], data_root(None), offline=True)


@pytest.fixture(scope="module")
def shipped_mnist():
    model, facts = load_classifier(SHIPPED_FOLDER / "mnist-classifier-v1.json")
    return Extractor("mnist", model, model.dim, model.num_classes, {"sha256": facts.sha256})


def test_shipped_weights_are_small_and_told_about():
    for name in ("mnist-classifier-v1", "digits-classifier-v1"):
        assert (SHIPPED_FOLDER / f"{name}.safetensors").stat().st_size < 1_000_000
        _, facts = load_classifier(SHIPPED_FOLDER / f"{name}.json")
        assert (
            facts.model_extra["data_licence"] and facts.model_extra["data_attribution"] and facts.test_accuracy > 0.95
        )


def test_the_mnist_classifier_knows_digits_it_has_not_seen(shipped_mnist, mnist5k):
    logits = shipped_mnist.features(mnist5k.test.images).logits
    assert (logits.argmax(1).numpy() == mnist5k.test.labels).mean() >= 0.98


def test_the_digits_classifier_knows_the_test_part(digits):
    model, facts = load_classifier(SHIPPED_FOLDER / "digits-classifier-v1.json")
    assert facts.trained_on == f"training part of the dataset digits ({digits.digest[:12]})"
    assert accuracy(model, digits.test.images, digits.test.labels) == pytest.approx(facts.test_accuracy, abs=0.005)


def test_fid_in_its_features_orders_images_as_people_would(shipped_mnist, mnist5k):
    test = shipped_mnist.features(mnist5k.test.images).features
    train, rng = np.asarray(mnist5k.train.images[::4]), np.random.default_rng(0)
    noisy = [np.clip(train + rng.normal(0, sigma, train.shape), 0, 255).astype(np.uint8) for sigma in (30, 80)]
    mean, std = mnist5k.train.images.mean(0), mnist5k.train.images.std(0)
    gaussian = np.clip(rng.normal(mean, std, train.shape), 0, 255).astype(np.uint8)
    noise = rng.integers(0, 256, train.shape, np.uint8)
    rows = [shipped_mnist.features(stack) for stack in (train, *noisy, gaussian, noise)]
    real, little, much, pixels, uniform = (fid(row.features, test).value for row in rows)
    assert 2 * real < little < much < uniform and 10 * real < much and 100 * real < pixels < uniform
    scores = [inception_score(row.logits).value for row in rows]
    assert scores[0] > 8 and max(scores[3:]) < scores[0]
    ones = mnist5k.train.images[mnist5k.train.labels == 1][:400]
    precision, recall = precision_recall(shipped_mnist.features(ones).features, test[:400])
    assert precision.value > 0.7 and recall.value < 0.3
