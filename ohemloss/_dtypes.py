"""Dtypes by name: the one test that holds for every library and every version of the standard."""

from ._typing import DType, Namespace

FLOATING = ("float32", "float64", "float16", "bfloat16")
BOOLEAN = ("bool", "bool_")
INTEGER = ("int64", "int32", "uint8", "int16", "int8", "uint16", "uint32", "uint64")


def name_of(xp: Namespace, dtype: DType) -> str | None:
    """Name a real floating, integer or boolean dtype; None for any other."""
    for name in FLOATING + INTEGER + BOOLEAN:
        known = getattr(xp, name, None)
        if known is not None and dtype == known:
            return name
    return None


def compute_dtype(xp: Namespace, dtype: DType) -> DType:
    """Give the dtype that values of this dtype are computed in: float32, or float64 for float64."""
    return xp.float64 if name_of(xp, dtype) == "float64" else xp.float32
