"""The picture of a trace: labels, losses, mined pixels, and the histogram."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from ._histogram import draw_histogram
from ._maps import draw_labels, draw_losses, draw_mined
from ._page import PANEL_WIDTH, Page
from ._palette import palette_of
from ._photo import photograph_of
from ._types import Traced
from ._view import View, view_of
from ._words import percent

_HEAD = 84
_LOWEST, _HIGHEST = 300, 900


def draw(trace: Traced, image: Any, index: int | tuple[int, ...], names: Sequence[str] | None) -> Figure:
    """See `ohemloss.Trace.plot`."""
    view = view_of(trace, index)
    palette = palette_of(view.labels, view.valid)
    painted = palette.paint(view.labels, view.valid)
    backdrop = painted if image is None else photograph_of(image, painted.shape[:2])
    height, width = painted.shape[:2]
    page = Page(height=int(np.clip(PANEL_WIDTH * height // width, _LOWEST, _HIGHEST)), head=_HEAD)
    page.headline(_numbers(view), _scope(view))
    draw_labels(page, 0, 0, palette, painted, names)
    draw_losses(page, 0, 1, view.losses, view.valid, view.ranked.thresh if view.ranked.is_loss else None)
    draw_mined(page, 1, 0, view.selected, backdrop, _mined(view))
    draw_histogram(page, 1, 1, view.ranked, "the image" if view.per_image else "all valid pixels")
    return page.figure


def _numbers(view: View) -> str:
    """Write the counts in one line."""
    value = "one for each pixel" if view.value is None else f"{view.value:.5g}"
    counts = {"n_valid": view.n_valid, "n_min": view.n_min, "n_hard": view.n_hard, "mined": view.count}
    line = "    ".join([f"value {value}", *(f"{name} {count:,}" for name, count in counts.items())])
    # With a pool of all pixels more are mined than are valid, with positives more than compete.
    return f"{line} ({percent(view.count, max(view.n_valid, len(view.ranked.scores)))})"


def _scope(view: View) -> str:
    """Say what is drawn, and what the numbers are of."""
    if not view.index or view.shape[: len(view.index)] == (1,):
        return "Hard: above the threshold. Mined: above the cut, which is the threshold where enough pixels are hard."
    drawn = f"Image {view.index[0]} of {view.shape[0]}, counted from 0"
    if len(view.index) > 1:
        drawn = f"Slice {view.index} of labels of shape {view.shape}"
    if view.per_image:
        return f"{drawn}. The numbers are those of this image; the value is that of the batch."
    return f"{drawn}. The numbers and the histogram are those of the whole batch."


def _mined(view: View) -> str:
    """Say how much of the image is mined."""
    n_valid, n_mined = (int(np.count_nonzero(view.valid & which)) for which in (view.valid, view.selected))
    if not n_valid:
        return "Every pixel is ignored."
    mined = "mined or tied" if view.ranked.has_ties else "mined"
    lines = [f"{n_mined:,} of {n_valid:,} valid pixels ({percent(n_mined, n_valid)}) are {mined} here."]
    if view.ranked.has_ties:
        lines.append(f"Those that tie at the cut weigh {view.tie_weight:.3g} each.")
    n_ignored = int(np.count_nonzero(view.selected & ~view.valid))
    if n_ignored:
        lines.append(f"So are {n_ignored:,} ignored pixels, with a loss of 0.")
    return "\n".join(lines)
