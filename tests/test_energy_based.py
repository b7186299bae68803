"""Energy-based models: chains of known laws, the memory that they go on from, the contrast, a classifier as one."""

import math
from dataclasses import replace

import pytest
import torch
from test_phases import train_until
from test_train import same
from torch.nn import functional as F
from toys import train_toy

from genbench import Batch, DataSpec
from genbench.images import dequantize, to_uint8
from genbench.langevin import gradient
from genbench.planning.session import Request, open_session
from genbench.support.errors import BadInput, Diverged
from genbench.training.memory import copy_without_memories
from genbench_energy.ebm import EBM
from genbench_energy.jem import JEM
from genbench_energy.model import contrast, gaussian


def make(kind=EBM, side=8, channels=1, classes=0, **config):
    torch.manual_seed(0)
    classes = classes or (3 if kind is JEM else 0)
    return kind(DataSpec("toy", (channels, side, side), classes), kind.Config(**{**kind.presets["tiny"], **config}))


def batch(model, count=16):
    classes = model.data.num_classes
    return Batch(torch.rand(count, *model.data.shape) * 2 - 1, torch.arange(count) % classes if classes else None)


def with_energy(model, energy):
    """The model with another energy, a function of images and labels."""
    model.energy = energy
    return model


def last(states):
    *_, state = states
    return state


# Chains


@pytest.mark.parametrize("temperature", [1.0, 0.1])
def test_a_chain_on_a_quadratic_energy_has_the_variance_of_the_discrete_recursion(temperature):
    """v = (1 - step k)^2 v + noise^2 at rest, which is 1 / k times the temperature but for the size of the step."""
    k, step = 50.0, 0.004
    noise = math.sqrt(2 * step * temperature)
    model = make(step_size=step, noise=noise, steepest=0.0, sample_steps=40)
    with_energy(model, lambda x, y=None: k / 2 * x.square().flatten(1).sum(1))
    with torch.no_grad():
        images = model.sample(500)
    at_rest = noise**2 / (1 - (1 - step * k) ** 2)
    assert images.mean().abs().item() < 0.01
    assert images.var().item() == pytest.approx(at_rest, rel=0.03)
    assert at_rest == pytest.approx(temperature / k, rel=0.12)


def test_a_step_is_no_steeper_than_allowed_and_stays_inside():
    model = make(step_size=20.0, noise=0.0, steepest=0.01)
    with_energy(model, lambda x, y=None: (torch.linspace(-3, 3, 64).view(1, 8, 8) * x).flatten(1).sum(1))
    first, second, *rest = model.chain(torch.zeros(1, 1, 8, 8), None, 12)
    assert first.abs().max().item() == pytest.approx(0.2) and second.abs().max().item() == pytest.approx(0.4)
    assert (first.flatten()[:20] > 0).all() and (first.flatten()[44:] < 0).all(), "down the energy"
    assert rest[-1].abs().max() == 1.0


def test_chains_that_are_not_bounded_leave_the_range_and_samples_do_not():
    model = make(step_size=1.0, noise=0.0, steepest=0.0, bounded=False, sample_steps=3)
    with_energy(model, lambda x, y=None: -x.flatten(1).sum(1))
    assert last(model.chain(torch.zeros(2, 1, 8, 8), None, 3)).min() == 3.0
    assert model.sample(2).max() == 1.0


@pytest.mark.parametrize("kind", [EBM, JEM])
def test_samples_are_chains_of_their_own_from_noise(kind):
    """They need no memory, no two are alike, and each call draws others."""
    model = copy_without_memories(make(kind)).eval()
    labels = None if kind is EBM else torch.zeros(8, dtype=torch.long)
    with torch.no_grad():
        images = torch.cat([model.sample(8, labels), model.sample(8, labels)])
    assert len(to_uint8(images).flatten(1).unique(dim=0)) == 16
    assert not images.requires_grad and all(p.grad is None for p in model.parameters())


def test_a_sample_is_as_long_as_a_chain_of_training_lives():
    assert make(steps=10, restarts=0.05, sample_steps=0).nfe == 2 * 200, "a gradient is two evaluations"
    assert make(sample_steps=7).nfe == 14
    with pytest.raises(ValueError, match="sample_steps"):
        make(restarts=0.0, sample_steps=0)


def test_without_classes_chains_begin_with_the_gaussian_of_the_images():
    model, images = make(), 0.1 * torch.randn(512, 5) @ torch.randn(5, 64).clamp(-1, 1)
    model.prepare("energy", Batch(images.view(512, 1, 8, 8) - 0.2))
    starts = model.begin(None, 20_000).flatten(1)
    assert (starts.mean(0) - images.mean(0) + 0.2).abs().max() < 0.02
    assert (starts.T.cov() - images.T.cov()).abs().max() < 0.05 * images.T.cov().abs().max()
    assert (dequantize(model.replay).mean() + 0.2).abs() < 0.1, "and those of the memory too"


def test_under_autocast_chains_are_float32_and_follow_the_bfloat16_energy():
    model, seen = make(sample_steps=2).eval(), []
    energy = model.energy
    with_energy(model, lambda x, y=None: seen.append((x.dtype, torch.is_autocast_enabled("cpu"))) or energy(x, y))
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        assert model.sample(3).dtype == torch.float32
    assert seen == [(torch.float32, True)] * 2


# The memory

STILL = {"noise": 0.0, "restarts": 0.0, "sample_steps": 1}


def flat(x, y=None):
    return 0 * x.flatten(1).sum(1)


def test_what_is_remembered_comes_back_and_a_chain_that_stands_still_changes_nothing():
    model = with_energy(make(memory=40, **STILL), flat)
    before = model.replay.clone()
    images, _ = model.replayed(None, 16)
    drawn = [(before == image).flatten(1).all(1).nonzero().item() for image in to_uint8(images)]
    assert len(set(drawn)) == 16, "different places"
    assert torch.equal(model.replay, before), "levels survive their dequantisation"
    assert not torch.equal(model.replayed(None, 16)[0], images)
    assert (dequantize(before[:1]) != dequantize(before[:1])).any(), "dequantised anew"


def test_the_ends_of_chains_take_the_places_of_their_starts():
    """Down a slope of -1/8 with step 1 for 2 steps: 32 levels up."""
    model = make(memory=40, step_size=1.0, steepest=0.0, **STILL)
    with_energy(model, lambda x, y=None: -x.flatten(1).sum(1) / 8)
    model.replay.clamp_(max=200)
    before = model.replay.clone()
    images, _ = model.replayed(None, 16)
    moved = (model.replay != before).flatten(1).any(1)
    assert moved.sum() == 16
    assert torch.equal(model.replay[moved], before[moved] + 32)
    ends = {image.numpy().tobytes() for image in to_uint8(images)}
    assert ends == {image.numpy().tobytes() for image in model.replay[moved]}


def test_the_configured_share_begins_anew():
    model = with_energy(make(memory=3000, start="noise", **STILL | {"restarts": 0.3}), flat)
    model.replay.zero_()
    images, _ = model.replayed(None, 2000)
    anew = (model.replay > 0).flatten(1).any(1)
    assert anew.sum().item() / 2000 == pytest.approx(0.3, abs=0.04)
    fresh = images[images.flatten(1).max(1).values > -0.9]
    assert len(fresh) == anew.sum() and fresh.mean().abs() < 0.01
    assert fresh.var().item() == pytest.approx(1 / 3, rel=0.02), "uniform in [-1, 1]"


def test_a_chain_keeps_its_class_until_it_begins_anew():
    followed = []
    model = make(classes=3, memory=400, **STILL | {"restarts": 0.5})
    with_energy(model, lambda x, y=None: followed.append(y) or flat(x))
    before, images = model.replay_labels.clone(), model.replay.clone()
    given = torch.full((200,), 2)
    made, labels = model.replayed(given, 200)
    kept = (to_uint8(made)[:, None] == images).flatten(2).all(2)
    old = kept.any(1)
    assert 60 < old.sum() < 140
    assert torch.equal(labels[old], before[kept[old].float().argmax(1)]) and (labels[~old] == 2).all()
    assert torch.equal(followed[-1], labels)
    assert (model.replay_labels == 2).sum() > (before == 2).sum() + 30


def test_a_memory_smaller_than_the_batch_is_refused():
    with pytest.raises(ValueError, match="memory: 8 images are fewer than batch_size, 16"):
        make(memory=8)


@pytest.mark.parametrize("kind", [EBM, JEM])
def test_a_killed_training_goes_on_with_its_memory_to_the_same_weights(tmp_path, digits, monkeypatch, kind):
    config = kind.Config(**kind.presets["tiny"])
    job = {f"{role}_config": config.of_role(role) for role in ("train", "sample")}
    job |= {"config": config.model_dump(mode="json"), "budget": "6steps", "conditional": True}
    whole, _ = train_toy(tmp_path / "whole", digits, kind, **job)
    train_until(monkeypatch, 3, digits, tmp_path / "killed", kind, **job)
    resumed, _ = train_toy(tmp_path / "killed", digits, kind, **job)
    assert same(resumed, whole)
    assert len(whole.replay) == 0, "samples are of the weights"


# The loss


def test_the_contrast_by_hand():
    real, made = torch.tensor([1.0, 3.0]), torch.tensor([2.0, -2.0])
    assert contrast(real, made, 0.5).item() == pytest.approx(2 - 0 + 0.5 * (5 + 4))
    assert contrast(real, made, 0.0).item() == 2.0


def test_the_contrast_has_the_gradient_of_the_likelihood_if_chains_draw_from_the_model():
    """E(x) = a x^2 / 2: d/da of -log p is (mean of x^2 over data - 1 / a) / 2, and 1 / a that of draws from p."""
    torch.manual_seed(0)
    a = torch.tensor(4.0, requires_grad=True)
    data, drawn = 0.3 * torch.randn(200_000), torch.randn(200_000) / 2
    contrast(a / 2 * data**2, a / 2 * drawn**2, 0.0).backward()
    assert a.grad.item() == pytest.approx((0.09 - 0.25) / 2, rel=0.02)


@pytest.mark.parametrize("kind", [EBM, JEM])
def test_nothing_flows_back_through_the_chains(kind):
    model = make(kind)
    made, _ = model.replayed(batch(model).labels, 16)
    assert not made.requires_grad and all(p.grad is None for p in model.parameters())
    model.loss("energy", batch(model))["loss"].backward()
    assert all(p.grad is not None for p in model.parameters())


@pytest.mark.parametrize("kind", [EBM, JEM])
def test_training_makes_chains_find_the_data(kind):
    config = {"learning_rate": 3e-3, "step_size": 20.0, "steepest": 0.01, "steps": 5, "memory": 64, "widths": (16,)}
    model = make(kind, **config, restarts=0.1, start="noise")
    target = torch.full((1, 8, 8), -0.8)
    target[:, 2:6, 2:6] = 0.8

    def distance():
        labels = None if kind is EBM else torch.arange(64) % 3
        with torch.no_grad():
            ends = last(model.eval().chain(model.begin(labels, 64), labels, 20))
        model.train()
        return (ends.mean(0) - target).abs().mean().item()

    (phase,), before = model.phases(), distance()
    for _ in range(80):
        phase.optimizer.zero_grad()
        images = (target + 0.05 * torch.randn(16, 1, 8, 8)).clamp(-1, 1)
        model.loss("energy", Batch(images, batch(model).labels))["loss"].backward()
        phase.optimizer.step()
    assert distance() < 0.5 * before


def test_an_energy_that_runs_away_is_a_diverged_training(tmp_path, digits):
    config = EBM.Config(**EBM.presets["tiny"] | {"learning_rate": 1e12, "spectral_norm": False})
    job = {"config": config.model_dump(mode="json"), "train_config": config.of_role("train")}
    with pytest.raises(Diverged, match="not finite"):
        train_toy(tmp_path, digits, EBM, **job)


def test_the_class_is_part_of_the_energy_once_its_gains_are_no_longer_zero():
    model = make(classes=3, network="residual").eval()
    images, labels = batch(model).images, batch(model).labels
    assert torch.equal(model.energy(images, labels), model.energy(images, (labels + 1) % 3)), "the branches start at 0"
    model.loss("energy", batch(model))["loss"].backward()
    gains = [block.gain.table for block in model.network.blocks]
    assert all(gain.grad.abs().sum() > 0 for gain in gains)
    for gain in gains:
        torch.nn.init.normal_(gain)
    energies = torch.stack([model.energy(images, torch.full((16,), label)) for label in range(3)])
    assert (energies.std(0) > 1e-5).all()


# JEM


def jem():
    model = make(JEM).eval()
    for p in model.parameters():
        p.data.mul_(2)
    return model, torch.rand(6, 1, 8, 8) * 2 - 1


def test_the_density_and_the_classifier_are_one_network():
    model, images = jem()
    logits = model.classify(images)
    joint = torch.stack([-model.energy(images, torch.full((6,), label)) for label in range(3)], dim=1)
    torch.testing.assert_close(joint, logits)
    torch.testing.assert_close(-model.energy(images), joint.exp().sum(1).log())
    conditional = (joint + model.energy(images)[:, None]).exp()
    torch.testing.assert_close(conditional, logits.softmax(1))


def test_chains_of_a_class_follow_the_density_and_the_classifier():
    """grad log p(x, y) = grad log p(x) + grad log p(y | x), whose mean under p(y | x) is grad log p(x)."""
    model, images = jem()
    density = gradient(lambda x: -model.energy(x), images)
    shares, mean = model.classify(images).softmax(1), torch.zeros_like(images)
    for label in range(3):
        labels = torch.full((6,), label)
        joint = gradient(lambda x, y=labels: -model.energy(x, y), images)
        classes = gradient(lambda x, y=labels: -F.cross_entropy(model.classify(x), y, reduction="none"), images)
        torch.testing.assert_close(joint, density + classes)
        mean += shares[:, label, None, None, None] * joint
    torch.testing.assert_close(mean, density)


@pytest.mark.parametrize("chains_of", ["images", "classes"])
def test_the_loss_of_jem_is_that_of_a_classifier_and_a_contrast_of_log_p_of_images(monkeypatch, chains_of):
    model = make(JEM, data_noise=0.0, penalty=0.3, class_weight=2.0, chains_of=chains_of)
    made, followed, given = torch.rand(16, 1, 8, 8) * 2 - 1, [], batch(model)
    monkeypatch.setattr(model, "replayed", lambda labels, count: (made, followed.append(labels) or labels))
    found, halfway = model.loss("energy", given), model.loss("energy", replace(given, progress=0.5))
    real, fake = (-model.classify(images).exp().sum(1).log() for images in (given.images, made))
    wrong = -model.classify(given.images).softmax(1)[torch.arange(16), given.labels].log().mean()
    torch.testing.assert_close(found["loss"], contrast(real, fake, 0.3) + 2 * wrong)
    torch.testing.assert_close(halfway["loss"], contrast(real, fake, 0.3) + 1.5 * wrong)
    torch.testing.assert_close(found["classes"], wrong)
    assert followed == [None] * 2 if chains_of == "images" else torch.equal(followed[0], given.labels)


def test_a_draw_from_a_gaussian_has_the_mean_and_the_covariance_of_the_images_that_it_is_fitted_to():
    torch.manual_seed(0)
    images = torch.cat([torch.randn(30, 1, 1, 3) @ torch.randn(3, 3) + 2, torch.full((30, 1, 1, 3), 100.0)])
    drawn = gaussian(images, (torch.arange(60) < 30).expand(100_000, 60)).flatten(1)
    own = images[:30].flatten(1)
    torch.testing.assert_close(drawn.mean(0), own.mean(0), atol=0.03, rtol=0)
    torch.testing.assert_close(drawn.T.cov(correction=0), own.T.cov(correction=0), atol=0.1, rtol=0.02)


def test_chains_begin_with_a_gaussian_of_their_class_or_of_all_images_if_it_has_few():
    """Class 0 is dark, class 1 is light, and class 2 has two of the images, half way."""
    model = make(JEM)
    labels = torch.tensor([0] * 20 + [1] * 20 + [2] * 2)
    images = 0.01 * torch.randn(42, 1, 8, 8) + torch.tensor([-0.5, 0.5, 0.0])[labels][:, None, None, None]
    model.prepare("energy", Batch(images, labels))
    begun = [model.begin(torch.full((500,), label), 500).flatten(1) for label in range(3)]
    assert [part.mean().item() for part in begun] == pytest.approx([-0.5, 0.5, 0.0], abs=0.06)
    assert begun[0].std(0).max() < 0.03 and begun[2].std(0).min() > 0.3
    remembered = dequantize(model.replay).flatten(1).mean(1)
    assert (remembered[model.replay_labels == 0] < -0.4).all() and (remembered[model.replay_labels == 1] > 0.4).all()
    either = model.begin(None, 500).flatten(1).mean(1)
    assert (either < -0.3).float().mean().item() == pytest.approx(0.5, abs=0.1), "of the classes of the images"
    assert make(JEM, start="noise").begin(None, 500).mean().abs() < 0.05


def test_jem_without_classes_is_refused_when_planning():
    options = {"datasets": ["digits"], "samples": 100, "budget": "5steps", "precision": "fp32"}
    with pytest.raises(BadInput, match="add --conditional"):
        open_session(Request(None, options, ("jem",), (), device="cpu"))
    assert open_session(Request(None, options | {"conditional": True}, ("jem",), (), device="cpu")).jobs
