"""The kinds of pipeline, each with what it is conditioned on, the images it draws and the words of its call."""

from __future__ import annotations

import json
from importlib.util import find_spec
from inspect import signature
from pathlib import Path
from typing import Any

from genbench import Condition, DataSpec
from genbench.condition import Kind

INDEX = "model_index.json"
PIPELINES: dict[str, Kind | None] = {
    "DDPMPipeline": None,
    "DDIMPipeline": None,
    "LDMPipeline": None,
    "StableDiffusionPipeline": "text",
    "StableDiffusionInpaintPipeline": "hole",
    "StableDiffusionUpscalePipeline": "image",
}
"""What each can be conditioned on."""
LEFT_OUT = {"safety_checker": None, "watermarker": None, "requires_safety_checker": False}
"""Parts that change images once they are drawn, which would be scored instead of the pipeline's own."""
CELL = 8
"""What divides the sides of images that a pipeline with text draws."""


def kind_of(folder: Path) -> str:
    """The class that the folder's index names. Raises ValueError where that cannot be taken without running code."""
    file = folder / INDEX
    try:
        index = json.loads(file.read_text(encoding="utf-8"))
    except OSError:
        raise ValueError(f"pipeline: {file} is not there: give a folder that save_pretrained wrote") from None
    except ValueError:
        raise ValueError(f"pipeline: {file} is not JSON") from None
    name = index.get("_class_name") if isinstance(index, dict) else None
    if name not in PIPELINES:
        raise ValueError(f"pipeline: {file} is of {name!r}; what can be taken is {', '.join(PIPELINES)}")
    known = ["diffusers", "transformers", None] if PIPELINES[name] else ["diffusers"]
    foreign = [
        key
        for key, part in index.items()
        if isinstance(part, list) and key not in LEFT_OUT and (part[:1] or [""])[0] not in known
    ]
    if foreign:
        raise ValueError(f"pipeline: {foreign[0]} in {file} is no part of diffusers; foreign code is not run")
    return str(name)


def left_out(pipeline: Any) -> dict[str, Any]:
    """Those of LEFT_OUT that a kind of pipeline has, as it is told to be without."""
    parts = signature(pipeline.__init__).parameters
    return {name: without for name, without in LEFT_OUT.items() if name in parts}


def check_kind(name: str, data: DataSpec) -> None:
    """Raise ValueError unless a job conditions on what the pipeline takes."""
    takes = PIPELINES[name]
    if takes != data.kind:
        told = f"takes {f'a condition of kind {takes}' if takes else 'no condition'}"
        way = f"--condition {takes}" if takes else "leave out --condition"
        raise ValueError(f"pipeline: a {name} {told}, and this job has {data.kind or 'none'}: {way}")
    if takes and find_spec("transformers") is None:
        raise ValueError('pipeline: its text needs transformers: pip install "genbench[clip]"')


def drawn_shape(pipeline: Any, data: DataSpec) -> tuple[int, ...]:
    """(C, H, W) of what a pipeline draws for a job: that of its latents, through the first stage where there is one.

    A pipeline that enlarges draws what is given in the first stage's factor. Raises ValueError where that would be
    resized on the way.
    """
    unet = pipeline.unet.config
    side = unet.sample_size
    latent = (unet.in_channels, side, side) if isinstance(side, int) else (unet.in_channels, *side)
    stage = getattr(pipeline, "vqvae", None) or getattr(pipeline, "vae", None)
    if stage is None:
        return latent
    factor = 2 ** (len(stage.config.block_out_channels) - 1)
    if data.kind == "image":
        assert data.condition is not None
        latent = data.condition.shape
        if any(side % factor for side in latent[1:]):
            raise ValueError(f"pipeline: it would resize what is given, {latent}, to sides that {factor} divides")
    shape = (int(stage.config.out_channels), latent[1] * factor, latent[2] * factor)
    if data.kind is not None and any(side % CELL for side in shape[1:]):
        raise ValueError(f"pipeline: it draws images whose sides {CELL} divides, which those of {shape} are not")
    return shape


def call_words(data: DataSpec, given: Condition, prompt: str) -> dict[str, Any]:
    """What a pipeline is called with for a condition: white, 1, is to be painted anew; images are in [0, 1]."""
    _, height, width = data.shape
    if data.kind == "text":
        return {"prompt": written(given), "height": height, "width": width}
    words: dict[str, Any] = {"prompt": [prompt] * len(given), "image": (given["image"] + 1) / 2}
    if data.kind == "hole":
        words |= {"mask_image": given["hole"].to(words["image"].dtype), "height": height, "width": width}
    return words


def written(given: Condition) -> list[str]:
    """The captions of a condition as text. Raises ValueError if it has only numbers of words."""
    if "captions" not in given.tensors:
        raise ValueError("pipeline: it reads captions, and this dataset has only the numbers of their words")
    return [bytes(row).rstrip(b"\0").decode() for row in given["captions"].tolist()]
