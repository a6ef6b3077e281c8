"""The picture of the curves: the loss of each step in three libraries, and how far they are apart."""

from collections.abc import Iterator
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter, MaxNLocator, NullFormatter

from . import _style
from ._plan import FLOAT64, JAX, LIBRARIES, LIBRARY_NAMES, LOSS_NAMES, LOSSES, NUMPY, TORCH
from ._types import Found

# One below the other, so that each can be seen: a broad pale line, dashes on it, rings on them.
_LINES = {
    NUMPY: {"linewidth": 7, "alpha": 0.35, "solid_capstyle": "butt"},
    TORCH: {"linewidth": 2, "linestyle": (0, (4, 3))},
    JAX: {"linewidth": 0, "marker": "o", "markersize": 7, "fillstyle": "none", "markevery": 4},
}
_DIFFERENCES = {
    TORCH: {"linewidth": 0, "marker": "x", "markersize": 7},
    JAX: {"linewidth": 0, "marker": "o", "markersize": 7, "fillstyle": "none"},
    FLOAT64: {"linewidth": 1.5, "linestyle": ":", "color": _style.FAINT},
}
_EQUAL = 1e-8  # where equal numbers are drawn, below what float32 can tell apart
_ROOM = 8  # for the key, above the largest difference


def draw(found: Found, path: Path) -> None:
    """Draw both panels."""
    page = _style.new_page(13, 8.4)
    grid = page.add_gridspec(2, 2)
    _draw_losses(page.add_subplot(grid[:, 0]), found)
    upper = page.add_subplot(grid[0, 1])
    _draw_differences(upper, found, LOSSES[0])
    lower = page.add_subplot(grid[1, 1], sharex=upper, sharey=upper)
    _draw_differences(lower, found, LOSSES[1])
    _style.save(page, path)


def _draw_losses(axes: Axes, found: Found) -> None:
    for loss in LOSSES:
        for library in LIBRARIES:
            values = found["libraries"][loss]["losses"][library]
            axes.plot(range(1, len(values) + 1), values, color=_style.COLOURS[loss], **_LINES[library])
    axes.set_yscale("log")
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes.yaxis.set_minor_formatter(NullFormatter())
    _style.dress(axes, "The loss of each step", "step", "loss (mean over the pixels that it selects)")
    handles = [Line2D([], [], color=_style.COLOURS[loss], linewidth=4, label=LOSS_NAMES[loss]) for loss in LOSSES]
    handles += [
        Line2D([], [], color=_style.INK, label=LIBRARY_NAMES[library], **_LINES[library]) for library in LIBRARIES
    ]
    axes.legend(handles=handles, frameon=False, fontsize=_style.LETTERS, labelcolor=_style.INK, handlelength=3)


def _draw_differences(axes: Axes, found: Found, loss: str) -> None:
    for name, values in found["libraries"][loss]["differences"].items():
        style = {"color": _style.COLOURS[loss], **_DIFFERENCES[name]}
        heights = [max(value, _EQUAL) for value in values]
        axes.plot(range(1, len(values) + 1), heights, label=LIBRARY_NAMES[name], **style)
    axes.set_yscale("log")
    axes.set_ylim(_EQUAL * 0.6, _ROOM * max(_EQUAL, *_all_differences(found)))
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, steps=[1, 2, 5, 10]))
    _style.dress(axes, f"Difference from NumPy: {LOSS_NAMES[loss]}", "step", "relative difference (0: at the bottom)")
    axes.legend(frameon=False, fontsize=_style.LETTERS - 1, labelcolor=_style.INK, ncols=3, loc="upper left")


def _all_differences(found: Found) -> Iterator[float]:
    return (value for one in found["libraries"].values() for values in one["differences"].values() for value in values)
