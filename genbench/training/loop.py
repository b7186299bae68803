"""The default `train`: one loop that trains with one or more optimizers, in parallel or in sequence, to a budget."""

from __future__ import annotations

import copy
import math
from pathlib import Path

import torch
from torch import Tensor

from genbench.data.dataset import Dataset
from genbench.devices import autocast, peak_memory, seed_generators, synchronize
from genbench.extension.registry import Plugins
from genbench.metering.flops import FlopCounter
from genbench.metering.meter import Meter
from genbench.metering.progress_log import ProgressLog
from genbench.model import Batch, Model, Phase
from genbench.records import checkpoint
from genbench.records.job import Job
from genbench.records.point import LOG
from genbench.records.run_folder import check_log
from genbench.records.training_state import Ledger, TrainingState
from genbench.support import digests, store
from genbench.support.errors import BadInput, Cancelled, Diverged
from genbench.support.faults import fault
from genbench.support.progress import alive, at, report, stop_requested
from genbench.support.seeds import derive_seed
from genbench.training.compilation import compiled, uncompiled
from genbench.training.ema import WeightAverage
from genbench.training.feeder import Feeder
from genbench.training.keeper import Keeper
from genbench.training.memory import memories, restore_memories
from genbench.training.optimizer_state import optimizer_tensors, restore_optimizers
from genbench.training.phases import checked_loss, checked_phases, first_phases, give_gradients, optimizers
from genbench.training.team import Team

CHECKPOINT_SECONDS = 60.0
PREPARE_IMAGES = 512
LOG_POINTS = 200


class Trainer:
    """The state of one training; all of it is in the checkpoint or follows from (seed, images seen)."""

    def __init__(
        self, job: Job, model: Model, data: Dataset, folder: Path, meter: Meter, team: Team | None = None,
        log: ProgressLog | None = None,
    ) -> None:  # fmt: skip
        self.job, self.model, self.folder, self.meter, self.team = job, model, folder, meter, team or Team()
        self.progress_log = log or ProgressLog(job, folder, meter)
        self.device = torch.device(job.runtime.device)
        self.feeder = Feeder(job, data, model.discrete, self.device, model.config.flip)
        self.phases = checked_phases(model)
        self.rates = {phase.name: [group["lr"] for group in phase.optimizer.param_groups] for phase in self.phases}
        self.ema = WeightAverage(model, self.phases, model.config.ema_decay)
        self.started: set[str] = set()
        self.ended: set[str] = set()
        self.settled = False
        self.idle = 0
        self.first = first_phases(self.phases)
        self.phase_steps = dict.fromkeys(self.first, 0)
        self.averages = dict.fromkeys(self.first.values(), 0)
        self.learning_rates: dict[str, float] = {}
        self.flops_per_update: dict[str, float] = {}
        self.moving: Phase | None = None
        self.logged = -1
        self.totals: dict[str, list[float]] = {}
        self.saved_at = 0.0
        self.curve = Keeper(folder / "curve", job.curve)

    def run(self) -> Model:
        """Train to the budget; the returned model has the averaged weights."""
        with self.meter.pause():
            self.resume()
            self.team.share(self.model, self.ema.model)
        self.model.train()
        while (progress := self.team.agree(self.progress())) < 1:
            self.step(progress)
            fault("train.step")
            if self.team.leads:
                self.look_after(progress)
        for phase in self.phases:
            self.end(phase)
        with self.meter.pause():  # while the other processes are still there to be measured
            self.meter.peer_bytes = int(self.team.total(0 if self.team.leads else peak_memory(self.device)[0]))
        if self.team.leads:
            if not self.settled:
                with self.meter.pause():
                    self.settle(self.ema.model)
                    self.settled = True
            self.save(last=True)
            fault("train.end")
        return self.ema.model

    def look_after(self, before: float) -> None:
        """After a step that began at progress `before`: log, keep curve points, checkpoint, stop."""
        self.idle = self.idle + 1 if self.progress() == before else 0
        if self.idle == math.lcm(*(phase.every for phase in self.phases)):
            raise BadInput(
                f"{self.model.name}: no {self.job.budget.unit} were counted in a step, so a budget in "
                f"{self.job.budget.unit} would never be reached",
                "give the budget in seconds or steps",
            )
        self.log()
        self.keep()
        if self.meter.seconds - self.saved_at > CHECKPOINT_SECONDS or stop_requested():
            self.save()
        if stop_requested():
            raise Cancelled(f"stopped after {self.meter.steps} steps", "run again to resume")

    def progress(self) -> float:
        """The spent share of the budget."""
        meter = self.meter
        return self.job.budget.spent(
            images=meter.images, steps=meter.steps, seconds=meter.seconds, flops=meter.flops
        )  # fmt: skip

    def step(self, progress: float) -> None:
        """One pass over the active phases that are due, with their repeats."""
        at("train", self.meter.steps)
        active = []
        for phase in self.phases:
            if progress >= phase.span[1]:
                self.end(phase)
            elif progress >= phase.span[0]:
                self.start(phase)
                active.append(phase)
        due = [phase for phase in active if self.meter.steps % phase.every == 0]
        last = {self.first[phase.name]: phase for phase in due}
        for phase in due:
            first = self.first[phase.name]
            with self.meter.phase(phase.name) as ledger:
                for _ in range(phase.repeats):
                    self.update(phase, phase.within(progress), ledger)
                self.phase_steps[phase.name] += 1
                if phase is last[first]:
                    self.averages[first] += 1
                    self.ema.update(first, self.averages[first])
        self.ema.copy_buffers(self.model)
        self.meter.stepped()

    def start(self, phase: Phase) -> None:
        """Let the model prepare from data when a phase begins; outside the clock."""
        if phase.name in self.started:
            return
        with self.meter.pause(), torch.no_grad():
            if self.team.leads:
                torch.manual_seed(derive_seed(self.job.seed, phase.name, "prepare"))
                with uncompiled(self.model):
                    self.model.prepare(phase.name, self.first_images())
            self.team.share(self.model)
            if not self.averages[self.first[phase.name]]:
                self.ema.reset(phase.name)
            self.ema.copy_buffers(self.model)
            self.started.add(phase.name)

    def end(self, phase: Phase) -> None:
        """After an optimizer's last phase, set its weights, which then no longer move, to their averages."""
        if phase.name in self.ended:
            return
        self.ended.add(phase.name)
        sharing = {name for name, first in self.first.items() if first == self.first[phase.name]}
        if sharing <= self.ended and sharing & self.started:
            self.ema.replace(phase.name)

    @torch.no_grad()
    def settle(self, model: Model) -> None:
        """Let a model with averaged weights set what depends on them; call with the clock paused."""
        torch.manual_seed(derive_seed(self.job.seed, "settle"))
        model.settle(self.first_images())
        model.eval()

    def first_images(self) -> Batch:
        """The batch for `Model.prepare` and `Model.settle`."""
        return self.feeder.batch(0, min(PREPARE_IMAGES, len(self.feeder.data.train)))

    def update(self, phase: Phase, within: float, ledger: Ledger) -> None:
        """One batch through one optimizer. Raises Diverged instead of taking a non-finite step."""
        self.move(phase)
        phase.optimizer.zero_grad(set_to_none=True)
        counted = phase.name in self.flops_per_update or not self.team.leads
        losses = self.gradients(phase, within)
        factor = phase.factor(within, self.phase_steps[phase.name])
        for group, rate in zip(phase.optimizer.param_groups, self.rates[phase.name]):
            group["lr"] = rate * factor
        self.learning_rates[phase.name] = self.rates[phase.name][0] * factor
        fault("train.update")
        if counted:
            phase.optimizer.step()
        else:
            with FlopCounter() as counter:
                phase.optimizer.step()
            self.flops_per_update[phase.name] += counter.flops
        ledger.images += phase.batch_size
        ledger.updates += 1
        if self.team.leads:
            ledger.flops += self.flops_per_update[phase.name]
            for name, value in losses.items():
                self.totals.setdefault(f"{phase.name}.{name}", []).append(value)

    def move(self, phase: Phase) -> None:
        """Enable gradients for this phase's parameters and no others."""
        if self.moving is not phase:
            give_gradients(self.model, phase)
            self.moving = phase

    def gradients(self, phase: Phase, within: float) -> dict[str, float]:
        """Mean losses and clipped gradients over an update's micro-batches, which the processes divide among them.

        Each micro-batch starts from the buffers as they were before the update; those after the first one are kept.
        """
        size, count = self.model.config.pieces_of(phase.batch_size)
        mine = count // self.team.size
        first = self.meter.images + self.team.rank * mine * size
        sums = self.accumulate(phase, range(first, first + mine * size, size), count, within)
        parameters: list[Tensor] = [*phase.parameters]
        sums = self.team.add_up(parameters, sums)
        self.team.share_buffers(self.model)
        gradients = [p.grad for p in parameters if p.grad is not None]
        if count > 1 and gradients:
            torch._foreach_mul_(gradients, 1 / count)
        norm = torch.nn.utils.get_total_norm(gradients)
        if phase.clip:
            torch.nn.utils.clip_grads_with_norm_(parameters, phase.clip, norm)
        *values, length = torch.stack([*(value.to(norm.device).reshape(()) for value in sums.values()), norm]).tolist()
        losses = {name: value / count for name, value in zip(sums, values)}
        if not math.isfinite(losses["loss"]) or not math.isfinite(length):
            what = "loss" if not math.isfinite(losses["loss"]) else "gradient"
            raise Diverged(f"the {what} of phase {phase.name!r} is not finite at step {self.meter.steps}")
        return losses

    def accumulate(self, phase: Phase, starts: range, count: int, within: float) -> dict[str, Tensor]:
        """Sums of losses and gradients over the micro-batches, out of `count`, that begin at `starts`.

        FLOPs are counted on a phase's first micro-batch; all later ones are equal.
        """
        buffers = list(self.model.buffers()) if len(starts) > 1 else []
        found = [buffer.clone() for buffer in buffers]
        if self.team.leads and phase.name not in self.flops_per_update:
            with uncompiled(self.model), FlopCounter() as counter:
                sums = self.backward(phase, starts[0], starts.step, within)
            self.flops_per_update[phase.name] = counter.flops * count
            self.meter.uncounted_ops |= counter.uncounted
        else:
            sums = self.backward(phase, starts[0], starts.step, within)
        left = [buffer.clone() for buffer in buffers]
        for start in starts[1:]:
            _put_back(buffers, found)
            losses = self.backward(phase, start, starts.step, within)
            sums = {name: value + losses[name] for name, value in sums.items()}
        _put_back(buffers, left)
        return sums

    def backward(self, phase: Phase, first: int, size: int, within: float) -> dict[str, Tensor]:
        """Losses of the `size` images from `first` on; their gradients are added to the present ones."""
        alive()
        batch = self.feeder.batch(first, size, within)
        seed_generators(self.device, derive_seed(self.job.seed, phase.name, first))
        with autocast(self.device, self.job.precision):
            outcome = self.model.loss(phase.name, batch)
        losses = outcome if isinstance(outcome, dict) else {"loss": outcome}
        loss = checked_loss(losses, phase)
        loss.backward()  # type: ignore[no-untyped-call]
        return {name: value.detach() for name, value in losses.items()}

    def log(self) -> None:
        """Log a point of the learning curve at each of LOG_POINTS equal shares of the budget: means since the last."""
        progress = min(self.progress(), 1.0)
        point = int(progress * LOG_POINTS)
        if point <= self.logged:
            return
        self.logged = point
        with self.meter.pause():
            losses: dict[str, float] = {}
            for phase in self.phases:
                means = {
                    key.split(".", 1)[1]: sum(values) / len(values)
                    for key, values in self.totals.items()
                    if key.split(".", 1)[0] == phase.name
                }
                if means:
                    losses |= {phase.name: means["loss"]} if math.isfinite(means["loss"]) else {}
                    self.progress_log.add(phase.name, means, self.learning_rates[phase.name])
            self.totals.clear()
            facts = {"step": self.meter.steps, "images": self.meter.images, "seconds": self.meter.seconds}
            report("train", progress, f"step {self.meter.steps:,}", {**facts, "losses": losses})

    def keep(self) -> None:
        """Keep the averaged weights when a point of the curve's grid is reached; outside the clock."""
        if self.curve.is_due(self.progress()):
            with self.meter.pause():
                waiting = self.waiting()
                model = self.ema.model
                if type(model).settle is not Model.settle and not waiting:
                    self.settle(model := copy.deepcopy(model))
                self.curve.keep(self.progress(), model, waiting, self.meter)

    def waiting(self) -> list[str]:
        """The phases that have not begun, and without which the model cannot be scored."""
        begun = {self.first[name] for name in self.started}
        return [p.name for p in self.phases if self.first[p.name] not in begun and not p.auxiliary]

    def save(self, last: bool = False) -> None:
        """Write a checkpoint, outside the clock; the last without optimizer. Raises Diverged for non-finite weights."""
        with self.meter.pause():
            if not all(bool(parameter.isfinite().all()) for parameter in self.model.parameters()):
                raise Diverged(f"a weight is not finite after step {self.meter.steps}")
            tensors = {"model": self.model.state_dict(), "ema": self.ema.model.state_dict()}
            if not last:
                tensors["optimizer"] = optimizer_tensors(optimizers(self.phases))
                if kept := memories(self.model):
                    tensors["memory"] = kept
            totals = {name: [x if math.isfinite(x) else None for x in values] for name, values in self.totals.items()}
            log = ""
            if (self.folder / LOG).exists():
                store.sync(self.folder / LOG)
                log = digests.file_digest(self.folder / LOG)
            state = TrainingState(
                job=self.job.id, meter=self.meter.state(), logged=self.logged, started=sorted(self.started),
                ended=sorted(self.ended), settled=self.settled, phase_steps=self.phase_steps, averages=self.averages,
                learning_rates=self.learning_rates, flops_per_update=self.flops_per_update, totals=totals,
                curve=self.curve.state(), log=log,
            )  # fmt: skip
            checkpoint.save(self.folder / "checkpoint", tensors, state)
        self.saved_at = self.meter.seconds

    def resume(self) -> None:
        """Resume from the newest complete checkpoint, if any."""
        loaded = checkpoint.load(self.folder / "checkpoint")
        if loaded is None:
            if self.team.leads:
                self.progress_log.rewind()
                self.curve.restore(None)
            return
        tensors, state = loaded
        self.model.load_state_dict(tensors["model"])
        self.ema.model.load_state_dict(tensors["ema"])
        if "optimizer" in tensors:
            restore_optimizers(optimizers(self.phases), tensors["optimizer"])
            restore_memories(self.model, tensors.get("memory", {}))
        self.meter.restore(state.meter)
        self.saved_at = self.meter.seconds
        self.started, self.ended, self.settled = set(state.started), set(state.ended), state.settled
        self.phase_steps, self.averages = state.phase_steps, state.averages
        self.learning_rates, self.flops_per_update = state.learning_rates, state.flops_per_update
        self.logged = state.logged
        self.totals = {name: [math.nan if x is None else x for x in many] for name, many in state.totals.items()}
        if self.team.leads:
            self.curve.restore(state.curve)
            self.progress_log.rewind(self.meter.steps)
            check_log(self.folder, state)


def build_model(job: Job, plugins: Plugins, data: Dataset, device: torch.device) -> Model:
    """The job's model, untrained: its weights are a function of the seed."""
    kind, _ = plugins.model(job.model)
    torch.manual_seed(derive_seed(job.seed, "init"))
    return kind(data.spec(job.kind), kind.Config(**job.config)).to(device)


def train_with(
    team: Team, job: Job, model: Model, data: Dataset, folder: Path, meter: Meter, log: ProgressLog | None = None
) -> Model:
    """Train as one process of the team."""
    with compiled(model, job.compile):
        trained = Trainer(job, model, data, folder, meter, team, log).run()
    synchronize(meter.device)
    return trained


@torch.no_grad()
def _put_back(tensors: list[Tensor], values: list[Tensor]) -> None:
    for tensor, value in zip(tensors, values):
        tensor.copy_(value)
