"""Plain tensors on a CUDA device whose logits are resized to their labels: the usual mining in kernels of its own."""

import functools
import math
from dataclasses import dataclass, replace
from types import ModuleType
from typing import Any

import torch

from ohemloss._engine import Engine
from ohemloss._inputs import Inputs
from ohemloss._layout import lay_out
from ohemloss._options import Options
from ohemloss._resize import AXES, resized_axes

from ._cuda import Device, contiguous, is_resized, kernels_of
from ._search import LAUNCH, WARPS

# The columns of labels that a block takes at a time, one in each thread, and at most so many of its rows.
_COLUMNS, _ROWS = 32 * WARPS, 8
# Of the backward pass, too: as many logits of a row are added up together, if only to keep all threads busy.
_LEAST_CELLS = 4
# At most so many classes and rows of cells of a block of the backward pass: with more classes a thread would run out of
# registers; with fewer rows more of the labels would be looked at twice, and with more there would be too few blocks.
_CLASSES, _TALL = 8, 8


@dataclass(frozen=True)
class Axis:
    """
    An axis of the pixels: place i of the labels is at ``max(i * scale + offset, 0) / unit`` among the logits.

    See `ohemloss._resize.Taps`.
    """

    n_logits: int
    n_labels: int
    align_corners: bool

    @property
    def is_resized(self) -> bool:
        """Tell whether a place lies between two logits: else it is one of them."""
        return self.n_logits != self.n_labels

    @property
    def places(self) -> tuple[int, int, int]:
        """Give scale, offset and unit."""
        if self.align_corners:
            return self.n_logits - 1, 0, max(self.n_labels - 1, 1)
        return 2 * self.n_logits, self.n_logits - self.n_labels, 2 * self.n_labels

    @property
    def longest(self) -> int:
        """Give the most places of labels between two neighbours among the logits."""
        scale, _, unit = self.places
        return math.ceil(unit / scale) if scale else self.n_labels

    @property
    def n_wide(self) -> int:
        """Give how many cells a block of columns has: their neighbours on both sides reach over one cell more."""
        scale, _, unit = self.places
        if not self.is_resized:
            return _COLUMNS
        n = max(1, min(_COLUMNS, _COLUMNS * scale // unit - 1))
        round_number = 1 << (n.bit_length() - 1)
        return round_number if 4 * n < 5 * round_number else n  # the block has room for the next power of two

    @property
    def n_tall(self) -> int:
        """Give how many rows of them a block has: one if it has no room for all columns that look at a cell."""
        scale, _, unit = self.places
        # Of one cell: the second of an axis has the margin before the first for a neighbour, too, half a gap.
        half_gaps = 2 * (self.n_wide + 1) + (self.n_wide == 1)
        reached = math.ceil(half_gaps * unit / (2 * scale)) if scale else self.n_labels
        return _TALL if min(reached, self.n_labels) <= _COLUMNS else 1

    @property
    def largest(self) -> int:
        """Give a bound for what is computed to find places, also those of blocks that reach beyond the axis."""
        scale, _, unit = self.places
        return (self.n_labels + _COLUMNS) * scale + (self.n_logits + _COLUMNS) * unit


class Resized(Device):
    """One call; see `ohemloss_torch._cuda.Device`. `resized` is `_resized_kernels`."""

    def __init__(self, engine: Engine, inputs: Inputs, options: Options, kernels: Any, resized: Any) -> None:
        self._resized = resized
        axes = resized_axes(options, inputs.logits.ndim)
        small, large = [inputs.logits.shape[i] for i in axes], inputs.labels.shape[-len(axes) :]
        pairs = [(1, 1), *zip(small, large, strict=True)][-2:]  # a line is an image of one row
        self._rows, self._columns = (Axis(n, m, options.align_corners) for n, m in pairs)
        self._n_axes, self._n_images = len(axes), math.prod(inputs.labels.shape[: -len(axes)])
        super().__init__(engine, inputs, options, kernels)

    def _of(self, inputs: Inputs) -> Device:
        return Resized(self._engine, inputs, self._options, self._kernels, self._resized)

    @property
    def _n_norms(self) -> int:
        return 2

    def _start_forward(self, cut: torch.Tensor, *outputs: torch.Tensor | None) -> None:
        self._resized.forward_resized[(self._n_blocks,)](
            *self._arrays(), cut, *outputs, *self._numbers(self._grid), **self._flags(), **self._tile
        )

    def _start_backward(self, found: Any, gradient: torch.Tensor, numbers: tuple[int, ...]) -> None:
        if not self._n_pixels:
            gradient.zero_()
            return
        columns, n_classes = self._columns, gradient.shape[self._options.axis]
        block, cells = min(_power_of_2(n_classes), _CLASSES), max(_power_of_2(columns.n_wide), _LEAST_CELLS)
        # No more are added up at a time than there are threads: with two for each, registers run short.
        tile = self._tile | {
            "BLOCK_C": block,
            "CELLS": cells,
            "K": min(_power_of_2(columns.longest), _COLUMNS // cells),
        }
        sides = ((n_classes, block), (self._rows.n_logits, columns.n_tall), (columns.n_logits, columns.n_wide))
        n_blocks = self._n_images * math.prod(math.ceil(n / each) for n, each in sides)
        self._resized.backward_resized[(n_blocks,)](
            *self._arrays(), *found, gradient, *numbers, **self._flags(), **tile
        )

    def _copy(self, inputs: Inputs) -> Inputs:
        """Lay inputs out so that one stride leads from image to image: the classes lie within each."""
        axis, last = self._options.axis, -1 - self._n_axes
        logits = inputs.logits.movedim(axis, last).contiguous().movedim(last, axis)
        return replace(contiguous(inputs), logits=logits)

    def _lay_out(self, inputs: Inputs, *gradient: torch.Tensor) -> Any:
        """Give the strides of images, rows and columns of each array; None if those of images are not all alike."""
        shape, axis, weights = inputs.labels.shape, self._options.axis, inputs.pixel_weight
        if not inputs.labels.numel():
            return [(0, 0, 0)] * (3 + len(gradient))
        x, *g = ([step for i, step in enumerate(each.stride()) if i != axis] for each in (inputs.logits, *gradient))
        u = [0] * len(shape) if weights is None else weights.expand(shape).stride()
        steps = [[*each] for each in (x, inputs.labels.stride(), u, *g)]
        found = lay_out(shape[: -self._n_axes], *(each[: -self._n_axes] for each in steps))
        if found is None or found[0][:2] != (1, 1):
            return None
        return [(image, *[0, *each][-2:]) for (_, _, image), each in zip(found[1], steps, strict=True)]

    def _numbers(self, grid: Any, *gradient: torch.Tensor) -> tuple[int, ...]:
        """Give sizes and strides in the order in which the kernels take them."""
        logits, axis, axes = self._inputs.logits, self._options.axis, (self._rows, self._columns)
        x, y, u, *g = grid
        sizes = (*(each.n_logits for each in axes), *(each.n_labels for each in axes))
        places = (*self._rows.places, *self._columns.places)
        blocks = (self._columns.n_tall, self._columns.n_wide) if gradient else ()
        of_gradient = (*g[0], gradient[0].stride(axis)) if gradient else ()
        strides = (*x, logits.stride(axis), *y, *u, *of_gradient)
        return (logits.shape[axis], self._n_pixels, *sizes, *places, *blocks, *strides, self._ignored or 0)

    def _size(self) -> tuple[dict[str, Any], int]:
        """Say what the kernels are compiled for, and how many blocks the forward pass has."""
        axes = (self._rows, self._columns)
        tile = {
            "TALL": self._rows.is_resized,
            "WIDE": self._columns.is_resized,
            "LARGE": max(each.largest for each in axes) >= 2**31,
            "ROWS": min(_power_of_2(self._rows.longest), _ROWS),
            "COLUMNS": _COLUMNS,
            **LAUNCH,
        }
        return tile, self._n_images * self._rows.n_logits * math.ceil(self._columns.n_labels / _COLUMNS)


def resized_of(engine: Engine, inputs: Inputs, options: Options, *others: torch.Tensor) -> Resized | None:
    """Give the call on its device as `device_of` does; None if the sizes are equal, or the kernels are not for it."""
    if not is_resized(inputs, options) or AXES[str(options.resize)] > 2:
        return None
    kernels, resized = kernels_of(inputs, options, *others), _kernels()
    return None if kernels is None or resized is None else Resized(engine, inputs, options, kernels, resized)


def _power_of_2(n: int) -> int:
    """Round up."""
    return 1 << max(n - 1, 0).bit_length()


@functools.cache
def _kernels() -> ModuleType | None:
    try:
        import triton.language

        from . import _resized_kernels
    except ImportError:
        return None
    return _resized_kernels if hasattr(triton.language, "gather") else None  # new in Triton 3.3
