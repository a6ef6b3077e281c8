"""The loss in plain eager autograd: little is kept for the backward, which is the closed form."""

from collections.abc import Sequence
from dataclasses import fields, replace
from typing import Any

import torch
from torch.autograd import forward_ad

from ohemloss import Cut, _composite
from ohemloss._engine import Engine
from ohemloss._inputs import Inputs

from ._library import is_plain, is_traced


def serves(logits: torch.Tensor, *others: torch.Tensor | None) -> bool:
    """
    Tell whether `loss` below is right for these tensors, and of use.

    Everything else differentiates the composite, operation by operation: transformations of functions, which see
    wrapped tensors; forward mode, which would need a rule of its own; compilers, which do better without a node that is
    opaque to them; weights that want a gradient.
    """
    if is_traced() or not (torch.is_grad_enabled() and logits.requires_grad):
        return False
    tensors = [logits, *(other for other in others if other is not None)]
    if torch._C._are_functorch_transforms_active() or not all(map(is_plain, tensors)):
        return False
    if any(tensor.is_inference() for tensor in tensors):  # which cannot be kept
        return False
    if any(forward_ad.unpack_dual(tensor).tangent is not None for tensor in tensors):
        return False
    return not any(tensor.requires_grad for tensor in tensors[1:])


def loss(engine: Engine, inputs: Inputs, options: Any) -> torch.Tensor:
    """See `ohemloss.ohem_cross_entropy`."""
    tensors = (getattr(inputs, name) for name in _INPUTS)
    value: torch.Tensor = _Loss.apply(engine, options, *tensors)[0]
    return value


class _Loss(torch.autograd.Function):
    """
    Keep the arguments, the score of each pixel, the cut and the divisor: nothing of the size of the logits.

    The backward is made of differentiable operations on the logits themselves, so a second derivative is right.
    """

    @staticmethod
    def forward(engine: Engine, options: Any, *tensors: torch.Tensor | None) -> tuple[torch.Tensor, ...]:
        steps = _composite.run_steps(engine, _inputs(tensors), options)
        cut, divisor = steps.selection.mined.cut, steps.selection.divisor
        return steps.value, steps.scores, divisor, cut.value, cut.tie_weight, cut.count

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[torch.Tensor, ...]) -> None:
        ctx.engine, options, *tensors = inputs
        # The backward has no use for them, and a buffer may be filled again before it runs.
        ctx.options = replace(options, thresh=None, min_kept=0)
        ctx.mark_non_differentiable(*output[1:])
        ctx.set_materialize_grads(False)
        ctx.save_for_backward(*tensors, *output[1:])

    @staticmethod
    def backward(ctx: Any, cotangent: torch.Tensor | None, *_: None) -> tuple[torch.Tensor | None, ...]:
        others = (None,) * (len(_INPUTS) - 1)
        if cotangent is None:
            return (None, None, None, *others)
        saved = ctx.saved_tensors
        inputs, (scores, divisor, *cut) = _inputs(saved[: len(_INPUTS)]), saved[len(_INPUTS) :]
        gradient = _composite.gradient_of_kept(ctx.engine, inputs, ctx.options, scores, Cut(*cut), divisor, cotangent)
        return (None, None, gradient, *others)


# In the order in which the node takes and keeps them.
_INPUTS = tuple(field.name for field in fields(Inputs))


def _inputs(tensors: Sequence[torch.Tensor | None]) -> Inputs:
    return Inputs(**dict(zip(_INPUTS, tensors, strict=True)))
