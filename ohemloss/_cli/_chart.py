"""The picture of `bench`: time against pixels, a line for each library, and the floor."""

from collections.abc import Callable
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.ticker import FuncFormatter, NullLocator

from .._drawing._page import FAINT, INK, LETTERS
from ._bandwidth import Floor
from ._speed import Speed

# Colours that colour-blind readers tell apart, each with a mark of its own.
_STYLES = (("#0072b2", "o"), ("#d55e00", "s"), ("#009e73", "^"), ("#cc79a7", "D"), ("#e69f00", "v"), ("#56b4e9", "P"))
_SIZE, _DPI = (13.0, 6.0), 100


def write(speeds: list[Speed], floor: Floor, path: Path) -> None:
    """Draw both panels and write them as PNG."""
    draw(speeds, floor).savefig(path, format="png")


def draw(speeds: list[Speed], floor: Floor) -> Figure:
    """Draw the value, and the value with the gradient, side by side on one scale."""
    page = Figure(figsize=_SIZE, dpi=_DPI, facecolor="white", layout=ConstrainedLayoutEngine(w_pad=0.15, h_pad=0.15))
    FigureCanvasAgg(page)
    left, right = page.subplots(1, 2, sharey=True)
    _draw_panel(left, "ohem_cross_entropy", speeds, lambda speed: speed.forward, floor.forward)
    _draw_panel(right, "value_and_grad", speeds, lambda speed: speed.both, floor.both)
    left.set_ylabel("milliseconds", fontsize=LETTERS, color=FAINT)
    handles, labels = left.get_legend_handles_labels()
    page.legend(handles, labels, loc="outside lower center", ncols=4, frameon=False, fontsize=LETTERS, labelcolor=INK)
    return page


def _draw_panel(
    axes: Axes, title: str, speeds: list[Speed], seconds: Callable[[Speed], float], floor: Callable[[int], float]
) -> None:
    axes.set_title(title, loc="left", fontsize=18, fontweight="bold", color=INK, pad=10)
    for i, library in enumerate(dict.fromkeys(speed.library for speed in speeds)):
        own = [speed for speed in speeds if speed.library == library]
        colour, mark = _STYLES[i % len(_STYLES)]
        times = [1e3 * seconds(speed) for speed in own]
        axes.plot([speed.n_pixels for speed in own], times, color=colour, marker=mark, linewidth=2, label=library)
    sizes = sorted({speed.n_pixels for speed in speeds})
    label = "floor: memory at its full speed"
    axes.plot(sizes, [1e3 * floor(size) for size in sizes], color=FAINT, linestyle="--", linewidth=2, label=label)
    _scale(axes, sizes)


def _scale(axes: Axes, sizes: list[int]) -> None:
    axes.set_xscale("log")
    axes.set_yscale("log")
    axes.set_xticks(sizes, [f"{size:,}" for size in sizes])
    axes.xaxis.set_minor_locator(NullLocator())
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes.set_xlabel("pixels", fontsize=LETTERS, color=FAINT)
    axes.tick_params(labelsize=LETTERS - 1.5, labelcolor=FAINT, color=FAINT)
    axes.grid(visible=True, which="major", color="#e3e5e8")
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
