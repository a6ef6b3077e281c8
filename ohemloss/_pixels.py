"""The cross-entropy of each pixel, and its gradient with respect to the logits."""

import math
from dataclasses import dataclass

from ._dtypes import compute_dtype
from ._engine import Engine
from ._labels import read_labels
from ._options import Options
from ._typing import Array, Namespace


@dataclass(frozen=True, kw_only=True)
class Pixels:
    """
    What one pass over the logits leaves behind. Names in the plural have the shape of the labels.

    Attributes
    ----------
    losses : array
        0 where ignored, NaN where the label is out of range.
    valid : array
        Bool: the label is not `ignore_index`.
    scales, label_scales : array
        The pixel weight u, and u times the class weight of the label. NaN where the label is out of range.
    exps, sums : array
        The exponentials of the shifted logits, and their sum over the (kept) class axis: the softmax is the quotient.
    is_label : array
        Like the logits, bool: the class is the label.
    """

    losses: Array
    valid: Array
    scales: Array
    label_scales: Array
    exps: Array
    sums: Array
    is_label: Array


def pixel_losses(
    engine: Engine, logits: Array, labels: Array, weight: Array | None, pixel_weight: Array | None, options: Options
) -> Pixels:
    """Compute ``w[y] * u * nll`` of each pixel, or with label smoothing its mix with the mean over the classes."""
    xp, axis, dtype = engine.xp, options.axis, compute_dtype(engine.xp, logits.dtype)
    n_classes = logits.shape[axis]
    read = read_labels(engine, labels, n_classes, options.ignore_index)
    classes = xp.astype(engine.arange(n_classes), read.index.dtype)
    is_label = xp.expand_dims(read.index, axis=axis) == _along_axis(xp, classes, axis, logits.ndim)

    # A label out of range becomes a NaN factor: no memory is read for it, and it reaches the value.
    scales = engine.where(~read.wrong, xp.astype(read.valid, dtype), math.nan)
    if pixel_weight is not None:
        scales = scales * engine.where(read.valid, xp.astype(pixel_weight, dtype), 0.0)
    class_weight = None if weight is None else _along_axis(xp, weight, axis, logits.ndim)
    label_scales = scales
    if class_weight is not None:
        label_scales = scales * engine.sum(engine.where(is_label, class_weight, 0.0), axis)

    # The logits of a pixel that cannot count are replaced, not multiplied by 0: neither NaN nor its gradient passes.
    counts = read.valid & ((scales if options.label_smoothing else label_scales) != 0)
    logits = engine.where(xp.expand_dims(counts, axis=axis), xp.astype(logits, dtype), 0.0)
    shifted = logits - xp.max(logits, axis=axis, keepdims=True)
    exps = xp.exp(shifted)
    sums = engine.sum(exps, axis, keepdims=True)
    log_sums = xp.log(sums)
    nll = xp.squeeze(log_sums, axis=axis) - engine.sum(engine.where(is_label, shifted, 0.0), axis)

    # Here and below the factor that is infinite goes, then the product is taken: 0 * inf would be NaN, and a warning.
    losses = label_scales * engine.where(label_scales != 0, nll, 0.0)
    if options.label_smoothing:
        all_nll = log_sums - shifted
        if class_weight is not None:
            all_nll = class_weight * engine.where(class_weight != 0, all_nll, 0.0)
        share = options.label_smoothing / n_classes
        smooth_losses = share * scales * engine.sum(all_nll, axis)
        whole = options.label_smoothing == 1
        losses = smooth_losses if whole else (1 - options.label_smoothing) * losses + smooth_losses
    return Pixels(
        losses=engine.where(read.valid, losses, 0.0),
        valid=read.valid,
        scales=scales,
        label_scales=label_scales,
        exps=exps,
        sums=sums,
        is_label=is_label,
    )


def logits_gradient(engine: Engine, pixels: Pixels, cotangents: Array, weight: Array | None, options: Options) -> Array:
    """
    Compute the gradient of ``sum(cotangents * losses)`` with respect to the logits.

    Of one pixel, with s = softmax and the loss a * nll_y + b * sum_c w_c nll_c (b is 0 without label smoothing),
    d loss / d x_c = s_c (a + b * sum w) - [c = y] a - b w_c, since d nll_y / d x_c = s_c - [c = y].
    Where the cotangent is 0 the gradient is 0, whatever the logits.
    """
    xp, axis = engine.xp, options.axis
    smoothing, n_classes = options.label_smoothing, pixels.exps.shape[axis]
    label_factor = xp.expand_dims((1 - smoothing) * cotangents * pixels.label_scales, axis=axis)
    softmax = pixels.exps / pixels.sums
    # where, not a product: a NaN factor must reach every class, and a class that is not the label gets exactly 0.
    label_part = engine.where(pixels.is_label, label_factor, 0.0)
    if not smoothing:
        gradient = softmax * label_factor - label_part
    else:
        smooth_factor = xp.expand_dims(smoothing / n_classes * cotangents * pixels.scales, axis=axis)
        class_weight = 1.0 if weight is None else _along_axis(xp, weight, axis, pixels.exps.ndim)
        weight_sum = n_classes if weight is None else engine.sum(weight, 0)
        gradient = softmax * (label_factor + smooth_factor * weight_sum) - label_part - smooth_factor * class_weight
    return engine.where(xp.expand_dims(cotangents, axis=axis) != 0, gradient, 0.0)


def _along_axis(xp: Namespace, values: Array, axis: int, ndim: int) -> Array:
    """Lay a 1-d array along one axis of an `ndim`-dimensional one."""
    return xp.reshape(values, tuple(-1 if i == axis else 1 for i in range(ndim)))
