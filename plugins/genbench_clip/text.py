"""A frozen encoder of text: the hidden states of a CLIP's last layer, as latent diffusion conditions on them."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import Tensor
from torch.nn.functional import pad

from genbench import BadInput
from genbench_clip.folder import PACKAGES, TEXT, WHOLE, check, identity, loaded, tokenizer

PROBE = ("a photo of a cat", "two red squares above a blue circle", "The 3 at the left is green.")
PROBED = 8
"""Channels of the last token of each of these sentences that are in an identity, in hundredths: few, so that another
processor, which rounds otherwise, hardly ever makes another encoder.
"""


class ClipText:
    """The encoder: a token for each part of a word, between one that begins and one that ends the text.

    The states of the last layer are normalised as CLIP does it, and zeros where the tokenizer would fill up. Source:
    Rombach et al. 2022, section 3.3; Radford et al. 2021, section 2.4.
    """

    packages: ClassVar[tuple[str, ...]] = PACKAGES

    def __init__(self, folder: Path | None) -> None:
        """Raises BadInput if the folder does not hold a CLIP, EnvironmentProblem without transformers."""
        if folder is None:
            raise BadInput("--encoder clip: no folder", "give that of a CLIP: --encoder clip=FOLDER")
        check(folder, (WHOLE, TEXT))
        from transformers import CLIPTextModel

        self.model = loaded(CLIPTextModel, folder)
        self.tokenizer = tokenizer(folder)
        config = self.model.config
        self.shape = (int(config.max_position_embeddings), int(config.hidden_size))
        self.identity: dict[str, Any] = {**identity(folder), "probe": self.probe()}

    def to(self, device: str) -> None:
        """Move it to a device."""
        self.model.to(device)

    def too_long(self, texts: list[str]) -> int:
        """How many have more tokens than it reads."""
        return sum(len(tokens) > self.shape[0] for tokens in self.tokenizer(texts, verbose=False)["input_ids"])

    @torch.no_grad()
    def encode(self, texts: list[str]) -> Tensor:
        """Float32 (B, L, D); of a text that is too long the first tokens and the end."""
        tokens = self.tokenizer(texts, padding=True, truncation=True, max_length=self.shape[0], return_tensors="pt")
        tokens = {name: tokens[name].to(self.model.device) for name in ("input_ids", "attention_mask")}
        states: Tensor = self.model(**tokens).last_hidden_state * tokens["attention_mask"][..., None]
        return pad(states, (0, 0, 0, self.shape[0] - states.shape[1]))

    def probe(self) -> str:
        """SHA-256 of what it makes of a few sentences: another version of what it runs on may make something else."""
        found = hashlib.sha256()
        for sentence in PROBE:
            (states,) = self.encode([sentence])
            real = int(states.abs().sum(1).count_nonzero())
            hundredths = (100 * states[real - 1, :PROBED].double()).round().long().tolist()
            found.update(f"{real} {hundredths}".encode())
        return found.hexdigest()
