"""How labels are read: which pixels count, and which labels are classes."""

from dataclasses import dataclass

from ._dtypes import name_of
from ._engine import Engine
from ._typing import Array


@dataclass(frozen=True, kw_only=True)
class Classes:
    """
    Labels as class indices, in their shape.

    Attributes
    ----------
    index : array
        The labels, in an integer dtype that every library computes with.
    valid : array
        Bool: the label is not `ignore_index`.
    wrong : array
        Bool: the label is neither a class nor `ignore_index`.
    """

    index: Array
    valid: Array
    wrong: Array


def read_labels(engine: Engine, labels: Array, n_classes: int, ignore_index: int | None) -> Classes:
    """Read labels of any integer dtype, without casting one into the range by accident."""
    xp = engine.xp
    limits = xp.iinfo(labels.dtype)
    if ignore_index is None or not limits.min <= ignore_index <= limits.max:
        valid = labels == labels  # no label can equal it
    else:
        valid = labels != ignore_index
    # Not every device has 64-bit integers, and not every library compares unsigned ones. An uint32 that does not fit
    # becomes negative, which is as far out of range as it was.
    wide = name_of(xp, labels.dtype) in ("int64", "uint64")
    index = xp.astype(labels, xp.int64 if wide else xp.int32)
    return Classes(index=index, valid=valid, wrong=valid & ((index < 0) | (index >= n_classes)))
