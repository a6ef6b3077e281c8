"""What is done with one chunk, in NumPy and on the thread that Dask gives it."""

from typing import Any

import numpy as np

from ohemloss import Cut
from ohemloss._inputs import Inputs
from ohemloss._options import Options
from ohemloss_numpy._host import Host
from ohemloss_numpy._task import Kept

from . import _digits
from ._search import Found, Search


def losses(logits: Any, labels: np.ndarray, weight: Any, pixel_weight: Any, options: Options) -> np.ndarray:
    """Compute the loss of each pixel: minus infinity where it is ignored, so that it ranks below everything."""
    inputs = _inputs(logits, labels, weight, pixel_weight)
    _, kept = Host(inputs, options, n_threads=1).forward()
    kept.scores[inputs.labels == options.ignore_index] = -np.inf
    return kept.scores


def tally(losses: np.ndarray, labels: np.ndarray, cut: float, ignore_index: int | None) -> np.ndarray:
    """Count what is valid and what is hard, and add up the losses of that."""
    return _alone([np.count_nonzero(labels != ignore_index), *_above(losses, cut)], losses.ndim)


def histogram(losses: np.ndarray, search: np.ndarray, shift: int) -> np.ndarray:
    """Count the values of the next digit, if it is needed."""
    known = Search.of(search)
    counts = _digits.histogram(losses, known.low, shift) if known.is_needed else np.zeros(2**_digits.BITS, np.int64)
    return _alone(counts, losses.ndim)


def above(losses: np.ndarray, search: np.ndarray) -> np.ndarray:
    """Count what is at the last place and what is above it, and add up the losses of that, if it is needed."""
    known = Search.of(search)
    if not known.is_needed:
        return _alone([0.0, 0.0, 0.0], losses.ndim)
    last = _digits.number(known.low, losses.dtype)
    return _alone([np.count_nonzero(losses == last), *_above(losses, last)], losses.ndim)


def value(found: np.ndarray, dtype: np.dtype) -> np.ndarray:
    """Give the loss in its dtype."""
    with np.errstate(over="ignore"):
        return np.asarray(Found.of(found).value, dtype)


def gradient(
    logits: np.ndarray,
    labels: np.ndarray,
    losses: np.ndarray,
    found: np.ndarray,
    weight: Any,
    pixel_weight: Any,
    options: Options,
) -> np.ndarray:
    """Compute the gradient with respect to the logits."""
    whole, number = Found.of(found), losses.dtype.type
    # The count only says whether this chunk has few of them.
    cut = Cut(number(whole.cut), number(whole.tie_weight), np.count_nonzero(~(losses < whole.cut)))
    inputs = _inputs(logits, labels, weight, pixel_weight)
    return Host(inputs, options, n_threads=1).backward(Kept(losses, cut, number(whole.divisor)))


def _inputs(logits: Any, labels: np.ndarray, weight: Any, pixel_weight: Any) -> Inputs:
    """Take the arrays out of the lists that Dask has for an axis which the result lacks."""
    arrays = {"logits": logits, "labels": labels, "weight": weight, "pixel_weight": pixel_weight}
    return Inputs(**{name: array[0] if isinstance(array, list) else array for name, array in arrays.items()})


def _above(losses: np.ndarray, cut: float) -> tuple[int, float]:
    hard = losses[~(losses <= cut)]  # NaN is hard
    return hard.size, float(np.sum(hard, dtype=np.float64))


def _alone(numbers: Any, ndim: int) -> np.ndarray:
    """Lay numbers along an axis of their own, behind those of the pixels."""
    return np.reshape(numbers, (*(1,) * ndim, -1))
