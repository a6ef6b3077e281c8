"""Who serves a call on plain tensors: one of the two that know where the values lie."""

from typing import Any, Protocol

import torch

from ohemloss._engine import Engine
from ohemloss._inputs import Inputs

from ._cuda import device_of
from ._host import host_of
from ._kept import Kept, Pixels
from ._resized import resized_of


class Call(Protocol):
    """One call of the loss."""

    def forward(self) -> tuple[torch.Tensor, Kept]:
        """Compute the loss, and what the backward pass needs."""
        ...

    def pixels(self) -> Pixels:
        """Compute the losses alone, for a selection that others take part in."""
        ...

    def backward(self, kept: Kept, cotangent: torch.Tensor | None = None) -> torch.Tensor:
        """Compute the gradient with respect to the logits; `cotangent` is that with respect to the value."""
        ...


def call_of(engine: Engine, inputs: Inputs, options: Any, *others: torch.Tensor) -> Call | None:
    """Give the call, where `others` take part too; None if nobody serves it, so that the composite must run."""
    call = device_of(engine, inputs, options, *others) or resized_of(engine, inputs, options, *others)
    return call or host_of(inputs, options, *others)
