"""Arrays of any library as NumPy arrays, for tables and pictures."""

from typing import Any

import array_api_compat
import numpy as np
import numpy.typing as npt

from .._typing import Array


def to_numpy(array: Array) -> npt.NDArray[Any]:
    """
    Copy or view an array in host memory; a lazy one is computed.

    The standard has no word for it. Most libraries answer NumPy's own protocol; one that records a graph gives its
    constants by a method only, and arrays on a device refuse until they are moved.
    """
    if hasattr(array, "unwrap_numpy"):
        return np.asarray(array.unwrap_numpy())
    try:
        values = np.asarray(array)
    except (RuntimeError, TypeError) as refusal:
        try:
            values = np.asarray(array_api_compat.to_device(array, "cpu"))
        except (AttributeError, TypeError, ValueError):
            raise refusal from None  # it was no matter of devices
    if values.dtype == object:  # what NumPy makes of a type that it does not know
        msg = f"cannot read the values of `{type(array).__name__}`"
        raise TypeError(msg)
    return values
