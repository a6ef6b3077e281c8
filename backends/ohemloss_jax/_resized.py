"""
The step over the classes of logits that are resized, block by block: the resized logits never exist as a whole.

A block is a few cells of rows, which are the pixels between the same two rows of the logits. Those two are brought to
the length of the labels first, as they are fewer. Where a cell is more than a block, its rows are taken a few at a
time. For the derivative all this is computed again: nothing of it is kept.
"""

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any, TypeAlias

import jax
import jax.numpy as jnp

from ohemloss import _softmax
from ohemloss._resize import resized
from ohemloss._targets import Targets

from . import _rows
from ._cells import Cells
from ._linear import between, take

Results: TypeAlias = tuple[jax.Array, jax.Array | None]
# Of the axis of the classes, the rows below and above, the shares of the pixels, and their `counts` and `index`.
Step: TypeAlias = Callable[[int, jax.Array, jax.Array, jax.Array, jax.Array, jax.Array], Results]

# Resized logits of a block: what the caches of a CPU hold, and what fills a GPU.
_ON_CPU, _ELSEWHERE = 2**19, 2**24
# Pixels of a cell, at most.
_LONGEST = 8


def cross_entropy(engine: Any, logits: jax.Array, targets: Targets, weight: jax.Array | None, options: Any) -> Results:
    """See `ohemloss._softmax.cross_entropy`; all sizes are numbers above 0, and some axis is resized."""

    def smooth(axis: int, *x: jax.Array) -> Results:
        *rows, counts, index = x
        of_block = replace(targets, counts=counts, index=index)
        as_it_is = replace(options, axis=axis, resize=None, align_corners=False)
        return _softmax.cross_entropy(engine, between(0, *rows), of_block, weight, as_it_is)

    on_cpu, elsewhere = (smooth, smooth) if options.label_smoothing else (_rows.nll_on_cpu, _rows.nll)
    found: Results = jax.lax.platform_dependent(
        *(logits, targets.counts, targets.index),
        cpu=partial(_in_blocks, options, _ON_CPU, on_cpu),
        default=partial(_in_blocks, options, _ELSEWHERE, elsewhere),
    )
    return found


def _in_blocks(
    options: Any, n_logits: int, step: Step, logits: jax.Array, counts: jax.Array, index: jax.Array
) -> Results:
    """Apply a step to blocks of about `n_logits` resized logits, cut along the first axis that is resized."""
    (axis, n_in, n_out), *inner = resized(options, logits.shape, counts.shape)
    logits = logits.astype(jnp.promote_types(logits.dtype, jnp.float32))
    columns = {i: Cells.of(small, large, options.align_corners, _LONGEST) for i, small, large in inner}
    n_row = logits.size // logits.shape[axis]
    for i, cells in columns.items():
        n_row = n_row // logits.shape[i] * cells.place.size
    rows = Cells.of(n_in, n_out, options.align_corners, _LONGEST)
    size = -(-len(rows.place) // -(-rows.place.size * n_row // n_logits))
    rows, length = rows.in_groups(size), rows.place.shape[1]
    room = max(n_logits // (size * n_row), 1)
    n_parts = next(n for n in range(1, length + 1) if length % n == 0 and length <= n * room)
    classes, label_axis = options.axis + (options.axis < axis), axis - (axis > options.axis)

    def grouped(ends: Any) -> jax.Array:
        ends = jnp.moveaxis(take(logits, ends, axis), axis, 0)
        return jnp.reshape(ends, (-1, size, *ends.shape[1:]))

    def of_block(labels: jax.Array, place: jax.Array) -> jax.Array:
        labels = jnp.take(labels, place, axis=label_axis, mode="fill", fill_value=0)
        labels = jnp.moveaxis(labels, (label_axis, label_axis + 1), (0, 1))
        for i, cells in columns.items():
            labels = jnp.take(labels, cells.place.ravel(), axis=i + (i < options.axis), mode="fill", fill_value=0)
        return labels

    @partial(jax.checkpoint, prevent_cse=False)
    def block(_: None, of_rows: tuple[jax.Array, ...]) -> tuple[None, Results]:
        lower, upper, share, place = of_rows
        for i, cells in reversed(columns.items()):
            lower, upper = _widened(lower, cells, i), _widened(upper, cells, i)

        @partial(jax.checkpoint, prevent_cse=False)
        def part(_: None, of_places: tuple[jax.Array, ...]) -> tuple[None, Results]:
            share, place = of_places
            return None, step(classes + 1, lower, upper, share, of_block(counts, place), of_block(index, place))

        if n_parts == 1:
            _, found = part(None, (share, place))
            return None, found
        places = (jnp.moveaxis(jnp.reshape(x, (size, n_parts, -1)), 1, 0) for x in (share, place))
        _, found = jax.lax.scan(part, None, tuple(places))
        return None, jax.tree.map(lambda x: jnp.reshape(jnp.moveaxis(x, 0, 1), (size, length, *x.shape[3:])), found)

    def in_order(found: jax.Array) -> jax.Array:
        found = take(jnp.reshape(found, (-1, *found.shape[3:])), rows.order, 0)
        for i, cells in columns.items():
            found = take(found, cells.order, i - (i > options.axis))
        return jnp.moveaxis(found, 0, label_axis)

    places = (jnp.reshape(of_places, (-1, size, of_places.shape[1])) for of_places in (rows.share, rows.place))
    _, found = jax.lax.scan(block, None, (grouped(rows.lower), grouped(rows.upper), *places))
    results: Results = jax.tree.map(in_order, found)
    return results


def _widened(x: jax.Array, cells: Cells, axis: int) -> jax.Array:
    """Compute the places of all cells of an axis, in their order."""
    x = between(axis, take(x, cells.lower, axis), take(x, cells.upper, axis), cells.share)
    return jnp.reshape(x, (*x.shape[:axis], -1, *x.shape[axis + 2 :]))
