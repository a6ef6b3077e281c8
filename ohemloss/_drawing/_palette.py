"""Which colour each class has: of many classes the largest ones have their own, and all others share one."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.colors import to_rgb
from matplotlib.patches import Patch

from ._page import FAINT
from ._types import Bools, Bytes, Integers
from ._words import class_name, percent

# Colours that colour-blind readers tell apart. The first, a light grey, is that of class 0, often the background.
_COLOURS = ("#c9ccd1", "#e69f00", "#d55e00", "#0072b2", "#009e73", "#8c564b", "#56b4e9", "#cc79a7", "#f0e442")
_OTHERS, _IGNORED = "#3f434a", "#ffffff"


def rgb(colour: str) -> Bytes:
    """Give the three bytes of a colour."""
    return np.asarray([round(255 * part) for part in to_rgb(colour)], dtype=np.uint8)


@dataclass(frozen=True)
class Palette:
    """
    The classes of a picture, the largest first.

    Attributes
    ----------
    classes, sizes : array
        Their labels, and how many pixels each has.
    colours : tuple of str
        The colour of each.
    n_named : int
        So many of them have a colour of their own.
    n_ignored : int
        The number of ignored pixels.
    """

    classes: Integers
    sizes: Integers
    colours: tuple[str, ...]
    n_named: int
    n_ignored: int

    def paint(self, labels: Integers, valid: Bools) -> Bytes:
        """Give each pixel its colour."""
        order = np.argsort(self.classes)
        table = np.stack([*(rgb(self.colours[i]) for i in order), rgb(_IGNORED)])
        painted: Bytes = table[np.where(valid, np.searchsorted(self.classes[order], labels), len(order))]
        return painted

    def key(self, names: Sequence[str] | None) -> list[Patch]:
        """Explain the colours, with the share of each class in the valid pixels."""
        n, n_valid = self.n_named, int(np.sum(self.sizes))
        patches = [
            Patch(facecolor=colour, label=f"{class_name(int(label), names)}  {percent(size, n_valid)}")
            for label, size, colour in zip(self.classes[:n], self.sizes[:n], self.colours[:n], strict=True)
        ]
        if n < len(self.classes):
            text = f"{len(self.classes) - n} other classes  {percent(int(np.sum(self.sizes[n:])), n_valid)}"
            patches.append(Patch(facecolor=_OTHERS, label=text))
        if self.n_ignored:
            text = f"ignored  {percent(self.n_ignored, self.n_ignored + n_valid)} of all"
            patches.append(Patch(facecolor=_IGNORED, edgecolor=FAINT, label=text))
        return patches


def palette_of(labels: Integers, valid: Bools) -> Palette:
    """Choose the colours: by the class while there are few, so that they stay the same, else by the size."""
    classes, sizes = np.unique(labels[valid], return_counts=True)
    by_size = np.argsort(-sizes, kind="stable")
    classes, sizes, n = classes[by_size], sizes[by_size], len(_COLOURS)
    n_named, colours = len(classes), _COLOURS[: len(classes)]
    if np.all((classes >= 0) & (classes < n)):
        colours = tuple(_COLOURS[i] for i in classes)
    elif len(classes) > n:
        n_named = n - 1
        colours = _COLOURS[:n_named] + (_OTHERS,) * (len(classes) - n_named)
    return Palette(classes, sizes, colours, n_named, int(np.count_nonzero(~valid)))
