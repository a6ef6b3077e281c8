"""The mining alone, over any loss per element."""

import math
from dataclasses import dataclass, fields, replace
from typing import Any

from ._arrays import is_array
from ._compared import ComparedWithTypes
from ._dtypes import FLOATING, compute_dtype
from ._engine import Engine
from ._mining_rule import MiningRule, MinKept
from ._options import check_min_kept, check_rule, check_thresh
from ._rule import out_of_range, quota
from ._selection import reduce, select, whole
from ._spread import join_of
from ._typing import Array
from ._validation import (
    check_dtype,
    check_mask,
    check_option_arrays,
    check_rule_for,
    check_score,
    engine_for,
    find_library,
)

# A threshold in units of the loss may be any number.
_ANY = (-math.inf, math.inf)


def hard_mean(
    losses: Array,
    *,
    where: Array | None = None,
    score: Array | None = None,
    positives: Array | None = None,
    thresh: float | Array | None = None,
    min_kept: MinKept = 1 / 16,
    rule: MiningRule = MiningRule(),
    axis_name: Any = None,
    process_group: Any = None,
) -> Array:
    """
    Average the hard elements of a loss of your own.

    Parameters
    ----------
    losses : array
        One loss per element, any shape, of either sign. float16 or bfloat16 (computed in float32), float32, or float64.
    where : array, optional
        Bool, the shape of `losses`, of the same library and on the same device: the elements that count. Default: all.
    score : array, optional
        What to rank by in place of the losses, real floating, the shape of `losses`. A constant of differentiation.
    positives : array, optional
        Bool, the shape of `losses`: elements that are selected in any case, and do not compete.
    thresh : float, array or None, optional
        An element is hard if its loss (its score) is above `thresh`, which here has the unit of the loss. (For a
        cross-entropy and a probability p that is ``-log(p)``.) Default: None, no element is hard by itself.
    min_kept : int, float, array or callable, optional
        At least this many of the hardest elements are selected: an int is a count, a float in [0, 1] a fraction of the
        elements that count, rounded down, a function takes the `Counts` and returns either. Default: 1/16.
    rule : MiningRule, optional
        Which elements compete, and what their losses are divided by. Its ``rank_by`` must be "loss".
    axis_name, process_group : optional
        As for `ohem_cross_entropy`.

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
    check_rule(rule)
    library = find_library("losses", losses)
    check_dtype(library, "losses", losses, FLOATING, "a real floating")
    arrays = {name: value for name, value in {"thresh": thresh, "min_kept": min_kept}.items() if is_array(value)}
    check_option_arrays(library, arrays, "losses", losses, thresh_range=_ANY)
    check_rule_for(rule, "losses", losses, positives)
    if rule.rank_by == "prob":
        msg = f"`rule` must rank by loss, since losses have no probability: got {rule!r}. Pass a `score` to rank by."
        raise ValueError(msg)
    for name, mask in (("where", where), ("positives", positives)):
        if mask is not None:
            check_mask(library, name, mask, "losses", losses)
    if score is not None:
        check_score(library, score, losses)
    engine = replace(engine_for(library, losses), join=join_of(library, axis_name, process_group))
    xp, dtype = engine.xp, compute_dtype(engine.xp, losses.dtype)
    valid = (losses == losses) | (losses != losses) if where is None else where  # true also for NaN
    losses = engine.where(valid, xp.astype(losses, dtype), 0.0)
    wrong = out_of_range(engine, thresh, min_kept, thresh_range=_ANY)
    if wrong is not None:
        losses = engine.where(~(valid & wrong), losses, math.nan)
    scores = losses if score is None else engine.where(valid, xp.astype(score, dtype), 0.0)
    asked = quota(_cut(engine, thresh, losses), min_kept, rule, losses.ndim)
    ones = xp.astype(valid, dtype)
    selection = select(engine, losses, scores, valid, asked, rule, positives, ones)
    return whole(engine, reduce(engine, losses, selection, rule, "mean"), "mean")


def _cut(engine: Engine, thresh: float | Array | None, losses: Array) -> float | Array:
    if is_array(thresh):
        return engine.xp.astype(thresh, compute_dtype(engine.xp, losses.dtype))
    return math.inf if thresh is None else thresh


@dataclass(frozen=True, kw_only=True, eq=False)
class HardMean(ComparedWithTypes):
    """
    Fix the options of `hard_mean`, and call it on losses of any library.

    Parameters
    ----------
    thresh, min_kept, rule, axis_name, process_group : optional
        As for `hard_mean`.

    Examples
    --------
    >>> import array_api_strict as xp
    >>> import ohemloss
    >>> float(ohemloss.HardMean(min_kept=2)(xp.asarray([0.1, 2.0, 0.3, 4.0])))
    3.0
    """

    thresh: float | Array | None = None
    min_kept: MinKept = 1 / 16
    rule: MiningRule = MiningRule()
    axis_name: Any = None
    process_group: Any = None

    def __post_init__(self) -> None:
        """Refuse options that have no meaning before the first losses come, and keep plain numbers."""
        object.__setattr__(self, "thresh", check_thresh(self.thresh, *_ANY))
        object.__setattr__(self, "min_kept", check_min_kept(self.min_kept))
        check_rule(self.rule)

    def __call__(
        self,
        losses: Array,
        *,
        where: Array | None = None,
        score: Array | None = None,
        positives: Array | None = None,
    ) -> Array:
        """
        Average the hard elements.

        Parameters
        ----------
        losses, where, score, positives : array
            As for `hard_mean`.

        Returns
        -------
        array
            As `hard_mean` returns it.
        """
        options = {field.name: getattr(self, field.name) for field in fields(self)}
        return hard_mean(losses, where=where, score=score, positives=positives, **options)
