"""The mining rule: which elements are hard enough to enter the loss."""

import math
from dataclasses import dataclass
from fractions import Fraction

from ._dtypes import FLOATING, compute_dtype, name_of
from ._engine import Engine
from ._typing import Array, DType

# Two digits of 10 bits: the products below then fit a 32-bit integer.
_DIGIT = 2**10
SMALLEST_FRACTION = 1 / _DIGIT**2


@dataclass(frozen=True, kw_only=True)
class MiningRule:
    """
    The union of the hard elements and the `min_kept` hardest elements of the pool.

    An element is hard if its score is above `cut`. The score, the pool and the rule are separate on purpose: another
    ranking is another score, another pool another mask, and both are made by the caller. Both fields may be 0-d arrays,
    of the dtype of the scores and of any integer or real floating dtype.
    """

    cut: float | Array
    min_kept: int | float | Array


@dataclass(frozen=True)
class Cut:
    """
    The whole selection in three scalars.

    Attributes
    ----------
    value : array
        0-d, in units of the score. Elements that score above it weigh 1, those below it 0.
    tie_weight : array
        0-d, what an element that scores exactly `value` weighs: ties at the last place share the places left.
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


def mine(engine: Engine, scores: Array, pool: Array, rule: MiningRule) -> Mined:
    """
    Find the cut of the scores of the pool (bool, same shape).

    Both sides of "are enough elements hard?" are computed and `where` picks, so this traces. NaN is hard.
    """
    xp = engine.xp
    threshold = rule.cut
    if isinstance(threshold, float) and abs(threshold) > float(xp.finfo(scores.dtype).max):
        threshold = math.copysign(math.inf, threshold)
    ranked = engine.where(pool, scores, -float("inf"))
    n_pool = engine.count(pool)
    n_min = _places(engine, rule.min_kept, n_pool)
    n_hard = engine.count(~(ranked <= threshold))
    enough = n_hard >= n_min
    kth = engine.kth_largest(engine, ranked, n_min, ~enough)
    n_above = engine.count(~(ranked <= kth))
    n_ties = engine.count(pool & (ranked == kth))
    floating = compute_dtype(xp, scores.dtype)
    share = xp.astype(n_min - n_above, floating) / xp.astype(engine.where(n_ties > 0, n_ties, 1), floating)
    cut = Cut(
        value=engine.where(~enough, kth, threshold),
        tie_weight=engine.where(~enough, share, 0.0),
        count=xp.where(enough, n_hard, n_min),
    )
    return Mined(cut, n_pool, n_min, n_hard)


def weigh(engine: Engine, scores: Array, pool: Array, cut: Cut) -> Array:
    """Recompute from the cut what each element weighs: 1, the share of a tie, or 0."""
    xp = engine.xp
    above = pool & ~(scores <= cut.value)
    tied = pool & (scores == cut.value)
    return xp.where(tied, cut.tie_weight, xp.astype(above, compute_dtype(xp, scores.dtype)))


def _places(engine: Engine, min_kept: int | float | Array, n_pool: Array) -> Array:
    """Turn `min_kept` into a number of elements, never more than the pool has."""
    xp = engine.xp
    if isinstance(min_kept, float):
        return _floor_of_product(n_pool, Fraction(min_kept).limit_denominator(_DIGIT**2))
    if isinstance(min_kept, int):
        kept = min(min_kept, xp.iinfo(n_pool.dtype).max)  # a larger one cannot even be compared
    elif name_of(xp, min_kept.dtype) in FLOATING:
        kept = _floor_of_float_product(engine, n_pool, min_kept)
    else:
        kept = _signed_count(engine, min_kept, n_pool.dtype)
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


def _floor_of_product(n: Array, fraction: Fraction) -> Array:
    """
    Compute ``floor(n * fraction)`` exactly, in 32-bit integers if that is what the library has.

    A float product would depend on the library: 0.7 * 10 is 7 in float64 and 6.9999998 in float32.
    """
    a, b = fraction.numerator, fraction.denominator
    whole, rest = n // b, n % b
    high, low = rest // _DIGIT, rest % _DIGIT
    upper = high * a
    return whole * a + (upper // b) * _DIGIT + ((upper % b) * _DIGIT + low * a) // b
