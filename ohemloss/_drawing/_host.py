"""Arrays of any library as NumPy arrays, for tables and pictures."""

from collections.abc import Callable
from typing import Any

import array_api_compat
import numpy as np
import numpy.typing as npt

from .. import _registry
from .._dtypes import name_of
from .._typing import Array


def to_numpy(array: Array) -> npt.NDArray[Any]:
    """
    Copy or view an array in host memory, bfloat16 as float32; a lazy one is computed.

    The standard has no word for it. Most libraries answer NumPy's own protocol; one that records a graph gives its
    constants by a method only.
    """
    if hasattr(array, "unwrap_numpy"):
        return np.asarray(array.unwrap_numpy())
    library = _registry.library_of(array)
    if library is not None and name_of(library.xp, array.dtype) == "bfloat16":  # which NumPy has not
        array = library.xp.astype(array, library.xp.float32)
    try:
        values = np.asarray(array)
    except (RuntimeError, TypeError) as refusal:
        values = _brought(array, library, refusal)
    if values.dtype == object:  # what NumPy makes of a type that it does not know
        msg = f"cannot read the values of `{type(array).__name__}`"
        raise TypeError(msg)
    return values


def _brought(array: Array, library: _registry.Library | None, refusal: Exception) -> npt.NDArray[Any]:
    """Take an array that refused out of differentiation, or move it: to the CPU by name, or to the default device."""
    plain = array if library is None else library.backend.constant(array)
    ways: tuple[Callable[[], Array], ...] = (
        lambda: plain,
        lambda: array_api_compat.to_device(plain, "cpu"),
        lambda: plain.to_device(plain.__array_namespace__().__array_namespace_info__().default_device()),
    )
    for way in ways:
        try:
            return np.asarray(way())
        except (AttributeError, RuntimeError, TypeError, ValueError):
            continue
    raise refusal
