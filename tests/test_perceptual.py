"""LPIPS on small files of random weights: its formula, its files, what a row says of it, and what may not judge it."""

import hashlib

import pytest
import torch
from finished import record_of, run_of
from plugin_sources import plugin_source
from torch import nn
from torch.nn import functional as F

from genbench import Batch, DataSpec
from genbench.evaluate import weights
from genbench.evaluate.extractors import check_unseen
from genbench.support.errors import BadInput, CorruptData, EnvironmentProblem
from genbench_ldm import LatentDiffusion, perceptual
from genbench_ldm.perceptual import LPIPS, SLICES, load_lpips
from genbench_ldm.vqgan import VQGAN

WIDTHS = (3, 4, 5, 6, 6)


def tensors():
    """Of a VGG-16 of a few channels, and of heads, by the names in the published files."""
    generator, vgg, before = torch.Generator().manual_seed(0), {}, 3
    for places, wide in zip(SLICES, WIDTHS):
        for place in places:
            vgg[f"features.{place}.weight"] = 0.3 * torch.randn(wide, before, 3, 3, generator=generator)
            vgg[f"features.{place}.bias"] = 0.1 * torch.randn(wide, generator=generator)
            before = wide
    heads = {f"lin{k}.model.1.weight": torch.rand(1, w, 1, 1, generator=generator) for k, w in enumerate(WIDTHS)}
    return vgg, heads


def images(n=3, channels=3, side=32, seed=1):
    return 2 * torch.rand(n, channels, side, side, generator=torch.Generator().manual_seed(seed)) - 1


@pytest.fixture
def published(tmp_path, monkeypatch):
    """The two files, pinned by their digests, in the folder that GENBENCH_WEIGHTS names."""
    folder, abouts = tmp_path / "weights", []
    folder.mkdir()
    for about, found in zip((weights.pinned()["vgg16"], perceptual.HEADS), tensors()):
        torch.save(found, folder / about["file"])
        digest = hashlib.sha256((folder / about["file"]).read_bytes()).hexdigest()
        abouts.append({**about, "sha256": digest})
    monkeypatch.setattr(perceptual, "pinned", lambda: {"vgg16": abouts[0]})
    monkeypatch.setattr(perceptual, "HEADS", abouts[1])
    monkeypatch.setenv("GENBENCH_WEIGHTS", str(folder))
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    return folder


def by_hand(x, y, vgg, heads):
    """The distance of two images (3, H, W), place by place, by torch's own layers."""
    mean, deviation = (torch.tensor(v).view(3, 1, 1) for v in ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)))
    sides, total = [((image + 1) / 2 - mean) / deviation for image in (x, y)], 0.0
    for number, places in enumerate(SLICES):
        if number:
            sides = [nn.MaxPool2d(2)(side) for side in sides]
        for place in places:
            weight, bias = vgg[f"features.{place}.weight"], vgg[f"features.{place}.bias"]
            sides = [F.conv2d(side[None], weight, bias, padding=1)[0].clamp(min=0) for side in sides]
        units = [side / (side.square().sum(0).sqrt() + 1e-10) for side in sides]
        head = heads[f"lin{number}.model.1.weight"][0]
        total += float((head * (units[0] - units[1]).square()).sum(0).mean())
    return total


def test_the_distance_is_that_of_the_paper():
    vgg, heads = tensors()
    found = LPIPS(vgg, heads)(images(), images(seed=2))
    wanted = [by_hand(x, y, vgg, heads) for x, y in zip(images(), images(seed=2))]
    assert found.tolist() == pytest.approx(wanted, rel=1e-4)


def test_an_image_is_no_distance_from_itself_and_further_from_what_is_less_like_it():
    distance = LPIPS(*tensors())
    assert not distance(images(), images()).any()
    near, far = (distance(images(), images() + scale * torch.randn(3, 3, 32, 32)).mean() for scale in (0.05, 0.5))
    assert 0 < near < far
    gray = images(channels=1)
    assert torch.equal(distance(gray, -gray), distance(gray.repeat(1, 3, 1, 1), -gray.repeat(1, 3, 1, 1)))


def test_its_weights_are_constants_and_in_no_checkpoint():
    distance, others = LPIPS(*tensors()), images(seed=2).requires_grad_()
    assert not list(distance.parameters()) and not distance.state_dict()
    distance(images(), others).sum().backward()
    assert others.grad.isfinite().all() and others.grad.any()
    flat = torch.zeros(1, 3, 16, 16, requires_grad=True)
    dead = LPIPS({name: 0 * tensor for name, tensor in tensors()[0].items()}, tensors()[1])
    dead(images(1, side=16), flat).sum().backward()
    assert flat.grad.isfinite().all(), "also where all features are 0"


def test_the_files_are_found_by_folder_and_in_torch_hubs_cache(published, monkeypatch, tmp_path):
    wanted = LPIPS(*tensors())(images(), images(seed=2))
    assert torch.equal(load_lpips()(images(), images(seed=2)), wanted)
    (tmp_path / "torch" / "hub").mkdir(parents=True)
    published.rename(tmp_path / "torch" / "hub" / "checkpoints")
    monkeypatch.delenv("GENBENCH_WEIGHTS")
    assert torch.equal(load_lpips()(images(), images(seed=2)), wanted)


def test_a_missing_or_another_file_is_told_with_its_origin(published):
    file = published / perceptual.HEADS["file"]
    content = file.read_bytes()
    file.write_bytes(content + b" ")
    with pytest.raises(CorruptData, match="SHA-256"):
        load_lpips()
    file.unlink()
    with pytest.raises(EnvironmentProblem) as caught:
        load_lpips()
    for part in (perceptual.HEADS["url"], perceptual.HEADS["sha256"], "GENBENCH_WEIGHTS", "perceptual=0"):
        assert part in caught.value.hint
    assert caught.value.exit_code == 4 and file.name in caught.value.message


def test_the_pinned_heads_are_of_a_fixed_version():
    assert len(perceptual.HEADS["sha256"]) == 64 and "/master/" not in perceptual.HEADS["url"]


@pytest.mark.parametrize("kind", [VQGAN, LatentDiffusion])
def test_a_model_that_is_trained_by_it_declares_it(published, kind):
    config = {**kind.presets["tiny"], "codes": 16, "perceptual": 0.5, "adversarial": 0.0}
    config |= {"first_stage": "vq"} if kind is LatentDiffusion else {}
    data = DataSpec("toy", (1, 16, 16))
    model = kind(data, kind.Config(**config))
    assert model.external_data == (perceptual.DECLARED,) and model.seen_extractors == ("vgg16",)
    batch = Batch(images(4, 1, 16))
    parts = model.loss("autoencoder", batch)
    stage = model.stage if kind is VQGAN else model.autoencoder
    made = stage.coder.reconstruct(batch.images)
    assert parts["perceptual"].item() == pytest.approx(stage.perceptual(batch.images, made).mean().item(), rel=1e-3)
    rest = parts["error"] + parts["codebook"] + 0.25 * parts["commitment"]
    assert parts["loss"].item() == pytest.approx((rest + 0.5 * parts["perceptual"]).item(), rel=1e-5)
    plain = kind(data, kind.Config(**config | {"perceptual": 0.0}))
    assert (plain.external_data, plain.seen_extractors) == ((), ())
    assert sum(p.numel() for p in plain.parameters()) == sum(p.numel() for p in model.parameters())


@pytest.mark.parametrize(("shape", "told"), [((1, 8, 8), "16x16"), ((2, 16, 16), "1 or 3 channels")])
def test_images_that_it_cannot_take_are_refused(shape, told):
    with pytest.raises(ValueError, match=told):
        VQGAN(DataSpec("toy", shape), VQGAN.Config(perceptual=1.0))


def test_a_network_that_training_has_seen_measures_nothing():
    check_unseen("model 'vqgan'", ("vgg16",), ("mnist-classifier-v1", "inception-v3-compat"))
    with pytest.raises(BadInput, match="model 'vqgan': its training has seen the network of vgg16"):
        check_unseen("model 'vqgan'", ("vgg16",), ("mnist-classifier-v1", "vgg16"))


SEEING = """
class Seeing(Model):
    name = "seeing"
    seen_extractors = ("digits-classifier-v1",)
    def __init__(self, data, config):
        super().__init__(data, config)
        self.mean = nn.Parameter(torch.zeros(data.shape))
    def loss(self, phase, batch):
        return (batch.images - self.mean).square().mean()
    def sample(self, n, labels=None):
        return self.mean + 0.1 * torch.randn(n, *self.data.shape)
"""


@pytest.mark.slow
def test_it_is_neither_planned_nor_measured_again_in_its_features(genbench, tmp_path, quick_classifier):
    (tmp_path / "seeing.py").write_text(plugin_source(SEEING))
    few = ["-d", "digits", "--budget", "5steps", "--samples", "100", "--likelihood-images", "4", "--device", "cpu"]
    words = ["run", "--plugin", "seeing.py", "-m", "seeing", *few]
    refused = genbench(*words)
    assert refused.code == 2 and "digits-classifier-v1" in refused.err and not (tmp_path / "runs").exists()
    assert genbench(*words, "--extractor", "local-classifier").code == 0
    folder = run_of(tmp_path / "runs", "seeing")
    assert record_of(folder)["seen_extractors"] == ["digits-classifier-v1"]
    again = genbench("evaluate", folder, "--extractor", "digits-classifier-v1")
    assert again.code == 2 and "has seen the network of digits-classifier-v1" in again.err
