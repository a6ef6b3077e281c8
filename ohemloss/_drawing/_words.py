"""What pictures and tables say of numbers and classes, in letters that every terminal has."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

_LONGEST = 24  # letters of a name


def percent(part: float, whole: float) -> str:
    """Write a share; what is there but tiny is not 0."""
    share = part / whole if whole else 0.0
    return "<0.1%" if 0 < share < 0.0005 else f"{share:.1%}"


def class_name(label: int, names: Sequence[str] | None) -> str:
    """Name a class, briefly; one without a name by its number."""
    name = names[label] if names is not None and 0 <= label < len(names) else f"class {label}"
    return name if len(name) <= _LONGEST else f"{name[: _LONGEST - 3]}..."


def describe_extremes(losses: npt.NDArray[np.floating[Any]]) -> str:
    """Say how many losses are no number or infinite; an empty text if none is."""
    counts = {"NaN": np.count_nonzero(np.isnan(losses)), "infinite": np.count_nonzero(np.isinf(losses))}
    return " and ".join(f"{n:,} {what}" for what, n in counts.items() if n)
