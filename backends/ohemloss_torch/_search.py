"""The k-th largest of numbers on a device: digit by digit of their bits, with nothing that the host waits for."""

import math
from dataclasses import dataclass
from typing import Any

import torch

# Of one digit; the kernels know it, too.
_DIGIT_BITS = 8
# The numbers of one step of a program; so many programs fill the largest device a few times.
_BLOCK, _PROGRAMS = 1024, 1024

# Of each launch. Products and sums are not joined: that would save nothing, and each device would round as it likes.
WARPS = 4
LAUNCH = {"num_warps": WARPS, "enable_fp_fusion": False}


@dataclass(frozen=True)
class Search:
    """
    A search among some numbers, and how often each digit of the answer was counted.

    Its kernels return at once where `tallied` says that the answer is not needed: number 1 is not less than number 2,
    which is k.
    """

    kernels: Any
    numbers: torch.Tensor
    tallied: torch.Tensor

    @property
    def bits(self) -> int:
        """Of each number."""
        return 8 * int(self.numbers.element_size())

    @property
    def n_steps(self) -> int:
        """How many blocks a program walks through."""
        return max(1, math.ceil(int(self.numbers.numel()) / (_BLOCK * _PROGRAMS)))

    @property
    def n_programs(self) -> int:
        """How many programs there are."""
        return math.ceil(int(self.numbers.numel()) / (_BLOCK * self.n_steps))

    def size(self) -> dict[str, int]:
        """Give what the kernels are compiled for."""
        return {"BITS": self.bits, "BLOCK": _BLOCK, **LAUNCH}

    def table(self) -> torch.Tensor:
        """Count the digits, the highest first."""
        n_digits = self.bits // _DIGIT_BITS
        table = torch.zeros((n_digits, 2**_DIGIT_BITS), dtype=torch.int32, device=self.numbers.device)
        if self.n_programs:
            for digit in range(n_digits):
                self.launch("count_digits", self.numbers, self.tallied, table, DIGIT=digit)
        return table

    def launch(self, name: str, *arrays: torch.Tensor, **options: int) -> None:
        """Start a kernel that walks through the numbers."""
        kernel = getattr(self.kernels, name)
        kernel[(self.n_programs,)](*arrays, self.numbers.numel(), self.n_steps, **options, **self.size())


def kth_largest(kernels: Any, scores: torch.Tensor, k: torch.Tensor, needed: torch.Tensor) -> torch.Tensor:
    """Find the k-th largest score; `k` and `needed` as `ohemloss._kth.kth_largest` has them."""
    found = scores.new_empty(())
    search = Search(kernels, scores.contiguous(), torch.stack((k, torch.where(needed, -1, k), k)))
    kernels.read_key[(1,)](search.table(), search.tallied, found, BITS=search.bits, **LAUNCH)
    return found
