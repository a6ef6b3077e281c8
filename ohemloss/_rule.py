"""From the options to the mining rule: numbers at once, arrays by operations, so that they may be traced."""

import math

from ._arrays import is_array
from ._dtypes import FLOATING, compute_dtype, name_of
from ._engine import Engine
from ._mining import MiningRule
from ._options import Options
from ._typing import Array, DType


def mining_rule(engine: Engine, options: Options, dtype: DType) -> MiningRule:
    """Give the rule in units of the loss: a probability below `thresh` is a loss above -log(thresh)."""
    thresh = options.thresh
    if not is_array(thresh):
        cut = -math.log(thresh) + 0.0 if thresh else math.inf  # + 0.0: not -0.0 for thresh=1
        return MiningRule(cut=cut, min_kept=options.min_kept)
    xp = engine.xp
    thresh = xp.astype(thresh, compute_dtype(xp, thresh.dtype))  # and not that of the losses, where it may become 0
    positive = thresh > 0.0
    logarithm = xp.log(engine.where(positive, thresh, 1.0))  # never of 0, which warns
    cut = engine.where(positive, 0.0 - logarithm, math.inf)
    return MiningRule(cut=xp.astype(cut, dtype), min_kept=options.min_kept)


def out_of_range(
    engine: Engine,
    thresh: float | Array | None,
    min_kept: int | float | Array,
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
