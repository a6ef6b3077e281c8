"""The composite, compiled: outside `jax.jit` too, one call is one program."""

from dataclasses import replace
from functools import partial
from typing import Any

import jax

from ohemloss import _composite
from ohemloss._engine import Engine
from ohemloss._inputs import Inputs
from ohemloss._selection import whole

from ._cross_entropy import in_blocks

SUPPORTS = frozenset(
    {
        "align_corners",
        "axis",
        "axis_name",
        "ignore_index",
        "label_smoothing",
        "min_kept",
        "min_kept as an array",
        "pixel_weight",
        "positives",
        "reduction",
        "resize",
        "rule",
        "thresh",
        "thresh as an array",
        "weight",
    }
)

_IN_PLACE_OF_ARRAYS = {"thresh": None, "min_kept": 0}


def loss(engine: Engine, inputs: Inputs, options: Any, /) -> jax.Array:
    """See `ohemloss.ohem_cross_entropy`."""
    value: jax.Array = _run(_composite.loss, engine, inputs, options)
    return value


def value_and_grad(engine: Engine, inputs: Inputs, options: Any, /) -> tuple[jax.Array, jax.Array]:
    """See `ohemloss.value_and_grad`."""
    both: tuple[jax.Array, jax.Array] = _run(_value_and_grad, engine, inputs, options)
    return both


def _value_and_grad(engine: Engine, inputs: Inputs, options: Any) -> tuple[jax.Array, jax.Array]:
    def of_logits(logits: jax.Array) -> jax.Array:
        # The part that is here: whether the derivative of a sum over devices counts each of them depends on their map.
        part: jax.Array = _composite.run_steps(engine, replace(inputs, logits=logits), options).part
        return part

    # Ranked by probability a pixel of weight 0 keeps its logits, and 0 times their derivative need not be 0. In blocks
    # the step takes care of that; the closed form would need all the resized logits.
    if options.rule.rank_by == "prob" and not in_blocks(options, inputs.logits.shape, inputs.labels.shape):
        return _composite.value_and_grad(engine, inputs, options)
    # The derivative of the step over the classes is the closed form, and keeps nothing of the size of the logits.
    part, gradient = jax.value_and_grad(of_logits)(inputs.logits)
    return whole(engine, part, options.reduction), gradient


def _run(function: Any, engine: Engine, inputs: Inputs, options: Any) -> Any:
    # Options that came as arrays are arguments of the program, so that another value needs no other program.
    arrays = options.arrays()
    fixed = replace(options, **{name: _IN_PLACE_OF_ARRAYS[name] for name in arrays})
    # Within a program the compiler decides where arrays are made.
    return _compiled(function, replace(engine, device=None), inputs, arrays, fixed)


@partial(jax.jit, static_argnames=("function", "engine", "options"))
def _compiled(function: Any, engine: Engine, inputs: Inputs, arrays: dict[str, Any], options: Any) -> Any:
    return function(engine, inputs, replace(options, **arrays))
