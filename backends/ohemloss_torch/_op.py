"""What takes the place of the composite, and when."""

from typing import Any

import torch

from ohemloss._engine import Engine
from ohemloss._inputs import Inputs

from . import _across, _autograd, _served

# Every option: what is kept for the backward is the same.
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
        "process_group",
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
    others = _others(inputs, options)
    if not _autograd.is_eager([inputs.logits, *others]):
        return NotImplemented
    if _autograd.serves(inputs.logits, others):
        return _autograd.loss(engine, inputs, options)
    if _autograd.wants_gradient([inputs.logits, *others]):
        return NotImplemented
    if engine.is_spread:
        return _across.forward(engine, inputs, options)[0]
    call = _served.call_of(engine, inputs, options)
    return NotImplemented if call is None else call.forward()[0]


def value_and_grad(engine: Engine, inputs: Inputs, options: Any, /) -> Any:
    """See `ohemloss.value_and_grad`."""
    tensors = [inputs.logits, *_others(inputs, options)]
    if not _autograd.is_eager(tensors) or _autograd.wants_gradient(tensors):
        return NotImplemented
    call = _served.call_of(engine, inputs, options)
    if call is None:
        return NotImplemented
    value, kept = _across.forward(engine, inputs, options) if engine.is_spread else call.forward()
    return value, call.backward(kept)


def _others(inputs: Inputs, options: Any) -> list[torch.Tensor]:
    others = (inputs.labels, inputs.weight, inputs.pixel_weight, inputs.positives, *options.arrays().values())
    return [other for other in others if other is not None]
