"""The array API namespace of CuPy, where arrays are made beside the others and not on the current device."""

from typing import Any

import array_api_compat.cupy as compat
import cupy
from array_api_compat.cupy import *

__array_api_version__ = compat.__array_api_version__


def arange(n: int, *, device: Any = None) -> Any:
    """Count from 0 to n - 1 on a device; CuPy takes no notice of the argument."""
    with cupy.cuda.Device(device):
        return compat.arange(n)


def astype(x: Any, dtype: Any, **options: Any) -> Any:
    """Convert an array where it lies; CuPy's copies lie on the current device."""
    with x.device:
        return compat.astype(x, dtype, **options)
