"""What the pictures have in common: names, colours, marks, lettering."""

from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine

from ._plan import OHEM, PLAIN

# Colours that colour-blind readers tell apart, and marks for those who see none.
COLOURS = {PLAIN: "#0072b2", OHEM: "#d55e00"}
MARKS = {PLAIN: "o", OHEM: "D"}
INK, FAINT, GRID = "#222222", "#5f6368", "#e3e5e8"
LETTERS = 13

_DPI = 100


def new_page(width: float, height: float) -> Figure:
    """Make an empty page, in inches. It knows no window and no global state, so it needs no display."""
    page = Figure(
        figsize=(width, height), dpi=_DPI, facecolor="white", layout=ConstrainedLayoutEngine(w_pad=0.12, h_pad=0.12)
    )
    FigureCanvasAgg(page)
    return page


def dress(axes: Axes, title: str, x: str = "", y: str = "") -> None:
    """Give a panel its title, names of axes, and a quiet grid."""
    axes.set_title(title, loc="left", fontsize=16, fontweight="bold", color=INK, pad=10)
    axes.set_xlabel(x, fontsize=LETTERS, color=FAINT)
    axes.set_ylabel(y, fontsize=LETTERS, color=FAINT)
    axes.tick_params(labelsize=LETTERS - 1, labelcolor=FAINT, color=FAINT)
    axes.grid(visible=True, which="major", color=GRID)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)


def save(page: Figure, path: Path) -> None:
    """Write a page as PNG."""
    page.savefig(path, format="png")
