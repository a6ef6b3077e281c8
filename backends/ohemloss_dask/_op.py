"""What takes the place of the composite, and when."""

import math
from typing import Any

import numpy as np

from ohemloss._engine import Engine
from ohemloss._inputs import Inputs

from ._graph import Graph

SUPPORTS = frozenset(
    {
        "axis",
        "ignore_index",
        "label_smoothing",
        "min_kept",
        "pixel_weight",
        "reduction",
        "thresh",
        "weight",
    }
)


def loss(engine: Engine, inputs: Inputs, options: Any, /) -> Any:
    """See `ohemloss.ohem_cross_entropy`."""
    return Graph(inputs, options).value() if _serves(inputs, options) else NotImplemented


def value_and_grad(engine: Engine, inputs: Inputs, options: Any, /) -> Any:
    """See `ohemloss.value_and_grad`."""
    if not _serves(inputs, options):
        return NotImplemented
    graph = Graph(inputs, options)
    return graph.value(), graph.gradient()


def _serves(inputs: Inputs, options: Any) -> bool:
    """Tell whether the mining is the usual one, by numbers, and chunks are NumPy arrays of known sizes."""
    arrays = [inputs.logits, inputs.labels, inputs.weight, inputs.pixel_weight]
    usual = options.mines_as_usual() and isinstance(options.min_kept, int | float)
    return usual and all(_is_known(array) for array in arrays if array is not None)


def _is_known(array: Any) -> bool:
    # Exactly: chunks of a subclass, a masked array for one, mean something else.
    return type(array._meta) is np.ndarray and not any(map(math.isnan, array.shape))
