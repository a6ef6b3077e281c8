"""The picture of the classes: how well each is found on held-out squares, over all seeds."""

from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from . import _style
from ._phrases import percent
from ._plan import LOSS_NAMES, LOSSES
from ._types import Found

_PANELS = {"iou": "IoU on held-out squares", "recall": "Recall on held-out squares"}
_APART = {LOSSES[0]: -0.16, LOSSES[1]: 0.16}  # of rows
_RARE = "#f3ecd8"


def draw(found: Found, path: Path) -> None:
    """Draw IoU and recall side by side, the most frequent class on top."""
    order = sorted(range(len(found["classes"])), key=lambda i: -found["classes"][i]["share"])
    page = _style.new_page(13, 1.9 + 0.52 * len(order))
    left, right = page.subplots(1, 2, sharey=True)
    for axes, quantity in ((left, "iou"), (right, "recall")):
        _draw_panel(axes, found, quantity, order)
    classes = [found["classes"][i] for i in order]
    labels = [f"{one['name']}\n{percent(one['share'])} of the pixels" for one in classes]
    left.set_yticks(range(len(order)), labels)
    left.invert_yaxis()
    page.legend(
        handles=_key(found["plan"]["rare"]),
        loc="outside lower center",
        ncols=3,
        frameon=False,
        fontsize=_style.LETTERS,
        labelcolor=_style.INK,
    )
    _style.save(page, path)


def _draw_panel(axes: Axes, found: Found, quantity: str, order: list[int]) -> None:
    for row, i in enumerate(order):
        if found["classes"][i]["rare"]:
            axes.axhspan(row - 0.5, row + 0.5, color=_RARE, linewidth=0)
        for loss in LOSSES:
            values = [seed[quantity][i] for seed in found["seeds"][loss] if seed[quantity][i] is not None]
            if values:
                y, colour = row + _APART[loss], _style.COLOURS[loss]
                axes.hlines(y, min(values), max(values), color=colour, linewidth=2.5)
                axes.plot(sum(values) / len(values), y, color=colour, marker=_style.MARKS[loss], markersize=9)
    _style.dress(axes, _PANELS[quantity])
    axes.grid(visible=False, axis="y")
    axes.set_xlim(-0.02, 1.02)
    axes.tick_params(axis="y", length=0)


def _key(rare: float) -> list[Line2D | Patch]:
    lines: list[Line2D | Patch] = [
        Line2D(
            [],
            [],
            color=_style.COLOURS[loss],
            marker=_style.MARKS[loss],
            markersize=9,
            linewidth=2.5,
            label=f"{LOSS_NAMES[loss]}: mean, range",
        )
        for loss in LOSSES
    ]
    return [*lines, Patch(color=_RARE, label=f"rare: less than {percent(rare)} of the pixels")]
