"""PyTorch: the loss as a module, and tensors served without a synchronisation or a copy that is not needed."""

from ._backend import backend
from ._module import OhemCELoss

__all__ = ["OhemCELoss", "backend"]
