"""The one check: what a path gives for a case is what the oracle gives."""

from typing import Any

import numpy as np
import pytest

from tests._cases import wide

from ._case import Case
from ._path import Call, Path


def check(path: Path, case: Case, dtype: str) -> dict[str, tuple[Any, Any]]:
    """Compare value and gradient with the oracle; return what was found and expected, by where it comes from."""
    library = path.library
    call = Call.of(library, case, dtype)
    if case.error is not None and path.refuses:
        with pytest.raises(ValueError, match=case.error):
            path.run(call)
        return {}
    before = library.numpy(call.x).copy(), library.numpy(call.y).copy()
    expected, shown, error = case.expected, {}, {"rounds_resized": path.rounds_resized}
    for name, value, gradient in path.run(call):
        if value is not None:
            assert_like(call, value, wide(dtype))
            library.assert_close(value, expected.value, **case.value_tolerance(dtype, **error))
            shown[name] = library.numpy(value), expected.value
        if gradient is not None:
            assert_like(call, gradient, dtype)
            library.assert_close(gradient, expected.gradient, **case.gradient_tolerance(dtype, **error))
            assert_zero_where_nothing_counts(library.numpy(gradient), case)
            shown[name] = library.numpy(gradient), expected.gradient
    for array, old in zip((call.x, call.y), before, strict=True):
        np.testing.assert_array_equal(library.numpy(array), old, "the arguments are left alone")
    return shown


def assert_like(call: Call, array: Any, dtype: str) -> None:
    """Compare type, dtype and device with those of the logits."""
    assert type(array) is type(call.x) or type(array).__module__ == type(call.x).__module__
    assert str(array.dtype).rpartition(".")[2].strip("'>") == dtype
    assert getattr(array, "device", None) == getattr(call.x, "device", None)


def assert_zero_where_nothing_counts(gradient: np.ndarray, case: Case) -> None:
    """Compare exactly what must be 0: what is ignored, weighs nothing, or is not selected."""
    steps = case.expected.steps
    if case.options.get("resize") is None:
        pixels = np.moveaxis(gradient, case.axis, -1) if gradient.ndim > 1 else gradient
        assert not np.any(pixels[(steps.coefficients == 0) | ~np.asarray(steps.valid, bool)])


def case_of(batch, **options):
    """Make a case of logits and labels."""
    return Case("", "", *batch, options)


def images_of(batch, **options):
    """Make a case of each image."""
    logits, labels = batch
    return [case_of((logits[i : i + 1], labels[i : i + 1]), **options) for i in range(len(logits))]


def assert_both(case, value, gradient, dtype="float64"):
    """Compare value and gradient with the oracle."""
    np.testing.assert_allclose(value, case.expected.value, **case.value_tolerance(dtype))
    np.testing.assert_allclose(gradient, case.expected.gradient, **case.gradient_tolerance(dtype))


def assert_images(cases, values, gradients, dtype="float64"):
    """Compare the value and gradient of each image with the oracle."""
    for i, case in enumerate(cases):
        assert_both(case, values[i], gradients[i : i + 1], dtype)
