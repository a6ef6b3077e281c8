"""What takes the place of the composite, and when."""

from typing import Any

from ohemloss import _composite
from ohemloss._engine import Engine
from ohemloss._inputs import Inputs

from . import _launch
from ._call import Call, serves
from ._resized import ResizedCall

# Every option, also those that the kernels do not know: see `loss`.
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
    # The composite runs in here and not by NotImplemented: CuPy makes new arrays on the current device, and runs there.
    with _launch.runtime.current(inputs.logits):
        if serves(inputs, options):
            return _call(engine, inputs, options, differentiate=False).forward()
        return _composite.loss(engine, inputs, options)


def value_and_grad(engine: Engine, inputs: Inputs, options: Any, /) -> Any:
    """See `ohemloss.value_and_grad`."""
    with _launch.runtime.current(inputs.logits):
        if serves(inputs, options):
            call = _call(engine, inputs, options, differentiate=True)
            return call.forward(), call.backward()
        return _composite.value_and_grad(engine, inputs, options)


def _call(engine: Engine, inputs: Inputs, options: Any, *, differentiate: bool) -> Call:
    kind = Call if options.resize is None else ResizedCall
    return kind(engine, inputs, options, differentiate=differentiate)
