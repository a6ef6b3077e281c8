"""How the pixels of an array are walked through: in blocks that fit the cache, in the order of the labels."""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np

# Elements of one block: a buffer of 1 MiB in float32, which a core keeps in its second-level cache.
BLOCK = 2**18
# Pixels of one chunk. What is done once a pixel, and not once a class, is done on these: the calls on less are so short
# that threads would mostly wait for each other.
CHUNK = 2**16

Place: TypeAlias = tuple[slice | int, ...]


@dataclass(frozen=True)
class Block:
    """Some of the pixels: where they are in an array with its classes in front, and where in the flat order."""

    place: Place
    start: int
    stop: int


@dataclass(frozen=True)
class Chunk:
    """Blocks that follow each other; the work of one thread at a time."""

    start: int
    stop: int
    blocks: tuple[Block, ...]

    @property
    def part(self) -> slice:
        """Where its pixels are in the flat order."""
        return slice(self.start, self.stop)


def classes_first(array: np.ndarray, axis: int) -> np.ndarray:
    """View an array with its class axis in front, and without the other axes of length 1."""
    moved = np.moveaxis(array, axis, 0)
    return moved.reshape(moved.shape[0], *(length for length in moved.shape[1:] if length != 1))


def pixel_shape(*arrays: np.ndarray) -> tuple[int, ...]:
    """
    Give the fewest axes in which the pixels of all arrays, classes first, can be seen without a copy.

    Of NCHW these are (N, H * W), of NHWC one; of a part of an image its rows are left apart.
    """
    shape: list[int] = []
    for axis in range(1, arrays[0].ndim):
        length = arrays[0].shape[axis]
        if shape and all(x.strides[axis - 1] == x.strides[axis] * length for x in arrays):
            shape[-1] *= length
        else:
            shape.append(length)
    return tuple(shape) or (1,)


def chunks(n_classes: int, shape: tuple[int, ...]) -> list[Chunk]:
    """Cut a grid of pixels into chunks of blocks; the same ones whatever the number of threads."""
    per_block = max(1, BLOCK // max(n_classes, 1))
    found: list[Chunk] = []
    waiting: list[Block] = []
    for block in _blocks(shape, min(per_block, CHUNK)):
        if waiting and (block.stop - waiting[0].start > min(CHUNK, 8 * per_block)):
            found.append(_chunk(waiting))
            waiting = []
        waiting.append(block)
    return [*found, _chunk(waiting)] if waiting else found


def _chunk(blocks: list[Block]) -> Chunk:
    return Chunk(blocks[0].start, blocks[-1].stop, tuple(blocks))


def _blocks(shape: tuple[int, ...], largest: int) -> Iterator[Block]:
    """Cut along the last axis whose rows do not fit as a whole."""
    if 0 in shape:
        return
    # Axes behind `cut` are taken whole, those before it one index at a time.
    cut = len(shape)
    while cut > 0 and math.prod(shape[cut - 1 :]) <= largest:
        cut -= 1
    if cut == 0:
        yield Block((slice(None),) * (len(shape) + 1), 0, math.prod(shape))
        return
    axis, row = cut - 1, math.prod(shape[cut:])
    length, step = shape[axis], max(1, largest // row)
    step -= step % 64 if step > 64 else 0
    start = 0
    for index in np.ndindex(*shape[:axis]):
        for first in range(0, length, step):
            last = min(first + step, length)
            stop = start + (last - first) * row
            place = (slice(None), *index, slice(first, last), *(slice(None),) * (len(shape) - cut))
            yield Block(place, start, stop)
            start = stop
