"""The loss and its gradient in plain array API operations on whole arrays: what runs on every library."""

from dataclasses import dataclass, replace

from ._engine import Engine
from ._inputs import Inputs
from ._mining import Cut, Quota, weigh
from ._options import Options
from ._pixels import logits_gradient, pixel_losses
from ._resize import shrink
from ._rule import mining_quota
from ._selection import Selection, divide, pool_of, positives_of, reduce, select, whole
from ._softmax import Softmax
from ._targets import Targets, read_targets
from ._typing import Array


@dataclass(frozen=True)
class Steps:
    """
    The way to the value: what each pixel is and loses, what was asked for, and what was selected.

    `part` is what the value has from here: all of it, unless other places have a part of the batch.
    """

    valid: Array
    losses: Array
    scores: Array
    quota: Quota
    selection: Selection
    part: Array


def run_steps(engine: Engine, inputs: Inputs, options: Options) -> Steps:
    """Compute the value and keep the way to it."""
    targets = read_targets(engine, inputs, options)
    nlls = engine.cross_entropy(engine, inputs.logits, targets, inputs.weight, options)
    return _steps(engine, *nlls, targets, inputs, options)


def loss(engine: Engine, inputs: Inputs, options: Options) -> Array:
    """See `ohemloss.ohem_cross_entropy`."""
    return whole(engine, run_steps(engine, inputs, options).part, options.reduction)


def value_and_grad(engine: Engine, inputs: Inputs, options: Options) -> tuple[Array, Array]:
    """See `ohemloss.value_and_grad`."""
    targets = read_targets(engine, inputs, options)
    softmax = Softmax.of(engine, inputs.logits, targets, options)
    nlls = softmax.cross_entropy(engine, targets, inputs.weight, options)
    steps = _steps(engine, *nlls, targets, inputs, options)
    softmax = replace(softmax, shifted=None)  # of the size of the logits
    selection = steps.selection
    cotangents = divide(selection.weights, selection.divisor, options.reduction)
    selected = selection.weights != 0
    gradient = logits_gradient(engine, softmax, targets, cotangents, selected, inputs.weight, options)
    value = whole(engine, steps.part, options.reduction)
    return value, _for_logits(engine, gradient, inputs, options)


def gradient_of_kept(
    engine: Engine, inputs: Inputs, options: Options, scores: Array, cut: Cut, divisor: Array, cotangent: Array
) -> Array:
    """
    Compute the gradient from what a forward pass keeps: its arguments, the score of each pixel, cut, and divisor.

    `cotangent` is the derivative of what follows with respect to the value. The scores only say what was selected; the
    softmax is computed again, from the logits, so whoever differentiates this gets the second derivative.
    """
    targets = read_targets(engine, inputs, options)
    positives = positives_of(targets.valid, inputs.positives)
    weights = weigh(engine, scores, pool_of(targets.valid, positives, options.rule), cut, positives)
    selected = weights != 0
    # A score that is NaN is so for what made it NaN then: an option, perhaps, that has changed since.
    weights = engine.where(scores == scores, weights, float("nan"))
    # Selected first: a pixel that is not must not see an infinite cotangent.
    shares = divide(weights, divisor, options.reduction)
    cotangents = engine.where(selected, shares * cotangent, 0.0)
    softmax = Softmax.of(engine, inputs.logits, targets, options)
    gradient = logits_gradient(engine, softmax, targets, cotangents, selected, inputs.weight, options)
    return _for_logits(engine, gradient, inputs, options)


def _for_logits(engine: Engine, gradient: Array, inputs: Inputs, options: Options) -> Array:
    return engine.xp.astype(shrink(engine, gradient, inputs.logits.shape, options), inputs.logits.dtype)


def _steps(
    engine: Engine, nll: Array, class_nll: Array | None, targets: Targets, inputs: Inputs, options: Options
) -> Steps:
    losses = pixel_losses(engine, nll, class_nll, targets, inputs.logits.shape[options.axis], options)
    scores = losses
    if options.rule.rank_by == "prob":
        scores = engine.where(targets.valid, engine.where(~targets.wrong, nll, float("nan")), 0.0)
    quota = mining_quota(engine, options, losses)
    selection = select(
        engine, losses, scores, targets.valid, quota, options.rule, inputs.positives, targets.class_scales
    )
    part = reduce(engine, losses, selection, options.rule, options.reduction)
    return Steps(targets.valid, losses, scores, quota, selection, part)
