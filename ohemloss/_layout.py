"""How the pixels of several arrays lie in memory: a grid that a kernel can walk through with few divisions."""

from collections.abc import Sequence
from typing import TypeAlias

Strides: TypeAlias = tuple[int, int, int]

_AXES = 3


def lay_out(shape: Sequence[int], *strides: Sequence[int]) -> tuple[Strides, list[Strides]] | None:
    """
    Merge the axes of arrays of one shape, in the order of their elements, until three are left.

    Of NCHW the pixels are ``(1, n, h * w)``, of NHWC ``(1, 1, n * h * w)``; of a part of an image the rows stay apart.

    Parameters
    ----------
    shape : sequence of int
        The lengths of the axes.
    *strides : sequence of int
        Of each array the distance of neighbours along each axis, in any unit; 0 where it is broadcast.

    Returns
    -------
    tuple or None
        The three lengths, and the three strides of each array; None if more than three axes are needed.
    """
    lengths: list[int] = []
    steps: list[list[int]] = []
    for axis, length in enumerate(shape):
        here = [each[axis] for each in strides]
        if length == 1:
            continue
        if lengths and all(outer == inner * length for outer, inner in zip(steps[-1], here, strict=True)):
            lengths[-1] *= length
            steps[-1] = here
        else:
            lengths.append(length)
            steps.append(here)
    missing = _AXES - len(lengths)
    if missing < 0:
        return None
    lengths = [1] * missing + lengths
    steps = [[0] * len(strides)] * missing + steps
    a, b, c = lengths
    return (a, b, c), [(x, y, z) for x, y, z in zip(*steps, strict=True)]
