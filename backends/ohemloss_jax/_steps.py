"""The replaced step."""

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp

from ohemloss._engine import Axes, same

from ._library import per_platform

_KEYS = {"float32": jnp.uint32, "float64": jnp.uint64}

# Bits that are found in one pass over the keys, where all their values are counted at once.
_DIGIT = 4


# Compiled by itself, so that a call outside `jax.jit` compiles the branches once for each shape and not at each call.
@partial(jax.jit, static_argnames=("engine", "axes"))
def kth_largest(engine: Any, scores: jax.Array, k: jax.Array, needed: jax.Array, axes: Axes = None) -> jax.Array:
    """Search by counting as `ohemloss._kth` does, but over the bits themselves, and only if needed."""
    # The selection is a constant of differentiation: without this, every derivative would be traced through the search.
    scores = jax.lax.stop_gradient(scores)
    if engine.is_spread and axes is None:  # all places know whether it is needed, and take the same branch
        search = partial(_search, axes=axes, way=partial(_digit_by_digit, axes, engine.joined))
        return jax.lax.cond(needed, search, lambda scores, k: jnp.zeros_like(k, scores.dtype), scores, k)
    search = partial(_search, axes=axes)
    return jax.lax.cond(needed, search, lambda scores, k: _zero(scores, k, axes).astype(scores.dtype), scores, k)


def _zero(scores: jax.Array, k: jax.Array, axes: Axes) -> jax.Array:
    """Make a zero that varies over the devices of a `shard_map` as the answer does: each branch and step must."""
    return jnp.where(jnp.any(scores > 0, axis=axes, keepdims=axes is not None) & (k > 0), 0, 0)


def _search(scores: jax.Array, k: jax.Array, axes: Axes, way: Callable[..., jax.Array] | None = None) -> jax.Array:
    dtype = _KEYS[str(scores.dtype)]
    sign = dtype(1 << (scores.dtype.itemsize * 8 - 1))
    # One zero, and NaN above everything; with the bits of negative numbers flipped, the keys rise with the scores.
    scores = jnp.where(scores == 0, 0.0, jnp.where(jnp.isnan(scores), jnp.inf, scores))
    bits = jax.lax.bitcast_convert_type(scores, dtype)
    keys = jnp.where(bits & sign, ~bits, bits | sign)
    if way is not None:
        found = way(keys, k)
    else:
        found = per_platform(keys, k, gpu=partial(_digit_by_digit, axes, same), default=partial(_bit_by_bit, axes))
    return jax.lax.bitcast_convert_type(jnp.where(found & sign, found ^ sign, ~found), scores.dtype)


def _bit_by_bit(axes: Axes, keys: jax.Array, k: jax.Array) -> jax.Array:
    """Find the k-th largest key in a loop that ends as soon as it can."""
    dtype, n_bits = keys.dtype.type, keys.dtype.itemsize * 8

    def is_open(state: tuple[jax.Array, ...]) -> jax.Array:
        i, _, is_exact = state
        return (i < n_bits) & ~is_exact

    def add_bit(state: tuple[jax.Array, ...]) -> tuple[jax.Array, ...]:
        i, found, _ = state
        candidate = found | (dtype(1 << (n_bits - 1)) >> i.astype(dtype))
        n = _count(keys >= candidate, axes)
        return i + 1, jnp.where(n >= k, candidate, found), jnp.all(n == k)

    zero = _zero(keys, k, axes)
    # As soon as exactly k reach a candidate, the k-th largest is the smallest of these: the last bits need no count.
    _, found, _ = jax.lax.while_loop(is_open, add_bit, (jnp.sum(zero) * 0, zero.astype(dtype), jnp.any(zero > 0)))
    last = ~dtype(0)
    return jnp.min(jnp.where(keys >= found, keys, last), axis=axes, keepdims=axes is not None, initial=last)


def _digit_by_digit(axes: Axes, join: Callable[[Any], Any], keys: jax.Array, k: jax.Array) -> jax.Array:
    """
    Find the k-th largest key without a loop, at each step of which a host would wait.

    All values of a digit are counted in one pass. Without a loop XLA puts the whole loss into one graph, which the
    device runs by itself, the branch around the search included. (It computes both sides of a branch that holds
    nothing but reductions and operations element by element. The `iota` is neither.)
    """
    dtype, n_bits = keys.dtype.type, keys.dtype.itemsize * 8
    over = tuple(range(keys.ndim)) if axes is None else axes
    found = jnp.zeros_like(k, dtype=dtype)
    for shift in range(n_bits - _DIGIT, -1, -_DIGIT):
        candidates = found[..., None] | (jax.lax.iota(dtype, 2**_DIGIT) << dtype(shift))
        n = join(jnp.sum(keys[..., None] >= candidates, axis=over, keepdims=axes is not None, dtype=k.dtype))
        found = jnp.max(jnp.where(n >= k[..., None], candidates, 0), axis=-1)
    return found


def _count(mask: jax.Array, axes: Axes) -> jax.Array:
    """Count by summing rows as floats, which is a third faster, and exact as long as a row has no 2**24 elements."""
    exact = axes is None and mask.ndim > 0 and isinstance(mask.shape[-1], int) and mask.shape[-1] < 2**24
    if exact:
        mask = jnp.sum(mask, axis=-1, dtype=jnp.float32).astype(jnp.int32)
    return jnp.sum(mask, axis=axes, keepdims=axes is not None)
