"""OHEM cross-entropy: only the hard pixels enter the loss, with the same numbers on every array library."""

from ._backend import Backend
from ._criterion import OhemCELoss
from ._explain import Trace, explain
from ._hard_mean import hard_mean
from ._loss import ohem_cross_entropy, value_and_grad
from ._mining import Cut
from ._registry import register

__version__ = "0.1.0.dev0"

__all__ = [
    "Backend",
    "Cut",
    "OhemCELoss",
    "Trace",
    "explain",
    "hard_mean",
    "ohem_cross_entropy",
    "register",
    "value_and_grad",
]
