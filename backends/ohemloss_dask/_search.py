"""What is known of the whole batch after each step: a few numbers, which tasks pass on as a 0-d structured array."""

from typing import NamedTuple

import numpy as np

from ohemloss._fractions import floor_of_product

from . import _digits

SEARCH = np.dtype(
    [("n_valid", "i8"), ("n_min", "i8"), ("n_hard", "i8"), ("hard_sum", "f8"), ("low", "u8"), ("rank", "i8")]
)
FOUND = np.dtype([("value", "f8"), ("cut", "f8"), ("tie_weight", "f8"), ("divisor", "f8")])


class Search(NamedTuple):
    """
    How many pixels are valid, asked for and hard, and the sum of the losses of the hard ones.

    If too few are hard, `low` has the digits of the last place that are found so far, and `rank` its rank among the
    losses that agree with them.
    """

    n_valid: int
    n_min: int
    n_hard: int
    hard_sum: float
    low: int
    rank: int

    @classmethod
    def of(cls, array: np.ndarray) -> "Search":
        """Read a 0-d array."""
        return cls(*np.asarray(array).item())

    @property
    def is_needed(self) -> bool:
        """Tell whether too few pixels are hard, so that the last place has to be found."""
        return self.n_hard < self.n_min


class Found(NamedTuple):
    """The loss, and what its gradient needs: the cut, the weight of what ties with it, and the divisor."""

    value: float
    cut: float
    tie_weight: float
    divisor: float

    @classmethod
    def of(cls, array: np.ndarray) -> "Found":
        """Read a 0-d array."""
        return cls(*np.asarray(array).item())


def start(tally: np.ndarray, min_kept: float) -> np.ndarray:
    """Say how many are asked for."""
    n_valid, n_hard = int(tally[0]), int(tally[1])
    n_min = floor_of_product(n_valid, min_kept) if isinstance(min_kept, float) else min(min_kept, n_valid)
    return np.array(Search(n_valid, n_min, n_hard, float(tally[2]), 0, n_min), SEARCH)


def narrow(search: np.ndarray, counts: np.ndarray, shift: int) -> np.ndarray:
    """Find the next digit of the last place."""
    before = Search.of(search)
    if not before.is_needed:
        return search
    digit, rank = _digits.digit(counts, before.rank)
    return np.array(before._replace(low=before.low + (digit << shift), rank=rank), SEARCH)


def finish(search: np.ndarray, tally: np.ndarray, cut: float, dtype: np.dtype, reduction: str) -> np.ndarray:
    """Give the loss. Sums are in float64; `tally` is that of the losses at the last place and above it."""
    done = Search.of(search)
    total, count, tie_weight = done.hard_sum, done.n_hard, 0.0
    if done.is_needed:
        cut = _digits.number(done.low, dtype)
        n_at, n_above = int(tally[0]), int(tally[1])
        count, total = done.n_min, float(tally[2]) + (done.n_min - n_above) * cut
        # At minus infinity, where ignored pixels are, there are no more than are valid.
        tie_weight = (done.n_min - n_above) / min(n_at, done.n_valid - n_above)
    divisor = float(dtype.type(max(count, 1)))
    return np.array(Found(total / divisor if reduction == "mean" else total, cut, tie_weight, divisor), FOUND)
