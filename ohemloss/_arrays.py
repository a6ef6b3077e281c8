"""Arrays told from numbers."""

from numbers import Real
from typing import TypeGuard

from ._typing import Array


def is_array(value: object) -> TypeGuard[Array]:
    """Tell an array from a number; a scalar of a library that is a number to Python counts as one."""
    # A number first: a tracing compiler knows what a symbolic one is, but not which attributes it lacks.
    return not isinstance(value, Real) and hasattr(value, "shape") and hasattr(value, "dtype")
