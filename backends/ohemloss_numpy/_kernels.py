"""
The two kernels: the losses of the pixels of a block, and their gradient.

Blocks have their classes first. They are shifted by the logit of the label, not by the largest one: the sum of
``exp(x_c - x_y)`` is the exponential of the loss itself, which saves a pass over the block. It overflows only if a loss
is above 88 or a logit is not finite; the block is then done again, shifted by the largest.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np

# Where fewer pixels of a block have a gradient, they are taken out, and the rest is filled with 0.
_SPARSE = 0.4
# From so many classes on, those that came next to each other stay so.
_MANY = 64
# Up to so many classes a gradient is put back class by class, which is faster than an index into all.
_FEW = 64


@dataclass(frozen=True)
class Smoothing:
    """What label smoothing averages over: the weight of each class, and the sum of them."""

    weight: np.ndarray
    weight_sum: float


@dataclass(frozen=True)
class Factors:
    """
    What the gradient of each pixel is made of: ``softmax * of_softmax - [c = y] * of_label - w_c * of_classes``.

    Without label smoothing `of_label` is `of_softmax`, and `of_classes` None. All are 0 where not `selected`.
    """

    selected: np.ndarray
    of_softmax: np.ndarray
    of_label: np.ndarray
    of_classes: np.ndarray | None

    def at(self, pixels: Any) -> "Factors":
        """Give those of some pixels."""
        of_softmax = self.of_softmax[pixels]
        of_label = of_softmax if self.of_label is self.of_softmax else self.of_label[pixels]
        of_classes = None if self.of_classes is None else self.of_classes[pixels]
        return Factors(self.selected[pixels], of_softmax, of_label, of_classes)


class Scratch:
    """The memory of one thread, used again for each block."""

    def __init__(self, dtype: Any) -> None:
        self._dtype = dtype
        self._memory: dict[str, np.ndarray] = {}
        self._numbers = np.arange(0)

    def like(self, block: np.ndarray) -> np.ndarray:
        """Give flat memory for a block."""
        return self.named("block", block.size)

    def named(self, name: str, size: int) -> np.ndarray:
        """Give flat memory of a name, with anything in it."""
        memory = self._memory.get(name)
        if memory is None or memory.size < size:
            memory = self._memory[name] = np.empty(size, self._dtype)
        return memory[:size]

    def numbers(self, n: int) -> np.ndarray:
        """Count from 0 to n - 1."""
        if self._numbers.size < n:
            self._numbers = np.arange(n)
        return self._numbers[:n]


class _Shifted:
    """A block in the dtype of the loss, shifted for each pixel by one of its logits."""

    def __init__(self, block: np.ndarray, index: np.ndarray, scratch: Scratch, *, by_largest: bool = False) -> None:
        n_classes, *pixels = block.shape
        self._flat, numbers = scratch.like(block), scratch.numbers(index.size)
        if n_classes >= _MANY and all(abs(block.strides[0]) < abs(stride) for stride in block.strides[1:]):
            self.values = np.moveaxis(self._flat.reshape(*pixels, n_classes), -1, 0)
            self._label_place = numbers * n_classes + index
        else:
            self.values = self._flat.reshape(block.shape)
            self._label_place = index * index.size + numbers
        load(block, self.values)
        shift = np.maximum.reduce(self.values, axis=0) if by_largest else self.along(self._label_entries())
        np.subtract(self.values, shift, out=self.values)
        self.at_label = self._label_entries() if by_largest else self._flat.dtype.type(0)

    def along(self, pixels: np.ndarray) -> np.ndarray:
        """Lay numbers, one a pixel, along the pixels of the block."""
        return pixels.reshape(self.values.shape[1:])

    def weighted_sums(self, weight: np.ndarray) -> np.ndarray:
        """Sum over the classes, each with its weight; one of weight 0 may hold infinities."""
        live = np.flatnonzero(weight)
        values = self.values if live.size == weight.size else self.values[live]
        return np.einsum("c,c...->...", weight[live], values).reshape(-1)

    def exp_sums(self) -> np.ndarray:
        """Replace the values by their exponentials, and sum those over the classes."""
        np.exp(self.values, out=self.values)
        return np.add.reduce(self.values, axis=0).reshape(-1)

    def set_label_entries(self, entries: np.ndarray) -> None:
        """Replace the entry of the label of each pixel."""
        self._flat[self._label_place] = entries

    def _label_entries(self) -> np.ndarray:
        return np.take(self._flat, self._label_place, mode="clip")


def losses(
    block: np.ndarray, index: np.ndarray, scratch: Scratch, smoothing: Smoothing | None
) -> tuple[np.ndarray, np.ndarray | None]:
    """Give minus the logarithm of the softmax, of the label and, with label smoothing, summed over weighted classes."""
    for by_largest in (False, True):
        shifted = _Shifted(block, index, scratch, by_largest=by_largest)
        weighted = None if smoothing is None else shifted.weighted_sums(smoothing.weight)
        log_sums = np.log(shifted.exp_sums())
        if _all_below(log_sums, np.inf):
            break
    of_classes = None if smoothing is None else smoothing.weight_sum * log_sums - weighted
    return log_sums - shifted.at_label if by_largest else log_sums, of_classes


def write_gradient(
    block: np.ndarray,
    index: np.ndarray,
    factors: Factors,
    scratch: Scratch,
    smoothing: Smoothing | None,
    out: np.ndarray,
    *,
    is_zero: bool,
) -> None:
    """Write the gradient of a block to `out`, which may be known to hold zeros."""
    n_selected = np.count_nonzero(factors.selected)
    if n_selected >= _SPARSE * index.size and _write_all(block, index, factors, scratch, smoothing, out):
        return
    if not is_zero:
        out[...] = 0
    if not n_selected:
        return
    pixels = np.flatnonzero(factors.selected)
    some = block.reshape(block.shape[0], -1)[:, pixels]
    found = np.empty(some.shape, out.dtype)
    if not _write_all(some, index[pixels], factors.at(pixels), scratch, smoothing, found):
        _write_all(some, index[pixels], factors.at(pixels), scratch, smoothing, found, by_largest=True)
    _put(out, pixels, found)


def _write_all(
    block: np.ndarray,
    index: np.ndarray,
    factors: Factors,
    scratch: Scratch,
    smoothing: Smoothing | None,
    out: np.ndarray,
    *,
    by_largest: bool = False,
) -> bool:
    """Write the gradient of each pixel, selected or not; shifted by the label, give up where a logit is too large."""
    shifted = _Shifted(block, index, scratch, by_largest=by_largest)
    sums = shifted.exp_sums()
    # What is divided by a sum should stay a normal number.
    if not by_largest and not _all_below(sums, float(np.finfo(sums.dtype).max) ** 0.7):
        return False
    scale = factors.of_softmax / sums
    if smoothing is None:
        # (e_y / s - 1) * f as (e_y - s) * (f / s)
        shifted.set_label_entries(np.exp(shifted.at_label) - sums)
    else:
        entries = np.exp(shifted.at_label) * scale - factors.of_label
        np.multiply(shifted.values, shifted.along(scale), out=shifted.values)
        shifted.set_label_entries(entries)
        for values, weight in zip(shifted.values, smoothing.weight, strict=True):
            values -= shifted.along(weight * factors.of_classes)
        scale = np.ones_like(scale)
    if out.dtype == np.uint16:
        np.multiply(shifted.values, shifted.along(scale), out=shifted.values)
        store(shifted.values, out)
    else:
        np.multiply(shifted.values, shifted.along(scale), out=out, casting="same_kind")
    return True


def _all_below(numbers: np.ndarray, limit: float) -> bool:
    return bool(numbers.max(initial=0) < limit)  # one pass; NaN is not below anything


def load(block: np.ndarray, out: np.ndarray) -> None:
    """Copy logits in the dtype of the loss."""
    if block.dtype == np.uint16:
        # The bits of bfloat16, of which NumPy knows nothing: the upper half of a float32.
        np.left_shift(block, 16, out=out.view(np.uint32), dtype=np.uint32)
    else:
        np.copyto(out, block)


def store(values: np.ndarray, out: np.ndarray) -> None:
    """Copy a gradient in the dtype of the logits."""
    if out.dtype != np.uint16:
        np.copyto(out, values, casting="same_kind")
        return
    bits = values.view(np.uint32)
    # Round to nearest, ties to even; a NaN must not become infinite by it.
    rounded = (bits + 0x7FFF + ((bits >> 16) & 1)) >> 16
    np.copyto(out, np.where(np.isnan(values), 0x7FC0, rounded), casting="unsafe")


def _put(out: np.ndarray, pixels: np.ndarray, found: np.ndarray) -> None:
    if out.ndim != 2:
        dense = np.zeros((out.shape[0], out[0].size), out.dtype)
        dense[:, pixels] = found
        out[...] = dense.reshape(out.shape)
    elif out.shape[0] <= _FEW:
        for row, values in zip(out, found, strict=True):
            row[pixels] = values
    else:
        out[:, pixels] = found
