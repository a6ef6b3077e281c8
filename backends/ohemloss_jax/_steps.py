"""The replaced step."""

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp

_KEYS = {"float32": jnp.uint32, "float64": jnp.uint64}


# Compiled by itself, so that a call outside `jax.jit` compiles the branches once for each shape and not at each call.
@partial(jax.jit, static_argnames=("engine", "axes"))
def kth_largest(
    engine: Any, scores: jax.Array, k: jax.Array, needed: jax.Array, axes: tuple[int, ...] | None = None
) -> jax.Array:
    """Search by counting as `ohemloss._kth` does, but over the bits themselves, in a loop, and only if needed."""
    # The selection is a constant of differentiation: without this, every derivative would be traced through the search.
    scores = jax.lax.stop_gradient(scores)
    search = partial(_search, axes=axes)
    return jax.lax.cond(needed, search, lambda scores, k: _zero(scores, k, axes).astype(scores.dtype), scores, k)


def _zero(scores: jax.Array, k: jax.Array, axes: tuple[int, ...] | None) -> jax.Array:
    """Make a zero that varies over the devices of a `shard_map` as the answer does: each branch and step must."""
    return jnp.where(jnp.any(scores > 0, axis=axes, keepdims=axes is not None) & (k > 0), 0, 0)


def _search(scores: jax.Array, k: jax.Array, axes: tuple[int, ...] | None) -> jax.Array:
    dtype = _KEYS[str(scores.dtype)]
    n_bits = scores.dtype.itemsize * 8
    sign = dtype(1 << (n_bits - 1))
    # One zero, and NaN above everything; with the bits of negative numbers flipped, the keys rise with the scores.
    scores = jnp.where(scores == 0, 0.0, jnp.where(jnp.isnan(scores), jnp.inf, scores))
    bits = jax.lax.bitcast_convert_type(scores, dtype)
    keys = jnp.where(bits & sign, ~bits, bits | sign)

    def is_open(state: tuple[jax.Array, ...]) -> jax.Array:
        i, _, is_exact = state
        return (i < n_bits) & ~is_exact

    def add_bit(state: tuple[jax.Array, ...]) -> tuple[jax.Array, ...]:
        i, found, _ = state
        candidate = found | (sign >> i.astype(dtype))
        n = _count(keys >= candidate, axes)
        return i + 1, jnp.where(n >= k, candidate, found), jnp.all(n == k)

    zero = _zero(scores, k, axes)
    # As soon as exactly k reach a candidate, the k-th largest is the smallest of these: the last bits need no count.
    _, found, _ = jax.lax.while_loop(is_open, add_bit, (jnp.sum(zero) * 0, zero.astype(dtype), jnp.any(zero > 0)))
    last = ~dtype(0)
    found = jnp.min(jnp.where(keys >= found, keys, last), axis=axes, keepdims=axes is not None, initial=last)
    return jax.lax.bitcast_convert_type(jnp.where(found & sign, found ^ sign, ~found), scores.dtype)


def _count(mask: jax.Array, axes: tuple[int, ...] | None) -> jax.Array:
    """Count by summing rows as floats, which is a third faster, and exact as long as a row has no 2**24 elements."""
    exact = axes is None and mask.ndim > 0 and isinstance(mask.shape[-1], int) and mask.shape[-1] < 2**24
    if exact:
        mask = jnp.sum(mask, axis=-1, dtype=jnp.float32).astype(jnp.int32)
    return jnp.sum(mask, axis=axes, keepdims=axes is not None)
