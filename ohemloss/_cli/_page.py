"""The page that the picture is laid out on: where panels and captions go, and what lettering they have."""

from collections.abc import Sequence

from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.patches import Patch

# In pixels: two rows of two panels, each with a title above and a strip for its key or caption below.
_PANEL = (800, 600)
_MARGIN, _GAP = 44, 48
_TITLE, _STRIP, _FOOT = 62, 132, 8
SIZE = (2 * _MARGIN + 2 * _PANEL[0] + _GAP, 2 * (_TITLE + _PANEL[1] + _STRIP) + _FOOT)
_DPI = 100

INK, FAINT = "#222222", "#5f6368"
LETTERS = 13.5
_BELOW = 18


def new_page() -> Figure:
    """Make an empty page. It knows no window and no global state, so it needs no display."""
    page = Figure(figsize=(SIZE[0] / _DPI, SIZE[1] / _DPI), dpi=_DPI, facecolor="white")
    FigureCanvasAgg(page)
    return page


def panel(page: Figure, row: int, column: int, title: str) -> Axes:
    """Place a panel with its title."""
    axes = page.add_axes(box_of_panel(row, column))
    axes.set_axis_off()
    axes.set_title(title, loc="left", fontsize=18, fontweight="bold", color=INK, pad=10)
    return axes


def box_of_panel(row: int, column: int) -> tuple[float, float, float, float]:
    """Tell where a panel is: left, bottom, width and height in fractions of the page."""
    return _box(_left(column), _top(row), *_PANEL)


def caption(page: Figure, row: int, column: int, text: str, *, offset: int = 0) -> None:
    """Write below a panel, `offset` pixels lower than usual."""
    x, y, _, _ = _box(_left(column), _top(row) + _PANEL[1] + _BELOW + offset, 0, 0)
    page.text(x, y, text, va="top", fontsize=LETTERS, color=FAINT, linespacing=1.45)


def bar_below(page: Figure, row: int, column: int) -> Axes:
    """Place a bar for a scale of colours below a panel."""
    return page.add_axes(_box(_left(column), _top(row) + _PANEL[1] + _BELOW, _PANEL[0], 18))


def key_below(axes: Axes, patches: Sequence[Patch]) -> None:
    """Explain the colours of a panel below it."""
    axes.legend(
        handles=patches,
        loc="upper left",
        bbox_to_anchor=(0, -_BELOW / _PANEL[1]),
        borderaxespad=0,
        borderpad=0,
        frameon=False,
        ncols=3,
        columnspacing=1.6,
        handlelength=1.6,
        fontsize=LETTERS,
        labelcolor=FAINT,
    )


def _left(column: int) -> int:
    return _MARGIN + column * (_PANEL[0] + _GAP)


def _top(row: int) -> int:
    return _TITLE + row * (_PANEL[1] + _STRIP + _TITLE)


def _box(left: int, top: int, width: int, height: int) -> tuple[float, float, float, float]:
    """Turn pixels from the top left into the fractions of the page that axes are placed by."""
    return left / SIZE[0], 1 - (top + height) / SIZE[1], width / SIZE[0], height / SIZE[1]
