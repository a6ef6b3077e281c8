"""The loss and its gradient in plain array API operations on whole arrays: what runs on every library."""

from ._dtypes import compute_dtype
from ._engine import Engine
from ._mining import Cut, mine, weigh
from ._options import Options
from ._pixels import logits_gradient, pixel_losses
from ._typing import Array


def loss(
    engine: Engine, logits: Array, labels: Array, weight: Array | None, pixel_weight: Array | None, options: Options
) -> Array:
    """See `ohemloss.ohem_cross_entropy`."""
    pixels = pixel_losses(engine, logits, labels, weight, pixel_weight, options)
    cut = mine(engine, pixels.losses, pixels.valid, options.rule).cut
    weights = weigh(engine, pixels.losses, pixels.valid, cut)
    return reduce(engine, pixels.losses, weights, cut, options.reduction)


def value_and_grad(
    engine: Engine, logits: Array, labels: Array, weight: Array | None, pixel_weight: Array | None, options: Options
) -> tuple[Array, Array]:
    """See `ohemloss.value_and_grad`."""
    xp = engine.xp
    pixels = pixel_losses(engine, logits, labels, weight, pixel_weight, options)
    cut = mine(engine, pixels.losses, pixels.valid, options.rule).cut
    weights = weigh(engine, pixels.losses, pixels.valid, cut)
    value = reduce(engine, pixels.losses, weights, cut, options.reduction)
    cotangents = weights if options.reduction == "sum" else weights / _at_least_one(engine, cut, weights)
    gradient = logits_gradient(engine, pixels, cotangents, weight, options)
    return value, xp.astype(gradient, logits.dtype)


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
