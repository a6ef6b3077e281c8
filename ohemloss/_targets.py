"""What labels and weights say about each pixel, before a look at the logits."""

import math
from dataclasses import dataclass

from ._dtypes import compute_dtype
from ._engine import Engine
from ._inputs import Inputs
from ._labels import read_labels
from ._options import Options
from ._rule import out_of_range
from ._typing import Array, Namespace


@dataclass(frozen=True, kw_only=True)
class Targets:
    """
    What a pixel is compared with, and how much it weighs. All have the shape of the labels but the last.

    Attributes
    ----------
    valid : array
        Bool: the label is not `ignore_index`.
    counts : array
        Bool: the pixel may enter the value, so its logits are looked at.
    wrong : array
        Bool: the label is out of range, or an option is.
    scales, label_scales : array
        The pixel weight u, and u times the class weight of the label. NaN where wrong.
    class_scales : array
        The class weight of the label, 0 where ignored.
    is_label : array
        Like the logits, bool: the class is the label.
    """

    valid: Array
    counts: Array
    wrong: Array
    scales: Array
    label_scales: Array
    class_scales: Array
    is_label: Array


def read_targets(engine: Engine, inputs: Inputs, options: Options) -> Targets:
    """Read the labels and the weights; of the logits only the shape and the dtype are used."""
    logits, labels, weight, pixel_weight = inputs.logits, inputs.labels, inputs.weight, inputs.pixel_weight
    xp, axis, dtype = engine.xp, options.axis, compute_dtype(engine.xp, logits.dtype)
    n_classes = logits.shape[axis]
    read = read_labels(engine, labels, n_classes, options.ignore_index)
    classes = xp.astype(engine.arange(n_classes), read.index.dtype)
    is_label = xp.expand_dims(read.index, axis=axis) == along_axis(xp, classes, axis, logits.ndim)

    # What is out of range and could not be refused becomes a NaN factor: it reads no memory, and reaches the value.
    wrong, wrong_option = read.wrong, out_of_range(engine, options.thresh, options.min_kept)
    if wrong_option is not None:
        wrong = wrong | (read.valid & wrong_option)
    class_scales = xp.astype(read.valid, dtype)
    scales = engine.where(~wrong, class_scales, math.nan)
    if pixel_weight is not None:
        scales = scales * engine.where(read.valid, xp.astype(pixel_weight, dtype), 0.0)
    label_scales = deciding = scales
    if weight is not None:
        class_weight = along_axis(xp, weight, axis, logits.ndim)
        class_scales = engine.where(read.valid, engine.sum(engine.where(is_label, class_weight, 0.0), axis), 0.0)
        label_scales = scales * class_scales
        deciding = scales * engine.sum(xp.abs(weight), 0) if options.label_smoothing else label_scales
    # Ranked by probability a pixel of weight 0 competes too, and its logits say how.
    counts = read.valid if options.rule.rank_by == "prob" else read.valid & (deciding != 0)
    return Targets(
        valid=read.valid,
        counts=counts,
        wrong=wrong,
        scales=scales,
        label_scales=label_scales,
        class_scales=class_scales,
        is_label=is_label,
    )


def along_axis(xp: Namespace, values: Array, axis: int, ndim: int) -> Array:
    """Lay a 1-d array along one axis of an `ndim`-dimensional one."""
    return xp.reshape(values, tuple(-1 if i == axis else 1 for i in range(ndim)))
