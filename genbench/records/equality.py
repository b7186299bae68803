"""Whether a run can be compared with others by its seconds, and by what its seconds decided."""

from __future__ import annotations

from genbench.records.cost import SampleCost, TrainCost
from genbench.records.record import Record


def remarks(train: TrainCost | None, sample: SampleCost | None) -> list[str]:
    """What was not as it should be while a model trained and drew its samples, one clause each."""
    costs = {"training": train, "sampling": sample}
    return [
        f"{what} {words}"
        for what, cost in costs.items()
        if cost is not None and cost.usage is not None
        for words in cost.usage.words(cost.seconds)
    ]


def remarks_of(record: Record) -> list[str]:
    """What was not as it should be while a run trained and sampled."""
    return remarks(record.cost.train, record.cost.sample)


def has_equal_seconds(cost: TrainCost | SampleCost | None) -> bool:
    """Whether the seconds of a training or a sampling are those of its model, as far as is known."""
    return cost is None or cost.usage is None or cost.usage.is_equal(cost.seconds)


def is_trained_equally(record: Record) -> bool:
    """Whether it trained as much as it could: a budget in seconds gives less to one that waited for its processors."""
    return not record.job.budget.is_timed or has_equal_seconds(record.cost.train)
