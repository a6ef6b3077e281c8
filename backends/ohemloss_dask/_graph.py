"""The lazy graph of a call: nothing is computed before it is asked for."""

from collections.abc import Callable
from dataclasses import replace
from functools import cached_property, partial
from typing import Any

import dask.array as da
import numpy as np
from dask.utils import funcname

from ohemloss._inputs import Inputs
from ohemloss._options import Options
from ohemloss._rule import mining_quota
from ohemloss_numpy._task import ENGINE

from . import _chunks, _digits, _search

# The axis of what is counted, as Dask indexes it; those of the logits are their own numbers.
_COUNTS = -1
# Along each axis of the grid of chunks: what these have counted is small, and each sum is a task.
_TOGETHER = 8


class Graph:
    """
    One call: the losses by chunk, what is counted of them, and from that the value and the gradient.

    The losses are all that is kept of the logits, which are read once for the value. What chunks have counted is added
    up as the graph says: neither the number of workers nor their order changes a bit.
    """

    def __init__(self, inputs: Inputs, options: Options) -> None:
        axis, ndim = options.axis, inputs.logits.ndim
        self._options = options
        # The selection is not that of a chunk: there the host's path shall do no more than compute the losses.
        self._in_chunks = replace(options, thresh=None, min_kept=0)
        self._dtype = np.dtype(np.float64 if inputs.logits.dtype == np.float64 else np.float32)
        self._cut = mining_quota(ENGINE, options, np.empty(0, self._dtype)).cut
        self._all = tuple(range(ndim))
        self._pixels = tuple(i for i in self._all if i != axis)
        self._logits = inputs.logits.rechunk({axis: -1})
        chunks = [self._logits.chunks[i] for i in self._pixels]
        self._labels = inputs.labels.rechunk(dict(enumerate(chunks)))
        self._weights = (*self._weight(inputs.weight), *self._pixel_weight(inputs.pixel_weight, chunks))

    def value(self) -> da.Array:
        """Give the loss, 0-d."""
        return _blockwise(partial(_chunks.value, dtype=self._dtype), (), self._dtype, self._found, ())

    def gradient(self) -> da.Array:
        """Give the gradient, in the chunks of the logits with all classes together."""
        function = partial(_chunks.gradient, options=self._in_chunks)
        arrays = (self._labels, self._pixels, self._losses, self._pixels, self._found, (), *self._weights)
        return _blockwise(function, self._all, self._logits.dtype, self._logits, self._all, *arrays)

    @cached_property
    def _losses(self) -> da.Array:
        function = partial(_chunks.losses, options=self._in_chunks)
        arrays = (self._logits, self._all, self._labels, self._pixels, *self._weights)
        return _blockwise(function, self._pixels, self._dtype, *arrays)

    @cached_property
    def _found(self) -> da.Array:
        """Give the value, and what was selected: see `Found`."""
        tally = partial(_chunks.tally, cut=self._cut, ignore_index=self._options.ignore_index)
        tallied = self._summed(tally, 3, np.float64, self._labels, self._pixels)
        min_kept: Any = self._options.min_kept  # a number, or the call is not served
        start = partial(_search.start, min_kept=min_kept)
        search = _of_all(start, _search.SEARCH, tallied, (_COUNTS,))
        for shift in _digits.shifts(self._dtype):
            histogram = partial(_chunks.histogram, shift=shift)
            counts = self._summed(histogram, 2**_digits.BITS, np.int64, search, ())
            search = _of_all(partial(_search.narrow, shift=shift), _search.SEARCH, search, (), counts, (_COUNTS,))
        above = self._summed(_chunks.above, 3, np.float64, search, ())
        finish = partial(_search.finish, cut=self._cut, dtype=self._dtype, reduction=self._options.reduction)
        return _of_all(finish, _search.FOUND, search, (), above, (_COUNTS,))

    def _summed(self, function: Callable[..., np.ndarray], n: int, dtype: Any, *others: Any) -> da.Array:
        """Sum over the chunks some numbers that a function gives of the losses of each."""
        one_each = dict.fromkeys(self._pixels, 1)
        out = (*self._pixels, _COUNTS)
        arrays = (self._losses, self._pixels, *others)
        counted = _blockwise(function, out, dtype, *arrays, new_axes={_COUNTS: n}, adjust_chunks=one_each)
        axes = range(len(self._pixels))
        return counted.sum(axis=tuple(axes), split_every=dict.fromkeys(axes, _TOGETHER))

    def _weight(self, weight: da.Array | None) -> tuple[Any, Any]:
        return (None, None) if weight is None else (weight.rechunk(-1), (self._options.axis,))

    def _pixel_weight(self, weight: da.Array | None, chunks: list[tuple[int, ...]]) -> tuple[Any, Any]:
        """Cut what broadcasts to the labels as they are."""
        if weight is None:
            return None, None
        first = len(chunks) - weight.ndim
        cut = {i: chunks[first + i] for i, length in enumerate(weight.shape) if length != 1}
        return weight.rechunk(cut), self._pixels[first:]


def _of_all(function: Callable[..., np.ndarray], dtype: np.dtype, *arrays: Any) -> da.Array:
    """Compute a 0-d array from what is known of the whole batch."""
    return _blockwise(function, (), dtype, *arrays, concatenate=True)


def _blockwise(function: Any, out: tuple[Any, ...], dtype: Any, *arrays: Any, **how: Any) -> da.Array:
    # Given, the meta is not found by a call with empty arrays. The chunks fit each other.
    meta = np.empty((0,) * len(out), dtype)
    token = f"ohem-{funcname(function)}"
    return da.blockwise(function, out, *arrays, dtype=dtype, meta=meta, token=token, align_arrays=False, **how)
