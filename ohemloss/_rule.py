"""From the options to the mining quota: numbers at once, arrays by operations, so that they may be traced."""

import math
from typing import Any

from ._arrays import is_array
from ._dtypes import FLOATING, compute_dtype, name_of
from ._engine import Engine
from ._mining import Quota
from ._mining_rule import MiningRule, MinKept
from ._options import Options
from ._typing import Array, DType


def mining_quota(engine: Engine, options: Options, losses: Array) -> Quota:
    """Give the quota in units of the loss."""
    return quota(_cut(engine, options.thresh, losses.dtype), options.min_kept, options.rule, losses.ndim)


def quota(cut: float | Array, min_kept: MinKept, rule: MiningRule, ndim: int) -> Quota:
    """Give the quota of a rule over losses with so many axes, the first of them that of the images."""
    axes = tuple(range(1, ndim)) if rule.per_image else None
    return Quota(cut=cut, min_kept=min_kept, ties=rule.ties, axes=axes)


def _cut(engine: Engine, thresh: Any, dtype: DType) -> float | Array:
    """Turn a probability into a loss: one below `thresh` is a loss above -log(thresh)."""
    if thresh is None:
        return math.inf
    if not is_array(thresh):
        return -math.log(thresh) + 0.0 if thresh else math.inf  # + 0.0: not -0.0 for thresh=1
    xp = engine.xp
    thresh = xp.astype(thresh, compute_dtype(xp, thresh.dtype))  # and not that of the losses, where it may become 0
    positive = thresh > 0.0
    logarithm = xp.log(engine.where(positive, thresh, 1.0))  # never of 0, which warns
    return xp.astype(engine.where(positive, 0.0 - logarithm, math.inf), dtype)


def out_of_range(
    engine: Engine,
    thresh: float | Array | None,
    min_kept: MinKept,
    *,
    thresh_range: tuple[float, float] = (0.0, 1.0),
) -> Array | None:
    """Tell whether `thresh` or `min_kept` came as an array that has no meaning; None if both came as numbers."""
    wrong: Array | None = None
    for value, (low, high) in ((thresh, thresh_range), (min_kept, (0.0, 1.0))):
        if is_array(value):
            name = str(name_of(engine.xp, value.dtype))
            if name in FLOATING:
                here = ~((value >= low) & (value <= high))  # NaN is in no range
            elif name.startswith("u"):
                continue  # no count is too small, and not every library compares it
            else:
                here = value < 0
            wrong = here if wrong is None else wrong | here
    return wrong
