"""The arrays that pictures are made of."""

from typing import Any, Protocol, TypeAlias

import numpy as np
import numpy.typing as npt

from .._mining import Cut
from .._typing import Array

Bools: TypeAlias = npt.NDArray[np.bool_]
Bytes: TypeAlias = npt.NDArray[np.uint8]
Floats: TypeAlias = npt.NDArray[np.floating[Any]]
Integers: TypeAlias = npt.NDArray[np.integer[Any]]


class Traced(Protocol):
    """What is drawn of an `ohemloss.Trace`."""

    @property
    def labels(self) -> Array: ...
    @property
    def valid(self) -> Array: ...
    @property
    def thresh(self) -> Array: ...
    @property
    def n_valid(self) -> Array: ...
    @property
    def n_min(self) -> Array: ...
    @property
    def pixel_loss(self) -> Array: ...
    @property
    def score(self) -> Array: ...
    @property
    def selected(self) -> Array: ...
    @property
    def n_hard(self) -> Array: ...
    @property
    def cut(self) -> Cut: ...
    @property
    def value(self) -> Array: ...
