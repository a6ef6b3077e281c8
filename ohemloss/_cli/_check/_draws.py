"""Numbers drawn the same on every machine, and rounded to a dtype by hand: no bit depends on a library's version."""

from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

Numbers: TypeAlias = npt.NDArray[np.float64]
Integers: TypeAlias = npt.NDArray[np.int64]


def integers(seed: int, n: int, low: int, high: int) -> Integers:
    """Draw `n` integers from `low` to `high - 1`: the output of SplitMix64, a counter that is mixed."""
    state = (np.arange(1, n + 1, dtype=np.uint64) + np.uint64(seed << 32)) * np.uint64(0x9E3779B97F4A7C15)
    state = (state ^ (state >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    state = (state ^ (state >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    state ^= state >> np.uint64(31)
    # The upper half: a product with less than 2**32 then fits, and its upper half is below `high - low`.
    scaled = ((state >> np.uint64(32)) * np.uint64(high - low)) >> np.uint64(32)
    return scaled.astype(np.int64) + low


def some(seed: int, n: int, k: int) -> npt.NDArray[np.bool_]:
    """Draw `k` of `n` places."""
    chosen = np.zeros(n, dtype=bool)
    # Of equal draws the first: as fair, and the same everywhere.
    chosen[np.argsort(integers(seed, n, 0, 2**32), kind="stable")[:k]] = True
    return chosen


def fractions(seed: int, n: int, low: float, high: float) -> Numbers:
    """Draw `n` multiples of 2**-20 from `low` to below `high`."""
    return integers(seed, n, int(low * 2**20), int(high * 2**20)) / 2.0**20


def round_to(values: npt.NDArray[Any], dtype: str) -> Numbers:
    """Round to the nearest number of a dtype, and give it in float64, which holds them all."""
    with np.errstate(invalid="ignore"):  # NaN stays what it is
        if dtype != "bfloat16":
            return np.asarray(values).astype(dtype).astype(np.float64)
        # The upper half of a float32; of two that are as near the even one.
        bits = np.asarray(values, dtype=np.float32).view(np.uint32)
        rounded = (bits + np.uint32(0x7FFF) + ((bits >> np.uint32(16)) & np.uint32(1))) & np.uint32(0xFFFF0000)
        kept = np.where(np.isnan(values), np.float32(np.nan), rounded.view(np.float32))
        return kept.astype(np.float64)
