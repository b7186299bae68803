"""Energy: RAPL counters in a fake folder, wrap-around included, a fake NVML, and what a meter makes of them."""

import sys
import time
from types import SimpleNamespace

import pytest
import torch

from genbench.metering.energy import Rapl, energy_counter, watched
from genbench.metering.meter import Meter
from genbench.records.cost import Energy
from genbench.records.slots import Slot
from genbench.records.training_state import MeterState

CPU = torch.device("cpu")


def zone(folder, name, energy, span=1_000_000, kind="package-0"):
    (folder / name).mkdir(parents=True)
    for file, text in (("name", kind), ("energy_uj", energy), ("max_energy_range_uj", span)):
        (folder / name / file).write_text(f"{text}\n")
    return folder / name


class Counter:
    """Ten joules more at every reading."""

    source = "a test"

    def __init__(self, first=0.0):
        self.total = first

    def joules(self):
        self.total += 10
        return self.total


def test_packages_are_summed_and_their_parts_left_out(tmp_path):
    zones = [
        zone(tmp_path, "intel-rapl:0", 100),
        zone(tmp_path, "intel-rapl:1", 200, kind="package-1"),
        zone(tmp_path, "intel-rapl:0:0", 300, kind="core"),
        zone(tmp_path, "intel-rapl:2", 400, kind="psys"),
    ]
    counter = energy_counter(CPU, tmp_path)
    before = counter.joules()
    for each in zones:
        (each / "energy_uj").write_text(str(500_000 + int((each / "energy_uj").read_text())))
    assert counter.joules() - before == pytest.approx(1.0)
    assert "package-0, package-1" in counter.source


def test_a_counter_that_wraps_round_goes_on(tmp_path):
    package = zone(tmp_path, "intel-rapl:0", 900_000)
    counter = Rapl([package])
    for energy in (100_000, 950_000, 50_000):
        (package / "energy_uj").write_text(str(energy))
        counter.joules()
    assert counter.joules() == pytest.approx(0.2 + 0.85 + 0.1)


def test_what_cannot_be_read_is_not_measured(tmp_path):
    assert energy_counter(CPU, tmp_path / "nowhere") is None
    package = zone(tmp_path, "intel-rapl:0", 1)
    (zone(tmp_path, "intel-rapl:1", 1, kind="package-1") / "energy_uj").unlink()
    assert energy_counter(CPU, tmp_path) is None
    counter = Rapl([package])
    (package / "energy_uj").unlink()
    assert counter.joules() is None


def test_a_gpu_is_asked_by_its_own_number(monkeypatch):
    asked = []
    nvml = SimpleNamespace(
        NVMLError=RuntimeError,
        nvmlInit=lambda: None,
        nvmlDeviceGetHandleByUUID=lambda uuid: asked.append(uuid) or "handle",
        nvmlDeviceGetTotalEnergyConsumption=lambda handle: 2500,
    )
    monkeypatch.setitem(sys.modules, "pynvml", nvml)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda device: SimpleNamespace(uuid="12-34", name="GPU"))
    counter = energy_counter(torch.device("cuda:1"))
    assert counter.joules() == 2.5 and asked == ["GPU-12-34"]

    def refuse(handle):
        raise RuntimeError("not supported")

    monkeypatch.setattr(nvml, "nvmlDeviceGetTotalEnergyConsumption", refuse)
    assert counter.joules() is None and energy_counter(torch.device("cuda:1")) is None
    monkeypatch.setitem(sys.modules, "pynvml", None)
    assert energy_counter(torch.device("cuda:1")) is None


def test_a_meter_counts_what_its_clock_counts():
    meter = Meter(CPU, counter=Counter())
    with meter.training():
        with meter.pause():
            meter.counter.total += 1000
        with meter.pause():
            state = meter.state()
    with meter.sampling():
        pass
    assert meter.train_cost().energy.joules == 30 and meter.train_cost().energy.source == "a test"
    assert meter.sample_energy.joules == 10
    assert state.energy.joules == 20


def test_a_resumed_meter_adds_its_segments_or_says_nothing():
    def resumed(energy, counter):
        meter = Meter(CPU, counter=counter)
        with meter.training():
            meter.restore(MeterState(seconds=1.0, device_seconds=1.0, steps=1, energy=energy))
        return meter.train_cost().energy

    earlier = Energy(joules=7.0, source="a test")
    assert resumed(earlier, Counter(first=500)).joules == 17
    assert resumed(None, Counter()) is None
    assert resumed(earlier, None) is None


def test_a_finished_training_keeps_its_energy():
    first = Meter(CPU, counter=Counter())
    with first.training():
        pass
    second = Meter(CPU)
    second.restore(first.state())
    second.train_seconds = second.seconds
    assert second.train_cost().energy == first.train_cost().energy


def test_the_counter_is_read_while_the_clock_runs():
    counter = Counter()
    with watched(counter, 0.01):
        time.sleep(0.3)
    assert counter.total > 30
    total = counter.total
    time.sleep(0.05)
    assert counter.total == total


def test_joules_and_their_source_reach_the_record_and_the_table(tmp_path, monkeypatch, session_cache):
    from genbench.planning.session import Request, open_session
    from genbench.running import run
    from genbench.tables.build import make_tables

    options = {"datasets": ["digits"], "budget": "5steps", "samples": 100, "likelihood_images": 4}
    request = Request(None, options, ("gaussian",), (), device="cpu", out=tmp_path / "runs")
    session = open_session(request)
    job, data = session.jobs[0], session.datasets["digits"]
    monkeypatch.setattr(run, "energy_counter", lambda device: Counter())
    cost = run.run_job(job, data, session.plugins).cost
    assert cost.train.energy.joules > 0 < cost.sample.energy.joules and cost.train.energy.source == "a test"
    (job.folder / "record.json").unlink()
    monkeypatch.setattr(run, "energy_counter", lambda device: None)
    again = run.run_job(job, data, session.plugins)
    assert again.cost.train.energy == cost.train.energy and again.cost.sample.energy == cost.sample.energy
    assert again.cost.sample.throughput == cost.sample.throughput != []
    (table,) = make_tables([again], "full")
    assert table.rows[0].cells[Slot("train_joules")].value == cost.train.energy.joules
    assert "Energy: a test." in table.footnotes
