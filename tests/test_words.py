"""Captions as numbers, and the encoder that is trained along: order, ends, unknown words, texts without words."""

import numpy as np
import pytest
import torch

from genbench import Condition, ConditionSpec, DataSpec
from genbench.condition import beside
from genbench.data.source import Split
from genbench.data.words import END, FIRST, UNKNOWN, Vocabulary, read, with_texts, words_of
from genbench.embeddings import Words
from genbench.nets import UNet, UNetSpec
from genbench_ddpm import DDPM
from genbench_flow_matching import FlowMatching
from genbench_ldm import LatentDiffusion

UNETS = pytest.mark.parametrize("family", [DDPM, LatentDiffusion, FlowMatching], ids=lambda family: family.name)


def test_words_are_in_lower_case_and_marks_are_words():
    assert words_of("A Dog, running!") == ["a", "dog", ",", "running", "!"]
    assert words_of("日本 café 3s") == ["日本", "café", "3s"]


def test_the_most_frequent_words_have_numbers_and_others_one_in_common():
    vocabulary = Vocabulary.of(["b a", "b c", "b a"], FIRST + 2)
    assert vocabulary.words == ("a", "b")
    assert vocabulary.encode(["a b c", "", "b b b b"], 3).tolist() == [
        [FIRST, FIRST + 1, UNKNOWN], [END] * 3, [FIRST + 1] * 3,
    ]  # fmt: skip
    assert vocabulary.unknown("c a d c") == ["c", "d"]


def test_the_vocabulary_is_of_training_captions_and_what_is_not_read_is_told():
    def split(captions):
        return Split(len(captions), [], {"text": {"captions": np.array(captions)}})

    spec = ConditionSpec("text", (2,), 10)
    found, words = with_texts({"train": split(["a b", "a b b é"]), "test": split(["a c"])}, (spec,))
    assert words == ("a", "b", "é")
    assert found["test"].conditions["text"]["text"].tolist() == [[2, UNKNOWN]]
    assert read(found["train"].conditions["text"]["captions"]) == ["a b", "a b b é"]
    assert found["train"].remarks == ("1 train captions have more than 2 words, of which the others are not read",)
    assert found["test"].remarks == ("1 test captions have words that are unknown",)


# The encoder


@pytest.fixture
def encoder():
    torch.manual_seed(0)
    return Words(50, 32).eval()


def test_what_stands_behind_the_end_changes_nothing(encoder):
    text = torch.tensor([[3, 4, 5, 0, 0, 0, 0, 0, 0, 0, 0, 0]])
    long, short = encoder(text), encoder(text[:, :4])
    assert long.real.sum() == 4
    assert torch.allclose(long.tokens[:, :4], short.tokens[:, :4], atol=1e-5)


def test_order_matters(encoder):
    one, other = encoder(torch.tensor([[3, 4, 5]])), encoder(torch.tensor([[5, 4, 3]]))
    assert not torch.allclose(one.tokens[:, 0], other.tokens[:, 0], atol=1e-3)


def test_an_empty_text_is_a_token_of_its_own(encoder):
    found = encoder(torch.zeros(2, 12, dtype=torch.int64))
    assert found.real.sum(1).tolist() == [1, 1] and found.tokens.isfinite().all()


def test_encoded_text_is_taken_as_it_comes():
    encoder = Words(0, 32, encoded=8).eval()
    text = torch.zeros(1, 12, 8)
    text[:, :3] = torch.randn(3, 8)
    assert encoder(text).real.sum() == 4


# Networks and models


@pytest.mark.parametrize("context", [0, 16])
def test_a_network_reads_the_text_and_nothing_behind_its_end(context):
    torch.manual_seed(0)
    spec = UNetSpec(1, 1, widths=(16, 16), context=context, words=50)
    net = UNet(spec).eval()
    torch.nn.init.normal_(net.head.weight)
    for module in net.modules():
        if hasattr(module, "out") or hasattr(module, "conv2"):
            torch.nn.init.normal_((module.out if hasattr(module, "out") else module.conv2).weight, std=0.1)
    images, time = torch.randn(1, 1, 8, 8), torch.tensor([500.0])
    text = torch.tensor([[3, 4, 5] + [0] * 9])
    one, same = net(images, time, text), net(images, time, text[:, :5])
    assert torch.allclose(one, same, atol=1e-5)
    assert not torch.allclose(one, net(images, time, torch.tensor([[5, 4, 3] + [0] * 9])), atol=1e-4)


def conditions(kind, n=4):
    """A condition of some kind for n images of 8x8 pixels, and its spec."""
    generator = torch.Generator().manual_seed(n)
    if kind == "text":
        return ConditionSpec("text", (6,), 9), Condition({"text": torch.randint(2, 9, (n, 6), generator=generator)})
    if kind == "map":
        levels = torch.randint(0, 3, (n, 8, 8), generator=generator)
        return ConditionSpec("map", (8, 8), 3), Condition({"map": levels}, 3)
    return ConditionSpec("vector", (5,)), Condition({"vector": torch.randn(n, 5, generator=generator)})


@UNETS
@pytest.mark.parametrize("kind", ["text", "map", "vector"])
def test_models_depend_on_it_and_can_be_guided(family, kind):
    spec, one = conditions(kind)
    data = DataSpec("toy", (1, 8, 8), 0, spec)
    torch.manual_seed(0)
    options = {**family.presets["tiny"], "label_dropout": 0.5, "guidance": 2.0}
    model = family(data, family.Config(**options)).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter += 0.1 * torch.randn_like(parameter)
    other = Condition({kind: one[kind].flip(0)}, one.size)

    def drawn(given):
        torch.manual_seed(1)
        with torch.no_grad():
            return model.sample(4, given)

    assert torch.equal(drawn(one), drawn(one)) and not torch.equal(drawn(one), drawn(other))


def test_a_map_becomes_a_channel_a_class_and_one_for_the_unknown():
    given = Condition({"map": torch.tensor([[[0, 1], [2, 2]]])}, 2)
    maps = given.maps((2, 2))
    assert maps.shape == (1, 3, 2, 2) and maps.sum(1).eq(1).all()
    assert maps[0, 2].tolist() == [[0, 0], [1, 1]]
    seen, rest = beside(torch.zeros(1, 1, 2, 2), given, (2, 2))
    assert seen.shape[1] == 4 and rest is None


@pytest.mark.parametrize("kind", ["text", "map", "vector"])
def test_the_null_condition_tells_nothing(kind):
    _, given = conditions(kind)
    chosen = torch.tensor([True, False, False, True])
    dropped = given.dropped(chosen)[kind]
    assert (dropped[chosen] == (3 if kind == "map" else 0)).all()
    assert torch.equal(dropped[~chosen], given[kind][~chosen])


def test_maps_are_mirrored_and_texts_are_not():
    every = torch.ones(4, dtype=torch.bool)
    _, given = conditions("map")
    assert torch.equal(given.mirrored(every)["map"], given["map"].flip(-1))
    _, text = conditions("text")
    assert torch.equal(text.mirrored(every)["text"], text["text"])
