"""Where the places of a resized axis lie: in cells, runs of places between the same two places of the small axis."""

from dataclasses import dataclass

import numpy as np
from array_api_compat import numpy as xp

from ohemloss._resize import Taps
from ohemloss._steps import plain_engine


@dataclass(frozen=True)
class Cells:
    """
    The places of an axis, cut into cells of a fixed length, of which some are not filled.

    Attributes
    ----------
    lower, upper : numpy.ndarray
        The two places of the small axis that a cell lies between, in the shape (cells,); -1 if it is empty.
    share : numpy.ndarray
        How far along each place is from `lower` to `upper`, in the shape (cells, length); 0 where there is none.
    place : numpy.ndarray
        The number of each place, in the shape (cells, length); the number of places where there is none.
    order : numpy.ndarray
        Which element of `place`, flattened, each place is.
    """

    lower: np.ndarray
    upper: np.ndarray
    share: np.ndarray
    place: np.ndarray
    order: np.ndarray

    @staticmethod
    def of(n_in: int, n_out: int, align_corners: bool, longest: int) -> "Cells":
        """Cut an axis of `n_in` places that becomes one of `n_out`; a cell has at most `longest` of these."""
        taps = Taps.of(plain_engine(xp), n_in, n_out, align_corners, np.float64)
        first = np.flatnonzero(np.diff(taps.lower, prepend=-1))
        lengths = np.diff(first, append=n_out)
        # A cell costs what its places cost, filled or not, and its two ends cost about as much as one place.
        length = min(range(1, longest + 1), key=lambda n: int(np.sum(-(-lengths // n))) * (n + 1))
        within = np.arange(n_out) - np.repeat(first, lengths)
        cell, within = np.cumsum(within % length == 0) - 1, within % length
        place = np.full((cell[-1] + 1, length), n_out)
        place[cell, within] = np.arange(n_out)
        share = np.zeros(place.shape)
        share[cell, within] = taps.share
        lower, upper = (np.asarray(taps)[place[:, 0]] for taps in (taps.lower, taps.upper))
        return Cells(lower, upper, share, place, cell * length + within)

    def in_groups(self, size: int) -> "Cells":
        """Fill up with empty cells, so that their number is a multiple of a size."""
        more = -len(self.place) % size
        lower, upper = (np.pad(ends, (0, more), constant_values=-1) for ends in (self.lower, self.upper))
        share = np.pad(self.share, ((0, more), (0, 0)))
        place = np.pad(self.place, ((0, more), (0, 0)), constant_values=len(self.order))
        return Cells(lower, upper, share, place, self.order)
