"""What is drawn of a trace: one image of it in host memory, and the numbers that hold there."""

import operator
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from .._typing import Array
from ._histogram import Ranked
from ._host import to_numpy
from ._types import Bools, Floats, Integers, Traced

_PLOTTED_AXES = 2


@dataclass(frozen=True)
class View:
    """
    One image, and the selection that it took part in.

    Attributes
    ----------
    index : tuple of int
        Where the image is in the batch; empty if the labels are drawn whole.
    shape : tuple of int
        The shape of all labels.
    per_image : bool
        Whether the numbers are those of the image; if not, of the batch.
    labels, valid, losses, selected : array
        2-d, of the image.
    ranked : Ranked
        The pixels that the selection was made of.
    n_valid, n_min, n_hard, count : int
        As the trace has them.
    tie_weight : float
        What a pixel weighs that ties with the last place.
    value : float or None
        The loss of the batch; None if it is an array.
    """

    index: tuple[int, ...]
    shape: tuple[int, ...]
    per_image: bool
    labels: Integers
    valid: Bools
    losses: Floats
    selected: Bools
    ranked: Ranked
    n_valid: int
    n_min: int
    n_hard: int
    count: int
    tie_weight: float
    value: float | None


def view_of(trace: Traced, index: int | tuple[int, ...]) -> View:
    """Read the image and the numbers."""
    labels, valid, losses, selected = map(_read, (trace.labels, trace.valid, trace.pixel_loss, trace.selected))
    scores = losses if trace.score is trace.pixel_loss else _read(trace.score)
    value, cut = _read(trace.value), _read(trace.cut.value)
    where = _place(index, labels.shape, per_image=cut.ndim > 0)

    def number(array: Array) -> Any:
        values = _read(array)
        return values.item() if values.ndim == 0 else values.flat[where[0]].item()

    pool, tie_weight = where[:1] if cut.ndim else (), number(trace.cut.tie_weight)
    among = valid[pool]
    return View(
        index=where,
        shape=labels.shape,
        per_image=cut.ndim > 0,
        labels=_as_picture(labels[where]),
        valid=_as_picture(valid[where]),
        losses=_as_picture(losses[where]),
        selected=_as_picture(selected[where]),
        ranked=Ranked(
            scores=scores[pool][among],
            mined=selected[pool][among],
            thresh=number(trace.thresh),
            cut=number(trace.cut.value),
            is_loss=np.array_equal(scores[valid], losses[valid], equal_nan=True),
            has_ties=0 < tie_weight < 1,
        ),
        n_valid=number(trace.n_valid),
        n_min=number(trace.n_min),
        n_hard=number(trace.n_hard),
        count=number(trace.cut.count),
        tie_weight=tie_weight,
        value=None if value.ndim else value.item(),
    )


def _read(array: Array) -> npt.NDArray[Any]:
    try:
        return to_numpy(array)
    except (RuntimeError, TypeError, ValueError) as error:
        msg = (
            f"`plot` must be able to read the values of the trace: got a {type(array).__name__}, of which it cannot. "
            "Return the trace from a compiled function, and plot it outside."
        )
        raise TypeError(msg) from error


def _place(index: int | tuple[int, ...], shape: tuple[int, ...], *, per_image: bool) -> tuple[int, ...]:
    """Check the index, and count it from the front."""
    given = index if isinstance(index, tuple) else (index,)
    n = max(len(shape) - _PLOTTED_AXES, int(per_image))
    if n == 0 and given == (0,):  # the default
        given = ()
    if len(given) != n:
        example = ", ".join("0" * n) + "," * (n == 1)
        rule = f"be {n} integers, for instance ({example})" if n else "be left out, since they are drawn whole"
        msg = f"`index` for labels of shape {shape} must {rule}: got {index!r}."
        raise ValueError(msg)
    if not all(-length <= i < length for i, length in zip(given, shape, strict=False)):
        msg = f"`index` must lie in the labels of shape {shape}: got {index!r}."
        raise ValueError(msg)
    if 0 in shape[n:]:
        msg = f"`plot` must have pixels to draw: got labels of shape {shape}."
        raise ValueError(msg)
    return tuple(operator.index(i) % length for i, length in zip(given, shape, strict=False))


def _as_picture(array: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Give an array with one axis or none those of a picture: a strip."""
    return array if array.ndim == _PLOTTED_AXES else array.reshape(1, -1)
