"""Every case over every path: the same numbers and the same gradients."""

import numpy as np
import pytest

from tests._oracle import plain
from tests._reference import gradient

from . import _jax
from ._check import check
from ._paths import paths
from ._table import CASES

COLUMNS = {name: name for name in ("closed form", "autograd", "compiled")} | {"loss": "eager"}


def _parameters():
    found = []
    for path in paths():
        for case in CASES:
            for dtype in path.dtypes(case):
                marks = [*path.marks, *([pytest.mark.quick] if is_quick(path, case, dtype) else [])]
                found.append(pytest.param(path, case, dtype, id=f"{path.id}-{case.id}-{dtype}", marks=marks))
    return found


def is_quick(path, case, dtype):
    """Tell whether the quick lane runs it: the shares of hard pixels, in the widest dtype."""
    return case.kind == "regimes" and "larger" not in case.name and dtype == path.dtypes(case)[-1]


@pytest.mark.parametrize(("path", "case", "dtype"), _parameters())
def test_case(path, case, dtype, shows):
    """The value and the gradient of a case are those of the oracle."""
    with path.ready(case):
        shown = check(path, case, dtype)
    if case.kind == "regimes":
        for name, (actual, expected) in shown.items():
            row, best = path.library.row, dtype == path.library.floats[-1]
            half = dtype not in ("float32", "float64") and name != "loss"
            column = "autocast" if half else COLUMNS.get(name) if best else None
            if column is not None:
                shows(row, column, actual, expected, rtol=1.0, atol=1.0)


@pytest.mark.parametrize(
    "case", [case for case in CASES if case.kind in ("options", "rules")], ids=lambda case: case.id
)
def test_closed_form_of_the_oracle_is_the_derivative(case):
    """By differences of the oracle's value, with the selection held fixed."""
    expected = gradient(case.logits, case.labels, **plain(case.options))
    np.testing.assert_allclose(case.expected.gradient, expected, rtol=1e-6, atol=1e-9)


def test_rows_that_paths_name_exist():
    """Paths choose some rows by their names: a row that is renamed must not be lost."""
    names = {kind: {case.name for case in CASES if case.kind == kind} for kind in ("classes", "resized")}
    assert set(_jax._CLASSES) <= names["classes"]
    assert set(_jax._RESIZED) <= names["resized"]
    assert set(_jax._LAYOUTS) <= {case.layout for case in CASES}
