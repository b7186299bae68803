"""A metric, a table layout and a format are one entry each, from which all that shows them follows."""

import os
import subprocess
import sys

import pytest
import torch
from records_factory import make_record, measure, quick_suite, write_runs

import genbench.metrics
from genbench.evaluate.fidelity import fidelity_measurements
from genbench.metrics import in_order, metric_named, metrics, metrics_against, metrics_in
from genbench.metrics.features import Features
from genbench.records.protocol import EvaluationSettings
from genbench.records.slots import Slot
from genbench.report import build_report
from genbench.support.text import STYLES
from genbench.tables.build import make_tables
from genbench.tables.formats import FORMATS, formats, render
from genbench.tables.layouts import FULL, LAYOUTS, layouts

MEDIAN = '''
"""How far generated images are from the nearest training image, half of them at most."""

from genbench.metrics.metric import Measured, Metric
from genbench.metrics.value import Value


def measure(case):
    import torch

    train = case.reference("train")
    nearest = torch.cdist(case.generated.features, train.features).amin(1)
    return {"median_distance": Measured(Value(float(nearest.median())), len(nearest), {"reference_images": len(train)})}


METRICS = (
    Metric("median_distance", "median to train", "higher", "fid", "train", places={"quality": 5}, measure=measure),
)
'''


def features(n, seed):
    generator = torch.Generator().manual_seed(seed)
    return Features(torch.randn(n, 6, generator=generator, dtype=torch.float64))


@pytest.fixture
def more_metrics(tmp_path, monkeypatch):
    """Writes a module that lies beside those of the core's metrics."""

    def add(name, text):
        (tmp_path / f"{name}.py").write_text(text)
        monkeypatch.setattr(genbench.metrics, "__path__", [*genbench.metrics.__path__, str(tmp_path)])
        metrics.cache_clear()

    yield add
    for name in [name for name in sys.modules if name.startswith("genbench.metrics.")]:
        if str(tmp_path) in str(sys.modules[name].__file__):
            del sys.modules[name]
    monkeypatch.undo()
    metrics.cache_clear()


def test_a_metric_is_one_file(more_metrics):
    more_metrics("median", MEDIAN)
    found = fidelity_measurements(features(60, 1), features(80, 2), features(70, 3), EvaluationSettings(), dict)
    assert found[-1].metric == "median_distance" and found[-1].better == "higher" and found[-1].value > 0
    assert found[-1].settings["reference_images"] == 80 and found[-1].settings["family"] == "fidelity"
    without = fidelity_measurements(features(60, 1), None, features(70, 3), EvaluationSettings(), dict)
    assert "median_distance" not in [m.metric for m in without]
    assert "median_distance" in metrics_against("train"), "so that `real` is measured with test images"
    record = make_record("ddpm")
    record.measurements.append(measure("median_distance", 3.0, record.protocols))
    headings = [column.heading for column in make_tables([record], "quality")[0].columns]
    assert headings[0] == "median to train@1000 (mnist-classifier-v1)" and headings[1].startswith("IS@")


def test_two_metrics_of_one_name_are_refused(more_metrics):
    more_metrics("again", "from genbench.metrics.metric import Metric\n\nMETRICS = (Metric('recall', 'recall'),)\n")
    with pytest.raises(ValueError, match="the name recall"):
        metrics()


def test_metrics_stand_in_the_order_of_their_places():
    assert list(metrics())[:6] == [
        "inception_score", "fid_test", "kid_test", "fid_test_infinity", "fid_train", "kid_train",
    ]  # fmt: skip
    assert metrics_in("quality") == [
        "inception_score", "fid_test", "fid_train", "two_sample", "memorised_share", "copied_share",
        "copied_test_share",
    ]  # fmt: skip
    assert metrics_in("cost") == ["fid_test", "inception_score", "precision", "recall"]
    assert metrics_against("train") == ["fid_train", "kid_train", "memorised_share", "copied_share"]
    names = ["zebra", "bits_per_dim_test", "asymmetry", "fid_test", "kid_test"]
    assert in_order(names, FULL) == ["fid_test", "kid_test", "bits_per_dim_test", "asymmetry", "zebra"]


def test_every_metric_is_written_in_a_known_style_and_measured_somewhere():
    for entry in metrics().values():
        assert entry.style in STYLES and (entry.measure is None) == (entry.family != "fidelity"), entry.name


def test_a_plugins_metric_has_a_column_of_its_own_name():
    assert (metric_named("left_right").heading, metric_named("left_right").style) == ("left right", "share")
    record = make_record("ddpm")
    record.measurements.append(measure("left_right", 0.25, record.protocols))
    (table,) = make_tables([record], FULL)
    slot = Slot("left_right", "mnist-classifier-v1")
    assert next(c for c in table.columns if c.key == slot).heading == "left right@1000 (mnist-classifier-v1)"
    assert table.rows[0].cells[slot].value == 0.25


def test_every_layout_is_a_table_and_a_section_of_the_report(genbench, tmp_path):
    assert sorted(layouts()) == sorted(LAYOUTS) and list(layouts())[-1] == FULL
    folder = tmp_path / "runs"
    records = write_runs(
        [*quick_suite(), make_record("SNGAN", model="gan"), make_record("NCSN", model="score")], folder
    )
    page = build_report(records, tmp_path / "report").parent / "datasets" / "mnist5k.html"
    for name, layout in layouts().items():
        assert genbench("table", folder, "--layout", name).code == 0
        shown = name != "condition"  # none of the rows answers one
        assert (f"<h2>{layout.title}</h2>" in page.read_text()) == shown
        for format in formats().values():
            assert (tmp_path / "report" / "tables" / f"{name}{format.suffix}").is_file() == shown


def test_every_format_is_a_choice_of_the_command(genbench):
    text = genbench("table", "--help").out
    assert all(name in text for name in (*FORMATS, *LAYOUTS))
    assert sorted(formats()) == sorted(FORMATS)


def test_a_slot_is_text_only_in_files():
    slot = Slot("fid_test", "inception")
    assert str(slot) == "fid_test:inception" and str(Slot("flops")) == "flops"
    (table,) = make_tables([make_record("ddpm")])
    assert "fid_test:mnist-classifier-v1" in render([table], "csv").splitlines()[0].split(",")


@pytest.mark.parametrize(
    ("statement", "absent"),
    [
        ("from genbench.metrics import metrics; metrics()", ("torch", "scipy", "pandas")),
        ("import genbench.cli.main", ("torch", "pandas", "pydantic", "numpy", "genbench.tables.layout")),
    ],
)
def test_entries_are_listed_without_what_they_need(statement, absent):
    script = f"{statement}\nimport sys\nassert not {set(absent)} & sys.modules.keys()"
    result = subprocess.run([sys.executable, "-c", script], env=os.environ, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
