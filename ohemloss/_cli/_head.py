"""A small model of the photograph: a linear head on the features, enlarged to full size."""

from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from .._typing import Array, Namespace
from ._photograph import Photograph

Floats: TypeAlias = npt.NDArray[np.floating[Any]]


class Head:
    """
    A linear map from the features of a place to the classes, then bilinear enlargement: products of matrices only.

    Matrices that are needed transposed are kept so, because libraries differ in how they transpose. The
    dtype is that of the features.
    """

    def __init__(self, xp: Namespace, photograph: Photograph) -> None:
        rows, columns, _ = photograph.features.shape
        height, width = photograph.labels.shape
        self.xp, self._dtype = xp, photograph.features.dtype
        self._places, self._places_t = _both(xp, _standardise(photograph.features))
        self._down, self._down_t = _both(xp, _enlargement(rows, height).astype(self._dtype))
        self._across, self._across_t = _both(xp, _enlargement(columns, width).astype(self._dtype))
        self._small = (len(photograph.names), rows, columns)
        self._full = (1, len(photograph.names), height, width)

    def initial_weights(self) -> Array:
        """Make weights of 0: every class is equally likely everywhere."""
        return self.xp.asarray(np.zeros((self._small[0], self._places.shape[1]), dtype=self._dtype))

    def logits(self, weights: Array) -> Array:
        """Compute the logits at full size."""
        xp = self.xp
        small = xp.reshape(xp.matmul(weights, self._places_t), self._small)
        return xp.reshape(xp.matmul(self._down, xp.matmul(small, self._across_t)), self._full)

    def weights_gradient(self, logits_gradient: Array) -> Array:
        """Bring the gradient of the logits back to the weights, by the transposed matrices."""
        xp = self.xp
        full = xp.reshape(logits_gradient, self._full[1:])
        small = xp.matmul(xp.matmul(self._down_t, full), self._across)
        return xp.matmul(xp.reshape(small, (self._small[0], -1)), self._places)


def _standardise(features: Floats) -> Floats:
    """Give each feature mean 0 and deviation 1, each place a length of about 1, and add a constant one."""
    flat = features.reshape(-1, features.shape[-1])
    scaled = (flat - np.mean(flat, axis=0)) / (np.std(flat, axis=0) + 1e-6)
    places = np.ones((len(flat), flat.shape[1] + 1), dtype=flat.dtype)
    places[:, :-1] = scaled / np.sqrt(flat.shape[1])
    return places


def _enlargement(n: int, m: int) -> npt.NDArray[np.float64]:
    """Make the ``(m, n)`` matrix that samples `n` values at `m` places between them, as images are resized."""
    places = np.clip((np.arange(m) + 0.5) * n / m - 0.5, 0, n - 1)
    # The weight of a value falls linearly from 1 at its place to 0 at its neighbours.
    hats: npt.NDArray[np.float64] = np.maximum(0, 1 - np.abs(places[:, None] - np.arange(n)))
    return hats


def _both(xp: Namespace, matrix: Floats) -> tuple[Array, Array]:
    return xp.asarray(matrix), xp.asarray(np.ascontiguousarray(matrix.T))
