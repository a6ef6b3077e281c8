"""The picture of the demo: photograph, labels, loss of each pixel, and the pixels that were mined."""

from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

from .._drawing._maps import draw_labels, draw_losses, draw_mined
from .._drawing._page import Page
from .._drawing._palette import palette_of
from ._photograph import CREDIT, IGNORE, Photograph
from ._training import Mined


def write(photograph: Photograph, mined: Mined, path: Path) -> None:
    """Draw the four panels and write them as PNG."""
    draw(photograph, mined).savefig(path, format="png")


def draw(photograph: Photograph, mined: Mined) -> Figure:
    """Draw the four panels on one page."""
    page = Page()
    labels, valid = photograph.labels, photograph.labels != IGNORE
    palette = palette_of(labels, valid)
    page.panel(0, 0, "The photograph").imshow(photograph.image)
    page.caption(0, 0, CREDIT)
    draw_labels(page, 0, 1, palette, palette.paint(labels, valid), photograph.names)
    draw_losses(page, 1, 0, mined.pixel_loss, valid, mined.thresh)
    draw_mined(page, 1, 1, mined.selected, photograph.image, _tell(mined))
    return page.figure


def _tell(mined: Mined) -> str:
    n_mined = np.count_nonzero(mined.selected)
    return (
        f"{n_mined:,} of {mined.n_valid:,} valid pixels ({n_mined / mined.n_valid:.1%}) are mined.\n"
        f"The mean of their losses is the value of the loss, {mined.value:.4f}."
    )
