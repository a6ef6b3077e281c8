"""Where interpolated places lie between given ones; and the order in which those of a row are computed."""

from dataclasses import dataclass
from typing import Any

import numpy as np

# The most pixels of a cell: what has more is cut.
_LARGEST = 16


@dataclass(frozen=True)
class Taps:
    """
    The places of an axis that new places lie between, each with its shares.

    Attributes
    ----------
    index : tuple of numpy.ndarray
        The lower ones, and the upper ones; only the first if nothing is interpolated.
    shares : tuple of numpy.ndarray
        What these have in each new place.
    """

    index: tuple[np.ndarray, ...]
    shares: tuple[np.ndarray, ...]


@dataclass(frozen=True)
class Axis:
    """An axis of `n_in` places that is resized to `n_out`; as it is if these are the same."""

    n_in: int
    n_out: int
    align_corners: bool = False

    def taps(self, places: np.ndarray, dtype: Any) -> Taps:
        """
        Find where some of the new places lie.

        As `ohemloss._resize.Taps.of`, which does all of them: a long row may have as many as there are labels.
        """
        if self.n_in == self.n_out:
            return Taps((places,), (np.ones(places.size, dtype),))
        if self.align_corners:
            numerators, denominator = places * (self.n_in - 1), max(self.n_out - 1, 1)
        else:
            numerators, denominator = np.maximum((2 * places + 1) * self.n_in - self.n_out, 0), 2 * self.n_out
        lower = numerators // denominator
        share = (numerators - lower * denominator).astype(dtype) / denominator
        return Taps((lower, np.minimum(lower + 1, self.n_in - 1)), (1 - share, share))


@dataclass(frozen=True)
class Cells:
    """
    The pixels of some rows, as many as `group`, in an order in which neighbours are interpolated alike.

    A cell is what lies between two given columns. The first pixels of all cells come first, then the second ones, and
    so on: neighbours look at neighbours, and both sides of a cell are looked up once for all its pixels. Where a cell
    has fewer pixels than others its first one stands in for them, and is not counted twice.

    Attributes
    ----------
    lower, upper : numpy.ndarray
        The columns on both sides of each cell of a row. If nothing is interpolated `upper` is empty.
    below, above : numpy.ndarray
        The shares of both sides: a row for each place within a cell, a column for each cell of the rows.
    column : numpy.ndarray
        The pixel that is computed there.
    phase, position : numpy.ndarray
        For each pixel of the rows where it is in these arrays.
    starts : numpy.ndarray
        The first pixel of each cell of the rows, and the number of all pixels.
    """

    lower: np.ndarray
    upper: np.ndarray
    below: np.ndarray
    above: np.ndarray
    column: np.ndarray
    phase: np.ndarray
    position: np.ndarray
    starts: np.ndarray

    @staticmethod
    def of(taps: Taps, group: int) -> "Cells":
        """Put the pixels of rows that all have these taps in order."""
        lower = taps.index[0]
        sizes = _sizes(lower)
        starts, phases = np.cumsum(sizes) - sizes, np.arange(sizes.max(initial=1))[:, None]
        column = np.where(phases < sizes, starts + phases, starts)
        position = np.repeat(np.arange(sizes.size), sizes)
        below, above = taps.shares[0], taps.shares[1] if len(taps.shares) == 2 else np.zeros_like(taps.shares[0])
        rows = np.arange(group)
        return Cells(
            lower=_short(lower[starts]),
            upper=_short(taps.index[1][starts] if len(taps.index) == 2 else lower[:0]),
            below=np.tile(below[column], group),
            above=np.tile(above[column], group),
            column=_short(np.tile(column, group) + np.repeat(rows * lower.size, sizes.size)),
            phase=_short(np.tile(np.arange(lower.size) - starts[position], group)),
            position=_short(np.add.outer(rows * sizes.size, position).reshape(-1)),
            starts=_short(np.append(np.add.outer(rows * lower.size, starts), group * lower.size)),
        )


def _sizes(lower: np.ndarray) -> np.ndarray:
    """Choose how many pixels each cell has: those with one lower column, cut where cells of one size fill best."""
    edges = np.flatnonzero(np.diff(lower)) + 1
    counts = np.diff(np.concatenate(([0], edges, [lower.size])))
    # What is computed, and about as much for each cell itself.
    size = min(range(1, _LARGEST + 1), key=lambda size: (size + 1) * np.sum(-(-counts // size)))
    parts = -(-counts // size)
    sizes = np.full(parts.sum(), size)
    sizes[np.cumsum(parts) - 1] = counts - (parts - 1) * size
    return sizes


def _short(array: np.ndarray) -> np.ndarray:
    return np.ascontiguousarray(array, np.int32)
