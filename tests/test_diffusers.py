"""A pipeline of diffusers as a model: a tiny one is built, run from the command line, and told apart by its content."""

import json
import subprocess
import sys

import pytest
import torch

diffusers = pytest.importorskip("diffusers", reason="the pipelines of diffusers need the extra diffusers")

from genbench import DataSpec  # noqa: E402
from genbench_diffusers import Pipeline  # noqa: E402


def network(side, channels):
    torch.manual_seed(0)
    return diffusers.UNet2DModel(
        sample_size=side, in_channels=channels, out_channels=channels, layers_per_block=1, block_out_channels=(8, 8),
        norm_num_groups=4, down_block_types=("DownBlock2D", "DownBlock2D"), up_block_types=("UpBlock2D", "UpBlock2D"),
    )  # fmt: skip


def saved(folder, kind="DDPMPipeline", channels=1):
    """A pipeline for images of 8x8, as its users save it."""
    scheduler = diffusers.DDPMScheduler(num_train_timesteps=20)
    if kind == "LDMPipeline":
        stage = diffusers.VQModel(
            in_channels=channels, out_channels=channels, latent_channels=2, num_vq_embeddings=16,
            block_out_channels=(8, 8),
            down_block_types=("DownEncoderBlock2D",) * 2, up_block_types=("UpDecoderBlock2D",) * 2, norm_num_groups=4,
        )  # fmt: skip
        parts = {"vqvae": stage, "unet": network(4, 2), "scheduler": diffusers.DDIMScheduler(num_train_timesteps=20)}
    else:
        parts = {"unet": network(8, channels), "scheduler": scheduler}
    getattr(diffusers, kind)(**parts).save_pretrained(folder)
    return str(folder)


SMALL = ["--plugin", "genbench_diffusers", "-m", "diffusers", "-d", "digits", "--budget", "5steps"]
SMALL += ["--samples", "100", "--device", "cpu"]


def run(tmp_path, *words):
    command = [sys.executable, "-m", "genbench", "run", *SMALL, "--out", tmp_path / "runs", *words]
    return subprocess.run(command, capture_output=True, text=True)


def record_of(folder):
    (file,) = folder.glob("diffusers-*/record.json")
    return json.loads(file.read_text())


@pytest.mark.parametrize("kind", ["DDPMPipeline", "DDIMPipeline", "LDMPipeline"])
def test_samples_are_those_of_the_pipeline_itself(tmp_path, kind):
    folder = saved(tmp_path / "pipeline", kind)
    model = Pipeline(DataSpec("digits", (1, 8, 8)), Pipeline.Config(pipeline=folder, steps=5)).eval()
    torch.manual_seed(3)
    ours = model.sample(4)
    pipeline = getattr(diffusers, kind).from_pretrained(folder)  # which may draw random weights first
    torch.manual_seed(3)
    theirs = pipeline(4, num_inference_steps=5, output_type="np").images
    assert ours.shape == (4, 1, 8, 8) and -1 <= ours.min() < ours.max() <= 1
    assert torch.equal(ours, torch.from_numpy(theirs).permute(0, 3, 1, 2) * 2 - 1)


@pytest.mark.slow
def test_it_is_a_row_that_says_what_it_is(tmp_path):
    folder = saved(tmp_path / "pipeline")
    done = run(tmp_path, "--set", f"diffusers.pipeline={folder}", "--set", "diffusers.steps=5")
    assert done.returncode == 0, done.stderr
    record = record_of(tmp_path / "runs")
    assert record["external_data"] == [
        f"diffusers pipeline {record['job']['config']['digest'][:12]}, trained elsewhere"
    ]
    assert record["cost"]["sample"]["nfe"] == 5 and record["cost"]["parameters"] > 0
    assert record["cost"]["train"] is None
    assert "trained elsewhere" in done.stdout
    (tmp_path / "pipeline").rename(tmp_path / "moved")
    again = run(tmp_path, "--set", f"diffusers.pipeline={tmp_path / 'moved'}", "--set", "diffusers.steps=5")
    assert again.returncode == 0 and len(list((tmp_path / "runs").glob("diffusers-*"))) == 1, again.stderr
    saved(tmp_path / "other", "DDIMPipeline")
    other = ["--set", f"diffusers.pipeline={tmp_path / 'other'}"]
    many = run(tmp_path, *other, "--set", "diffusers.steps=50")
    assert many.returncode == 2 and "steps: 50, the pipeline has 20" in many.stderr
    assert run(tmp_path, *other, "--set", "diffusers.steps=5").returncode == 0
    assert len(list((tmp_path / "runs").glob("diffusers-*"))) == 2


def test_what_cannot_be_taken_is_refused_before_anything_runs(genbench, tmp_path):
    folder = saved(tmp_path / "pipeline", channels=3)
    refused = {"no folder": (str(tmp_path / "none"), "not a folder"), "no pipeline": ("", "give the folder")}
    refused["other images"] = (folder, "draws images (3, 8, 8)")
    index = tmp_path / "pipeline" / "model_index.json"
    plain = json.loads(index.read_text())
    for name, changes, words in (
        ("code", {"unet": ["my_code", "Net"]}, "foreign code is not run"),
        ("text", {"_class_name": "StableDiffusionPipeline"}, "what can be taken"),
    ):
        other = tmp_path / name
        other.mkdir()
        (other / "model_index.json").write_text(json.dumps({**plain, **changes}))
        refused[name] = (str(other), words)
    for path, words in refused.values():
        done = genbench("run", *SMALL, "--set", f"diffusers.pipeline={path}", "--set", "diffusers.steps=5")
        assert done.code == 2 and words in done.err, done.err
    assert not list((tmp_path / "runs").glob("*/record.json"))
