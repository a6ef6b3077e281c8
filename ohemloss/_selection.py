"""From scores to what each element weighs, what the sum is divided by, and the value."""

from dataclasses import dataclass, replace
from typing import Any

from ._arrays import is_array
from ._counts import Counts
from ._dtypes import compute_dtype
from ._engine import Engine
from ._mining import Cut, Mined, Quota, hard_of, mine, weigh
from ._mining_rule import MiningRule
from ._tally import n_images, tally
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
    hard = hard_of(engine, scores, pool, quota)
    tallied = tally(engine, valid, positives, pool, hard, quota.axes)
    counts, mined = tallied.counts, mine(engine, scores, pool, quota, tallied)
    weights = weigh(engine, scores, pool, mined.cut, positives)
    if positives is not None:
        cut = mined.cut
        mined = replace(mined, cut=Cut(cut.value, cut.tie_weight, cut.count + counts.positives))
    divisor = _divisor(engine, losses, valid, mined, weights, counts, rule, positives, class_weights)
    return Selection(mined, weights, divisor)


def divide(weights: Array, divisor: Array, reduction: str) -> Array:
    """Give the derivative of the value with respect to each loss; the selection is a constant."""
    return weights / divisor if reduction == "mean" else weights


def reduce(engine: Engine, losses: Array, selection: Selection, rule: MiningRule, reduction: str) -> Array:
    """
    Reduce the losses of the selected elements to the part of the value that is here; nothing selected is 0.

    The value is the sum of the parts (`whole`), unless it is that of each element.
    """
    mined = selection.weights * engine.where(selection.weights > 0, losses, 0.0)
    if reduction == "none":
        return mined
    if reduction == "mean" and rule.per_image == "mean":  # before the sum: each image has a divisor of its own
        return engine.as_array(engine.total(engine, mined / selection.divisor), losses)
    part = engine.total(engine, mined)
    return engine.as_array(part / selection.divisor if reduction == "mean" else part, losses)


def whole(engine: Engine, part: Array, reduction: str) -> Array:
    """Give the value."""
    return part if reduction == "none" else engine.joined(part)


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
    selected = mined.cut.count
    if rule.per_image == "select":
        counts = tally(engine, valid, positives, valid, valid, None).counts
        selected = engine.joined(engine.sum_of_counts(selected))
    if rule.normaliser == "selected":
        divisor = selected
    else:
        # In floats, so that a function of them may be any formula.
        known = {name: getattr(counts, name) for name in ("all", "valid", "images", "positives")}
        sums = {
            "nonzero": engine.where(losses != 0, weights, 0.0),
            "selected_weight": weights * class_weights,
            "valid_weight": class_weights,
        }
        if axes is None:
            sums = engine.join_all({name: engine.total(engine, x) for name, x in sums.items()})
        else:
            sums = {name: engine.sum(x, axes, keepdims=True) for name, x in sums.items()}
        counts = replace(
            counts,
            **{name: xp.astype(count, dtype) if is_array(count) else count for name, count in known.items()},
            selected=xp.astype(selected, dtype),
            **sums,
        )
        divisor = rule.normaliser(counts) if callable(rule.normaliser) else getattr(counts, rule.normaliser)
        if not is_array(divisor):
            divisor = engine.where(counts.selected < 0.0, counts.selected, float(divisor))
    divisor = xp.astype(divisor, dtype)
    divisor = engine.where(divisor != 0, divisor, 1.0)
    return divisor * _images(engine, losses) if rule.per_image == "mean" else divisor


def _images(engine: Engine, losses: Array) -> Any:
    """Give the number of images as a factor: at least 1, so that an empty batch is 0."""
    length, dtype = n_images(engine, losses), losses.dtype
    if engine.is_spread:
        length = engine.joined(engine.xp.astype(length, dtype) if is_array(length) else engine.asarray(length, dtype))
        return engine.where(length > 0, length, 1.0)
    if isinstance(length, int):
        return max(length, 1)
    return engine.xp.astype(length, dtype) if is_array(length) else length
