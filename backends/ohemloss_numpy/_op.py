"""What takes the place of the composite, and when."""

from typing import Any

from ohemloss._engine import Engine
from ohemloss._inputs import Inputs

from ._host import Host

# Every option of the loss; of the rules, those that select over the batch.
SUPPORTS = frozenset(
    {
        "align_corners",
        "axis",
        "ignore_index",
        "label_smoothing",
        "min_kept",
        "min_kept as an array",
        "pixel_weight",
        "positives",
        "reduction",
        "resize",
        "rule",
        "thresh",
        "thresh as an array",
        "weight",
    }
)


def loss(engine: Engine, inputs: Inputs, options: Any, /) -> Any:
    """See `ohemloss.ohem_cross_entropy`."""
    return NotImplemented if options.rule.per_image else Host(inputs, options).forward()[0]


def value_and_grad(engine: Engine, inputs: Inputs, options: Any, /) -> Any:
    """See `ohemloss.value_and_grad`."""
    if options.rule.per_image:
        return NotImplemented
    host = Host(inputs, options)
    value, kept = host.forward()
    return value, host.backward(kept)
