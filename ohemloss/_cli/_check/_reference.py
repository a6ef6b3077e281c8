"""The reference: value and gradient from the formula, in float64, by a sort."""

import math
from dataclasses import dataclass
from fractions import Fraction

import numpy as np
import numpy.typing as npt

from ._case import IGNORE, Case
from ._draws import Numbers


@dataclass(frozen=True, eq=False)
class Expected:
    """What a case must give."""

    value: Numbers
    gradient: Numbers


def reference(case: Case) -> Expected:
    """
    Compute the loss of the valid pixels, one row of logits each.

    loss = w[y] u (log sum exp x - x[y]); selected are those above -log(thresh), united with the k largest, of which the
    last may share their places. The value is the mean of the selected, and the gradient of each pixel is
    (softmax - label) w[y] u times what it weighs in this mean.
    """
    counts = case.labels != IGNORE
    x, y = np.moveaxis(case.logits, 1, -1)[counts], case.labels[counts]
    scale = np.ones(len(y)) if case.weight is None else case.weight[y]
    if case.pixel_weight is not None:
        scale = scale * case.pixel_weight[counts]
    x = np.where(scale[:, None] == 0, 0, x)  # whatever the logits are, a pixel of weight 0 gives nothing
    shifted = x - np.max(x, axis=1, keepdims=True, initial=-math.inf)
    exponentials = np.exp(shifted)
    sums = np.sum(exponentials, axis=1)
    rows = np.arange(len(y))
    losses = scale * (np.log(sums) - shifted[rows, y])
    shares = _shares(losses, n_kept(case), -math.log(case.thresh) if case.thresh else math.inf)
    difference = exponentials / sums[:, None]
    difference[rows, y] -= 1
    gradient = np.zeros(np.moveaxis(case.logits, 1, -1).shape)
    gradient[counts] = np.where(shares[:, None] == 0, 0, difference * (scale * shares)[:, None])
    return Expected(np.asarray(math.fsum((shares * losses)[shares != 0])), np.moveaxis(gradient, -1, 1))


def n_kept(case: Case) -> int:
    """Count how many pixels are selected at least."""
    n = int(np.count_nonzero(case.labels != IGNORE))
    return min(case.min_kept, n) if isinstance(case.min_kept, int) else math.floor(Fraction(case.min_kept) * n)


def _shares(losses: Numbers, k: int, threshold: float) -> Numbers:
    """Say what each loss weighs in the mean. NaN ranks first."""
    ranks = np.where(np.isnan(losses), math.inf, losses)
    selected: npt.NDArray[np.float64] = (ranks > threshold).astype(np.float64)
    if np.sum(selected) < k:
        last = np.sort(ranks)[-k]
        above, ties = ranks > last, ranks == last
        selected = above + ties * ((k - np.count_nonzero(above)) / np.count_nonzero(ties))
    return selected / max(float(np.sum(selected)), 1.0)
