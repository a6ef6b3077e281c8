"""The oracle: the loss written from its formula, in plain Python loops over float64 numbers, slow on purpose."""

import math
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import numpy as np


@dataclass
class Reference:
    """Every step, as NumPy float64 arrays in the shape of the labels, and plain numbers."""

    pixel_loss: np.ndarray
    valid: np.ndarray
    weights: np.ndarray
    cut: float
    tie_weight: float
    count: float
    n_valid: int
    n_min: int
    n_hard: int
    value: float | np.ndarray
    normaliser: float
    coefficients: np.ndarray  # the derivative of the value with respect to each loss


def pixel_loss(x, y, *, ignore_index: int | None = 255, weight=None, u=1.0, label_smoothing=0.0):
    """Compute the loss of one pixel from its C logits."""
    if y == ignore_index:
        return 0.0
    n_classes = len(x)
    w = [1.0] * n_classes if weight is None else [float(v) for v in weight]
    if not 0 <= y < n_classes:
        return math.nan
    if u == 0 or (w[y] == 0 and not label_smoothing):
        return 0.0
    if any(math.isnan(v) or v == math.inf for v in x) or all(v == -math.inf for v in x):
        return math.nan
    top = max(x)
    log_sum = math.log(math.fsum(math.exp(v - top) for v in x))
    nll = [log_sum - (v - top) for v in x]
    hard_part = w[y] * nll[y] if w[y] else 0.0
    if not label_smoothing:
        return u * hard_part
    soft = [w[c] * nll[c] for c in range(n_classes) if w[c]]
    soft_part = math.inf if math.inf in soft else math.fsum(soft)
    hard_part = (1 - label_smoothing) * hard_part if label_smoothing < 1 else 0.0
    return u * (hard_part + label_smoothing / n_classes * soft_part)


def select(scores, pool, *, cut, min_kept, ties="share"):
    """Weigh each element: 1 above the cut, a share at it, 0 below. Returns weights and the facts of the choice."""
    pooled = [score for score, counts in zip(scores, pool, strict=True) if counts]
    n_min = min(min_kept, len(pooled)) if isinstance(min_kept, int) else floor(min_kept, len(pooled))
    n_hard = sum(math.isnan(v) or v > cut or (ties == "keep" and v == cut) for v in pooled)
    last, share, count = cut, float(ties == "keep"), n_hard
    if n_hard < n_min:
        last = sorted((math.inf if math.isnan(v) else v for v in pooled), reverse=True)[n_min - 1]
        above = sum(math.isnan(v) or v > last for v in pooled)
        n_ties = sum(v == last for v in pooled)
        share = {"share": (n_min - above) / n_ties, "keep": 1.0, "drop": float(above + n_ties == n_min)}[ties]
        count = n_min
    weights = [
        0.0 if not counts else 1.0 if math.isnan(v) or v > last else share if v == last else 0.0
        for v, counts in zip(scores, pool, strict=True)
    ]
    return weights, last, share if n_hard < n_min else 0.0, count, n_min, n_hard


def floor(fraction, count):
    """Round a share of a count down, of the fraction that a float stands for."""
    return math.floor(Fraction(fraction).limit_denominator(2**20) * count)


@dataclass
class Counted:
    """The counts of `ohemloss.Counts`, as plain numbers."""

    all: int
    valid: int
    images: int
    positives: int
    selected: float = 0
    nonzero: float = 0
    selected_weight: float = 0
    valid_weight: float = 0

    def where(self, condition, a, b):
        return a if condition else b

    def floor(self, fraction, count):
        return floor(fraction, count)


def by_rule(losses, scores, valid, class_weights, shape, *, cut, min_kept, rule, positives):
    """Weigh each element by any rule, and say what the value is a sum of: weight, divisor of its image or of all."""
    n, n_images = len(losses), shape[0] if shape else 1
    images = np.repeat(np.arange(n_images), n // n_images if n_images else 0)
    positives = [bool(p) and v for p, v in zip(positives, valid, strict=True)]
    whole, groups = [list(range(n))], [np.flatnonzero(images == image).tolist() for image in range(n_images)]

    def count(group, is_image):
        n_valid, n_positives = sum(valid[i] for i in group), sum(positives[i] for i in group)
        return Counted(len(group), n_valid, 1 if is_image else n_images, n_positives)

    weights, divisors = [0.0] * n, [0.0] * n
    for group in groups if rule.per_image else whole:
        pool = [(valid[i] or rule.pool == "all") and not positives[i] for i in group]
        kept: Any = min_kept(count(group, rule.per_image)) if callable(min_kept) else min_kept
        kept = kept if isinstance(kept, float) else max(0, kept)
        found, *_ = select([scores[i] for i in group], pool, cut=cut, min_kept=kept, ties=rule.ties)
        for i, weight in zip(group, found, strict=True):
            weights[i] = 1.0 if positives[i] else weight
    by_image = rule.per_image == "mean"
    for group in groups if by_image else whole:
        counted = count(group, by_image)
        counted.selected = sum(weights[i] for i in group)
        counted.nonzero = sum(weights[i] for i in group if losses[i] != 0)
        counted.selected_weight = sum(weights[i] * class_weights[i] for i in group)
        counted.valid_weight = sum(class_weights[i] for i in group)
        named: Any = rule.normaliser
        divisor: Any = named(counted) if callable(named) else getattr(counted, named)
        for i in group:
            divisors[i] = (divisor or 1.0) * (n_images if by_image else 1)
    return weights, divisors


def reference(
    logits,
    labels,
    *,
    thresh: float | None = 0.7,
    min_kept=1 / 16,
    ignore_index: int | None = 255,
    weight=None,
    pixel_weight=None,
    label_smoothing=0.0,
    axis=1,
    reduction="mean",
    rule=None,
    positives=None,
):
    """Compute `ohem_cross_entropy` and every step of it."""
    logits, labels = np.asarray(logits, dtype=np.float64), np.asarray(labels)
    axis = 0 if logits.ndim == 1 else axis
    rows = np.moveaxis(logits, axis, -1).reshape(-1, logits.shape[axis]).tolist()
    u = np.broadcast_to(1.0 if pixel_weight is None else np.asarray(pixel_weight, np.float64), labels.shape).ravel()
    flat = [int(y) for y in labels.ravel()]
    per_pixel = {"ignore_index": ignore_index, "weight": weight, "label_smoothing": label_smoothing}
    losses = [pixel_loss(x, y, u=float(u_i), **per_pixel) for x, y, u_i in zip(rows, flat, u, strict=True)]
    valid = [y != ignore_index for y in flat]
    cut = -math.log(thresh) if thresh else math.inf
    if rule is None:
        weights, cut_value, share, count, n_min, n_hard = select(losses, valid, cut=cut, min_kept=min_kept)
        divisors = [float(max(count, 1))] * len(losses)
    else:
        w = np.ones(logits.shape[axis]) if weight is None else np.asarray(weight, np.float64)
        class_weights = [float(w[y]) if v and 0 <= y < len(w) else 0.0 for y, v in zip(flat, valid, strict=True)]
        scores = losses
        if rule.rank_by == "prob":
            scores = [pixel_loss(x, y, ignore_index=ignore_index) for x, y in zip(rows, flat, strict=True)]
        always = [False] * len(losses) if positives is None else [bool(p) for p in np.ravel(positives)]
        weights, divisors = by_rule(
            losses, scores, valid, class_weights, labels.shape, cut=cut, min_kept=min_kept, rule=rule, positives=always
        )
        cut_value = share = math.nan
        count, n_min, n_hard = sum(weights), -1, -1
    if reduction != "mean":
        divisors = [1.0] * len(losses)
    mined = [w * loss if w else 0.0 for w, loss in zip(weights, losses, strict=True)]
    normaliser = min(divisors, default=1.0)
    if reduction == "none":
        value = np.reshape(mined, labels.shape)
    else:
        value = _sum([m / d for m, d in zip(mined, divisors, strict=True)])
    return Reference(
        pixel_loss=np.reshape(losses, labels.shape),
        valid=np.reshape(valid, labels.shape),
        weights=np.reshape(weights, labels.shape),
        cut=cut_value,
        tie_weight=share,
        count=count,
        n_valid=sum(valid),
        n_min=n_min,
        n_hard=n_hard,
        value=value,
        normaliser=normaliser,
        coefficients=np.reshape([w / d for w, d in zip(weights, divisors, strict=True)], labels.shape),
    )


def gradient(logits, labels, *, step=1e-5, **options):
    """Differentiate the value by central differences in float64, with the selection held fixed."""
    logits = np.asarray(logits, dtype=np.float64)
    axis = 0 if logits.ndim == 1 else options.get("axis", 1)
    coefficients = reference(logits, labels, **options).coefficients
    slopes = []
    for c in range(logits.shape[axis]):
        shift = np.zeros_like(logits)
        np.moveaxis(shift, axis, 0)[c] = step
        ahead, behind = (reference(x, labels, **options).pixel_loss for x in (logits + shift, logits - shift))
        slopes.append(np.where(coefficients == 0, 0.0, coefficients * (ahead - behind) / (2 * step)))
    return np.stack(slopes, axis)


def curvature(logits, labels, direction, *, step=1e-3, **options):
    """Differentiate the gradient along a direction, by differences of differences, with the selection held fixed."""
    logits, direction = np.asarray(logits, dtype=np.float64), np.asarray(direction, dtype=np.float64)
    ahead, behind = (logits + sign * step * direction for sign in (1, -1))
    weights = [reference(x, labels, **options).weights for x in (ahead, logits, behind)]
    assert np.array_equal(weights[0], weights[1])
    assert np.array_equal(weights[2], weights[1])
    difference = gradient(ahead, labels, step=step, **options) - gradient(behind, labels, step=step, **options)
    return difference / (2 * step)


def _sum(values):
    if any(math.isnan(v) for v in values):
        return math.nan
    return math.inf if math.inf in values else math.fsum(values)


def interpolate(x, size, *, align_corners=False):
    """Resize the last axes, from the places that are looked at alone: what is not finite stays there."""
    x = np.asarray(x, np.float64)
    for axis, n_out in enumerate(size, start=x.ndim - len(size)):
        if x.shape[axis] != n_out:
            lower, upper, share = taps(x.shape[axis], n_out, align_corners=align_corners)
            share = share.reshape([-1 if i == axis else 1 for i in range(x.ndim)])
            x = (1 - share) * np.take(x, lower, axis) + share * np.take(x, upper, axis)
    return x


def pull_back(gradient, size, *, align_corners=False):
    """Bring a gradient at the resolution of the labels to logits whose last axes have a size: the transpose."""
    found = np.asarray(gradient, np.float64)
    for axis, n_in in enumerate(size, start=found.ndim - len(size)):
        matrix = interpolation(n_in, found.shape[axis], align_corners=align_corners)
        found = np.moveaxis(np.tensordot(found, matrix, axes=([axis], [0])), -1, axis)
    return found


def interpolation(n_in, n_out, *, align_corners=False):
    """Write linear interpolation along one axis as a matrix with a row for each new place."""
    lower, upper, share = taps(n_in, n_out, align_corners=align_corners)
    return (1 - share)[:, None] * np.eye(n_in)[lower] + share[:, None] * np.eye(n_in)[upper]


def taps(n_in, n_out, *, align_corners=False):
    """Give the two places that each new one lies between, and how far along it is; a share of 0 is looked at, too."""
    if align_corners:
        positions = [Fraction(i * (n_in - 1), max(n_out - 1, 1)) for i in range(n_out)]
    else:
        positions = [max(Fraction((2 * i + 1) * n_in - n_out, 2 * n_out), Fraction(0)) for i in range(n_out)]
    lower = np.asarray([math.floor(position) for position in positions], int)
    share = np.asarray([float(position % 1) for position in positions])
    return lower, np.minimum(lower + (n_in != n_out), n_in - 1), share
