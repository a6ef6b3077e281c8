"""What a call must give: value and gradient in closed form, from the oracle's selection, in float64 NumPy."""

import math
from dataclasses import dataclass

import numpy as np

from tests._cases import AXES
from tests._reference import Reference, interpolate, pull_back, reference, taps


@dataclass(frozen=True)
class Expected:
    """The value, the gradient, and what a tolerance depends on."""

    value: float | np.ndarray
    gradient: np.ndarray
    steps: Reference
    shares: float  # how many pixels, in weights of the interpolation, add to one logit: 1 without resizing


def plain(options):
    """Turn options that are 0-d arrays into numbers."""
    return {
        name: option.item() if np.ndim(option) == 0 and hasattr(option, "item") else option
        for name, option in options.items()
    }


@np.errstate(all="ignore")
def expect(logits, labels, *, axis=1, resize=None, align_corners=False, **options) -> Expected:
    """Compute value and gradient; logits of another resolution are enlarged first."""
    axis = 0 if logits.ndim == 1 else axis
    options = plain(options)
    x = np.moveaxis(np.asarray(logits, np.float64), axis, 0)
    n_axes = 0 if resize is None else AXES[resize]
    size = labels.shape[labels.ndim - n_axes :]
    large = interpolate(x, size, align_corners=align_corners)
    steps = reference(large, labels, axis=0, **options)
    slopes = closed_form(large, labels, steps, **options)
    shares = 1.0
    if resize is not None:
        small = x.shape[x.ndim - n_axes :]
        bad = ~np.isfinite(slopes).all(axis=0)
        slopes = pull_back(np.where(bad, 0.0, slopes), small, align_corners=align_corners)
        slopes[:, neighbours(bad, small, align_corners=align_corners)] = math.nan
        shares = float(np.max(pull_back(np.ones(labels.shape), small, align_corners=align_corners), initial=1.0))
    return Expected(value=steps.value, gradient=np.moveaxis(slopes, 0, axis), steps=steps, shares=shares)


@np.errstate(all="ignore")
def closed_form(x, labels, steps, *, weight=None, pixel_weight=1.0, label_smoothing=0.0, **_):
    """Give the gradient of logits (c, ...) from a selection; exact where differences are not, and NaN where it is."""
    n_classes = x.shape[0]
    w = np.ones(n_classes) if weight is None else np.asarray(weight, np.float64)
    inside = np.asarray((labels >= 0) & (labels < n_classes), bool)
    index = np.where(inside, labels, 0).astype(np.int64)
    classes = np.arange(n_classes).reshape(-1, *(1,) * labels.ndim)
    e = np.exp(x - x.max(axis=0, keepdims=True))
    p = e / e.sum(axis=0, keepdims=True)
    u = np.broadcast_to(pixel_weight, labels.shape)
    column = w.reshape(classes.shape)
    slopes = (1 - label_smoothing) * w[index] * (p - (classes == index))
    slopes = slopes + label_smoothing / n_classes * (w.sum() * p - column)
    counts = (
        np.asarray(steps.valid, bool) & (steps.coefficients != 0) & (u != 0) & ((w[index] != 0) | bool(label_smoothing))
    )
    slopes = np.where(counts, steps.coefficients * u * slopes, 0.0)
    return np.where(counts & np.isnan(steps.pixel_loss), math.nan, slopes)


def neighbours(marks, size, *, align_corners=False):
    """Mark the places of a size that lie next to a marked pixel."""
    for axis, n_in in enumerate(size, start=marks.ndim - len(size)):
        lower, upper, _ = taps(n_in, marks.shape[axis], align_corners=align_corners)
        touch = (np.arange(n_in) == lower[:, None]) | (np.arange(n_in) == upper[:, None])
        marks = np.moveaxis(np.tensordot(marks, touch, axes=([axis], [0])), -1, axis) > 0
    return marks
