"""The floor below every time: how fast this machine copies memory."""

import os
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np

_BYTES = 2**27  # more than a cache holds
_TRIES = 5
# How often the logits go over the bus at least: read for the value; read twice and written once with the gradient.
_FORWARD, _BOTH = 1, 3
_ITEM = 4


@dataclass(frozen=True)
class Floor:
    """Bytes per second, and what follows for logits of float32."""

    rate: float
    classes: int

    def forward(self, n_pixels: int) -> float:
        """Give the least seconds of the value."""
        return self._bytes(n_pixels) * _FORWARD / self.rate

    def both(self, n_pixels: int) -> float:
        """Give the least seconds of the value with the gradient."""
        return self._bytes(n_pixels) * _BOTH / self.rate

    def forward_rate(self, n_pixels: int, seconds: float) -> float:
        """Give the bytes per second at which the value was computed, if nothing moved twice."""
        return self._bytes(n_pixels) * _FORWARD / seconds

    def both_rate(self, n_pixels: int, seconds: float) -> float:
        """Give the same with the gradient."""
        return self._bytes(n_pixels) * _BOTH / seconds

    def _bytes(self, n_pixels: int) -> int:
        return _ITEM * self.classes * n_pixels


def measure(classes: int) -> Floor:
    """Copy memory on every processor, a few times; the best counts, as a floor is what nobody goes below."""
    n = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    source, target = np.ones(_BYTES // 8), np.zeros(_BYTES // 8)
    parts = list(zip(np.array_split(target, n), np.array_split(source, n), strict=True))
    best = float("inf")
    with ThreadPoolExecutor(n) as pool:
        for _ in range(_TRIES):
            start = time.perf_counter()
            list(pool.map(lambda part: np.copyto(*part), parts))
            best = min(best, time.perf_counter() - start)
    return Floor(2 * _BYTES / best, classes)
