"""How one pass goes through logits: those at the size of the labels as they lie, others resized chunk by chunk."""

from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np

from ohemloss._inputs import Inputs
from ohemloss._options import Options

from ._grid import Chunk, classes_first, pixel_shape
from ._seams import Seams
from ._slabs import Slab, Slabs, Small


class Walk(Protocol):
    """The chunks of a pass, and what a worker needs for each."""

    pieces: Sequence[Chunk]

    def read(self, chunk: Any) -> Any:
        """Give the logits as the worker takes them."""
        ...

    def room(self, logits: Any) -> np.ndarray:
        """Give what the gradient of a chunk is written to."""
        ...

    def put(self, number: int, made: np.ndarray) -> None:
        """Take the gradient of a chunk."""
        ...


class Whole:
    """Logits at the size of the labels, and maybe their gradient, in the fewest axes."""

    def __init__(self, worker: Any, inputs: Inputs, options: Options, gradient: np.ndarray | None = None) -> None:
        arrays = [classes_first(array, options.axis) for array in (inputs.logits, gradient) if array is not None]
        shape = pixel_shape(*arrays)
        self._logits, *self._out = (array.reshape(array.shape[0], *shape) for array in arrays)
        self.pieces: Sequence[Chunk] = worker.pieces(self._logits, *self._out)

    def read(self, chunk: Chunk) -> np.ndarray:
        """Give all of them: the chunk says where it is."""
        return self._logits

    def room(self, logits: np.ndarray) -> np.ndarray:
        """Give all of it."""
        return self._out[0]

    def put(self, number: int, made: np.ndarray) -> None:
        """Do nothing: it is where it belongs."""


class Resized:
    """Logits at another size, and maybe their gradient."""

    def __init__(self, worker: Any, inputs: Inputs, options: Options, gradient: np.ndarray | None = None) -> None:
        self._slabs = Slabs(inputs, options, *worker.sizes())
        self.pieces: Sequence[Chunk] = self._slabs.chunks
        self._seams = None if gradient is None else Seams(self._slabs, gradient)

    def read(self, chunk: Slab) -> Small:
        """Copy those that the chunk sees."""
        return self._slabs.read(chunk)

    def room(self, logits: Small) -> np.ndarray:
        """Give zeros, to which the chunk adds."""
        return np.zeros_like(logits.logits)

    def put(self, number: int, made: np.ndarray) -> None:
        """Add what the chunk has found."""
        if self._seams is not None:
            self._seams.put(number, made)
