"""Too few images for an FID are told of before anything runs."""

import pytest


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
