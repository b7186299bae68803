"""Presets of `flow_matching`; an empty one is the defaults.

`paper` is the network of Lipman et al. 2023 for CIFAR-10 (table 3): the U-Net of ADM (Dhariwal & Nichol 2021) with
171,268,099 parameters on 32x32x3. The table gives both 4 heads and 64 channels a head, which do not agree at 512
channels; as in ADM the channels decide. It is a reading where the paper is silent: the average of the weights and
flipped images are DDPM's. The rate decays as half a cosine, where theirs was a polynomial of a degree that is not told.
Their adaptive solver took 142 calls a sample; ours takes as many in equal steps.
"""

from collections.abc import Mapping
from typing import Any

PRESETS: Mapping[str, Mapping[str, Any]] = {
    "tiny": {
        "widths": (8, 16), "batch_size": 32, "optimizer": "adamw", "learning_rate": 1e-2, "steps": 5,
        "halvings": 0, "likelihood_steps": 10,
    },
    "small": {},
    "paper": {
        "widths": (256, 512, 512, 512), "blocks": 2, "attention": (1,), "head_channels": 64, "patch": 1, "fourier": (),
        "resample": True, "batch_size": 256, "flip": True, "times": "uniform", "optimizer": "adamw",
        "learning_rate": 5e-4, "warmup": 45_000, "betas": (0.9, 0.999), "ema_decay": 0.9999, "solver": "midpoint",
        "steps": 71, "halvings": 0, "likelihood_steps": 71,
    },
}  # fmt: skip
