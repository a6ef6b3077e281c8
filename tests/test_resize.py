"""The loss of resized logits, against the oracle on logits that plain loops resized, on every library."""

import numpy as np
import pytest
from array_api_extra.testing import lazy_xp_function

import ohemloss
from ohemloss import ohem_cross_entropy, value_and_grad
from tests._cases import REGIMES, gradient_tolerance, make_small, tolerance
from tests._libraries import FLOATS, HALVES
from tests._reference import gradient, interpolate, interpolation, pull_back, reference

lazy_xp_function(ohem_cross_entropy)
lazy_xp_function(value_and_grad)

NAMES = {1: "linear", 2: "bilinear", 3: "trilinear"}
# Logits and labels: ratios of 8, 4, 3.7 and 1 1/2 up, of 2 down, some axes alone, one pixel on either side.
SIZES = [
    ((1, 3, 2, 3), (16, 24)),
    ((2, 4, 2, 3), (8, 12)),
    ((1, 3, 10, 2), (37, 3)),
    ((2, 3, 8, 6), (4, 3)),
    ((2, 3, 3, 4), (3, 9)),
    ((2, 3, 1, 4), (5, 4)),
    ((2, 3, 4, 3), (1, 7)),
    ((2, 3, 5), (13,)),
    ((1, 3, 3), (1,)),
    ((1, 3, 2, 3, 2), (4, 5, 1)),
]


def check(library, logits, labels, *, dtype="float32", align_corners=False, **options):
    """Compare value, closed form and, where there is one, the library's own gradient with the oracle."""
    size = labels.shape[labels.ndim - (logits.ndim - 2) :]
    resizing = {"resize": NAMES[len(size)], "align_corners": align_corners}
    enlarged = interpolate(logits, size, align_corners=align_corners)
    base = reference(enlarged, labels, **options)
    full = gradient(enlarged, labels, **options)
    expected = pull_back(full, logits.shape[2:], align_corners=align_corners)
    weights = {k: v for k, v in options.items() if k in ("weight", "pixel_weight")}
    close = gradient_tolerance(dtype, base, **weights)
    # What many pixels add to one logit adds up their errors, too.
    close["atol"] *= float(np.max(pull_back(np.ones_like(full), logits.shape[2:], align_corners=align_corners)))
    x, y = library.asarray(logits, dtype), library.asarray(labels)
    given = {k: library.asarray(v, "float32") if isinstance(v, np.ndarray) else v for k, v in options.items()}
    value, closed = value_and_grad(x, y, **given, **resizing)
    library.assert_close(value, base.value, **tolerance(dtype, "value"))
    assert str(closed.dtype).rpartition(".")[2].strip("'>") == dtype
    library.assert_close(closed, expected, **close)
    if library.package == "ndonnx":  # each call builds a graph
        return base
    alone = ohem_cross_entropy(x, y, **given, **resizing)
    library.assert_close(alone, base.value, **tolerance(dtype, "value"))
    differentiate = library.differentiate(lambda x: ohem_cross_entropy(x, y, **given, **resizing))
    if differentiate is not None:
        library.assert_close(differentiate(x), expected, **close)
    return base


def skip_some(library, number):
    """Run each case on the libraries that are quick, or every second or third where each takes a second."""
    # (What JAX does in blocks has tests of its own.)
    stride = {"jax": 3, "ndonnx": 7}.get(library.package, library.stride)
    if number % stride:
        pytest.skip(f"{library.id}: one case in {stride}, as each takes a second")


@pytest.mark.parametrize("regime", REGIMES)
def test_regimes(library, float_dtype, regime):
    skip_some(library, list(REGIMES).index(regime) + (*FLOATS, *HALVES).index(float_dtype))
    logits, labels = make_small(regime)
    base = check(library, logits, labels, dtype=float_dtype)
    assert base.n_hard / base.n_valid == pytest.approx(REGIMES[regime], abs=0.08)
    assert (base.n_hard < base.n_min) == (regime == "3% hard")


@pytest.mark.parametrize("align_corners", [False, True])
@pytest.mark.parametrize("sizes", SIZES, ids=str)
def test_sizes(library, sizes, align_corners):
    skip_some(library, SIZES.index(sizes) + align_corners)
    small, size = sizes
    logits, labels = make_small("40% hard", small, size, align_corners=align_corners)
    check(library, logits, labels, align_corners=align_corners)


OPTIONS = [
    {"weight": np.asarray([0.5, 2.0, 0.0, 1.0, 3.0])},
    {"pixel_weight": np.linspace(0.0, 2.0, 2 * 12 * 15).reshape(2, 12, 15)},
    {"label_smoothing": 0.2, "thresh": 0.9},
    {"min_kept": 100, "thresh": None, "reduction": "sum"},
]


@pytest.mark.parametrize("number", range(len(OPTIONS)), ids=lambda number: next(iter(OPTIONS[number])))
def test_options(library, number):
    skip_some(library, number)
    check(library, *make_small(), **OPTIONS[number])


def test_classes_last(library):
    logits, labels = make_small()
    x, y = library.asarray(np.moveaxis(logits, 1, -1), "float32"), library.asarray(labels)
    value, grad = value_and_grad(x, y, axis=-1, resize="bilinear")
    first_value, first = value_and_grad(library.asarray(logits, "float32"), y, resize="bilinear")
    library.assert_close(value, library.numpy(first_value), **tolerance("float32", "value"))
    library.assert_close(grad, np.moveaxis(library.numpy(first), 1, -1), rtol=1e-5, atol=1e-8)


def test_ignored_logit_may_be_anything(library):
    """A place that only ignored pixels lie next to."""
    logits, labels = make_small()
    labels[1, :9, :9] = 255
    logits[1, 2, 0, 0] = np.nan
    x, y = library.asarray(logits, "float32"), library.asarray(labels)
    value, grad = value_and_grad(x, y, resize="bilinear")
    logits[1, 2, 0, 0] = 0.0
    base = reference(interpolate(logits, (12, 15)), labels)
    library.assert_close(value, base.value, **tolerance("float32", "value"))
    found = library.numpy(grad)
    assert np.all(np.isfinite(found))
    np.testing.assert_array_equal(found[1, :, 0, 0], 0.0)


def test_nan_reaches_its_neighbours_alone(library):
    logits, labels = make_small(ignored=0.0)
    labels[labels == 255] = 0
    logits[0, 3, 1, 2] = np.nan
    options = {"resize": "bilinear", "thresh": None, "min_kept": 1.0}
    value, grad = value_and_grad(library.asarray(logits, "float32"), library.asarray(labels), **options)
    assert np.isnan(library.numpy(value))
    expected = np.zeros(logits.shape, bool)
    expected[0, :, 0:3, 1:4] = True  # the places that share a pixel with it
    np.testing.assert_array_equal(np.isnan(library.numpy(grad)), expected)


@pytest.mark.parametrize("seen", [np.inf, -np.inf])
def test_infinite_logit(library, seen):
    """As if the resized logits had been given."""
    logits, labels = make_small()
    logits[0, 3, 1, 2] = seen
    with np.errstate(all="ignore"):
        enlarged = library.asarray(_by_hand(logits, (12, 15)), "float32")
        value = ohem_cross_entropy(library.asarray(logits, "float32"), library.asarray(labels), resize="bilinear")
        expected = ohem_cross_entropy(enlarged, library.asarray(labels))
    np.testing.assert_array_equal(np.isfinite(library.numpy(value)), np.isfinite(library.numpy(expected)))


def _by_hand(logits, size):
    """Interpolate without a product with the places that are not looked at, which would be 0 times infinity."""
    for axis, n in enumerate(size, start=2):
        matrix = interpolation(logits.shape[axis], n)
        lower = np.argmax(matrix > 0, axis=1)
        upper = np.minimum(lower + 1, logits.shape[axis] - 1)
        share = np.where(upper > lower, matrix[np.arange(n), upper], 0.0)
        share = np.reshape(share, (-1, *(1,) * (logits.ndim - 1 - axis)))
        logits = (1 - share) * np.take(logits, lower, axis) + share * np.take(logits, upper, axis)
    return logits


def test_explain_is_at_the_resolution_of_the_labels(library):
    logits, labels = make_small("3% hard")
    base = reference(interpolate(logits, labels.shape[1:]), labels)
    trace = ohemloss.explain(library.asarray(logits, "float32"), library.asarray(labels), resize="bilinear")
    library.assert_close(trace.pixel_loss, base.pixel_loss, rtol=1e-5, atol=1e-5)
    library.assert_close(trace.value, base.value, **tolerance("float32", "value"))
    np.testing.assert_array_equal(library.numpy(trace.selected), base.weights > 0)


def test_criterion(library):
    logits, labels = make_small()
    criterion = ohemloss.OhemCELoss(thresh=0.6, resize="bilinear", align_corners=True)
    assert repr(criterion) == "OhemCELoss(thresh=0.6, resize='bilinear', align_corners=True)"
    base = reference(interpolate(logits, labels.shape[1:], align_corners=True), labels, thresh=0.6)
    value = criterion(library.asarray(logits, "float32"), library.asarray(labels))
    library.assert_close(value, base.value, **tolerance("float32", "value"))


def test_same_resolution_is_as_without(library):
    logits, labels = make_small("40% hard", (2, 5, 6, 7), (6, 7))
    x, y = library.asarray(logits, "float32"), library.asarray(labels)
    resized, plain = value_and_grad(x, y, resize="bilinear", align_corners=True), value_and_grad(x, y)
    for a, b in zip(resized, plain, strict=True):
        np.testing.assert_array_equal(library.numpy(a), library.numpy(b))


@pytest.mark.xfail_library("dask", reason="dask: max of an array of size 0 has the wrong shape")
def test_empty(library):
    x, y = np.zeros((0, 3, 2, 2)), np.zeros((0, 4, 4), np.int64)
    value, grad = value_and_grad(library.asarray(x, "float32"), library.asarray(y), resize="bilinear")
    library.assert_close(value, 0.0)
    assert tuple(grad.shape) == x.shape
