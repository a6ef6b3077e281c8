"""What takes the place of the composite, and when."""

from typing import Any

from ohemloss._engine import Engine
from ohemloss._inputs import Inputs

from . import _autograd

# Every option: what is kept for the backward is the same.
SUPPORTS = frozenset(
    {
        "axis",
        "ignore_index",
        "label_smoothing",
        "min_kept",
        "min_kept as an array",
        "pixel_weight",
        "positives",
        "reduction",
        "rule",
        "thresh",
        "thresh as an array",
        "weight",
    }
)


def loss(engine: Engine, inputs: Inputs, options: Any, /) -> Any:
    """See `ohemloss.ohem_cross_entropy`."""
    others = (inputs.labels, inputs.weight, inputs.pixel_weight, inputs.positives, *options.arrays().values())
    if not _autograd.serves(inputs.logits, *others):
        return NotImplemented
    return _autograd.loss(engine, inputs, options)
