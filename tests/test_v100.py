"""V100-days: only by a factor that is given or measured, for the device it holds for, and marked as such."""

import math

import pytest
import torch
from records_factory import make_record, write_runs

from genbench.records.slots import Slot
from genbench.records.v100 import (
    NOMINAL_FLOPS,
    TENSOR_FLOPS,
    Conversion,
    convert,
    measure_conversion,
    nominal_days,
    nominal_words,
    parse_conversion,
)
from genbench.support.errors import BadInput
from genbench.tables.build import make_tables
from genbench.tables.formats import render


def cell(records):
    (table,) = [table for table in make_tables(records, "cost") if not table.published]
    return next(row for row in table.rows if row.kind == "model").cells[Slot("overall_v100_days")]


def test_days_are_device_seconds_times_the_factor():
    (record,) = convert([make_record("ddpm")], parse_conversion("2.2"))
    assert record.cost.train.v100_days == pytest.approx(60 * 2.2 / 86_400)
    assert cell([record]).value == record.cost.train.v100_days
    text = render(make_tables([record], "cost"), "text").replace("\n", " ")
    assert "V100-days are converted from device-seconds: 1 device = 2.2 V100, a factor that was given" in text
    assert "v100" not in record.to_json()


def test_without_a_factor_there_is_a_dash_that_says_so():
    found = cell(convert([make_record("ddpm")], None))
    assert (found.value, found.status) == (None, "not_measured") and "no factor given" in found.note
    assert "converted" not in render(make_tables([make_record("ddpm")], "cost"), "text")


def test_a_calibration_holds_for_its_device_and_threads_alone():
    records = [make_record("ddpm", device="cpu")]
    assert cell(convert(records, Conversion(factor=2, device="cpu", threads=2))).value
    assert cell(convert(records, Conversion(factor=2, device="gpu"))).value is None
    assert cell(convert(records, Conversion(factor=2, device="cpu", threads=1))).value is None


def test_a_measured_factor_is_that_of_the_products_it_took(tmp_path, monkeypatch):
    import time

    monkeypatch.setattr(torch, "mm", lambda left, right, out: time.sleep(0.02))
    found = measure_conversion(torch.device("cpu"), seconds=0.1, size=64)
    assert 0.2 * 2 * 64**3 / 0.02 < found.flops_per_second <= 2 * 64**3 / 0.02
    assert found.factor == found.flops_per_second / NOMINAL_FLOPS
    assert "by float32 matrix products" in found.words and found.threads == torch.get_num_threads()
    found.write(tmp_path / "v100.json")
    assert parse_conversion(str(tmp_path / "v100.json")) == found


def test_products_really_run():
    found = measure_conversion(torch.device("cpu"), seconds=0.02, size=32)
    assert math.isfinite(found.factor) and 1e5 < found.flops_per_second < 1e15


@pytest.mark.parametrize("text", ["0", "-1", "nan", "inf", "", "nowhere.json"])
def test_bad_factors(text):
    with pytest.raises(BadInput, match="--v100-factor"):
        parse_conversion(text)


def test_tables_and_reports_take_the_factor(genbench, tmp_path):
    write_runs([make_record("ddpm"), make_record("gan")], tmp_path / "runs")
    rows = genbench("table", "runs", "--layout", "cost", "--v100-factor", "14.4", "--format", "json").json
    cells = [row["cells"]["overall_v100_days"]["value"] for row in rows["tables"][0]["rows"]]
    assert cells == pytest.approx([0.01, 0.01])
    assert genbench("report", "runs", "-o", "pages", "--v100-factor", "14.4").code == 0
    (page,) = (tmp_path / "pages" / "datasets").glob("*.html")
    assert "1 device = 14.4 V100" in page.read_text()
    assert genbench("table", "runs", "--v100-factor", "two").code == 2


def test_nominal_days_are_at_the_rate_of_the_precision_which_is_printed():
    year = 365 * 86_400 * 0.3
    assert nominal_days(TENSOR_FLOPS * year, 0.3, "bf16") == pytest.approx(365)
    assert nominal_days(NOMINAL_FLOPS * year, 0.3, "fp32") == pytest.approx(365)
    assert "0.3 of its nominal 15.7 TFLOP/s in float32" in nominal_words(0.3, "fp32")
    assert "0.3 of its nominal 125 TFLOP/s on its tensor cores" in nominal_words(0.3, "bf16")


@pytest.mark.slow
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_a_plan_names_the_rate_of_its_jobs(genbench, precision):
    words = ["-m", "ldm", "--set", "ldm.preset=tiny", "-d", "digits", "--budget", "1e9flops", "--device", "cpu"]
    plan = [*words, "--samples", "100", "--precision", precision, "--v100-utilisation", "0.25"]
    (row,) = [row for row in genbench("plan", *plan, "--json").json if row["model"] == "ldm"]
    rate = {"fp32": NOMINAL_FLOPS, "bf16": TENSOR_FLOPS}[precision]
    about = row["estimate"]
    assert about["v100_days"] == pytest.approx(about["train_flops"] / (0.25 * rate) / 86_400)
    assert about["v100_basis"] == nominal_words(0.25, precision)
    out = genbench("plan", *plan).out
    assert nominal_words(0.25, precision) in out.replace("\n  ", " ")
    (stage,) = [line.split() for line in out.splitlines() if line.startswith("  autoencoder")]
    assert stage[-1].startswith("~") and stage[-2].startswith("~"), "FLOPs and days of each phase"
