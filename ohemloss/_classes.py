"""What lies along the class axis."""

from ._engine import Engine
from ._typing import Array, Namespace


def label_mask(engine: Engine, index: Array, n_classes: int, axis: int) -> Array:
    """Tell, in the shape of the logits, which class is the label; none is where it is out of range."""
    xp = engine.xp
    classes = xp.astype(engine.arange(n_classes), index.dtype)
    return xp.expand_dims(index, axis=axis) == along_axis(xp, classes, axis, index.ndim + 1)


def along_axis(xp: Namespace, values: Array, axis: int, ndim: int) -> Array:
    """Lay a 1-d array along one axis of an `ndim`-dimensional one."""
    return xp.reshape(values, tuple(-1 if i == axis else 1 for i in range(ndim)))
