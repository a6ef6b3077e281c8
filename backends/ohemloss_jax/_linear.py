"""
Linear steps with a derivative that goes back by looking up.

The transpose of a look-up adds to places: on a CPU XLA does that in a loop, number by number, and on a GPU in no fixed
order. The transpose of a repetition is a sum over an axis, which on a CPU is slow unless it is the last one, and is not
kept apart from what it is computed of. So the derivatives are written as what these are the transposes of.
"""

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np


@partial(jax.custom_jvp, nondiff_argnums=(1, 2))
def take(x: jax.Array, index: np.ndarray, axis: int) -> jax.Array:
    """Look up along an axis; the derivative goes back by looking up, too. What -1 finds is anything, and a constant."""
    return jnp.take(x, index, axis=axis, mode="clip")


@take.defjvp  # type: ignore[untyped-decorator,unused-ignore]
def _take_jvp(index: np.ndarray, axis: int, primals: Any, tangents: Any) -> tuple[jax.Array, jax.Array]:
    (x,), (tangent,) = primals, tangents
    result = take(x, index, axis)
    users = _users(index, tangent.shape[axis])
    shape = (*tangent.shape[: axis + 1], users.shape[1], *tangent.shape[axis + 1 :])
    copies = jnp.broadcast_to(jnp.expand_dims(tangent, axis + 1), shape)
    nothing = jnp.zeros(result.shape, tangent.dtype)
    # Added to places, each of them once: the transpose of this is a look-up.
    return result, nothing.at[(slice(None),) * axis + (users,)].add(copies, mode="drop")


def _users(index: np.ndarray, n_in: int) -> np.ndarray:
    """List the results that each of `n_in` elements is looked up for, in rows filled up with what is out of range."""
    counts = np.bincount(index[index >= 0], minlength=n_in)
    order = np.argsort(index, kind="stable")[np.sum(index < 0) :]
    users = np.full((n_in, counts.max()), len(index))
    users[index[order], np.arange(len(order)) - np.repeat(np.cumsum(counts) - counts, counts)] = order
    return users


@partial(jax.custom_jvp, nondiff_argnums=(0,))
def between(axis: int, lower: jax.Array, upper: jax.Array, share: Any) -> jax.Array:
    """Compute the places of the cells that lie between two arrays, along a new axis behind that of the cells."""
    return _between(axis, jnp.expand_dims(lower, axis + 1), jnp.expand_dims(upper, axis + 1), share)


@between.defjvp  # type: ignore[untyped-decorator,unused-ignore]
def _between_jvp(axis: int, primals: tuple[Any, ...], tangents: tuple[Any, ...]) -> tuple[jax.Array, jax.Array]:
    lower, upper, _ = tangents
    return between(axis, *primals), stacked(axis, lower, upper, primals[2])


def stacked(axis: int, lower: jax.Array, upper: jax.Array, share: Any) -> jax.Array:
    """Compute what `between` does, of copies: the transpose is a sum of slices."""
    lower, upper = (jnp.stack([ends] * share.shape[1], axis + 1) for ends in (lower, upper))
    return _between(axis, lower, upper, share)


def _between(axis: int, lower: jax.Array, upper: jax.Array, share: Any) -> jax.Array:
    share = jnp.reshape(share, (*share.shape, *(1,) * (lower.ndim - axis - 2))).astype(lower.dtype)
    return (1 - share) * lower + share * upper
