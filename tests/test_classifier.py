"""The domain classifier: its recipe, its shipped weights, and what its features are good for."""

import json

import numpy as np
import pytest
import torch

from genbench.data.entries import known_datasets
from genbench.data.folders import data_root
from genbench.data.preparation import prepare
from genbench.evaluate import classifier, classifier_training
from genbench.evaluate.augmentation import WAYS, blur, mirror_score, moved, pixel_statistics, spoilt
from genbench.evaluate.classifier import Classifier, accuracy, load_classifier, save_classifier, size_for
from genbench.evaluate.classifier_training import Examples, train_classifier
from genbench.evaluate.extractor import Extractor
from genbench.evaluate.extractors import SHIPPED_FOLDER
from genbench.evaluate.fidelity import fid, inception_score, precision_recall
from genbench.images import to_float
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
    model = Classifier(shape, 7, *size_for(shape, 5000)).eval()
    features, logits = model(torch.from_numpy(images(3, shape)))
    assert (
        features.shape == (3, model.dim) == (3, model.widths[-2] + 64)
        and logits.shape == (3, 7)
        and features.isfinite().all()
    )
    assert not any(isinstance(layer, torch.nn.modules.batchnorm._BatchNorm) for layer in model.modules())


def test_features_depend_on_no_other_image_and_see_contrast():
    model = Classifier((1, 28, 28), 10, *size_for((1, 28, 28), 5000)).eval()
    stack = torch.from_numpy(images(9, (1, 28, 28)))
    whole, single = model(stack)[0], torch.cat([model(image[None])[0] for image in stack])
    assert torch.allclose(whole, single, rtol=1e-5, atol=1e-6)
    assert not torch.allclose(model(stack // 2)[0], whole, rtol=0.1)


def test_training_learns_repeats_and_leaves_the_global_generator_alone(monkeypatch):
    monkeypatch.setattr(classifier_training, "UPDATES", 40)
    stack, labels = toy_set()
    examples = Examples(stack, labels, np.arange(0, 250), np.arange(250, 300))
    torch.manual_seed(5)
    before, shares = torch.get_rng_state(), []
    model = train_classifier(examples, 2, seed=3, progress=shares.append)
    assert torch.equal(torch.get_rng_state(), before)
    assert len(shares) == 40 and shares[-1] == 1.0
    again, other = (train_classifier(examples, 2, seed=seed) for seed in (3, 4))
    for name, tensor in model.state_dict().items():
        assert torch.equal(tensor, again.state_dict()[name])
    assert not torch.equal(model.head.weight, other.head.weight)
    assert accuracy(model, *toy_set(100)) > 0.95
    assert not model.training and not any(p.requires_grad for p in model.parameters())
    features = model(torch.from_numpy(stack[:250]))[0]
    assert float(features.var(0).mean()) == pytest.approx(1, rel=1e-3)


def test_features_are_scaled_to_unit_variance_and_logits_are_not():
    model, stack = Classifier((1, 8, 8), 3, 16, (8, 8)), torch.from_numpy(images(200))
    with torch.no_grad():
        before = model(stack)
        model.standardize(stack)
        features, logits = model(stack)
    for part in features.split(8, 1):
        assert float(part.var(0).mean()) == pytest.approx(1, rel=1e-4)
    assert float(before[0].var(0).mean()) < 0.9 and torch.allclose(logits, before[1], rtol=1e-4, atol=1e-5)


def test_a_folded_network_computes_what_the_normalised_one_does():
    torch.manual_seed(0)
    model, stack = (
        Classifier((3, 16, 16), 5, 16, (8, 8), normalised=True),
        to_float(torch.from_numpy(images(64, (3, 16, 16)))),
    )
    model.outputs(stack)  # which changes the running statistics
    with torch.no_grad():
        expected, folded = model.eval().outputs(stack), model.folded()
        found = folded.outputs(stack)
    assert not any(isinstance(layer, torch.nn.BatchNorm2d) for layer in folded.modules())
    for ours, theirs in zip(found, expected):
        assert torch.allclose(ours, theirs, rtol=1e-4, atol=1e-5)


def test_what_is_held_out_changes_no_weight(monkeypatch):
    """It only chooses among them, which is left out here."""
    monkeypatch.setattr(classifier_training, "UPDATES", 6)
    monkeypatch.setattr(classifier_training.Best, "consider", keep_the_last)
    stack, labels = toy_set()
    train, held_out = np.arange(0, 300, 2), np.arange(1, 300, 2)
    model = train_classifier(Examples(stack, labels, train, held_out), 2)
    poisoned, wrong = stack.copy(), labels.copy()
    poisoned[held_out], wrong[held_out] = 255, 0
    same = train_classifier(Examples(poisoned, wrong, train, held_out), 2)
    poisoned[train[0]] = 255
    other = train_classifier(Examples(poisoned, wrong, train, held_out), 2)
    assert torch.equal(same.head.weight, model.head.weight) and torch.equal(same.scale, model.scale)
    assert not torch.equal(other.head.weight, model.head.weight)


def keep_the_last(best, model):
    best.state = {name: tensor.clone() for name, tensor in model.state_dict().items()}


def test_the_weights_that_know_the_held_out_images_best_are_kept(monkeypatch):
    stack, labels = toy_set(40)
    best = classifier_training.Best(Examples(stack, labels, np.arange(20), np.arange(20, 40)), "cpu")
    good, bad = (Classifier((1, 8, 8), 2, 16, (8, 8)) for _ in range(2))
    monkeypatch.setattr(good, "forward", lambda levels: (None, right_is_brighter(levels)))
    for model in (bad, good, bad):
        best.consider(model)
    assert torch.equal(best.state["head.weight"], good.head.weight)


def right_is_brighter(levels):
    return (levels[:, 0, 0, 0] < levels[:, 0, 0, 7])[:, None] * torch.tensor([-9.0, 9.0])


# what it sees beside the images


def test_moved_images_are_the_same_images_elsewhere():
    stack = torch.zeros(200, 1, 28, 28)
    stack[:, :, 4:8, 4:6] = 1
    still = moved(stack, mirror=False, generator=torch.Generator().manual_seed(0))
    assert (still[:, :, :12, :12].sum((1, 2, 3)) == 8).all() and len(torch.unique(still, dim=0)) > 40
    both = moved(stack, mirror=True, generator=torch.Generator().manual_seed(0))
    right = both[:, :, :, 14:].sum((1, 2, 3)) == 8
    assert 0.3 < right.float().mean() < 0.7 and (both.sum((1, 2, 3)) == 8).all()


def test_only_images_that_are_as_likely_as_their_mirror_images_are_mirrored(digits):
    below = classifier_training.MIRRORED_BELOW
    assert mirror_score(digits.train.images, digits.train.labels) > below + 0.2
    stack, labels = toy_set(400)
    assert mirror_score(stack, labels) > 0.95  # left and right are its classes
    either = np.where(np.random.default_rng(1).random((400, 1, 1, 1)) < 0.5, stack, stack[..., ::-1])
    assert mirror_score(either, labels) < below


@pytest.mark.parametrize("shape", [(1, 2, 2), (1, 8, 8), (3, 33, 17)])
def test_images_are_spoilt_by_degrees_in_every_way(shape, monkeypatch):
    stack = to_float(torch.from_numpy(images(4 * len(WAYS), shape) // 8 * 8))
    pixels = pixel_statistics(stack)
    for strength in (0.0, 0.999):
        monkeypatch.setattr(torch, "rand", fixed(torch.rand, strength, len(stack)))
        found, share = spoilt(stack, *pixels, torch.Generator().manual_seed(0))
        monkeypatch.undo()
        assert found.shape == stack.shape and found.abs().max() <= 1 and (share == strength).all()
        changed = (found - stack).abs().amax((1, 2, 3)) > 0.01
        assert not changed.any() if strength == 0 else changed.float().mean() > (0.5 if shape[1] == 2 else 0.95)


def fixed(rand, strength, count):
    """torch.rand, but for the strengths."""
    return lambda *size, **kind: torch.full(size, strength) if size == (count,) else rand(*size, **kind)


def test_a_blur_keeps_what_is_constant_and_spreads_a_point_as_a_gaussian():
    stack = torch.zeros(2, 1, 33, 33)
    stack[0] = 0.5
    stack[1, 0, 16, 16] = 1
    found = blur(stack, torch.tensor([3.0, 2.0]))
    place = torch.arange(33.0) - 16
    assert torch.allclose(found[0], stack[0]) and float(found[1].sum()) == pytest.approx(1, rel=1e-3)
    assert float((found[1, 0].sum(0) * place**2).sum()) == pytest.approx(4, rel=0.01)


@pytest.fixture(scope="module")
def digits_in_a_hurry(digits):
    """A classifier of the digits, the same as an extractor, test images, and images that it has not been trained on."""
    order = np.random.default_rng(0).permutation(len(digits.train))
    examples = Examples(digits.train.images, digits.train.labels, order[350:], order[:350])
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(classifier_training, "UPDATES", 100)
        patch.setattr(classifier, "FEW", len(digits.train))
        model = train_classifier(examples, 10)
    return model, Extractor("toy", model, model.dim, 10, {}), digits.test.images, digits.train.images[order[:350]]


def test_what_is_no_digit_is_far_from_the_digits(digits_in_a_hurry):
    model, own, test, held_out = digits_in_a_hurry
    rng = np.random.default_rng(0)
    mean, deviation = test.mean(0), test.std(0)
    wrong = {
        "uniform": rng.integers(0, 256, held_out.shape, np.uint8),
        "gaussian": np.clip(rng.normal(mean, deviation, held_out.shape), 0, 255).astype(np.uint8),
        "shuffled": rng.permuted(held_out.reshape(len(held_out), -1), axis=1).reshape(held_out.shape),
    }
    reference, real = own.features(test).features, own.features(held_out).features
    precise = precision_recall(real, reference)[0].value
    assert precise > 0.5
    for name, stack in wrong.items():
        found = own.features(stack).features
        assert fid(found, reference).value > 10 * fid(real, reference).value, name
        if name != "gaussian":  # which takes longer to learn
            assert precision_recall(found, reference)[0].value < precise / 4, name
        assert rejected(model, stack) > 0.3 > 0.2 > rejected(model, held_out), name


def rejected(model, stack):
    """The mean probability that an image is of no class."""
    return float(model.outputs(to_float(torch.from_numpy(stack)))[1][:, 10].sigmoid().mean())


def saved(tmp_path):
    model = Classifier((1, 8, 8), 3, 16, (8, 8))
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
        lambda json_file, weights: json_file.write_text(json_file.read_text().replace('"dim": 16', '"dim": 24')),
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


def test_images_that_are_all_alike_have_finite_features():
    model = Classifier((1, 8, 8), 4, *size_for((1, 8, 8), 30)).eval()
    stack = torch.full((30, 1, 8, 8), 7, dtype=torch.uint8)
    model.standardize(stack)
    assert model(stack)[0].isfinite().all()
