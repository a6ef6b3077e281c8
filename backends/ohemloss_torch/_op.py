"""What takes the place of the composite, and when."""

from typing import Any

import torch

from ohemloss._engine import Engine

from . import _autograd, _namespace
from ._library import kth_largest, total

# Every option: what is kept for the backward is the same.
SUPPORTS = frozenset(
    {
        "axis",
        "ignore_index",
        "label_smoothing",
        "min_kept",
        "min_kept as an array",
        "pixel_weight",
        "reduction",
        "thresh",
        "thresh as an array",
        "weight",
    }
)


def loss(
    logits: torch.Tensor,
    labels: torch.Tensor,
    /,
    *,
    weight: torch.Tensor | None,
    pixel_weight: torch.Tensor | None,
    options: Any,
) -> Any:
    """See `ohemloss.ohem_cross_entropy`."""
    if not _autograd.serves(logits, labels, weight, pixel_weight, *options.arrays().values()):
        return NotImplemented
    engine = Engine(xp=_namespace, device=logits.device, kth_largest=kth_largest, total=total)
    return _autograd.loss(engine, logits, labels, weight, pixel_weight, options)
