"""Presets of `gan`; an empty one is the defaults."""

from collections.abc import Mapping
from typing import Any, get_args

from genbench_gan.augment import Transform

# Miyato et al. 2018: CIFAR-10's networks of table 3, the loss of equation 15, setting C of table 1.
PAPER: Mapping[str, Any] = {
    "batch_size": 64, "learning_rate": 2e-4, "critic_learning_rate": 2e-4, "betas": (0.5, 0.999),
    "loss": "non_saturating", "norm": "batch", "ema_decay": 0.0, "latent": 128, "width": 64, "critic_width": 64,
    "patch": 1, "base": 4, "depth": 1, "upsampling": "transposed", "detail": 0,
    "critic_gain": False,
}  # fmt: skip
# Their networks of table 4, the hinge loss of equations 16 and 17, the optimizer of appendix B.2.
RESNET: Mapping[str, Any] = {
    "batch_size": 64, "learning_rate": 2e-4, "critic_learning_rate": 2e-4, "betas": (0.0, 0.9), "critic_steps": 5,
    "network": "residual", "norm": "batch", "ema_decay": 0.0, "latent": 128, "width": 256, "critic_width": 128,
    "patch": 1, "base": 4, "depth": 2,
}  # fmt: skip

# Brock et al. 2019, as in the authors' PyTorch version, github.com/ajbrock/BigGAN-PyTorch.
BIGGAN: Mapping[str, Any] = {
    "network": "biggan", "norm": "batch", "init": "orthogonal", "generator_spectral_norm": True, "patch": 1, "base": 4,
    "critic_base": 4, "batch_size": 2048, "betas": (0.0, 0.999), "ema_decay": 0.9999,
}  # fmt: skip

# What Karras et al. 2020a and 2020b share.
STYLE: Mapping[str, Any] = {
    "network": "style", "loss": "non_saturating", "betas": (0.0, 0.99), "annealing": "constant", "latent": 512,
    "patch": 1, "base": 4, "depth": 2, "mapping": 8, "mixing": 0.9, "equalized": True, "tanh": False,
}  # fmt: skip


def half_life(batch: int, images: int) -> float:
    """The decay of a weight average that halves a weight's share over so many images, in batches of `batch`."""
    return float(0.5 ** (batch / images))


PRESETS: Mapping[str, Mapping[str, Any]] = {
    "tiny": {"width": 8, "critic_width": 8, "latent": 8, "depth": 1, "batch_size": 16},
    "small": {},
    "paper": PAPER,
    "paper-resnet": RESNET,
    "biggan": {"network": "biggan", "norm": "batch", "init": "orthogonal", "orthogonal": 1e-4},
    "biggan-deep": {"network": "biggan_deep", "norm": "batch", "init": "orthogonal", "orthogonal": 1e-4},
    # The authors' script for CIFAR-10; the paper gives a score there, but no network.
    "paper-biggan": {
        **BIGGAN, "multipliers": (1,), "embedding": 0, "hierarchical": False, "latent": 128, "width": 256,
        "critic_width": 256, "critic_base": 8, "init": "normal", "batch_size": 50, "critic_steps": 4,
        "learning_rate": 2e-4, "critic_learning_rate": 2e-4,
    },
    # ImageNet at 128x128 (appendix B), the optimizer of their defaults.
    "paper-biggan-128": {
        **BIGGAN, "multipliers": (1, 2, 4, 8, 16), "attention": (1,), "embedding": 128, "latent": 120, "width": 96,
        "critic_width": 96, "critic_steps": 2, "learning_rate": 5e-5, "critic_learning_rate": 2e-4, "orthogonal": 1e-4,
    },
    # BigGAN-deep for ImageNet at 256x256 (appendix B); the learning rates of their script for BigGAN-deep at 128x128.
    "paper-biggan-deep": {
        **BIGGAN, "network": "biggan_deep", "multipliers": (1, 2, 4, 8, 8, 16), "attention": (2,), "embedding": 128,
        "latent": 128, "width": 128, "critic_width": 128, "depth": 2, "learning_rate": 1e-4,
        "critic_learning_rate": 4e-4,
    },
    "style": {"network": "style", "loss": "non_saturating", "r1": 1.0},
    # Karras et al. 2020a: configuration F at 256x256.
    "paper-style": {
        **STYLE, "batch_size": 32, "learning_rate": 2e-3, "critic_learning_rate": 2e-3,
        "ema_decay": half_life(32, 10_000), "r1": 10.0, "path_length": 1 / 7, "width": 128, "critic_width": 128,
    },
    # Karras et al. 2020b: CIFAR-10, tuned.
    "paper-ada": {
        **STYLE, "batch_size": 64, "learning_rate": 2.5e-3, "critic_learning_rate": 2.5e-3,
        "ema_decay": half_life(64, 500_000), "r1": 0.01, "mixing": 0.0, "mapping": 2, "critic_skips": False,
        "deviation_group": 32, "width": 512, "critic_width": 512, "augment": "ada",
        "augment_images": 500_000, "transforms": get_args(Transform),
    },
}  # fmt: skip
