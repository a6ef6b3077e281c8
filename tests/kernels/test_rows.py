"""The kernels on a CPU against the oracle: what the table of all paths has no row for."""

import itertools
import math
from dataclasses import replace

import numpy as np
import pytest

from tests._cases import make_small
from tests.conformance._case import Case
from tests.conformance._check import check
from tests.conformance._path import Call
from tests.conformance._paths import paths

from ._rows import BILINEAR, ROWS, runs

pytestmark = pytest.mark.kernels

PATHS = {path.id: replace(path, rounds_resized=True) for path in paths() if pytest.mark.kernels in path.marks}
BOTH = pytest.mark.parametrize("path", PATHS.values(), ids=PATHS)


@pytest.mark.parametrize(
    ("path", "case"),
    [pytest.param(PATHS[key], case, id=f"{key}-{case.id}") for key in PATHS for case in ROWS if runs(key, case)],
)
def test_row(path, case):
    """As in the table of all paths."""
    with path.ready(case):
        check(path, case, case.dtypes[0])


def answer(path, logits, labels, **options):
    """Run a case whose tolerance is its own: value and gradient."""
    case = Case("kernels", "", np.asarray(logits, np.float64), labels, options)
    with path.ready(case):
        found = path.run(Call.of(path.library, case, "float32"))[-1]
        return [np.asarray(path.library.numpy(array), np.float64) for array in found[1:]]


def exact():
    """Make cases whose gradient is exact to the last bits of float32, whatever their size."""
    for resize in (None, "bilinear"):
        for loss in (59, 61, 63, 65, 82.3, 84.1, 86.7, 200, 3000):
            logits = np.zeros((1, 5, 1, 2 if resize else 4))
            logits[:, 1] = loss
            options = {"weight": np.full(5, 1e-6, np.float32), "min_kept": 1.0, "resize": resize}
            yield Case("one of a million pixels", f"{loss}, {resize}", logits, np.zeros((1, 1, 4), np.int64), options)
        for loss in (50.0, 70.0, 100.0, 3000.0):
            # The shift by the label's logit gives up, in the sum and in the softmax.
            logits, labels = make_small("40% hard", (1, 4, 2, 3), (4, 9) if resize else (2, 3))
            logits[:, 3] -= loss
            yield Case("large losses", f"{loss}, {resize}", logits, np.full_like(labels, 3), {"resize": resize})
    for size, label in itertools.product((1e4, 1e8, 1e30, -1e30), (0, 1)):
        logits = np.full((1, 5, 2, 3), -size)
        logits[:, 1:3] = size
        options = {**BILINEAR, "min_kept": 1.0}
        yield Case("equal large logits", f"{size}, {label}", logits, np.full((1, 7, 8), label), options)


@BOTH
@pytest.mark.parametrize("case", list(exact()), ids=lambda case: case.id)
def test_exact(path, case):
    """The gradient is as exact as that of small logits and losses."""
    value, gradient = answer(path, case.logits, case.labels, **case.options)
    np.testing.assert_allclose(value, case.expected.value, rtol=2e-6)
    rtol = 2e-6 if case.kind == "equal large logits" else 3e-6
    np.testing.assert_allclose(gradient, case.expected.gradient, rtol=rtol, atol=1e-30)


@BOTH
@pytest.mark.parametrize("weight", [math.inf, 1e38])
def test_infinite_factors(path, weight):
    """NaN in all classes at the neighbours of the pixel, as the composite."""
    logits, labels = make_small(ignored=0)
    u = np.ones(labels.shape, np.float32)
    u[0, 5, 7], labels[0, 5, 7] = weight, 0
    options = {"pixel_weight": u, "weight": np.full(5, 1e3, np.float32), "resize": "bilinear", "thresh": 1.0}
    value, gradient = answer(path, logits, labels, **options)
    assert value == math.inf
    expected = np.zeros(logits.shape, bool)
    expected[0, :, 0:2, 1:3] = True  # rows 0.875 of 3, columns 1.5 of 4
    np.testing.assert_array_equal(np.isnan(gradient), expected)


@BOTH
def test_not_selected_is_not_looked_at(path):
    """Hard pixels in one corner: elsewhere the gradient is 0, and not only small."""
    logits, labels = np.zeros((1, 5, 4, 4)), np.full((1, 16, 16), 1)
    logits[:, 1] = 20
    labels[0, :3, :3] = 0
    _, gradient = answer(path, logits, labels, min_kept=0, **BILINEAR)
    expected = np.zeros((4, 4), bool)
    expected[:2, :2] = True
    np.testing.assert_array_equal((gradient[0] != 0).any(axis=0), expected)


@BOTH
@pytest.mark.parametrize(
    ("small", "size"),
    [
        *(((n, 3, 2, 2), size) for n in (0, 2) for size in ((0, 4), (4, 0), (0, 0), (4, 4))),
        *(((2, 3, *empty), size) for empty in ((2, 0), (0, 3)) for size in ((0, 4), (1, 0), (0, 0))),
    ],
)
def test_nothing_to_resize(request, path, small, size):
    """No pixel, or logits that nobody looks at: a loss of 0, and a gradient of 0."""
    if path.id == "triton" and size[1] == 0 < small[-1]:
        reason = "blocks are shared out by the columns of the labels, of which there are none"
        request.applymarker(pytest.mark.xfail(raises=ZeroDivisionError, reason=reason))
    for label in (0, 255)[math.prod((small[0], *size)) > 0 :]:
        value, gradient = answer(path, np.ones(small), np.full((small[0], *size), label), **BILINEAR)
        assert value == 0
        np.testing.assert_array_equal(gradient, np.zeros(small))
