"""The training in NumPy: the gradient of the loss in closed form, and the backward of the model by hand."""

import numpy as np

import ohemloss
from ohemloss._cli._photograph import IGNORE

from ._plan import OPTIONS
from ._task import Task, Trained
from ._types import Floats, Weights


def train(task: Task) -> Trained:
    """Train."""
    model = Model(task)
    weights = task.weights
    velocity = {name: np.zeros_like(weight) for name, weight in weights.items()}
    losses = []
    for rate in task.rates:
        loss, slope = value_and_slope(task, model.logits(weights))
        gradient = model.backward(weights, slope)
        velocity = {name: task.momentum * velocity[name] + gradient[name] for name in weights}
        weights = {name: weights[name] - rate * velocity[name] for name in weights}
        losses.append(loss)
    return Trained(losses, weights)


def value_and_slope(task: Task, logits: Floats) -> tuple[float, Floats]:
    """Compute the loss and its gradient with respect to the logits."""
    value, slope = ohemloss.value_and_grad(logits[None], task.labels[None], ignore_index=IGNORE, **OPTIONS[task.loss])
    return float(value), slope[0]


class Model:
    """The model on the inputs of a task; `backward` belongs to the last call of `logits`."""

    def __init__(self, task: Task) -> None:
        self._features, self._colours = task.features, task.colours
        self._middle = _Enlargement(task.features, task.colours.shape[1:])
        self._last = _Enlargement(task.colours, task.labels.shape)

    def logits(self, weights: Weights) -> Floats:
        """Compute the logits at full size."""
        self._reduced = np.maximum(_convolve(weights, "reduce", self._features), 0)
        self._patches = _patches(np.concatenate([self._middle(self._reduced), self._colours]))
        self._mixed = np.maximum(_convolve(weights, "mix", self._patches), 0)
        return self._last(_convolve(weights, "classify", self._mixed))

    def backward(self, weights: Weights, slope: Floats) -> Weights:
        """Bring the gradient of the logits back to the weights."""
        classify = self._last.backward(slope)
        mix = _convolve_backward(weights, "classify", classify) * (self._mixed > 0)
        enlarged = _patches_backward(_convolve_backward(weights, "mix", mix))
        reduce = self._middle.backward(enlarged[: len(self._reduced)]) * (self._reduced > 0)
        return {
            **_weights_gradient(weights, "reduce", self._features, reduce),
            **_weights_gradient(weights, "mix", self._patches, mix),
            **_weights_gradient(weights, "classify", self._mixed, classify),
        }


class _Enlargement:
    """Bilinear enlargement: a product with a matrix along each axis."""

    def __init__(self, small: Floats, size: tuple[int, ...]) -> None:
        self._down, self._across = (_hats(n, m).astype(small.dtype) for n, m in zip(small.shape[1:], size, strict=True))

    def __call__(self, x: Floats) -> Floats:
        large: Floats = self._down @ (x @ self._across.T)
        return large

    def backward(self, slope: Floats) -> Floats:
        small: Floats = (self._down.T @ slope) @ self._across
        return small


def _hats(n: int, m: int) -> Floats:
    """Weigh `n` values for `m` places between them: 1 at a value's own place, falling linearly to 0 at the next."""
    places = np.clip((np.arange(m) + 0.5) * n / m - 0.5, 0, n - 1)
    return np.maximum(0, 1 - np.abs(places[:, None] - np.arange(n)))


def _matrix(weights: Weights, name: str) -> Floats:
    weight = weights[f"{name}.weight"]
    return weight.reshape(len(weight), -1)


def _convolve(weights: Weights, name: str, x: Floats) -> Floats:
    """Convolve places, or the patches around them."""
    return np.tensordot(_matrix(weights, name), x, 1) + weights[f"{name}.bias"][:, None, None]


def _convolve_backward(weights: Weights, name: str, slope: Floats) -> Floats:
    return np.tensordot(_matrix(weights, name).T, slope, 1)


def _weights_gradient(weights: Weights, name: str, x: Floats, slope: Floats) -> Weights:
    weight, bias = f"{name}.weight", f"{name}.bias"
    products = np.tensordot(slope, x, ((1, 2), (1, 2)))
    return {weight: products.reshape(weights[weight].shape), bias: np.sum(slope, axis=(1, 2))}


def _patches(x: Floats) -> Floats:
    """Make nine channels of each: the place itself and its neighbours, 0 outside."""
    channels, rows, columns = x.shape
    padded = np.pad(x, ((0, 0), (1, 1), (1, 1)))
    shifted = [padded[:, i : i + rows, j : j + columns] for i in range(3) for j in range(3)]
    return np.stack(shifted, axis=1).reshape(9 * channels, rows, columns)


def _patches_backward(slope: Floats) -> Floats:
    """Add up, for each place, over the patches that it is in."""
    nine, rows, columns = slope.shape
    parts = slope.reshape(nine // 9, 3, 3, rows, columns)
    padded = np.zeros((nine // 9, rows + 2, columns + 2), dtype=slope.dtype)
    for i in range(3):
        for j in range(3):
            padded[:, i : i + rows, j : j + columns] += parts[:, i, j]
    return padded[:, 1:-1, 1:-1]
