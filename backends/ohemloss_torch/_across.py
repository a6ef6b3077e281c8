"""The loss of a batch that is spread over processes: each pixel's is computed here, the selection is made by all."""

from typing import Any

import torch

from ohemloss import _composite
from ohemloss._engine import Engine
from ohemloss._inputs import Inputs
from ohemloss._rule import mining_quota
from ohemloss._selection import reduce, select, whole

from . import _served
from ._kept import Kept


def forward(engine: Engine, inputs: Inputs, options: Any) -> tuple[torch.Tensor, Kept]:
    """
    Compute the loss, and what the backward pass needs.

    Whoever serves the pixels here, the exchanges are those of the core: each process makes the same ones.
    """
    call = _served.call_of(engine, inputs, options)
    if call is None:
        steps = _composite.run_steps(engine, inputs, options)
        part, selection = steps.part, steps.selection
        kept = Kept(steps.scores, None, selection.mined.cut, selection.divisor)
    else:
        found = call.pixels()
        quota = mining_quota(engine, options, found.losses)
        about = (quota, options.rule, inputs.positives, found.class_scales)
        selection = select(engine, found.losses, found.scores, found.valid, *about)
        part = reduce(engine, found.losses, selection, options.rule, options.reduction)
        kept = Kept(found.scores, found.norms, selection.mined.cut, selection.divisor)
    return whole(engine, part, options.reduction), kept
