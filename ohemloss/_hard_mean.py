"""The mining alone, over any loss per element."""

import math

from . import _composite
from ._arrays import is_array
from ._dtypes import FLOATING, compute_dtype
from ._mining import MiningRule, mine, weigh
from ._options import check_min_kept, check_thresh
from ._rule import out_of_range
from ._typing import Array
from ._validation import check_dtype, check_mask, check_option_arrays, engine_for, find_library

# A threshold in units of the loss may be any number.
_ANY = (-math.inf, math.inf)


def hard_mean(
    losses: Array,
    /,
    *,
    where: Array | None = None,
    thresh: float | Array | None = None,
    min_kept: int | float | Array = 1 / 16,
) -> Array:
    """
    Average the hard elements of a loss of your own.

    Parameters
    ----------
    losses : array
        One loss per element, any shape, of either sign. float16 or bfloat16 (computed in float32), float32, or float64.
    where : array, optional
        Bool, the shape of `losses`, of the same library and on the same device: the elements that count. Default: all.
    thresh : float, array or None, optional
        An element is hard if its loss is above `thresh`, which here has the unit of the loss. (For a cross-entropy and
        a probability p that is ``-log(p)``.) Default: None, no element is hard by itself.
    min_kept : int, float or array, optional
        At least this many of the hardest elements are selected: an int is a count, a float in [0, 1] a fraction of the
        elements that count, rounded down. Default: 1/16.

    Returns
    -------
    array
        0-d, float32, or float64 for float64 losses, of the library and on the device of `losses`. Differentiable by the
        library's own automatic differentiation; the selection is a constant of differentiation.

    Raises
    ------
    TypeError
        If an argument has the wrong type or dtype, or the arrays come from different libraries.
    ValueError
        If a shape, an option, or a device does not fit.

    Notes
    -----
    Ties, NaN, an empty selection, and options that come as arrays are treated as `ohem_cross_entropy` treats them.

    Examples
    --------
    >>> import array_api_strict as xp
    >>> import ohemloss
    >>> errors = xp.asarray([0.1, 2.0, 0.3, 4.0])
    >>> float(ohemloss.hard_mean(errors, min_kept=2))
    3.0
    >>> float(ohemloss.hard_mean(errors, where=errors < 3.0, thresh=0.2, min_kept=0))
    1.15
    """
    min_kept = check_min_kept(min_kept)
    thresh = check_thresh(thresh, *_ANY)
    library = find_library("losses", losses)
    check_dtype(library, "losses", losses, FLOATING, "a real floating")
    arrays = {name: value for name, value in {"thresh": thresh, "min_kept": min_kept}.items() if is_array(value)}
    check_option_arrays(library, arrays, "losses", losses, thresh_range=_ANY)
    engine = engine_for(library, losses)
    if where is None:
        pool = (losses == losses) | (losses != losses)  # true also for NaN
    else:
        check_mask(library, "where", where, "losses", losses)
        pool = where
    dtype = compute_dtype(engine.xp, losses.dtype)
    losses = engine.where(pool, engine.xp.astype(losses, dtype), 0.0)
    wrong = out_of_range(engine, thresh, min_kept, thresh_range=_ANY)
    if wrong is not None:
        losses = engine.where(~(pool & wrong), losses, math.nan)
    cut: float | Array = math.inf if thresh is None else thresh
    if is_array(cut):
        cut = engine.xp.astype(cut, dtype)
    rule = MiningRule(cut=cut, min_kept=min_kept)
    mined = mine(engine, losses, pool, rule)
    return _composite.reduce(engine, losses, weigh(engine, losses, pool, mined.cut), mined.cut, "mean")
