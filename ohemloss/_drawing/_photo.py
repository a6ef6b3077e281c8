"""The photograph that came, as bytes."""

from typing import Any

import numpy as np

from ._host import to_numpy
from ._types import Bytes

_CHANNELS = (3, 4)


def photograph_of(image: Any, shape: tuple[int, ...]) -> Bytes:
    """Check a photograph for labels of this shape; give it without transparency."""
    array = to_numpy(image)
    channels = array.shape[2:]
    if array.shape[:2] != shape or not (channels == () or (len(channels) == 1 and channels[0] in _CHANNELS)):
        height, width = shape
        msg = (
            f"`image` must have the shape of the labels, ({height}, {width}), and 3 or 4 channels last, or none: "
            f"got {array.shape}. Resize it, or move its axes."
        )
        raise ValueError(msg)
    array = array[..., :3] if channels else array
    if array.dtype == np.uint8:
        return array
    if array.dtype.kind != "f":
        msg = f"`image` must be uint8, or floats from 0 to 1: got {array.dtype}. Convert it first."
        raise TypeError(msg)
    if not np.all((array >= 0) & (array <= 1)):
        msg = f"`image` in floats must lie in [0, 1]: got {np.min(array):.4g} to {np.max(array):.4g}. Scale it first."
        raise ValueError(msg)
    painted: Bytes = np.rint(255 * array).astype(np.uint8)
    return painted
