"""CuPy served without a look at the device: labels are never read by the host."""

from typing import Any

from ohemloss import Backend


def _is_readable(array: Any) -> bool:
    return False  # each look would wait for the device


backend = Backend(name="cupy", namespace="array_api_compat.cupy", is_readable=_is_readable)

__all__ = ["backend"]
