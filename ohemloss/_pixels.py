"""The loss of each pixel, and its gradient with respect to the logits."""

from ._classes import along_axis, label_mask
from ._engine import Engine
from ._options import Options
from ._softmax import Softmax
from ._targets import Targets
from ._typing import Array


def pixel_losses(
    engine: Engine, nll: Array, class_nll: Array | None, targets: Targets, n_classes: int, options: Options
) -> Array:
    """
    Compute ``w[y] * u * nll`` of each pixel, or with label smoothing its mix with the mean over the classes.

    A loss is 0 where the pixel is ignored and NaN where its label is out of range.
    """
    label_scales = targets.label_scales
    # Not where the scale is 0: 0 * inf is NaN, and a warning.
    losses = label_scales * engine.where(label_scales != 0, nll, 0.0)
    if class_nll is not None:
        smooth_losses = options.label_smoothing / n_classes * targets.scales * class_nll
        whole = options.label_smoothing == 1
        losses = smooth_losses if whole else (1 - options.label_smoothing) * losses + smooth_losses
    return engine.where(targets.valid, losses, 0.0)


def logits_gradient(
    engine: Engine,
    softmax: Softmax,
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
    probabilities = softmax.exps / softmax.sums
    n_classes = probabilities.shape[axis]

    def factor(share: float, scales: Array) -> Array:
        return xp.expand_dims(engine.where(selected, share * cotangents * scales, 0.0), axis=axis)

    # A logit that is not finite makes its pixel NaN, and so selected: elsewhere the softmax is finite.
    label_factor = factor(1 - smoothing, targets.label_scales)
    label_part = engine.where(label_mask(engine, targets.index, n_classes, axis), label_factor, 0.0)
    if not smoothing:
        gradient = probabilities * label_factor - label_part
        if options.rule.rank_by == "prob":  # where a pixel of weight 0 keeps logits that may be NaN
            live = selected & (targets.label_scales != 0)
            gradient = engine.where(xp.expand_dims(live, axis=axis), gradient, 0.0)
        return gradient
    smooth_factor = factor(smoothing / n_classes, targets.scales)
    class_weight = 1.0 if weight is None else along_axis(xp, weight, axis, probabilities.ndim)
    weight_sum = n_classes if weight is None else engine.sum(weight, 0)
    return probabilities * (label_factor + smooth_factor * weight_sum) - label_part - smooth_factor * class_weight
