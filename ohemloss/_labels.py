"""How labels are read: which pixels count, and which labels are classes."""

from dataclasses import dataclass
from typing import Any

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


def ignored_label(ignore_index: int | None, limits: Any) -> int | None:
    """Give the label to ignore as labels with these limits have it in 64 bits, signed; None if none can equal it."""
    if ignore_index is None or not limits.min <= ignore_index <= limits.max:
        return None
    return ignore_index - 2**64 if ignore_index >= 2**63 else ignore_index


def read_labels(engine: Engine, labels: Array, n_classes: int, ignore_index: int | None) -> Classes:
    """Read labels of any integer dtype, without casting one into the range by accident."""
    xp = engine.xp
    some_may_equal = ignored_label(ignore_index, xp.iinfo(labels.dtype)) is not None
    valid = labels != ignore_index if some_may_equal else labels == labels
    # Not every device has 64-bit integers, and not every library compares unsigned ones. An uint32 that does not fit
    # becomes negative, which is as far out of range as it was.
    wide = name_of(xp, labels.dtype) in ("int64", "uint64")
    index = xp.astype(labels, xp.int64 if wide else xp.int32)
    return Classes(index=index, valid=valid, wrong=valid & ((index < 0) | (index >= n_classes)))
