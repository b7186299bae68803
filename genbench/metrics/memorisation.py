"""The share of samples that are nearer to a training image than nearly all held-out images are."""

from __future__ import annotations

from typing import TYPE_CHECKING

from genbench.metrics.distances import Distances
from genbench.metrics.features import checked
from genbench.metrics.metric import Measured, Metric
from genbench.metrics.value import Value, not_enough, of_real, share, with_notes

if TYPE_CHECKING:
    from torch import Tensor

    from genbench.metrics.case import Case

PERCENT = 5
FEW = 200
MEMORISED = "memorised_share"


def memorised_share(generated: Tensor, train: Tensor, held_out: Tensor) -> Value:
    """The share of generated images at most as far from their nearest training image, in features, as the nearest
    5 percent of held-out images are.

    Real images score 5 percent, copies of training images 100. A share below 5 percent is no merit: a model far from
    the data scores 0. The error is binomial, given the limit; the parts `real` and `real_high` are what the held-out
    images score and the upper end of its interval.
    """
    import torch

    sides = ((generated, "generated"), (train, "train"), (held_out, "held-out"))
    generated, train, held_out = (checked(features, side) for features, side in sides)
    if not len(generated) or not len(train) or len(held_out) < 100 // PERCENT:
        return not_enough(f"{len(held_out)} held-out images, 5 percent of them need {100 // PERCENT}")
    real = Distances(held_out, train).kth(1)
    limit = torch.quantile(real, PERCENT / 100)
    value = share(int((Distances(generated, train).kth(1) <= limit).sum()), len(generated))
    value = of_real(value, int((real <= limit).sum()), len(real))
    few = f"the limit is the nearest 5 percent of {len(held_out)} held-out images" if len(held_out) < FEW else ""
    copies = "5 percent of the held-out images or more are copies of training images" if limit == 0 else ""
    return with_notes(value, few, copies)


def measure(case: Case) -> dict[str, Measured]:
    """The memorised share, if there are held-out images to compare with."""
    if case.held_out is None:
        return {}
    train, held_out = case.reference("train"), case.held_out
    value = memorised_share(case.generated.features, train.features, held_out.features)
    settings = {
        "split": "train", "reference_images": len(train), "held_out_images": len(held_out), "percent": PERCENT,
        "seed": case.settings.seed,
    }  # fmt: skip
    return {MEMORISED: Measured(value, len(case.generated), settings)}


METRICS = (
    Metric(
        MEMORISED, "memorised", split="train", ranked=False, sees="copies", measure=measure,
        places={"quality": 50, "full": 60, "record": 60},
    ),
)  # fmt: skip
