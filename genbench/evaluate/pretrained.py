"""torch-fidelity's networks: building them from verified weights, and preparing their images."""

from __future__ import annotations

import hashlib
import sys
from contextlib import redirect_stdout
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from genbench.evaluate.extractor import BATCH, Extractor, FeatureNetwork
from genbench.evaluate.weights import find_weights, pinned
from genbench.support.errors import CorruptData, EnvironmentProblem

if TYPE_CHECKING:
    import torch
    from torch import Tensor

CPU_BATCH = 16
"""Activations of 299x299 images soon exceed the CPU's cache."""
DINO_CODE = "facebookresearch_dinov2_main"


def pretrained(
    name: str, channels: int, weights: Path | None = None, offline: bool = False, device: str = "cpu"
) -> Extractor:
    """The named extractor for images of 1 or 3 channels. Raises EnvironmentProblem or CorruptData."""
    about = pinned()[name]
    layers = [about[key] for key in ("layer", "logits_layer") if key in about]
    network = build_network(name, layers, find_weights(name, weights, offline), find_code(name, weights)).to(device)
    identity: dict[str, Any] = {
        "weights_sha256": about["sha256"], "layer": about["layer"], "logits_layer": about.get("logits_layer"),
        "resize": f"bilinear as in TensorFlow 1, no antialiasing, to {about['side']}x{about['side']}",
        "channels": "1 repeated to 3" if channels == 1 else "3", "torch_fidelity": version("torch-fidelity"),
    }  # fmt: skip
    code = find_code(name, weights)
    if code is not None:
        identity["code_sha256"] = code_digest(code)
    batch = CPU_BATCH if device == "cpu" else BATCH
    return Extractor(name, on_colour(network), about["dim"], about.get("num_classes", 0), identity, device, batch)


def on_colour(network: torch.nn.Module) -> FeatureNetwork:
    """torch-fidelity's module with an extractor's signature; one channel is repeated to three."""

    def extract(levels: Tensor) -> tuple[Tensor, Tensor | None]:
        found = network(levels.expand(-1, 3, -1, -1))
        return found[0], found[1] if len(found) > 1 else None

    return extract


def build_network(name: str, layers: list[str], weights: Path, code: Path | None = None) -> torch.nn.Module:
    """torch-fidelity's module for the layers, from a verified weights file. Raises CorruptData."""
    from torch_fidelity.utils import create_feature_extractor

    if code is not None:
        network = _dino(name, layers, weights, code)
    else:
        network = create_feature_extractor(
            name, layers, cuda=False, verbose=False, feature_extractor_weights_path=str(weights)
        )
    others = {str(p.dtype) for p in (*network.parameters(), *network.buffers()) if p.is_floating_point()} - {
        "torch.float32"
    }
    if others:
        raise CorruptData(f"{weights}: {name} has parameters of {', '.join(sorted(others))}, not float32")
    return streamlined(network)


def streamlined(network: torch.nn.Module) -> torch.nn.Module:
    """The module itself, made faster: batch norms of Inception folded into its convolutions, channels last.

    Features change only by rounding, by less than 1e-5 of the largest.
    """
    import torch
    from torch.nn.utils.fusion import fuse_conv_bn_eval
    from torch_fidelity.feature_extractor_inceptionv3 import BasicConv2d, FeatureExtractorInceptionV3

    if not isinstance(network, FeatureExtractorInceptionV3):
        return network
    folded: torch.nn.Module = network
    for block in network.modules():
        if isinstance(block, BasicConv2d):
            block.conv = fuse_conv_bn_eval(block.conv.double(), block.bn.double()).float()
            block.bn = torch.nn.Identity()
    network.Conv2d_1a_3x3.register_forward_pre_hook(
        lambda _, inputs: (inputs[0].contiguous(memory_format=torch.channels_last),)
    )
    return folded.requires_grad_(False).to(memory_format=torch.channels_last)


def _dino(name: str, layers: list[str], weights: Path, code: Path) -> torch.nn.Module:
    """torch-fidelity's DINOv2 with code from a local folder, instead of code it would download and run."""
    import torch
    from torch_fidelity.feature_extractor_base import FeatureExtractorBase
    from torch_fidelity.feature_extractor_dinov2 import FeatureExtractorDinoV2

    class LocalDino(FeatureExtractorDinoV2):
        def __init__(self) -> None:
            FeatureExtractorBase.__init__(self, name, layers)
            self.feature_extractor_internal_dtype = torch.float32
            entry = weights.name.removesuffix("_pretrain.pth")
            with redirect_stdout(sys.stderr):
                self.model = torch.hub.load(str(code), entry, source="local", pretrained=False)  # type: ignore[no-untyped-call]  # noqa: TID251
            tensors = torch.load(weights, map_location="cpu", weights_only=True)  # noqa: TID251  a published file, verified by its digest
            self.model.load_state_dict(tensors)
            self.requires_grad_(False)
            self.eval()

    return LocalDino()


def find_code(name: str, given: Path | None = None) -> Path | None:
    """The folder of DINOv2's code, which is never downloaded; None for other networks. Raises EnvironmentProblem."""
    import torch

    if not name.startswith("dinov2"):
        return None
    places = [given / DINO_CODE] if given is not None and given.is_dir() else []
    places.append(Path(torch.hub.get_dir()) / DINO_CODE)
    for path in places:
        if (path / "hubconf.py").is_file():
            return path
    raise EnvironmentProblem(
        f"{name} needs the code of DINOv2, which is not in {' or '.join(map(str, places))}",
        f"genbench runs no downloaded code: git clone https://github.com/facebookresearch/dinov2 {places[-1]}",
    )


def code_digest(folder: Path) -> str:
    """SHA-256 of the Python files in a folder and its subfolders."""
    content = hashlib.sha256()
    for file in sorted(folder.rglob("*.py")):
        content.update(str(file.relative_to(folder)).encode() + b"\0" + file.read_bytes() + b"\0")
    return content.hexdigest()
