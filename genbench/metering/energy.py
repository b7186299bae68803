"""Energy, if the hardware counts it: NVML for NVIDIA GPUs, RAPL for CPUs; otherwise it is not measured."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol

import torch

POWERCAP = Path("/sys/class/powercap")
POLL_SECONDS = 60.0
"""A RAPL counter may wrap around once between two readings; at any power a CPU can draw that takes minutes."""


class EnergyCounter(Protocol):
    """A running total, of which only differences are meaningful."""

    source: str

    def joules(self) -> float | None:
        """Joules up to now; None if the counter can no longer be read."""


class Rapl:
    """The energy of all processor packages of this machine. Source: Linux, Documentation/power/powercap."""

    def __init__(self, zones: list[Path]) -> None:
        self.zones = zones
        self.source = f"RAPL {', '.join(_word(zone / 'name') for zone in zones)} (all that ran on the machine)"
        self._ranges = [int(_word(zone / "max_energy_range_uj")) for zone in zones]
        self._last = self._read()
        self._total = 0
        self._lock = threading.Lock()

    def joules(self) -> float | None:
        with self._lock:
            try:
                now = self._read()
            except (OSError, ValueError):
                return None
            for new, old, span in zip(now, self._last, self._ranges):
                self._total += (new - old) % span
            self._last = now
            return self._total / 1e6

    def _read(self) -> list[int]:
        return [int(_word(zone / "energy_uj")) for zone in self.zones]


class Nvml:
    """The energy of one GPU since its driver was loaded, in steps of a millijoule (Volta and later)."""

    def __init__(self, nvml: Any, handle: Any, name: str) -> None:
        self._nvml, self._handle = nvml, handle
        self.source = f"NVML total energy of {name} (the GPU alone, all that ran on it)"

    def joules(self) -> float | None:
        try:
            return float(self._nvml.nvmlDeviceGetTotalEnergyConsumption(self._handle)) / 1000
        except self._nvml.NVMLError:
            return None


def energy_counter(device: torch.device, powercap: Path = POWERCAP) -> EnergyCounter | None:
    """The counter of the device's energy; None if the hardware has none, or this user may not read it."""
    return _nvml(device) if device.type == "cuda" else _rapl(powercap)


def _rapl(powercap: Path) -> Rapl | None:
    """The counter of all packages, or None: some of them would give too small a number."""
    zones = [zone for zone in sorted(powercap.glob("intel-rapl:*")) if zone.name.count(":") == 1]
    try:
        packages = [zone for zone in zones if _word(zone / "name").startswith("package")]
        return Rapl(packages) if packages else None
    except (OSError, ValueError):
        return None


def _nvml(device: torch.device) -> Nvml | None:
    """The device's counter, found by UUID: with CUDA_VISIBLE_DEVICES, torch's indices differ from NVML's."""
    try:
        import pynvml
    except ImportError:
        return None
    properties: Any = torch.cuda.get_device_properties(device)
    try:
        pynvml.nvmlInit()
        counter = Nvml(pynvml, pynvml.nvmlDeviceGetHandleByUUID(f"GPU-{properties.uuid}"), properties.name)
    except pynvml.NVMLError:
        return None
    return counter if counter.joules() is not None else None


@contextmanager
def watched(counter: EnergyCounter | None, seconds: float = POLL_SECONDS) -> Iterator[None]:
    """Read the counter every `seconds` while the block runs, so that no wrap-around is missed."""
    if counter is None:
        yield
        return
    done = threading.Event()

    def poll() -> None:
        while not done.wait(seconds):
            counter.joules()

    thread = threading.Thread(target=poll, daemon=True)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()


def _word(file: Path) -> str:
    return file.read_text().strip()
