"""The k-th largest of numbers that are spread over processes: digit by digit of their bits."""

from typing import Any

import torch

_BITS = 8
# Elements whose digits are counted at a time: each takes some 20 bytes meanwhile.
_BLOCK = 2**20


def kth_largest(engine: Any, scores: torch.Tensor, k: torch.Tensor, *, in_host_memory: bool) -> torch.Tensor:
    """
    Find it exactly, in as many exchanges as a score has bytes, each of 256 counts.

    All processes learn how often each value of a digit occurs among the scores that agree with the digits found so far.
    In host memory these are few soon, and the others are left behind.
    """
    keys = _keys(scores.flatten())
    highest = 8 * keys.element_size() - _BITS
    found = torch.zeros_like(k)
    rank = k
    for shift in range(highest, -1, -_BITS):
        counts = engine.joined(_count(keys, found, shift, highest))
        reached = counts.flip(0).cumsum(0).flip(0)  # how many have this digit or a higher one
        digit = (reached >= rank).sum() - 1
        # The place among those that have this very digit.
        rank = rank - (reached - counts).index_select(0, digit.reshape(1)).reshape(())
        found = (found << _BITS) | (digit - 2 ** (_BITS - 1) if shift == highest else digit)
        if in_host_memory:
            keys = keys[(keys >> shift) == found]
    return _scores(found.to(keys.dtype), scores.dtype)


def _keys(scores: torch.Tensor) -> torch.Tensor:
    """Give signed integers that rise with the scores: NaN as infinity, and both zeros the same."""
    scores = torch.where(scores.isnan(), torch.inf, scores) + 0.0
    return _flipped(scores.view(torch.int64 if scores.dtype == torch.float64 else torch.int32))


def _scores(keys: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
    return _flipped(keys).view(dtype)


def _flipped(bits: torch.Tensor) -> torch.Tensor:
    """Flip all bits but the sign of what is negative; twice is nothing."""
    return torch.where(bits < 0, bits ^ torch.iinfo(bits.dtype).max, bits)


def _count(keys: torch.Tensor, found: torch.Tensor, shift: int, highest: int) -> torch.Tensor:
    """Count the values of the digit at `shift`, of the keys whose higher digits are those found."""
    counts = torch.zeros(2**_BITS, dtype=torch.int64, device=keys.device)
    for block in keys.split(_BLOCK):
        digits = (block >> shift).to(torch.int64)
        if shift == highest:  # which has the sign, and is counted from the smallest
            digits, inside = digits + 2 ** (_BITS - 1), torch.ones_like(digits)
        else:
            inside = ((digits >> _BITS) == found).to(torch.int64)
            digits = digits & (2**_BITS - 1)
        counts.scatter_add_(0, digits, inside)
    return counts
