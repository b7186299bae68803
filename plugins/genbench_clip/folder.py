"""The folder of a CLIP as `save_pretrained` writes it: what must be in it, and what tells it from others."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from genbench import BadInput, EnvironmentProblem
from genbench.support.digests import file_digest, settings_digest
from genbench.support.errors import first_line

CONFIG, WEIGHTS, PREPROCESSOR = "config.json", "model.safetensors", "preprocessor_config.json"
TOKENIZERS = (("tokenizer.json",), ("vocab.json", "merges.txt"))
"""The files of a tokenizer: either these or those."""
WHOLE, TEXT = "clip", "clip_text_model"
"""The types of model that a configuration may name: a CLIP, and its part that reads text."""
PACKAGES = ("transformers", "tokenizers")


def check(folder: Path, kinds: tuple[str, ...]) -> None:
    """Raise BadInput unless the folder holds a CLIP of one of these kinds, EnvironmentProblem without transformers."""
    if not folder.is_dir():
        raise BadInput(f"{folder}: no such folder", "give the folder of a CLIP, which save_pretrained wrote")
    kind = kind_of(folder / CONFIG)
    if kind not in kinds:
        raise BadInput(f"{folder / CONFIG}: of model_type {kind!r}", f"give a CLIP, of model_type {' or '.join(kinds)}")
    if not (folder / WEIGHTS).is_file():
        pickles = sorted(file.name for file in folder.glob("*.bin"))
        if pickles:
            told = f"{folder}: its weights are {pickles[0]}, a pickle, which may hold code and is not read"
            raise BadInput(told, f"save the model once more with a transformers that writes {WEIGHTS}")
        raise BadInput(f"{folder}: no {WEIGHTS}", "give a folder that has the weights in one file")
    if not any(all((folder / name).is_file() for name in names) for names in TOKENIZERS):
        told = " or ".join(" and ".join(names) for names in TOKENIZERS)
        raise BadInput(f"{folder}: no tokenizer", f"put {told} beside the weights")
    if find_spec("transformers") is None:
        raise EnvironmentProblem("a CLIP needs transformers, which is not installed", 'pip install "genbench[clip]"')


def kind_of(config: Path) -> str:
    """The type of model that a configuration names. Raises BadInput where it is none."""
    try:
        plain = json.loads(config.read_text(encoding="utf-8"))
    except OSError:
        raise BadInput(f"{config}: no such file", "give the folder of a CLIP, which save_pretrained wrote") from None
    except ValueError:
        raise BadInput(f"{config}: not JSON", "copy the folder again") from None
    return str(plain.get("model_type")) if isinstance(plain, dict) else ""


def identity(folder: Path) -> dict[str, str]:
    """The SHA-256 of weights, settings and tokenizer."""
    names = {name for names in TOKENIZERS for name in (*names, "tokenizer_config.json", "special_tokens_map.json")}
    there = {name: file_digest(folder / name) for name in sorted(names) if (folder / name).is_file()}
    return {
        "weights": file_digest(folder / WEIGHTS), "config": file_digest(folder / CONFIG),
        "tokenizer": settings_digest(there),
    }  # fmt: skip


def loaded(kind: Any, folder: Path) -> Any:
    """A model of transformers with the folder's weights, in float32, which nothing changes any more.

    Raises BadInput if they are damaged, or leave a part of the model without weights.
    """
    with quiet(folder):
        model, about = kind.from_pretrained(
            folder, local_files_only=True, use_safetensors=True, dtype="float32", output_loading_info=True
        )
    if lacking := sorted(about["missing_keys"]):
        told = f"{folder / WEIGHTS}: it lacks {lacking[0]}, of {len(lacking)} tensors"
        raise BadInput(told, "give the weights that belong to the configuration")
    return model.eval().requires_grad_(False)


def tokenizer(folder: Path) -> Any:
    """The folder's tokenizer. Raises BadInput if it cannot be read."""
    from transformers import CLIPTokenizer

    with quiet(folder):
        return CLIPTokenizer.from_pretrained(folder, local_files_only=True)


@contextmanager
def quiet(folder: Path) -> Iterator[None]:
    """Transformers without progress bars and reports; whatever it raises of a folder's files is BadInput."""
    from transformers.utils import logging

    level = logging.get_verbosity()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    except Exception as error:
        raise BadInput(f"{folder}: {first_line(error)}", "copy the folder again, or give another") from error
    finally:
        logging.set_verbosity(level)
        logging.enable_progress_bar()
