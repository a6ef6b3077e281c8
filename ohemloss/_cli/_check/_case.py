"""One case: a call of the loss, in NumPy arrays."""

from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from ._draws import Numbers

IGNORE = 255
THRESH, MIN_KEPT = 0.7, 1 / 16

Labels: TypeAlias = npt.NDArray[np.int32]
Shape: TypeAlias = tuple[int, int, int, int]


@dataclass(frozen=True, kw_only=True, eq=False)
class Case:
    """
    The arguments of one call, and what it is about.

    The logits have shape (n, c, h, w), and are in float64, which holds what they were rounded to. A `thresh` of 0 is
    none: no pixel is hard by itself.
    """

    name: str
    about: str
    logits: Numbers
    labels: Labels
    thresh: float = THRESH
    min_kept: int | float = MIN_KEPT
    weight: Numbers | None = None
    pixel_weight: Numbers | None = None
