"""Large arrays, compared a piece at a time."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    import numpy as np

PIECE = 2**22
"""Values of images that are compared at a time."""


def in_pieces(measure: Callable[..., np.ndarray], *sides: np.ndarray) -> np.ndarray:
    """A measure (B, ...) of images (B, ...) and what stands beside them, all of it as float64, for N of them."""
    import numpy as np

    step = max(1, PIECE // sides[0][0].size)
    pieces = (slice(start, start + step) for start in range(0, len(sides[0]), step))
    return np.concatenate([measure(*(side[piece].astype(np.float64) for side in sides)) for piece in pieces])
