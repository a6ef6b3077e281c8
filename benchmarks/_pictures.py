"""Pages, axes and files of the pictures that the documentation shows."""

from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from PIL import Image

INK, FAINT = "#222222", "#5f6368"
_DPI, _COLOURS = 80, 256


def new_page(width: float, height: float) -> Figure:
    """Make an empty page, in inches, that needs no display."""
    page = Figure(figsize=(width, height), facecolor="white", layout="constrained")
    FigureCanvasAgg(page)
    return page


def set_title(axes: Axes, text: str) -> None:
    """Set the title of a panel."""
    axes.set_title(text, loc="left", fontsize=14, fontweight="bold", color=INK)


def dress(axes: Axes, x: str, y: str) -> None:
    """Name the axes of a logarithmic panel, and add its grid."""
    axes.set_xlabel(x, fontsize=13, color=FAINT)
    axes.set_ylabel(y, fontsize=13, color=FAINT)
    axes.set_yscale("log")
    axes.grid(visible=True, which="major", color="#e3e5e8")
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
    axes.tick_params(labelcolor=FAINT, color=FAINT, labelsize=12)


def save(page: Figure, path: Path) -> None:
    """Write a page as a PNG of few colours, which is a third of the size."""
    page.savefig(path, dpi=_DPI)
    with Image.open(path) as image:
        # This method changes no colour by more than ten of 255; the default merges those of small areas.
        few = image.convert("RGB").quantize(_COLOURS, method=Image.Quantize.MAXCOVERAGE, dither=Image.Dither.NONE)
    few.save(path, optimize=True)
