"""The k-th largest value, exactly, by counting: no sort, static shapes, `k` may be traced."""

from ._dtypes import name_of
from ._engine import Axes, Engine
from ._typing import Array

# A float is a sign, an exponent field and a fraction field: the bits of the two fields.
_FIELDS = {"float32": (8, 23), "float64": (11, 52)}


def kth_largest(engine: Engine, scores: Array, k: Array, needed: Array, axes: Axes = None) -> Array:
    """
    Find the k-th largest score by bisection over the bits of a float.

    ``count(score >= c)`` falls as c grows, so the largest c for which it is still at least k *is* the k-th largest.
    A non-negative float grows with its bits, so c is built bit by bit from the highest: 31 counts for float32,
    63 for float64, and two for the sign. A count is a sum, so this also works over arrays that are spread over devices
    or chunks.

    Parameters
    ----------
    engine : Engine
        What the call runs on.
    scores : array
        Any shape, float32 or float64. NaN ranks above everything, -0.0 equals 0.0, infinities are values.
    k : array
        0-d integer, from 1 to the number of scores; with `axes`, one for each selection.
    needed : array
        0-d bool. Where it is False the answer is not looked at: a library that can branch on a value may skip the work.
    axes : tuple of int or None
        The axes over which one selection is made, kept with length 1 in `k` and in the answer. None: all of them.

    Returns
    -------
    array
        0-d, or in the shape of `k`, of the scores' dtype. Without meaning where `k` is 0.
    """
    xp = engine.xp
    ranked = engine.where(~xp.isnan(scores), scores, float("inf"))
    # The k-th largest of x is minus the (n - k + 1)-th largest of -x: so the search may assume a non-negative answer.
    negative = engine.count(ranked >= 0.0, axes) < k
    size = engine.count(ranked == ranked, axes)
    magnitudes = xp.where(negative, -ranked, ranked)
    rank = xp.where(negative, size - k + 1, k)
    magnitude = _kth_largest_magnitude(engine, magnitudes, rank, axes)
    return xp.where(negative, -magnitude, magnitude)


def _kth_largest_magnitude(engine: Engine, x: Array, k: Array, axes: Axes) -> Array:
    exponent_bits, fraction_bits = _FIELDS[str(name_of(engine.xp, x.dtype))]
    powers = _powers_of_two(exponent_bits)
    base = _largest_reached(engine, x, k, powers, axes)
    # The answer is a power of two times a fraction in [1, 2), or the smallest normal number times one in [0, 1).
    # Products, because the sums of a power and its small parts would pass through subnormal numbers, which some devices
    # flush to zero. All are exact: no candidate has more bits than its dtype.
    power = engine.where(base > 0.0, base, powers[1])
    fraction = engine.xp.astype(base > 0.0, x.dtype)
    for i in range(1, fraction_bits + 1):
        candidate = fraction + 0.5**i
        fraction = engine.xp.where(engine.count(x >= power * candidate, axes) >= k, candidate, fraction)
    return power * fraction


def _powers_of_two(exponent_bits: int) -> list[float]:
    """List the floats with an empty fraction field in the order of their exponent field: 0, the powers, infinity."""
    bias = 2 ** (exponent_bits - 1) - 1
    return [0.0, *(2.0 ** (field - bias) for field in range(1, 2 * bias + 1)), float("inf")]


def _largest_reached(engine: Engine, x: Array, k: Array, powers: list[float], axes: Axes) -> Array:
    """Find the largest entry of the rising list that at least `k` elements reach, by bisection over its index."""
    xp = engine.xp
    table, index = engine.asarray(powers, x.dtype), engine.arange(len(powers))

    def at(position: Array) -> Array:
        # The table rises, so its maximum up to a position is its entry there: a look-up without a gather.
        return xp.max(engine.where(index <= xp.expand_dims(position, axis=-1), table, 0.0), axis=-1)

    position = k - k  # a zero with the dtype and the trace of k
    stride = len(powers) // 2
    while stride:
        trial = position + stride
        position = xp.where(engine.count(x >= at(trial), axes) >= k, trial, position)
        stride //= 2
    return at(position)
