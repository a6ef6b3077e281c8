"""The composite, compiled: outside `jax.jit` too, one call is one program."""

from dataclasses import replace
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
        "min_kept as an array",
        "pixel_weight",
        "reduction",
        "thresh",
        "thresh as an array",
        "weight",
    }
)

_ENGINE = Engine(xp=jax.numpy, kth_largest=kth_largest)


# Options that came as arrays are arguments of the program, so that another value needs no other program.
_IN_PLACE_OF_ARRAYS = {"thresh": None, "min_kept": 0}


def loss(logits: jax.Array, labels: jax.Array, /, *, weight: Any, pixel_weight: Any, options: Any) -> jax.Array:
    """See `ohemloss.ohem_cross_entropy`."""
    value: jax.Array = _compiled(_composite.loss, logits, labels, weight, pixel_weight, *_split(options))
    return value


def value_and_grad(
    logits: jax.Array, labels: jax.Array, /, *, weight: Any, pixel_weight: Any, options: Any
) -> tuple[jax.Array, jax.Array]:
    """See `ohemloss.value_and_grad`."""
    both: tuple[jax.Array, jax.Array] = _compiled(
        _composite.value_and_grad, logits, labels, weight, pixel_weight, *_split(options)
    )
    return both


@partial(jax.jit, static_argnames=("function", "options"))
def _compiled(
    function: Any, logits: Any, labels: Any, weight: Any, pixel_weight: Any, arrays: dict[str, Any], options: Any
) -> Any:
    return function(_ENGINE, logits, labels, weight, pixel_weight, replace(options, **arrays))


def _split(options: Any) -> tuple[dict[str, Any], Any]:
    """Separate the options that are arrays from those that the program is compiled for."""
    arrays = options.arrays()
    return arrays, replace(options, **{name: _IN_PLACE_OF_ARRAYS[name] for name in arrays})
