"""The checks of shapes."""

from typing import Any

from ._options import Options
from ._resize import AXES, resized_axes
from ._typing import Array


def class_axis(axis: int, logits: Array) -> int:
    """Count the class axis from the front; refuse one that is not there."""
    ndim: int = logits.ndim
    if ndim == 0:
        msg = "`logits` must have a class axis: got a 0-d array."
        raise ValueError(msg)
    if ndim == 1 and axis == 1:
        return 0  # the default of a single element's logits, which have no other axis
    if not -ndim <= axis < ndim:
        msg = f"`axis` must be an axis of `logits`: got axis={axis}, logits.shape={shape_of(logits)}."
        raise ValueError(msg)
    # A plain number, also where a tracing compiler has made a symbol of the option.
    return next(i for i in range(ndim) if i == axis % ndim)


def check_label_shape(logits: Array, labels: Array, options: Options) -> None:
    """Refuse labels that do not fit the logits, resized or not."""
    axis = options.axis
    if logits.shape[axis] == 0:
        msg = f"`logits` must have at least one class along axis {axis}: got logits.shape={shape_of(logits)}."
        raise ValueError(msg)
    if options.resize is not None:
        _check_resized_shape(logits, labels, options)
        return
    expected = tuple(n for i, n in enumerate(logits.shape) if i != axis)
    if len(expected) != labels.ndim or not all(map(agree, expected, labels.shape)):
        msg = f"`labels` must have the shape of `logits` without the class axis {axis}: {_both(logits, labels)}."
        if labels.ndim == logits.ndim:
            msg += " Remove the axis of length 1, or convert one-hot labels to class indices."
        elif labels.ndim == logits.ndim - 1:
            msg += (
                " Pass `axis=` if the classes are along another axis, or `resize='bilinear'` if the logits are of "
                "another resolution."
            )
        raise ValueError(msg)


def _check_resized_shape(logits: Array, labels: Array, options: Options) -> None:
    n_axes = AXES[str(options.resize)]
    resized = resized_axes(options, logits.ndim)
    kept = tuple(n for i, n in enumerate(logits.shape) if i != options.axis and i not in resized)
    if labels.ndim != logits.ndim - 1 or labels.ndim < n_axes or not all(map(agree, kept, labels.shape)):
        msg = (
            f"`labels` must have the shape of `logits` without the class axis {options.axis}, but for the last "
            f"{n_axes} axes, for resize={options.resize!r}: {_both(logits, labels)}."
        )
        raise ValueError(msg)
    if any(logits.shape[i] == 0 for i in resized) and 0 not in labels.shape:
        msg = f"`logits` must have pixels to be resized: {_both(logits, labels)}."
        raise ValueError(msg)


def agree(a: Any, b: Any) -> bool:
    """Compare two lengths of which a lazy library may not know one."""
    return a == b or not isinstance(a, int) or not isinstance(b, int)


def check_broadcast(pixel_weight: Array, labels: Array) -> None:
    """Refuse pixel weights that do not broadcast to the labels."""
    got, wanted = shape_of(pixel_weight), shape_of(labels)
    trailing = wanted[len(wanted) - len(got) :]
    if len(got) > len(wanted) or not all(n == 1 or agree(n, m) for n, m in zip(got, trailing, strict=True)):
        msg = (
            "`pixel_weight` must have the shape of `labels`, or one that broadcasts to it: "
            f"got pixel_weight.shape={got}, labels.shape={wanted}."
        )
        raise ValueError(msg)


def shape_of(array: Array) -> tuple[Any, ...]:
    """Give the shape as a tuple, as errors show it."""
    return tuple(array.shape)


def _both(logits: Array, labels: Array) -> str:
    return f"got logits.shape={shape_of(logits)}, labels.shape={shape_of(labels)}"
