"""Checkpoints: weights, their average and the optimizers as safetensors, with a manifest of digests. No pickle."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from genbench.records.training_state import TrainingState
from genbench.support import digests, store
from genbench.support.denials import disk_errors
from genbench.support.errors import CorruptData, Unreadable, removal
from genbench.support.faults import fault
from genbench.support.paths import inside
from genbench.support.sealed import check_digest, read_sealed, write_sealed

if TYPE_CHECKING:
    from torch import Tensor
    from torch.nn import Module

MANIFEST = "manifest.json"
NAMES = ("next", "latest", "previous")
"""Where a checkpoint may be, the newest first; `next` exists only until it becomes the latest."""
Tensors = Mapping[str, Mapping[str, "Tensor"]]
"""Tensors by name, in groups, one file per group."""
log = logging.getLogger("genbench")


def save(folder: Path, tensors: Tensors, state: TrainingState) -> None:
    """Write one safetensors file per group as `folder`/latest; what was latest becomes previous.

    The newest of `NAMES` that exists is whole at every instant, so that a kill loses nothing that was written.
    """
    fault("checkpoint.begin")
    settle(folder)
    write(folder / "next", tensors, state.model_dump(mode="json"))
    fault("checkpoint.written")
    settle(folder)
    fault("checkpoint.end")


def settle(folder: Path) -> None:
    """Make the checkpoint that was written last the latest; only the holder of the run's lock may call this."""
    new, latest, previous = (folder / name for name in NAMES)
    if not new.exists():
        return
    with disk_errors(folder):
        if latest.exists():
            store.remove(previous)
            latest.replace(previous)
        fault("checkpoint.rotated")
        new.replace(latest)
        store.sync(folder)


def write(folder: Path, tensors: Tensors, state: Mapping[str, Any]) -> None:
    """Write into `folder` one safetensors file per group, and a manifest of their digests with the state."""
    with store.atomic_folder(folder) as temporary:
        for group, members in tensors.items():
            store.write_tensors(temporary / f"{group}.safetensors", members)
        files = {file.name: digests.file_digest(file) for file in sorted(temporary.iterdir())}
        write_sealed(temporary / MANIFEST, {"files": files, "state": dict(state)})


def load(folder: Path) -> tuple[dict[str, dict[str, Tensor]], TrainingState] | None:
    """Tensors and state of the newest checkpoint whose digests match; None if there is no checkpoint.

    Raises CorruptData if there are checkpoints, but none is whole, and Unreadable for one that may be.
    """
    faults = []
    for name in NAMES:
        if not (folder / name / MANIFEST).exists():
            continue
        try:
            tensors, state = read(folder / name)
            found = tensors, _training_state(state, folder / name)
        except Unreadable:
            raise
        except CorruptData as error:
            faults.append(error.message)
            continue
        for damage in faults:
            log.warning("%s; resuming from %s", damage, folder / name)
        return found
    if faults:
        raise CorruptData("; ".join(faults), removal(folder, then="then run again: it trains from the start"))
    return None


def read(folder: Path) -> tuple[dict[str, dict[str, Tensor]], dict[str, Any]]:
    """What `write` wrote. Raises CorruptData if a file is missing or has changed."""
    manifest = read_manifest(folder)
    groups = {}
    for name, expected in manifest["files"].items():
        file = inside(folder, name)
        check_digest(file, expected, MANIFEST, removal(folder))
        groups[file.stem] = store.read_tensors(file)
    return groups, manifest["state"]


def read_manifest(folder: Path) -> dict[str, dict[str, Any]]:
    """`files`, their digests by name, and `state`. Raises CorruptData if the manifest is not valid."""
    plain = read_sealed(folder / MANIFEST, removal(folder), required=False)
    if not all(isinstance(plain.get(key), dict) for key in ("files", "state")):
        raise CorruptData(f"{folder / MANIFEST}: not a manifest of files and a state", removal(folder))
    return {"files": plain["files"], "state": plain["state"]}


def read_state(folder: Path) -> TrainingState | None:
    """The state of the newest checkpoint, without reading or checking its tensors; None if there is no checkpoint."""
    for name in NAMES:
        if (folder / name / MANIFEST).exists():
            return _training_state(read_manifest(folder / name)["state"], folder / name)
    return None


def _training_state(plain: dict[str, Any], folder: Path) -> TrainingState:
    try:
        return TrainingState.model_validate(plain)
    except ValidationError as error:
        key = ".".join(map(str, error.errors()[0]["loc"]))
        raise CorruptData(f"{folder / MANIFEST}: {key}: not the state of a training", removal(folder)) from error


def weights_digest(model: Module) -> str:
    """SHA-256 of the model's state, which identifies the weights that samples were drawn from."""
    import torch

    content = hashlib.sha256()
    for name, tensor in sorted(model.state_dict().items()):
        plain = tensor.detach().cpu().contiguous()
        content.update(f"{name} {plain.dtype} {tuple(plain.shape)}".encode())
        content.update(plain.flatten().view(torch.uint8).numpy().tobytes())
    return content.hexdigest()
