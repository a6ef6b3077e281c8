"""The loss and its gradient in plain array API operations on whole arrays: what runs on every library."""

from dataclasses import dataclass

from ._dtypes import compute_dtype
from ._engine import Engine
from ._mining import Cut, Mined, MiningRule, mine, weigh
from ._options import Options
from ._pixels import logits_gradient, pixel_losses, shift
from ._rule import mining_rule
from ._targets import Targets, read_targets
from ._typing import Array


@dataclass(frozen=True)
class Steps:
    """The way to the value: the loss of each pixel, the rule, what it mined, what each pixel weighs, and the value."""

    losses: Array
    rule: MiningRule
    mined: Mined
    weights: Array
    value: Array


def run_steps(
    engine: Engine, logits: Array, labels: Array, weight: Array | None, pixel_weight: Array | None, options: Options
) -> Steps:
    """Compute the value and keep the way to it."""
    targets = read_targets(engine, logits, labels, weight, pixel_weight, options)
    shifted = shift(engine, logits, targets, options)
    sums = engine.sum(engine.xp.exp(shifted), options.axis, keepdims=True)
    losses = pixel_losses(engine, shifted, sums, targets, weight, options)
    return _mine_and_reduce(engine, losses, targets, options)


def loss(
    engine: Engine, logits: Array, labels: Array, weight: Array | None, pixel_weight: Array | None, options: Options
) -> Array:
    """See `ohemloss.ohem_cross_entropy`."""
    return run_steps(engine, logits, labels, weight, pixel_weight, options).value


def value_and_grad(
    engine: Engine, logits: Array, labels: Array, weight: Array | None, pixel_weight: Array | None, options: Options
) -> tuple[Array, Array]:
    """See `ohemloss.value_and_grad`."""
    targets = read_targets(engine, logits, labels, weight, pixel_weight, options)
    shifted = shift(engine, logits, targets, options)
    exps = engine.xp.exp(shifted)
    sums = engine.sum(exps, options.axis, keepdims=True)
    losses = pixel_losses(engine, shifted, sums, targets, weight, options)
    del shifted  # of the size of the logits
    steps = _mine_and_reduce(engine, losses, targets, options)
    cotangents = _cotangents(engine, steps.weights, steps.mined.cut, options.reduction)
    gradient = logits_gradient(engine, exps, sums, targets, cotangents, steps.weights != 0, weight, options)
    return steps.value, engine.xp.astype(gradient, logits.dtype)


def gradient_of_kept(
    engine: Engine,
    logits: Array,
    labels: Array,
    weight: Array | None,
    pixel_weight: Array | None,
    options: Options,
    losses: Array,
    cut: Cut,
    cotangent: Array,
) -> Array:
    """
    Compute the gradient from what a forward pass keeps: its arguments, the loss of each pixel, and the cut.

    `cotangent` is the derivative of what follows with respect to the value. The losses only say what was selected; the
    softmax is computed again, from the logits, so whoever differentiates this gets the second derivative.
    """
    targets = read_targets(engine, logits, labels, weight, pixel_weight, options)
    weights = weigh(engine, losses, targets.valid, cut)
    selected = weights != 0
    # A loss that is NaN is so for what made it NaN then: an option, perhaps, that has changed since.
    weights = engine.where(losses == losses, weights, float("nan"))
    # Selected first: a pixel that is not must not see an infinite cotangent.
    cotangents = engine.where(selected, _cotangents(engine, weights, cut, options.reduction) * cotangent, 0.0)
    exps = engine.xp.exp(shift(engine, logits, targets, options))
    sums = engine.sum(exps, options.axis, keepdims=True)
    gradient = logits_gradient(engine, exps, sums, targets, cotangents, selected, weight, options)
    return engine.xp.astype(gradient, logits.dtype)


def reduce(engine: Engine, losses: Array, weights: Array, cut: Cut, reduction: str) -> Array:
    """Reduce the losses of the selected elements; nothing selected is 0."""
    mined = weights * engine.where(weights > 0, losses, 0.0)
    if reduction == "none":
        return mined
    value = engine.total(engine, mined)
    if reduction == "mean":
        value = value / _at_least_one(engine, cut, losses)
    return engine.as_array(value, losses)


def _mine_and_reduce(engine: Engine, losses: Array, targets: Targets, options: Options) -> Steps:
    rule = mining_rule(engine, options, losses.dtype)
    mined = mine(engine, losses, targets.valid, rule)
    weights = weigh(engine, losses, targets.valid, mined.cut)
    return Steps(losses, rule, mined, weights, reduce(engine, losses, weights, mined.cut, options.reduction))


def _cotangents(engine: Engine, weights: Array, cut: Cut, reduction: str) -> Array:
    """Give the derivative of the value with respect to the loss of each pixel; the selection is a constant."""
    return weights / _at_least_one(engine, cut, weights) if reduction == "mean" else weights


def _at_least_one(engine: Engine, cut: Cut, like: Array) -> Array:
    count = engine.where(cut.count > 0, cut.count, 1)
    return engine.xp.astype(count, compute_dtype(engine.xp, like.dtype))
