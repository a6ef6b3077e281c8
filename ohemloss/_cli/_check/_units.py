"""
The unit of errors, and how many of them are allowed.

An error is the largest difference from the reference, divided by the largest number of the reference and by the
epsilon of a dtype: the distance from 1 to the next number. The value of a half is computed in float32, so its epsilon
is that of float32; its gradient is rounded to the half, so there it is that of the half. Where the reference is 0
everywhere nothing but 0 will do: any other number is infinitely wrong. So is NaN in place of a number, and a number in
place of NaN.
"""

import math
from typing import Any

import numpy as np
import numpy.typing as npt

from ._draws import Numbers

EPSILON = {"float16": 2.0**-10, "bfloat16": 2.0**-7, "float32": 2.0**-23, "float64": 2.0**-52}
COMPUTED_IN = {"float16": "float32", "bfloat16": "float32", "float32": "float32", "float64": "float64"}

# In units of the error. The reference is float64 itself: a few of the epsilons of float64 are its own. Of a gradient in
# halves one rounding is half an epsilon.
TOLERANCE = {
    "float16": {"value": 16.0, "gradient": 1.0},
    "bfloat16": {"value": 16.0, "gradient": 1.0},
    "float32": {"value": 16.0, "gradient": 16.0},
    "float64": {"value": 64.0, "gradient": 64.0},
}


def unit_of(dtype: str, what: str) -> float:
    """Give the epsilon that the value or the gradient of logits of this dtype is measured by."""
    return EPSILON[COMPUTED_IN[dtype] if what == "value" else dtype]


def error(found: npt.NDArray[Any], expected: Numbers, unit: float) -> float:
    """Measure the largest difference; infinite where a shape, a NaN or a zero is not as expected."""
    if found.shape != expected.shape or not np.array_equal(np.isnan(found), np.isnan(expected)):
        return math.inf
    numbers = ~np.isnan(expected)
    largest = float(np.max(np.abs(expected[numbers]), initial=0.0))
    difference = float(np.max(np.abs(found[numbers].astype(np.float64) - expected[numbers]), initial=0.0))
    if difference == 0:
        return 0.0
    return difference / largest / unit if largest else math.inf
