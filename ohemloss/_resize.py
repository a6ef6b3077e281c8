"""Linear interpolation of logits between their places, up to the size of the labels, and its transpose."""

from dataclasses import dataclass
from typing import Any

from ._classes import along_axis
from ._dtypes import compute_dtype
from ._engine import Engine
from ._options import Options
from ._typing import Array, DType

# How many axes are interpolated, counted from the last one.
AXES = {"linear": 1, "bilinear": 2, "trilinear": 3}


@dataclass(frozen=True)
class Taps:
    """
    The two places of one axis that each new place lies between.

    Attributes
    ----------
    lower, upper : array
        Their numbers, integers, one for each new place. They are the same beyond the first and the last place.
    share : array
        How far along the new place is from `lower` to `upper`, in [0, 1).
    """

    lower: Array
    upper: Array
    share: Array

    @staticmethod
    def of(engine: Engine, n_in: int, n_out: int, align_corners: bool, dtype: DType) -> "Taps":
        """Find them in integers, so that no position is rounded before its fraction is."""
        places = engine.arange(n_out)
        if align_corners:
            numerators, denominator = places * (n_in - 1), max(n_out - 1, 1)
        else:
            # The middle of a place is half a place from its border: ((i + 1/2) n_in / n_out - 1/2).
            numerators, denominator = (2 * places + 1) * n_in - n_out, 2 * n_out
            numerators = engine.xp.where(numerators > 0, numerators, places * 0)
        lower = numerators // denominator
        share = engine.xp.astype(numerators - lower * denominator, dtype) / denominator
        upper = engine.xp.where(lower < n_in - 1, lower + 1, lower)
        return Taps(lower, upper, share)


def resized_axes(options: Options, ndim: int) -> list[int]:
    """List the axes of the logits that are resized: the last ones of those that are not the classes."""
    if options.resize is None:
        return []
    pixels = [i for i in range(ndim) if i != options.axis]
    return pixels[len(pixels) - AXES[options.resize] :]


def resized(options: Options, small: tuple[Any, ...], pixels: tuple[Any, ...]) -> list[tuple[int, Any, Any]]:
    """List the axes of the logits of a shape that have another length among the pixels, and both lengths."""
    lengths = [(i, small[i], pixels[i - (i > options.axis)]) for i in resized_axes(options, len(small))]
    return [(i, n_in, n_out) for i, n_in, n_out in lengths if n_in != n_out]


def enlarge(engine: Engine, logits: Array, shape: tuple[Any, ...], options: Options) -> Array:
    """
    Interpolate the logits, in the dtype of the loss, so that their pixels are those of labels of a shape.

    Every result is the sum of both neighbours times their shares, also of a share of 0: what is not finite shows.
    """
    if options.resize is None:
        return logits
    logits = engine.xp.astype(logits, compute_dtype(engine.xp, logits.dtype))
    for axis, n_in, n_out in resized(options, logits.shape, shape):
        taps = Taps.of(engine, n_in, n_out, options.align_corners, logits.dtype)
        share = along_axis(engine.xp, taps.share, axis, logits.ndim)
        lower, upper = (engine.xp.take(logits, index, axis=axis) for index in (taps.lower, taps.upper))
        logits = (1 - share) * lower + share * upper
    return logits


def shrink(engine: Engine, gradient: Array, shape: tuple[Any, ...], options: Options) -> Array:
    """
    Bring the gradient with respect to the enlarged logits to the logits of a shape: the transpose of `enlarge`.

    It is a product with a matrix an axis. There 0 times NaN is NaN and would spread over a row, so a pixel that is not
    finite is taken out, and makes NaN of its own neighbours, in all classes, as its softmax has.
    """
    if options.resize is None:
        return gradient
    xp, bad = engine.xp, ~engine.xp.isfinite(gradient)
    marks = xp.astype(xp.any(bad, axis=options.axis, keepdims=True), gradient.dtype)
    gradient = engine.where(~bad, gradient, 0.0)
    pixels = tuple(n for i, n in enumerate(gradient.shape) if i != options.axis)
    for axis, n_in, n_out in resized(options, shape, pixels):
        taps = Taps.of(engine, n_in, n_out, options.align_corners, gradient.dtype)
        gradient = _product(engine, gradient, _matrix(engine, taps, n_in), axis)
        marks = _product(engine, marks, _touched(engine, taps, n_in, gradient.dtype), axis)
    return engine.where(marks == 0, gradient, float("nan"))


def _matrix(engine: Engine, taps: Taps, n_in: int) -> Array:
    """Write the interpolation as a matrix: a row for each new place."""
    places = engine.arange(n_in)
    share = engine.xp.expand_dims(taps.share, axis=1)
    at_lower, at_upper = (engine.xp.expand_dims(i, axis=1) == places for i in (taps.lower, taps.upper))
    return engine.where(at_lower, 1 - share, 0.0) + engine.where(at_upper, share, 0.0)


def _touched(engine: Engine, taps: Taps, n_in: int, dtype: DType) -> Array:
    """Mark in such a matrix what is looked at, also with a share of 0."""
    places = engine.arange(n_in)
    at_lower, at_upper = (engine.xp.expand_dims(i, axis=1) == places for i in (taps.lower, taps.upper))
    return engine.xp.astype(at_lower | at_upper, dtype)


def _product(engine: Engine, x: Array, matrix: Array, axis: int) -> Array:
    """Multiply along one axis."""
    xp, last = engine.xp, x.ndim - 1
    order = tuple(last if i == axis else axis if i == last else i for i in range(x.ndim))
    return xp.permute_dims(xp.matmul(xp.permute_dims(x, order), matrix), order)
