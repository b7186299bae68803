"""The figure that every plot is drawn in."""

from __future__ import annotations

import io
from typing import Any

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure


class Picture(Figure):
    """A figure without pyplot, which a notebook shows although nothing there has set matplotlib up."""

    def _repr_png_(self) -> bytes:
        out = io.BytesIO()
        canvas: Any = FigureCanvasAgg(self)
        canvas.print_png(out)
        return out.getvalue()
