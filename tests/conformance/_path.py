"""A path: a library, a device, and a way to run the loss there."""

import contextlib
import importlib
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

import ohemloss
from tests._cases import wide
from tests._libraries import Library

from ._case import Case

# Of a result: where it comes from, the value, and the gradient; None where this way gives only one of them.
Answer = tuple[str, Any, Any]
# Dtypes of weights that a library has, though no setting of it runs logits in them.
_OTHER_FLOATS = {"numpy": ("float64",)}


@dataclass(frozen=True)
class Call:
    """One call in arrays of a library."""

    library: Library
    x: Any
    y: Any
    options: dict[str, Any]
    case: Case | None = None
    dtype: str = "float32"

    @classmethod
    def of(cls, library: Library, case: Case, dtype: str) -> "Call":
        """Bring a case to a library, with the strides that it has."""
        x, y, axis = case.arrays(dtype)
        options = {
            name: _option(library, name, option, wide(dtype) if case.kind != "weights" else None)
            for name, option in case.options.items()
        }
        x, y = place(library, x, dtype), place(library, y, None)
        return cls(library, x, y, {**options, "axis": axis}, case, dtype)

    def loss(self, x: Any) -> Any:
        """Compute the value alone."""
        return ohemloss.ohem_cross_entropy(x, self.y, **self.options)

    @property
    def derivative_is_nan(self) -> bool:
        """
        Whether the composite, differentiated by a library, gives NaN where 0 is right.

        A pixel of weight 0 that is ranked by its probability keeps its logits, and 0 times a derivative that is not
        finite is NaN.
        """
        by_prob = "rule" in self.options and self.options["rule"].rank_by == "prob"
        return by_prob and not np.all(np.isfinite(self.library.numpy(self.x)))

    @property
    def is_map(self) -> bool:
        """Whether the value is a loss for each pixel, which the closed form does not differentiate."""
        return self.options.get("reduction") == "none"


def _option(library: Library, name: str, option: Any, dtype: str | None) -> Any:
    if not isinstance(option, np.ndarray):
        return option
    return place(library, option, dtype if name.endswith("weight") else None)


def place(library: Library, array: np.ndarray, dtype: str | None) -> Any:
    """Make an array of a library from a NumPy one, keeping its strides where the library has any."""
    if library.package == "numpy":
        array = array.view() if dtype in (None, str(array.dtype)) else array.astype(dtype)
        array.flags.writeable = False
        return array
    if library.package != "torch" or library.device or min(array.strides, default=0) < 0:
        return library.asarray(array, dtype if dtype != str(array.dtype) else None)
    torch = importlib.import_module("torch")
    strides = [stride // array.itemsize for stride in array.strides]
    if any(stride % array.itemsize for stride in array.strides) or not array.flags.aligned:
        return library.asarray(array, dtype)
    # `asarray` would pack the numbers.
    made = torch.empty_strided(array.shape, strides, dtype=getattr(torch, dtype or str(array.dtype)))
    if 0 in strides:
        source = array[tuple(slice(None) if stride else slice(1) for stride in strides)]
        return library.asarray(source.copy(), dtype).expand(array.shape)
    return made.copy_(torch.from_numpy(np.array(array)))


def closed_form(call: Call) -> list[Answer]:
    """Run the closed form, and the loss alone, which must be the same."""
    alone = call.loss(call.x)
    if call.is_map:
        return [("loss", alone, None)]
    value, gradient = ohemloss.value_and_grad(call.x, call.y, **call.options)
    return [("loss", alone, None), ("closed form", value, gradient)]


def autograd(call: Call) -> list[Answer]:
    """Differentiate by the library itself; a map by its sum."""
    xp: Any = call.library.xp
    total = (lambda x: xp.sum(call.loss(x))) if call.is_map else call.loss
    differentiate = call.library.differentiate(total)
    return [("autograd", None, differentiate(call.x))]


def both(call: Call) -> list[Answer]:
    """Run the closed form, and differentiate if the library does."""
    answers = closed_form(call)
    return answers + autograd(call) if call.library.differentiate(call.loss) is not None else answers


def everything(case: Case, dtype: str) -> bool:
    """Take each case."""
    return True


@dataclass(frozen=True)
class Path:
    """
    One way to run the loss.

    `takes` says which cases run (all others would be served by another path, or show nothing new), and `setting` holds
    what makes this path serve them; where it may, it makes every other path fail. `rounds_resized` allows for the
    rounding of interpolated logits: (4 + largest logit) * epsilon in place of 4 * epsilon.
    """

    id: str
    library: Library
    run: Callable[[Call], list[Answer]] = both
    takes: Callable[[Case, str], bool] = everything
    setting: Callable[[], contextlib.AbstractContextManager[Any]] = contextlib.nullcontext
    reads_labels: bool | None = None  # None: as the library says
    marks: tuple[Any, ...] = ()
    rounds_resized: bool = False

    @property
    def refuses(self) -> bool:
        """Whether a label out of range is an error here; else it is NaN."""
        return self.library.host if self.reads_labels is None else self.reads_labels

    def answers(self, case: Case, dtype: str) -> list[Answer]:
        """Run a case."""
        return self.run(Call.of(self.library, case, dtype))

    def dtypes(self, case: Case) -> list[str]:
        """List the dtypes that a case runs in."""
        if case.has_strides and self.library.package not in ("numpy", "torch"):
            return []
        if not self._has(case):
            return []
        return [dtype for dtype in case.dtypes if dtype in self.library.floats and self.takes(case, dtype)]

    def _has(self, case: Case) -> bool:
        """Tell whether the library has the dtypes of the labels and weights, and whether they hold its numbers."""
        count = np.asarray(case.options.get("min_kept", 0))
        integers = {case.label_dtype, count.dtype.name if count.dtype.kind in "iu" else "int64"}
        if integers - {"int64", *self.library.integers}:
            return False
        if case.kind == "weights" and case.name not in (
            *self.library.floats,
            *_OTHER_FLOATS.get(self.library.package, ()),
        ):
            return False
        if self.library.label_dtype != "int32":
            return True
        numbers = [*case.labels.ravel().tolist(), *([count.item()] if count.dtype == np.int64 else [])]
        return all(abs(number) <= 2**31 for number in numbers)

    @contextlib.contextmanager
    def ready(self, case: Case) -> Iterator[None]:
        """Hold the setting of the library and of the path."""
        with self.library.setting(), self.setting(), warnings.catch_warnings():
            if not np.all(np.isfinite(case.logits)):
                # Array operations on logits that are not finite, in NumPy and what is built on it.
                warnings.filterwarnings("ignore", "invalid value encountered", RuntimeWarning)
            yield
