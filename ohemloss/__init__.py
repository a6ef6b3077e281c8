"""OHEM cross-entropy: only the hard pixels enter the loss, with the same numbers on every array library."""

from . import recipes
from ._backend import Backend
from ._binary import OhemBCELoss, ohem_binary_cross_entropy
from ._counts import Counts
from ._criterion import OhemCELoss
from ._explain import Trace, explain
from ._hard_mean import HardMean, hard_mean
from ._loss import ohem_cross_entropy, value_and_grad
from ._mining import Cut
from ._mining_rule import MiningRule
from ._registry import register

__version__ = "0.1.0.dev0"

__all__ = [
    "Backend",
    "Counts",
    "Cut",
    "HardMean",
    "MiningRule",
    "OhemBCELoss",
    "OhemCELoss",
    "Trace",
    "explain",
    "hard_mean",
    "ohem_binary_cross_entropy",
    "ohem_cross_entropy",
    "recipes",
    "register",
    "value_and_grad",
]
