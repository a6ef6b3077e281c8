"""The loss and its gradient in plain array API operations on whole arrays: what runs on every library."""

from dataclasses import dataclass

from ._dtypes import compute_dtype
from ._engine import Engine
from ._mining import Cut, Mined, mine, weigh
from ._options import Options
from ._pixels import Pixels, logits_gradient, pixel_losses
from ._typing import Array


@dataclass(frozen=True)
class Steps:
    """The way to the value: the loss of each pixel, what was mined, what each pixel weighs, and the value."""

    pixels: Pixels
    mined: Mined
    weights: Array
    value: Array


def run_steps(
    engine: Engine, logits: Array, labels: Array, weight: Array | None, pixel_weight: Array | None, options: Options
) -> Steps:
    """Compute the value and keep the way to it."""
    pixels = pixel_losses(engine, logits, labels, weight, pixel_weight, options)
    mined = mine(engine, pixels.losses, pixels.valid, options.rule)
    weights = weigh(engine, pixels.losses, pixels.valid, mined.cut)
    value = reduce(engine, pixels.losses, weights, mined.cut, options.reduction)
    return Steps(pixels, mined, weights, value)


def loss(
    engine: Engine, logits: Array, labels: Array, weight: Array | None, pixel_weight: Array | None, options: Options
) -> Array:
    """See `ohemloss.ohem_cross_entropy`."""
    return run_steps(engine, logits, labels, weight, pixel_weight, options).value


def value_and_grad(
    engine: Engine, logits: Array, labels: Array, weight: Array | None, pixel_weight: Array | None, options: Options
) -> tuple[Array, Array]:
    """See `ohemloss.value_and_grad`."""
    steps = run_steps(engine, logits, labels, weight, pixel_weight, options)
    cotangents = steps.weights
    if options.reduction == "mean":
        cotangents = cotangents / _at_least_one(engine, steps.mined.cut, cotangents)
    gradient = logits_gradient(engine, steps.pixels, cotangents, weight, options)
    return steps.value, engine.xp.astype(gradient, logits.dtype)


def reduce(engine: Engine, losses: Array, weights: Array, cut: Cut, reduction: str) -> Array:
    """Reduce the losses of the selected elements; nothing selected is 0."""
    mined = weights * engine.where(weights > 0, losses, 0.0)
    if reduction == "none":
        return mined
    value = engine.total(engine, mined)
    if reduction == "mean":
        value = value / _at_least_one(engine, cut, losses)
    return engine.as_array(value, losses)


def _at_least_one(engine: Engine, cut: Cut, like: Array) -> Array:
    count = engine.where(cut.count > 0, cut.count, 1)
    return engine.xp.astype(count, compute_dtype(engine.xp, like.dtype))
