"""The usual mining over chunks: what each adds is counted while it is in the cache."""

from dataclasses import dataclass
from typing import Any

import numpy as np

from ohemloss import Cut
from ohemloss._fractions import floor_of_product

from ._task import Task


@dataclass(frozen=True)
class Tally:
    """How many of some pixels are valid, how many are hard, and the sum of the losses of those."""

    n_valid: int
    n_hard: int
    hard_sum: float

    def __add__(self, other: "Tally") -> "Tally":
        """Count both."""
        return Tally(self.n_valid + other.n_valid, self.n_hard + other.n_hard, self.hard_sum + other.hard_sum)


NOTHING = Tally(0, 0, 0.0)


def serves(task: Task) -> bool:
    """Tell whether the mining is the usual one, with numbers for options."""
    options = task.options
    usual = options.mines_as_usual() and task.positives is None
    return usual and not options.arrays() and isinstance(options.min_kept, int | float)


def tally(losses: np.ndarray, valid: np.ndarray, cut: float) -> Tally:
    """Count pixels. An ignored one has a loss of 0, and no cut is below it."""
    hard = losses[~(losses <= cut)]  # NaN is hard
    return Tally(int(np.count_nonzero(valid)), hard.size, float(np.sum(hard, dtype=np.float64)))


def mine(losses: np.ndarray, whole: Tally, cut: float, task: Task) -> tuple[np.ndarray, Cut, np.floating]:
    """Give the value, the cut, and the divisor. Sums are in float64."""
    asked: Any = task.options.min_kept  # a number, as `serves` has told
    n_min = floor_of_product(whole.n_valid, asked) if isinstance(asked, float) else min(asked, whole.n_valid)
    count, total, value, tie_weight = whole.n_hard, whole.hard_sum, cut, 0.0
    if whole.n_hard < n_min:
        ranked, mined = losses, _largest(losses, n_min)
        if not mined[0] > 0:  # a loss of 0 may be that of an ignored pixel, which does not compete
            ranked = losses[task.labels != task.options.ignore_index]
            mined = _largest(ranked, n_min)
        value, count, total = mined[0], n_min, np.sum(mined, dtype=np.float64)
        tie_weight = (n_min - np.count_nonzero(~(mined <= value))) / np.count_nonzero(ranked == value)
    dtype = losses.dtype.type
    divisor = dtype(max(count, 1))
    if task.options.reduction == "mean":
        total = total / divisor
    return np.asarray(total, losses.dtype), Cut(dtype(value), dtype(tie_weight), np.asarray(count)), divisor


def _largest(losses: np.ndarray, n: int) -> np.ndarray:
    """Give the largest losses, the smallest of them first."""
    ranked = np.partition(losses, losses.size - n)
    return ranked[losses.size - n :]
