"""What PyTorch knows of its tensors."""

from typing import Any

import torch

from ohemloss import _kth


def host_view(tensor: torch.Tensor) -> torch.Tensor | None:
    """Give the tensor itself if it is plain and in host memory, and nobody traces."""
    # The compiler first: it evaluates this test itself and then never sees the rest.
    if torch.compiler.is_compiling() or torch.jit.is_tracing():
        return None
    # A subclass, a wrapper of functorch, or a dispatch mode (fake tensors among them) may have no values.
    plain = type(tensor) in (torch.Tensor, torch.nn.Parameter) and tensor.device.type == "cpu"
    wrapped = torch._C._functorch.is_functorch_wrapped_tensor(tensor) or torch._C._len_torch_dispatch_stack() > 0
    return tensor if plain and not wrapped else None


def kth_largest(engine: Any, scores: torch.Tensor, k: torch.Tensor, needed: torch.Tensor) -> torch.Tensor:
    """Search by counting; where the host may look, only if it is needed."""
    # The selection is a constant of differentiation: without this, autograd would keep every step of the search.
    scores = scores.detach()
    if host_view(needed) is not None and not bool(needed):
        return scores.new_zeros(())
    found: torch.Tensor = _kth.kth_largest(engine, scores, k, needed)
    return found
