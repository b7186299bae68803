"""Checkpoints: weights, their average and the optimizers as safetensors, with a manifest of digests. No pickle."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from genbench import store
from genbench.errors import CorruptData

if TYPE_CHECKING:
    from torch import Tensor
    from torch.optim import Optimizer

MANIFEST = "manifest.json"
MEND = "remove the checkpoint, and run again"


def save(folder: Path, tensors: Mapping[str, Mapping[str, Tensor]], state: Mapping[str, Any]) -> None:
    """Write `folder`/latest with one safetensors file a group; what was latest becomes previous."""
    latest, previous = folder / "latest", folder / "previous"
    if latest.exists():
        shutil.rmtree(previous, ignore_errors=True)
        latest.replace(previous)
    write(latest, tensors, state)


def write(folder: Path, tensors: Mapping[str, Mapping[str, Tensor]], state: Mapping[str, Any]) -> None:
    """Make `folder` hold one safetensors file a group, and a manifest of their digests with the state."""
    with store.atomic_folder(folder) as temporary:
        for group, members in tensors.items():
            store.write_tensors(temporary / f"{group}.safetensors", members)
        files = {file.name: store.file_digest(file) for file in sorted(temporary.iterdir())}
        store.write_json(temporary / MANIFEST, {"files": files, "state": dict(state)})


def load(folder: Path) -> tuple[dict[str, dict[str, Tensor]], dict[str, Any]] | None:
    """Tensors and state of the newest checkpoint whose digests agree; None where there is none.

    Raises CorruptData where there are checkpoints, but none is whole.
    """
    faults = []
    for name in ("latest", "previous"):
        if not (folder / name / MANIFEST).exists():
            continue
        try:
            return read(folder / name)
        except CorruptData as error:
            faults.append(error.message)
    if faults:
        raise CorruptData("; ".join(faults), f"remove {folder} to train again from the start")
    return None


def read(folder: Path) -> tuple[dict[str, dict[str, Tensor]], dict[str, Any]]:
    """What `write` wrote. Raises CorruptData where a file is missing or has changed."""
    if not (folder / MANIFEST).exists():
        raise CorruptData(f"{folder / MANIFEST}: missing", MEND)
    manifest = read_manifest(folder)
    groups = {}
    for name, expected in manifest["files"].items():
        file = store.inside(folder, name)
        if not file.is_file() or store.file_digest(file) != expected:
            raise CorruptData(f"{file}: missing, or not what its manifest says", MEND)
        groups[file.stem] = store.read_tensors(file)
    return groups, manifest["state"]


def read_manifest(folder: Path) -> dict[str, dict[str, Any]]:
    """`files`, their digests by name, and `state`. Raises CorruptData where the manifest is none."""
    plain = store.read_json(folder / MANIFEST)
    parts = [plain.get(key) for key in ("files", "state")] if isinstance(plain, dict) else []
    if not parts or not all(isinstance(part, dict) for part in parts):
        raise CorruptData(f"{folder / MANIFEST}: not a manifest of files and a state", MEND)
    return {"files": plain["files"], "state": plain["state"]}


def read_state(folder: Path) -> dict[str, Any] | None:
    """The state of the newest checkpoint, its tensors unread and unchecked; None where there is none."""
    for name in ("latest", "previous"):
        if (folder / name / MANIFEST).exists():
            return read_manifest(folder / name)["state"]
    return None


def optimizer_tensors(optimizers: Mapping[str, Optimizer]) -> dict[str, Tensor]:
    """The optimizers' state as `phase.index.name`; hyper-parameters come from the rebuilt optimizer."""
    import torch

    tensors = {}
    for phase, optimizer in optimizers.items():
        for index, state in optimizer.state_dict()["state"].items():
            for name, value in state.items():
                tensors[f"{phase}.{index}.{name}"] = torch.as_tensor(value)
    return tensors


def restore_optimizers(optimizers: Mapping[str, Optimizer], tensors: Mapping[str, Tensor]) -> None:
    """Put back what `optimizer_tensors` took. Raises CorruptData where a phase or parameter is not known."""
    states: dict[str, dict[int, dict[str, Tensor]]] = {phase: {} for phase in optimizers}
    for key, value in tensors.items():
        phase, index, name = key.rsplit(".", 2)
        if phase not in states:
            raise CorruptData(f"checkpoint: optimizer state of an unknown phase {phase!r}")
        states[phase].setdefault(int(index), {})[name] = value
    for phase, optimizer in optimizers.items():
        plain = optimizer.state_dict()
        plain["state"] = states[phase]
        optimizer.load_state_dict(plain)
