"""Pictures of the pixels: the labels, the loss of each, and which were mined."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize

from ._page import FAINT, LETTERS, Page
from ._palette import Palette, rgb
from ._types import Bools, Bytes, Floats
from ._words import describe_extremes

_SCALE = colormaps["magma"]
_IGNORED, _NOT_FINITE = "#5c5c5c", "#00d5ff"
MINED = "#ffcf33"
# A few pixels lose far more than all others, and would leave the rest black.
_TOP = 99.5
_LUMA = np.asarray([0.299, 0.587, 0.114])
# Rows longer than this many times their height are strips: their pixels are not drawn square.
_STRIP = 6


def draw_labels(
    page: Page, row: int, column: int, palette: Palette, painted: Bytes, names: Sequence[str] | None
) -> None:
    """Draw the painted labels, with their key."""
    axes = page.panel(row, column, "The labels, with their share of the valid pixels")
    _show(axes, painted)
    page.key_below(row, column, axes, palette.key(names), columns=2)


def draw_losses(page: Page, row: int, column: int, losses: Floats, valid: Bools, thresh: float | None) -> None:
    """Draw the loss of each pixel on a scale that ends where few pixels are, with the threshold on it."""
    finite = losses[valid & np.isfinite(losses)]
    low, top = (min(0.0, float(np.min(finite))), float(np.percentile(finite, _TOP))) if finite.size else (0.0, 1.0)
    scale = ScalarMappable(Normalize(low, top if top > low else low + 1), _SCALE)
    painted = scale.to_rgba(np.where(valid, losses, 0), bytes=True)[..., :3]
    painted[~valid] = rgb(_IGNORED)
    painted[valid & ~np.isfinite(losses)] = rgb(_NOT_FINITE)
    _show(page.panel(row, column, "The loss of each pixel, in nats"), painted)
    bar = page.bar_below(row, column)
    beyond = finite.size > 0 and float(np.max(finite)) > top
    page.figure.colorbar(scale, cax=bar, orientation="horizontal", extend="max" if beyond else "neither")
    bar.tick_params(labelsize=LETTERS, labelcolor=FAINT, color=FAINT)
    note = _mark(bar, thresh, low, scale.norm.vmax)
    extremes = describe_extremes(losses[valid])
    page.caption(row, column, f"{note}\nBlue: {extremes}." if extremes else note, offset=56)


def draw_mined(page: Page, row: int, column: int, selected: Bools, backdrop: Bytes, text: str) -> None:
    """Draw the mined pixels over a dimmed picture."""
    grey = backdrop @ _LUMA.astype(np.float32) if backdrop.ndim == 3 else backdrop.astype(np.float32)
    dimmed = (20 + 0.5 * grey).astype(np.uint8)[..., None]
    _show(page.panel(row, column, "The pixels that were mined"), np.where(selected[..., None], rgb(MINED), dimmed))
    page.caption(row, column, text)


def _show(axes: Axes, painted: Bytes) -> None:
    height, width = painted.shape[:2]
    is_strip = not 1 / _STRIP <= height / width <= _STRIP
    # A picture that is too large for its panel is averaged, but of two classes in a strip there is no mean.
    axes.imshow(painted, aspect="auto" if is_strip else "equal", interpolation="nearest" if is_strip else None)
    axes.set_anchor("NW")


def _mark(bar: Axes, thresh: float | None, low: float, top: Any) -> str:
    """Mark the threshold on the scale, and say where it is; None if it is not one of the loss."""
    if thresh is None:
        return "The pixels are ranked by probability, and not by this loss. Grey: ignored."
    if not np.isfinite(thresh):
        return "There is no threshold. Grey: ignored."
    if not low <= thresh <= top:
        return f"The threshold, {thresh:.4g}, is not on this scale. Grey: ignored."
    bar.axvline(thresh, color="black", linewidth=5)
    bar.axvline(thresh, color="white", linewidth=2.5)
    return f"White mark: the threshold, {thresh:.4g}. A pixel above it is hard. Grey: ignored."
