"""The parts of a model that publications book costs by: each phase of a training is of one of them."""

from typing import Literal, get_args

Part = Literal["generator", "classifier", "first stage"]
PARTS: tuple[Part, ...] = get_args(Part)
GENERATOR, CLASSIFIER, FIRST_STAGE = PARTS
