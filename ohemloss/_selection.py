"""From scores to what each element weighs, what the sum is divided by, and the value."""

import math
from dataclasses import dataclass, replace
from typing import Any

from ._arrays import is_array
from ._counts import Counts
from ._dtypes import compute_dtype
from ._engine import Axes, Engine
from ._mining import Cut, Mined, Quota, mine, weigh
from ._mining_rule import MiningRule
from ._typing import Array


@dataclass(frozen=True)
class Selection:
    """What was mined, what each element weighs, and what the sum is divided by if the value is a mean."""

    mined: Mined
    weights: Array
    divisor: Array


def positives_of(valid: Array, positives: Array | None) -> Array | None:
    """Tell which elements are selected in any case: never one that does not count."""
    return None if positives is None else positives & valid


def pool_of(valid: Array, positives: Array | None, rule: MiningRule) -> Array:
    """Tell which elements compete for the places."""
    pool = valid if rule.pool == "valid" else valid | ~valid
    return pool if positives is None else pool & ~positives


def select(
    engine: Engine,
    losses: Array,
    scores: Array,
    valid: Array,
    quota: Quota,
    rule: MiningRule,
    positives: Array | None,
    class_weights: Array,
) -> Selection:
    """Mine the pool, and count what the rule divides by; positives are selected in any case."""
    positives = positives_of(valid, positives)
    pool = pool_of(valid, positives, rule)
    counts = _count(engine, valid, positives, quota.axes)
    mined = mine(engine, scores, pool, quota, counts)
    weights = weigh(engine, scores, pool, mined.cut, positives)
    if positives is not None:
        cut = mined.cut
        mined = replace(mined, cut=Cut(cut.value, cut.tie_weight, cut.count + counts.positives))
    divisor = _divisor(engine, losses, valid, mined, weights, counts, rule, positives, class_weights)
    return Selection(mined, weights, divisor)


def divide(engine: Engine, weights: Array, divisor: Array, rule: MiningRule, reduction: str) -> Array:
    """Give the derivative of the value with respect to each loss; the selection is a constant."""
    if reduction != "mean":
        return weights
    shares = weights / divisor
    return shares / _images(engine, weights) if rule.per_image == "mean" else shares


def reduce(engine: Engine, losses: Array, selection: Selection, rule: MiningRule, reduction: str) -> Array:
    """Reduce the losses of the selected elements; nothing selected is 0."""
    mined = selection.weights * engine.where(selection.weights > 0, losses, 0.0)
    if reduction == "none":
        return mined
    divisor: Any = selection.divisor if reduction == "mean" else 1
    if rule.per_image == "mean":  # before the sum: each image has a divisor of its own
        mined, divisor = mined / selection.divisor, _images(engine, losses)
    value = engine.total(engine, mined)
    return engine.as_array(value / divisor if reduction == "mean" else value, losses)


def _images(engine: Engine, losses: Array) -> Any:
    """Give the number of images as a divisor: at least 1, so that an empty batch is 0."""
    length = _first_length(engine, losses)
    if isinstance(length, int):
        return max(length, 1)
    return engine.xp.astype(length, losses.dtype) if is_array(length) else length


def _first_length(engine: Engine, x: Array) -> Any:
    """Give the length of the first axis: a number, a symbol, or where it is not known yet a count."""
    length = x.shape[0]
    if length is None or length != length:
        return engine.count(engine.xp.any((x == x) | (x != x), axis=tuple(range(1, x.ndim))))
    return length


def _count(engine: Engine, valid: Array, positives: Array | None, axes: Axes) -> Counts:
    shape = valid.shape if axes is None else tuple(valid.shape[i] for i in axes)
    known = all(isinstance(length, int) for length in shape)
    whole: int | Array = math.prod(shape) if known else engine.count(valid | ~valid, axes)
    images: int | Array = 1
    if axes is None and valid.ndim:
        images = _first_length(engine, valid)
    n_valid = engine.count(valid, axes)
    n_positive = n_valid * 0 if positives is None else engine.count(positives, axes)
    return Counts(all=whole, valid=n_valid, images=images, positives=n_positive, _engine=engine)


def _divisor(
    engine: Engine,
    losses: Array,
    valid: Array,
    mined: Mined,
    weights: Array,
    counts: Counts,
    rule: MiningRule,
    positives: Array | None,
    class_weights: Array,
) -> Array:
    """Give what the sum is divided by, in the dtype of the losses, and 1 in place of 0; per image if it is a mean."""
    xp, dtype = engine.xp, compute_dtype(engine.xp, losses.dtype)
    axes = tuple(range(1, losses.ndim)) if rule.per_image == "mean" else None
    if rule.per_image == "select":
        counts = _count(engine, valid, positives, None)

    def total(x: Array) -> Array:
        return engine.total(engine, x) if axes is None else engine.sum(x, axes, keepdims=True)

    selected = mined.cut.count
    if rule.per_image == "select":
        selected = engine.sum_of_counts(selected)
    if rule.normaliser == "selected":
        divisor = selected
    else:
        # In floats, so that a function of them may be any formula.
        known = {name: getattr(counts, name) for name in ("all", "valid", "images", "positives")}
        counts = replace(
            counts,
            **{name: xp.astype(count, dtype) if is_array(count) else count for name, count in known.items()},
            selected=xp.astype(selected, dtype),
            nonzero=total(engine.where(losses != 0, weights, 0.0)),
            selected_weight=total(weights * class_weights),
            valid_weight=total(class_weights),
        )
        divisor = rule.normaliser(counts) if callable(rule.normaliser) else getattr(counts, rule.normaliser)
        if not is_array(divisor):
            divisor = engine.where(counts.selected < 0.0, counts.selected, float(divisor))
    divisor = xp.astype(divisor, dtype)
    return engine.where(divisor != 0, divisor, 1.0)
