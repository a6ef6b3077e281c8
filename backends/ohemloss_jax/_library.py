"""What JAX knows of its arrays, and of where they are."""

from collections.abc import Callable
from dataclasses import fields
from typing import Any

import jax
import numpy as np

from ohemloss import Cut, Trace
from ohemloss._inputs import Inputs


def device(array: jax.Array) -> Any:
    """Give the one device that an array is bound to; None if JAX may choose (a trace, several, not committed)."""
    if isinstance(array, jax.core.Tracer) or not array.committed or len(array.devices()) != 1:
        return None
    return next(iter(array.devices()))


def n_devices(array: jax.Array) -> int:
    """Count the devices that an array is spread over, or copied to; within a trace nobody knows."""
    return 1 if isinstance(array, jax.core.Tracer) else len(array.devices())


def host_view(array: jax.Array) -> np.ndarray | None:
    """Give a NumPy view of an array that is whole, concrete, and in host memory."""
    # Of NumPy, because within `jax.jit` each operation is traced, also those on concrete arrays.
    if isinstance(array, jax.core.Tracer) or not array.is_fully_addressable:
        return None
    if any(there.platform != "cpu" for there in array.devices()):
        return None
    return np.asarray(array)


def per_platform(
    *operands: Any,
    gpu: Callable[..., Any],
    default: Callable[..., Any],
    known: str | None = None,
    **others: Callable[..., Any],
) -> Any:
    """Compute in the way of the platform that a program is compiled for; in that of `known`, one of `others`."""
    if known is not None:
        return others[known](*operands)
    return jax.lax.platform_dependent(*operands, cuda=gpu, rocm=gpu, default=default, **others)


def register_pytrees() -> None:
    """Let what holds arrays pass through jit, vmap and the like."""
    for cls in (Cut, Inputs, Trace):
        names = [f.name for f in fields(cls)]
        constants = [name for name in names if name == "n_devices"]
        jax.tree_util.register_dataclass(cls, [name for name in names if name not in constants], constants)
