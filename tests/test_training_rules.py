"""Defaults that follow from the images and the condition: the batch of an update, and how training draws times."""

import pytest
import torch

from genbench import Batch, Condition, ConditionSpec, DataSpec
from genbench.training.phases import checked_phases
from genbench_ddpm import DDPM
from genbench_flow_matching import FlowMatching
from genbench_ldm import LatentDiffusion

MODELS = {"ddpm": DDPM, "flow_matching": FlowMatching, "ldm": LatentDiffusion}
TINY = {"widths": (8, 16)}
SPECS = {
    None: None,
    "hole": ConditionSpec("hole", (1, 8, 8)),
    "image": ConditionSpec("image", (1, 2, 2)),
    "map": ConditionSpec("map", (8, 8), 4),
    "text": ConditionSpec("text", (6,), 9),
}


def built(name, shape=(1, 8, 8), kind=None, **options):
    torch.manual_seed(0)
    kept = {} if name == "ldm" else TINY
    return MODELS[name](DataSpec("toy", shape, 0, SPECS[kind]), MODELS[name].Config(**kept, **options))


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize(
    ("shape", "images"),
    [((1, 8, 8), 256), ((1, 11, 11), 128), ((3, 16, 16), 64), ((1, 28, 28), 64), ((3, 64, 64), 64)],
)
def test_updates_on_small_images_take_more_of_them(name, shape, images):
    assert {phase.batch_size for phase in checked_phases(built(name, shape))} == {images}


def test_a_batch_that_is_asked_for_is_taken_and_divided():
    model = built("ddpm", batch_size=8, micro_batch=4)
    assert [phase.batch_size for phase in checked_phases(model)] == [8]
    assert [phase.batch_size for phase in checked_phases(built("ddpm", micro_batch=32))] == [256]
    with pytest.raises(ValueError, match="micro_batch: 3 does not divide batch_size, 8"):
        DDPM.Config(batch_size=8, micro_batch=3)


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize(
    ("kind", "times"),
    [(None, "logit_normal"), ("text", "logit_normal"), ("map", "uniform"), ("hole", "uniform"), ("image", "uniform")],
)
def test_times_are_uniform_where_little_is_left_open(name, kind, times):
    config = built(name, kind=kind).config
    assert config.times_under(kind) == times
    assert MODELS[name].Config(times="logit_normal").times_under(kind) == "logit_normal"


def test_training_draws_them_so():
    """A quarter of uniform times lies above 0.75; of logit-normal ones, P(z > ln 3) = 13.6 %."""
    hole = built("ddpm", kind="hole").diffusion
    free = built("ddpm", kind="hole", holes="repaint").diffusion
    images = torch.zeros(4000, 1, 1, 1)
    late = [float((process.draw_simple_times(images) > 750).float().mean()) for process in (hole, free)]
    assert late == pytest.approx([0.25, 0.136], abs=0.01)
    for kind, share in (("hole", 0.25), ("text", 0.136)):
        model, seen = built("flow_matching", kind=kind), {}
        model.v = lambda x, t, given, seen=seen: seen.update(t=t) or x
        given = Condition({"text": torch.zeros(2000, 6, dtype=torch.long)})
        if kind == "hole":
            given = Condition({"image": torch.zeros(2000, 1, 8, 8), "hole": torch.ones(2000, 1, 8, 8, dtype=bool)})
        model.loss("train", Batch.of(torch.zeros(2000, 1, 8, 8), given))
        assert float((seen["t"] > 0.75).float().mean()) == pytest.approx(share, abs=0.01)
