"""The k-th largest of numbers in chunks: digit by digit of their bits, from the highest."""

import numpy as np

BITS = 8


def shifts(dtype: np.dtype) -> range:
    """Give the place of each digit of a number."""
    return range(8 * dtype.itemsize - BITS, -1, -BITS)


def histogram(losses: np.ndarray, low: int, shift: int) -> np.ndarray:
    """Count the values of the digit at `shift`, of the losses whose higher digits are those of `low`."""
    keys = _keys(losses.reshape(-1))
    # What is below wraps around, and is as far away as what is above.
    digits = (keys - keys.dtype.type(low)) >> keys.dtype.type(shift)
    return np.bincount(digits[digits < 2**BITS].astype(np.intp), minlength=2**BITS)


def digit(counts: np.ndarray, rank: int) -> tuple[int, int]:
    """Give the digit of the number of a rank, and its rank among those that share it."""
    reached = np.cumsum(counts[::-1])[::-1]  # how many have this digit or a higher one
    found = int(np.count_nonzero(reached >= rank)) - 1
    return found, rank - int(reached[found] - counts[found])


def number(key: int, dtype: np.dtype) -> float:
    """Give the number that has a key."""
    unsigned = np.dtype(f"u{dtype.itemsize}")
    sign = 1 << (8 * dtype.itemsize - 1)
    bits = key ^ sign if key & sign else key ^ (2 * sign - 1)
    return float(np.asarray(bits, unsigned).view(dtype))


def _keys(numbers: np.ndarray) -> np.ndarray:
    """Give unsigned integers that rise with the numbers, minus zero below zero, and NaN as infinity."""
    bits = np.where(np.isnan(numbers), np.inf, numbers).view(f"u{numbers.itemsize}")
    sign = bits.dtype.type(1 << (8 * bits.itemsize - 1))
    return np.where(bits & sign, ~bits, bits | sign)
