"""What NumPy does to interpolate a block of labels, and to bring its gradient back."""

import itertools
from dataclasses import dataclass

import numpy as np

from ._grid import Block
from ._kernels import Scratch
from ._slabs import Small


@dataclass(frozen=True)
class Span(Block):
    """A block of cells: numbers `begin` to `end` of those that begin with row `first` of a chunk."""

    first: int
    begin: int
    end: int


def orders(small: Small, block: Span) -> tuple[np.ndarray, np.ndarray]:
    """Give which pixel is computed where in a block; and, for each pixel, where that is."""
    cells, begin, end = small.row.cells, block.begin, block.end
    first, last = cells.starts[begin], cells.starts[end]
    order = (cells.column[:, begin:end] - first).reshape(-1)
    return order, cells.phase[first:last] * (end - begin) + cells.position[first:last] - begin


def enlarge(small: Small, block: Span, scratch: Scratch) -> np.ndarray:
    """Interpolate a block: classes, and its pixels in the order of its cells."""
    rows, here = _rows_and_cells(small, block)
    # One call for all that is added up: a product and a sum for each tap and each phase take twice as long.
    between = np.einsum("crtw,rt->crw", small.logits[:, small.rows[rows]], small.shares[rows])
    sides = np.stack([between.take(side[here], axis=2) for side in _sides(small)])
    shares = _shares(small, block)
    n_classes, (_, n_phases, n) = len(between), shares.shape
    out = scratch.named("enlarged", n_classes * n_phases * n).reshape(n_classes, n_phases, n)
    np.einsum("scn,spn->cpn", sides.reshape(len(sides), n_classes, n), shares, out=out)
    return out.reshape(n_classes, -1)


def shrink(made: np.ndarray, small: Small, block: Span, out: np.ndarray) -> None:
    """Add the gradient of a block to `out`: sides of cells, classes, rows of the logits, cells of a row."""
    rows, here = _rows_and_cells(small, block)
    shares = _shares(small, block)
    found = np.einsum("cpn,spn->scn", made.reshape(len(made), *shares.shape[1:]), shares)
    found = found.reshape(*found.shape[:2], rows.stop - rows.start, -1)
    for index, share in zip(small.rows[rows].T, small.shares[rows].T, strict=True):
        # Up, several rows of the labels that follow each other add to the same one.
        edges = [0, *(np.flatnonzero(np.diff(index)) + 1).tolist(), index.size]
        for first, last in itertools.pairwise(edges):
            out[:, :, index[first], here] += np.einsum("scrk,r->sck", found[:, :, first:last], share[first:last])


def room(small: Small) -> np.ndarray:
    """Give zeros, to which `shrink` adds."""
    n_classes, n_rows, _ = small.logits.shape
    return np.zeros((len(_sides(small)), n_classes, n_rows, small.row.cells.lower.size), small.logits.dtype)


def to_columns(found: np.ndarray, small: Small, out: np.ndarray) -> None:
    """Add what both sides of each cell have found to the logits: with `shrink` the transpose of `enlarge`."""
    for side, values in zip(_sides(small), found, strict=True):
        columns, firsts = np.unique(side, return_index=True)
        # The last one is nothing. Sums are fetched for all columns, which is faster than to put them where they belong.
        sums = np.zeros((*out.shape[:2], columns.size + 1), out.dtype)
        np.add.reduceat(values, firsts, axis=2, out=sums[:, :, :-1])
        places = np.full(out.shape[2], columns.size)
        places[columns] = np.arange(columns.size)
        out += sums.take(places, axis=2)


def _sides(small: Small) -> list[np.ndarray]:
    """List the columns on each side of the cells of a row; on one side alone if nothing is interpolated."""
    return [side for side in (small.row.cells.lower, small.row.cells.upper) if side.size]


def _shares(small: Small, block: Span) -> np.ndarray:
    """Give the shares of these sides in the pixels of a block."""
    shares = (small.row.cells.below, small.row.cells.above)[: len(_sides(small))]
    return np.stack([share[:, block.begin : block.end] for share in shares])


def _rows_and_cells(small: Small, block: Span) -> tuple[slice, slice]:
    """Say which rows of the labels a block has, and which cells of each."""
    n_cells = small.row.cells.lower.size
    return slice(block.first, block.first - (-block.end // n_cells)), slice(block.begin, min(block.end, n_cells))
