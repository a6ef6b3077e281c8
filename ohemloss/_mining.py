"""The mining: which elements are hard enough to enter the loss."""

import math
from dataclasses import dataclass
from typing import Any, Literal

from ._arrays import is_array
from ._dtypes import FLOATING, compute_dtype, name_of
from ._engine import Axes, Engine
from ._fractions import floor_of_product
from ._mining_rule import MinKept
from ._tally import Tally
from ._typing import Array, DType


@dataclass(frozen=True, kw_only=True)
class Quota:
    """
    How many elements are selected: the hard ones, united with the `min_kept` hardest of the pool.

    An element is hard if its score is above `cut`, or with ``ties="keep"`` at it. `cut` and `min_kept` may be 0-d
    arrays, of the dtype of the scores and of any integer or real floating dtype; `min_kept` may be a function of the
    counts.
    `axes` are those over which one selection is made, all of them if None.
    """

    cut: float | Array
    min_kept: MinKept
    ties: Literal["share", "keep", "drop"] = "share"
    axes: Axes = None


@dataclass(frozen=True)
class Cut:
    """
    The whole selection in three scalars; of a rule that selects per image, in three for each image.

    Attributes
    ----------
    value : array
        0-d, in units of the score. Elements that score above it weigh 1, those below it 0.
    tie_weight : array
        0-d, what an element that scores exactly `value` weighs: ties at the last place share the places left, or all
        of them or none are kept, as the rule says.
    count : array
        0-d integer, the number selected (the sum of the weights).
    """

    value: Array
    tie_weight: Array
    count: Array


@dataclass(frozen=True)
class Mined:
    """A cut and the counts that led to it."""

    cut: Cut
    n_pool: Array
    n_min: Array
    n_hard: Array


def threshold_of(engine: Engine, scores: Array, quota: Quota) -> Any:
    """Give the threshold as a number of the dtype of the scores, or as the array that it came as."""
    threshold = quota.cut
    if isinstance(threshold, float) and abs(threshold) > float(engine.xp.finfo(scores.dtype).max):
        return math.copysign(math.inf, threshold)
    return threshold


def hard_of(engine: Engine, scores: Array, pool: Array, quota: Quota) -> Array:
    """Tell which elements of the pool (bool, same shape) are hard; NaN is."""
    threshold = threshold_of(engine, scores, quota)
    return pool & (~(scores < threshold) if quota.ties == "keep" else ~(scores <= threshold))


def mine(engine: Engine, scores: Array, pool: Array, quota: Quota, tally: Tally) -> Mined:
    """
    Find the cut of the scores of the pool.

    Both sides of "are enough elements hard?" are computed and `where` picks, so this traces.
    """
    xp, axes = engine.xp, quota.axes
    threshold = threshold_of(engine, scores, quota)
    ranked = engine.where(pool, scores, -float("inf"))
    n_pool, n_hard = tally.n_pool, tally.n_hard
    n_min = places(engine, quota.min_kept, n_pool, tally.counts)
    enough = n_hard >= n_min
    needed = ~enough if axes is None else xp.any(~enough)
    rank = n_min
    if quota.ties == "drop":  # all that is strictly above the next one
        rank = xp.where(n_min < n_pool, n_min + 1, n_pool)
    kth = engine.kth_largest(engine, ranked, rank, needed, axes)
    if quota.ties == "drop":
        kth = engine.where(n_min < n_pool, kth, -float("inf"))
    value = engine.where(~enough, kth, threshold)
    floating = compute_dtype(xp, scores.dtype)
    if quota.ties == "share":
        n_above, n_ties = _counts(engine, axes, ~(ranked <= kth), pool & (ranked == kth))
        share = xp.astype(n_min - n_above, floating) / xp.astype(engine.where(n_ties > 0, n_ties, 1), floating)
        tie_weight = engine.where(~enough, share, 0.0)
        count = xp.where(enough, n_hard, n_min)
    else:
        always = n_min == n_min
        tie_weight = xp.astype(always if quota.ties == "keep" else ~always, floating)
        at_least = ~(ranked < value) if quota.ties == "keep" else ~(ranked <= value)
        count = engine.count(pool & at_least, axes)
    return Mined(Cut(value, tie_weight, count), n_pool, n_min, n_hard)


def _counts(engine: Engine, axes: Axes, *masks: Array) -> list[Array]:
    here = {str(i): engine.count_here(mask, axes) for i, mask in enumerate(masks)}
    return list((here if axes is not None else engine.join_all(here)).values())


def weigh(engine: Engine, scores: Array, pool: Array, cut: Cut, positives: Array | None = None) -> Array:
    """Recompute from the cut what each element weighs: 1, the weight of a tie, or 0; positives, not of the pool, 1."""
    xp = engine.xp
    above = pool & ~(scores <= cut.value)
    if positives is not None:
        above = above | positives
    tied = pool & (scores == cut.value)
    return xp.where(tied, cut.tie_weight, xp.astype(above, compute_dtype(xp, scores.dtype)))


def places(engine: Engine, min_kept: MinKept, n_pool: Array, counts: Any = None) -> Array:
    """Turn `min_kept` into a number of elements, never more than the pool has, and never less than none."""
    xp = engine.xp
    asked: Any = min_kept(counts) if callable(min_kept) and not is_array(min_kept) else min_kept
    if isinstance(asked, float):
        return floor_of_product(n_pool, asked)
    if isinstance(asked, int):
        kept = max(0, min(asked, xp.iinfo(n_pool.dtype).max))  # a larger one cannot even be compared
    elif name_of(xp, asked.dtype) in FLOATING:
        kept = _floor_of_float_product(engine, n_pool, asked)
    else:
        kept = _signed_count(engine, asked, n_pool.dtype)
    return engine.where(n_pool < kept, n_pool, kept)


def _signed_count(engine: Engine, count: Array, dtype: DType) -> Array:
    """Bring an integer of any dtype to the one of the counts; what is too large there becomes the largest."""
    xp = engine.xp
    name = str(name_of(xp, count.dtype))
    # Not every library compares unsigned integers. Of those, what is too large for a signed one becomes negative.
    signed = xp.astype(count, xp.int64 if name.endswith("64") else xp.int32)
    largest = min(xp.iinfo(signed.dtype).max, xp.iinfo(dtype).max)
    bounded = engine.where(signed < largest, signed, largest)
    bounded = engine.where(signed >= 0, bounded, largest if name.startswith("u") else 0)
    return xp.astype(bounded, dtype)


def _floor_of_float_product(engine: Engine, n: Array, fraction: Array) -> Array:
    """
    Compute ``floor(n * fraction)`` in floats, to one in a million in float32.

    A product that is an integer but for its rounding is that integer: 0.7 of 10 is 7.
    """
    xp, dtype = engine.xp, compute_dtype(engine.xp, fraction.dtype)
    product = xp.astype(n, dtype) * xp.astype(engine.where(fraction >= 0.0, fraction, 0.0), dtype)
    nearest = xp.floor(product + 0.5)
    rounding = product * float(xp.finfo(dtype).eps)
    return xp.astype(xp.where(xp.abs(product - nearest) <= rounding, nearest, xp.floor(product)), n.dtype)
