"""Scenes of coloured digits: what captions mean, what is read off images, and the order of rows without a model."""

import json

import numpy as np
import pytest
from finished import run_here

from genbench.data.bundled import DIGITS
from genbench.data.condition_plan import ConditionPlan
from genbench.data.entries import known_datasets
from genbench.data.folders import data_root
from genbench.data.preparation import prepare
from genbench.data.scenes import CELLS, COLOURS, EMPTY, FORMS, HELD_OUT, LENGTH, WORDS, meaning, name_of
from genbench.data.words import read as captions_of
from genbench.evaluate.judges import JUDGES, values_of
from genbench.evaluate.scenes import faintest, marks, read
from genbench.metrics.alignment import (
    ALIGNED,
    BINDING,
    COLOUR,
    COUNT,
    DIGIT,
    NEW,
    PLACE,
    RIGHT,
    TAKEN,
    normalised,
    share_of,
    uneven,
)
from genbench.metrics.value import Value
from genbench.records.samples import Samples
from genbench.running.answers import ANSWERS, answers_of
from genbench.support.errors import BadInput

RED3, BLUE7, GREEN7 = 3, 27, 17


@pytest.fixture(scope="module")
def scenes(session_cache):
    return prepare(known_datasets()["scenes16"], data_root(None), offline=True)


def scene(**cells):
    """A scene with things at cells, such as c0=RED3."""
    return [cells.get(f"c{cell}", EMPTY) for cell in range(CELLS)]


# What captions mean


@pytest.mark.parametrize(
    ("caption", "wanted"),
    [
        ("a red 3 at the top left", [scene(c0=RED3)]),
        ("a red 3 in the lower right corner", [scene(c3=RED3)]),
        ("a red 3", [scene(**{f"c{cell}": RED3}) for cell in range(CELLS)]),
        ("a red 3 above a blue 7", [scene(c0=RED3, c2=BLUE7), scene(c1=RED3, c3=BLUE7)]),
        ("a blue 7 below a red 3", [scene(c0=RED3, c2=BLUE7), scene(c1=RED3, c3=BLUE7)]),
        ("a red 3 to the right of a blue 7", [scene(c0=BLUE7, c1=RED3), scene(c2=BLUE7, c3=RED3)]),
        ("two red 3s side by side", [scene(c0=RED3, c1=RED3), scene(c2=RED3, c3=RED3)]),
        ("a red 3 at the top right and a blue 7 at the bottom left", [scene(c1=RED3, c2=BLUE7)]),
    ],
)
def test_a_caption_is_true_of_these_scenes(caption, wanted):
    assert sorted(meaning(caption).scenes.tolist()) == sorted(wanted)


def test_a_pair_anywhere_has_twelve_places_and_equal_things_six():
    assert len(meaning("a red 3 and a blue 7").scenes) == 12
    assert len(meaning("two red 3s").scenes) == 6


def test_other_words_have_no_meaning():
    with pytest.raises(ValueError, match="no caption of the grammar"):
        meaning("a purple 3")


def test_every_form_is_read_as_it_was_written():
    for form, places in FORMS.items():
        said = meaning(form.format(name_of(RED3), name_of(BLUE7)))
        assert said.places == places and set(said.things) <= {RED3, BLUE7}


# The dataset


def test_training_has_no_pair_that_is_held_out_and_test_has_all(scenes):
    seen = {
        name: {
            thing for caption in captions_of(part.conditions["text"]["captions"]) for thing in meaning(caption).things
        }
        for name, part in (("train", scenes.train), ("test", scenes.test))
    }
    assert not seen["train"] & set(HELD_OUT)
    assert seen["test"] == set(range(10 * len(COLOURS)))


def test_images_are_what_their_captions_say(scenes):
    """Up to the reader's own errors: it is right about more than nine digits of ten."""
    places = np.arange(500)
    found = marks(scenes.test.images[places], scenes.test, places)
    for name in (COUNT, COLOUR, PLACE):
        assert found[name].min() == 1, name
    assert found[DIGIT].mean() > 0.95 and np.nanmean(found[RIGHT]) > 0.9 and np.nanmean(found[NEW]) > 0.9


def test_words_fit_in_what_is_declared(scenes):
    assert len(scenes.words) + 2 <= WORDS and not scenes.remarks
    assert scenes.train.conditions["text"]["text"].shape == (20_000, LENGTH)
    assert (scenes.train.conditions["text"]["text"][:, -1] == 0).all()


# The reader


def test_a_dark_scene_is_empty_and_a_colour_is_told_from_others(scenes):
    dark = np.zeros((1, 3, 16, 16), np.uint8)
    assert (read(dark) == EMPTY).all()
    red = dark.copy()
    red[0, 0, :8, :8] = 200
    assert (read(red)[0, 1:] == EMPTY).all() and read(red)[0, 0] // 10 == list(COLOURS).index("red")


@pytest.mark.parametrize("side", DIGITS)
def test_every_digit_is_seen_and_noise_is_none(side):
    """In a cell of its own, also the faintest; a cell of noise as strong as a third of that is empty."""
    for images, _ in DIGITS[side].parts():
        scenes = np.zeros((len(images), 3, 2 * side, 2 * side), np.uint8)
        scenes[:, 1, side:, :side] = images[:, 0]
        there = read(scenes)
        assert (there[:, 2] != EMPTY).all() and (np.delete(there, 2, axis=1) == EMPTY).all()
        assert (there[:, 2] // 10 == list(COLOURS).index("green")).all()
    noise = np.full((1, 3, 2 * side, 2 * side), int(faintest(side) / 3), np.uint8)
    assert (read(noise) == EMPTY).all()


def test_swapped_colours_are_right_parts_that_are_bound_wrongly(scenes):
    captions = captions_of(scenes.test.conditions["text"]["captions"])
    place = next(i for i, caption in enumerate(captions) if _two_apart(meaning(caption)))
    image = scenes.test.images[place : place + 1].copy()
    first, second = meaning(captions[place]).things
    swapped = _repainted(image, {first: 10 * (second // 10) + first % 10, second: 10 * (first // 10) + second % 10})
    found = {name: float(values[0]) for name, values in marks(swapped, scenes.test, np.array([place])).items()}
    assert found[BINDING] == 0 and found[COLOUR] == found[DIGIT] == 1 and found[COUNT] == 1
    assert marks(image, scenes.test, np.array([place]))[BINDING][0] == 1


def _two_apart(said):
    """Whether two things differ in digit and colour, none of them new, and the digits are read easily."""
    return (
        len(said.things) == 2 and len({t // 10 for t in said.things}) == 2 and {t % 10 for t in said.things} == {0, 6}
    )


def _repainted(image, things):
    """The scene with each thing in the colour of what it is to be."""
    (there,), side, image = read(image), image.shape[2] // 2, image.copy()
    for cell in np.flatnonzero(there != EMPTY):
        row, column = divmod(int(cell), 2)
        part = np.s_[0, :, row * side : (row + 1) * side, column * side : (column + 1) * side]
        colour = np.array(list(COLOURS.values())[things[int(there[cell])] // 10])
        image[part] = image[part].max(0, keepdims=True) * (colour > 0)[:, None, None]
    return image


# Metrics, and rows without a model


def test_shares_are_over_conditions_and_skip_what_is_not_asked():
    marks = np.array([[1, 1], [0, 1], [np.nan, np.nan]])
    assert share_of(marks).value == 0.75
    assert share_of(np.full((2, 2), np.nan)).status == "not_applicable"


def test_a_normalised_share_is_0_at_the_floor_and_1_at_the_ceiling():
    assert normalised(Value(0.2), 0.2, 0.9).value == 0 and normalised(Value(0.9), 0.2, 0.9).value == pytest.approx(1)
    assert normalised(Value(0.5), 0.5, 0.5).status == "not_applicable"


def test_uneven_places_are_far_from_uniform():
    even, one = np.arange(400.0).reshape(100, 4) % 4, np.zeros((100, 4))
    assert uneven(even, 4).value == 0 and uneven(one, 4).value == 0.75 and uneven(one, 4).stderr == 0
    none = np.full((3, 4), np.nan)
    assert uneven(none, 4).status == uneven(np.vstack([none, one[:1]]), 4).status == "not_enough_samples"


def test_the_error_of_places_is_over_conditions_and_as_few_as_there_are_are_not_quite_even():
    """Four equal samples of each of 70 conditions say as much as one."""
    random, found = np.random.default_rng(0), []
    for _ in range(100):
        value = uneven(np.repeat(random.integers(0, 4, (70, 1)), 4, axis=1).astype(float), 4)
        found.append((value.value, value.stderr, value.parts["expected"]))
    values, errors, expected = np.array(found).T
    assert values.mean() == pytest.approx(expected.mean(), rel=0.1) and values.mean() > 0.05
    assert errors.mean() == pytest.approx(values.std(), rel=0.5)


@pytest.mark.slow
def test_rows_are_in_their_order_and_controls_at_their_ends(scenes):
    numbers = ConditionPlan.of(scenes, "text", 2000).numbers
    assert answers_of(scenes, "text") == ["original", "shuffled", "neighbour"]
    found = {
        name: values_of(
            Samples(ANSWERS[name](scenes, "text", numbers, 0), conditions=numbers), scenes, "text", JUDGES["scenes"]
        )
        for name in answers_of(scenes, "text")
    }
    aligned = {name: values[ALIGNED] for name, values in found.items()}
    assert aligned["original"].value == pytest.approx(1)
    assert abs(aligned["shuffled"].value) < 0.01 < aligned["neighbour"].value < 0.9
    assert found["neighbour"][NEW].value == 0, "no training image has such a pair"
    assert found["original"][TAKEN].value < 0.2 and found["shuffled"][TAKEN].status == "not_enough_samples"
    chance = np.mean([_true_of_others(scenes, place) for place in range(300)])
    assert found["shuffled"][RIGHT].value == pytest.approx(chance, abs=0.01)


def _true_of_others(scenes, place):
    """The share of test captions that are true of the scene of another one."""
    captions = captions_of(scenes.test.conditions["text"]["captions"])
    there = meaning(captions[place]).scenes[0]
    return np.mean([bool((meaning(caption).scenes == there).all(1).any()) for caption in captions[300:800]])


# From the command line

WORDS_OF_RUN = (
    "-m",
    "ddpm",
    "-d",
    "few",
    "--condition",
    "text",
    "--budget",
    "10steps",
    "--samples",
    "100",
    "--likelihood-images",
    "10",
    "--device",
    "cpu",
    "--set",
    "ddpm.preset=tiny",
    "--set",
    "ddpm.label_dropout=0.1",
    "--set",
    "ddpm.guidance=2",
)


@pytest.fixture(scope="module")
def run(session_cache, few_scenes, tmp_path_factory):
    folder = tmp_path_factory.mktemp("scenes")
    words = (*WORDS_OF_RUN, "--datasets", few_scenes, "--out", folder / "runs", "--report", folder / "report")
    run_here("run", *words)
    (found,) = (folder / "runs").glob("ddpm-few-*")
    return found


@pytest.mark.slow
def test_a_run_is_marked_and_its_page_has_the_captions(run):
    record = json.loads((run / "record.json").read_text())
    assert {ALIGNED, RIGHT, NEW, BINDING} <= {m["metric"] for m in record["measurements"]}
    (page,) = run.parent.parent.glob(f"report/**/{run.name}*.html")
    assert "samples under its caption: a" in page.read_text()


@pytest.mark.slow
def test_a_run_draws_what_is_asked_for_in_its_own_words(run, tmp_path):
    out = tmp_path / "more.npy"
    run_here("sample", run, "--text", "a red 3 above a blue 7", "-n", "4", "-o", out)
    again, other = tmp_path / "again.npy", tmp_path / "other.npy"
    run_here("sample", run, "--text", "a red 3 above a blue 7", "-n", "4", "-o", again)
    run_here("sample", run, "--text", "a green 5", "-n", "4", "-o", other)
    assert np.array_equal(np.load(out), np.load(again)) and not np.array_equal(np.load(out), np.load(other))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("--text", "a purple 3"), "no caption of few has the word 'purple'"),
        (("--text", ""), "0 words"),
        (("--text", "a " * 40), "40 words"),
        ((), "give one by --text"),
        (("--hole", "x.png"), "does not condition on that"),
    ],
)
def test_what_cannot_be_asked_for_is_one_error(genbench, run, words, told, tmp_path):
    result = genbench("sample", run, *words, "-o", tmp_path / "x.png")
    assert result.code == 2 and told in result.err and not (tmp_path / "x.png").exists()


def test_a_shape_without_digits_is_refused():
    from genbench.data.sources import SOURCES

    with pytest.raises((ValueError, BadInput), match=r"\[3, 16, 16\] or \[3, 56, 56\]"):
        SOURCES["scenes"](source="scenes", shape=(3, 32, 32))


def test_images_are_not_mirrored_under_captions_that_say_left(genbench, few_scenes):
    result = genbench("plan", *WORDS_OF_RUN, "--datasets", few_scenes, "--set", "ddpm.flip=true")
    assert result.code == 2 and "captions of few say 'left'" in result.err and "flip to false" in result.err
