"""Presets of `ddpm`; an empty one is the defaults.

`paper-2015` is the network and process of Sohl-Dickstein et al. 2015 as their code has them for CIFAR-10: 12,692,280
parameters on 32x32x3, with one bias per filter. Its RMSProp is Adam without a first moment; its learning rate was taken
from 1e-3 to 1e-4 in steps of an epoch, and stays what it was here.

`paper` and `paper-lsun` are the networks and processes of Ho et al. 2020, appendix B: 35,746,307 parameters on 32x32x3
and 113,673,219 on 256x256x3. The reverse variances are those of the authors' code. Their optimizer was Adam, which is
AdamW without weight decay. Like theirs, both flip images at random (CIFAR-10, bedrooms, churches, CelebA-HQ; not cats).

Those named `paper-adm` are ADM of Dhariwal & Nichol 2021, for ImageNet with or without labels and for LSUN, those named
`paper-adm-g` have the classifier too: sizes and rates are of the authors' README and the paper's appendix I. Parameters
of network and classifier for three colours and 1,000 classes:

    paper-adm-64    295,904,454
    paper-adm-128   421,529,606    paper-adm-g-128    42,568,040 more
    paper-adm-256   553,838,086    paper-adm-g-256    54,096,360 more
    paper-adm-lsun  552,814,086, without classes

Their loss adds the bound's term at the drawn time, in bits per dimension (`_vb_terms_bpd` in gaussian_diffusion.py);
ours adds it `vlb_weight` times T times, in nats: so the weight is 1 / (T ln 2), not the 1e-3 of Nichol & Dhariwal. They
trained the two networks apart, in 16 bits, and the classifier on random crops, without an average of its weights. Here
one budget is divided as their updates were, and all weights are averaged. Their times count from 0, ours from 1.
"""

import math
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

VLB_WEIGHT = 1e-3 / math.log(2)
"""One bit of the drawn term, with T = 1000."""

ADM: Mapping[str, Any] = {
    **PAPER,
    "batch_size": 256,
    "learning_rate": 1e-4,
    "warmup": 1,  # none
    "variance": "learned",
    "objective": "hybrid",
    "vlb_weight": VLB_WEIGHT,
    "scale_shift": True,
    "resample": True,
    "dropout": 0.0,
    "sampler": "respaced",
    "steps": 250,
}
ADM_64: Mapping[str, Any] = {
    **ADM,
    "batch_size": 2048,
    "learning_rate": 3e-4,
    "schedule": "cosine",
    "widths": (192, 384, 576, 768),
    "blocks": 3,
    "attention": (1, 2, 3),
    "head_channels": 64,
    "dropout": 0.1,
}
ADM_128: Mapping[str, Any] = {
    **ADM,
    "widths": (256, 256, 512, 768, 1024),
    "attention": (2, 3, 4),
    "heads": 4,
}
ADM_256: Mapping[str, Any] = {
    **ADM,
    "widths": (256, 256, 512, 512, 1024, 1024),
    "attention": (3, 4, 5),
    "head_channels": 64,
}
"""Attention at 32x32, 16x16 and 8x8, as in the others."""

CLASSIFIER: Mapping[str, Any] = {
    "classifier": True,
    "classifier_blocks": 2,
    "classifier_head_channels": 64,
    "classifier_pool": "attention",
    "classifier_learning_rate": 3e-4,
    "classifier_weight_decay": 0.05,
}
ADM_G_128: Mapping[str, Any] = {
    **ADM_128,
    **CLASSIFIER,
    "classifier_share": 300 / (300 + 4360),  # thousands of updates
    "classifier_widths": (128, 128, 256, 384, 512),
    "classifier_attention": (2, 3, 4),
    "classifier_scale": 0.5,
}
ADM_G_256: Mapping[str, Any] = {
    **ADM_256,
    **CLASSIFIER,
    "classifier_share": 500 / (500 + 1980),
    "classifier_widths": (128, 128, 256, 256, 512, 512),
    "classifier_attention": (3, 4, 5),
    "classifier_scale": 1.0,
}

SMALL_ADM: Mapping[str, Any] = {
    "variance": "learned",
    "objective": "hybrid",
    "vlb_weight": VLB_WEIGHT,
    "resample": True,
    "sampler": "respaced",
    "steps": 50,
}
"""What ADM is beside the network's size, for minutes on a CPU."""

TINY: Mapping[str, Any] = {
    "widths": (8, 16),
    "timesteps": 50,
    "sampler": "ddim",
    "steps": 10,
    "eta": 0.0,
    "batch_size": 32,
    "optimizer": "adamw",
    "learning_rate": 1e-2,
}
"""For tests."""

PRESETS: Mapping[str, Mapping[str, Any]] = {
    "tiny": TINY,
    "small": {},
    "small-adm": SMALL_ADM,
    "small-guided": {**SMALL_ADM, "classifier": True, "classifier_scale": 1.0},
    "small-2015": {**SMALL_2015, "sampler": "ddim", "steps": 50, "eta": 1.0},
    "paper-2015": PAPER_2015,
    "paper": PAPER,
    "paper-lsun": LSUN,
    "paper-adm-64": ADM_64,
    "paper-adm-128": ADM_128,
    "paper-adm-256": ADM_256,
    "paper-adm-lsun": {**ADM_256, "dropout": 0.1, "sampler": "ancestral"},
    "paper-adm-g-128": ADM_G_128,
    "paper-adm-g-256": ADM_G_256,
}
