"""Frozen encoders of text: what tells them apart, what is cached, and what a plugin may register as one."""

import pickle

import numpy as np
import pytest
import torch
from toys import toy_job

from genbench import ConditionSpec
from genbench.data.condition_plan import conditions_of
from genbench.data.dataset import Dataset, Part
from genbench.data.encoders import choose, described, encode, encoded_before
from genbench.data.words import with_texts
from genbench.records.job import Job
from genbench.running.defaults import load_plugins
from genbench.support.errors import BadInput, CorruptData, EnvironmentProblem

CAPTIONS = {"train": ["a red 3", "a blue 7", "a red 3", ""], "test": ["a blue 7", "a green 5 with more words"]}


class Letters:
    """Of each letter its number: no network, and as many tokens as letters up to 12."""

    built: list = []
    version = 1

    def __init__(self, folder):
        self.built.append(folder)
        self.identity, self.shape = {"version": self.version}, (12, 2)
        self.moved = None

    def to(self, device):
        self.moved = device

    def too_long(self, texts):
        return sum(len(text) > 12 for text in texts)

    def encode(self, texts):
        found = torch.zeros(len(texts), 12, 2)
        for row, text in zip(found, texts):
            for place, letter in enumerate(text[:12]):
                row[place] = torch.tensor([ord(letter) * self.version, 1.0])
        return found


@pytest.fixture
def letters(monkeypatch):
    monkeypatch.setattr(Letters, "built", [])
    return {"letters": (Letters, "a plugin")}


@pytest.fixture
def data(tmp_path):
    """A dataset with captions whose images nobody looks at."""
    from genbench.data.source import Split

    spec = ConditionSpec("text", (8,), 20)
    splits = {name: Split(len(own), [], {"text": {"captions": np.array(own)}}) for name, own in CAPTIONS.items()}
    splits, words = with_texts(splits, (spec,))
    parts = {
        name: Part(np.zeros((split.count, 1, 8, 8), np.uint8), None, split.conditions) for name, split in splits.items()
    }
    folder = tmp_path / "prepared"
    folder.mkdir()
    for name, part in parts.items():
        np.save(folder / f"{name}_images.npy", part.images)
    return Dataset(
        "told",
        "",
        "0" * 64,
        (1, 8, 8),
        0,
        (),
        0,
        folder,
        parts["train"],
        parts["test"],
        conditions=(spec,),
        words=words,
    )


def test_each_caption_is_encoded_once_and_given_to_models_as_it_came(data, letters, tmp_path):
    told = []
    chosen = choose("letters", letters, tmp_path)
    found = encode(data, chosen, "cpu", lambda *words: told.append(words))
    assert found.condition("text") == ConditionSpec("text", (12, 2), 0, chosen.stamp) and chosen.encoder.moved == "cpu"
    assert told == [("told, letters", 4, 4)]
    assert found.encoded is not None and np.load(found.encoded / "texts.npy").dtype == np.float16
    given = conditions_of("text").given(found.train, np.array([2, 3, 1]), "cpu")["text"]
    assert given.dtype == torch.float32
    assert torch.equal(given, chosen.encoder.encode(["a red 3", "", "a blue 7"]))
    assert found.remarks == [f"1 different captions are longer than {chosen.stamp} reads, 12 tokens"]
    assert found.spec("text").condition == chosen.spec and data.spec("text").condition.shape == (8,)


def test_what_the_cache_has_is_not_encoded_again(data, letters, tmp_path):
    folder = tmp_path / "weights"
    folder.mkdir()
    (folder / "model").write_text("one")
    words = f"letters={folder}"
    first = encode(data, choose(words, letters, tmp_path), "cpu")
    assert Letters.built == [folder]
    second = encode(data, choose(words, letters, tmp_path), "cpu")
    third = encoded_before(data, first.condition("text"), tmp_path)
    assert Letters.built == [folder] and first.encoded == second.encoded == third.encoded
    assert third.remarks == first.remarks
    (folder / "model").write_text("two")  # which may be another encoder: only building it tells
    assert choose(words, letters, tmp_path).stamp == first.condition("text").encoder and len(Letters.built) == 2


def test_another_identity_is_another_encoder_and_another_cache(data, letters, tmp_path, monkeypatch):
    first = encode(data, choose("letters", letters, tmp_path), "cpu")
    monkeypatch.setattr(Letters, "version", 2)
    second = encode(data, choose("letters", letters, tmp_path), "cpu")
    assert first.condition("text").encoder != second.condition("text").encoder and first.encoded != second.encoded
    assert not np.array_equal(first.test.encoded[np.arange(2)], second.test.encoded[np.arange(2)])


def test_a_process_that_is_handed_the_dataset_maps_the_same_texts(data, letters, tmp_path):
    found = encode(data, choose("letters", letters, tmp_path), "cpu")
    again = pickle.loads(pickle.dumps(found))
    assert np.array_equal(again.train.encoded[np.arange(4)], found.train.encoded[np.arange(4)])


def test_texts_that_are_absent_or_have_changed_are_one_error(data, letters, tmp_path):
    chosen = choose("letters", letters, tmp_path)
    with pytest.raises(EnvironmentProblem, match=r"encoded by letters .* are not there"):
        encoded_before(data, chosen.spec, tmp_path)
    folder = encode(data, chosen, "cpu").encoded
    content = bytearray((folder / "texts.npy").read_bytes())
    content[-1] ^= 1
    (folder / "texts.npy").write_bytes(content)
    with pytest.raises(CorruptData, match="changed since it was written"):
        encoded_before(data, chosen.spec, tmp_path)


def test_keys_change_with_the_encoder_and_only_where_there_is_one(tmp_path):
    def job(name="toy", encoder=None):
        spec = ConditionSpec("text", (12, 2), 0, encoder) if encoder else ConditionSpec("text", (8,), 20)
        return Job(**dict(toy_job(tmp_path, conditional=True, condition=spec)) | {"model": name, "label": name})

    trained = {job(encoder=encoder).id for encoder in (None, "clip a", "clip b")}
    originals = {job("original", encoder).id for encoder in (None, "clip a", "clip b")}
    assert len(trained) == len(originals) == 3
    blocks = {job(encoder=encoder).stamp().block for encoder in (None, "clip a", "clip b")}
    assert blocks == {"Conditional on text", "Conditional on text by clip a", "Conditional on text by clip b"}


# What is refused


def broken(**parts):
    """An encoder with other parts."""
    return type("Broken", (Letters,), parts)


@pytest.mark.parametrize(
    ("build", "told"),
    [
        (broken(encode=lambda self, texts: torch.zeros(len(texts), 3, 2)), r"gave \(4, 3, 2\), not \(4, 12, 2\)"),
        (broken(encode=lambda self, texts: torch.full((len(texts), 12, 2), 1e6)), "float16 does not hold"),
        (broken(encode=lambda self, texts: 1 / 0), "ZeroDivisionError"),
        (lambda folder: object(), "has no identity"),
    ],
    ids=["shape", "range", "raises", "parts"],
)
def test_an_encoder_that_does_not_keep_its_word_is_one_error(data, tmp_path, build, told):
    with pytest.raises(BadInput, match=told):
        encode(data, choose("odd", {"odd": (build, "a plugin")}, tmp_path), "cpu")
    assert not list(tmp_path.glob("encoded/*"))


def test_numbers_without_captions_cannot_be_encoded(data, letters, tmp_path):
    for part in (data.train, data.test):
        part.conditions["text"].pop("captions")
    with pytest.raises(BadInput, match="has no captions, only numbers of words"):
        described(data, choose("letters", letters, tmp_path))


@pytest.mark.parametrize(
    ("words", "told"),
    [("latters", "letters"), ("letters=nowhere", "nowhere is no folder"), ("letters=", "nothing is no folder")],
)
def test_what_cannot_be_chosen_is_one_error(letters, tmp_path, words, told):
    with pytest.raises(BadInput) as raised:
        choose(words, letters, tmp_path)
    assert told in raised.value.message + raised.value.hint


def test_a_plugin_that_registers_no_function_is_broken(tmp_path):
    plugin = tmp_path / "odd.py"
    plugin.write_text(
        "from genbench import hookimpl\n@hookimpl\ndef register_encoders(register):\n    register('x', 1)\n"
    )
    with pytest.raises(BadInput, match="'x' is 1"):
        load_plugins([str(plugin)])


def test_an_encoder_without_text_is_refused(genbench):
    result = genbench("plan", "-m", "gaussian", "-d", "digits", "--encoder", "clip=.")
    assert result.code == 2 and "no row conditions on text" in result.err
