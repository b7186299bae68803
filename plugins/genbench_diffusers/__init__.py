"""A pipeline of diffusers as a model: a local folder, as `save_pretrained` writes it, sampled and scored.

    genbench run --plugin genbench_diffusers -m diffusers --set diffusers.pipeline=FOLDER -d cifar10

With --condition text, hole or image it takes pipelines that draw under captions, fill holes or enlarge images.

Nothing is trained here, nothing is downloaded, and no code of the folder is run.
"""

import hashlib
from collections.abc import Callable, Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from pydantic import model_validator
from torch import Tensor, nn

from genbench import Config, DataSpec, Model, field, hookimpl
from genbench.condition import Given
from genbench.metering.meter import Meter
from genbench.support.digests import file_digest
from genbench_diffusers.kinds import call_words, check_kind, drawn_shape, kind_of, left_out


@hookimpl
def register_models(register: Callable[[type[Model]], None]) -> None:
    register(Pipeline)


@hookimpl
def train(model: Model, meter: Meter) -> Model | None:
    """A pipeline is taken as it is; other models are none of ours."""
    if not isinstance(model, Pipeline):
        return None
    meter.elsewhere = True
    return model


class PipelineConfig(Config):
    """Where the pipeline is, and how it is sampled. Its content belongs to the job's identity, its place does not."""

    pipeline: str = field("", "runtime", "folder of the pipeline")
    digest: str = field("", "train", "SHA-256 of the folder's files; left out, it is computed")
    steps: int = field(50, "sample", "steps of the pipeline's scheduler (num_inference_steps)", ge=1)
    eta: float = field(
        0.0, "sample", "eta of DDIM: 0 without noise, 1 as much as DDPM; DDPMPipeline has none", ge=0, le=1
    )
    guidance: float = field(7.5, "sample", "guidance_scale of a pipeline with text; 1 for none", ge=1)
    prompt: str = field("", "sample", "text for all images of a pipeline that fills holes or enlarges")
    noise_level: int = field(20, "sample", "steps of noise on what a pipeline enlarges", ge=0)

    @model_validator(mode="before")
    @classmethod
    def identified(cls, values: Any) -> Any:
        if not isinstance(values, Mapping) or not values.get("pipeline"):
            return values
        found = digest_of(Path(values["pipeline"]))
        if values.get("digest") not in (None, "", found):
            raise ValueError(f"digest: {values['pipeline']} holds another pipeline now, {found[:12]}…")
        return {**values, "digest": found}

    def check(self, data: DataSpec) -> None:
        if not self.pipeline:
            raise ValueError("pipeline: give the folder of a pipeline, --set diffusers.pipeline=FOLDER")
        if find_spec("diffusers") is None:
            raise ValueError('pipeline: it needs diffusers: pip install "genbench[diffusers]"')
        check_kind(kind_of(Path(self.pipeline)), data)


class Pipeline(Model):
    """A pipeline with the weights that its folder holds: DDPM, DDIM, latent diffusion, or one of stable diffusion's."""

    name = "diffusers"
    conditions = ("text", "hole", "image")
    Config = PipelineConfig
    config: PipelineConfig
    bf16 = False

    def __init__(self, data: DataSpec, config: PipelineConfig) -> None:
        super().__init__(data, config)
        import diffusers

        diffusers.utils.logging.disable_progress_bar()
        folder = Path(config.pipeline)
        kind = getattr(diffusers, kind_of(folder))
        without = left_out(kind)
        self.pipeline = kind.from_pretrained(folder, local_files_only=True, use_safetensors=True, **without)
        self.pipeline.set_progress_bar_config(disable=True)
        self.parts = nn.ModuleDict({k: v for k, v in self.pipeline.components.items() if isinstance(v, nn.Module)})
        most = self.pipeline.scheduler.config.num_train_timesteps
        if config.steps > most:
            raise ValueError(f"steps: {config.steps}, the pipeline has {most}")
        shape = drawn_shape(self.pipeline, data)
        if shape != data.shape:
            raise ValueError(f"pipeline: it draws images {shape}, {data.name!r} has {data.shape}")

    @property
    def external_data(self) -> tuple[str, ...]:  # type: ignore[override]
        return (f"diffusers pipeline {self.config.digest[:12]}, trained elsewhere",)

    @property
    def nfe(self) -> int:
        return self.config.steps * (2 if self.data.kind is not None and self.config.guidance > 1 else 1)

    def sample(self, n: int, given: Given = None) -> Tensor:
        """By the pipeline's own call, which draws from torch's generator; its images are in [0, 1], (n, H, W, C)."""
        words = {"num_inference_steps": self.config.steps, "output_type": "np"}
        if type(self.pipeline).__name__ != "DDPMPipeline":
            words["eta"] = self.config.eta
        if self.data.kind is None:
            words["batch_size"] = n
        else:
            words |= {"guidance_scale": self.config.guidance, **call_words(self.data, given, self.config.prompt)}
        if self.data.kind == "image":
            words["noise_level"] = self.config.noise_level
        images = self.pipeline(**words).images
        device = next(self.parts.parameters()).device
        return torch.from_numpy(images).permute(0, 3, 1, 2).to(device) * 2 - 1


def digest_of(folder: Path) -> str:
    """SHA-256 over the names and digests of the folder's files. Raises ValueError where it holds none."""
    files = sorted(file for file in folder.rglob("*") if file.is_file()) if folder.is_dir() else []
    if not files:
        raise ValueError(f"pipeline: {folder} is not a folder with a pipeline")
    told = "\n".join(f"{file.relative_to(folder).as_posix()} {file_digest(file)}" for file in files)
    return hashlib.sha256(told.encode()).hexdigest()
