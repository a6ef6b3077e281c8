"""From arrays of any layout and dtype to what the fused kernels take: float32 in rows, whose pixels are neighbours."""

import functools
import math
from types import ModuleType
from typing import Any, NamedTuple, Self

import numpy as np

from ohemloss._labels import ignored_label

from . import _quick
from ._grid import Chunk, chunks
from ._kernels import Scratch
from ._task import Kept, Task

# Fewer logits are done before the machine code would be ready.
FROM = 2**16
# Logits of a chunk that is read where it lies: so many that the call itself costs nothing beside it.
_CHUNK = 2**19

_NO_WEIGHTS = np.empty(0, np.float32)


class _Rows(NamedTuple):
    """Flat memory: how far images, classes and pixels are from each other, and how many pixels a row has."""

    memory: np.ndarray
    image: int
    row: int
    length: int


class Machine:
    """The worker of the usual options, in machine code."""

    def __init__(self, task: Task, fused: ModuleType) -> None:
        self._task, self._fused = task, fused
        weight = np.ones(task.n_classes, np.float32) if task.weight is None else np.ascontiguousarray(task.weight)
        ignored = ignored_label(task.options.ignore_index, np.iinfo(task.labels.dtype))
        self._about_labels = (ignored or 0, ignored is not None, _readonly(weight))

    @classmethod
    def of(cls, task: Task) -> Self | None:
        """Give the worker if it knows the options, and the call is large enough to wait for the code once."""
        if task.n_logits < FROM or task.dtype != np.float32 or task.options.label_smoothing:
            return None
        fused = _fused() if _quick.serves(task) else None
        return None if fused is None else cls(task, fused)

    def pieces(self, *arrays: np.ndarray) -> list[Chunk]:
        """Cut arrays, classes first, into what a thread does at a time."""
        shape, n_classes = arrays[0].shape[1:], self._task.n_classes
        if not all(map(_lies_in_rows, arrays)):
            return chunks(n_classes, shape)
        n_pixels, step = math.prod(shape), self._per_chunk()
        return [Chunk(start, min(start + step, n_pixels), ()) for start in range(0, n_pixels, step)]

    def look(
        self, logits: np.ndarray, chunk: Chunk, scratch: Scratch, losses: np.ndarray, scores: np.ndarray, cut: float
    ) -> _quick.Tally:
        """Write the losses of a chunk, and count it."""
        if not chunk.blocks:
            rows = _rows(logits)
            return self._forward(_readonly(rows.memory), *rows[1:], chunk.start, chunk.part, cut, losses)
        found = _quick.NOTHING
        for block in chunk.blocks:
            memory = self._copied(logits[block.place], scratch)
            n = block.stop - block.start
            found += self._forward(_readonly(memory), 0, n, n, 0, slice(block.start, block.stop), cut, losses)
        return found

    def write_gradient(
        self,
        logits: np.ndarray,
        chunk: Chunk,
        scratch: Scratch,
        kept: Kept,
        cotangent: np.ndarray,
        out: np.ndarray,
        *,
        is_zero: bool,
    ) -> None:
        """Write the gradient of a chunk to `out`, which may be known to hold zeros."""
        if not chunk.blocks:
            rows, target = _rows(logits), _rows(out)[:3]
            self._backward(
                _readonly(rows.memory), *rows[1:], chunk.start, chunk.part, kept, cotangent, *target, is_zero
            )
        for block in chunk.blocks:
            memory = self._copied(logits[block.place], scratch)
            n, part, made = block.stop - block.start, slice(block.start, block.stop), np.empty(memory.size, np.float32)
            self._backward(_readonly(memory), 0, n, n, 0, part, kept, cotangent, made, 0, n, False)
            self._copy_back(made, out[block.place])

    def _per_chunk(self) -> int:
        return max(1, _CHUNK // self._task.n_classes)

    def _forward(
        self, memory: np.ndarray, image: int, row: int, length: int, start: int, part: slice, cut: float, losses: Any
    ) -> _quick.Tally:
        about = (image, row, length, start, self._task.n_classes, *self._pixels(part))
        return _quick.Tally(*self._fused.forward(memory, *about, np.float32(cut), losses[part]))

    def _backward(
        self,
        memory: np.ndarray,
        image: int,
        row: int,
        length: int,
        start: int,
        part: slice,
        kept: Kept,
        cotangent: np.ndarray,
        *target: Any,
    ) -> None:
        about = (image, row, length, start, self._task.n_classes, *self._pixels(part))
        self._fused.backward(memory, *about, *self._selection(part, kept, cotangent), *target)

    def _selection(self, part: slice, kept: Kept, cotangent: np.ndarray) -> tuple[Any, ...]:
        share = cotangent / kept.divisor if self._task.options.reduction == "mean" else cotangent
        numbers = (np.float32(number) for number in (kept.cut.value, kept.cut.tie_weight, share))
        return kept.scores.reshape(-1)[part], *numbers

    def _pixels(self, part: slice) -> tuple[Any, ...]:
        weights = _NO_WEIGHTS
        if self._task.pixel_weight is not None:
            weights = np.ascontiguousarray(self._task.pixel_weight[part], np.float32)
        labels = np.ascontiguousarray(self._task.labels[part], np.int64)
        return _readonly(labels), *self._about_labels, _readonly(weights)

    def _copied(self, block: np.ndarray, scratch: Scratch) -> np.ndarray:
        """Copy a block to flat float32, class after class."""
        memory = scratch.like(block)
        if block.itemsize == 2:
            n_classes = block.shape[0]
            bits = _readonly(block.reshape(n_classes, -1).view(np.uint16))
            self._fused.widen(bits, block.dtype == np.uint16, memory.reshape(n_classes, -1))
        else:
            np.copyto(memory.reshape(block.shape), block)
        return memory

    def _copy_back(self, made: np.ndarray, out: np.ndarray) -> None:
        if out.itemsize == 2:
            bits = np.empty((out.shape[0], made.size // out.shape[0]), np.uint16)
            self._fused.narrow(made.reshape(bits.shape), out.dtype == np.uint16, bits)
            out[...] = bits.view(out.dtype).reshape(out.shape)
        else:
            out[...] = made.reshape(out.shape)


@functools.cache
def _fused() -> ModuleType | None:
    try:
        import numba

        from . import _fused
    except ImportError:
        return None
    return None if numba.config.DISABLE_JIT else _fused


def _lies_in_rows(array: np.ndarray) -> bool:
    """Tell whether an array, classes first, can be read as rows of pixels that are neighbours."""
    item = array.itemsize
    aligned = array.dtype == np.float32 and all(stride >= 0 and stride % item == 0 for stride in array.strides)
    return aligned and array.ndim <= 3 and array.strides[-1] == item


def _rows(array: np.ndarray) -> _Rows:
    """View such an array as flat memory."""
    steps = [stride // array.itemsize for stride in array.strides]
    size = 1 + sum(step * (length - 1) for step, length in zip(steps, array.shape, strict=True))
    memory = np.lib.stride_tricks.as_strided(array, (size,), (array.itemsize,))
    return _Rows(memory, steps[1] if array.ndim == 3 else 0, steps[0], array.shape[-1])


def _readonly(array: np.ndarray) -> np.ndarray:
    """View an array as one that nobody writes to: machine code is made for each kind of argument."""
    view = array.view()
    view.flags.writeable = False
    return view
