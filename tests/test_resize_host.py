"""The loss of resized logits in host memory: sizes, layouts, chunks, threads and memory, by both workers."""

import contextlib
import functools
import random
from concurrent.futures import ThreadPoolExecutor
from fractions import Fraction
from itertools import product
from pathlib import Path

import hypothesis
import hypothesis.strategies as st
import numpy as np
import pytest

import ohemloss
from tests import _processes
from tests._cases import REGIMES, gradient_tolerance, make_small, round_to, tolerance
from tests._reference import interpolate, pull_back, reference

pytest.importorskip("ohemloss_numpy")
from ohemloss import MiningRule, _composite
from ohemloss._inputs import Inputs
from ohemloss._options import Options
from ohemloss._resize import Taps
from ohemloss_numpy import _grid, _host, _machine, _op, _resized, _seams, _threads, _walks
from ohemloss_numpy._cells import Axis, Cells
from ohemloss_numpy._task import ENGINE
from tests.test_host import WORKERS, closed_form, padded, serving

MODES = {1: "linear", 2: "bilinear", 3: "trilinear"}


@pytest.fixture(params=WORKERS)
def worker(request, monkeypatch):
    """Each worker; where none of them serves a call the test fails."""
    for name in ("loss", "value_and_grad", "run_steps"):
        monkeypatch.setattr(_composite, name, lambda *_: pytest.fail("served by the composite"))
    with serving(request.param):
        yield request.param


@pytest.fixture
def cut_small(monkeypatch):
    """Cut small labels into many chunks and blocks, and give them to several threads."""
    cut(monkeypatch)


def cut(patch, *, chunk=90, block=30, threads=3):
    """Make chunks and blocks of about so many pixels of five classes."""
    patch.setattr(_grid, "BLOCK", 5 * block)
    patch.setattr(_grid, "CHUNK", chunk)
    patch.setattr(_machine, "_CHUNK", 5 * chunk)
    patch.setattr(_resized, "_PIXELS", block)
    patch.setattr(_host, "_PER_THREAD", 1)
    patch.setenv("OHEMLOSS_NUM_THREADS", str(threads))


def check(logits, labels, *, n_resized=2, axis=1, cast=None, numpy=lambda x: x, dtype="float32", **options):
    """Compare value and gradient with the oracle on logits that plain loops resized."""
    resizing = {"resize": MODES[n_resized], "align_corners": options.pop("align_corners", False)}
    aligned, sizes = {"align_corners": resizing["align_corners"]}, (labels.shape[labels.ndim - n_resized :],)
    first = np.moveaxis(np.asarray(logits, np.float64), axis, 0)
    enlarged = np.moveaxis(interpolate(first, *sizes, **aligned), 0, axis)
    base = reference(enlarged, labels, axis=axis, **options)
    full = np.moveaxis(closed_form(enlarged, labels, base, axis=axis, **options), axis, 0)
    full = np.where(base.valid, full, 0)
    small = first.shape[first.ndim - n_resized :]
    expected = np.moveaxis(pull_back(full, small, **aligned), 0, axis)
    close = gradient_tolerance(dtype, base, weight=options.get("weight"), pixel_weight=options.get("pixel_weight", 1))
    # What many pixels add to one logit adds up their errors, too.
    close["atol"] *= max(1.0, float(np.max(pull_back(np.ones_like(full), small, **aligned), initial=1.0)))
    x, y = (cast or (lambda array: array.astype(dtype)))(logits), labels if cast is None else cast(labels)
    for array in (x, y):
        if isinstance(array, np.ndarray):
            array.flags.writeable = False
    narrow = np.float64 if dtype == "float64" else np.float32
    given = {k: v.astype(narrow) if k.endswith("weight") else v for k, v in options.items()}
    given = {k: cast(v) if cast and isinstance(v, np.ndarray) else v for k, v in given.items()}
    with np.errstate(all="raise"):  # nothing warns
        value, grad = ohemloss.value_and_grad(x, y, axis=axis, **given, **resizing)
        alone = ohemloss.ohem_cross_entropy(x, y, axis=axis, **given, **resizing)
    np.testing.assert_array_equal(numpy(alone), numpy(value))
    np.testing.assert_allclose(numpy(value), base.value, **tolerance(dtype, "value"))
    assert str(grad.dtype).endswith(dtype)
    assert tuple(grad.shape) == logits.shape
    np.testing.assert_allclose(numpy(grad), expected, **close)
    return base, grad


# Logits and labels: ratios of 8, 4, 3.7, 1.5 and 1.1 up, of 0.5 and below, some axes alone, one pixel on either side.
SIZES = [
    ((1, 5, 2, 3), (16, 24)),
    ((2, 5, 4, 3), (16, 12)),
    ((1, 5, 10, 2), (37, 7)),
    ((1, 5, 10, 12), (11, 18)),
    ((2, 5, 10, 8), (5, 4)),
    ((1, 5, 19, 23), (3, 2)),
    ((2, 5, 5, 4), (5, 13)),
    ((2, 5, 4, 7), (11, 7)),
    ((2, 5, 1, 4), (9, 8)),
    ((1, 5, 1, 1), (12, 9)),
    ((2, 5, 6, 5), (1, 9)),
    ((3, 5, 4, 3), (1, 1)),
    ((2, 5, 1, 40), (40, 1)),
]
LINES = [((2, 5, 7), (29,)), ((1, 5, 31), (211,)), ((3, 5, 20), (7,)), ((40, 5, 2), (9,)), ((2, 3, 5, 7), (19,))]
VOLUMES = [
    ((2, 5, 2, 3, 2), (5, 7, 6)),
    ((1, 5, 3, 2, 4), (3, 5, 7)),
    ((1, 5, 2, 4, 3), (6, 4, 5)),
    ((1, 5, 4, 3, 2), (2, 6, 2)),
    ((1, 5, 1, 1, 2), (9, 1, 9)),
]


class TestSizes:
    @pytest.mark.parametrize("align_corners", [False, True])
    @pytest.mark.parametrize("sizes", SIZES, ids=str)
    def test_images(self, worker, cut_small, sizes, align_corners):
        small, size = sizes
        logits, labels = make_small("40% hard", small, size, align_corners=align_corners)
        check(logits, labels, align_corners=align_corners)

    @pytest.mark.parametrize("sizes", [*LINES, *VOLUMES], ids=str)
    @pytest.mark.parametrize("align_corners", [False, True])
    def test_lines_and_volumes(self, worker, cut_small, sizes, align_corners):
        small, size = sizes
        aligned = {"align_corners": align_corners}
        logits, labels = spread(make_small, small, size, **aligned)
        check(logits, labels, n_resized=len(size), **aligned)

    @pytest.mark.parametrize("sizes", [SIZES[2], LINES[1], VOLUMES[0]], ids=str)
    def test_as_torch_interpolates(self, worker, sizes):
        torch = pytest.importorskip("torch")
        small, size = sizes
        for align_corners in (False, True):
            how = {"mode": MODES[len(size)], "align_corners": align_corners}
            logits, labels = make_small("40% hard", small, size, align_corners=align_corners)
            x = torch.tensor(logits, requires_grad=True)
            enlarged = torch.nn.functional.interpolate(x, size=size, **how)
            expected = torch.nn.functional.cross_entropy(enlarged, torch.tensor(labels), ignore_index=255)
            how = {"resize": how["mode"], "align_corners": align_corners, "thresh": None, "min_kept": 1.0}
            value, grad = ohemloss.value_and_grad(logits, labels, **how)
            np.testing.assert_allclose(value, expected.item(), **tolerance("float64", "value"))
            (full,) = torch.autograd.grad(expected, x)
            np.testing.assert_allclose(grad, full.numpy(), rtol=1e-11, atol=1e-14)

    @pytest.mark.parametrize("regime", REGIMES)
    @pytest.mark.parametrize("size", [(24, 40), (11, 15), (3, 4)], ids=str)
    def test_regimes(self, worker, cut_small, regime, size):
        logits, labels = make_small(regime, (2, 5, 4, 5), size)
        check(logits, labels)

    def test_many_pixels(self, worker):
        """With nothing made small: blocks of several rows, and of parts of rows."""
        for small, size in (((1, 5, 6, 8), (47, 64)), ((1, 3, 2, 300), (3, 2400)), ((1, 260, 3, 7), (8, 29))):
            logits, labels = make_small("40% hard", small, size)
            check(logits, labels, min_kept=0.7)

    def test_empty(self, worker):
        for x, y in (((0, 3, 2, 2), (0, 4, 4)), ((2, 3, 2, 2), (2, 0, 4)), ((2, 3, 0, 2), (2, 4, 0))):
            value, grad = ohemloss.value_and_grad(np.ones(x, np.float32), np.zeros(y, np.int64), resize="bilinear")
            assert (value, grad.shape, np.any(grad)) == (0, x, False)


def spread(make, small, size, **aligned):
    """Make logits of several images, whose axes may be more than one."""
    n = len(small) - 1 - len(size)
    logits, labels = make("40% hard", (int(np.prod(small[:n])), *small[-1 - len(size) :]), size, **aligned)
    if n == 1:
        return logits, labels
    logits = np.moveaxis(logits.reshape(*small[:n], *small[-1 - len(size) :]), n, 1)
    return np.ascontiguousarray(logits), labels.reshape(*small[:n], *size)


PIXEL_WEIGHT = np.random.default_rng(0).uniform(0, 2, (2, 12, 15))
OPTIONS = [
    {"weight": np.array([0.5, 2.0, 0.0, 1.0, 3.0])},
    {"pixel_weight": PIXEL_WEIGHT},
    {"pixel_weight": PIXEL_WEIGHT[:, :1], "weight": np.array([0.5, 2.0, 0.1, 1.0, 3.0]), "min_kept": 0.8},
    {"label_smoothing": 0.2, "thresh": 0.9},
    {"label_smoothing": 0.2, "weight": np.array([0.5, 2.0, 0.0, 1.0, 3.0]), "min_kept": 0.9},
    {"min_kept": 100, "thresh": None, "reduction": "sum"},
    {"min_kept": 0, "thresh": 0.0},
    {"min_kept": 37, "ignore_index": 1},
    {"rule": MiningRule(ties="keep", rank_by="prob"), "min_kept": 50},
    {"rule": MiningRule(pool="all", normaliser="valid"), "min_kept": 0.6},
]


class TestOptions:
    @pytest.mark.parametrize("options", OPTIONS, ids=lambda options: ", ".join(options))
    def test_options(self, worker, cut_small, options):
        logits, labels = make_small()
        if "ignore_index" in options:
            labels = np.where(labels == 255, 0, labels)
        check(logits, labels, **options)

    def test_positives(self, worker, cut_small):
        logits, labels = make_small()
        positives = np.random.default_rng(1).random(labels.shape) < 0.2
        rule = MiningRule(normaliser="positives")
        check(logits, labels, positives=positives, rule=rule, min_kept=40)

    def test_loss_of_each_pixel(self, worker, cut_small):
        logits, labels = make_small()
        x = logits.astype(np.float32)
        losses = ohemloss.ohem_cross_entropy(x, labels, reduction="none", resize="bilinear", min_kept=0.6)
        enlarged = interpolate(logits, labels.shape[1:])
        expected = reference(enlarged, labels, reduction="none", min_kept=0.6)
        np.testing.assert_allclose(losses, expected.value, rtol=2e-6, atol=1e-6)

    def test_one_class(self, worker, cut_small):
        """The loss is exactly 0: the logit of the label is interpolated as those of all classes are."""
        x = np.random.default_rng(0).normal(scale=1e3, size=(1, 1, 5, 7)).astype(np.float32)
        labels = np.zeros((1, 31, 26), np.int64)
        losses = ohemloss.ohem_cross_entropy(x, labels, reduction="none", resize="bilinear", min_kept=1.0)
        np.testing.assert_array_equal(losses, 0)
        value, grad = ohemloss.value_and_grad(x, labels, resize="bilinear", min_kept=1.0)
        assert value == 0
        np.testing.assert_array_equal(grad, 0)

    def test_wrong_labels(self, worker, cut_small):
        logits, labels = make_small()
        labels[1, 3, 4] = 77
        with pytest.raises(ValueError, match=r"labels.*\b77\b"):
            ohemloss.value_and_grad(logits.astype(np.float32), labels, resize="bilinear")


# From (N, C, h, w) to logits in another order of axes or of memory, and the axis of the classes.
LAYOUTS = {
    "NHWC": lambda x: (np.ascontiguousarray(np.moveaxis(x, 1, -1)), -1),
    "CNHW": lambda x: (np.ascontiguousarray(np.moveaxis(x, 1, 0)), 0),
    "NHCW": lambda x: (np.ascontiguousarray(np.moveaxis(x, 1, 2)), 2),
    "channels last": lambda x: (np.moveaxis(np.ascontiguousarray(np.moveaxis(x, 1, -1)), -1, 1), 1),
    "crop": lambda x: (padded(padded(x, 2, 1, 1), 3, 2, 1), 1),
    "every second": lambda x: (padded(padded(x, 1, 0, 2), 3, 1, 2), 1),
    "Fortran": lambda x: (np.asfortranarray(x), 1),
    "reversed": lambda x: (np.flip(np.flip(x).copy()), 1),
    "repeated": lambda x: (np.broadcast_to(x[:1, :, :1], x.shape), 1),
    "one image": lambda x: (x[0], 0),
}


class TestLayouts:
    @pytest.mark.parametrize("layout", LAYOUTS)
    def test_logits(self, worker, cut_small, layout):
        logits, labels = make_small("40% hard", (2, 5, 4, 3), (13, 9))
        x, axis = LAYOUTS[layout](logits.astype(np.float32))
        _, grad = check(x, labels[0] if layout == "one image" else labels, axis=axis, cast=lambda array: array)
        if 0 not in x.strides:
            order = sorted(range(x.ndim), key=lambda i: -abs(x.strides[i]))
            assert grad.transpose(order).flags.c_contiguous
        assert grad.flags.writeable

    def test_labels(self, worker, cut_small):
        logits, labels = make_small()
        u = np.random.default_rng(0).uniform(0.5, 2, labels.shape)
        for change in (np.asfortranarray, lambda y: padded(y, 2, 1, 2), lambda y: np.flip(np.flip(y).copy())):
            check(logits, change(labels), pixel_weight=change(u))
        check(logits, labels.astype(np.uint8))


class TestDtypes:
    @pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
    def test_arrays(self, worker, cut_small, dtype):
        check(*make_small("95% hard"), dtype=dtype)

    @pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float32", "float64"])
    def test_tensors(self, worker, cut_small, dtype):
        torch = pytest.importorskip("torch")

        def cast(array):
            tensor = torch.from_numpy(np.array(array))
            return tensor.to(getattr(torch, dtype)) if array.dtype == np.float64 else tensor

        logits, labels = make_small()
        _, grad = check(logits, labels, dtype=dtype, cast=cast, numpy=lambda tensor: tensor.double().numpy())
        leaf = cast(logits).requires_grad_()
        for times in (1, -3):
            (own,) = torch.autograd.grad(
                times * ohemloss.ohem_cross_entropy(leaf, cast(labels), resize="bilinear"), leaf
            )
            torch.testing.assert_close(own, times * grad, rtol=1e-2 if dtype == "bfloat16" else 2e-3, atol=1e-7)
            assert times != 1 or torch.equal(own, grad)

    @pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
    def test_halves_are_rounded_once(self, worker, cut_small, dtype):
        """Also where several chunks add to a logit: it is the gradient in float32, rounded."""
        torch = pytest.importorskip("torch")
        logits, labels = make_small("95% hard", (1, 5, 3, 4), (60, 15))
        x, y = torch.tensor(logits, dtype=getattr(torch, dtype)), torch.tensor(labels)
        _, half = ohemloss.value_and_grad(x, y, resize="bilinear")
        _, single = ohemloss.value_and_grad(x.float(), y, resize="bilinear")
        np.testing.assert_array_equal(half.double().numpy(), round_to(single.numpy(), dtype))

    def test_second_derivative(self, worker):
        """The graph is made from what the host kept."""
        torch = pytest.importorskip("torch")
        logits, labels = make_small()
        x, y = torch.tensor(logits, requires_grad=True), torch.tensor(labels)
        direction = torch.tensor(np.random.default_rng(0).normal(size=logits.shape))

        def slope(x):
            value = ohemloss.ohem_cross_entropy(x, y, resize="bilinear", thresh=None, min_kept=1.0)
            return torch.autograd.grad(value, x, create_graph=True)[0]

        (found,) = torch.autograd.grad((slope(x) * direction).sum(), x)
        ahead, behind = (slope((x + s * direction).detach().requires_grad_()).detach() for s in (1e-4, -1e-4))
        torch.testing.assert_close(found, (ahead - behind) / 2e-4, rtol=1e-5, atol=1e-8)


def looks_at(n_in, n_out, align_corners):
    """List which places each new place of an axis looks at, from exact positions."""
    if n_in == n_out:
        return [{i} for i in range(n_out)]
    found = []
    for i in range(n_out):
        position = max(Fraction(2 * i + 1, 2) * Fraction(n_in, n_out) - Fraction(1, 2), Fraction(0))
        if align_corners:
            position = Fraction(i * (n_in - 1), max(n_out - 1, 1))
        found.append({int(position), min(int(position) + 1, n_in - 1)})
    return found


class TestNotFinite:
    SHAPE, SIZE = (2, 5, 4, 5), (12, 15)

    @pytest.mark.parametrize("align_corners", [False, True])
    @pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
    def test_one_logit(self, worker, cut_small, bad, align_corners):
        """NaN of exactly what shares a pixel with it, in all classes; the rest as if these pixels were not there."""
        for place in ((0, 3, 1, 2), (1, 0, 0, 0), (1, 4, 3, 4)):
            logits, labels = make_small("95% hard", self.SHAPE, self.SIZE, align_corners=align_corners)
            logits[place] = 0
            options = {"thresh": None, "min_kept": 1.0, "reduction": "sum"}
            touched, spread = self.touched(logits.shape, place, labels, align_corners)
            expected = self.gradient(logits, np.where(touched, 255, labels), align_corners, options)
            logits[place] = bad
            how = {"resize": "bilinear", "align_corners": align_corners, **options}
            value, grad = ohemloss.value_and_grad(logits.astype(np.float32), labels, **how)
            if np.isnan(bad):
                assert np.isnan(value)
                np.testing.assert_array_equal(np.isnan(grad), np.broadcast_to(spread[:, None], grad.shape))
            elif bad > 0:
                assert not np.isfinite(value)
            rest = np.broadcast_to(~spread[:, None], grad.shape)
            np.testing.assert_allclose(grad[rest], expected[rest], rtol=1e-5, atol=2e-5)

    def test_ignored(self, worker, cut_small):
        """A logit that ignored pixels alone look at may be anything, and has a gradient of exactly 0."""
        logits, labels = make_small("40% hard", self.SHAPE, self.SIZE)
        place = (0, 2, 1, 1)
        touched, _ = self.touched(logits.shape, place, labels * 0, align_corners=False)
        labels[touched] = 255
        found = []
        for anything in (0.0, np.nan, np.inf):
            logits[place] = anything
            found.append(ohemloss.value_and_grad(logits.astype(np.float32), labels, resize="bilinear"))
            np.testing.assert_allclose(found[-1][0], found[0][0], rtol=1e-6)
            np.testing.assert_allclose(found[-1][1], found[0][1], rtol=1e-5, atol=1e-8)
            np.testing.assert_array_equal(found[-1][1][0, :, 1, 1], 0)

    @pytest.mark.parametrize("what", ["weight", "pixel_weight"])
    def test_infinite_weights(self, worker, cut_small, what):
        """They make NaN of all classes, as in the composite."""
        logits, labels = make_small("40% hard", self.SHAPE, self.SIZE, ignored=0.0)
        labels[labels == 255] = 0
        labels[0, 5, 6] = 4
        weights = np.ones(5 if what == "weight" else labels.shape, np.float32)
        weights[4 if what == "weight" else (0, 5, 6)] = np.inf
        labels[(labels == 4) & (np.arange(labels.size).reshape(labels.shape) != 5 * 15 + 6)] = 3
        how = {"resize": "bilinear", "min_kept": 1.0, what: weights}
        value, grad = ohemloss.value_and_grad(logits.astype(np.float32), labels, **how)
        assert value == np.inf
        expected = np.zeros(grad.shape, bool)
        expected[0][np.ix_(range(5), *(sorted(looks_at(n, m, False)[i]) for n, m, i in ((4, 12, 5), (5, 15, 6))))] = (
            True
        )
        np.testing.assert_array_equal(np.isnan(grad), expected)

    @pytest.mark.parametrize("scale", [1.0, 40.0, 3e4])
    def test_logits_far_apart(self, worker, cut_small, scale):
        """Beyond what the sum of exponentials holds, pixel by pixel."""
        logits, labels = make_small("95% hard", self.SHAPE, self.SIZE)
        check(logits * scale, labels, cast=lambda array: array.astype(np.float32) if array.dtype.kind == "f" else array)

    @staticmethod
    def touched(shape, place, labels, align_corners):
        """Mark the pixels that look at a logit and count, and all that these look at."""
        image, _, *at = place
        axes = [looks_at(n, m, align_corners) for n, m in zip(shape[2:], labels.shape[1:], strict=True)]
        touched, spread = np.zeros(labels.shape, bool), np.zeros((shape[0], *shape[2:]), bool)
        for pixel in product(*map(range, labels.shape[1:])):
            seen = [axis[i] for axis, i in zip(axes, pixel, strict=True)]
            if all(i in places for i, places in zip(at, seen, strict=True)) and labels[(image, *pixel)] != 255:
                touched[(image, *pixel)] = True
                spread[(image, *np.ix_(*map(sorted, seen)))] = True
        return touched, spread

    @staticmethod
    def gradient(logits, labels, align_corners, options):
        enlarged = interpolate(logits, labels.shape[1:], align_corners=align_corners)
        full = closed_form(enlarged, labels, reference(enlarged, labels, **options), **options)
        return pull_back(full, logits.shape[2:], align_corners=align_corners)


def raw(n_threads, x, y, monkeypatch, **options):
    monkeypatch.setenv("OHEMLOSS_NUM_THREADS", str(n_threads))
    value, grad = ohemloss.value_and_grad(x, y, **options)
    return value.tobytes() + grad.tobytes()


# Of more than one chunk: parts of images, chunks that all see one row, and whole images.
CHUNKED = {
    "bilinear": [((2, 5, 7, 6), (53, 24)), ((2, 5, 1, 3), (40, 9)), ((1, 5, 30, 8), (9, 20)), ((9, 5, 2, 2), (5, 4))],
    "linear": [((2, 5, 31), (247,))],
    "trilinear": [((1, 5, 5, 3, 2), (31, 4, 5))],
}


class TestSameBits:
    @pytest.mark.parametrize("dtype", ["float16", "float32"])
    @pytest.mark.parametrize("mode", CHUNKED)
    def test_whatever_the_number_of_threads(self, worker, cut_small, monkeypatch, mode, dtype):
        for small, size in CHUNKED[mode]:
            logits, labels = make_small("95% hard", small, size)
            first = raw(1, logits.astype(dtype), labels, monkeypatch, resize=mode)
            for n_threads in (2, 3, 8):
                assert raw(n_threads, logits.astype(dtype), labels, monkeypatch, resize=mode) == first

    @pytest.mark.parametrize("dtype", ["float16", "float32"])
    @pytest.mark.parametrize("mode", CHUNKED)
    def test_whatever_chunk_is_done_first(self, worker, cut_small, monkeypatch, mode, dtype):
        for small, size in CHUNKED[mode]:
            logits, labels = make_small("95% hard", small, size)
            first = raw(1, logits.astype(dtype), labels, monkeypatch, resize=mode)
            for seed in range(5):

                def shuffled(work, jobs, n_threads, seed=seed):
                    jobs = list(jobs)
                    assert len(jobs) > 2
                    random.Random(seed).shuffle(jobs)
                    work(iter(jobs))

                with monkeypatch.context() as patch:
                    patch.setattr(_threads, "run", shuffled)
                    assert raw(1, logits.astype(dtype), labels, patch, resize=mode) == first

    def test_calls_at_once(self, worker, cut_small):
        """From several threads, whose calls share the pool."""
        cases = [make_small(regime, (1, 5, 5, 4), (22, 13), seed=seed) for seed in range(3) for regime in REGIMES]
        call = functools.partial(ohemloss.value_and_grad, resize="bilinear")
        expected = [call(logits.astype(np.float32), labels) for logits, labels in cases]
        with ThreadPoolExecutor(4) as pool:
            found = list(pool.map(lambda case: call(case[0].astype(np.float32), case[1]), cases * 4))
        for (value, grad), (first, first_grad) in zip(found, expected * 4, strict=True):
            assert value == first
            np.testing.assert_array_equal(grad, first_grad)


class TestSeams:
    def test_little_waits(self, worker, cut_small, monkeypatch):
        """Nothing of chunks that come in their order; and only what they share is kept for the next one."""
        logits, labels = make_small("95% hard", (1, 5, 20, 6), (120, 6))
        sizes, close = [], _seams.Seams._close

        def seen(self, slab, found):
            sizes.append((len(self._waiting), len(found), slab.seen.stop - slab.seen.start))
            return close(self, slab, found)

        monkeypatch.setattr(_seams.Seams, "_close", seen)
        raw(1, logits.astype(np.float32), labels, monkeypatch, resize="bilinear")
        assert len(sizes) > 5
        assert {n_waiting for n_waiting, *_ in sizes} == {0}
        assert all(shared <= min(4, seen) for _, shared, seen in sizes)

    def test_blocks_without_a_selected_pixel_are_skipped(self, cut_small, monkeypatch):
        logits, labels = make_small("95% hard", (1, 5, 8, 5), (64, 20))
        labels[:, 6:] = 255
        with serving("blocks"):
            enlarged, enlarge = [], _resized.enlarge
            monkeypatch.setattr(_resized, "enlarge", lambda *args: (enlarged.append(1), enlarge(*args))[1])
            ohemloss.ohem_cross_entropy(logits, labels, resize="bilinear")
            n_blocks = len(enlarged)
            ohemloss.value_and_grad(logits, labels, resize="bilinear")
        assert 0 < len(enlarged) - 2 * n_blocks <= n_blocks / 8


class TestPlaces:
    @pytest.mark.parametrize("dtype", [np.float32, np.float64])
    @pytest.mark.parametrize("align_corners", [False, True])
    def test_taps_are_those_of_the_composite(self, dtype, align_corners):
        for n_in, n_out in (
            (1, 1),
            (1, 9),
            (9, 1),
            (64, 512),
            (128, 1023),
            (7, 26),
            (26, 7),
            (8, 5),
            (3, 4),
            (2, 2**12),
        ):
            if n_in == n_out:
                continue
            expected = Taps.of(ENGINE, n_in, n_out, align_corners, np.dtype(dtype))
            for start, stop in ((0, n_out), (n_out // 3, n_out // 3 + 1), (n_out // 2, n_out)):
                found = Axis(n_in, n_out, align_corners).taps(np.arange(start, stop), dtype)
                np.testing.assert_array_equal(found.index[0], expected.lower[start:stop])
                np.testing.assert_array_equal(found.index[1], expected.upper[start:stop])
                np.testing.assert_array_equal(found.shares[1], expected.share[start:stop])
                np.testing.assert_array_equal(found.shares[0], 1 - expected.share[start:stop])
                assert found.shares[0].dtype == found.shares[1].dtype == dtype

    @pytest.mark.parametrize("group", [1, 3])
    @pytest.mark.parametrize("align_corners", [False, True])
    def test_cells_hold_each_pixel_once(self, group, align_corners):
        for n_in, n_out in (
            (1, 1),
            (1, 100),
            (9, 1),
            (16, 128),
            (16, 64),
            (10, 37),
            (26, 7),
            (10, 11),
            (64, 64),
            (3, 2),
        ):
            taps = Axis(n_in, n_out, align_corners).taps(np.arange(n_out), np.float32)
            cells = Cells.of(taps, group)
            n_cells = cells.lower.size
            pixels = np.arange(group * n_out)
            np.testing.assert_array_equal(cells.column[cells.phase, cells.position], pixels)
            cell, row = cells.position % n_cells, cells.position // n_cells
            np.testing.assert_array_equal(row, pixels // n_out)
            np.testing.assert_array_equal(cells.lower[cell], np.tile(taps.index[0], group))
            np.testing.assert_array_equal(cells.below[cells.phase, cells.position], np.tile(taps.shares[0], group))
            if n_in != n_out:
                np.testing.assert_array_equal(cells.upper[cell], np.tile(taps.index[1], group))
                np.testing.assert_array_equal(cells.above[cells.phase, cells.position], np.tile(taps.shares[1], group))
            np.testing.assert_array_equal(np.repeat(np.arange(group * n_cells), np.diff(cells.starts)), cells.position)
            # What is computed for nothing.
            assert cells.column.size <= 2 * group * n_out
            if n_out >= 4 * n_in and n_in > 1:
                assert cells.column.size <= 1.3 * group * n_out
                assert cells.column.size >= 3 * n_cells * group

    def test_chunks_are_not_too_large(self):
        """Also where the logits are larger than the labels."""
        for small, size in (((4, 5, 64, 64), (512, 512)), ((1, 5, 512, 512), (64, 64)), ((300, 5, 4, 4), (8, 8))):
            inputs = Inputs(logits=np.zeros(small, np.float32), labels=np.zeros((small[0], *size), int))
            chunks = _walks.Slabs(inputs, Options(resize="bilinear"), np.dtype(np.float32), 10_000, 1000).chunks
            assert [chunk.start for chunk in chunks[1:]] == [chunk.stop for chunk in chunks[:-1]]
            assert (chunks[0].start, chunks[-1].stop) == (0, inputs.labels.size)
            assert 1 < len(chunks) <= 2 + max(inputs.labels.size, inputs.logits.size / 5) / 4000
            for chunk in chunks:
                n_images = chunk.images.stop - chunk.images.start
                assert chunk.stop - chunk.start <= 10_000
                assert n_images * (chunk.seen.stop - chunk.seen.start - 2) * small[3] <= 10_000


class TestWhichPath:
    def test_same_size_is_not_resized(self, worker, monkeypatch):
        monkeypatch.setattr(_walks, "Slabs", lambda *_: pytest.fail("resized"))
        logits, labels = make_small("40% hard", (2, 5, 6, 7), (6, 7))
        x = logits.astype(np.float32)
        value, grad = ohemloss.value_and_grad(x, labels)
        for resize in ("linear", "bilinear"):
            resized, resized_grad = ohemloss.value_and_grad(x, labels, resize=resize, align_corners=True)
            assert resized == value
            np.testing.assert_array_equal(resized_grad, grad)

    @pytest.mark.parametrize("per_image", ["select", "mean"])
    def test_selection_per_image_is_left_to_the_composite(self, per_image):
        logits, labels = make_small()
        x, rule = logits.astype(np.float32), MiningRule(per_image=per_image)
        value, grad = ohemloss.value_and_grad(x, labels, resize="bilinear", rule=rule)
        assert (
            _op.loss(ENGINE, Inputs(logits=x, labels=labels), Options(resize="bilinear", rule=rule)) is NotImplemented
        )
        enlarged = interpolate(logits, labels.shape[1:])
        base = reference(enlarged, labels, rule=rule)
        np.testing.assert_allclose(value, base.value, **tolerance("float32", "value"))
        expected = pull_back(closed_form(enlarged, labels, base), logits.shape[2:])
        np.testing.assert_allclose(grad, expected, rtol=1e-5, atol=1e-6)

    def test_machine_code_by_the_number_of_labels(self, monkeypatch):
        logits, labels = make_small()
        monkeypatch.setattr(_host, "ResizedBlocks", lambda task: pytest.fail("served by NumPy"))
        with serving("machine"):
            monkeypatch.setattr(_machine, "FROM", 5 * labels.size)
            ohemloss.value_and_grad(logits.astype(np.float32), labels, resize="bilinear")
            monkeypatch.setattr(_machine, "FROM", 5 * labels.size + 1)
            with pytest.raises(pytest.fail.Exception, match="served by NumPy"):
                ohemloss.value_and_grad(logits.astype(np.float32), labels, resize="bilinear")

    def test_both_agree(self):
        logits, labels = make_small("40% hard", (2, 19, 8, 9), (61, 70))
        found = []
        for name in WORKERS:
            with serving(name):
                found.append(ohemloss.value_and_grad(logits.astype(np.float32), labels, resize="bilinear"))
        (value, grad), (other_value, other_grad) = found
        np.testing.assert_allclose(value, other_value, rtol=2e-6)
        np.testing.assert_allclose(grad, other_grad, rtol=1e-4, atol=1e-8)


class TestMemory:
    @pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="this system does not tell the peak")
    @pytest.mark.parametrize("what", ["value and gradient", "tensors"])
    def test_nothing_of_the_enlarged_size(self, worker, what):
        if what == "tensors":
            pytest.importorskip("torch")
        code = f"""
import json, re
import numpy as np, ohemloss
from ohemloss_numpy import _machine
_machine.FROM = {WORKERS[worker]}
what = {what!r}
options = {{"thresh": None, "min_kept": 0.5, "resize": "bilinear"}}
rng = np.random.default_rng(0)
x, y = rng.random(size=(2, 19, 64, 128), dtype=np.float32), rng.integers(19, size=(2, 512, 1024))
if what == "tensors":
    import torch
    x, y = torch.from_numpy(x).requires_grad_(), torch.from_numpy(y)
def call(x, y):
    if what == "tensors":
        return torch.autograd.grad(ohemloss.ohem_cross_entropy(x, y, **options), x)
    return ohemloss.value_and_grad(x, y, **options)
def peak():
    return 1024 * int(re.search(r"VmHWM:\\s+(\\d+)", open("/proc/self/status").read())[1])
call(x[:1, :, :8, :64], y[:1, :64, :512])
open("/proc/self/clear_refs", "w").write("5")
before = peak()
kept = call(x, y)
print(json.dumps([peak() - before, 4 * int(np.prod(x.shape)), int(np.prod(y.shape))]))
""".replace("\\\\", "\\")
        extra, gradient, pixels = _processes.run(code)
        assert 4 * pixels <= extra <= gradient + 12 * pixels + 16 * 2**20
        assert extra < 19 * 4 * pixels / 2


@st.composite
def calls(draw):
    n_resized = draw(st.integers(1, 3))
    largest = {1: 30, 2: 8, 3: 4}[n_resized]
    small = (draw(st.integers(1, 2)), 5, *(draw(st.integers(1, largest)) for _ in range(n_resized)))
    size = tuple(draw(st.integers(1, largest + 3)) for _ in range(n_resized))
    options = {
        "thresh": draw(st.sampled_from([0.7, None, 0.9])),
        "min_kept": draw(st.sampled_from([0, 7, 1 / 16, 0.5, 1.0])),
        "reduction": draw(st.sampled_from(["mean", "sum"])),
        "label_smoothing": draw(st.sampled_from([0.0, 0.0, 0.1])),
        "align_corners": draw(st.booleans()),
    }
    regime, seed = draw(st.sampled_from(list(REGIMES))), draw(st.integers(0, 99))
    logits, labels = make_small(regime, small, size, align_corners=options["align_corners"], seed=seed)
    sizes = {"chunk": draw(st.integers(1, 60)), "block": draw(st.integers(1, 40)), "threads": draw(st.integers(1, 3))}
    return logits, labels, draw(st.sampled_from(["float16", "float32", "float64"])), sizes, options


@hypothesis.given(calls())  # pyright: ignore[reportCallIssue]
@hypothesis.settings(max_examples=40, deadline=None)
def test_drawn_calls(call):
    logits, labels, dtype, sizes, options = call
    for name in WORKERS:
        with contextlib.suppress(pytest.skip.Exception), serving(name), pytest.MonkeyPatch.context() as patch:
            cut(patch, **sizes)
            check(logits, labels.copy(), n_resized=logits.ndim - 2, dtype=dtype, **options)
