"""A sum that does not lose digits, whatever order the library adds in."""

from ._engine import Engine
from ._typing import Array

_BLOCK = 32


def total(engine: Engine, x: Array) -> Array:
    """
    Sum all elements in blocks of 32, then the sums in blocks of 32, and so on.

    Some libraries add float32 values one after the other: two million random ones are then wrong in the fourth digit,
    two million equal ones in the second. Short sums of short sums are right to a few roundings in every library, and
    their order does not depend on the number of threads.
    """
    while x.ndim:
        x = _sum_last_axis(engine, x)
    return x


def _sum_last_axis(engine: Engine, x: Array) -> Array:
    length = x.shape[-1]
    # A length that is not known yet (a symbol, NaN) is left to the library.
    if not isinstance(length, int) or length <= 2 * _BLOCK:
        return engine.sum(x, -1)
    whole = length - length % _BLOCK
    blocks = engine.xp.reshape(x[..., :whole], (*x.shape[:-1], whole // _BLOCK, _BLOCK))
    return _sum_last_axis(engine, engine.sum(blocks, -1)) + engine.sum(x[..., whole:], -1)
