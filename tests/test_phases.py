"""What a step is made of: phases that take turns or share an optimizer, warm-ups by progress; settling at the end."""

from dataclasses import replace

import pytest
import torch
from test_train import curve, same
from torch import nn
from toys import Killed, Toy, TwoPhases, build, killed_at, toy_job, train_toy

from genbench import Batch, Model, Phase
from genbench.metering.meter import Meter
from genbench.planning.spending import Update, spend
from genbench.records import checkpoint
from genbench.records.budget import Budget
from genbench.support.errors import BadInput
from genbench.support.seeds import derive_seed
from genbench.testing import check_model
from genbench.training import loop
from genbench.training.feeder import Feeder
from genbench.training.loop import Trainer
from genbench.training.optimizer_state import optimizer_tensors
from genbench.training.phases import checked_phases, optimizers


def train_until(monkeypatch, step, digits, folder, model, **changes):
    """Train until `step` steps are taken, with a checkpoint after each, and die."""
    monkeypatch.setattr(loop, "CHECKPOINT_SECONDS", -1.0)
    with killed_at(step, monkeypatch):
        train_toy(folder, digits, model, **changes)


class Lazy(Model):
    """A critic of StyleGAN2's kind: a loss in each step, and a gradient penalty in every fourth, on one optimizer."""

    name = "lazy"
    every = 4

    def __init__(self, data, config):
        super().__init__(data, config)
        self.net = nn.Sequential(nn.Flatten(), nn.Linear(data.dims, 6), nn.Tanh(), nn.Linear(6, 1))
        self.register_buffer("calls", torch.zeros(2))

    def phases(self):
        optimizer = torch.optim.Adam(self.net.parameters(), lr=0.01, betas=(0.5, 0.9))
        return [
            Phase("critic", self.net, optimizer, schedule=lambda progress: 1 - progress),
            Phase("penalty", self.net, optimizer, every=self.every),
        ]

    def loss(self, phase, batch):
        self.calls[int(phase == "penalty")] += 1
        images = batch.images + 0.1 * torch.randn_like(batch.images)
        if phase == "critic":
            return (self.net(images) - 1).square().mean()
        images = images.requires_grad_()
        (slope,) = torch.autograd.grad(self.net(images).sum(), images, create_graph=True)
        return self.every / 2 * slope.square().sum() / len(images)

    def sample(self, n, labels=None):
        return torch.rand(n, *self.data.shape) * 2 - 1


class Eager(Lazy):
    """The same penalty in each step."""

    name = "eager"
    every = 1


def test_a_lazy_phase_takes_each_nth_step_at_a_cost_of_its_own(tmp_path, digits):
    trained, meter = train_toy(tmp_path, digits, Lazy, budget="10steps")
    assert trained.calls.tolist() == [10, 3], "in steps 0, 4 and 8"
    critic, penalty = meter.phases["critic"], meter.phases["penalty"]
    assert (critic.updates, critic.images, penalty.updates, penalty.images) == (10, 80, 3, 24)
    each = {name: ledger.flops / ledger.updates for name, ledger in meter.phases.items()}
    assert each["critic"] == 2 * 8 * (64 * 6 + 6 + 64 * 6 + 2 * 6) and each["penalty"] > 1.5 * each["critic"]
    _, always = train_toy(tmp_path, digits, Eager, budget="10steps")
    assert always.phases["penalty"].flops / 10 == each["penalty"], "counted at its own first update"


@pytest.mark.parametrize("budget", ["10steps", "133images", "4.3e5flops"])
def test_a_training_takes_the_steps_that_are_planned(tmp_path, digits, budget):
    _, meter = train_toy(tmp_path, digits, Lazy, budget=budget)
    updates = [
        Update(name, 8, ledger.flops / ledger.updates, every={"critic": 1, "penalty": 4}[name])
        for name, ledger in meter.phases.items()
    ]
    found = spend(Budget.parse(budget), updates)
    assert (found.steps, found.images, found.flops) == (meter.steps, meter.images, meter.flops) and meter.steps > 9
    assert found.updates == {name: ledger.updates for name, ledger in meter.phases.items()}


@pytest.mark.parametrize("kill", [1, 4, 9])
def test_a_shared_optimizer_is_stored_once_and_resumed_exactly(tmp_path, digits, monkeypatch, kill):
    monkeypatch.setattr(loop, "LOG_POINTS", 3)
    whole, meter = train_toy(tmp_path / "whole", digits, Lazy, budget="11steps")
    train_until(monkeypatch, kill, digits, tmp_path / "killed", Lazy, budget="11steps")
    tensors, _ = checkpoint.load(toy_job(tmp_path / "killed", Lazy, budget="11steps").folder / "checkpoint")
    assert {name.split(".")[0] for name in tensors["optimizer"]} == {"critic"}
    resumed, again = train_toy(tmp_path / "killed", digits, Lazy, budget="11steps")
    assert same(resumed, whole) and (again.images, again.flops) == (meter.images, meter.flops)
    logs = [curve(tmp_path / name, Lazy, budget="11steps") for name in ("whole", "killed")]
    timeless = [[{k: v for k, v in line.items() if k != "seconds"} for line in log] for log in logs]
    assert timeless[0] == timeless[1]
    rates = {
        name: [line["learning_rate"] for line in logs[0] if line["phase"] == name] for name in ("critic", "penalty")
    }
    assert rates["penalty"][0] == 0.01 and rates["critic"][-1] == pytest.approx(0.01 * (1 - 10 / 11))


def test_what_phases_share_is_averaged_once_per_step(tmp_path, digits):
    job = toy_job(tmp_path, Lazy)
    trainer = Trainer(job, build(job, digits, Lazy), digits, tmp_path, Meter(torch.device("cpu")))
    average, weight = trainer.model.net[1].weight.detach().clone(), trainer.model.net[1].weight
    for step in range(1, 7):
        trainer.step(step / 20)
        average.lerp_(weight.detach(), 1 - min(0.999, (1 + step) / (10 + step)))
    assert torch.equal(trainer.ema.model.net[1].weight, average) and trainer.averages == {"critic": 6}


class InTurn(Lazy):
    """Its phases have the optimizer one after the other; another module follows the first of them."""

    name = "inturn"

    def __init__(self, data, config):
        super().__init__(data, config)
        self.last = nn.Linear(1, 1)

    def phases(self):
        critic, penalty = super().phases()
        other = Phase("last", self.last, torch.optim.SGD(self.last.parameters(), lr=0.1), span=(0.5, 1.0))
        return [replace(critic, span=(0.0, 0.3)), replace(penalty, span=(0.2, 0.5), every=1), other]

    def loss(self, phase, batch):
        return self.last(self.net(batch.images)).square().mean() if phase == "last" else super().loss(phase, batch)


def test_an_average_becomes_the_weights_when_the_last_phase_of_its_optimizer_ends(tmp_path, digits, monkeypatch):
    job = toy_job(tmp_path, InTurn)
    trainer = Trainer(job, build(job, digits, InTurn), digits, tmp_path, Meter(torch.device("cpu")))
    weight = trainer.model.net[1].weight
    monkeypatch.setattr(trainer, "update", lambda phase, within, ledger: weight.data.add_(phase.name != "last"))
    for step, progress in enumerate((0.0, 0.1, 0.2, 0.3, 0.4)):
        moved = weight.clone()
        trainer.step(progress)
        assert torch.equal(weight, moved + (2 if step == 2 else 1)), "moved, by both phases in one step, not replaced"
    average = trainer.ema.model.net[1].weight.clone()
    assert not torch.equal(average, weight)
    trainer.step(0.5)
    assert torch.equal(trainer.ema.model.net[1].weight, average) and torch.equal(weight, average)
    assert trainer.averages == {"critic": 5, "last": 1}


class Twice(TwoPhases):
    name = "twice"

    def phases(self):
        first, second = super().phases()
        return [first, replace(second, module=self, optimizer=torch.optim.SGD(self.parameters(), lr=0.1))]


class Odd(TwoPhases):
    name = "odd"

    def phases(self):
        return [replace(phase, part="critic") for phase in super().phases()]


class Never(TwoPhases):
    name = "never"

    def phases(self):
        return [replace(phase, every=0) for phase in super().phases()]


class Minus(TwoPhases):
    name = "minus"

    def phases(self):
        return [replace(phase, batch_size=-1) for phase in super().phases()]


@pytest.mark.parametrize(
    ("model", "told"),
    [
        (Minus, "a batch_size that is not negative"),
        (Twice, "'first' and 'second' move the same"),
        (Never, "every of at least"),
        (Odd, "'first' is part of 'critic'"),
    ],
)
def test_phases_that_are_not_sound_are_refused(digits, tmp_path, model, told):
    with pytest.raises(BadInput, match=told):
        checked_phases(build(toy_job(tmp_path, model), digits, model))


class Seldom(Toy):
    name = "seldom"

    def phases(self):
        return [replace(phase, every=3) for phase in super().phases()]


def test_a_step_in_which_no_phase_has_its_turn_takes_nothing_and_is_no_end(tmp_path, digits):
    trained, meter = train_toy(tmp_path, digits, Seldom, budget="24images")
    assert (meter.steps, meter.images, trained.seen) == (7, 24, 24)


class HalfWay(Toy):
    name = "halfway"

    def phases(self):
        return [replace(phase, every=3, span=(0.0, 0.5)) for phase in super().phases()]


def test_a_budget_that_is_never_spent_is_an_error_not_a_hang(tmp_path, digits):
    with pytest.raises(BadInput, match="never be reached"):
        train_toy(tmp_path, digits, HalfWay, budget="48images")


def test_a_gradient_from_one_of_the_phases_on_an_optimizer_is_enough():
    """The penalty does not depend on the last bias, which the critic's loss moves."""
    check_model(Lazy)


def test_the_state_of_optimizers_has_each_once(digits, tmp_path):
    phases = build(toy_job(tmp_path, InTurn), digits, InTurn).phases()
    assert list(optimizers(phases)) == ["critic", "last"] and optimizer_tensors(optimizers(phases)) == {}


# Progress


class Warming(TwoPhases):
    """A term of its loss grows over the first half of each phase; what it was is summed in a buffer."""

    name = "warming"

    def __init__(self, data, config):
        super().__init__(data, config)
        self.register_buffer("told", torch.zeros(2, 40, dtype=torch.float64))
        self.register_buffer("count", torch.zeros(2, dtype=torch.int64))

    def phases(self):
        first, second = super().phases()
        return [first, replace(second, span=(0.2, 1.0))]

    def loss(self, phase, batch):
        row = int(phase == "second")
        self.told[row, self.count[row]] = batch.progress
        self.count[row] += 1
        return super().loss(phase, batch) * min(1.0, 2 * batch.progress)


def test_a_batch_tells_the_share_of_its_phase_that_is_over(tmp_path, digits):
    trained, _ = train_toy(tmp_path, digits, Warming, budget="10steps")
    assert trained.count.tolist() == [5, 16], "two updates in each step of the second"
    first, second = (row[:count].tolist() for row, count in zip(trained.told, trained.count))
    assert first == pytest.approx([0, 0.2, 0.4, 0.6, 0.8]) and second[::2] == second[1::2]
    assert second[::2] == pytest.approx([step / 8 for step in range(8)])
    assert Batch(torch.zeros(1, 1, 2, 2)).progress == 0


def test_progress_stays_below_one():
    phase = Phase("a", nn.Identity(), None, span=(0.1, 0.7))
    assert phase.within(0.1) == 0 and phase.within(0.7) < 1 and phase.within(0.4) == pytest.approx(0.5)


@pytest.mark.parametrize("kill", [3, 7])
def test_a_warm_up_inside_a_loss_resumes_exactly(tmp_path, digits, monkeypatch, kill):
    whole, _ = train_toy(tmp_path / "whole", digits, Warming, budget="10steps")
    train_until(monkeypatch, kill, digits, tmp_path / "killed", Warming, budget="10steps")
    assert same(train_toy(tmp_path / "killed", digits, Warming, budget="10steps")[0], whole)


def test_micro_batches_of_an_update_have_one_progress(tmp_path, digits, monkeypatch):
    told = []
    monkeypatch.setattr(Warming, "loss", lambda self, phase, batch: told.append(batch.progress) or self.scalar(batch))
    monkeypatch.setattr(
        Warming, "scalar", lambda self, batch: self.first(batch.images.flatten(1)).mean(), raising=False
    )
    config = Warming.Config(batch_size=8, micro_batch=2).model_dump(mode="json")
    job = toy_job(tmp_path, Warming, config=config)
    trainer = Trainer(job, build(job, digits, Warming), digits, tmp_path, Meter(torch.device("cpu")))
    trainer.gradients(trainer.phases[0], 0.25)
    assert told == [0.25] * 4


# Settling


class Settles(Toy):
    """The mean image is shifted by a draw and by the images' mean, on the averaged weights, when training ends."""

    name = "settles"

    def __init__(self, data, config):
        super().__init__(data, config)
        self.register_buffer("settled", torch.zeros(3))

    def settle(self, batch):
        assert not torch.is_grad_enabled() and not self.training
        self.train()
        self.settled[0] += 1
        self.settled[1] = self.mean.mean() + batch.images.mean()
        self.settled[2] = torch.rand(())
        self.mean += 1


def test_a_model_settles_once_on_the_averaged_weights_when_training_ends(tmp_path, digits):
    plain, _ = train_toy(tmp_path, digits)
    trained, _ = train_toy(tmp_path, digits, Settles)
    assert torch.equal(trained.mean, plain.mean + 1) and not trained.training
    job = toy_job(tmp_path, Settles)
    images = Feeder(job, digits, False, torch.device("cpu")).batch(0, loop.PREPARE_IMAGES).images
    torch.manual_seed(derive_seed(job.seed, "settle"))
    assert torch.equal(
        trained.settled, torch.stack([torch.ones(()), plain.mean.mean() + images.mean(), torch.rand(())])
    )
    tensors, state = checkpoint.load(job.folder / "checkpoint")
    assert torch.equal(tensors["ema"]["settled"], trained.settled) and state.settled
    assert not tensors["model"]["settled"].any(), "the weights that moved are as they were"


def test_settling_is_outside_the_clock(tmp_path, digits, monkeypatch):
    held = []
    monkeypatch.setattr(Settles, "settle", lambda self, batch: held.append(meter._started))
    meter = Meter(torch.device("cpu"))
    train_toy(tmp_path, digits, Settles, meter=meter)
    assert held == [None]


@pytest.mark.parametrize("point", ["before the checkpoint", "train.end"])
def test_a_training_that_is_killed_when_it_settles_settles_once(tmp_path, digits, monkeypatch, point):
    whole, _ = train_toy(tmp_path / "whole", digits, Settles)
    monkeypatch.setattr(loop, "CHECKPOINT_SECONDS", -1.0)
    with monkeypatch.context() as patch:
        if point == "train.end":
            patch.setattr(loop, "fault", lambda name: name == point and die())
        else:
            save = Trainer.save
            patch.setattr(Trainer, "save", lambda self, last=False: die() if last else save(self))
        with pytest.raises(Killed):
            train_toy(tmp_path / "killed", digits, Settles)
    resumed, _ = train_toy(tmp_path / "killed", digits, Settles)
    assert same(resumed, whole) and resumed.settled[0] == 1


def die():
    raise Killed


def test_points_of_a_curve_are_settled_copies(tmp_path, digits):
    trained, _ = train_toy(tmp_path, digits, Settles, curve=3)
    folder = toy_job(tmp_path, Settles).folder / "curve"
    points = [checkpoint.read(folder / name)[0]["ema"] for name in ("1", "2")]
    for point in points:
        assert point["settled"][0] == 1 and point["settled"][2] == trained.settled[2]
        assert point["settled"][1] - point["mean"].mean() == pytest.approx(
            float(trained.settled[1] - trained.mean.mean()), abs=1e-6
        )
    assert same(trained, train_toy(tmp_path / "without", digits, Settles)[0]), "what is kept changes no training"
