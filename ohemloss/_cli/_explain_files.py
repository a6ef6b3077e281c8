"""The files of `explain`: what is in each, and how logits and labels belong together."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from .._resize import AXES
from . import _read
from ._errors import CannotRunError

_LOGITS, _LABELS, _IMAGE, _NAMES = "LOGITS", "LABELS", "--image", "--names"
_FLOATS = (np.float16, np.float32, np.float64)


def read_logits(source: str) -> npt.NDArray[Any]:
    """Read logits: floats of a dtype that the loss knows."""
    array = _read.read_array(source, _LOGITS)
    if array.dtype not in _FLOATS:
        msg = f"`{_LOGITS}` must hold float16, float32 or float64: {source} holds {array.dtype}."
        raise CannotRunError(msg)
    return array


def read_labels(source: str) -> npt.NDArray[Any]:
    """Read labels: integers, from an array or an image."""
    path, key = _read.split_key(source)
    if key is None:
        _read.check_suffix(path, _LABELS, ".npy", ".npz", ".png")
    if path.suffix.lower() == ".png":
        from ._read_image import read_label_image

        return read_label_image(path, _LABELS)
    array = _read.read_array(source, _LABELS)
    if array.dtype.kind not in "iu":
        msg = (
            f"`{_LABELS}` must hold integers: {source} holds {array.dtype}. "
            "If it holds class indices all the same, save `labels.astype(numpy.int64)`."
        )
        raise CannotRunError(msg)
    return array


def read_image(path: Path) -> npt.NDArray[np.uint8]:
    """Read the photograph."""
    from ._read_image import read_photograph

    return read_photograph(path, _IMAGE)


def read_names(path: Path) -> list[str]:
    """Read the names of the classes, one a line."""
    try:
        return path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise _read.unreadable(path, _NAMES, error) from error


def arrange(
    logits: npt.NDArray[Any], labels: npt.NDArray[Any], axis: int | None, resize: str | None
) -> tuple[npt.NDArray[Any], int]:
    """
    Give labels of one image the axis of the batch that the logits have, and find the class axis if it is not given.

    It is 1. Logits of one image, ``(c, h, w)`` with labels ``(h, w)``, have it first; where both fit it is 1. Of logits
    that are resized the sizes say nothing, and one image is what has no axis but those and the classes.
    """
    if labels.ndim == logits.ndim - 2 and logits.shape[0] == 1:
        labels = labels[None]
    if axis is None and resize in AXES:
        axis = 0 if logits.ndim == AXES[resize] + 1 else 1
    elif axis is None:
        axis = 0 if _without(logits.shape, 0) == labels.shape != _without(logits.shape, 1) else 1
    return labels, axis


def _without(shape: Sequence[int], axis: int) -> tuple[int, ...]:
    return (*shape[:axis], *shape[axis + 1 :])
