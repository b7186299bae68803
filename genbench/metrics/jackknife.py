"""The sampling error of statistics that are not means over images: delete-a-group jackknife, several random partitions.

The images are divided into g groups, and a statistic T is computed with each group left out in turn; with d = n/g
images left out of n, the variance of T is (n - d)/d times the mean squared deviation of the values: (g - 1)/g times
their sum (Shao and Wu 1989, "A general theory for jackknife variance estimation"). The bias of T on fewer images (that
of FID, the holes of coverage) is the same for each group and cancels. No image is repeated, as in a bootstrap, where a
repeated image would be its own nearest neighbour.

FID leaves out halves, which take the fewest eigenvalue problems; the neighbour metrics, which would change character in
a set half as dense, leave out a third. Compared with fresh draws from Gaussians, the errors are 0.8 to 1.5 times the
true ones, that of recall up to 1.9 if most features have exact copies. They are largest if model and data are the same,
because FID and KID then have no linear part. Those of rFID, whose pairs are left out together, are 0.8 to 1.1
times the true ones, those of a codebook's use 0.65 to 1.7, the least if half the codes of a large codebook hardly ever
occur.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from genbench.support.seeds import derive_seed

if TYPE_CHECKING:
    from torch import Tensor


def members(count: int, partitions: int, groups: int, seed: int) -> Tensor:
    """bool (count, partitions * groups): the images each subset keeps; `groups` columns leave out each image once."""
    import torch

    generator = np.random.default_rng(derive_seed(seed, "jackknife"))
    dealt = [generator.permutation(count) % groups for _ in range(partitions)]
    labels = torch.from_numpy(np.array(dealt, dtype=np.int64).reshape(partitions, count)).T
    return (labels[:, :, None] != torch.arange(groups)).flatten(1)


def jackknife_error(values: Tensor, groups: int) -> float:
    """The standard error from the values (partitions * groups,) of the subsets of `members`, in their order."""
    parts = values.double().reshape(-1, groups)
    squares = (parts - parts.mean(1, keepdim=True)).square().sum(1)
    return float(((groups - 1) / groups * squares).mean().sqrt())
