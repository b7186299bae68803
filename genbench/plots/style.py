"""How every figure looks: plain text, colours that colour-blind readers can distinguish, and bytes that repeat."""

from __future__ import annotations

import io
import math
import textwrap
from collections.abc import Collection, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar
from zlib import crc32

from genbench.support.errors import EnvironmentProblem, describe
from genbench.support.store import atomic_file
from genbench.support.text import printable, shortened
from genbench.tables.wording import width

if TYPE_CHECKING:
    import numpy as np
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    Line = list[tuple[float, float]] | np.ndarray

INK = "#1d1d24"
COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#8c510a", "#7b7b7b")
"""Okabe and Ito's colours; brown and grey instead of their yellow and black, which print and dark pages swallow."""
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "<", ">")
SPREAD = 2556975575
"""What a name's checksum is multiplied by; chosen so that models often compared with each other differ in colour."""
REFERENCE_LINES: dict[str, tuple[Any, str]] = {
    "real": ("--", "#6f6f7b"),
    "copies": ((0, (1, 3)), "#6f6f7b"),
    "noise": (":", "#8a8a94"),
}
FONTS = ["DejaVu Sans", "Arial", "Helvetica", "sans-serif"]
"""The first comes with matplotlib, so that the layout is the same on every machine."""
LONGEST = 30
MARGINS = (0.85, 0.2, 0.32, 0.55)
LETTER, LINE, LEGEND_LINE = 0.075, 0.15, 0.2
"""Inches that a letter of 9 points is wide, a line of 8 points high, and one of a legend."""
MOST_PANELS = 12
"""Of one figure."""
MOST_MISSING = 8
Look = tuple[str, str]
"""The colour and the marker of a model."""
T = TypeVar("T")


def looks_of(names: Iterable[str], first: Collection[str] = ()) -> dict[str, Look]:
    """A look for each name; colours repeat after eight, marker and colour together after 72.

    A name, without the settings in parentheses after it, has its own order of the colours, in every report the same. It
    gets the first of them that is left by those before it: the names in `first`, then all by a checksum. So another
    name changes its look only if it comes before and wants the same colour.
    """
    found: dict[str, Look] = {}
    times = dict.fromkeys(range(len(COLOURS)), 0)
    for name in sorted(dict.fromkeys(names), key=lambda name: (name not in first, _claim(name), name)):
        fewest = min(times.values())
        colour = next(colour for colour in _preferred(name) if times[colour] == fewest)
        found[name] = COLOURS[colour], MARKERS[(fewest * len(COLOURS) + colour) % len(MARKERS)]
        times[colour] += 1
    return found


def _preferred(name: str) -> list[int]:
    """The colours in the order in which a name would have them."""
    own, (_, favourite) = _stem(name), _claim(name)
    return sorted(range(len(COLOURS)), key=lambda colour: (colour != favourite, crc32(f"{own} {colour}".encode())))


def _claim(name: str) -> tuple[int, int]:
    """How early a name gets its favourite colour, and which one that is."""
    colour, order = divmod(crc32(_stem(name).encode()) * SPREAD % 2**32, 2**32 // len(COLOURS))
    return order, colour


def _stem(name: str) -> str:
    """The label in the name of a row, such as `ddpm (steps=50)`."""
    return name.partition(" (")[0]


@contextmanager
def styled() -> Iterator[None]:
    """A light grid, text without markup (names may hold `$`), and bytes that depend on what is drawn alone.

    Not on the reader's own matplotlibrc either. Raises EnvironmentProblem if that keeps matplotlib from loading.
    """
    try:
        import matplotlib as mpl
        import seaborn as sns
    except Exception as error:
        fix = "correct or remove its settings file, matplotlibrc, in this folder or where MATPLOTLIBRC says"
        raise EnvironmentProblem(f"matplotlib does not load: {describe(error)}", fix) from error

    settings: Any = {
        "font.family": "sans-serif", "font.sans-serif": FONTS, "font.size": 10, "text.parse_math": False,
        "svg.fonttype": "none", "svg.hashsalt": "genbench", "text.color": INK, "legend.frameon": False,
        "axes.labelcolor": INK, "axes.titlesize": 10, "axes.titleweight": "bold", "axes.titlelocation": "left",
        "axes.titley": 1.0, "text.hinting": "none",
        "axes.edgecolor": "#8a8a94", "axes.spines.top": False, "axes.spines.right": False,
        "axes.grid": True, "axes.axisbelow": True, "lines.solid_capstyle": "round",
        "xtick.color": INK, "xtick.major.size": 0, "ytick.color": INK, "ytick.major.size": 0,
        "grid.color": "#8a8a94", "grid.alpha": 0.3, "grid.linewidth": 0.7,
    }  # fmt: skip
    with mpl.rc_context():
        mpl.rcdefaults()
        mpl.rcParams.update({**sns.axes_style("whitegrid"), **settings})
        yield


def svg(figure: Figure) -> str:
    """The figure as SVG text on a transparent ground; the same figure gives the same bytes."""
    from matplotlib.backends.backend_svg import FigureCanvasSVG

    out = io.StringIO()
    with styled():
        for patch in (figure.patch, *(axes.patch for axes in figure.axes)):
            patch.set_visible(False)
        canvas: Any = FigureCanvasSVG(figure)
        canvas.print_svg(out, metadata={"Date": None, "Creator": "genbench"})
    return out.getvalue()


def png(figure: Figure, dpi: int = 100) -> bytes:
    """The figure as PNG on white; the same figure gives the same bytes."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    out = io.BytesIO()
    with styled():
        figure.patch.set(visible=True, facecolor="white")
        figure.set_dpi(dpi)
        canvas: Any = FigureCanvasAgg(figure)
        canvas.print_png(out, metadata={"Software": None})
    return out.getvalue()


def save(figure: Figure, path: Path, dpi: int = 150) -> None:
    """Write the figure as the path's suffix says: .svg, or .png on white."""
    content = svg(figure).encode() if path.suffix == ".svg" else png(figure, dpi)
    with atomic_file(path) as temporary:
        temporary.write_bytes(content)


def panels_of(
    count: int, size: tuple[float, float], columns: int, margins: tuple[float, float, float, float] = MARGINS
) -> tuple[Figure, list[Axes]]:
    """A figure of `count` axes in cells of `size` inches each, row by row; `margins` are left, right, top, bottom.

    Room is set aside instead of measured (matplotlib's layout engines take as long as drawing does).
    """
    from genbench.plots.figure import Picture

    columns = min(columns, max(count, 1))
    rows = math.ceil(max(count, 1) / columns)
    (wide, high), (left, right, top, bottom) = size, margins
    figure = Picture(figsize=(wide * columns, high * rows))
    axes = figure.subplots(rows, columns, squeeze=False).flatten().tolist()
    figure.subplots_adjust(
        left=left / (wide * columns), right=1 - right / (wide * columns), top=1 - top / (high * rows),
        bottom=bottom / (high * rows), wspace=(left + right) / (wide - left - right),
        hspace=(top + bottom) / (high - top - bottom),
    )  # fmt: skip
    for spare in axes[count:]:
        spare.set_axis_off()
    return figure, axes[:count]


def room_for_names(axes: Axes, words: Iterable[str]) -> None:
    """Let a figure of one column grow until the longest of the names finds room on the left of its axes."""
    figure = axes.get_figure(root=True)
    assert figure is not None
    wide, pars = figure.get_figwidth(), figure.subplotpars
    left, right = pars.left * wide, (1 - pars.right) * wide
    grown = max(left, 0.4 + LETTER * max(map(width, words), default=0))
    wide += grown - left
    figure.set_figwidth(wide)
    figure.subplots_adjust(left=grown / wide, right=1 - right / wide)


def room_below(figure: Figure, room: float) -> None:
    """Let a figure of one column grow until each of its axes has `room` inches below it, labels included."""
    high, pars, rows = figure.get_figheight(), figure.subplotpars, len(figure.axes)
    bottom, top = pars.bottom * high, (1 - pars.top) * high
    each = (high - bottom - top) / (rows + pars.hspace * (rows - 1))
    gap, grown = pars.hspace * each, max(room - bottom, 0.0)
    high += rows * grown
    figure.set_figheight(high)
    figure.subplots_adjust(bottom=(bottom + grown) / high, top=1 - top / high, hspace=(gap + grown) / each)


def most(panels: list[T], limit: int = MOST_PANELS) -> tuple[list[T], list[str]]:
    """The panels that one figure may hold, and words for those that it does not."""
    more = len(panels) - limit
    return panels[:limit], [f"{more} more panels"] if more > 0 else []


def draw_lines(ax: Axes, lines: Iterable[Line], look: Look, crowded: bool, **style: Any) -> None:
    """A line per run with a mark at each point; in a crowd as pixels and without marks."""
    from matplotlib.collections import LineCollection

    colour, marker = look
    if crowded:
        ax.add_collection(LineCollection(list(lines), colors=colour, rasterized=True, **style))
        return
    for points in lines:
        ax.plot(*zip(*points), color=colour, marker=marker, markersize=2.5, **style)


def captioned(figure: Figure, text: str, missing: Iterable[str] = ()) -> Figure:
    """The figure, labelled with its description (for `alt` and captions), with what is not drawn written below it.

    Of many things that are not drawn MOST_MISSING are named, and the others counted.
    """
    all_missing = list(dict.fromkeys(missing))
    more = [f"{len(all_missing) - MOST_MISSING:,} more like these"] if len(all_missing) > MOST_MISSING else []
    names = "; ".join([*all_missing[:MOST_MISSING], *more])
    if names:
        words = printable(f"Not drawn: {names}.")
        _write_below(figure, textwrap.wrap(words, int(figure.get_figwidth() * 14)))
        text = f"{text} {words}"
    figure.set_label(text)
    return figure


def _write_below(figure: Figure, lines: list[str]) -> None:
    """Lines under all that is drawn."""
    _grow_below(figure, 0.1 + LINE * len(lines))
    figure.text(0.01, 0.06 / figure.get_figheight(), "\n".join(lines), ha="left", va="bottom", fontsize=8)


def _grow_below(figure: Figure, more: float) -> None:
    """Let the figure grow by so many inches, under all that is drawn."""
    height, pars = figure.get_figheight(), figure.subplotpars
    figure.set_figheight(height + more)
    bottom, top = pars.bottom * height + more, (1 - pars.top) * height
    figure.subplots_adjust(bottom=bottom / (height + more), top=1 - top / (height + more))


def short(name: str, longest: int = LONGEST) -> str:
    """The name as a plot can hold it: no control characters, not longer than there is room for."""
    return shortened(printable(name), longest)


def legend(axes: Axes, handles: list[Any], words: list[str]) -> None:
    """A legend below these axes, in as many columns as a figure of one column has room for."""
    figure = axes.get_figure(root=True)
    assert figure is not None
    room_below(figure, MARGINS[3] + LEGEND_LINE * _write_legend(axes, handles, words) + 0.1)


def shared_legend(axes: list[Axes], columns: int, handles: list[Any], words: list[str]) -> None:
    """One legend for all axes, `columns` in a row, below the last row."""
    figure = axes[0].get_figure(root=True)
    assert figure is not None
    first_of_last_row = axes[(len(axes) - 1) // columns * columns]
    _grow_below(figure, LEGEND_LINE * _write_legend(first_of_last_row, handles, words) + 0.1)


def _write_legend(axes: Axes, handles: list[Any], words: list[str]) -> int:
    """Write a legend below axes on the left of a figure, and return how many lines it has.

    Its words are set afterwards: matplotlib drops those that begin with an underscore.
    """
    from matplotlib.transforms import ScaledTranslation

    figure = axes.get_figure(root=True)
    assert figure is not None
    inches_from_corner = figure.dpi_scale_trans + ScaledTranslation(0, 0, axes.transAxes)  # type: ignore[arg-type]
    each = 0.42 + LETTER * max(map(width, words), default=0)
    columns = max(1, min(len(words), int(figure.get_figwidth() / each)))
    entries = axes.legend(
        handles, [str(i) for i in range(len(handles))], loc="upper left", ncols=columns, fontsize=9, borderaxespad=0,
        bbox_to_anchor=(0.1 - figure.subplotpars.left * figure.get_figwidth(), -MARGINS[3]),
        bbox_transform=inches_from_corner,
        columnspacing=1.2, handletextpad=0.4, handlelength=1.6,
    ).get_texts()  # fmt: skip
    for entry, text in zip(entries, words):
        entry.set_text(text)
    return math.ceil(len(words) / columns)


def write_above(axes: Axes, height: float, words: str) -> None:
    """Words over a bar that ends at this height, from the left edge of the axes on."""
    axes.annotate(
        words, (0, height), xycoords=axes.get_yaxis_transform(), xytext=(3, 3), textcoords="offset points", fontsize=9
    )


def scale(axes: Axes, name: str, values: list[float], wide: float = 5.0) -> None:
    """Axis `x` or `y` with plain numbers: logarithmic if the values span a factor of `wide`, else linear from 0."""
    from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullLocator

    axis = axes.xaxis if name == "x" else axes.yaxis
    low, high = min(values, default=0.0), max(values, default=1.0)
    if low > 0 and high / low >= wide:
        axes.set(**{f"{name}scale": "log", f"{name}lim": (low / 1.4, high * 1.4)})
        subs = (1.0, 2.0, 5.0) if high / low < 30 else (1.0, 3.0) if high / low < 1000 else (1.0,)
        axis.set_major_locator(LogLocator(subs=subs, numticks=15))
        axis.set_minor_locator(NullLocator())
    else:
        axes.set(**{f"{name}lim": (min(0.0, 1.25 * low), 1.25 * high if high > 0 else 1.0)})
        axis.set_major_locator(MaxNLocator(nbins=6, steps=[1, 2, 5, 10]))  # more would touch each other, as 0.0125 does
    axis.set_major_formatter(FuncFormatter(tick))


def tick(value: float, position: int | None = None) -> str:
    """A tick's number without markup: 0.5, 200, 5,000, 2e14."""
    if value != 0 and not 1e-3 <= abs(value) < 1e6:
        mantissa, _, exponent = f"{value:.2g}".partition("e")
        return f"{mantissa}e{int(exponent)}" if exponent else mantissa
    return f"{value:,.4g}" if abs(value) < 1000 else f"{value:,.0f}"
