"""A pipeline of diffusers as a model: a tiny one is built, run from the command line, and told apart by its content."""

import json

import numpy as np
import pytest
import torch

diffusers = pytest.importorskip("diffusers", reason="the pipelines of diffusers need the extra diffusers")

from genbench import Condition, ConditionSpec, DataSpec  # noqa: E402
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


ROW = ["--plugin", "genbench_diffusers", "-m", "diffusers", "--budget", "5steps", "--samples", "100", "--device", "cpu"]
SMALL = [*ROW, "-d", "digits"]


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
def test_it_is_a_row_that_says_what_it_is(genbench, tmp_path):
    def run(folder, steps):
        return genbench("run", *SMALL, "--set", f"diffusers.pipeline={folder}", "--set", f"diffusers.steps={steps}")

    done = run(saved(tmp_path / "pipeline"), 5)
    assert done.code == 0, done.err
    record = record_of(tmp_path / "runs")
    assert record["external_data"] == [
        f"diffusers pipeline {record['job']['config']['digest'][:12]}, trained elsewhere"
    ]
    assert record["cost"]["sample"]["nfe"] == 5 and record["cost"]["parameters"] > 0
    assert record["cost"]["train"] is None
    assert "trained elsewhere" in done.out
    (tmp_path / "pipeline").rename(tmp_path / "moved")
    again = run(tmp_path / "moved", 5)
    assert again.code == 0 and len(list((tmp_path / "runs").glob("diffusers-*"))) == 1, again.err
    other = saved(tmp_path / "other", "DDIMPipeline")
    many = run(other, 50)
    assert many.code == 2 and "steps: 50, the pipeline has 20" in many.err
    assert run(other, 5).code == 0
    assert len(list((tmp_path / "runs").glob("diffusers-*"))) == 2


def test_what_cannot_be_taken_is_refused_before_anything_runs(genbench, tmp_path):
    folder = saved(tmp_path / "pipeline", channels=3)
    refused = {"no folder": (str(tmp_path / "none"), "not a folder"), "no pipeline": ("", "give the folder")}
    refused["other images"] = (folder, "draws images (3, 8, 8)")
    index = tmp_path / "pipeline" / "model_index.json"
    plain = json.loads(index.read_text())
    for name, changes, words in (
        ("code", {"unet": ["my_code", "Net"]}, "foreign code is not run"),
        ("other", {"_class_name": "FluxPipeline"}, "what can be taken"),
        ("text", {"_class_name": "StableDiffusionPipeline"}, "--condition text"),
    ):
        other = tmp_path / name
        other.mkdir()
        (other / "model_index.json").write_text(json.dumps({**plain, **changes}))
        refused[name] = (str(other), words)
    for path, words in refused.values():
        done = genbench("run", *SMALL, "--set", f"diffusers.pipeline={path}", "--set", "diffusers.steps=5")
        assert done.code == 2 and words in done.err, done.err
    assert not list((tmp_path / "runs").glob("*/record.json"))


# Under captions, in holes, from small images


def saved_with_text(folder, kind, colours, side):
    """A pipeline of stable diffusion's kind for images of some side, twice that of its latents."""
    transformers = pytest.importorskip("transformers", reason="the text of a pipeline needs the extra clip")
    from tiny_clip import LENGTH, saved_clip

    clip = saved_clip(folder.with_name("clip"))
    torch.manual_seed(0)
    stage = diffusers.AutoencoderKL(
        in_channels=colours, out_channels=colours, latent_channels=4, block_out_channels=(8, 8), norm_num_groups=4,
        down_block_types=("DownEncoderBlock2D",) * 2, up_block_types=("UpDecoderBlock2D",) * 2, scaling_factor=0.08333,
    )  # fmt: skip
    extra = {"StableDiffusionInpaintPipeline": 5, "StableDiffusionUpscalePipeline": colours}.get(kind, 0)
    unet = diffusers.UNet2DConditionModel(
        sample_size=side // 2, in_channels=4 + extra, out_channels=4, layers_per_block=1, block_out_channels=(8, 16),
        norm_num_groups=4, down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"), attention_head_dim=4,
        up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"), cross_attention_dim=32,
        num_class_embeds=20 if kind == "StableDiffusionUpscalePipeline" else None,
    )  # fmt: skip
    parts = {
        "vae": stage, "unet": unet,
        "scheduler": diffusers.DDIMScheduler(num_train_timesteps=20, steps_offset=1, clip_sample=False),
        "text_encoder": transformers.CLIPTextModel.from_pretrained(clip), "safety_checker": None,
        "tokenizer": transformers.CLIPTokenizer.from_pretrained(clip, model_max_length=LENGTH),
        "feature_extractor": None,
    }  # fmt: skip
    if kind == "StableDiffusionUpscalePipeline":
        parts |= {"low_res_scheduler": diffusers.DDPMScheduler(num_train_timesteps=20), "max_noise_level": 19}
    else:
        parts["requires_safety_checker"] = False
    getattr(diffusers, kind)(**parts).save_pretrained(folder)
    return str(folder)


def told(*captions):
    """A condition with the numbers of words that no pipeline looks at, and captions."""
    written = np.char.encode(list(captions), "utf-8")
    letters = torch.from_numpy(written.view(np.uint8).reshape(len(captions), -1))
    return Condition({"text": torch.ones(len(captions), 4, dtype=torch.int64), "captions": letters})


def model_of(folder, shape, condition, **options):
    data = DataSpec("toy", shape, 0, condition)
    config = Pipeline.Config(pipeline=folder, steps=3, **options)
    config.check(data)
    return Pipeline(data, config).eval()


def drawn(model, given):
    torch.manual_seed(3)
    with torch.no_grad():
        return model.sample(len(given), given)


def test_a_pipeline_draws_under_captions_as_it_does_itself(tmp_path):
    folder = saved_with_text(tmp_path / "pipeline", "StableDiffusionPipeline", 3, 16)
    model = model_of(folder, (3, 16, 16), ConditionSpec("text", (4,), 9))
    ours = drawn(model, told("a red 3", "a blue 7 é"))
    pipeline = diffusers.StableDiffusionPipeline.from_pretrained(folder, safety_checker=None)
    torch.manual_seed(3)
    theirs = pipeline(["a red 3", "a blue 7 é"], 16, 16, num_inference_steps=3, output_type="np").images
    assert torch.equal(ours, torch.from_numpy(theirs).permute(0, 3, 1, 2) * 2 - 1)
    assert model.nfe == 6, "guidance asks twice"
    assert not torch.equal(ours, drawn(model, told("a red 3", "a green 5"))), "another caption, another image"
    with pytest.raises(ValueError, match="only the numbers"):
        model.sample(1, Condition({"text": torch.ones(1, 4, dtype=torch.int64)}))


def test_a_pipeline_paints_where_the_hole_is_and_sees_the_rest(tmp_path):
    folder = saved_with_text(tmp_path / "pipeline", "StableDiffusionInpaintPipeline", 3, 16)
    model = model_of(folder, (3, 16, 16), ConditionSpec("hole", (1, 16, 16)))
    torch.manual_seed(1)
    hole = torch.zeros(2, 1, 16, 16, dtype=torch.bool)
    hole[..., 8:] = True
    image = torch.rand(2, 3, 16, 16) * 2 - 1

    def filled(seen):
        return drawn(model, Condition({"image": seen, "hole": hole}))

    one = filled(image.masked_fill(hole, 0))
    assert one.shape == (2, 3, 16, 16) and one.min() >= -1 and one.max() <= 1
    assert torch.equal(one, filled(image)), "what the hole hides is not looked at"
    assert not torch.equal(one, filled((-image).masked_fill(hole, 0)))


def test_a_pipeline_enlarges_what_is_given(tmp_path):
    folder = saved_with_text(tmp_path / "pipeline", "StableDiffusionUpscalePipeline", 3, 16)
    model = model_of(folder, (3, 16, 16), ConditionSpec("image", (3, 8, 8)), noise_level=2)
    small = torch.rand(2, 3, 8, 8) * 2 - 1
    one = drawn(model, Condition({"image": small}))
    assert one.shape == (2, 3, 16, 16) and not torch.equal(one, drawn(model, Condition({"image": -small})))
    with pytest.raises(ValueError, match=r"draws images \(3, 8, 8\)"):
        model_of(folder, (3, 16, 16), ConditionSpec("image", (3, 4, 4)))
    with pytest.raises(ValueError, match="would resize what is given"):
        model_of(folder, (3, 14, 14), ConditionSpec("image", (3, 7, 7)))


def test_a_pipeline_and_a_job_of_other_kinds_do_not_fit(tmp_path):
    folder = saved_with_text(tmp_path / "pipeline", "StableDiffusionPipeline", 3, 16)
    with pytest.raises(ValueError, match="takes a condition of kind text, and this job has hole"):
        model_of(folder, (3, 16, 16), ConditionSpec("hole", (1, 16, 16)))
    with pytest.raises(ValueError, match="takes no condition, and this job has text"):
        model_of(saved(tmp_path / "plain"), (1, 8, 8), ConditionSpec("text", (4,), 9))


@pytest.mark.slow
def test_a_pipeline_under_captions_is_a_row(genbench, tmp_path, few_scenes):
    folder = saved_with_text(tmp_path / "pipeline", "StableDiffusionPipeline", 3, 16)
    words = ["--set", f"diffusers.pipeline={folder}", "--set", "diffusers.steps=2", "--condition", "text"]
    done = genbench("run", *ROW, *words, "-d", "few", "--datasets", few_scenes)
    assert done.code == 0, done.err
    record = record_of(tmp_path / "runs")
    assert record["cost"]["sample"]["nfe"] == 4 and record["job"]["condition"]["kind"] == "text"
    assert "aligned_share" in {m["metric"] for m in record["measurements"]}
