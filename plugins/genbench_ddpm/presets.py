"""Presets of `ddpm`; an empty one is the defaults.

`paper-2015` is the network and process of Sohl-Dickstein et al. 2015 as their code has them for CIFAR-10: 12,692,280
parameters on 32x32x3, with one bias per filter. Its RMSProp is Adam without a first moment; its learning rate was taken
from 1e-3 to 1e-4 in steps of an epoch, and stays what it was here.

`paper` and `paper-lsun` are the networks and processes of Ho et al. 2020, appendix B: 35,746,307 parameters on 32x32x3
and 113,673,219 on 256x256x3. The reverse variances are those of the authors' code. Their optimizer was Adam, which is
AdamW without weight decay. Like theirs, both flip images at random (CIFAR-10, bedrooms, churches, CelebA-HQ; not cats).
"""

from collections.abc import Mapping
from typing import Any

PAPER: Mapping[str, Any] = {
    "batch_size": 128,
    "flip": True,
    "optimizer": "adamw",
    "learning_rate": 2e-4,
    "times": "uniform",
    "annealing": "constant",
    "warmup": 5000,
    "betas": (0.9, 0.999),
    "ema_decay": 0.9999,
    "schedule": "linear",
    "prediction": "eps",
    "widths": (128, 256, 256, 256),
    "blocks": 2,
    "attention": (1,),
    "patch": 1,
    "fourier": (),
    "dropout": 0.1,
    "scale_shift": False,
    "sampler": "ancestral",
}
"""CIFAR-10: attention at 16x16."""

LSUN: Mapping[str, Any] = {
    **PAPER,
    "batch_size": 64,
    "learning_rate": 2e-5,
    "variance": "posterior",
    "widths": (128, 128, 256, 256, 512, 512),
    "attention": (4,),
    "dropout": 0.0,
}
"""LSUN and CelebA-HQ at 256x256: attention at 16x16."""

SMALL_2015: Mapping[str, Any] = {
    "network": "original",
    "schedule": "erase",
    "prediction": "shift",
    "variance": "free",
    "objective": "variational",
    "optimizer": "adamw",
    "learning_rate": 3e-3,
}
"""The first diffusion model, for minutes on a CPU."""

PAPER_2015: Mapping[str, Any] = {
    **SMALL_2015,
    "batch_size": 200,
    "learning_rate": 1e-3,
    "annealing": "constant",
    "betas": (0.0, 0.9),
    "ema_decay": 0.0,
    "branch_layers": 6,
    "conv_width": 100,
    "dense_width": 1000,
    "dense_outputs": 5,
    "pixel_layers": 4,
    "pixel_width": 100,
    "sampler": "ancestral",
}

PRESETS: Mapping[str, Mapping[str, Any]] = {
    "tiny": {
        "widths": (8, 16),
        "timesteps": 50,
        "steps": 10,
        "eta": 0.0,
        "batch_size": 32,
        "optimizer": "adamw",
        "learning_rate": 1e-2,
    },
    "small": {},
    "small-2015": SMALL_2015,
    "paper-2015": PAPER_2015,
    "paper": PAPER,
    "paper-lsun": LSUN,
}
