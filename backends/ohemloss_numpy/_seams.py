"""The gradient of logits that several chunks see: each adds to it, in the order of the chunks."""

import threading

import numpy as np

from ._slabs import Slab, Slabs


class Seams:
    """
    Put together what the chunks have found: the same bits whatever thread comes first.

    What one chunk alone sees is written as it comes. The rest waits until all chunks before have come, and what is then
    seen by a later one is carried on to that, so that little waits, and a half is rounded once.
    """

    def __init__(self, slabs: Slabs, out: np.ndarray) -> None:
        self._slabs, self._out = slabs, slabs.laid_out(out)
        self._lock, self._next = threading.Lock(), 0
        self._waiting: dict[int, np.ndarray] = {}
        self._carried: np.ndarray | None = None

    def put(self, number: int, found: np.ndarray) -> None:
        """Take the sums of a chunk: classes, rows and columns that it sees."""
        slab = self._slabs.chunks[number]
        found = self._slabs.along(found, slab)
        if slab.n_before < slab.n_own:
            self._slabs.write(found[slab.n_before : slab.n_own], self._out, slab, slab.n_before)
            found = np.concatenate((found[: slab.n_before], found[slab.n_own :]))
        with self._lock:
            self._waiting[number] = found
            while self._next in self._waiting:
                self._close(self._slabs.chunks[self._next], self._waiting.pop(self._next))
                self._next += 1

    def _close(self, slab: Slab, found: np.ndarray) -> None:
        if self._carried is not None:
            found[: slab.n_before] += self._carried
        n_done = min(slab.n_before, slab.n_own)
        self._slabs.write(found[:n_done], self._out, slab, 0)
        self._carried = found[n_done:] if n_done < len(found) else None
