"""The two workers for logits that are resized: interpolated block by block, and the gradient brought back."""

from collections.abc import Iterator
from types import ModuleType
from typing import Any

import numpy as np

from . import _grid, _kernels, _quick
from ._blocks import Blocks, Nlls
from ._grid import Chunk
from ._interpolate import Span, enlarge, orders, room, shrink, to_columns
from ._kernels import Factors, Scratch
from ._machine import Machine
from ._slabs import Small
from ._task import Kept, Task

# Of a block in machine code: pixels, whose numbers fit the first-level cache, and logits, which fit the second.
_PIXELS, _LOGITS = 2**10, 2**18


class ResizedBlocks(Blocks):
    """The worker that knows every option."""

    def sizes(self) -> tuple[np.dtype, int, int]:
        """Give the dtype of the loss, and how many pixels a chunk and a block should have."""
        per_block = max(1, _grid.BLOCK // self._task.n_classes)
        return self._task.dtype, min(_grid.CHUNK, 8 * per_block), per_block

    def write_gradient(
        self,
        logits: Any,
        chunk: Chunk,
        scratch: Scratch,
        kept: Kept,
        cotangent: np.ndarray,
        out: np.ndarray,
        *,
        is_zero: bool,
    ) -> None:
        """Add the gradient of a chunk to `out`."""
        found = room(logits)
        super().write_gradient(logits, chunk, scratch, kept, cotangent, found, is_zero=is_zero)
        to_columns(found, logits, out)

    def _blocks(self, logits: Small, chunk: Chunk) -> Iterator[Span]:
        row, n_rows = logits.row, len(logits.rows)
        starts, n_cells = row.cells.starts, row.cells.lower.size
        for first in range(0, n_rows, row.group):
            n = min(row.group, n_rows - first) * n_cells
            before = chunk.start + first * int(starts[n_cells])
            for begin in range(0, n, row.step):
                end = min(begin + row.step, n)
                yield Span((), before + int(starts[begin]), before + int(starts[end]), first, begin, end)

    def _losses(self, logits: Small, block: Any, index: np.ndarray, scratch: Scratch) -> Nlls:
        order, slots = orders(logits, block)
        enlarged = enlarge(logits, block, scratch)
        nll, of_classes = _kernels.losses(enlarged, index[order], scratch, self._smoothing)
        return nll[slots], None if of_classes is None else of_classes[slots]

    def _write(
        self,
        logits: Small,
        block: Any,
        index: np.ndarray,
        factors: Factors,
        scratch: Scratch,
        out: np.ndarray,
        *,
        is_zero: bool,
    ) -> None:
        if not factors.selected.any():
            return
        order, slots = orders(logits, block)
        enlarged = enlarge(logits, block, scratch)
        made = scratch.named("gradient", enlarged.size).reshape(enlarged.shape)
        about = index[order], _in_order(factors, slots, order.size)
        _kernels.write_gradient(enlarged, *about, scratch, self._smoothing, made, is_zero=False)
        # What is not finite makes NaN of all classes, as in the composite.
        bad = ~np.isfinite(np.add.reduce(made, axis=0))
        if bad.any():
            made[:, bad] = np.nan
        shrink(made, logits, block, out)


class ResizedMachine(Machine):
    """The worker of the usual options, in machine code."""

    def __init__(self, task: Task, fused: ModuleType) -> None:
        super().__init__(task, fused)
        from . import _fused_resized

        self._resized: Any = _fused_resized

    def sizes(self) -> tuple[np.dtype, int, int]:
        """Give the same for machine code, whose blocks are smaller."""
        n_classes = self._task.n_classes
        return self._task.dtype, self._per_chunk(), max(1, min(_PIXELS, _LOGITS // n_classes))

    def look(
        self, logits: Any, chunk: Chunk, scratch: Scratch, losses: np.ndarray, scores: np.ndarray, cut: float
    ) -> _quick.Tally:
        """Write the losses of a chunk, and count it."""
        about = (*_about(logits), *self._pixels(chunk.part))
        return _quick.Tally(*self._resized.forward(*about, np.float32(cut), losses[chunk.part]))

    def write_gradient(
        self,
        logits: Any,
        chunk: Chunk,
        scratch: Scratch,
        kept: Kept,
        cotangent: np.ndarray,
        out: np.ndarray,
        *,
        is_zero: bool,
    ) -> None:
        """Add the gradient of a chunk to `out`."""
        about = (*_about(logits), *self._pixels(chunk.part))
        self._resized.backward(*about, *self._selection(chunk.part, kept, cotangent), out)


def _about(small: Small) -> tuple[Any, ...]:
    """List what machine code is told of the logits of a chunk."""
    cells = small.row.cells
    of_cells = (cells.lower, cells.upper, cells.below, cells.above, cells.column, cells.phase, cells.position)
    return (small.logits, small.rows, small.shares, *of_cells, cells.starts, small.row.group, small.row.step)


def _in_order(factors: Factors, slots: np.ndarray, n: int) -> Factors:
    """Put the factors of pixels where these are computed, and zeros where none is."""

    def put(numbers: np.ndarray) -> np.ndarray:
        out = np.zeros(n, numbers.dtype)
        out[slots] = numbers
        return out

    of_softmax = put(factors.of_softmax)
    of_label = of_softmax if factors.of_label is factors.of_softmax else put(factors.of_label)
    return Factors(
        put(factors.selected), of_softmax, of_label, None if factors.of_classes is None else put(factors.of_classes)
    )
