"""
One model, two losses, three libraries: `python -m benchmarks.experiment --out FOLDER`.

The same small segmentation model is trained on a real photograph with plain cross-entropy and with OHEM, in NumPy,
PyTorch and JAX: are the curves the same, and what does mining do to rare classes?
"""

from ._write import MissingPackages, write

__all__ = ["MissingPackages", "write"]
