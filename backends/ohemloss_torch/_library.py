"""What PyTorch knows of its tensors."""

from typing import Any

import torch

from ohemloss import _kth


def is_readable(tensor: torch.Tensor) -> bool:
    """Tell whether a tensor is plain, in host memory, and nobody traces."""
    # The compiler first: it evaluates this test itself and then never sees the rest.
    return not torch.compiler.is_compiling() and (
        type(tensor) in (torch.Tensor, torch.nn.Parameter)
        and tensor.device.type == "cpu"
        and not torch.jit.is_tracing()
        and not torch._C._functorch.is_functorch_wrapped_tensor(tensor)
        and torch._C._len_torch_dispatch_stack() == 0
    )


def kth_largest(engine: Any, scores: torch.Tensor, k: torch.Tensor, needed: torch.Tensor) -> torch.Tensor:
    """Search by counting; where the host may look, only if it is needed."""
    # The selection is a constant of differentiation: without this, autograd would keep every step of the search.
    scores = scores.detach()
    if is_readable(needed) and not bool(needed):
        return scores.new_zeros(())
    return _kth.kth_largest(engine, scores, k, needed)
