"""Names for what the standard leaves untyped: an array and a namespace may come from any library."""

from typing import Any, TypeAlias

Array: TypeAlias = Any
DType: TypeAlias = Any
Device: TypeAlias = Any
Namespace: TypeAlias = Any
