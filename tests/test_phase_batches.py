"""Phases with batches of their own size: which images they see, what is planned and counted, and resuming."""

from dataclasses import replace

import pytest
import torch
from test_phases import train_until
from test_train import same
from toys import TwoPhases, build, toy_job, train_toy

from genbench import Batch
from genbench.metering.meter import Meter
from genbench.planning.spending import Update, spend
from genbench.records.budget import Budget
from genbench.support.errors import BadInput
from genbench.support.seeds import derive_seed
from genbench.training.feeder import Feeder
from genbench.training.loop import Trainer
from genbench.training.phases import checked_phases


class Batches(TwoPhases):
    """Its first phase learns from three images at a time, its second from as many as the option says, with noise."""

    name = "batches"

    def phases(self):
        first, second = super().phases()
        return [replace(first, batch_size=3), second]

    def loss(self, phase, batch):
        noisy = batch.images + 0.1 * torch.randn_like(batch.images)
        return {"loss": super().loss(phase, Batch(noisy)), "size": torch.tensor(len(batch) * 1.0)}


def test_a_phase_has_batches_of_its_own_and_no_image_is_seen_twice_or_left_out(tmp_path, digits, monkeypatch):
    seen, loss = [], Batches.loss
    monkeypatch.setattr(
        Batches, "loss", lambda self, phase, batch: seen.append((phase, batch.images)) or loss(self, phase, batch)
    )
    _, meter = train_toy(tmp_path, digits, Batches, budget="50images")
    first, second = meter.phases["first"], meter.phases["second"]
    assert (first.updates, first.images) == (9, 27), "up to half of the budget, which the ninth update passes"
    assert (second.updates, second.images) == (4, 32) and meter.steps == 11, "in two steps of two updates"
    assert [(phase, len(images)) for phase, images in seen] == [("first", 3)] * 9 + [("second", 8)] * 4
    job = toy_job(tmp_path, Batches)
    order = [Feeder(job, digits, False, torch.device("cpu")).batch(start, 3).images for start in range(0, 27, 3)]
    assert all(torch.equal(images, wanted) for (_, images), wanted in zip(seen, order))


@pytest.mark.parametrize("budget", ["9steps", "50images", "4e5flops"])
def test_batches_of_a_phases_own_are_planned(tmp_path, digits, budget):
    _, meter = train_toy(tmp_path, digits, Batches, budget=budget)
    phases = checked_phases(build(toy_job(tmp_path, Batches), digits, Batches))
    assert [phase.batch_size for phase in phases] == [3, 8]
    ledgers = meter.phases
    updates = [
        Update(p.name, p.batch_size, ledgers[p.name].flops / ledgers[p.name].updates, p.repeats, p.span) for p in phases
    ]
    found = spend(Budget.parse(budget), updates)
    assert (found.steps, found.images, found.flops) == (meter.steps, meter.images, meter.flops)
    assert found.updates == {name: ledger.updates for name, ledger in ledgers.items()}


@pytest.mark.parametrize("kill", [3, 8])
def test_batches_of_a_phases_own_resume_exactly(tmp_path, digits, monkeypatch, kill):
    whole, meter = train_toy(tmp_path / "whole", digits, Batches, budget="13steps")
    train_until(monkeypatch, kill, digits, tmp_path / "killed", Batches, budget="13steps")
    resumed, again = train_toy(tmp_path / "killed", digits, Batches, budget="13steps")
    assert same(resumed, whole) and again.images == meter.images == 7 * 3 + 6 * 16


@pytest.mark.parametrize(("images", "pieces"), [(2, (2, 1)), (4, (4, 1)), (12, (4, 3))])
def test_a_micro_batch_is_at_most_the_batch_of_a_phase(tmp_path, digits, images, pieces):
    """Its gradients and losses are means over all of its own images."""
    config = Batches.Config(batch_size=8, micro_batch=4)
    assert config.pieces == (4, 2) and config.pieces_of(images) == pieces
    job = toy_job(tmp_path, Batches, config=config.model_dump(mode="json"))
    trainer = Trainer(job, build(job, digits, Batches), digits, tmp_path, Meter(torch.device("cpu")))
    phase, weight, (size, count) = trainer.phases[0], trainer.model.first.weight, pieces
    phase.batch_size = images
    expected = torch.zeros_like(weight)
    for start in range(0, images, size):
        torch.manual_seed(derive_seed(job.seed, "first", start))
        loss = trainer.model.loss("first", trainer.feeder.batch(start, size))["loss"]
        expected += torch.autograd.grad(loss, weight)[0] / count
    found = trainer.gradients(phase, 0.0)
    assert torch.allclose(weight.grad, expected, rtol=1e-5, atol=1e-7) and found["size"] == size


class Uneven(TwoPhases):
    name = "uneven"

    def phases(self):
        return [replace(phase, batch_size=6) for phase in super().phases()]


def test_a_micro_batch_divides_the_batch_of_every_phase(digits, tmp_path):
    job = toy_job(tmp_path, Uneven, config=Uneven.Config(batch_size=8, micro_batch=4).model_dump(mode="json"))
    with pytest.raises(BadInput, match="micro_batch: 4 does not divide the batch of phase 'first', 6"):
        checked_phases(build(job, digits, Uneven))
