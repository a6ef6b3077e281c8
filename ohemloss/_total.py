"""A sum that does not lose digits, whatever order the library adds in."""

from typing import TYPE_CHECKING

from ._typing import Array

if TYPE_CHECKING:
    from ._engine import Engine

_BLOCK = 1024


def total(engine: "Engine", x: Array) -> Array:
    """
    Sum all elements, one axis at a time, long axes in blocks of 1024.

    Some libraries add two million float32 values one after the other, and are then wrong in the fourth digit.
    Short sums of short sums are right to rounding in every library, and their order does not depend on the number of
    threads.
    """
    while x.ndim:
        x = _sum_last_axis(engine, x)
    return x


def _sum_last_axis(engine: "Engine", x: Array) -> Array:
    xp, length = engine.xp, x.shape[-1]
    # A length that is not known yet (a symbol, NaN) is left to the library.
    if not isinstance(length, int) or length <= 2 * _BLOCK:
        return xp.sum(x, axis=-1)
    whole = length - length % _BLOCK
    blocks = xp.reshape(x[..., :whole], (*x.shape[:-1], whole // _BLOCK, _BLOCK))
    return _sum_last_axis(engine, xp.sum(blocks, axis=-1)) + xp.sum(x[..., whole:], axis=-1)
