"""The loop: budgets, phases, averages, exact repetition, exact resumption, and a stop before a bad step."""

import json
import math
from dataclasses import replace

import pytest
import torch
from toys import Toy, TwoPhases, build, killed_at, toy_job, train_toy

from genbench import Batch
from genbench.metering.meter import Meter
from genbench.planning.config import ModelChoice, configure
from genbench.support.errors import BadInput, Diverged
from genbench.support.seeds import derive_seed
from genbench.training import loop
from genbench.training.ema import WeightAverage
from genbench.training.feeder import Feeder
from genbench.training.loop import Trainer


def same(a, b):
    return all(torch.equal(x, y) for x, y in zip(a.state_dict().values(), b.state_dict().values(), strict=True))


@pytest.mark.parametrize(("budget", "steps"), [("20steps", 20), ("160images", 20), ("161images", 21)])
def test_a_budget_is_kept(tmp_path, digits, budget, steps):
    _, meter = train_toy(tmp_path, digits, budget=budget)
    assert (meter.steps, meter.images) == (steps, 8 * steps)


def test_a_budget_in_seconds_ends_in_time(tmp_path, digits):
    _, meter = train_toy(tmp_path, digits, budget="0.5s")
    assert 0.5 <= meter.train_seconds < 2 and meter.steps > 1


def test_a_budget_in_flops_is_counted(tmp_path, digits):
    _, meter = train_toy(tmp_path, digits, TwoPhases, budget="1e6flops")
    assert 1e6 <= meter.flops < 1.1e6


def test_training_repeats_to_the_bit(tmp_path, digits):
    first, _ = train_toy(tmp_path / "a", digits)
    assert same(first, train_toy(tmp_path / "b", digits)[0])
    assert not same(first, train_toy(tmp_path / "c", digits, seed=1)[0])


def curve(folder, model=Toy, **changes):
    text = (toy_job(folder, model, **changes).folder / "progress.jsonl").read_text()
    return [json.loads(line) for line in text.splitlines()]


class Slow(TwoPhases):
    """Its first phase warms up for longer than it lasts, its second for four steps of its own."""

    def phases(self):
        first, second = super().phases()
        return [replace(first, warmup=100), replace(second, warmup=4, schedule=lambda progress: 1 - progress / 2)]


def test_a_warm_up_takes_steps_of_its_phase_whatever_the_budget(tmp_path, digits):
    train_toy(tmp_path, digits, Slow)
    lines = curve(tmp_path, Slow)
    rates = {name: [line["learning_rate"] for line in lines if line["phase"] == name] for name in ("first", "second")}
    assert rates["first"] == pytest.approx([0.1 * (step + 1) / 100 for step in range(10)])
    assert rates["second"] == pytest.approx([0.1 * (1 - step / 20) * min((step + 1) / 4, 1) for step in range(10)])


@pytest.mark.parametrize("model", [Toy, TwoPhases, Slow])
@pytest.mark.parametrize("kills", [(7,), (3, 11), (10, 10)])
def test_a_killed_and_resumed_training_is_the_undisturbed_one(tmp_path, digits, monkeypatch, model, kills):
    whole, whole_meter = train_toy(tmp_path / "whole", digits, model)
    monkeypatch.setattr(loop, "CHECKPOINT_SECONDS", -1.0)
    for kill in kills:
        with killed_at(kill, monkeypatch):
            train_toy(tmp_path / "killed", digits, model)
    resumed, meter = train_toy(tmp_path / "killed", digits, model)
    assert same(resumed, whole)
    assert (meter.images, meter.flops) == (whole_meter.images, whole_meter.flops)
    curves = [[(e["step"], e["loss"]) for e in curve(tmp_path / name, model)] for name in ("whole", "killed")]
    assert curves[0] == curves[1]


def test_phases_follow_each_other(tmp_path, digits):
    model = build(toy_job(tmp_path, TwoPhases), digits, TwoPhases)
    trained, meter = train_toy(tmp_path, digits, TwoPhases, built=model, budget="20steps")
    assert model.calls == ["first", "second"]
    assert (meter.phases["first"].updates, meter.phases["second"].updates) == (10, 20)
    assert trained.scale > 0 and torch.equal(trained.scale, model.scale)


def test_a_finished_phase_keeps_its_average_and_moves_no_more(tmp_path, digits, monkeypatch):
    seen = []
    end = Trainer.end

    def watching(self, phase):
        end(self, phase)
        if phase.name == "first":
            seen.append((self.model.first.weight.clone(), self.ema.model.first.weight.clone()))

    monkeypatch.setattr(Trainer, "end", watching)
    trained, _ = train_toy(tmp_path, digits, TwoPhases)
    assert all(torch.equal(weight, average) for weight, average in seen)
    assert torch.equal(trained.first.weight, seen[0][0])


def test_only_the_moving_phase_gets_gradients(tmp_path, digits):
    job = toy_job(tmp_path, TwoPhases)
    job.folder.mkdir(parents=True)
    model = build(job, digits, TwoPhases)
    trainer = Trainer(job, model, digits, job.folder, Meter(torch.device("cpu")))
    trainer.step(0.1)
    assert model.first.weight.grad is not None and model.second.weight.grad is None
    first = model.first.weight.clone()
    trainer.step(0.9)
    assert not model.first.weight.requires_grad and model.second.weight.grad is not None
    assert torch.equal(trainer.ema.model.first.weight, model.first.weight) and first.shape == model.first.weight.shape


class Pair(TwoPhases):
    """Noise in its loss, and a buffer that every pass moves."""

    name = "pair"

    def loss(self, phase, batch):
        self.scale += 1
        noisy = batch.images + torch.randn_like(batch.images)
        return {"loss": super().loss("first", Batch(noisy)), "count": self.scale * 1.0}


def test_micro_batches_are_seeded_alone_and_averaged(tmp_path, digits):
    config = Pair.Config(batch_size=8, micro_batch=2)
    job = toy_job(tmp_path, Pair, config=config.model_dump(mode="json"))
    trainer = Trainer(job, build(job, digits, Pair), digits, job.folder, Meter(torch.device("cpu")))
    phase, weight = trainer.phases[0], trainer.model.first.weight
    expected, losses = torch.zeros_like(weight), []
    for first in (0, 2, 4, 6):
        batch = trainer.feeder.batch(first, 2)
        torch.manual_seed(derive_seed(job.seed, "first", first))
        loss = trainer.model.first((batch.images + torch.randn_like(batch.images)).flatten(1)).square().mean()
        expected += torch.autograd.grad(loss, weight)[0] / 4
        losses.append(loss.item())
    found = trainer.gradients(phase, 0.0)
    assert torch.allclose(weight.grad, expected, rtol=1e-6) and found["loss"] == pytest.approx(sum(losses) / 4)
    assert found["count"] == 1 and trainer.model.scale == 1, "each finds the buffers of the start, the first one's stay"
    assert not torch.equal(weight.grad, torch.autograd.grad(losses_of_all(trainer, job), weight)[0])


def losses_of_all(trainer, job):
    batch = trainer.feeder.batch(0, 8)
    torch.manual_seed(derive_seed(job.seed, "first", 0))
    return trainer.model.first((batch.images + torch.randn_like(batch.images)).flatten(1)).square().mean()


@pytest.mark.parametrize("size", [4, 8])
def test_micro_batches_count_what_a_whole_batch_counts(tmp_path, digits, size):
    """One that is the whole batch is the same training, to the bit."""
    meters, trained = [], []
    for micro in (0, size):
        config = TwoPhases.Config(batch_size=8, micro_batch=micro).model_dump(mode="json")
        model, meter = train_toy(tmp_path / str(micro), digits, TwoPhases, config=config)
        meters.append((meter.images, meter.flops, meter.phases["second"].updates))
        trained.append(model)
    assert meters[0] == meters[1] and meters[0][1] > 0
    assert same(*trained) == (size == 8)
    assert torch.allclose(trained[0].first.weight, trained[1].first.weight, atol=1e-3), "but for dequantisation noise"


def test_a_micro_batch_divides_the_batch():
    with pytest.raises(BadInput, match="micro_batch: 3 does not divide batch_size, 8"):
        configure(Toy, ModelChoice(name="toy", config={"batch_size": 8, "micro_batch": 3}))


def test_the_average_warms_up(digits, tmp_path):
    model = build(toy_job(tmp_path), digits)
    phases = model.phases()
    average = WeightAverage(model, phases, decay=0.9)
    value = 0.0
    for step in range(1, 200):
        with torch.no_grad():
            model.mean.fill_(float(step))
        average.update("train", step)
        decay = min(0.9, (1 + step) / (10 + step))
        value = decay * value + (1 - decay) * step
    assert average.model.mean.mean().item() == pytest.approx(value, rel=1e-4)


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_divergence_stops_before_the_step_and_keeps_the_good_weights(tmp_path, digits, monkeypatch, bad):
    monkeypatch.setattr(loop, "CHECKPOINT_SECONDS", -1.0)
    good = Toy.loss

    def loss(self, phase, batch):
        losses = good(self, phase, batch)
        return losses if self.seen < 60 else losses | {"loss": losses["loss"] * bad}

    monkeypatch.setattr(Toy, "loss", loss)
    model = build(toy_job(tmp_path), digits)
    with pytest.raises(Diverged, match="step 7"):
        train_toy(tmp_path, digits, built=model)
    assert model.mean.isfinite().all()


def test_the_learning_curve_is_written(tmp_path, digits):
    train_toy(tmp_path, digits, budget="400steps")
    lines = curve(tmp_path, budget="400steps")
    assert len(lines) == 201 and lines[-1]["step"] == 400 and lines[-1]["images"] == 3200
    assert lines[-1]["loss"] < lines[0]["loss"] and "noise" in lines[0]


class Wrong(Toy):
    how = ""

    def loss(self, phase, batch):
        loss = super().loss(phase, batch)["loss"]
        return {"vector": loss.expand(2), "detached": loss.detach(), "missing": {"other": loss}}[self.how]


@pytest.mark.parametrize("how", ["vector", "detached", "missing"])
def test_a_loss_that_is_no_loss_is_named(tmp_path, digits, monkeypatch, how):
    monkeypatch.setattr(Wrong, "how", how)
    with pytest.raises(BadInput, match="loss"):
        train_toy(tmp_path, digits, Wrong)


def test_the_order_of_images_does_not_depend_on_the_batch_size(digits, tmp_path):
    feeder = Feeder(toy_job(tmp_path), digits, True, torch.device("cpu"))
    halves = torch.cat([feeder.batch(0, 8).images, feeder.batch(8, 8).images])
    assert torch.equal(feeder.batch(0, 16).images, halves)
