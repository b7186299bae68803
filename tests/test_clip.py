"""CLIP as an encoder of text and as a score: from a tiny folder with random weights, and from folders that are none."""

import json
import os
import shutil
import subprocess
import sys
from importlib.metadata import EntryPoint

import numpy as np
import pytest
import torch

pytest.importorskip("transformers", reason="a CLIP needs the extra clip")

from tiny_clip import LENGTH, WIDTH, saved_clip

from genbench.data.encoders import choose
from genbench.embeddings import Words
from genbench.extension import loading
from genbench.support.errors import BadInput, EnvironmentProblem
from genbench_clip import ClipText
from genbench_clip import folder as folders

REGISTERED = {"clip": (ClipText, "genbench_clip")}


@pytest.fixture(scope="module")
def clip(tmp_path_factory):
    return saved_clip(tmp_path_factory.mktemp("clip") / "tiny")


@pytest.fixture(scope="module")
def encoder(clip):
    return ClipText(clip)


@pytest.fixture(autouse=True, scope="module")
def installed():
    """The plugin as its entry point declares it, also beside an installation that is older than these files."""
    known = loading.declared()
    clip = [] if any(point.name == "clip" for point in known) else [EntryPoint("clip", "genbench_clip", "genbench")]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(loading, "declared", lambda: [*known, *clip])
        yield


# The encoder


def test_text_is_encoded_to_its_end_and_padding_changes_nothing(encoder):
    one = encoder.encode(["a red 3"])
    two = encoder.encode(["a red 3", "a red 3, a blue 7, and 5"])
    assert encoder.shape == (LENGTH, WIDTH) and one.shape == (1, LENGTH, WIDTH)
    assert torch.allclose(one[0], two[0], atol=1e-5) and not torch.allclose(one[0], two[1], atol=1e-2)
    real = one[0].abs().sum(1) > 0
    assert real.tolist() == [True] * 5 + [False] * (LENGTH - 5), "begin, a, red, 3, end"
    words = Words(0, 32, encoded=WIDTH).eval()
    assert words(two).real.sum(1)[0] == 6


def test_order_and_words_matter(encoder):
    one, other = encoder.encode(["a red 3 and a 7", "a red 7 and a 3"])
    assert not torch.allclose(one, other, atol=1e-2)


def test_what_is_too_long_is_cut_and_counted(encoder):
    long = "a red 3 and a blue 7 and a green 5 and a 7"
    assert encoder.too_long(["a red 3", long]) == 1
    states = encoder.encode([long])
    assert states.shape == (1, LENGTH, WIDTH) and (states.abs().sum(2) > 0).all()


def test_the_same_folder_is_the_same_encoder_and_other_weights_are_another(clip, tmp_path):
    copy = shutil.copytree(clip, tmp_path / "copy")
    other = saved_clip(tmp_path / "other", seed=1)
    stamp, copied, changed = (choose(f"clip={each}", REGISTERED, tmp_path).stamp for each in (clip, copy, other))
    assert stamp == copied != changed and stamp.startswith("clip ")
    (copy / "merges.txt").write_text("#version: 0.2\nr e\n")
    (copy / "vocab.json").write_text((copy / "vocab.json").read_text() + " ")
    assert choose(f"clip={copy}", REGISTERED, tmp_path).stamp != stamp, "another tokenizer"


def test_a_probe_tells_what_digests_of_files_do_not(clip, monkeypatch):
    before = ClipText(clip).identity
    encode = ClipText.encode
    monkeypatch.setattr(ClipText, "encode", lambda self, texts: 1.1 * encode(self, texts))
    after = ClipText(clip).identity
    assert {name for name in before if before[name] != after[name]} == {"probe"}


# What is no CLIP


def without(*names):
    return lambda folder: [(folder / name).unlink() for name in names]


def with_config(**changes):
    def change(folder):
        plain = json.loads((folder / "config.json").read_text())
        (folder / "config.json").write_text(json.dumps(plain | changes))

    return change


def pickled(folder):
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")


def lacking(folder):
    from safetensors.torch import load_file, save_file

    weights = load_file(folder / "model.safetensors")
    del weights["text_model.final_layer_norm.weight"]
    save_file(weights, folder / "model.safetensors", {"format": "pt"})


@pytest.mark.parametrize(
    ("spoil", "told"),
    [
        (without("config.json"), "config.json: no such file"),
        (lambda folder: (folder / "config.json").write_text("{"), "config.json: not JSON"),
        (with_config(model_type="bert"), "of model_type 'bert'"),
        (without("model.safetensors"), "no model.safetensors"),
        (pickled, "pytorch_model.bin, a pickle"),
        (without("merges.txt"), "no tokenizer"),
        (lambda folder: (folder / "model.safetensors").write_bytes(b"none"), "tiny"),
        (lacking, "it lacks .*final_layer_norm.weight"),
    ],
    ids=["no config", "config", "bert", "no weights", "pickle", "tokenizer", "damaged", "lacking"],
)
def test_a_folder_that_cannot_be_taken_is_one_error(genbench, clip, tmp_path, spoil, told):
    copy = shutil.copytree(clip, tmp_path / "tiny")
    spoil(copy)
    with pytest.raises(BadInput, match=told):
        choose(f"clip={copy}", REGISTERED, tmp_path / "cache").stamp  # noqa: B018


def test_no_folder_and_no_transformers_are_told_apart(clip, tmp_path, monkeypatch):
    with pytest.raises(BadInput, match="no folder"):
        choose("clip", REGISTERED, tmp_path).stamp  # noqa: B018
    monkeypatch.setattr(folders, "find_spec", lambda name: None)
    with pytest.raises(EnvironmentProblem, match="transformers") as raised:
        choose(f"clip={clip}", REGISTERED, tmp_path).stamp  # noqa: B018
    assert "genbench[clip]" in raised.value.hint


def test_the_doctor_lists_it(genbench, tmp_path, monkeypatch):
    monkeypatch.setenv("GENBENCH_CACHE", str(tmp_path / "cache"))
    rows = {row["what"]: row for row in genbench("doctor", "--json").json}
    assert rows["encoder clip"]["ready"] and "--encoder clip=FOLDER" in rows["encoder clip"]["state"]
    assert "cached encoded" in rows


def test_the_plugin_imports_no_transformers(tmp_path):
    script = "import sys, genbench_clip; sys.exit('transformers' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", script]).returncode == 0


# The score


@pytest.fixture
def score(clip, monkeypatch):
    monkeypatch.setenv("GENBENCH_CLIP", str(clip))
    sys.modules.pop("genbench_clip.score", None)
    from genbench_clip import score

    return score


def test_images_and_captions_are_compared_as_the_clip_itself_does(score, clip):
    from transformers import CLIPImageProcessor, CLIPModel, CLIPTokenizer

    own = score.Scorer(clip)
    images = np.random.default_rng(0).integers(0, 256, (3, 3, 16, 16), np.uint8)
    texts = ["a red 3", "a blue 7", "a red 3"]
    model = CLIPModel.from_pretrained(clip).eval()
    tokens = CLIPTokenizer.from_pretrained(clip)(texts, padding=True, return_tensors="pt")
    shown = CLIPImageProcessor.from_pretrained(clip)(images=list(torch.from_numpy(images)), return_tensors="pt")
    with torch.no_grad():
        logits = model(**shown, input_ids=tokens["input_ids"], attention_mask=tokens["attention_mask"])
        expected = 100 * (logits.logits_per_image / model.logit_scale.exp()).diagonal()
    assert np.allclose(score.cosines(own.of_images(images), own.of_texts(texts)), expected, atol=1e-3)
    gray = own.of_images(images[:, :1])
    assert np.allclose(gray, own.of_images(images[:, :1].repeat(3, axis=1)))


@pytest.mark.parametrize("named", ["", "nowhere"])
def test_without_a_clip_the_score_says_so_before_anything_runs(genbench, monkeypatch, named):
    monkeypatch.setenv("GENBENCH_CLIP", named)
    sys.modules.pop("genbench_clip.score", None)
    words = ("-m", "gaussian", "-d", "digits", "--budget", "5steps", "--samples", "100")
    result = genbench("run", *words, "--plugin", "genbench_clip.score")
    assert result.code and ("GENBENCH_CLIP" in result.err or "nowhere: no such folder" in result.err)


# From the command line

RUN = (
    "-m", "ddpm", "-d", "few", "--condition", "text", "--budget", "5steps", "--samples", "40",
    "--likelihood-images", "10", "--device", "cpu", "--set", "ddpm.preset=tiny",
)  # fmt: skip


@pytest.fixture(scope="module")
def runs(session_cache, few_scenes, clip, tmp_path_factory):
    """A run that is conditioned on this CLIP and scored by it, and one whose words are its own."""
    out = tmp_path_factory.mktemp("clip runs") / "runs"
    words = (*RUN, "--datasets", few_scenes, "--out", out)
    scored = ("--encoder", f"clip={clip}", "--plugin", "genbench_clip.score")
    for more in (scored, ()):
        command = [sys.executable, "-m", "genbench", "run", *map(str, (*words, *more))]
        done = subprocess.run(command, env={**os.environ, "GENBENCH_CLIP": str(clip)}, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
    return out


def records(runs):
    return {file.parent.name: json.loads(file.read_text()) for file in runs.glob("*/record.json")}


@pytest.mark.slow
def test_rows_say_what_encoded_their_text_and_stand_apart(runs, clip, tmp_path):
    stamp = choose(f"clip={clip}", REGISTERED, tmp_path).stamp
    trained = [record for record in records(runs).values() if record["job"]["model"] == "ddpm"]
    encoders = {record["job"]["condition"]["encoder"]: record for record in trained}
    assert len(trained) == 2 and set(encoders) == {stamp, ""}
    assert encoders[stamp]["external_data"] == [f"text encoder {stamp}, trained elsewhere"]
    assert encoders[""]["external_data"] == [] and "--encoder" not in encoders[""]["command"]
    assert encoders[stamp]["command"][-2:] == ["--encoder", "clip=tiny"], "its folder's name, not its place"
    assert len([name for name in records(runs) if name.startswith("original-")]) == 2


@pytest.mark.slow
def test_the_score_has_its_ends_and_its_warnings(runs):
    found = {
        name: next(m for m in record["measurements"] if m["metric"] == "clip_score")
        for name, record in records(runs).items()
        if any(m["metric"] == "clip_score" for m in record["measurements"])
    }
    labels = {name.partition("-")[0]: each for name, each in found.items()}
    assert set(labels) == {"ddpm", "original", "shuffled", "neighbour"}
    assert set(labels["ddpm"]["parts"]) == {"floor", "ceiling"} and -100 <= labels["ddpm"]["value"] <= 100
    assert labels["original"]["value"] == pytest.approx(labels["original"]["parts"]["ceiling"])
    for words in ("bag of words", "16x16", "same CLIP", f"longer than the CLIP reads, {LENGTH} tokens"):
        assert words in labels["ddpm"]["note"]


@pytest.mark.slow
def test_the_same_command_does_nothing_and_loads_no_clip(runs, clip, few_scenes, genbench, monkeypatch):
    before = {file: file.stat().st_mtime_ns for file in runs.glob("*/record.json")}
    monkeypatch.setattr(ClipText, "__init__", None)
    assert genbench("run", *RUN, "--datasets", few_scenes, "--encoder", f"clip={clip}", "--out", runs).code == 0
    assert {file: file.stat().st_mtime_ns for file in runs.glob("*/record.json")} == before


@pytest.mark.slow
def test_a_run_draws_under_any_words_with_its_own_encoder(runs, clip, genbench, tmp_path):
    (run,) = (runs / name for name, record in records(runs).items() if record["external_data"])
    drawn = ("sample", run, "-n", "2", "--text", "a purple 3", "-o", tmp_path / "x.npy")
    assert genbench(*drawn, "--encoder", f"clip={clip}").code == 0
    assert np.load(tmp_path / "x.npy").shape == (2, 3, 16, 16)
    assert "no --encoder, but that of the run is clip " in genbench(*drawn).err
    other = saved_clip(tmp_path / "other", seed=1)
    assert "but that of the run is clip " in genbench(*drawn, "--encoder", f"clip={other}").err
