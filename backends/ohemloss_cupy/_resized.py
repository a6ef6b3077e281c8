"""One call on logits of another resolution than the labels, interpolated on the way by the kernels of `_resized.cu`."""

import math
from typing import Any

from ohemloss._resize import AXES

from . import _grid
from ._call import Call
from ._launch import BLOCK, CELLS

# A thread of the backward pass walks down some rows of logits: the more, the fewer pixels are seen by two threads. But
# so many threads shall be left as fill the largest device. The bits do not depend on it.
_THREADS, _MOST_ROWS = 2**18, 8


class ResizedCall(Call):
    """A `Call` whose options say how to resize."""

    def backward(self) -> Any:
        """Compute the gradient with respect to the logits as they came, after the loss."""
        self._launch("weigh", max(1, self._n_tiles))
        if self._n_threads:
            self._launch("backward_resized", -(-self._n_threads // BLOCK))
        return self._xp.moveaxis(self._arrays["gradient"], self._class_axis, self._options.axis)

    def _resized_axes(self) -> int:
        rows, columns = (n_in != n_out for n_in, n_out in self._sides())
        return 2 * rows + columns

    def _forward_kernel(self) -> str:
        return "forward_resized"

    def _keeps_nlls(self) -> bool:
        return "gradient" in self._arrays

    def _make_room(self) -> None:
        super()._make_room()
        if "gradient" in self._arrays:
            self._give(shifts=self._xp.empty(self._inputs.labels.size, self._dtype))

    def _give_pixels(self, *, differentiate: bool) -> None:
        xp, axis, shape = self._xp, self._options.axis, self._inputs.labels.shape
        n_axes, self._class_axis, self._lanes = AXES[self._options.resize], axis, 1
        arrays = self._pixel_arrays(self._inputs.logits, differentiate=differentiate)
        steps = _grid.images(shape, axis, n_axes, arrays)
        if steps is None:  # images along several axes, or numbers between numbers
            self._class_axis = 0
            logits = xp.ascontiguousarray(xp.moveaxis(self._inputs.logits, axis, 0))
            arrays = self._pixel_arrays(logits, differentiate=differentiate)
            arrays = {name: xp.ascontiguousarray(array) for name, array in arrays.items()}
            steps = _grid.images(shape, 0, n_axes, arrays)
            assert steps is not None
        rows, columns = self._sides()
        n_images = math.prod(shape[:-n_axes])
        self._give_grid(arrays, (n_images, rows[1], columns[1]), steps)
        self._task["n_images"] = n_images
        self._task["axes"] = [_axis(*side, align_corners=self._options.align_corners) for side in (rows, columns)]
        self._share_out(n_images, rows[0], columns[0])

    def _share_out(self, n_images: int, n_rows: int, n_columns: int) -> None:
        """Say how many threads the backward pass has, and how many rows of logits each of them."""
        in_a_row = n_images * -(-n_columns // CELLS) * int(self._task["n_classes"][0])
        strip = min(max(1, in_a_row * n_rows // _THREADS), _MOST_ROWS)
        self._task["strip"] = strip
        self._n_threads = in_a_row * -(-n_rows // strip)

    def _sides(self) -> list[tuple[int, int]]:
        """Give the lengths of the logits and of the labels, along the rows and along the columns."""
        n_axes, axis, shape = AXES[self._options.resize], self._options.axis, self._inputs.logits.shape
        small = shape[:axis] + shape[axis + 1 :]
        sides = zip(small[-n_axes:], self._inputs.labels.shape[-n_axes:], strict=True)
        return [(1, 1)] * (2 - n_axes) + list(sides)


def _axis(n_in: int, n_out: int, *, align_corners: bool) -> tuple[int, int, int, int, int]:
    """Say in integers where the pixels of an axis lie among its logits, as the struct of the kernels does."""
    if align_corners:
        return n_in, n_out, 0, n_in - 1, max(n_out - 1, 1)
    # The middle of a pixel is half a pixel from its border: (i + 1/2) n_in / n_out - 1/2.
    return n_in, n_out, n_in - n_out, 2 * n_in, 2 * n_out
