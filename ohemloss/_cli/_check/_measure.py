"""Run the cases, and measure what comes by the reference."""

import hashlib
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
import numpy.typing as npt

from ..._typing import Array
from .._library import cause
from ._case import Case
from ._reference import Expected, reference
from ._report import Cell, Row
from ._site import Site
from ._units import COMPUTED_IN, TOLERANCE, error, unit_of
from ._ways import Run, Way

# If so many cases fail at the start, none of the others is tried: each may compile for a minute before it fails.
_TRIED = 3

_expected: Callable[[Case], Expected] = cache(reference)


def measure(library: str, site: Site, dtype: str, way: Way, advance: Callable[[], None]) -> Row:
    """Run all cases in one way; `advance` is called after each."""
    start, cells = time.perf_counter(), list[Cell]()
    run: Run | None = None
    for case in way.cases(dtype):
        if len(cells) >= _TRIED and all(cell.cause for cell in cells):
            cells.append(Cell(case=case.name, passed=False, cause=f"not tried after {_TRIED} failures"))
        else:
            try:
                run = run or way.prepare()
                cells.append(_measured(run, site, dtype, case))
            except Exception as failure:  # noqa: BLE001  (compilers and devices fail in ways of their own)
                cells.append(Cell(case=case.name, passed=False, cause=cause(failure)))
        advance()
    seconds = time.perf_counter() - start
    return Row(library=library, device=site.place.label, dtype=dtype, way=way.name, seconds=seconds, cells=cells)


@dataclass(frozen=True)
class _Result:
    """What one call gave, in host memory, and how long it took until it was there."""

    value: npt.NDArray[Any]
    gradient: npt.NDArray[Any] | None
    seconds: float

    def bits(self) -> tuple[bytes, str | None]:
        """Give the bytes of the value and the hash of those of the gradient."""
        hashed = None if self.gradient is None else hashlib.sha256(_bits(self.gradient)).hexdigest()
        return _bits(self.value), hashed


def _measured(run: Run, site: Site, dtype: str, case: Case) -> Cell:
    first, second = (_call(run, site.arguments(case, dtype), site, dtype) for _ in range(2))
    expected, tolerance = _expected(case), TOLERANCE[dtype]
    value_error = error(first.value, expected.value, unit_of(dtype, "value"))
    gradient_error = None
    if first.gradient is not None:
        gradient_error = error(first.gradient, expected.gradient, unit_of(dtype, "gradient"))
    value_bits, gradient_hash = first.bits()
    return Cell(
        case=case.name,
        passed=value_error <= tolerance["value"] and (gradient_error or 0.0) <= tolerance["gradient"],
        value=float(first.value),
        value_bits=value_bits.hex(),
        gradient_hash=gradient_hash,
        value_error=value_error,
        gradient_error=gradient_error,
        repeats=first.bits() == second.bits(),
        seconds=(first.seconds, second.seconds),
    )


def _call(run: Run, arguments: dict[str, Array], site: Site, dtype: str) -> _Result:
    start = time.perf_counter()
    value, gradient = run(arguments)
    on_host = site.read(value, COMPUTED_IN[dtype])
    return _Result(on_host, None if gradient is None else site.read(gradient, dtype), time.perf_counter() - start)


def _bits(array: npt.NDArray[Any]) -> bytes:
    """Give the bytes in C order, the highest of each number first; each NaN has the same."""
    same_nan = np.where(np.isnan(array), np.asarray(np.nan, dtype=array.dtype), array)
    return bytes(same_nan.astype(same_nan.dtype.newbyteorder(">")).tobytes())
