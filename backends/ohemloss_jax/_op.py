"""The composite, compiled: outside `jax.jit` too, one call is one program."""

from functools import partial
from typing import Any

import jax

from ohemloss import _composite
from ohemloss._engine import Engine

from ._steps import kth_largest

SUPPORTS = frozenset(
    {
        "axis",
        "ignore_index",
        "label_smoothing",
        "min_kept",
        "pixel_weight",
        "reduction",
        "thresh",
        "weight",
    }
)

_ENGINE = Engine(xp=jax.numpy, kth_largest=kth_largest)


@partial(jax.jit, static_argnames="options")
def loss(logits: jax.Array, labels: jax.Array, /, *, weight: Any, pixel_weight: Any, options: Any) -> jax.Array:
    """See `ohemloss.ohem_cross_entropy`."""
    value: jax.Array = _composite.loss(_ENGINE, logits, labels, weight, pixel_weight, options)
    return value


@partial(jax.jit, static_argnames="options")
def value_and_grad(
    logits: jax.Array, labels: jax.Array, /, *, weight: Any, pixel_weight: Any, options: Any
) -> tuple[jax.Array, jax.Array]:
    """See `ohemloss.value_and_grad`."""
    return _composite.value_and_grad(_ENGINE, logits, labels, weight, pixel_weight, options)
