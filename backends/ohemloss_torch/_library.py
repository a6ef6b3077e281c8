"""What PyTorch knows of its tensors."""

from typing import Any

import torch

from ohemloss import _kth, _total

from . import _cuda, _digits


def is_traced() -> bool:
    """Tell whether somebody records operations instead of running them."""
    return bool(torch.compiler.is_compiling() or torch.jit.is_tracing())


def is_plain(tensor: torch.Tensor) -> bool:
    """Tell whether a tensor holds values of its own, and operations on it simply run."""
    # A subclass, a wrapper of functorch, or a dispatch mode (fake tensors among them) may have no values.
    if type(tensor) not in (torch.Tensor, torch.nn.Parameter) or tensor.device.type == "meta":
        return False
    return not (torch._C._functorch.is_functorch_wrapped_tensor(tensor) or torch._C._len_torch_dispatch_stack() > 0)


def n_devices(tensor: torch.Tensor) -> int:
    """Count the processes that a tensor is distributed over."""
    mesh = getattr(tensor, "device_mesh", None)
    return 1 if mesh is None else int(mesh.size())


def host_view(tensor: torch.Tensor) -> torch.Tensor | None:
    """Give the values of a tensor if it is plain and in host memory, and nobody traces."""
    # The compiler first: it evaluates this test itself and then never sees the rest.
    if is_traced():
        return None
    return tensor.detach() if is_plain(tensor) and tensor.device.type == "cpu" else None


def kth_largest(
    engine: Any,
    scores: torch.Tensor,
    k: torch.Tensor,
    needed: torch.Tensor,
    axes: tuple[int, ...] | None = None,
) -> torch.Tensor:
    """Search on a device by its kernels, elsewhere by counting; where the host may look, only if it is needed."""
    # The selection is a constant of differentiation: without this, autograd would keep every step of the search.
    scores = scores.detach()
    if engine.is_spread and axes is None and getattr(scores, "device_mesh", None) is None:
        in_host_memory = host_view(needed) is not None
        if in_host_memory and not bool(needed):  # as all processes know
            return scores.new_zeros(k.shape)
        return _digits.kth_largest(engine, scores, k, in_host_memory=in_host_memory)
    if axes in (None, tuple(range(1, scores.ndim))) and not is_traced() and all(map(is_plain, (scores, k, needed))):
        on_device = _cuda.kth_largest(scores, k, needed, per_image=axes is not None)
        if on_device is not None:
            return on_device
    if host_view(needed) is not None and not bool(needed):
        return scores.new_zeros(k.shape)
    found: torch.Tensor = _kth.kth_largest(engine, scores, k, needed, axes)
    return found


def total(engine: Any, x: torch.Tensor) -> torch.Tensor:
    """Sum in short sums; under a compiler in float64, since the length of an axis may be unknown there."""
    if is_traced() and x.device.type != "mps":  # which has no float64
        return x.sum(dtype=torch.float64).to(x.dtype)
    found: torch.Tensor = _total.total(engine, x)
    return found
