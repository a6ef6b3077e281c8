"""The sum over the mapped axes that a batch is spread over."""

from collections.abc import Hashable
from dataclasses import dataclass

import jax


@dataclass(frozen=True)
class Mapped:
    """Axes of a `shard_map` or a `pmap`, by name, as what adds up a few numbers that each place has."""

    axis_name: Hashable

    def __call__(self, x: jax.Array) -> jax.Array:
        """Add up; the collective is in nobody's derivative of its own, so JAX differentiates it as it is called."""
        found: jax.Array = jax.lax.psum(x, self.axis_name)
        return found

    @property
    def size(self) -> int:
        """The number of places."""
        return int(jax.lax.psum(1, self.axis_name))


def mapped(value: Hashable) -> Mapped:
    """Take the names of axes that are mapped where this is called; refuse others."""
    found = Mapped(value)
    try:
        _ = found.size
    except NameError as error:
        msg = (
            f"`axis_name` must name axes that `jax.shard_map`, `jax.pmap` or `jax.vmap` has mapped here: got {value!r}."
        )
        raise ValueError(msg) from error
    return found
