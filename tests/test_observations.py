"""What a task shows of an image: holes and small images, from the datasets file to a model's tensors."""

import numpy as np
import pytest
import torch

from genbench import Condition, ConditionSpec, DataSpec
from genbench.condition import EACH, beside
from genbench.data import observations
from genbench.data.condition_plan import ConditionPlan, conditions_of
from genbench.data.entries import known_datasets
from genbench.data.folders import data_root
from genbench.data.observations import HOLES, HoleObservation, SmallObservation, reduced
from genbench.data.preparation import prepare
from genbench.data.tuning import prepare_tuning
from genbench.images import to_float
from genbench.training.feeder import Feeder
from genbench_ddpm.network import dropped, null

LEVELS = np.random.default_rng(0).integers(0, 256, (50, 1, 8, 12), dtype=np.uint8)


def prepared(tmp_path, condition, tune=False):
    """The 8x8 digits with a condition, in a cache of the test's own."""
    file = tmp_path / "mine.toml"
    file.write_text(
        f'[mine]\nsource = "scikit-learn"\nshape = [1, 8, 8]\nnum_classes = 10\ncondition = {{ {condition} }}\n'
    )
    entry = known_datasets((file,))["mine"]
    return (prepare_tuning if tune else prepare)(entry, data_root(None), offline=True)


@pytest.mark.parametrize(("shape", "share"), [("half", 0.5), ("centre", 0.25), ("box", 0.25), ("pixels", 0.75)])
def test_a_hole_has_its_share_of_the_pixels(shape, share):
    holes = HoleObservation(kind="hole", shape=shape).of(LEVELS, "train")
    assert holes.shape == (50, 1, 8, 12) and holes.dtype == bool
    assert holes.mean() == pytest.approx(share, abs=0.02 if shape == "pixels" else 0)


def test_strokes_leave_a_part_of_every_image():
    holes = HoleObservation(kind="hole", shape="strokes").of(np.zeros((200, 3, 28, 28), np.uint8), "train")
    shares = holes.mean((1, 2, 3))
    assert shares.min() > 0.05 and shares.max() < 0.9 and len(np.unique(holes, axis=0)) == 200


def test_holes_are_drawn_anew_for_each_image_split_and_seed():
    def drawn(split="train", seed=0):
        return HoleObservation(kind="hole", shape="pixels", seed=seed).of(LEVELS, split)

    assert (drawn() == drawn()).all()
    assert not (drawn() == drawn("test")).all() and not (drawn() == drawn(seed=1)).all()
    assert not (drawn()[0] == drawn()[1]).all()
    assert set(HOLES) == {"half", "centre", "box", "strokes", "pixels"}


def test_what_is_made_in_parts_is_what_is_made_at_once(monkeypatch):
    made = HoleObservation(kind="hole", shape="box")
    whole = made.of(LEVELS, "train")
    monkeypatch.setattr(observations, "PIECE", 7)
    assert (made.of(LEVELS, "train") == whole).all()


def test_small_images_are_the_means_of_squares():
    small = SmallObservation(kind="image", factor=4).of(LEVELS, "train")
    assert small.shape == (50, 1, 2, 3) and small.dtype == np.uint8
    assert small[3, 0, 1, 2] == round(LEVELS[3, 0, 4:, 8:].mean())
    assert np.abs(small - reduced(LEVELS, 4)).max() <= 0.5


@pytest.mark.parametrize("sides", [(8, 9), (4, 8)])
def test_a_factor_that_does_not_divide_the_sides_is_refused(sides):
    with pytest.raises(ValueError, match="factor: 4 does not divide the sides"):
        SmallObservation(kind="image", factor=4).spec((1, *sides))


def test_a_model_gets_the_image_without_its_hole(tmp_path, monkeypatch):
    monkeypatch.setenv("GENBENCH_CACHE", str(tmp_path / "cache"))
    data = prepared(tmp_path, 'kind = "hole", shape = "pixels"')
    spec, places = data.spec("hole"), np.array([5, 2])
    assert spec == DataSpec("mine", (1, 8, 8), 0, ConditionSpec("hole", (1, 8, 8))) and spec.shown == 2
    given = conditions_of("hole").given(data.test, places, "cpu")
    levels = to_float(torch.from_numpy(data.test.images[places]))
    assert given["hole"].dtype == torch.bool and given["hole"].shape == (2, 1, 8, 8) == given["image"].shape
    assert (given["image"][~given["hole"]] == levels[~given["hole"]]).all() and not given["image"][given["hole"]].any()
    maps = given.maps((8, 8))
    assert maps.shape == (2, 2, 8, 8) and (maps[:, 1:] == given["hole"]).all()
    example = conditions_of("hole").example(spec, 3, "cpu")
    assert {name: tensor.shape for name, tensor in example.tensors.items()} == {
        "hole": (3, 1, 8, 8),
        "image": (3, 1, 8, 8),
    }


def test_a_model_gets_the_small_image_and_sees_it_enlarged(tmp_path, monkeypatch):
    monkeypatch.setenv("GENBENCH_CACHE", str(tmp_path / "cache"))
    data = prepared(tmp_path, 'kind = "image", factor = 4')
    given = conditions_of("image").given(data.test, np.arange(3), "cpu")
    small = torch.from_numpy(data.test.conditions["image"]["image"][:3])
    assert (given["image"] == to_float(small)).all()
    maps = given.maps((8, 8))
    assert maps.shape == (3, 2, 8, 8) and (maps[:, :1, ::4, ::4] == given["image"]).all() and not maps[:, 1].any()


def test_conditions_turn_with_their_images(tmp_path, monkeypatch):
    from toys import toy_job

    monkeypatch.setenv("GENBENCH_CACHE", str(tmp_path / "cache"))
    data = prepared(tmp_path, 'kind = "hole", shape = "pixels"')
    job = toy_job(tmp_path, conditional=True, condition=data.condition("hole"))
    batch = Feeder(job, data, True, torch.device("cpu"), flip=True).batch(0, 64)
    shown = ~batch.condition["hole"]
    assert (batch.images[shown] == batch.condition["image"][shown]).all()
    assert not (batch.images == Feeder(job, data, True, torch.device("cpu")).batch(0, 64).images).all()


def test_held_out_images_for_tuning_keep_their_holes(tmp_path, monkeypatch):
    monkeypatch.setenv("GENBENCH_CACHE", str(tmp_path / "cache"))
    whole, tuning = (prepared(tmp_path, 'kind = "hole", shape = "box"', tune) for tune in (False, True))
    holes = {
        image.tobytes(): hole.tobytes()
        for image, hole in zip(whole.train.images, whole.train.conditions["hole"]["hole"])
    }
    for image, hole in zip(tuning.test.images[:50], tuning.test.conditions["hole"]["hole"]):
        assert holes[image.tobytes()] == hole.tobytes()


def test_several_samples_in_a_row_are_of_one_condition(tmp_path, monkeypatch):
    monkeypatch.setenv("GENBENCH_CACHE", str(tmp_path / "cache"))
    data = prepared(tmp_path, 'kind = "hole"')
    numbers = ConditionPlan.of(data, "hole", 42).numbers
    assert len(numbers) == 42 and (numbers[:40].reshape(-1, EACH) == numbers[:40:EACH, None]).all()
    assert len(np.unique(numbers)) == 11


def test_the_null_condition_shows_nothing():
    image = torch.rand(3, 1, 4, 4)
    for given in (Condition({"image": image}), Condition({"image": image, "hole": torch.zeros(3, 1, 4, 4).bool()})):
        chosen = torch.tensor([True, False, True])
        left = given.dropped(chosen)
        assert (left["image"][1] == image[1]).all() and not left["hole"][1].any()
        assert not left["image"][chosen].any() and left["hole"][chosen].all()
        assert null(given, 0)["hole"].all()
    assert Condition({"vector": torch.ones(3, 2)}).dropped(chosen)["vector"].tolist() == [[0, 0], [1, 1], [0, 0]]
    assert dropped(torch.tensor([0, 1, 2]), chosen, 5).tolist() == [5, 1, 5]


def test_maps_are_further_channels_and_labels_are_not():
    x, labels = torch.rand(2, 1, 8, 8), torch.tensor([1, 2])
    given = Condition({"image": torch.rand(2, 1, 2, 2)})
    seen, left = beside(x, given, (8, 8))
    assert seen.shape == (2, 3, 8, 8) and left is None and (seen[:, :1] == x).all()
    seen, _ = beside(x, given, (31, 32), 4)
    assert seen.shape == (2, 1 + 2 * 16, 8, 8) and set(seen[:, 1:].unique().tolist()) <= {
        0.0,
        *given["image"].unique().tolist(),
    }
    assert beside(x, labels, (8, 8)) == (x, labels) and beside(x, None, (8, 8)) == (x, None)
