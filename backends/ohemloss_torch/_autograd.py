"""The loss in plain eager autograd: little is kept for the backward, which is the closed form."""

from collections.abc import Sequence
from dataclasses import fields, replace
from typing import Any

import torch
from torch.autograd import forward_ad

from ohemloss import _composite, _selection
from ohemloss._arrays import is_array
from ohemloss._engine import Engine
from ohemloss._inputs import Inputs

from . import _across, _served
from ._kept import Kept
from ._library import is_plain, is_traced


def is_eager(tensors: Sequence[torch.Tensor]) -> bool:
    """Tell whether operations on the tensors simply run, at most recorded for a backward pass."""
    if is_traced() or torch._C._are_functorch_transforms_active() or not all(map(is_plain, tensors)):
        return False
    return all(forward_ad.unpack_dual(tensor).tangent is None for tensor in tensors)


def serves(logits: torch.Tensor, others: Sequence[torch.Tensor]) -> bool:
    """
    Tell whether `loss` below is right for these eager tensors, and of use.

    Everything else differentiates the composite, operation by operation: transformations of functions, which see
    wrapped tensors; forward mode, which would need a rule of its own; compilers, which do better without a node that is
    opaque to them; weights that want a gradient.
    """
    if not wants_gradient([logits]) or wants_gradient(others):
        return False
    return not any(tensor.is_inference() for tensor in (logits, *others))  # which cannot be kept


def wants_gradient(tensors: Sequence[torch.Tensor]) -> bool:
    """Tell whether a backward pass may follow."""
    return torch.is_grad_enabled() and any(tensor.requires_grad for tensor in tensors)


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
    def forward(engine: Engine, options: Any, *tensors: torch.Tensor | None) -> tuple[torch.Tensor | None, ...]:
        call = None if engine.is_spread else _served.call_of(engine, _inputs(tensors), options)
        if engine.is_spread:
            value, kept = _across.forward(engine, _inputs(tensors), options)
        elif call is not None:
            value, kept = call.forward()
        else:
            steps = _composite.run_steps(engine, _inputs(tensors), options)
            value, selection = _selection.whole(engine, steps.part, options.reduction), steps.selection
            kept = Kept(steps.scores, None, selection.mined.cut, selection.divisor)
        return value, *kept.tensors()

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[torch.Tensor | None, ...]) -> None:
        ctx.engine, options, *tensors = inputs
        # The backward has no use for them, and a buffer may be filled again before it runs. (Who serves a function of
        # the counts forward must be asked for it backward, too.)
        ctx.options = replace(options, thresh=None, min_kept=0 if is_array(options.min_kept) else options.min_kept)
        ctx.mark_non_differentiable(*(tensor for tensor in output[1:] if tensor is not None))
        ctx.set_materialize_grads(False)
        ctx.save_for_backward(*tensors, *output[1:])

    @staticmethod
    def backward(ctx: Any, cotangent: torch.Tensor | None, *_: None) -> tuple[torch.Tensor | None, ...]:
        others = (None,) * (len(_INPUTS) - 1)
        if cotangent is None:
            return (None, None, None, *others)
        if ctx.engine.is_spread:
            cotangent = cotangent * ctx.engine.n_places
        saved = ctx.saved_tensors
        inputs, kept = _inputs(saved[: len(_INPUTS)]), Kept.of(*saved[len(_INPUTS) :])
        # With a graph to be made, the gradient itself may be differentiated.
        call = None if torch.is_grad_enabled() else _served.call_of(ctx.engine, inputs, ctx.options, cotangent)
        if call is not None:
            return (None, None, call.backward(kept, cotangent), *others)
        found = (kept.scores, kept.cut, kept.divisor, cotangent)
        return (None, None, _composite.gradient_of_kept(ctx.engine, inputs, ctx.options, *found), *others)


# In the order in which the node takes and keeps them.
_INPUTS = tuple(field.name for field in fields(Inputs))


def _inputs(tensors: Sequence[torch.Tensor | None]) -> Inputs:
    return Inputs(**dict(zip(_INPUTS, tensors, strict=True)))
