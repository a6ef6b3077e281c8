"""
The cross-entropy of each pixel, and its gradient with respect to the logits.

In stages, so that each caller keeps what it needs: an array of the size of the logits is what costs.
"""

from ._dtypes import compute_dtype
from ._engine import Engine
from ._options import Options
from ._targets import Targets, along_axis
from ._typing import Array


def shift(engine: Engine, logits: Array, targets: Targets, options: Options) -> Array:
    """Subtract the largest logit of each pixel, in the dtype of the loss."""
    xp, axis = engine.xp, options.axis
    # The logits of a pixel that cannot count are replaced, not multiplied by 0: neither NaN nor its gradient passes.
    counts = xp.expand_dims(targets.counts, axis=axis)
    logits = engine.where(counts, xp.astype(logits, compute_dtype(xp, logits.dtype)), 0.0)
    return logits - xp.max(logits, axis=axis, keepdims=True)


def label_nll(engine: Engine, shifted: Array, sums: Array, targets: Targets, options: Options) -> Array:
    """
    Compute minus the logarithm of the probability of the label.

    `sums` are those of the exponentials of the shifted logits, with the class axis kept.
    """
    log_sums = engine.xp.squeeze(engine.xp.log(sums), axis=options.axis)
    return log_sums - engine.sum(engine.where(targets.is_label, shifted, 0.0), options.axis)


def pixel_losses(
    engine: Engine,
    nll: Array,
    shifted: Array,
    sums: Array,
    targets: Targets,
    weight: Array | None,
    options: Options,
) -> Array:
    """
    Compute ``w[y] * u * nll`` of each pixel, or with label smoothing its mix with the mean over the classes.

    A loss is 0 where the pixel is ignored and NaN where its label is out of range.
    """
    xp, axis, label_scales = engine.xp, options.axis, targets.label_scales
    # Here and below the factor that is infinite goes, then the product is taken: 0 * inf would be NaN, and a warning.
    losses = label_scales * engine.where(label_scales != 0, nll, 0.0)
    if options.label_smoothing:
        all_nll = xp.log(sums) - shifted
        if weight is not None:
            class_weight = along_axis(xp, weight, axis, shifted.ndim)
            all_nll = class_weight * engine.where(class_weight != 0, all_nll, 0.0)
        share = options.label_smoothing / shifted.shape[axis]
        smooth_losses = share * targets.scales * engine.sum(all_nll, axis)
        whole = options.label_smoothing == 1
        losses = smooth_losses if whole else (1 - options.label_smoothing) * losses + smooth_losses
    return engine.where(targets.valid, losses, 0.0)


def logits_gradient(
    engine: Engine,
    exps: Array,
    sums: Array,
    targets: Targets,
    cotangents: Array,
    selected: Array,
    weight: Array | None,
    options: Options,
) -> Array:
    """
    Compute the gradient of ``sum(cotangents * losses)`` with respect to the logits.

    Of one pixel, with s = softmax and the loss a * nll_y + b * sum_c w_c nll_c (b is 0 without label smoothing),
    d loss / d x_c = s_c (a + b * sum w) - [c = y] a - b w_c, since d nll_y / d x_c = s_c - [c = y].
    Where nothing is selected it is 0, whatever the weights. (`selected` and not "the cotangent is not 0": one that is 0
    may be differentiated, and its derivative is not 0.)
    """
    xp, axis, smoothing = engine.xp, options.axis, options.label_smoothing

    def factor(share: float, scales: Array) -> Array:
        return xp.expand_dims(engine.where(selected, share * cotangents * scales, 0.0), axis=axis)

    # A logit that is not finite makes its pixel NaN, and so selected: elsewhere the softmax is finite.
    label_factor = factor(1 - smoothing, targets.label_scales)
    label_part = engine.where(targets.is_label, label_factor, 0.0)
    if not smoothing:
        gradient = (exps / sums) * label_factor - label_part
        if options.rule.rank_by == "prob":  # where a pixel of weight 0 keeps logits that may be NaN
            live = selected & (targets.label_scales != 0)
            gradient = engine.where(xp.expand_dims(live, axis=axis), gradient, 0.0)
        return gradient
    n_classes = exps.shape[axis]
    smooth_factor = factor(smoothing / n_classes, targets.scales)
    class_weight = 1.0 if weight is None else along_axis(xp, weight, axis, exps.ndim)
    weight_sum = n_classes if weight is None else engine.sum(weight, 0)
    return (exps / sums) * (label_factor + smooth_factor * weight_sum) - label_part - smooth_factor * class_weight
