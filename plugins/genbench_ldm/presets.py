"""Presets of `ldm`; an empty one is the defaults.

Those named `paper` have the U-Nets of Rombach et al. 2022, tables 12 to 15 and 18, for 256x256x3, with the batch sizes,
rates, schedules, guidance and DDIM steps of these tables and of the authors' configurations. Their U-Nets have, without
the class embedding, these numbers of parameters:

    paper                    LDM-4, CelebA-HQ      274,056,163
    paper-ffhq               LDM-4, FFHQ           274,056,163
    paper-bedrooms           LDM-4, LSUN Bedrooms  274,056,163
    paper-churches           LDM-8, LSUN Churches  256,401,796
    paper-churches-released  LDM-8, LSUN Churches  294,966,916
    paper-imagenet           LDM-4, ImageNet       400,920,579, and 512,512 for the classes
    paper-imagenet-8         LDM-8, ImageNet       394,984,196, and 512,000 for the classes
    paper-imagenet-8-guided  LDM-8-G               111,604,200 more for the classifier

The first stages of Churches are the networks of the authors' KL-regularised one (83,653,863 parameters at f = 8), those
of the others have a codebook and a critic (55,322,782 at f = 4, 67,717,295 at f = 8, without the critic). The authors
trained all of them separately, on other images, with a perceptual loss too, those of Churches with a critic, and those
with a codebook by Adam with betas of 0.5 and 0.9. Here they are trained on the job's images, in `ae_share` of the
budget, with the betas of the diffusion.
"""

from collections.abc import Mapping
from typing import Any

from genbench_ddpm.presets import TINY

DIFFUSION: Mapping[str, Any] = {
    "optimizer": "adamw",
    "annealing": "constant",
    "warmup": 1,  # none
    "times": "uniform",
    "betas": (0.9, 0.999),
    "weight_decay": 0.01,
    "ema_decay": 0.9999,
    "schedule": "scaled_linear",
    "beta_start": 0.0015,
    "beta_end": 0.0195,
    "prediction": "eps",
    "blocks": 2,
    "scale_shift": False,
    "sampler": "ddim",
    "eta": 0.0,
}
AUTHORS: Mapping[str, Any] = {"ae_form": "kl", "ae_blocks": 2}
KL_F8: Mapping[str, Any] = {
    **AUTHORS,
    "factor": 8,
    "latent_channels": 4,
    "kl_weight": 1e-6,
    "ae_widths": (128, 256, 512, 512),
}
VQ_F4: Mapping[str, Any] = {
    **AUTHORS,
    "factor": 4,
    "latent_channels": 3,
    "ae_widths": (128, 256, 512),
    "codes": 8192,
    "codebook_weight": 0.25,  # the released models have beta on this term, and not on the other as in the paper
    "commitment": 1.0,
    "revive": 0,
    "adversarial": 0.75,
    "critic_start": 1e-6,  # from the second update on
    "critic_layers": 3,
    "critic_width": 64,
}
VQ_F8: Mapping[str, Any] = {
    **VQ_F4,
    "factor": 8,
    "latent_channels": 4,
    "ae_widths": (128, 256, 256, 512),
    "ae_attention": True,
    "codes": 16384,
    "adversarial": 0.6,
    "critic_layers": 2,
}
AE_RATE: Mapping[str, Any] = {"ae_batch_size": 24, "ae_learning_rate": 1.08e-4}  # 4.5e-6 per image of an update
WITH_VQ: Mapping[str, Any] = {"first_stage": "vq", **AE_RATE, "critic_learning_rate": 1.08e-4}


LDM_4: Mapping[str, Any] = {
    **DIFFUSION,
    **VQ_F4,
    **WITH_VQ,
    "widths": (224, 448, 672, 896),
    "attention": (1, 2, 3),
    "head_channels": 32,
}
CELEBA_HQ: Mapping[str, Any] = {**LDM_4, "batch_size": 48, "learning_rate": 9.6e-5, "steps": 500}
FFHQ: Mapping[str, Any] = {**LDM_4, "batch_size": 42, "learning_rate": 8.4e-5, "steps": 200, "eta": 1.0}
BEDROOMS: Mapping[str, Any] = {**LDM_4, "batch_size": 48, "learning_rate": 9.6e-5, "steps": 200, "eta": 1.0}

# Table 18 prints 256 M parameters, table 12 294 M for the same widths and attention: the released network's.
CHURCHES: Mapping[str, Any] = {
    **DIFFUSION,
    **KL_F8,
    **AE_RATE,
    "batch_size": 96,
    "learning_rate": 5e-5,
    "warmup": 10_000,
    "beta_end": 0.0155,
    "widths": (192, 384, 384, 768, 768),
    "attention": (0, 1, 2, 3),
    "heads": 8,
    "steps": 100,
}

# Its loss was the absolute error, which the papers do not say; ours is the squared error.
CHURCHES_RELEASED: Mapping[str, Any] = {**CHURCHES, "scale_shift": True, "resample": True, "steps": 400}

# With the null class, the released model's 1,001 classes; the paper gives no dropout rate: this is Ho & Salimans'.
IMAGENET: Mapping[str, Any] = {
    **DIFFUSION,
    **VQ_F4,
    **WITH_VQ,
    "batch_size": 1200,
    "learning_rate": 1e-4,
    "widths": (192, 384, 576, 960),
    "attention": (1, 2, 3),
    "context": 512,
    "label_dropout": 0.1,
    "steps": 250,
    "eta": 1.0,
}
IMAGENET_8: Mapping[str, Any] = {
    **DIFFUSION,
    **VQ_F8,
    **WITH_VQ,
    "batch_size": 64,
    "learning_rate": 6.4e-5,
    "widths": (256, 512, 1024),
    "attention": (0, 1, 2),
    "head_channels": 32,
    "context": 512,
    "steps": 200,
    "eta": 1.0,
}

# The classifier has the network's own sizes, which makes the 506 M of table 18; its rate, batch and steps are not
# published. Rate: that of ADM's; share: as of the V100-days of table 18, 12 of 91, of what the first stage leaves.
IMAGENET_8_GUIDED: Mapping[str, Any] = {
    **IMAGENET_8,
    "classifier": True,
    "classifier_share": 0.1,
    "classifier_widths": (256, 512, 1024),
    "classifier_blocks": 2,
    "classifier_attention": (0, 1, 2),
    "classifier_head_channels": 32,
    "classifier_pool": "attention",
    "classifier_learning_rate": 3e-4,
    "classifier_weight_decay": 0.01,
    "classifier_scale": 10.0,
}

PRESETS: Mapping[str, Mapping[str, Any]] = {
    "tiny": {
        **TINY,
        "factor": 2,
        "ae_widths": (8,),
        "ae_learning_rate": 1e-2,
    },
    "small": {},
    "small-guided": {
        "variance": "learned",
        "objective": "hybrid",
        "sampler": "respaced",
        "steps": 50,
        "classifier": True,
        "classifier_scale": 1.0,
    },
    "paper": CELEBA_HQ,
    "paper-ffhq": FFHQ,
    "paper-bedrooms": BEDROOMS,
    "paper-churches": CHURCHES,
    "paper-churches-released": CHURCHES_RELEASED,
    "paper-imagenet": IMAGENET,
    "paper-imagenet-8": IMAGENET_8,
    "paper-imagenet-8-guided": IMAGENET_8_GUIDED,
}
