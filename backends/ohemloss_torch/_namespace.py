"""The array API namespace of PyTorch, where the device of a distributed tensor is its mesh."""

from collections.abc import Callable
from numbers import Real
from typing import Any

import array_api_compat.torch as compat
import torch
from array_api_compat.torch import *

__array_api_version__ = compat.__array_api_version__


def device(tensor: torch.Tensor) -> Any:
    """Give the device of a tensor, or the mesh over which it is distributed."""
    mesh = getattr(tensor, "device_mesh", None)
    return tensor.device if mesh is None else mesh


def asarray(values: Any, *, dtype: torch.dtype | None = None, device: Any = None) -> torch.Tensor:
    """Make a tensor; on a mesh, the same one everywhere."""
    if isinstance(values, Real):  # filled in on the device; a copy of it would make the host wait
        return _replicated(device, lambda place: torch.full((), values, dtype=dtype, device=place))
    return _replicated(device, lambda place: compat.asarray(values, dtype=dtype, device=place))


def arange(n: int, *, device: Any = None) -> torch.Tensor:
    """Count from 0 to n - 1; on a mesh, the same everywhere."""
    return _replicated(device, lambda place: compat.arange(n, device=place))


def count_nonzero(x: torch.Tensor) -> torch.Tensor:
    """Count; over a mesh, everything and not what is here."""
    return _whole(compat.count_nonzero(x))


def sum(x: torch.Tensor, **options: Any) -> torch.Tensor:
    """Sum; over a mesh, everything and not what is here."""
    return _whole(compat.sum(x, **options))


def _replicated(place: Any, make: Callable[[Any], torch.Tensor]) -> torch.Tensor:
    if place is None or isinstance(place, (str, torch.device)):
        return make(place)
    from torch.distributed.tensor import DTensor, Replicate  # half a second that few need

    return DTensor.from_local(make(place.device_type), place, [Replicate()] * place.ndim, run_check=False)


def _whole(total: Any) -> Any:
    """Bring the parts of one number together: `item()` of such a tensor is else silently that of this process."""
    mesh = getattr(total, "device_mesh", None)
    if mesh is None or total.ndim:
        return total
    from torch.distributed.tensor import Replicate

    return total.redistribute(placements=[Replicate()] * mesh.ndim)
