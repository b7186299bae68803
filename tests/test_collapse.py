"""A collapsed model is told as such, where its numbers stand, and a model that is only bad is not."""

import numpy as np
import pytest
from records_factory import make_record, quick_suite

from genbench.evaluate.collapse import collapse_signs, isolation, spread
from genbench.records.record import Measurement
from genbench.report import build_report
from genbench.tables.build import make_tables
from genbench.tables.formats import render


def drawn(count=400, low=0, high=256, seed=0):
    return np.random.default_rng(seed).integers(low, high, (count, 1, 8, 8), dtype=np.uint8)


def coverage(value):
    note = {} if value is not None else {"status": "not_applicable", "note": "no classes"}
    return [Measurement(metric="class_coverage", value=value, better="higher", **note)]


@pytest.mark.parametrize(
    ("images", "sign"),
    [
        (np.repeat(drawn(1), 400, 0), "400 of 400 samples repeat another one, 0 of as many test images do"),
        (np.tile(drawn(100), (4, 1, 1, 1)), "400 of 400 samples repeat"),
        (np.concatenate([drawn(394), drawn(6)]), "12 of 400 samples repeat"),
        (np.concatenate([drawn(399), drawn(1)]), ""),
        (np.concatenate([drawn(200, 0, 255), drawn(200, 0, 255) + 1]), "400 of 400 samples repeat"),
        (drawn(high=8), "grey levels per pixel, test images by 74"),
        (drawn(), ""),
        (drawn(low=100, high=156), ""),
    ],
)
def test_samples_that_hardly_differ_are_a_sign(images, sign):
    signs = collapse_signs(images, drawn(seed=1), coverage(1.0))
    assert sign in signs[0] if sign else not signs


def test_few_distinct_images_are_no_sign_where_real_ones_are_as_few():
    few = np.tile(drawn(100), (4, 1, 1, 1))
    assert not collapse_signs(few, np.tile(drawn(100, seed=1), (4, 1, 1, 1)), [])


@pytest.mark.parametrize(("value", "signs"), [(0.3, 1), (0.5, 0), (1.0, 0), (None, 0)])
def test_lost_classes_are_a_sign(value, signs):
    found = collapse_signs(drawn(), drawn(seed=1), coverage(value))
    assert len(found) == signs and (not signs or "30% of the classes" in found[0])


def test_known_answers():
    images = np.array([[[[0, 10]]], [[[10, 10]]], [[[10, 10]]], [[[40, 10]]]], np.uint8)
    assert spread(images[:2]) == 2.5
    assert np.allclose(isolation(images), [1, 0, 0, 1]) and np.allclose(
        isolation(images[[0, 1, 3]]), [1 / 4, 1 / 3, 3 / 4], rtol=1
    )


def test_record_tables_and_pages_show_it(tmp_path):
    signs = ["it may have collapsed: 997 of 1000 samples repeat another one, 0 of as many test images do"]
    collapsed = make_record("mode", 7, fid=900.0).model_copy(update={"warnings": signs})
    records = [*quick_suite(), collapsed]
    for format_ in ("text", "markdown", "latex", "json"):
        text = " ".join(render(make_tables(records, "quality"), format_).split())
        assert "Warning, mode (seed 7): it may have collapsed: 997 of 1000 samples" in text, format_
    assert "may have collapsed" not in render(make_tables(quick_suite(), "quality"), "text")
    report = build_report(records, tmp_path / "out").parent
    pages = {page.stem.split("-")[0]: page.read_text() for page in report.glob("runs/*.html")}
    assert signs[0] in pages["mode"] and "may have collapsed" not in pages["gan"]
    assert signs[0] in (report / "index.html").read_text()
