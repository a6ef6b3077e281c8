"""A case: one call of the loss, with the value and the gradient that the oracle gives."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np

from tests._cases import TOLERANCE, gradient_tolerance, wide
from tests._oracle import Expected, expect

from ._layouts import LAYOUTS, STRIDES

NARROW = ("float16", "bfloat16", "float32")
ALL = (*NARROW, "float64")


@dataclass(frozen=True, eq=False)
class Case:
    """
    One call of the loss.

    `logits` are float64 numbers that every dtype of `dtypes` holds, so one oracle serves them all. An option that is
    a NumPy array becomes an array of the library. `error` is what a host that reads the labels must say; elsewhere the
    oracle's NaN is expected.
    """

    kind: str
    name: str
    logits: np.ndarray
    labels: np.ndarray
    options: Mapping[str, Any] = field(default_factory=dict)
    layout: str = "NCHW"
    dtypes: tuple[str, ...] = ("float32",)
    label_dtype: str = "int64"
    error: str | None = None

    @property
    def id(self) -> str:
        """Name the case as pytest shows it."""
        return f"{self.kind}: {self.name}"

    @property
    def has_strides(self) -> bool:
        """Whether the case is about strides, which not every library has."""
        return self.layout in STRIDES

    @cached_property
    def axis(self) -> int:
        """The class axis."""
        if self.layout == "NCHW":
            return int(self.options.get("axis", 1))
        return self.arrays("float64")[2]

    @cached_property
    def expected(self) -> Expected:
        """Value and gradient by the oracle, once for all paths and dtypes."""
        logits, labels, axis = self.arrays("float64")
        found: Expected = expect(logits, labels.astype(object), **{**self.options, "axis": axis})
        return found

    def arrays(self, dtype: str) -> tuple[np.ndarray, np.ndarray, int]:
        """Lay logits and labels out; bfloat16, which NumPy lacks, as float32."""
        logits = self.logits.astype("float32" if dtype == "bfloat16" else dtype)
        labels = self.labels.astype(self.label_dtype)
        if self.layout == "NCHW":
            return np.ascontiguousarray(logits), labels, self.options.get("axis", 1)
        return LAYOUTS[self.layout](np.ascontiguousarray(logits), labels)

    def value_tolerance(self, dtype: str, *, rounds_resized: bool = False) -> dict[str, float]:
        """Give the tolerance of the value."""
        rtol, atol = TOLERANCE[dtype]["value"]
        n_added = self.expected.steps.count if self.options.get("reduction") == "sum" else 1
        rounded = rounds_resized * self._rounding(dtype) * n_added
        return {"rtol": rtol, "atol": atol * max(1.0, self._scale) + rounded}

    def gradient_tolerance(self, dtype: str, *, rounds_resized: bool = False) -> dict[str, float]:
        """Give the tolerance of the gradient; what many pixels add to one logit adds up their errors, too."""
        close = gradient_tolerance(dtype, self.expected.steps, scale=self._scale)
        rounded = rounds_resized * self._rounding(dtype) / self.expected.steps.normaliser
        return {"rtol": close["rtol"], "atol": (close["atol"] + rounded) * self.expected.shares}

    def _rounding(self, dtype: str) -> float:
        """Give the error of a loss whose logits are interpolated, and rounded then."""
        if self.options.get("resize") is None:
            return 0.0
        largest = np.max(np.abs(self.logits), where=np.isfinite(self.logits), initial=1.0)
        return float(np.finfo(wide(dtype)).eps * largest * self._scale)

    @property
    def _scale(self) -> float:
        weights = (self.options.get(name) for name in ("weight", "pixel_weight"))
        found = [np.abs(np.asarray(weight)) for weight in weights if weight is not None]
        return float(np.prod([np.max(weight, where=np.isfinite(weight), initial=0.0) for weight in found]))
