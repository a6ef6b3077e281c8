"""NumPy served by what it is good at: partition, and sums in float64."""

from ._backend import backend

__all__ = ["backend"]
