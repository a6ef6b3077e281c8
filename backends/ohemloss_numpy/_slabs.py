"""How labels at another resolution than the logits are cut into chunks, and what each chunk reads of the logits."""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import product
from typing import Any

import numpy as np

from ohemloss._inputs import Inputs
from ohemloss._options import Options
from ohemloss._resize import resized_axes

from ._cells import Axis, Cells, Taps
from ._grid import Chunk
from ._kernels import load, store


@dataclass(frozen=True)
class Slab(Chunk):
    """
    A chunk of whole images, or of a part of one along the first axis that is resized.

    Attributes
    ----------
    images, places : slice
        The images, and the places of the labels along that axis.
    seen : slice
        The places of the logits that these lie between.
    n_before : int
        So many of the first of those the chunk before sees, too.
    n_own : int
        So many of the first of those the chunk behind does not see.
    """

    images: slice
    places: slice
    seen: slice
    n_before: int
    n_own: int


@dataclass(frozen=True)
class Row:
    """The pixels of `group` rows in the order of `cells`, of which `step` make a block."""

    cells: Cells
    group: int
    step: int


@dataclass(frozen=True)
class Small:
    """
    The logits that a chunk sees, and how its pixels lie between them.

    Attributes
    ----------
    logits : numpy.ndarray
        Classes, rows, columns, in the dtype of the loss.
    rows, shares : numpy.ndarray
        For each row of the labels the rows of the logits that it lies between, one, two or four, and their shares.
    row : Row
        The same of the columns.
    """

    logits: np.ndarray
    rows: np.ndarray
    shares: np.ndarray
    row: Row


class Slabs:
    """
    The chunks of one call that resizes.

    Parameters
    ----------
    inputs, options : Inputs, Options
        Of the call.
    dtype : numpy.dtype
        Of the loss.
    per_chunk, per_block : int
        About how many pixels a thread does at a time, and enlarges at a time.
    """

    def __init__(self, inputs: Inputs, options: Options, dtype: np.dtype, per_chunk: int, per_block: int) -> None:
        shape, n_resized = inputs.labels.shape, len(resized_axes(options, inputs.logits.ndim))
        self._dtype, self._per_block, self._class_axis = dtype, per_block, options.axis
        # Always three axes that are resized; the first of these may be missing.
        self._first, self._batch = 3 - n_resized, shape[: len(shape) - n_resized]
        self._logits = self.laid_out(inputs.logits)
        lengths = zip(self._logits.shape[-3:], self._three(shape), strict=True)
        self._axes = [Axis(n_in, n_out, options.align_corners) for n_in, n_out in lengths]
        self.chunks = list(self._cut(per_chunk)) if 0 not in shape else []
        self._whole = self._whole_row()

    def laid_out(self, array: np.ndarray) -> np.ndarray:
        """View an array of the shape of the logits as classes, axes of images, and three axes that are resized."""
        array = np.moveaxis(array, self._class_axis, 0)
        return array.reshape(array.shape[0], *(self._batch or (1,)), *self._three(array.shape))

    def _three(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        return (*(1,) * self._first, *shape[self._first - 3 :])

    def along(self, array: np.ndarray, slab: Slab) -> np.ndarray:
        """View classes, rows and columns that a chunk sees with the places that it is cut along in front."""
        shape = [axis.n_in for axis in self._axes]
        shape[self._first] = slab.seen.stop - slab.seen.start
        n_images = slab.images.stop - slab.images.start
        return np.moveaxis(array.reshape(array.shape[0], n_images, *shape), 2 + self._first, 0)

    def write(self, values: np.ndarray, out: np.ndarray, slab: Slab, start: int) -> None:
        """Write such a view, of some places from one on, to what is laid out."""
        if values.size:
            values = np.moveaxis(values, 0, 2 + self._first)
            rounded = np.empty(values.shape, out.dtype)
            store(values, rounded)
            out[self._place(slab, start, start + values.shape[2 + self._first])] = rounded

    def read(self, slab: Slab) -> Small:
        """Copy what a chunk sees."""
        there = self._logits[self._place(slab, 0, slab.seen.stop - slab.seen.start)]
        logits = np.empty(there.shape, self._dtype)
        load(there, logits)
        n_classes, n_images, depth, height, width = logits.shape
        z, y = self._taps(0, slab), self._taps(1, slab)
        first = (np.arange(n_images) * depth)[:, None, None]
        rows = [((first + i[:, None]) * height + j).reshape(-1) for i, j in product(z.index, y.index)]
        shares = [np.tile(np.outer(a, b).reshape(-1), n_images) for a, b in product(z.shares, y.shares)]
        return Small(
            logits.reshape(n_classes, -1, width),
            np.stack(rows, axis=1).astype(np.int32),
            np.stack(shares, axis=1),
            self._whole or self._row(self._taps(2, slab), len(rows[0])),
        )

    def _place(self, slab: Slab, start: int, stop: int) -> tuple[Any, ...]:
        """Give the index, into what is laid out, of some of the places that a chunk sees."""
        images = np.unravel_index(np.arange(slab.images.start, slab.images.stop), self._batch or (1,))
        axes: list[Any] = [slice(None)] * 3
        axes[self._first] = slice(slab.seen.start + start, slab.seen.start + stop)
        return (slice(None), *images, *axes)

    def _taps(self, number: int, slab: Slab) -> Taps:
        axis = self._axes[number]
        if number != self._first:
            return axis.taps(np.arange(axis.n_out), self._dtype)
        taps = axis.taps(np.arange(slab.places.start, slab.places.stop), self._dtype)
        return Taps(tuple(index - slab.seen.start for index in taps.index), taps.shares)

    def _whole_row(self) -> Row | None:
        """Put the pixels of whole rows in order; None if chunks are parts of rows, each in an order of its own."""
        n_columns = self._axes[2].n_out
        # Of the largest chunk, so that blocks do not depend on which one comes first.
        n_rows = max((slab.stop - slab.start for slab in self.chunks), default=0) // max(n_columns, 1)
        if n_rows == 0 or (self._first == 2 and self.chunks[0].places.stop < n_columns):
            return None
        return self._row(self._taps(2, self.chunks[0]), n_rows)

    def _row(self, taps: Taps, n_rows: int) -> Row:
        """Put the pixels of a row in order, in groups of no more rows than a block or a chunk has."""
        cells = Cells.of(taps, 1)
        per_row, n_cells = cells.below.size, cells.lower.size
        group = max(1, min(self._per_block // per_row, n_rows))
        n_parts = -(-per_row // self._per_block)
        return Row(cells if group == 1 else Cells.of(taps, group), group, -(-group * n_cells // n_parts))

    def _cut(self, per_chunk: int) -> Iterator[Slab]:
        """Cut the labels; the same chunks whatever the number of threads."""
        axis, behind = self._axes[self._first], self._axes[self._first + 1 :]
        per_place = math.prod(each.n_out for each in behind)
        n_images = math.prod(self._batch)
        # Of the labels or, where these are fewer, of the logits.
        cost = max(per_place, math.prod(each.n_in for each in behind) * axis.n_in / axis.n_out)
        step = max(1, int(per_chunk / cost))
        together, n_parts = max(1, step // axis.n_out), -(-axis.n_out // step)
        edges = [axis.n_out * i // n_parts for i in range(n_parts + 1)]
        firsts, lasts = np.array(edges[:-1]), np.array(edges[1:]) - 1
        first_seen, last_seen = axis.taps(firsts, self._dtype).index[0], axis.taps(lasts, self._dtype).index[-1]
        seen = list(zip(first_seen.tolist(), (last_seen + 1).tolist(), strict=True))
        for image in range(0, n_images, together):
            images = slice(image, min(image + together, n_images))
            for i, (first, last) in enumerate(seen):
                before = seen[i - 1][1] if i else 0
                behind_it = seen[i + 1][0] if i + 1 < n_parts else last
                yield Slab(
                    start=(images.start * axis.n_out + edges[i]) * per_place,
                    stop=((images.stop - 1) * axis.n_out + edges[i + 1]) * per_place,
                    blocks=(),
                    images=images,
                    places=slice(edges[i], edges[i + 1]),
                    seen=slice(first, last),
                    n_before=max(0, before - first),
                    n_own=min(behind_it, last) - first,
                )
