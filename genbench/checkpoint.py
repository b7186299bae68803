"""Checkpoints: weights, their average and the optimizers as safetensors, with a manifest of digests. No pickle."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from genbench import store
from genbench.errors import CorruptData
from genbench.faults import fault

if TYPE_CHECKING:
    from torch import Tensor
    from torch.nn import Module
    from torch.optim import Optimizer

MANIFEST = "manifest.json"
NAMES = ("next", "latest", "previous")
"""Where a checkpoint may be, the newest first; `next` only until it has become the latest."""
log = logging.getLogger("genbench")


def save(folder: Path, tensors: Mapping[str, Mapping[str, Tensor]], state: Mapping[str, Any]) -> None:
    """Write one safetensors file a group as `folder`/latest; what was latest becomes previous.

    At every instant the newest of `NAMES` that is there is whole, so that a kill loses nothing that was written.
    """
    fault("checkpoint.begin")
    settle(folder)
    write(folder / "next", tensors, state)
    fault("checkpoint.written")
    settle(folder)
    fault("checkpoint.end")


def settle(folder: Path) -> None:
    """Let the checkpoint that was written last be the latest; only the holder of the run's lock may."""
    new, latest, previous = (folder / name for name in NAMES)
    if not new.exists():
        return
    with store.disk_errors(folder):
        if latest.exists():
            store.remove(previous)
            latest.replace(previous)
        fault("checkpoint.rotated")
        new.replace(latest)
        store.sync(folder)


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
    for name in NAMES:
        if not (folder / name / MANIFEST).exists():
            continue
        try:
            found = read(folder / name)
        except CorruptData as error:
            faults.append(error.message)
            continue
        for damage in faults:
            log.warning("%s; going on from %s", damage, folder / name)
        return found
    if faults:
        raise CorruptData("; ".join(faults), f"remove {folder} to train again from the start")
    return None


def read(folder: Path) -> tuple[dict[str, dict[str, Tensor]], dict[str, Any]]:
    """What `write` wrote. Raises CorruptData where a file is missing or has changed."""
    if not (folder / MANIFEST).exists():
        raise CorruptData(f"{folder / MANIFEST}: missing")
    manifest = store.read_json(folder / MANIFEST)
    groups = {}
    for name, expected in manifest["files"].items():
        file = folder / name
        if not file.exists() or store.file_digest(file) != expected:
            raise CorruptData(f"{file}: missing, or not what its manifest says")
        groups[file.stem] = store.read_tensors(file)
    return groups, manifest["state"]


def read_state(folder: Path) -> dict[str, Any] | None:
    """The state of the newest checkpoint, its tensors unread and unchecked; None where there is none."""
    for name in NAMES:
        if (folder / name / MANIFEST).exists():
            state: dict[str, Any] = store.read_json(folder / name / MANIFEST)["state"]
            return state
    return None


def weights_digest(model: Module) -> str:
    """SHA-256 of all that the model keeps in its state, by which samples are known to be of these weights."""
    import torch

    content = hashlib.sha256()
    for name, tensor in sorted(model.state_dict().items()):
        plain = tensor.detach().cpu().contiguous()
        content.update(f"{name} {plain.dtype} {tuple(plain.shape)}".encode())
        content.update(plain.flatten().view(torch.uint8).numpy().tobytes())
    return content.hexdigest()


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
    moved = {p: [q for group in o.param_groups for q in group["params"]] for p, o in optimizers.items()}
    for key, value in tensors.items():
        phase, index, name = key.rsplit(".", 2)
        if phase not in states or int(index) >= len(moved[phase]):
            raise CorruptData(f"checkpoint: optimizer state of an unknown parameter: {phase!r}, {index}")
        states[phase].setdefault(int(index), {})[name] = _laid_out(value, moved[phase][int(index)])
    for phase, optimizer in optimizers.items():
        plain = optimizer.state_dict()
        plain["state"] = states[phase]
        optimizer.load_state_dict(plain)


def _laid_out(value: Tensor, parameter: Tensor) -> Tensor:
    """The value in the memory layout of its parameter, as the optimizer made it: other layouts round otherwise."""
    import torch

    if value.shape != parameter.shape:
        return value
    return torch.empty_like(parameter, dtype=value.dtype, device=value.device, requires_grad=False).copy_(value)
