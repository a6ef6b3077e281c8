"""How many pixels code bases keep at least: functions of the counts that compare by value, and can be pickled."""

import math
import struct
from dataclasses import dataclass

from .._counts import Counts
from .._typing import Array


@dataclass(frozen=True)
class AllButOne:
    """At most `k` (of each image, if so), and never the easiest valid pixel."""

    k: int
    of_each_image: bool = False

    def __call__(self, counts: Counts) -> int | Array:
        """Count."""
        k = self.k * counts.images if self.of_each_image else self.k
        return counts.where(counts.valid > k, k, counts.valid - 1)


@dataclass(frozen=True)
class OneLess:
    """One less than `k` if more than `k` pixels are valid, else all."""

    k: int

    def __call__(self, counts: Counts) -> int | Array:
        """Count."""
        return counts.where(counts.valid > self.k, self.k - 1, counts.valid)


@dataclass(frozen=True)
class OfEachImage:
    """So many of each image, wherever they are in the batch."""

    k: int

    def __call__(self, counts: Counts) -> int | Array:
        """Count."""
        return self.k * counts.images


@dataclass(frozen=True)
class Share:
    """A fraction of the pixels, rounded down."""

    fraction: float
    of: str = "all"
    all_but_one: bool = False

    def __call__(self, counts: Counts) -> int | Array:
        """Count."""
        count = getattr(counts, self.of)
        kept = counts.floor(self.fraction, count)
        return counts.where(kept < count, kept, count - 1) if self.all_but_one else kept


@dataclass(frozen=True)
class RoundedUp:
    """A fraction of all pixels, rounded up."""

    fraction: float

    def __call__(self, counts: Counts) -> int | Array:
        """Count."""
        return counts.all - counts.floor(1 - self.fraction, counts.all)


@dataclass(frozen=True)
class Single:
    """A fraction of all pixels, multiplied in single precision, truncated or rounded to the nearest even."""

    fraction: float
    rounded: bool = False

    def __call__(self, counts: Counts) -> int | Array:
        """Count."""
        if not isinstance(counts.all, int):
            return counts.floor(self.fraction, counts.all)
        product = _single(_single(self.fraction) * counts.all)
        return round(product) if self.rounded else math.trunc(product)


@dataclass(frozen=True)
class NegativesPerPositive:
    """So many times the number of positives."""

    ratio: float

    def __call__(self, counts: Counts) -> int | Array:
        """Count."""
        whole = int(self.ratio)
        rest = self.ratio - whole
        kept = counts.positives * whole
        return kept + counts.floor(rest, counts.positives) if rest else kept


@dataclass(frozen=True)
class WithEpsilon:
    """A divisor: the number selected, and a small part of the number of all."""

    of_all: float = 0.0
    absolute: float = 0.0

    def __call__(self, counts: Counts) -> Array:
        """Count."""
        return counts.selected + (self.of_all * counts.all + self.absolute)


def _single(number: float) -> float:
    return float(struct.unpack("f", struct.pack("f", number))[0])
