"""PyTorch: the loss as a module, and tensors served without a synchronisation that is not needed."""

import torch

from ohemloss import Backend, register

from ._library import host_view, kth_largest
from ._module import OhemCELoss

backend = Backend(name="torch", namespace="array_api_compat.torch", host_view=host_view, kth_largest=kth_largest)

# Ahead of the first call: a compiler that traces the look-up must not meet an import.
register(backend, torch.Tensor, torch.nn.Parameter)

__all__ = ["OhemCELoss", "backend"]
