"""The k-th largest value, exactly, by counting: no sort, static shapes, `k` may be traced."""

from typing import TYPE_CHECKING

from ._dtypes import name_of
from ._typing import Array

if TYPE_CHECKING:
    from ._engine import Engine

# A float is a sign, an exponent field and a fraction field: the bits of the two fields.
_FIELDS = {"float32": (8, 23), "float64": (11, 52)}


def kth_largest(engine: "Engine", scores: Array, k: Array, needed: Array) -> Array:
    """
    Find the k-th largest score by bisection over the bits of a float.

    ``count(score >= c)`` falls as c grows, so the largest c for which it is still at least k *is* the k-th largest score.
    A non-negative float grows with its bits, so c is built bit by bit from the highest: 32 counts for float32,
    64 for float64. A count is a sum, so this also works over arrays that are spread over devices or chunks.

    Parameters
    ----------
    engine : Engine
        What the call runs on.
    scores : array
        Any shape, float32 or float64. NaN ranks above everything, -0.0 equals 0.0, infinities are values.
    k : array
        0-d integer, from 1 to the number of scores.
    needed : array
        0-d bool. Where it is False the answer is not looked at: a library that can branch on a value may skip the work.

    Returns
    -------
    array
        0-d, of the scores' dtype. Without meaning where `k` is 0.
    """
    xp = engine.xp
    ranked = engine.where(~xp.isnan(scores), scores, float("inf"))
    # The k-th largest of x is minus the (n - k + 1)-th largest of -x: so the search may assume a non-negative answer.
    negative = engine.count(ranked >= 0.0) < k
    size = engine.count(ranked == ranked)
    magnitudes = xp.where(negative, -ranked, ranked)
    rank = xp.where(negative, size - k + 1, k)
    magnitude = _kth_largest_magnitude(engine, magnitudes, rank)
    return xp.where(negative, -magnitude, magnitude)


def _kth_largest_magnitude(engine: "Engine", x: Array, k: Array) -> Array:
    exponent_bits, fraction_bits = _FIELDS[str(name_of(engine.xp, x.dtype))]
    powers = _powers_of_two(exponent_bits)
    base = _largest_reached(engine, x, k, powers)
    # Below the smallest normal number (base 0) the fraction bits weigh what they weigh just above it.
    step = engine.where(base > 0.0, base, powers[1])
    for _ in range(fraction_bits):
        step = step * 0.5  # exact, as is every sum below: no candidate has more bits than its dtype
        candidate = base + step
        base = engine.xp.where(engine.count(x >= candidate) >= k, candidate, base)
    return base


def _powers_of_two(exponent_bits: int) -> list[float]:
    """List the floats with an empty fraction field in the order of their exponent field: 0, the powers, infinity."""
    bias = 2 ** (exponent_bits - 1) - 1
    return [0.0, *(2.0 ** (field - bias) for field in range(1, 2 * bias + 1)), float("inf")]


def _largest_reached(engine: "Engine", x: Array, k: Array, powers: list[float]) -> Array:
    """Find the largest entry of the rising list that at least `k` elements reach, by bisection over its index."""
    xp = engine.xp
    table, index = engine.asarray(powers, x.dtype), engine.arange(len(powers))

    def at(position: Array) -> Array:
        # The table rises, so its maximum up to a position is its entry there: a look-up without a gather.
        return xp.max(engine.where(index <= position, table, 0.0))

    position = k - k  # a zero with the dtype and the trace of k
    stride = len(powers) // 2
    while stride:
        trial = position + stride
        position = xp.where(engine.count(x >= at(trial)) >= k, trial, position)
        stride //= 2
    return at(position)
