"""Mirrored images: a pure function of the seed and an image's place in the stream, the same for every model."""

import pytest
import torch
from test_train import same
from toys import Toy, toy_job, train_toy

from genbench.training.feeder import Feeder, flips


def feeder(tmp_path, digits, flip, discrete=True, **changes):
    return Feeder(toy_job(tmp_path, **changes), digits, discrete, torch.device("cpu"), flip)


def test_each_image_is_mirrored_with_probability_one_half():
    drawn = flips(0, 0, 40_000)
    assert abs(drawn.mean() - 0.5) < 4 * 0.5 / 200 and abs((drawn[1:] == drawn[:-1]).mean() - 0.5) < 0.01
    assert abs((flips(1, 0, 40_000) == drawn).mean() - 0.5) < 0.01


@pytest.mark.parametrize("seen", [0, 1, 2, 3, 4, 777, 10**12 + 1])
def test_what_is_mirrored_depends_on_the_place_in_the_stream_alone(seen):
    alone = [flips(5, seen + i, 1)[0] for i in range(23)]
    assert flips(5, seen, 23).tolist() == alone and flips(5, seen, 0).tolist() == []


def test_the_images_of_a_batch_are_those_of_the_data_some_of_them_mirrored(tmp_path, digits):
    plain, mirrored = (feeder(tmp_path, digits, flip, conditional=True).batch(40, 16) for flip in (False, True))
    chosen = torch.from_numpy(flips(0, 40, 16))
    assert 0 < chosen.sum() < 16
    assert torch.equal(mirrored.images[chosen], plain.images[chosen].flip(-1))
    assert torch.equal(mirrored.images[~chosen], plain.images[~chosen])
    assert torch.equal(mirrored.labels, plain.labels)


def test_images_are_mirrored_before_noise_is_added(tmp_path, digits):
    levels, noisy = (feeder(tmp_path, digits, True, discrete).batch(0, 16).images for discrete in (True, False))
    assert (levels - noisy).abs().max() <= 1 / 256
    straight = feeder(tmp_path, digits, False, False).batch(0, 16).images
    noise = [((images + 1) * 128) % 1 for images in (noisy, straight)]
    assert torch.allclose(*noise), "the same noise at each place"


def test_every_model_has_the_option_and_an_identity_of_before_without_it(tmp_path, digits):
    def job(**config):
        return toy_job(tmp_path, train_config=Toy.Config(batch_size=8, **config).of_role("train"))

    assert Toy.Config.role("flip") == "train" and job().id == job(flip=False).id != job(flip=True).id
    assert "flip" not in job().identity["config"]
    config = Toy.Config(batch_size=8, flip=True).model_dump(mode="json")
    flipped, _ = train_toy(tmp_path / "a", digits, config=config)
    assert not same(flipped, train_toy(tmp_path / "b", digits)[0])
