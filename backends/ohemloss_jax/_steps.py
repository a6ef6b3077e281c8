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

    def add_bit(i: jax.Array, found: jax.Array) -> jax.Array:
        candidate = found | (sign >> i.astype(dtype))
        enough = jnp.sum(keys >= candidate, axis=axes, keepdims=axes is not None) >= k
        return jnp.where(enough, candidate, found)

    found = jax.lax.fori_loop(0, n_bits, add_bit, _zero(scores, k, axes).astype(dtype))
    return jax.lax.bitcast_convert_type(jnp.where(found & sign, found ^ sign, ~found), scores.dtype)
