"""The CUDA C kernels of resized logits without a GPU: run on the CPU against the oracle, and compiled for several."""

import importlib
import math
import os
import re
from fractions import Fraction
from types import SimpleNamespace

import numpy as np
import pytest

import ohemloss
from ohemloss._inputs import Inputs
from ohemloss._options import Options
from tests import _shim
from tests._cases import REGIMES, gradient_tolerance, make_small, tolerance
from tests._reference import interpolate, pull_back, reference
from tests.test_host import LAYOUTS, closed_form, padded
from tests.test_kernels_cupy import spread

pytest.importorskip("ohemloss_cupy")
from ohemloss_cupy import _call, _launch, _resized

pytestmark = [
    pytest.mark.kernels,
    pytest.mark.skipif(os.environ.get("OHEMLOSS_TEST_KERNELS") != "1", reason="a job of its own"),
]

NAMES = {1: "linear", 2: "bilinear"}
# Lengths of logits and labels: ratios of 8, 4, 3.7, 1 1/2, 1 and 1/2, thirds down, odd ones, one pixel on either side.
SIZES = [
    ((2, 3), (16, 24)),
    ((3, 4), (12, 16)),
    ((10, 3), (37, 11)),
    ((4, 5), (6, 5)),
    ((4, 5), (4, 7)),
    ((8, 6), (4, 3)),
    ((9, 7), (3, 7)),
    ((5, 7), (7, 5)),
    ((1, 1), (3, 2)),
    ((1, 4), (5, 3)),
    ((4, 3), (1, 7)),
    ((5, 1), (1, 1)),
    ((17, 2), (3, 23)),
    ((5,), (13,)),
    ((7,), (3,)),
    ((1,), (6,)),
    ((6,), (1,)),
]


@pytest.fixture
def shim():
    with _shim.serving() as shim:
        yield shim


@pytest.fixture
def cut_small(monkeypatch):
    """Let small calls have several blocks of several tiles, and threads that walk through some rows, not all."""
    monkeypatch.setattr(_call, "_FORWARD_BLOCKS", 2)
    monkeypatch.setattr(_call, "_SEARCH_BLOCKS", 2)
    monkeypatch.setattr(_resized, "_THREADS", 1)
    monkeypatch.setattr(_resized, "_MOST_ROWS", 3)


@np.errstate(all="ignore")
def enlarge(x, size, align_corners):
    """Interpolate as `interpolate` does, from the places that are looked at alone: what is not finite stays there."""
    for axis, n_out in enumerate(size, start=x.ndim - len(size)):
        if x.shape[axis] != n_out:
            lower, upper, share = taps(x.shape[axis], n_out, align_corners)
            share = share.reshape([-1 if i == axis else 1 for i in range(x.ndim)])
            x = (1 - share) * np.take(x, lower, axis) + share * np.take(x, upper, axis)
    return x


def taps(n_in, n_out, align_corners):
    """Give the two places that each new one lies between, and how far along it is; a share of 0 is looked at, too."""
    places = range(n_out)
    if align_corners:
        positions = [Fraction(i * (n_in - 1), max(n_out - 1, 1)) for i in places]
    else:
        positions = [max(Fraction((2 * i + 1) * n_in - n_out, 2 * n_out), Fraction(0)) for i in places]
    lower = np.asarray([math.floor(position) for position in positions], int)
    share = np.asarray([float(position % 1) for position in positions])
    return lower, np.minimum(lower + (n_in != n_out), n_in - 1), share


def spread_to_neighbours(marks, size, align_corners):
    """Mark what lies next to a marked pixel."""
    for axis, n_in in enumerate(size, start=marks.ndim - len(size)):
        lower, upper, _ = taps(n_in, marks.shape[axis], align_corners)
        touch = (np.arange(n_in) == lower[:, None]) | (np.arange(n_in) == upper[:, None])
        marks = np.moveaxis(np.tensordot(marks, touch, axes=([axis], [0])), -1, axis) > 0
    return marks


def check(shim, logits, labels, *, axis=1, align_corners=False, resize="bilinear", **options):
    """Compare with the oracle on enlarged logits, and see that it was the kernels that ran."""
    n_axes, dtype = {"linear": 1, "bilinear": 2}[resize], str(logits.dtype)
    x = np.moveaxis(np.asarray(logits, np.float64), axis, 0)
    large = enlarge(x, labels.shape[-n_axes:], align_corners)
    base = reference(large, labels, axis=0, **options)
    slopes = closed_form(large, labels, base, axis=0, **options)
    bad = ~np.isfinite(slopes).all(axis=0)
    size = x.shape[-n_axes:]
    expected = pull_back(np.where(bad, 0, slopes), size, align_corners=align_corners)
    expected[:, spread_to_neighbours(bad, size, align_corners)] = math.nan

    for array in (logits, labels, *(option for option in options.values() if isinstance(option, np.ndarray))):
        array.flags.writeable = False
    shim.launched.clear()
    given = {"axis": axis, "resize": resize, "align_corners": align_corners, **options}
    with np.errstate(all="raise"):  # nothing warns
        value, gradient = ohemloss.value_and_grad(logits, labels, **given)
        alone = ohemloss.ohem_cross_entropy(logits, labels, **given)
    assert [name for name in shim.launched if name[-7:] in ("resized", "weigh")] == [
        *("forward_resized", "weigh"),
        *(["backward_resized"] if logits.size else []),
        "forward_resized",
    ]
    np.testing.assert_array_equal(alone, value)
    assert value.dtype == (np.float64 if dtype == "float64" else np.float32)
    assert (gradient.shape, gradient.dtype) == (logits.shape, logits.dtype)
    # The interpolated logits are rounded, the exponentials are as wrong as that; and what many pixels add to one logit.
    largest = float(np.max(np.abs(x), where=np.isfinite(x), initial=1))
    epsilon = np.finfo(value.dtype).eps
    scale = np.max(np.abs(options.get("weight", 1.0))) * np.max(np.abs(options.get("pixel_weight", 1.0)))
    close = tolerance(dtype, "value")
    close["atol"] += epsilon * largest * scale * (base.count if options.get("reduction") == "sum" else 1)
    np.testing.assert_allclose(value, base.value, **close)
    close = gradient_tolerance(dtype, base, weight=np.abs(options.get("weight", 1.0)))
    added = np.max(pull_back(np.ones(labels.shape), size, align_corners=align_corners), initial=0)
    close["atol"] += (4 + largest) * epsilon * scale / base.normaliser * added
    np.testing.assert_allclose(np.moveaxis(gradient, axis, 0), expected, **close)
    return value, gradient


def make(small=(2, 5, 3, 4), size=(12, 15), regime="40% hard", dtype="float32", **options):
    logits, labels = make_small(regime, small, size, **options)
    return logits.astype(dtype), labels


def same(first, second):
    for a, b in zip(first, second, strict=True):
        assert a.tobytes() == b.tobytes()


class TestSizes:
    @pytest.mark.parametrize("align_corners", [False, True])
    @pytest.mark.parametrize("sizes", SIZES, ids=str)
    def test_sizes(self, shim, cut_small, sizes, align_corners):
        """In float64, where an error of one part in 10**12 shows."""
        small, size = sizes
        logits, labels = make((2, 4, *small), size, dtype="float64", align_corners=align_corners)
        resize = NAMES[len(size)]
        check(shim, logits, labels, align_corners=align_corners, resize=resize, thresh=0.8)
        check(shim, logits, labels, align_corners=align_corners, resize=resize, thresh=None, min_kept=1.0)

    def test_finite_logits_are_enlarged_as_in_the_oracle(self):
        x = np.random.default_rng(0).normal(size=(2, 5, 3))
        for size in ((11, 7), (5, 2), (1, 3)):
            for align_corners in (False, True):
                expected = interpolate(x, size, align_corners=align_corners)
                np.testing.assert_allclose(enlarge(x, size, align_corners), expected, rtol=1e-14, atol=1e-14)

    @pytest.mark.parametrize("n_classes", [1, 2, 8, 9, 150])
    def test_number_of_classes(self, shim, n_classes):
        logits, labels = make((2, max(n_classes, 2), 3, 3), (7, 8), regime="95% hard")
        labels[labels != 255] %= n_classes
        labels[labels == 255] = 5000
        check(shim, np.ascontiguousarray(logits[:, :n_classes]), labels, ignore_index=5000)

    @pytest.mark.parametrize("small", [(0, 3, 2, 2), (2, 3, 2, 0), (2, 3, 2, 2)])
    @pytest.mark.parametrize("size", [(0, 4), (4, 0), (0, 0)])
    def test_no_pixel(self, shim, small, size):
        """Nothing, or logits that nobody looks at."""
        labels = np.zeros((small[0], *size), np.int64)
        for align_corners in (False, True):
            options = {"resize": "bilinear", "align_corners": align_corners}
            value, gradient = ohemloss.value_and_grad(np.ones(small, np.float32), labels, **options)
            assert value == 0
            np.testing.assert_array_equal(gradient, np.zeros(small))
        if small[2:] != size:
            assert shim.launched.count("forward_resized") == 2
            assert shim.launched.count("backward_resized") == (2 if math.prod(small) else 0)  # not of no block


class TestDtypes:
    @pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
    @pytest.mark.parametrize("regime", REGIMES)
    def test_logits(self, shim, cut_small, regime, dtype):
        check(shim, *make(size=(24, 32), regime=regime, dtype=dtype))
        check(shim, *make((1, 5, 7, 3), (26, 11), regime=regime, dtype=dtype, align_corners=True), align_corners=True)

    @pytest.mark.parametrize("dtype", ["uint8", "int16", "uint64"])
    def test_labels(self, shim, dtype):
        logits, labels = make()
        check(shim, logits, labels.astype(dtype))

    @pytest.mark.parametrize("dtype", ["float16", "float64"])
    def test_weights(self, shim, dtype):
        logits, labels = make()
        w, u = np.array([0.5, 1, 2, 0, 4], dtype), np.random.default_rng(0).uniform(0.5, 2, (12, 1)).astype(dtype)
        for options in ({"weight": w}, {"pixel_weight": u}, {"weight": w[::-1], "pixel_weight": u}):
            for min_kept in (1 / 16, 0.9):
                check(shim, logits, labels, min_kept=min_kept, **options)


class TestLayouts:
    @pytest.mark.parametrize(
        "of_labels", ["NCHW", "crop", "reversed", "Fortran", "repeated images", "every second pixel"]
    )
    @pytest.mark.parametrize(
        "layout",
        ["NHWC", "CNHW", "channels last", "crop", "reversed", "Fortran", "every second class", "repeated columns"],
    )
    def test_layout(self, shim, layout, of_labels):
        logits, labels = make((2, 5, 3, 4), (7, 9), regime="95% hard")
        x, _, axis = LAYOUTS[layout](logits, np.zeros((2, 3, 4), int))
        y = LAYOUTS[of_labels](np.zeros((2, 1, 7, 9)), labels)[1]
        u = np.random.default_rng(0).uniform(0.5, 2, (2, 7, 9)).astype(np.float32)
        check(shim, x, y, axis=axis, pixel_weight=LAYOUTS[of_labels](u[:, None], labels)[0][:, 0])

    @pytest.mark.parametrize("axis", [0, 1, 2, -1])
    def test_videos(self, shim, axis):
        """Images along two axes, with the classes between them or not."""
        logits, labels = make((6, 4, 2, 3), (5, 7))
        x = np.moveaxis(logits.reshape(2, 3, 4, 2, 3), 2, axis)
        y = labels.reshape(2, 3, 5, 7)
        _, gradient = check(shim, np.ascontiguousarray(x), y, axis=axis)
        _, expected = check(shim, logits, labels)
        np.testing.assert_array_equal(np.moveaxis(gradient, axis, 2).reshape(logits.shape), expected)
        check(shim, padded(x, 0, 1, 2), padded(y, 1, 1, 2), axis=axis, pixel_weight=np.ones((2, 1, 1, 1), np.float32))

    @pytest.mark.parametrize("shape", [(5, 3), (2, 5, 3), (3, 2, 5, 3)])
    def test_rows(self, shim, shape):
        """Axes in front of the resized one, or none."""
        axis = len(shape) - 2
        logits, labels = make((6, 5, 3), (8,))
        images = shape[:-2]
        x, y = (a[: math.prod(images)].reshape(*images, *a.shape[1:]) for a in (logits, labels))
        check(shim, x, y, axis=axis, resize="linear")

    def test_numbers_between_numbers(self, shim):
        logits, labels = make()
        memory = np.zeros(logits.shape, np.dtype([("logit", np.float32), ("between", np.int8)]))
        memory["logit"] = logits
        check(shim, memory["logit"], labels)


# What is written over a logit of class 2 at one place, or over all there.
EXTREMES = {
    "NaN": lambda x: x.__setitem__(2, math.nan),
    "inf": lambda x: x.__setitem__(2, math.inf),
    "-inf": lambda x: x.__setitem__(2, -math.inf),
    "-inf but for one": lambda x: x.__setitem__([0, 1, 2, 4], -math.inf),
    "all -inf": lambda x: x.__setitem__(slice(None), -math.inf),
    "all inf": lambda x: x.__setitem__(slice(None), math.inf),
    "mixed": lambda x: x.__setitem__(slice(None), [math.nan, math.inf, 0, -math.inf, 0]),
    "large": lambda x: x.__imul__(1e3),
    "far up": lambda x: x.__iadd__(1e4),
}


class TestExtremes:
    @pytest.mark.parametrize("extreme", EXTREMES)
    @pytest.mark.parametrize(
        ("small", "size"), [((3, 4), (9, 15)), ((3, 5), (3, 9)), ((5, 4), (7, 4)), ((7, 9), (3, 5))]
    )
    def test_extreme(self, shim, cut_small, small, size, extreme):
        """Ratios with shares of 0 among them, and axes that stay as they are."""
        for align_corners in (False, True):
            logits, labels = make((2, 5, *small), size, align_corners=align_corners)
            EXTREMES[extreme](logits[0, :, 1, 2])
            EXTREMES[extreme](logits[1, :, -1, -1])
            labels[0, 0] = 2
            for options in ({}, {"thresh": None, "min_kept": 5}, {"thresh": None, "min_kept": 1.0}):
                check(shim, logits.copy(), labels, align_corners=align_corners, **options)

    @pytest.mark.parametrize("seen", [math.nan, math.inf])
    @pytest.mark.parametrize("why", ["ignored", "class weight", "pixel weight"])
    def test_what_does_not_count_may_be_anything(self, shim, why, seen):
        logits, labels = make(ignored=0)
        logits[1, 2, 0, 0] = seen
        u, w = np.ones(labels.shape, np.float32), np.ones(5, np.float32)
        where = (1, slice(0, 6), slice(0, 6))  # all that lie next to it
        if why == "pixel weight":
            u[where] = 0
        else:
            labels[where] = 255 if why == "ignored" else 4
            w[4] = why == "ignored"
        for min_kept in (0, 1.0):
            _, gradient = check(shim, logits, labels, pixel_weight=u, weight=w, thresh=0.99, min_kept=min_kept)
            assert np.isfinite(gradient).all()
            assert (gradient[1, :, 0, 0] == 0).all()

    def test_not_selected_is_not_looked_at(self, shim):
        """Hard pixels in one corner: elsewhere the gradient is 0."""
        logits, labels = np.zeros((1, 5, 4, 4), np.float32), np.full((1, 16, 16), 1)
        logits[:, 1] = 20
        labels[0, :3, :3] = 0
        _, gradient = check(shim, logits, labels, min_kept=0)
        expected = np.zeros((4, 4), bool)
        expected[:2, :2] = True
        np.testing.assert_array_equal((gradient[0] != 0).any(axis=0), expected)

    @pytest.mark.parametrize("weight", [math.inf, 1e38])
    def test_infinite_factors(self, shim, weight):
        """NaN in all classes at the neighbours of the pixel, as the composite."""
        logits, labels = make(ignored=0)
        u = np.ones(labels.shape, np.float32)
        u[0, 5, 7], labels[0, 5, 7] = weight, 0
        w = np.full(5, 1e3, np.float32)
        value, gradient = ohemloss.value_and_grad(
            logits, labels, pixel_weight=u, weight=w, resize="bilinear", thresh=1.0
        )
        assert value == math.inf
        expected = np.zeros(logits.shape, bool)
        expected[0, :, 0:2, 1:3] = True  # rows 0.875 of 3, columns 1.5 of 4
        np.testing.assert_array_equal(np.isnan(gradient), expected)

    @pytest.mark.parametrize("label", [5, -1, 2**32, -(2**63)])
    def test_label_out_of_range(self, shim, label):
        logits, labels = make()
        labels[1, 2, 3] = label
        check(shim, logits, labels)
        check(shim, logits, labels, weight=np.array([0.5, 1, 2, 0, 4], np.float32), thresh=None, min_kept=0)

    @pytest.mark.parametrize("loss", [59, 61, 63, 65, 82.3, 86.7, 200])
    def test_large_losses_among_many_pixels(self, shim, loss):
        """The gradient of one of a million pixels is as exact as that of one alone."""
        logits = np.zeros((1, 5, 1, 2), np.float32)
        logits[:, 1] = loss
        labels, weight = np.zeros((1, 1, 4), np.int64), np.full(5, 1e-6, np.float32)
        options = {"weight": weight, "min_kept": 1.0, "resize": "bilinear"}
        value, gradient = ohemloss.value_and_grad(logits, labels, **options)
        np.testing.assert_allclose(value, 1e-6 * loss, rtol=2e-6)
        expected = np.multiply.outer([-5e-7, 5e-7, 0, 0, 0], [1, 1]).reshape(logits.shape)
        np.testing.assert_allclose(gradient, expected, rtol=1e-5, atol=1e-30)

    @pytest.mark.parametrize("size", [1e4, 1e30, -1e30])
    def test_equal_large_logits(self, shim, size):
        """Their softmax is as exact as that of small ones."""
        logits = np.full((1, 5, 2, 3), -size, np.float32)
        logits[:, 1:3] = size
        labels = np.ones((1, 7, 8), np.int64)
        softmax = np.asarray([0, 1, 1, 0, 0]) / 2 if size > 0 else np.asarray([1, 0, 0, 1, 1]) / 3
        slopes = np.multiply.outer((softmax - [0, 1, 0, 0, 0]) / labels.size, labels)
        expected = pull_back(np.moveaxis(slopes, 0, 1), (2, 3))
        _, gradient = ohemloss.value_and_grad(logits, labels, resize="bilinear", min_kept=1.0)
        np.testing.assert_allclose(gradient, expected, rtol=2e-6)

    @pytest.mark.parametrize("min_kept", [0.3, 0.9, 500])
    def test_negative_weights(self, shim, min_kept):
        logits, labels = make()
        check(shim, logits, labels, weight=np.array([-1, 0.5, 0, -2, 1], np.float32), min_kept=min_kept)

    @pytest.mark.parametrize("min_kept", [1, 7, 40, 0.5])
    def test_ties(self, shim, min_kept):
        """The same numbers at all places, in two kinds."""
        logits = np.zeros((2, 3, 2, 3), np.float32)
        logits[1, 1] = 2
        labels = np.tile([0, 1, 255, 1], (2, 5, 2))
        check(shim, logits, labels, min_kept=min_kept, thresh=None)
        check(shim, logits, labels, min_kept=min_kept, thresh=0.01, reduction="sum")

    @pytest.mark.parametrize("thresh", [0.3, 1.5, math.nan])
    def test_threshold_as_an_array(self, shim, thresh):
        logits, labels = make()
        value, gradient = ohemloss.value_and_grad(logits, labels, thresh=np.asarray(thresh), resize="bilinear")
        assert "forward_resized" in shim.launched
        if thresh == 0.3:
            same((value, gradient), ohemloss.value_and_grad(logits, labels, thresh=thresh, resize="bilinear"))
        else:
            assert np.isnan(value)
            assert np.isnan(gradient).all()

    def test_nothing_valid(self, shim):
        check(shim, np.full((2, 3, 4, 4), math.nan, np.float32), np.full((2, 9, 9), 255))


class TestSameBits:
    @pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
    @pytest.mark.parametrize("regime", REGIMES)
    def test_again_and_however_it_is_shared_out(self, shim, monkeypatch, regime, dtype):
        logits, labels = make((2, 5, 9, 6), (31, 47), regime=regime, dtype=dtype)
        first = ohemloss.value_and_grad(logits, labels, resize="bilinear")
        same(first, ohemloss.value_and_grad(logits, labels, resize="bilinear"))
        monkeypatch.setattr(_resized, "_THREADS", 1)
        for rows in (2, 4, 9, 100):
            monkeypatch.setattr(_resized, "_MOST_ROWS", rows)
            same(first[1:], ohemloss.value_and_grad(logits, labels, resize="bilinear")[1:])

    def test_whatever_the_layout(self, shim):
        logits, labels = make()
        first = ohemloss.value_and_grad(logits, labels, resize="bilinear")
        x = np.ascontiguousarray(np.moveaxis(logits, 1, -1))
        value, gradient = ohemloss.value_and_grad(x, labels, resize="bilinear", axis=-1)
        assert gradient.flags.c_contiguous
        same(first, (value, np.ascontiguousarray(np.moveaxis(gradient, -1, 1))))


class TestFar:
    """In memory more than 2**31 elements from the first to the last."""

    @pytest.mark.parametrize("axis", [0, 1, 2, 3])
    def test_logits(self, shim, axis):
        logits, labels = make((2, 5, 3, 4), (8, 9), dtype="float16")
        check(shim, spread(logits, axis, np.float16), labels)

    @pytest.mark.parametrize("align_corners", [False, True])
    def test_many_logits(self, shim, align_corners):
        """Positions of more than 32 bits, between logits of which all but those next to a pixel are 0."""
        n_in = 2**29 - 1
        logits, labels = np.zeros((1, 2, n_in), np.float16), np.array([[0, 1, 1, 0]])
        lower, upper, share = taps(n_in, 4, align_corners)
        logits[0, 0, lower] = 1, 2, 3, 4
        logits[0, 1, upper] = 5, 4, 1, 2
        rows = np.stack([(1 - share) * logits[0, :, lower].T + share * logits[0, :, upper].T])
        options = {"resize": "linear", "align_corners": align_corners}
        value = ohemloss.ohem_cross_entropy(logits, labels, min_kept=1.0, **options)
        np.testing.assert_allclose(value, reference(rows, labels, min_kept=1.0).value, rtol=1e-6)
        assert "forward_resized" in shim.launched

    @pytest.mark.parametrize("align_corners", [False, True])
    def test_gradient_of_many_logits(self, shim, align_corners):
        """Products of positions and lengths that need more than 32 bits."""
        rng, n_in, n_out = np.random.default_rng(0), 70001, 65003
        logits, labels = rng.normal(size=(1, 2, n_in)), rng.integers(0, 2, (1, n_out))
        lower, upper, share = taps(n_in, n_out, align_corners)
        large = (1 - share) * logits[0][:, lower] + share * logits[0][:, upper]
        slopes = (1 / (1 + np.exp(large[::-1] - large)) - (np.arange(2)[:, None] == labels)) / n_out
        expected = np.zeros_like(logits[0])
        np.add.at(expected, (slice(None), lower), (1 - share) * slopes)
        np.add.at(expected, (slice(None), upper), share * slopes)
        options = {"resize": "linear", "align_corners": align_corners, "thresh": None, "min_kept": 1.0}
        _, gradient = ohemloss.value_and_grad(logits, labels, **options)
        np.testing.assert_allclose(gradient[0], expected, rtol=1e-9, atol=1e-18)

    @pytest.mark.parametrize("axis", [0, 1, 2])
    def test_labels_and_pixel_weights(self, shim, axis):
        logits, labels = make((2, 5, 3, 4), (8, 9), ignored=0)
        labels[labels == 255] = 0
        u = np.random.default_rng(0).uniform(0.5, 2, labels.shape).astype(np.float32)
        far, far_u = spread(labels, axis, np.int8), spread(u, axis, np.float32)
        options = {"pixel_weight": u, "resize": "bilinear"}
        expected = ohemloss.value_and_grad(logits, labels, **options)
        same(expected, ohemloss.value_and_grad(logits, far, **{**options, "pixel_weight": far_u}))

    @pytest.mark.parametrize("axis", [0, 1, 2, 3])
    def test_gradient(self, axis, monkeypatch):
        logits, labels = make((2, 5, 3, 4), (8, 9), dtype="float16")
        elsewhere = SimpleNamespace(**{name: getattr(np, name) for name in ("empty", "zeros", "moveaxis")})
        elsewhere.empty_like = lambda x: spread(np.full(x.shape, 77), axis, np.float16)
        with _shim.serving() as shim:
            expected = ohemloss.value_and_grad(logits, labels, resize="bilinear")
            monkeypatch.setattr(shim, "xp", elsewhere, raising=False)
            found = ohemloss.value_and_grad(logits, labels, resize="bilinear")
        assert max(found[1].strides) > 2**27
        same(found, expected)


class TestWhatIsServed:
    @pytest.mark.parametrize("regime", REGIMES)
    def test_the_host_does_not_look(self, shim, regime):
        """The same kernels are started whatever they find."""
        ohemloss.value_and_grad(*make(regime=regime), resize="bilinear")
        search = ["tally", *["histogram"] * 3, "sum_above", "finish"]
        assert shim.launched == ["forward_resized", *search, "weigh", "backward_resized"]

    def test_equal_sizes_are_not_resized(self, shim):
        logits, labels = make((2, 5, 6, 7), (6, 7))
        resized = ohemloss.value_and_grad(logits, labels, resize="bilinear", align_corners=True)
        assert {"forward_1", "backward_1"} < set(shim.launched)
        same(resized, ohemloss.value_and_grad(logits, labels))

    @pytest.mark.parametrize(
        "options", [{"resize": "trilinear"}, {"label_smoothing": 0.1}, {"reduction": "none"}], ids=str
    )
    def test_the_rest_goes_to_the_composite(self, shim, options):
        logits, labels = make((2, 5, 3, 4), (12, 15))
        x, y = np.tile(logits[:, :, None], (1, 1, 2, 1, 1)), np.tile(labels[:, None], (1, 5, 1, 1))
        value = ohemloss.ohem_cross_entropy(x[:, :, :1], y[:, :1], **{"resize": "bilinear", **options})
        assert shim.launched == []
        assert np.isfinite(value).all()

    def test_axes_that_the_kernels_cannot_number_are_declined(self, shim):
        """On either side."""
        options = Options(resize="linear")
        for n_in, n_out, served in ((2**29, 3, True), (3, 2**29, True), (2**29 + 1, 3, False), (3, 2**29 + 1, False)):
            x = np.broadcast_to(np.zeros((), np.float16), (1, 2, n_in))
            y = np.broadcast_to(np.zeros((), np.int8), (1, n_out))
            assert _call.serves(Inputs(logits=x, labels=y), options) == served


class TestMemory:
    @pytest.mark.parametrize("weights", [False, True])
    def test_twelve_bytes_a_pixel(self, shim, monkeypatch, weights):
        """And never an array of the enlarged size."""
        logits, labels = make((1, 19, 16, 16), (256, 256))
        options = {"weight": np.ones(19, np.float32)} if weights else {}
        made = []

        def noting(name):
            def make_array(*args, **options):
                made.append(getattr(np, name)(*args, **options))
                return made[-1]

            return make_array

        names = {name: getattr(np, name) for name in ("moveaxis", "broadcast_to", "ascontiguousarray")}
        names.update({name: noting(name) for name in ("empty", "zeros", "empty_like")})
        monkeypatch.setattr(shim, "xp", SimpleNamespace(**names), raising=False)
        ohemloss.value_and_grad(logits, labels, resize="bilinear", **options)
        few = 2**16  # of the blocks, and the histograms
        assert sum(array.nbytes for array in made) <= logits.nbytes + 12 * labels.size + few
        made.clear()
        ohemloss.ohem_cross_entropy(logits, labels, resize="bilinear", **options)
        assert sum(array.nbytes for array in made) <= 4 * labels.size + few


@pytest.fixture(scope="module")
def nvrtc():
    """The compiler, as CuPy calls it; it needs no device."""
    return importlib.import_module("cupy_backends.cuda.libs.nvrtc")


@pytest.mark.parametrize(
    ("architecture", "logits", "resized"),
    [
        *((architecture, "float32", 3) for architecture in ("sm_75", "sm_80", "sm_90", "sm_100")),
        *(("sm_90", logits, 3) for logits in ("float16", "float64")),
        *(("sm_90", "float32", resized) for resized in (1, 2)),
    ],
)
def test_compiled(nvrtc, architecture, logits, resized):
    """Nothing is spilled to memory, and so little is held that three blocks, or two of float64, run at a time."""
    program = nvrtc.createProgram(_launch.source(), "_kernels.cu", (), ())
    options = _launch.options(np.dtype(logits), np.dtype(np.int64), resized)
    nvrtc.compileProgram(program, (*options, f"-arch={architecture}", "--ptxas-options=-v"))
    log = nvrtc.getProgramLog(program)
    assert nvrtc.getCUBIN(program)[:4] == b"\x7fELF"
    assert "warning" not in log
    assert set(re.findall(r"(\d+) bytes spill", log)) == {"0"}
    registers = [int(n) for n in re.findall(r"Used (\d+) registers", log)]
    assert len(registers) == 7
    assert max(registers) <= (128 if logits == "float64" else 80)
