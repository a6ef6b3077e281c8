"""The replaced step over the classes: which way it is computed."""

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any

import jax

from ohemloss import _softmax
from ohemloss._resize import enlarge, resized
from ohemloss._targets import Targets

from . import _resized
from ._classes import _nll


def cross_entropy(
    engine: Any, logits: jax.Array, targets: Targets, weight: jax.Array | None, options: Any
) -> tuple[jax.Array, jax.Array | None]:
    """See `ohemloss._softmax.cross_entropy`."""
    pixels = targets.counts.shape
    if in_blocks(options, logits.shape, pixels):
        by_prob = options.rule.rank_by == "prob" and not options.label_smoothing
        way = _of_weighed if by_prob else _resized.cross_entropy
        return way(engine, logits, targets, weight, options)
    if options.label_smoothing or not isinstance(logits.shape[options.axis], int):
        return _softmax.cross_entropy(engine, logits, targets, weight, options)
    logits = enlarge(engine, logits, pixels, options)
    return _nll(options.axis, logits, targets.counts, targets.index), None


def in_blocks(options: Any, small: tuple[Any, ...], pixels: tuple[Any, ...]) -> bool:
    """Say whether logits of a shape are resized block by block."""
    # Blocks are cut by numbers: not in a program for any size.
    is_known = all(isinstance(n, int) and n > 0 for n in (*small, *pixels))
    return is_known and bool(resized(options, small, pixels))


def _of_weighed(
    engine: Any, logits: jax.Array, targets: Targets, weight: jax.Array | None, options: Any
) -> tuple[jax.Array, None]:
    """Leave the pixels of weight 0 out of the derivative: they compete, and 0 times their derivative need not be 0."""

    def step(logits: jax.Array, counts: jax.Array, index: jax.Array) -> jax.Array:
        of_pixels = replace(targets, counts=counts, index=index)
        return _resized.cross_entropy(engine, logits, of_pixels, weight, options)[0]

    weighed = targets.counts & (targets.label_scales != 0)
    return _nll_of_weighed(step, logits, targets.counts, weighed, targets.index), None


@partial(jax.custom_jvp, nondiff_argnums=(0,))
def _nll_of_weighed(
    step: Callable[..., jax.Array], logits: jax.Array, counts: jax.Array, weighed: jax.Array, index: jax.Array
) -> jax.Array:
    return step(logits, counts, index)


@_nll_of_weighed.defjvp  # type: ignore[untyped-decorator,unused-ignore]
def _nll_of_weighed_jvp(
    step: Callable[..., jax.Array], primals: tuple[jax.Array, ...], tangents: tuple[Any, ...]
) -> tuple[jax.Array, jax.Array]:
    logits, _, weighed, index = primals
    _, tangent = jax.jvp(lambda logits: step(logits, weighed, index), (logits,), tangents[:1])
    return _nll_of_weighed(step, *primals), tangent
