"""What labels and weights say about each pixel, before a look at the logits."""

import math
from dataclasses import dataclass

from ._classes import along_axis, label_mask
from ._dtypes import compute_dtype
from ._engine import Engine
from ._inputs import Inputs
from ._labels import Classes, read_labels
from ._options import Options
from ._rule import out_of_range
from ._typing import Array, DType


@dataclass(frozen=True, kw_only=True)
class Targets:
    """
    What a pixel is compared with, and how much it weighs. All have the shape of the labels.

    Attributes
    ----------
    index : array
        The labels as integers to compute with, in range or not.
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
    """

    index: Array
    valid: Array
    counts: Array
    wrong: Array
    scales: Array
    label_scales: Array
    class_scales: Array


def read_targets(engine: Engine, inputs: Inputs, options: Options) -> Targets:
    """Read the labels and the weights; of the logits only the shape and the dtype are used."""
    logits, weight, axis = inputs.logits, inputs.weight, options.axis
    read = read_labels(engine, inputs.labels, logits.shape[axis], options.ignore_index)
    label_weight = None
    if weight is not None:
        # A look-up that every library has, and that reads no memory for a label out of range.
        is_label = label_mask(engine, read.index, logits.shape[axis], axis)
        label_weight = engine.sum(engine.where(is_label, along_axis(engine.xp, weight, axis, logits.ndim), 0.0), axis)
    dtype = compute_dtype(engine.xp, logits.dtype)
    return scale_targets(engine, read, label_weight, inputs.pixel_weight, weight, options, dtype)


def scale_targets(
    engine: Engine,
    read: Classes,
    label_weight: Array | None,
    pixel_weight: Array | None,
    weight: Array | None,
    options: Options,
    dtype: DType,
) -> Targets:
    """Say how much each pixel weighs, where `label_weight` is the class weight of its label."""
    xp = engine.xp
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
        class_scales = engine.where(read.valid, label_weight, 0.0)
        label_scales = scales * class_scales
        deciding = scales * engine.sum(xp.abs(weight), 0) if options.label_smoothing else label_scales
    # Ranked by probability a pixel of weight 0 competes too, and its logits say how.
    counts = read.valid if options.rule.rank_by == "prob" else read.valid & (deciding != 0)
    return Targets(
        index=read.index,
        valid=read.valid,
        counts=counts,
        wrong=wrong,
        scales=scales,
        label_scales=label_scales,
        class_scales=class_scales,
    )
