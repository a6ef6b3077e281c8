"""The step over the classes of the pixels that lie between two rows of logits."""

from functools import partial
from typing import Any

import jax

from ._classes import _nll, _nll_of, _nll_on_cpu, _nll_tangent, _parts, _where_any_counts
from ._linear import between, stacked


def nll(axis: int, lower: jax.Array, upper: jax.Array, share: jax.Array, *labels: jax.Array) -> tuple[jax.Array, None]:
    """Compute minus the logarithm of the softmax of the label, and nothing over the classes."""
    return _nll(axis, between(0, lower, upper, share), *labels), None


def nll_on_cpu(axis: int, *x: jax.Array) -> tuple[jax.Array, None]:
    """Compute the same in the way of a CPU."""
    return _nll_between(axis, *x), None


@partial(jax.custom_jvp, nondiff_argnums=(0,))
def _nll_between(
    axis: int, lower: jax.Array, upper: jax.Array, share: jax.Array, counts: jax.Array, index: jax.Array
) -> jax.Array:
    return _nll_on_cpu(axis, between(0, lower, upper, share), counts, index)


@_nll_between.defjvp  # type: ignore[untyped-decorator,unused-ignore]
def _nll_between_jvp(axis: int, primals: tuple[jax.Array, ...], tangents: tuple[Any, ...]) -> tuple[Any, Any]:
    *rows, counts, index = primals
    of_pixels = between(0, *rows), counts, index
    largest, sums, own = _parts(axis, "cpu", *of_pixels)

    # Computed again where it goes back, and in a branch, so that it is fused to nothing before or after.
    @partial(jax.checkpoint, prevent_cse=False)
    def tangent(*x: jax.Array) -> jax.Array:
        *of_pixels, largest, sums, lower, upper, share = x
        return _nll_tangent(axis, tuple(of_pixels), stacked(0, lower, upper, share), largest, sums)

    lower, upper, *_ = tangents
    return _nll_of(sums, own), _where_any_counts(tangent, axis, *of_pixels, largest, sums, lower, upper, rows[2])
