"""What a critic and the network that it judges minimise."""

from torch import Tensor
from torch.nn import functional as F


def critic_loss(kind: str, real: Tensor, fake: Tensor) -> Tensor:
    """What the critic minimises, given its scores for real and for made images, of any shape.

    `hinge`: Lim & Ye 2017; `non_saturating`: Goodfellow et al. 2014; `wasserstein`: Arjovsky et al. 2017.
    """
    if kind == "hinge":
        return F.relu(1 - real).mean() + F.relu(1 + fake).mean()
    if kind == "non_saturating":
        return F.softplus(-real).mean() + F.softplus(fake).mean()
    return fake.mean() - real.mean()


def generator_loss(kind: str, fake: Tensor) -> Tensor:
    """What the network that makes images minimises, given the critic's scores for them, of any shape."""
    return F.softplus(-fake).mean() if kind == "non_saturating" else -fake.mean()
