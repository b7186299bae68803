"""The meter: seconds, images, updates, FLOPs and joules of training, by phase, and of sampling."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import torch

from genbench.devices import peak_memory, reset_peak_memory, synchronize, wake
from genbench.metering.energy import EnergyCounter, watched
from genbench.metering.processors import Reading, judged
from genbench.records.cost import Energy, PhaseCost, SampleCost, Throughput, TrainCost
from genbench.records.samples import Samples
from genbench.records.training_state import Ledger, MeterState
from genbench.records.usage import Usage
from genbench.support import clock

GAP_SECONDS, GAP_STEPS, GAP_COMPUTING = 1.0, 20, 0.1
"""A step is a gap if it takes so long, so many times the usual, and computes in less than this share of it."""
USUAL_STEPS = 10
"""Steps after which a usual one is known."""


@dataclass
class Meter:
    """The clock of one job. `pause` stops it for what no budget includes: checkpoints, preparation, scoring.

    It stands still while the process is stopped (`genbench.support.clock`). `usage` is what the process, and `peers`,
    the ids of the others that train, had of the machine until the clock was last stopped. A device-second is a second
    of one of the `processes` that train; their number may change while the clock is stopped. `peer_bytes` is the peak
    memory of the other processes. A plugin whose model was trained `elsewhere` says so in its `train`: the cost is not
    known here.
    """

    device: torch.device
    processes: int = 1
    peers: list[int] = field(default_factory=list)
    counter: EnergyCounter | None = None
    elsewhere: bool = False
    phases: dict[str, Ledger] = field(default_factory=dict)
    steps: int = 0
    flops_known: bool = True
    uncounted_ops: set[str] = field(default_factory=set)
    peak_bytes: int = 0
    peak_source: str = ""
    peer_bytes: int = 0
    train_seconds: float | None = None
    train_device_seconds: float = 0.0
    sample_seconds: float = 0.0
    sampled: int = 0
    train_energy: Energy | None = None
    sample_energy: Energy | None = None
    usage: Usage | None = None
    train_usage: Usage | None = None
    sample_usage: Usage | None = None
    _elapsed: float = 0.0
    _peers_elapsed: float = 0.0
    _started: float | None = None
    _joules: float | None = 0.0
    _joules_before: float | None = None
    _reading: Reading | None = None
    _stops: clock.Stops = field(default_factory=clock.Stops)
    _gaps: list[float] = field(default_factory=list)
    _step: tuple[float, float] | None = None
    _usual: float = 0.0
    _usual_steps: int = 0

    @property
    def seconds(self) -> float:
        """Seconds on the running clock without pauses; the caller has synchronised the device."""
        running = clock.now() - self._started if self._started is not None else 0.0
        return self._elapsed + running

    @property
    def device_seconds(self) -> float:
        """Seconds of all processes together; read only while the clock is stopped."""
        return self._elapsed + self._peers_elapsed

    @contextmanager
    def training(self) -> Iterator[None]:
        """Time and measure `train`, even if it fails."""
        wake(self.device)
        reset_peak_memory(self.device)
        self._start()
        try:
            with watched(self.counter):
                yield
        finally:
            self._stop()
            self.train_seconds, self.train_energy = self._elapsed, self._energy()
            self.train_device_seconds = self.device_seconds
            self.train_usage = self._judged()
            peak, self.peak_source = peak_memory(self.device)
            self.peak_bytes = max(self.peak_bytes, peak + self.peer_bytes)
            if self.peer_bytes:
                self.peak_source += f", of {self.processes} processes together"

    @contextmanager
    def sampling(self) -> Iterator[None]:
        """Time and measure `sample`."""
        self._elapsed, self._joules, self.usage = 0.0, 0.0, None
        self._start()
        try:
            with watched(self.counter):
                yield
        finally:
            self._stop()
            self.sample_seconds, self.sample_energy = self._elapsed, self._energy()
            self.sample_usage = self._judged()

    def take_over(self, images: int, seconds: float, joules: float | None, usage: Usage | None) -> None:
        """Add the images that an earlier attempt has drawn, and their cost; called while the clock is stopped."""
        self.sampled += images
        self._elapsed += seconds
        self._use(usage)
        self._joules = None if joules is None or self._joules is None else self._joules + joules

    @contextmanager
    def pause(self) -> Iterator[None]:
        """Stop the clock for the block; one that stands goes on standing afterwards."""
        running = self._started is not None
        self._stop()
        try:
            yield
        finally:
            if running:
                self._start()

    @contextmanager
    def phase(self, name: str) -> Iterator[Ledger]:
        """Add the block's seconds to a phase's."""
        ledger = self.phases.setdefault(name, Ledger())
        before = self.seconds
        yield ledger
        synchronize(self.device)
        seconds = self.seconds - before
        ledger.seconds += seconds
        ledger.device_seconds += seconds * self.processes

    def stepped(self) -> None:
        """Count a step, and note the gap if it has been one; a step with a pause in it is not judged."""
        self.steps += 1
        now, computed = self.seconds, time.process_time()
        if self._step is not None:
            seconds, computing = now - self._step[0], computed - self._step[1]
            known = self._usual_steps >= USUAL_STEPS
            if known and seconds > max(GAP_SECONDS, GAP_STEPS * self._usual) and computing < GAP_COMPUTING * seconds:
                self._gaps.append(seconds)
            else:
                self._usual_steps += 1
                self._usual += (seconds - self._usual) / min(self._usual_steps, 100)
        self._step = (now, computed)

    def _start(self) -> None:
        synchronize(self.device)
        self._joules_before = self.counter.joules() if self.counter else None
        self._reading, self._stops, self._step = Reading.of((os.getpid(), *self.peers)), clock.stops(), None
        self._started = clock.now()

    def _stop(self) -> None:
        synchronize(self.device)
        if self._started is not None:
            seconds = clock.now() - self._started
            self._elapsed += seconds
            self._peers_elapsed += seconds * (self.processes - 1)
            self._started = None
            self._joules = self._joules_now()
            self._use(self._usage_now())

    def _usage_now(self) -> Usage | None:
        """What was used since the clock was started."""
        if self._reading is None:
            return None
        used = self._reading.until(Reading.of((os.getpid(), *self.peers)))
        gaps, self._gaps = self._gaps, []
        stops = clock.stops()
        return used.model_copy(update={
            "gaps": len(gaps), "gap_seconds": sum(gaps),
            "stops": stops.number - self._stops.number, "stopped_seconds": stops.seconds - self._stops.seconds,
        })  # fmt: skip

    def _use(self, more: Usage | None) -> None:
        if more is not None:
            self.usage = more if self.usage is None else self.usage + more

    def _judged(self) -> Usage | None:
        """What the stopped clock has counted, with what that is of what could be had."""
        return None if self.usage is None else judged(self.usage, self._elapsed, torch.get_num_threads())

    def _joules_now(self) -> float | None:
        """Joules on the clock that just stopped, without pauses; None if any part of them was not measured."""
        now = self.counter.joules() if self.counter else None
        if now is None or self._joules is None or self._joules_before is None:
            return None
        return self._joules + now - self._joules_before

    def _energy(self) -> Energy | None:
        """The energy that a stopped clock has counted."""
        if self._joules is None or self.counter is None:
            return None
        return Energy(joules=self._joules, source=self.counter.source)

    @property
    def joules(self) -> float | None:
        """Joules on the stopped clock; None if not measured."""
        return self._joules

    @property
    def images(self) -> int:
        return sum(ledger.images for ledger in self.phases.values())

    @property
    def flops(self) -> float:
        return sum(ledger.flops for ledger in self.phases.values())

    def state(self) -> MeterState:
        """What a checkpoint keeps, so that a resumed job counts all its segments; taken while the clock is stopped."""
        trained = self.train_seconds is not None
        peak = 0 if trained else peak_memory(self.device)[0] + self.peer_bytes
        energy = self.train_energy if trained else self._energy()
        return MeterState(
            seconds=self.train_seconds if trained else self.seconds, device_seconds=self.device_seconds,
            processes=self.processes, elsewhere=self.elsewhere, steps=self.steps,
            peak_bytes=max(self.peak_bytes, peak), peak_source=self.peak_source,
            uncounted_ops=sorted(self.uncounted_ops), energy=energy, phases=self.phases,
            usage=self.train_usage if trained else self.usage,
        )  # fmt: skip

    def restore(self, state: MeterState) -> None:
        """Continue from `state`."""
        running = self._started is not None
        if running:
            self._stop()
        self._elapsed = state.seconds
        self._peers_elapsed = state.device_seconds - state.seconds
        self.train_energy = state.energy
        self._joules = state.energy.joules if state.energy else None
        self.usage = self.train_usage = state.usage
        self.elsewhere, self.steps, self.peak_bytes = state.elsewhere, state.steps, state.peak_bytes
        self.uncounted_ops, self.phases = set(state.uncounted_ops), dict(state.phases)
        if running:
            self._start()

    def restore_finished(self, state: MeterState) -> None:
        """Take over the cost of a finished training."""
        self.restore(state)
        self.train_seconds, self.train_device_seconds = self.seconds, self.device_seconds
        self.processes, self.peak_source = state.processes, state.peak_source

    def train_cost(self) -> TrainCost | None:
        """The record's `cost.train`; numbers that a plugin's own loop did not report are None."""
        if self.train_seconds is None or self.elsewhere:
            return None
        counted = self.steps > 0
        return TrainCost(
            seconds=self.train_seconds,
            device_seconds=self.train_device_seconds,
            images=self.images if counted else None,
            steps=self.steps if counted else None,
            flops=self.flops if counted and self.flops_known else None,
            uncounted_ops=sorted(self.uncounted_ops),
            peak_bytes=self.peak_bytes or None,
            peak_source=self.peak_source,
            energy=self.train_energy,
            usage=self.train_usage,
            phases={name: PhaseCost(**vars(ledger)) for name, ledger in self.phases.items()},
        )

    def sample_cost(self, samples: Samples, throughput: list[Throughput] | None = None) -> SampleCost | None:
        """The record's `cost.sample`: throughput in stated batches, conversion to uint8 included."""
        if not self.sampled or not self.sample_seconds:
            return None
        rate = self.sampled / self.sample_seconds
        return SampleCost(
            seconds=self.sample_seconds,
            images=self.sampled,
            images_per_second=rate,
            batch=samples.batch,
            nfe=samples.nfe,
            flops_per_image=samples.flops,
            throughput=throughput or [],
            energy=self.sample_energy,
            usage=self.sample_usage,
        )
