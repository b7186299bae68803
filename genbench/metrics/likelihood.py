"""bits/dim of test and training images; measured by `genbench.evaluate.likelihood`, since it needs the model itself."""

from __future__ import annotations

from genbench.metrics.metric import Metric

TEST, TRAIN = "bits_per_dim_test", "bits_per_dim_train"
ELBO, ELBO_TRAIN = "bits_per_dim_elbo_test", "bits_per_dim_elbo_train"
METRICS = (
    Metric(TEST, "NLL test", style="bits", family="likelihood", places={"full": 80}),
    Metric(TRAIN, "NLL train", style="bits", family="likelihood", places={"full": 81}),
    Metric(ELBO, "ELBO test", style="bits", family="likelihood"),
    Metric(ELBO_TRAIN, "ELBO train", style="bits", family="likelihood"),
)
