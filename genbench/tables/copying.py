"""Whether the samples of a run are copies of the dataset's own images, more often than real images are."""

from __future__ import annotations

from genbench.records.record import Record

SPLITS = {"copied_share": "training", "copied_test_share": "test"}


def copying(record: Record) -> str:
    """The sentence that a run copies images of the dataset; "" if it does not.

    It does if the interval of a share of copies lies above `real_high`, the upper end of that of real images.
    """
    for measured in record.measurements:
        split, value, interval, parts = SPLITS.get(measured.metric), measured.value, measured.interval, measured.parts
        if split and value is not None and interval and interval[0] > parts.get("real_high", 1.0):
            real = f"; of held-out real images {100 * parts['real']:.1f} % are" if "real" in parts else ""
            return f"{100 * value:.1f} % of its samples are copies of {split} images{real}"
    return ""
