"""CLIP score: 100 times the cosine between samples and their captions, in a CLIP from a local folder.

    GENBENCH_CLIP=FOLDER genbench run --plugin genbench_clip.score -m ddpm -d mine --condition text

It is the plain cosine, as torchmetrics has it but without cutting off what is negative. Hessel et al. 2021 print 2.5
times the cosine, of captions that begin with "A photo depicts".
"""

from __future__ import annotations

import os
from functools import lru_cache
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch

from genbench import BadInput, EnvironmentProblem, Measurement, hookimpl
from genbench.condition import EACH
from genbench.data.encoders import choose
from genbench.data.words import read
from genbench.metrics.value import mean_of
from genbench.support.digests import file_digest
from genbench_clip.folder import PREPROCESSOR, WHOLE, check, identity, loaded, tokenizer
from genbench_clip.text import ClipText

PLACE = "GENBENCH_CLIP"
BLOCK = 50
"""Images looked at at a time."""
SMALL = 64
"""Pixels of a side below which a CLIP sees next to nothing: it was trained on photographs of more than 200."""
VERSION = 1


def folder() -> Path:
    """The folder that the environment names. Raises EnvironmentProblem or BadInput if there is no CLIP in it."""
    named = os.environ.get(PLACE)
    if not named:
        raise EnvironmentProblem(f"{PLACE} is not set", f"set it to the folder of the CLIP that scores: {PLACE}=FOLDER")
    place = Path(named)
    check(place, (WHOLE,))
    if not (place / PREPROCESSOR).is_file():
        raise BadInput(f"{place}: no {PREPROCESSOR}", "put it beside the weights: it says how the CLIP is shown images")
    return place


folder()  # before anything runs


class Scorer:
    """A CLIP that compares images with captions, on a device."""

    def __init__(self, place: Path, device: str = "cpu") -> None:
        from transformers import CLIPImageProcessor, CLIPModel

        self.model, self.tokenizer = loaded(CLIPModel, place).to(device), tokenizer(place)
        self.processor = CLIPImageProcessor.from_pretrained(place, local_files_only=True)
        self.identity = {**identity(place), "preprocessor": file_digest(place / PREPROCESSOR)}
        self.most = int(self.model.config.text_config.max_position_embeddings)

    @torch.no_grad()
    def of_images(self, images: np.ndarray) -> np.ndarray:
        """Unit vectors (N, D) of uint8 images (N, C, H, W); of one channel three are made."""
        found = []
        for start in range(0, len(images), BLOCK):
            levels = np.asarray(images[start : start + BLOCK])
            colours = np.repeat(levels, 3, axis=1) if levels.shape[1] == 1 else levels
            shown = self.processor(
                images=list(torch.from_numpy(colours)), return_tensors="pt", input_data_format="channels_first"
            )
            states = self.model.vision_model(pixel_values=shown["pixel_values"].to(self.model.device)).pooler_output
            found.append(self.model.visual_projection(states))
        return unit(torch.cat(found))

    @torch.no_grad()
    def of_texts(self, texts: list[str]) -> np.ndarray:
        """Unit vectors (N, D) of captions, each of which is read once."""
        different, back = np.unique(np.array(texts), return_inverse=True)
        found = []
        for start in range(0, len(different), BLOCK):
            some = different[start : start + BLOCK].tolist()
            tokens = self.tokenizer(some, padding=True, truncation=True, max_length=self.most, return_tensors="pt")
            given = {name: tokens[name].to(self.model.device) for name in ("input_ids", "attention_mask")}
            found.append(self.model.text_projection(self.model.text_model(**given).pooler_output))
        return unit(torch.cat(found))[back.ravel()]

    def too_long(self, texts: list[str]) -> int:
        """How many different captions have more tokens than it reads."""
        tokens = self.tokenizer(sorted(set(texts)), verbose=False)["input_ids"]
        return sum(len(each) > self.most for each in tokens)


def unit(vectors: torch.Tensor) -> np.ndarray:
    """Vectors (N, D) of length 1, float64."""
    wide = vectors.cpu().double()
    found: np.ndarray = (wide / wide.norm(dim=1, keepdim=True)).numpy()
    return found


@lru_cache(maxsize=1)
def scorer(place: Path, device: str) -> Scorer:
    """The CLIP of a folder, loaded once in a process."""
    return Scorer(place, device)


@hookimpl
def evaluate(job: Any, samples: Any, data: Any) -> list[Measurement]:
    """The score of samples that were drawn under captions; none of others."""
    if job.kind != "text" or samples is None or samples.conditions is None or len(samples) < EACH:
        return []
    captions = data.test.conditions["text"].get("captions")
    if captions is None:
        return []
    place = folder()
    own = scorer(place, job.runtime.device)
    places = samples.conditions[: len(samples) // EACH * EACH]
    said = read(captions[places])
    texts = own.of_texts(said)
    originals = own.of_images(data.test.images[places[::EACH]]).repeat(EACH, axis=0)
    value = mean_of(cosines(own.of_images(samples.images[: len(places)]), texts).reshape(-1, EACH).mean(1))
    ends = {"floor": np.roll(originals, EACH, axis=0), "ceiling": originals}
    settings = {
        "metric": "100 times the cosine of an image and its caption", "version": VERSION, "clip": own.identity,
        "dataset": data.digest, "split": "test", "samples": len(samples), "each": EACH,
        "versions": {name: version(name) for name in ("torch", "transformers")},
    }  # fmt: skip
    return [
        Measurement(
            metric="clip_score", value=value.value, stderr=value.stderr, interval=value.interval, better="higher",
            count=len(places), parts={name: float(cosines(end, texts).mean()) for name, end in ends.items()},
            settings=settings, note="; ".join([*warnings(job, place, data.shape), *beyond(own, said)]),
        )
    ]  # fmt: skip


def cosines(images: np.ndarray, texts: np.ndarray) -> np.ndarray:
    """100 times the cosines (N,) of unit vectors (N, D)."""
    found: np.ndarray = 100 * (images * texts).sum(1)
    return found


def beyond(own: Scorer, said: list[str]) -> list[str]:
    """What to say of captions that the CLIP does not read to their end."""
    cut = own.too_long(said)
    return [f"{cut:,} different captions are longer than the CLIP reads, {own.most} tokens"] if cut else []


def warnings(job: Any, place: Path, shape: tuple[int, int, int]) -> list[str]:
    """What to know before reading anything out of the number."""
    told = ["CLIP reads a caption as a bag of words: which colour is whose, counts and places hardly move the score"]
    if min(shape[1:]) < SMALL:
        told.append(f"it means next to nothing for images of {shape[1]}x{shape[2]}, below {SMALL} pixels")
    if job.condition is not None and job.condition.encoder:
        chosen = choose(f"clip={place}", {"clip": (ClipText, "genbench_clip")}, job.runtime.cache)
        if chosen.stamp == job.condition.encoder:
            told.append("it is inflated: the row was conditioned on the same CLIP")
    return told
