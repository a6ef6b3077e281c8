"""Arrays and results by name."""

from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

Array: TypeAlias = npt.NDArray[Any]
Bools: TypeAlias = npt.NDArray[np.bool_]
Bytes: TypeAlias = npt.NDArray[np.uint8]
Counts: TypeAlias = npt.NDArray[np.int64]
Numbers: TypeAlias = npt.NDArray[np.float64]
# In float32 or float64.
Floats: TypeAlias = npt.NDArray[np.floating[Any]]
# By the names that a module of PyTorch gives them.
Weights: TypeAlias = dict[str, Floats]
# As JSON holds them: of one model, and of the experiment.
Judged: TypeAlias = dict[str, Any]
Found: TypeAlias = dict[str, Any]
