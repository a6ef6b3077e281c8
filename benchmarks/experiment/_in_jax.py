"""The training in JAX: functions, differentiated and compiled."""

from functools import partial
from typing import Any, TypeAlias

import jax
import jax.numpy as jnp
import numpy as np

import ohemloss
from ohemloss._cli._photograph import IGNORE

from ._plan import OPTIONS
from ._task import Task, Trained

Array: TypeAlias = Any


def train(task: Task) -> Trained:
    """Train, in float64 if the task is."""
    with jax.enable_x64(task.features.dtype == np.float64):
        inputs = jnp.asarray(task.features[None]), jnp.asarray(task.colours[None])
        labels = jnp.asarray(task.labels[None])
        weights = jax.tree.map(jnp.asarray, task.weights)
        velocity = jax.tree.map(jnp.zeros_like, weights)
        losses = []
        for rate in task.rates:
            loss, weights, velocity = _step(inputs, labels, weights, velocity, rate, task.loss, task.momentum)
            losses.append(float(loss))
        return Trained(losses, {name: np.asarray(weight) for name, weight in weights.items()})


@partial(jax.jit, static_argnames=("loss", "momentum"))  # type: ignore[untyped-decorator,unused-ignore]
def _step(
    inputs: tuple[Array, Array], labels: Array, weights: Array, velocity: Array, rate: Array, loss: str, momentum: float
) -> tuple[Array, Array, Array]:
    """Take one step of gradient descent with momentum."""

    def value(weights: Array) -> Array:
        x = logits(weights, *inputs, labels.shape[1:])
        return ohemloss.ohem_cross_entropy(x, labels, ignore_index=IGNORE, **OPTIONS[loss])

    found, gradient = jax.value_and_grad(value)(weights)
    velocity = jax.tree.map(lambda v, g: momentum * v + g, velocity, gradient)
    return found, jax.tree.map(lambda w, v: w - rate * v, weights, velocity), velocity


def logits(weights: Array, features: Array, colours: Array, size: tuple[int, int]) -> Array:
    """Compute the logits at full size."""
    reduced = jax.nn.relu(_convolve(features, weights, "reduce"))
    mixed = jnp.concatenate([_enlarge(reduced, colours.shape[2:]), colours], axis=1)
    return _enlarge(_convolve(jax.nn.relu(_convolve(mixed, weights, "mix")), weights, "classify"), size)


def _convolve(x: Array, weights: Array, name: str) -> Array:
    y = jax.lax.conv_general_dilated(x, weights[f"{name}.weight"], window_strides=(1, 1), padding="SAME")
    return y + weights[f"{name}.bias"][:, None, None]


def _enlarge(x: Array, size: tuple[int, int]) -> Array:
    return jax.image.resize(x, (*x.shape[:2], *size), method="bilinear")
