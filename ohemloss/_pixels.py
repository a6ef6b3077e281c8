"""The cross-entropy of each pixel, and its gradient with respect to the logits."""

from dataclasses import dataclass

from ._dtypes import compute_dtype
from ._engine import Engine
from ._options import Options
from ._targets import Targets, along_axis
from ._typing import Array


@dataclass(frozen=True, kw_only=True)
class Softmax:
    """
    What one pass over the logits gives.

    Attributes
    ----------
    shifted, exps : array
        The logits minus the largest of their pixel, and the exponentials of that.
    sums : array
        The sum of `exps` over the (kept) class axis: the softmax is the quotient.
    """

    shifted: Array
    exps: Array
    sums: Array


def softmax(engine: Engine, logits: Array, targets: Targets, options: Options) -> Softmax:
    """Compute the parts of the softmax, in the dtype of the loss."""
    xp, axis = engine.xp, options.axis
    # The logits of a pixel that cannot count are replaced, not multiplied by 0: neither NaN nor its gradient passes.
    counts = xp.expand_dims(targets.counts, axis=axis)
    logits = engine.where(counts, xp.astype(logits, compute_dtype(xp, logits.dtype)), 0.0)
    shifted = logits - xp.max(logits, axis=axis, keepdims=True)
    exps = xp.exp(shifted)
    return Softmax(shifted=shifted, exps=exps, sums=engine.sum(exps, axis, keepdims=True))


def pixel_losses(engine: Engine, soft: Softmax, targets: Targets, weight: Array | None, options: Options) -> Array:
    """
    Compute ``w[y] * u * nll`` of each pixel, or with label smoothing its mix with the mean over the classes.

    It is 0 where the pixel is ignored and NaN where its label is out of range.
    """
    xp, axis = engine.xp, options.axis
    log_sums, label_scales = xp.log(soft.sums), targets.label_scales
    nll = xp.squeeze(log_sums, axis=axis) - engine.sum(engine.where(targets.is_label, soft.shifted, 0.0), axis)
    # Here and below the factor that is infinite goes, then the product is taken: 0 * inf would be NaN, and a warning.
    losses = label_scales * engine.where(label_scales != 0, nll, 0.0)
    if options.label_smoothing:
        all_nll = log_sums - soft.shifted
        if weight is not None:
            class_weight = along_axis(xp, weight, axis, soft.exps.ndim)
            all_nll = class_weight * engine.where(class_weight != 0, all_nll, 0.0)
        share = options.label_smoothing / soft.exps.shape[axis]
        smooth_losses = share * targets.scales * engine.sum(all_nll, axis)
        whole = options.label_smoothing == 1
        losses = smooth_losses if whole else (1 - options.label_smoothing) * losses + smooth_losses
    return engine.where(targets.valid, losses, 0.0)


def logits_gradient(
    engine: Engine, soft: Softmax, targets: Targets, cotangents: Array, weight: Array | None, options: Options
) -> Array:
    """
    Compute the gradient of ``sum(cotangents * losses)`` with respect to the logits.

    Of one pixel, with s = softmax and the loss a * nll_y + b * sum_c w_c nll_c (b is 0 without label smoothing),
    d loss / d x_c = s_c (a + b * sum w) - [c = y] a - b w_c, since d nll_y / d x_c = s_c - [c = y].
    Where the cotangent is 0 the gradient is 0, whatever the logits.
    """
    xp, axis = engine.xp, options.axis
    smoothing, n_classes = options.label_smoothing, soft.exps.shape[axis]
    label_factor = xp.expand_dims((1 - smoothing) * cotangents * targets.label_scales, axis=axis)
    probabilities = soft.exps / soft.sums
    # where, not a product: a NaN factor must reach every class, and a class that is not the label gets exactly 0.
    label_part = engine.where(targets.is_label, label_factor, 0.0)
    if not smoothing:
        gradient = probabilities * label_factor - label_part
    else:
        smooth_factor = xp.expand_dims(smoothing / n_classes * cotangents * targets.scales, axis=axis)
        class_weight = 1.0 if weight is None else along_axis(xp, weight, axis, soft.exps.ndim)
        weight_sum = n_classes if weight is None else engine.sum(weight, 0)
        both = label_factor + smooth_factor * weight_sum
        gradient = probabilities * both - label_part - smooth_factor * class_weight
    return engine.where(xp.expand_dims(cotangents, axis=axis) != 0, gradient, 0.0)
