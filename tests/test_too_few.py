"""Too few images for an FID are told of before anything runs."""

import numpy as np
import pytest
from finished import record_of, run_of


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (
            ["--samples", "64"],
            "no FID in the features of digits-classifier-v1: 64 samples in 64 dimensions: --samples 65",
        ),
        (["--samples", "65"], ""),
        (["--samples", "64", "--allow-rank-deficient"], ""),
    ],
)
def test_more_samples_are_named_before_anything_runs(genbench, words, told):
    result = genbench("plan", "-m", "gaussian", "-d", "digits", "--budget", "1steps", *words)
    assert result.code == 0 and told in result.err and ("no FID" in result.err) == bool(told)


def test_three_test_images_are_scored_as_far_as_they_go(genbench, tmp_path):
    np.save(tmp_path / "few.npy", np.random.default_rng(0).integers(0, 256, (30, 1, 8, 8), dtype=np.uint8))
    (tmp_path / "few.toml").write_text('[few]\nsource = "array"\npath = "few.npy"\nshape = [1, 8, 8]\n')
    words = ["-m", "gaussian", "-d", "few", "--datasets", "few.toml", "--budget", "5steps", "--samples", "3"]
    result = genbench("run", *words, "--extractor", "digits-classifier-v1", "--device", "cpu", "--allow-rank-deficient")
    assert result.code == 0, result.err
    record = record_of(run_of(tmp_path / "runs", "gaussian"))
    (bits,) = [m for m in record["measurements"] if m["metric"] == "bits_per_dim_test"]
    low, high = bits["interval"]
    assert bits["count"] == 3 and high - low == pytest.approx(2 * 4.302653 * bits["stderr"]), "Student's, not 1.96"
