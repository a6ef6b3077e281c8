"""
The step over the classes, as XLA does it fast.

On a CPU a reduction over an axis that is not the last one is slow, and so is one over an array that was computed: it is
written to memory first. Slices of the logits, one a class, are fused with all that happens to them into one loop over
the pixels. But such a loop is fused again into each user of its result, and into the gradient once for each class; a
branch stops that. On a GPU a few slices are fused to one kernel, which loads each logit once; no branch is needed.

What is so computed has a derivative of its own, in operations on whole arrays: element by element, and fused to one
loop. It is of the usual kind, so it may be taken forward, backward, and again.
"""

from collections.abc import Callable
from functools import partial, reduce
from typing import Any

import jax
import jax.numpy as jnp

from ._library import per_platform

# Slices written out at a time; more classes than that are walked through in a loop, or compiling would take long.
_SLICES = 32


@partial(jax.custom_jvp, nondiff_argnums=(0,))
def _nll(axis: int, x: jax.Array, counts: jax.Array, index: jax.Array) -> jax.Array:
    """Compute minus the logarithm of the softmax of the label."""
    nll: jax.Array = per_platform(
        *(x, counts, index),
        cpu=partial(_nll_on_cpu, axis),
        gpu=lambda *x: _nll_of(*_on_gpu(axis, *x)[1:]),
        default=lambda *x: _nll_of(*_whole(axis, *x)[1:]),
    )
    return nll


@_nll.defjvp  # type: ignore[untyped-decorator,unused-ignore]
def _nll_jvp(axis: int, primals: tuple[jax.Array, ...], tangents: tuple[Any, ...]) -> tuple[jax.Array, jax.Array]:
    largest, sums, own = _parts(axis, None, *primals)
    return _nll_of(sums, own), _nll_tangent(axis, primals, tangents[0], largest, sums)


def _nll_tangent(
    axis: int, primals: tuple[jax.Array, ...], tangent: jax.Array, largest: jax.Array, sums: jax.Array
) -> jax.Array:
    exps, tangent, at_label = _derivatives(axis, primals, tangent, largest)
    softmax = exps / jnp.expand_dims(sums, axis)
    return jnp.sum(softmax * tangent, axis) - jnp.sum(at_label, axis)


@partial(jax.custom_jvp, nondiff_argnums=(0, 1))
def _parts(
    axis: int, platform: str | None, x: jax.Array, counts: jax.Array, index: jax.Array
) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Give the largest logit, and less it the sum of the exponentials and the logit of the label, on a platform."""

    def on_cpu(*operands: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array]:
        largest = _where_any_counts(partial(_largest, axis), axis, *operands)
        return largest, *_where_any_counts(partial(_sums, axis), axis, *operands, largest)

    parts: tuple[jax.Array, jax.Array, jax.Array] = per_platform(
        x, counts, index, cpu=on_cpu, gpu=partial(_on_gpu, axis), default=partial(_whole, axis), known=platform
    )
    return parts


@_parts.defjvp  # type: ignore[untyped-decorator,unused-ignore]
def _parts_jvp(
    axis: int, platform: str | None, primals: tuple[jax.Array, ...], tangents: tuple[Any, ...]
) -> tuple[Any, Any]:
    # The largest logit is a constant: what is made of the three does not depend on it.
    parts = _parts(axis, platform, *primals)
    exps, tangent, at_label = _derivatives(axis, primals, tangents[0], parts[0])
    return parts, (jnp.zeros_like(parts[0]), jnp.sum(exps * tangent, axis), jnp.sum(at_label, axis))


def _derivatives(
    axis: int, primals: tuple[jax.Array, ...], tangent: jax.Array, largest: jax.Array
) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Give the exponentials, the tangent, and the tangent at the label, in the shape of the logits."""
    x, counts, index = primals
    counts, index, largest = (jnp.expand_dims(array, axis) for array in (counts, index, largest))
    classes = jnp.arange(x.shape[axis], dtype=index.dtype)
    is_label = index == jnp.expand_dims(classes, [i for i in range(x.ndim) if i != axis])
    tangent = _masked(tangent, counts)
    return jnp.exp(_masked(x, counts) - largest), tangent, jnp.where(is_label, tangent, 0)


def _whole(axis: int, x: jax.Array, counts: jax.Array, index: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Compute the parts by reductions: two reads of the logits, whatever the number of classes."""
    largest = jnp.max(_masked(x, jnp.expand_dims(counts, axis)), axis)
    exps, _, at_label = _derivatives(axis, (x, counts, index), x, largest)
    return largest, jnp.sum(exps, axis), jnp.sum(at_label, axis) - largest


def _on_gpu(axis: int, x: jax.Array, counts: jax.Array, index: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Compute the parts from slices, which stay in registers, as long as there are registers for them."""
    if x.shape[axis] > _SLICES:
        return _whole(axis, x, counts, index)
    largest = _largest(axis, x, counts, index)
    return largest, *_sums(axis, x, counts, index, largest)


def _nll_on_cpu(axis: int, x: jax.Array, counts: jax.Array, index: jax.Array) -> jax.Array:
    nll: jax.Array = _where_any_counts(partial(_in_one_loop, axis), axis, x, counts, index)
    return nll


def _in_one_loop(axis: int, x: jax.Array, counts: jax.Array, index: jax.Array) -> jax.Array:
    return _nll_of(*_sums(axis, x, counts, index, _largest(axis, x, counts, index)))


def _nll_of(sums: jax.Array, own: jax.Array) -> jax.Array:
    return jnp.log(sums) - own


def _largest(axis: int, x: jax.Array, counts: jax.Array, index: jax.Array) -> jax.Array:
    return _over_classes(axis, x, jnp.maximum, lambda c, logits: _masked(logits, counts))


def _sums(
    axis: int, x: jax.Array, counts: jax.Array, index: jax.Array, largest: jax.Array
) -> tuple[jax.Array, jax.Array]:
    over = partial(_over_classes, axis, x, jnp.add)
    sums = over(lambda c, logits: jnp.exp(_masked(logits, counts) - largest))
    return sums, over(lambda c, logits: jnp.where(index == c, _masked(logits, counts) - largest, 0))


def _masked(x: jax.Array, counts: jax.Array) -> jax.Array:
    return jnp.where(counts, x.astype(jnp.promote_types(x.dtype, jnp.float32)), 0)


def _over_classes(
    axis: int,
    x: jax.Array,
    combine: Callable[[jax.Array, jax.Array], jax.Array],
    of: Callable[[Any, jax.Array], jax.Array],
) -> jax.Array:
    """Combine ``of(c, logits)`` over the classes."""
    n_groups = (x.shape[axis] - 1) // _SLICES
    rest = x.shape[axis] - n_groups * _SLICES  # done first, since a loop needs something to begin with

    def slices(x: jax.Array, n: int) -> list[jax.Array]:
        return [jax.lax.index_in_dim(x, c, axis, keepdims=False) for c in range(n)]

    def group(i: Any, found: jax.Array) -> jax.Array:
        first = rest + i * _SLICES
        logits = slices(jax.lax.dynamic_slice_in_dim(x, first, _SLICES, axis), _SLICES)
        return reduce(combine, [of(first + j, each) for j, each in enumerate(logits)], found)

    found = reduce(combine, [of(c, each) for c, each in enumerate(slices(x, rest))])
    return jax.lax.fori_loop(0, n_groups, group, found) if n_groups else found


def _where_any_counts(function: Callable[..., Any], axis: int, *operands: jax.Array) -> Any:
    """Compute where any pixel counts, and else give zeros: a branch, which nothing is fused across."""

    def zeros(x: jax.Array, counts: jax.Array, index: jax.Array, *others: jax.Array) -> Any:
        # Made of the operands, so that they vary over the devices of a `shard_map` as the answer does.
        zero = _masked(jax.lax.index_in_dim(x, 0, axis, keepdims=False), counts & (index > index))
        return jax.tree.map(lambda shape: zero.astype(shape.dtype), jax.eval_shape(function, x, counts, index, *others))

    return jax.lax.cond(jnp.any(operands[1]), function, zeros, *operands)
