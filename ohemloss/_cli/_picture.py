"""The picture: photograph, labels, loss of each pixel, and the pixels that were mined."""

from pathlib import Path

import numpy as np
from matplotlib import colormaps
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.patches import Patch

from . import _page
from ._photograph import CREDIT, IGNORE, Photograph
from ._training import Mined

# Colours that colour-blind readers tell apart, with grey for class 0, the background.
_COLOURS = ("#c9ccd1", "#e69f00", "#d55e00", "#0072b2", "#009e73", "#8c564b", "#56b4e9", "#cc79a7", "#f0e442")
_IGNORED = "#5c5c5c"
_MINED = "#ffcf33"


def write(photograph: Photograph, mined: Mined, path: Path) -> None:
    """Draw the four panels and write them as PNG."""
    draw(photograph, mined).savefig(path, format="png")


def draw(photograph: Photograph, mined: Mined) -> Figure:
    """Draw the four panels on one page."""
    page = _page.new_page()
    _draw_photograph(page, photograph)
    _draw_labels(page, photograph)
    _draw_losses(page, photograph, mined)
    _draw_mined(page, photograph, mined)
    return page


def _draw_photograph(page: Figure, photograph: Photograph) -> None:
    _page.panel(page, 0, 0, "The photograph").imshow(photograph.image)
    _page.caption(page, 0, 0, CREDIT)


def _draw_labels(page: Figure, photograph: Photograph) -> None:
    axes = _page.panel(page, 0, 1, "Its labels")
    colours = np.asarray([to_rgb(colour) for colour in _COLOURS])
    known = photograph.labels != IGNORE
    axes.imshow(np.where(known[..., None], colours[np.where(known, photograph.labels, 0)], 1.0))
    patches = [Patch(facecolor=colour, label=name) for colour, name in zip(_COLOURS, photograph.names, strict=True)]
    patches.append(Patch(facecolor="white", edgecolor=_page.FAINT, label="ignored"))
    _page.key_below(axes, patches)


def _draw_losses(page: Figure, photograph: Photograph, mined: Mined) -> None:
    axes = _page.panel(page, 1, 0, "The loss of each pixel")
    losses = np.ma.masked_where(photograph.labels == IGNORE, mined.pixel_loss)
    # A few pixels lose far more than all others, and would leave the rest black.
    top = float(np.percentile(losses.compressed(), 99.5))
    image = axes.imshow(losses, cmap=colormaps["magma"].with_extremes(bad=_IGNORED), vmin=0, vmax=top)
    bar = _page.bar_below(page, 1, 0)
    page.colorbar(image, cax=bar, orientation="horizontal", extend="max", drawedges=False)
    bar.axvline(mined.thresh, color="white", linewidth=3)
    bar.tick_params(labelsize=_page.LETTERS, labelcolor=_page.FAINT, color=_page.FAINT)
    text = f"White mark: the threshold, {mined.thresh:.3f}. A pixel above it is hard. Grey: ignored."
    _page.caption(page, 1, 0, text, offset=56)


def _draw_mined(page: Figure, photograph: Photograph, mined: Mined) -> None:
    axes = _page.panel(page, 1, 1, "The pixels that were mined")
    grey = photograph.image @ np.asarray([0.299, 0.587, 0.114]) / 255
    dimmed = 0.08 + 0.5 * grey[..., None]
    axes.imshow(np.where(mined.selected[..., None], to_rgb(_MINED), dimmed))
    n_mined = np.count_nonzero(mined.selected)
    text = (
        f"{n_mined:,} of {mined.n_valid:,} valid pixels ({n_mined / mined.n_valid:.1%}) are mined.\n"
        f"The mean of their losses is the value of the loss, {mined.value:.4f}."
    )
    _page.caption(page, 1, 1, text)
