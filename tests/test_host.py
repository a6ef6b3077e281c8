"""The loss in host memory: layouts, dtypes, extremes, threads and memory, by both workers, against the oracle."""

import contextlib
import functools
import math
import multiprocessing
import os
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import hypothesis
import hypothesis.strategies as st
import numpy as np
import pytest

import ohemloss
from tests import _processes
from tests._cases import REGIMES, gradient_tolerance, make, round_to, tolerance
from tests._libraries import machine_from
from tests._reference import gradient, reference

pytest.importorskip("ohemloss_numpy")
from ohemloss_numpy import _grid, _host, _kernels, _machine, _threads

NEVER = 2**62
WORKERS = {"blocks": NEVER, "machine": 0}


@pytest.fixture(params=WORKERS)
def worker(request):
    """Each worker; the one of machine code skips without Numba."""
    with serving(request.param):
        yield request.param


@contextlib.contextmanager
def serving(worker):
    with machine_from(0) if worker == "machine" else pytest.MonkeyPatch.context() as patch:
        if patch is not None:
            patch.setattr(_machine, "FROM", NEVER)
        yield


@pytest.fixture
def cut_small(monkeypatch):
    """Cut small arrays into many blocks and chunks, and give them to several threads."""
    monkeypatch.setattr(_grid, "BLOCK", 700)
    monkeypatch.setattr(_grid, "CHUNK", 90)
    monkeypatch.setattr(_machine, "_CHUNK", 5000)
    monkeypatch.setattr(_host, "_PER_THREAD", 1)
    monkeypatch.setenv("OHEMLOSS_NUM_THREADS", "3")


@np.errstate(all="ignore")
def closed_form(logits, labels, base, *, weight=None, pixel_weight=1.0, label_smoothing=0.0, axis=1, **_):
    """Give the gradient from the selection of the oracle; where differences cannot, for many classes and infinities."""
    axis = 0 if logits.ndim == 1 else axis
    x = np.moveaxis(np.asarray(logits, np.float64), axis, -1)
    n_classes = x.shape[-1]
    w = np.ones(n_classes) if weight is None else np.asarray(weight, np.float64)
    inside = (labels >= 0) & (labels < n_classes)
    index = np.where(inside, labels, 0).astype(np.int64)
    one_hot = np.arange(n_classes) == index[..., None]
    e = np.exp(x - x.max(axis=-1, keepdims=True))
    p = e / e.sum(axis=-1, keepdims=True)
    u = np.broadcast_to(pixel_weight, labels.shape)
    rows = (1 - label_smoothing) * w[index][..., None] * (p - one_hot)
    rows = rows + label_smoothing / n_classes * (w.sum() * p - w)
    counts = (base.coefficients != 0) & (u != 0) & ((w[index] != 0) | bool(label_smoothing))
    rows = np.where(counts[..., None], (base.coefficients * u)[..., None] * rows, 0.0)
    rows[counts & np.isnan(base.pixel_loss)] = np.nan
    return np.moveaxis(rows, -1, axis)


def check(logits, labels, *, cast=lambda x: x, numpy=lambda x: x, dtype=None, **options):
    """Compare value and gradient with the oracle; they get read-only arrays."""
    dtype = dtype or str(logits.dtype)
    given: Any = {
        name: option for name, option in options.items() if option is not None or name in ("thresh", "ignore_index")
    }
    base = reference(logits, labels, **given)
    expected = closed_form(logits, labels, base, **given)
    arrays = [logits, labels, *(a for a in given.values() if isinstance(a, np.ndarray))]
    for array in arrays:
        array.flags.writeable = False
    passed: Any = {name: cast(a) if isinstance(a, np.ndarray) else a for name, a in given.items()}
    with np.errstate(all="raise"):  # nothing warns
        value, grad = ohemloss.value_and_grad(cast(logits), cast(labels), **passed)
        alone = ohemloss.ohem_cross_entropy(cast(logits), cast(labels), **passed)
    np.testing.assert_array_equal(numpy(alone), numpy(value))
    assert str(value.dtype).endswith("float64" if dtype == "float64" else "float32")
    assert str(grad.dtype).endswith(dtype)
    assert tuple(grad.shape) == logits.shape
    rtol, atol = tolerance(dtype, "value").values()
    scale = np.max(np.abs(given.get("weight", 1.0))) * np.max(given.get("pixel_weight", 1.0))
    np.testing.assert_allclose(numpy(value), base.value, rtol=rtol, atol=atol * max(scale, 1))
    bounds = gradient_tolerance(dtype, base, weight=np.abs(given.get("weight", 1.0)))
    np.testing.assert_allclose(numpy(grad), expected, **bounds)
    return value, grad


def as_is(x, y):
    return x, y, 1


def padded(x, axis, before, step):
    """Store an array with others around it, or between its entries, along an axis."""
    shape = list(x.shape)
    shape[axis] = before + shape[axis] * step + 1
    place = [slice(None)] * x.ndim
    place[axis] = slice(before, before + x.shape[axis] * step, step)
    memory = np.full(shape, 77, x.dtype)
    memory[tuple(place)] = x
    return memory[tuple(place)]


def channels_last(x):
    return np.moveaxis(np.ascontiguousarray(np.moveaxis(x, 1, -1)), -1, 1)


def pixels(x):
    return np.ascontiguousarray(np.moveaxis(x, 1, -1)).reshape(-1, x.shape[1])


# From (N, C, H, W) and (N, H, W) to logits, labels, and the axis of the classes.
LAYOUTS = {
    "NCHW": as_is,
    "NHWC": lambda x, y: (np.ascontiguousarray(np.moveaxis(x, 1, -1)), y, -1),
    "CNHW": lambda x, y: (np.ascontiguousarray(np.moveaxis(x, 1, 0)), y, 0),
    "channels last": lambda x, y: (channels_last(x), y, 1),
    "rows": lambda x, y: (pixels(x), y.reshape(-1), 1),
    "rows of classes": lambda x, y: (np.ascontiguousarray(pixels(x).T), y.reshape(-1), 0),
    "one pixel": lambda x, y: (x[0, :, 0, 0].copy(), np.array(1), 1),
    "one row": lambda x, y: (x.reshape(*x.shape[:2], -1), y.reshape(len(y), -1), 1),
    "volume": lambda x, y: (x.reshape(*x.shape[:3], 1, -1), y.reshape(*y.shape[:2], 1, -1), 1),
    "thin volume": lambda x, y: (x[:, :, :, :1, None].copy(), y[:, :, :1, None].copy(), 1),
    "volume of rows": lambda x, y: (
        np.ascontiguousarray(x.reshape(*x.shape[:3], x.shape[3] // 2, 2).swapaxes(2, 4)),
        np.ascontiguousarray(y.reshape(*y.shape[:2], y.shape[2] // 2, 2).swapaxes(1, 3)),
        1,
    ),
    "Fortran": lambda x, y: (np.asfortranarray(x), np.asfortranarray(y), 1),
    "crop": lambda x, y: (padded(padded(x, 2, 1, 1), 3, 2, 1), padded(y, 2, 3, 1), 1),
    "rows left apart": lambda x, y: (padded(x, 2, 1, 1), y, 1),
    "reversed": lambda x, y: (np.flip(np.flip(x).copy()), np.flip(np.flip(y).copy()), 1),
    "reversed images": lambda x, y: (np.flip(np.flip(x, 0).copy(), 0), y, 1),
    "every second class": lambda x, y: (padded(x, 1, 0, 2), y, 1),
    "every second pixel": lambda x, y: (padded(x, 3, 0, 2), padded(y, 2, 1, 2), 1),
    "every second image": lambda x, y: (padded(x, 0, 1, 2), padded(y, 0, 0, 2), 1),
    "repeated images": lambda x, y: (np.broadcast_to(x[:1], x.shape), np.broadcast_to(y[:1], y.shape), 1),
    "repeated columns": lambda x, y: (np.broadcast_to(x[..., :1], x.shape), y, 1),
    "repeated classes": lambda x, y: (np.broadcast_to(x[:, :1], x.shape), y, 1),
    "unaligned": lambda x, y: (unaligned(x), y, 1),
    "no image": lambda x, y: (x[:0], y[:0], 1),
    "no column": lambda x, y: (x[..., :0], y[..., :0], 1),
}


def unaligned(x):
    memory = np.zeros(x.nbytes + 1, np.uint8)
    view = memory[1:].view(x.dtype).reshape(x.shape)
    view[...] = x
    return view


def order(array):
    """Give the axes that have an order in memory, the outermost first."""
    return sorted((i for i in range(array.ndim) if array.shape[i] > 1), key=lambda i: -abs(array.strides[i]))


def test_closed_form_is_the_derivative():
    """Of the oracle: what the tests here compare with."""
    for options in ({}, {"weight": (0.5, 0.0, 2.0, -1.0, 1.0), "label_smoothing": 0.2, "min_kept": 0.7}):
        logits, labels = make("40% hard")
        base = reference(logits, labels, **options)
        expected = gradient(logits, labels, **options)
        np.testing.assert_allclose(closed_form(logits, labels, base, **options), expected, rtol=1e-6, atol=1e-9)


class TestLayouts:
    @pytest.mark.parametrize("layout", LAYOUTS)
    @pytest.mark.parametrize("regime", REGIMES)
    def test_layout(self, worker, cut_small, regime, layout):
        logits, labels = make(regime, shape=(3, 7, 50), n_classes=6)
        x, y, axis = LAYOUTS[layout](logits.astype(np.float32), labels)
        _, grad = check(x, y, axis=axis)
        assert grad.flags.writeable
        if 0 not in x.strides and x.size:
            assert order(grad) == order(x)
            thin = [i for i in range(x.ndim) if x.shape[i] == 1]
            assert grad.transpose(thin + order(grad)).flags.c_contiguous

    @pytest.mark.parametrize("layout", ["NCHW", "NHWC", "crop"])
    @pytest.mark.parametrize("n_classes", [1, 2, 19, 64, 65, 150, 1000, 1500])
    def test_number_of_classes(self, worker, monkeypatch, n_classes, layout):
        """Sizes that do not divide those of the blocks of either worker."""
        shape = (2, 11, 37) if n_classes < 100 else (2, 3, 43) if n_classes < 1100 else (1, 1, 401)
        monkeypatch.setattr(_grid, "BLOCK", 97 * n_classes)
        monkeypatch.setattr(_machine, "_CHUNK", 301 * n_classes)
        for regime in ("95% hard", "3% hard"):
            if n_classes == 1:
                logits = np.random.default_rng(0).normal(size=(2, 1, 11, 37))
                labels = np.where(logits[:, 0] > 1, 255, 0)
            else:
                logits, labels = make(regime, shape=shape, n_classes=n_classes)
                labels = np.where(labels == 255, 5000, labels)
            x, y, axis = LAYOUTS[layout](logits.astype(np.float32), labels)
            check(x, y, axis=axis, ignore_index=255 if n_classes == 1 else 5000)

    @pytest.mark.parametrize(
        "change", [np.asfortranarray, lambda y: padded(y, 1, 1, 2), lambda y: np.flip(np.flip(y).copy())]
    )
    def test_labels_and_pixel_weights_of_any_layout(self, worker, cut_small, change):
        logits, labels = make("40% hard", shape=(2, 9, 31))
        u = np.random.default_rng(0).uniform(0.5, 2, labels.shape).astype(np.float32)
        check(logits.astype(np.float32), change(labels), pixel_weight=change(u))
        line, flat = logits[0, :, 0].astype(np.float32).T, labels[0, 0]
        check(line, padded(flat, 0, 1, 2))
        check(line, np.broadcast_to(flat[:1], flat.shape), min_kept=1.0)


class TestDtypes:
    @pytest.mark.parametrize("layout", ["NCHW", "NHWC", "crop", "reversed"])
    @pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
    @pytest.mark.parametrize("regime", REGIMES)
    def test_logits(self, worker, cut_small, regime, dtype, layout):
        logits, labels = make(regime, shape=(2, 7, 41), dtype=dtype)
        x, y, axis = LAYOUTS[layout](logits.astype(dtype), labels)
        check(x, y, axis=axis)

    @pytest.mark.parametrize("layout", ["NCHW", "NHWC", "crop"])
    @pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float32"])
    @pytest.mark.parametrize("regime", REGIMES)
    def test_tensors(self, worker, cut_small, regime, dtype, layout):
        torch = pytest.importorskip("torch")
        logits, labels = make(regime, shape=(2, 7, 41), dtype=dtype)
        x, y, axis = LAYOUTS[layout](logits, labels)

        def tensor(array):
            made = torch.from_numpy(np.array(array)) if array is not x else torch.empty(0)
            if array is not x:
                return made
            store = torch.empty_strided(x.shape, [s // x.itemsize for s in x.strides], dtype=getattr(torch, dtype))
            return store.copy_(torch.from_numpy(np.array(x)))

        check(x, y, cast=tensor, numpy=lambda t: t.float().numpy(), dtype=dtype, axis=axis)

    @pytest.mark.parametrize("dtype", ["int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64"])
    def test_labels(self, worker, dtype):
        logits, labels = make("40% hard", shape=(2, 5, 31))
        x, largest = logits.astype(np.float32), np.iinfo(dtype).max
        ignored = np.where(labels == 255, largest, labels.astype(object)).astype(dtype)
        check(x, ignored, ignore_index=int(largest))
        inside = np.where(labels == 255, 3, labels).astype(dtype)
        for outside in (None, -1 if dtype.startswith("u") else 2**63, 2**64 - 1 if dtype != "uint64" else 2**64, 2**70):
            check(x, inside, ignore_index=outside)
        check(x, inside, ignore_index=3)
        if not dtype.startswith("u"):
            check(x, np.where(labels == 255, -100, labels).astype(dtype), ignore_index=-100)

    @pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
    def test_weights(self, worker, dtype):
        logits, labels = make("40% hard", shape=(2, 5, 31))
        w, u = np.array([0.5, 1, 2, 0, 4], dtype), np.random.default_rng(0).uniform(0.5, 2, (5, 1)).astype(dtype)
        check(logits.astype(np.float32), labels, weight=w, pixel_weight=u)


EXTREMES = {
    "logits far apart": lambda x, at: x.__imul__(5000),
    "large logits": lambda x, at: x.__iadd__(1e4),
    "a loss above 88": lambda x, at: x[at].__setitem__(slice(None), [-50, 40, 3, 2, 1]),
    "a loss of 1e4": lambda x, at: x[at].__setitem__(slice(None), [-5e3, 5e3, 3, 2, 1]),
    "just before the overflow": lambda x, at: x[at].__setitem__(slice(None), [-44, 44.3, 44.3, 44.3, 44.3]),
    "inf at the label": lambda x, at: x[at].__setitem__(0, math.inf),
    "inf elsewhere": lambda x, at: x[at].__setitem__(1, math.inf),
    "-inf at the label": lambda x, at: x[at].__setitem__(0, -math.inf),
    "-inf elsewhere": lambda x, at: x[at].__setitem__(slice(1, 4), -math.inf),
    "all -inf": lambda x, at: x[at].__setitem__(slice(None), -math.inf),
    "all inf": lambda x, at: x[at].__setitem__(slice(None), math.inf),
    "NaN at the label": lambda x, at: x[at].__setitem__(0, math.nan),
    "NaN elsewhere": lambda x, at: x[at].__setitem__(4, math.nan),
    "the first NaN": lambda x, at: x[at].__setitem__(slice(None), [math.nan, math.inf, 0, -math.inf, 0]),
}


class TestExtremes:
    @pytest.mark.parametrize("extreme", EXTREMES)
    @pytest.mark.parametrize("regime", REGIMES)
    @pytest.mark.parametrize("everywhere", [False, True])
    def test_extreme(self, worker, regime, extreme, everywhere):
        """In one of the blocks, or in each; one pixel that counts, of class 0, and one that is ignored."""
        logits, labels = make(regime, shape=(2, 2, 301))
        x = np.ascontiguousarray(np.moveaxis(logits, 1, -1)).astype(np.float32).reshape(-1, 5)
        y = labels.reshape(-1).copy()
        for at in range(7, len(x), 101) if everywhere else [407]:
            y[at], y[at + 1] = 0, 255
            x[at + 1] = (math.nan, math.inf, -math.inf, 1e30, 0)
            if extreme not in ("logits far apart", "large logits"):
                EXTREMES[extreme](x, at)
        if extreme in ("logits far apart", "large logits"):
            EXTREMES[extreme](x, 0)
        check(x, y, axis=1)
        check(np.ascontiguousarray(x.T), y, axis=0, min_kept=0.99)
        check(np.ascontiguousarray(x.T), y, axis=0, thresh=None, min_kept=5)

    @pytest.mark.parametrize("min_kept", [0, 1 / 16, 0.9, 1.0])
    def test_weights_of_zero_may_weigh_anything(self, worker, min_kept):
        logits, labels = make("40% hard", shape=(2, 2, 301))
        x = logits.astype(np.float32)
        x[:, :, 0, 5] = math.nan
        x[:, :, 1, 6] = math.inf
        labels[:, 0, 5] = 1
        u = np.ones((2, 301), np.float32)
        u[1, 6] = 0
        check(x, labels, weight=np.array([1, 0, 2, 3, 0.5], np.float32), pixel_weight=u, min_kept=min_kept)

    @pytest.mark.parametrize("min_kept", [0.3, 0.9, 1.0, 500])
    def test_negative_losses_rank_above_no_ignored_pixel(self, worker, min_kept):
        """The 0 of an ignored pixel must not take the place of a smaller loss."""
        logits, labels = make("40% hard", shape=(2, 2, 151))
        weight = np.array([-1, 0.5, 0, -2, 1], np.float32)
        check(logits.astype(np.float32), labels, weight=weight, min_kept=min_kept)
        check(logits.astype(np.float32), labels, weight=-np.abs(weight), min_kept=min_kept)

    @pytest.mark.parametrize("min_kept", [1, 5, 11, 0.5, 1.0])
    def test_ties_at_the_cut(self, worker, min_kept):
        x = np.tile(np.array([[3, 0], [2, 0], [1, 0]], np.float32), (5, 1))
        labels = np.array([1, 0, 0] * 4 + [255, 255, 0])
        check(x, labels, min_kept=min_kept, thresh=None)
        check(x, labels, min_kept=min_kept, thresh=0.01)

    @pytest.mark.parametrize("n_nan", [1, 3])
    def test_ties_below_nan(self, worker, n_nan):
        """NaN is above the cut: it leaves fewer places to those that tie."""
        x = np.tile(np.array([[3, 0], [2, 0], [1, 0]], np.float32), (5, 1))
        x[:n_nan] = math.nan
        check(x, np.zeros(15, np.int64), min_kept=6, thresh=None)

    def test_ties_at_minus_infinity(self, worker):
        """An ignored pixel does not tie with a loss of -inf."""
        x = np.zeros((4, 2), np.float32)
        x[0, 0] = -math.inf
        check(x, np.array([0, 0, 0, 255]), weight=np.array([-1, 1], np.float32), min_kept=1.0)

    @pytest.mark.parametrize("thresh", [0.0, 1e-30, 1.0, None])
    def test_thresholds(self, worker, thresh):
        logits, labels = make("40% hard", shape=(2, 2, 151))
        logits[0, :, 0] = 0
        logits[0, 0, 0], labels[0, 0] = 500, 0  # losses of exactly 0
        check(logits.astype(np.float32), labels, thresh=thresh, min_kept=0)
        check(logits.astype(np.float32), labels, thresh=thresh, min_kept=0.4)

    @pytest.mark.parametrize("loss", [82.3, 84.1, 86.7])
    def test_large_losses_among_many_pixels(self, worker, loss):
        """The gradient of one of a million pixels is as exact as that of one alone."""
        x = np.zeros((4, 2), np.float32)
        x[:, 1] = loss
        weight = np.array([1e-6, 1e-6], np.float32)
        _, grad = ohemloss.value_and_grad(x, np.zeros(4, np.int64), weight=weight, min_kept=1.0)
        np.testing.assert_allclose(grad, np.tile([-2.5e-7, 2.5e-7], (4, 1)), rtol=1e-5)

    def test_nothing_valid(self, worker):
        x = np.full((2, 3, 400), math.nan, np.float32)
        check(x, np.full((2, 400), 255))


def raw(worker, n_threads, x, y, monkeypatch, **options):
    monkeypatch.setenv("OHEMLOSS_NUM_THREADS", str(n_threads))
    value, grad = ohemloss.value_and_grad(x, y, **options)
    return value.tobytes(), grad.tobytes()


class TestSameBits:
    @pytest.mark.parametrize("dtype", ["float16", "float32"])
    @pytest.mark.parametrize("regime", ["95% hard", "3% hard"])
    def test_whatever_the_number_of_threads(self, worker, monkeypatch, regime, dtype):
        monkeypatch.setattr(_host, "_PER_THREAD", 1)
        monkeypatch.setattr(_grid, "CHUNK", 1000)
        monkeypatch.setattr(_machine, "_CHUNK", 5000)
        logits, labels = make(regime, shape=(2, 60, 100), n_classes=7)
        x = logits.astype(dtype)
        first = raw(worker, 1, x, labels, monkeypatch)
        for n_threads in (1, 2, 3, 8, 8):
            assert raw(worker, n_threads, x, labels, monkeypatch) == first

    def test_a_large_call(self, worker, monkeypatch):
        """With nothing made small: several chunks, and several threads."""
        rng = np.random.default_rng(0)
        x, y = rng.normal(size=(2, 19, 200, 300)).astype(np.float32), rng.integers(19, size=(2, 200, 300))
        many = raw(worker, 4, x, y, monkeypatch, thresh=0.05)
        assert raw(worker, 1, x, y, monkeypatch, thresh=0.05) == many


class TestWhichWorker:
    @pytest.mark.parametrize(
        "options",
        [
            {},
            {"min_kept": 10},
            {"reduction": "sum"},
            {"thresh": None},
            {"weight": (1, 2, 0, 3, 4)},
            {"ignore_index": None},
        ],
        ids=str,
    )
    def test_usual_options_are_served_by_machine_code(self, monkeypatch, options):
        logits, labels = make()
        labels[labels == 255] = 0
        monkeypatch.setattr(_host, "Blocks", lambda task: pytest.fail("served by NumPy"))
        with machine_from(logits.size):
            for dtype in (np.float32, np.float16):
                ohemloss.value_and_grad(logits.astype(dtype), labels, **options)

    @pytest.mark.parametrize(
        "options",
        [{"label_smoothing": 0.1}, {"reduction": "none"}, {"rule": ohemloss.MiningRule(ties="keep")}],
        ids=str,
    )
    def test_others_are_not(self, monkeypatch, options):
        logits, labels = make()
        monkeypatch.setattr(_machine, "Machine", None)
        with machine_from(0):
            assert not (set(vars(_host)) & {"numba"})
            monkeypatch.setattr(_machine, "_fused", lambda: pytest.fail("served by machine code"))
            ohemloss.ohem_cross_entropy(logits.astype(np.float32), labels, **options)
            ohemloss.ohem_cross_entropy(logits, labels)

    def test_small_arrays_are_not(self, monkeypatch):
        logits, labels = make()
        monkeypatch.setattr(_machine, "FROM", logits.size + 1)
        monkeypatch.setattr(_machine, "_fused", lambda: pytest.fail("served by machine code"))
        ohemloss.ohem_cross_entropy(logits.astype(np.float32), labels)

    @pytest.mark.parametrize("dtype", ["float16", "float32"])
    @pytest.mark.parametrize("regime", REGIMES)
    def test_both_agree(self, regime, dtype):
        logits, labels = make(regime, shape=(2, 31, 47), n_classes=19, dtype=dtype)
        found = []
        for name in WORKERS:
            with serving(name):
                found.append(ohemloss.value_and_grad(logits.astype(dtype), labels))
        (value, grad), (other_value, other_grad) = found
        np.testing.assert_allclose(value, other_value, **tolerance(dtype, "value"))
        bounds = gradient_tolerance(dtype, reference(logits, labels))
        np.testing.assert_allclose(grad.astype(np.float64), other_grad.astype(np.float64), **bounds)

    @pytest.mark.parametrize("how", ["absent", "compiles nothing"])
    def test_without_numba(self, how):
        code = """
        import json, sys
        if {absent}:
            sys.modules["numba"] = None
        import numpy as np
        import ohemloss
        from ohemloss_numpy import _machine
        from tests._cases import make
        logits, labels = make("40% hard", shape=(2, 100, 100))
        value, grad = ohemloss.value_and_grad(logits.astype(np.float32), labels)
        slope = float(grad[0].sum(axis=(1, 2))[2])
        print(json.dumps([_machine._fused() is None, logits.size >= _machine.FROM, float(value), slope]))
        """
        environment = {} if how == "absent" else {"NUMBA_DISABLE_JIT": "1"}
        found = _processes.run(code.replace("{absent}", str(how == "absent")), **environment)
        logits, labels = make("40% hard", shape=(2, 100, 100))
        base = reference(logits, labels)
        slope = closed_form(logits, labels, base)[0].sum(axis=(1, 2))[2]
        np.testing.assert_allclose(found, [True, True, base.value, slope], rtol=1e-4)


@pytest.fixture(scope="module")
def functions():
    """The exponential and the logarithm of the fused kernels, of arrays."""
    with serving("machine"):
        pass
    numba = pytest.importorskip("numba")
    from ohemloss_numpy import _fused

    setting = {"error_model": "numpy", "fastmath": {"contract"}}
    exp, log = _fused._exp, _fused._log

    @numba.njit(**setting)
    def exps(x, out):
        for i in range(x.size):
            out[i] = exp(x[i])

    @numba.njit(**setting)
    def logs(x, out):
        for i in range(x.size):
            out[i] = log(x[i])

    return [lambda x, f=f: (out := np.empty_like(x), f(x, out))[0] for f in (exps, logs)]


class TestMachineCode:
    def test_nowhere_to_keep_it(self, functions, monkeypatch):
        """Without a folder that can be written to, the code is made anew in each process."""
        from ohemloss_numpy import _fused

        def njit(cache=False, **options):
            if cache:
                raise RuntimeError
            return numba.njit(**options)

        numba = pytest.importorskip("numba")
        monkeypatch.setattr(_fused, "njit", njit)
        assert _fused._jit(lambda x: x + 1)(2) == 3

    def test_exp(self, functions):
        x = np.linspace(-87.3365, 60, 2_000_001).astype(np.float32)
        x = np.concatenate([x, np.geomspace(1e-30, 1, 100_001).astype(np.float32)])
        x = np.concatenate([x, -x[x > -60]])
        assert self.ulps(functions[0](x), np.exp(x.astype(np.float64))) <= 2
        special = np.array([-math.inf, -1e30, -87.4, 0, -0.0, 60.1, 1e30, math.inf, math.nan], np.float32)
        inf = math.inf
        np.testing.assert_array_equal(functions[0](special), np.array([0, 0, 0, 1, 1, inf, inf, inf, inf]))

    def test_log(self, functions):
        x = np.geomspace(1, 3.4e38, 2_000_001).astype(np.float32)
        x = np.concatenate(
            [x, np.linspace(1, 3, 500_001).astype(np.float32), [np.float32(1), np.nextafter(np.float32(1), 2)]]
        )
        assert self.ulps(functions[1](x.astype(np.float32)), np.log(x.astype(np.float64))) <= 2
        assert functions[1](np.ones(1, np.float32))[0] == 0

    @staticmethod
    def ulps(actual, expected):
        return np.max(np.abs(actual - expected) / np.spacing(np.abs(expected).astype(np.float32)).astype(np.float64))


class TestHalves:
    """To nearest, ties to even: exactly the numbers that the tolerance of a gradient would let pass."""

    ALL = np.arange(2**16, dtype=np.uint16)

    def values(self, is_bfloat):
        exact = (self.ALL.astype(np.uint32) << 16).view(np.float32) if is_bfloat else self.ALL.view(np.float16)
        exact = exact.astype(np.float32)
        exact = exact[np.isfinite(exact)]
        half = (exact.view(np.uint32) + (0x8000 if is_bfloat else 0x1000)).view(np.float32)  # the ties
        around = [exact, half, np.nextafter(half, np.float32(0)), np.nextafter(half, np.float32(np.inf))]
        return np.concatenate([*around, np.array([math.inf, -math.inf, math.nan], np.float32)])[None]

    @np.errstate(all="ignore")
    def assert_rounds(self, values, bits, is_bfloat):
        actual = (bits.astype(np.uint32) << 16).view(np.float32) if is_bfloat else bits.view(np.float16)
        nan = np.isnan(values)
        np.testing.assert_array_equal(np.isnan(actual), nan)
        np.testing.assert_array_equal(actual[~nan], round_to(values, "bfloat16" if is_bfloat else "float16")[~nan])

    @pytest.mark.parametrize("is_bfloat", [False, True])
    def test_machine_code(self, functions, is_bfloat):
        from ohemloss_numpy import _fused

        values = self.values(is_bfloat)
        bits, wide = np.empty(values.shape, np.uint16), np.empty((1, 2**16), np.float32)
        _fused.narrow(values, is_bfloat, bits)
        self.assert_rounds(values, bits, is_bfloat)
        _fused.widen(self.ALL[None], is_bfloat, wide)
        expected = (self.ALL.astype(np.uint32) << 16).view(np.float32) if is_bfloat else self.ALL.view(np.float16)
        np.testing.assert_array_equal(wide[0], expected.astype(np.float32))

    def test_numpy(self):
        values = self.values(is_bfloat=True)
        bits = np.empty(values.shape, np.uint16)
        _kernels.store(values.copy(), bits)
        self.assert_rounds(values, bits, is_bfloat=True)


class TestThreadCount:
    @pytest.fixture(autouse=True)
    def alone(self, monkeypatch):
        monkeypatch.delenv("OHEMLOSS_NUM_THREADS", raising=False)
        monkeypatch.setattr(_threads, "cpu_quota", lambda root, group: None)
        monkeypatch.setattr(os, "sched_getaffinity", lambda pid: set(range(5)), raising=False)

    def test_affinity(self):
        assert _threads.thread_count() == 5

    def test_processors_where_there_is_no_affinity(self, monkeypatch):
        monkeypatch.delattr(os, "sched_getaffinity")
        monkeypatch.setattr(os, "cpu_count", lambda: 7)
        assert _threads.thread_count() == 7
        monkeypatch.setattr(os, "cpu_count", lambda: None)
        assert _threads.thread_count() == 1

    def test_quota(self, monkeypatch):
        monkeypatch.setattr(_threads, "cpu_quota", lambda root, group: 3)
        assert _threads.thread_count() == 3

    def test_at_most(self):
        assert [_threads.thread_count(n) for n in (1, 4, 9)] == [1, 4, 5]

    def test_daemonic_process(self, monkeypatch):
        monkeypatch.setitem(multiprocessing.current_process()._config, "daemon", True)  # pyright: ignore
        assert _threads.thread_count() == 1
        monkeypatch.setenv("OHEMLOSS_NUM_THREADS", "6")
        assert _threads.thread_count() == 6

    def test_environment(self, monkeypatch):
        monkeypatch.setenv("OHEMLOSS_NUM_THREADS", "12")
        assert _threads.thread_count(2) == 12

    @pytest.mark.parametrize("value", ["0", "x", "", "-1", "1.5", " 2", "²"])
    def test_environment_that_means_nothing(self, monkeypatch, value):
        monkeypatch.setenv("OHEMLOSS_NUM_THREADS", value)
        with pytest.raises(ValueError, match=r"^`OHEMLOSS_NUM_THREADS` must be a positive integer: got ") as error:
            ohemloss.ohem_cross_entropy(np.zeros((2, 3)), np.zeros(2, np.int64))
        assert repr(value) in str(error.value)


class TestQuota:
    @pytest.mark.parametrize(
        ("files", "group", "expected"),
        [
            ({"cpu.max": "150000 100000"}, "/", 2),
            ({"cpu.max": "50000 100000"}, "", 1),
            ({"cpu.max": "max 100000"}, "/", None),
            ({"cpu.max": "nonsense"}, "/", None),
            ({}, "/a/b", None),
            ({"a/b/cpu.max": "max 100000", "a/cpu.max": "400000 100000", "cpu.max": "900000 100000"}, "/a/b", 4),
            ({"a/b/cpu.max": "300000 100000", "a/cpu.max": "400000 100000"}, "/a/b", 3),
            ({"a/b/cpu.max": "300000 100000"}, "/a", None),
            ({"cpu/cpu.cfs_quota_us": "250000", "cpu/cpu.cfs_period_us": "100000"}, "", 3),
            ({"cpu/cpu.cfs_quota_us": "-1", "cpu/cpu.cfs_period_us": "100000"}, "", None),
            ({"cpu/cpu.cfs_quota_us": "100000"}, "", None),
        ],
    )
    def test_files(self, tmp_path, files, group, expected):
        for name, text in files.items():
            (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / name).write_text(text + "\n")
        assert _threads.cpu_quota(tmp_path, group) == expected

    def test_nothing_above_the_root_is_read(self, tmp_path):
        (tmp_path / "root" / "a").mkdir(parents=True)
        (tmp_path / "cpu.max").write_text("100000 100000")
        assert _threads.cpu_quota(tmp_path / "root", "/a") is None

    def test_this_process(self):
        quota = _threads.cpu_quota(_threads._CGROUPS, _threads._cgroup())
        assert quota is None or quota >= 1


@pytest.fixture
def own_pool(monkeypatch):
    monkeypatch.setattr(_threads, "_pool", None)
    yield
    if _threads._pool is not None:
        _threads._pool[1].shutdown()


class TestRun:
    @pytest.mark.parametrize("n_threads", [1, 2, 4, 50])
    def test_each_job_is_done_once(self, own_pool, n_threads):
        done, names = [], set()

        def work(jobs):
            for job in jobs:
                done.append(job)
                names.add(threading.current_thread().name)
                time.sleep(1e-4)

        _threads.run(work, range(40), n_threads)
        assert sorted(done) == list(range(40))
        assert len(names) <= n_threads
        assert (len(names) > 1) == (n_threads > 1)
        _threads.run(work, [], n_threads)
        assert len(done) == 40

    def test_no_pool_for_one_job(self, own_pool):
        done: list[int] = []
        _threads.run(lambda jobs: done.extend(jobs), [0], 8)
        _threads.run(lambda jobs: done.extend(jobs), [0, 1], 1)
        assert done == [0, 0, 1]
        assert _threads._pool is None

    @pytest.mark.parametrize("who", ["caller", "helper"])
    def test_an_error_reaches_the_caller(self, own_pool, who):
        caller, done, running = threading.current_thread(), [], threading.Barrier(2)

        def work(jobs):
            for first, job in zip([True, *[False] * 999], jobs, strict=False):
                if first:
                    running.wait(30)
                    if (threading.current_thread() is caller) == (who == "caller"):
                        raise KeyError(job)
                done.append(job)
                time.sleep(1e-4)

        with pytest.raises(KeyError):
            _threads.run(work, range(500), 2)
        if who == "caller":
            assert len(done) < 400  # the rest is dropped
        before = len(done)
        time.sleep(0.01)
        assert len(done) == before  # nobody goes on
        running.reset()
        _threads.run(lambda jobs: done.extend(jobs), range(7), 2)
        assert len(done) == before + 7

    def test_pool_is_used_again(self, own_pool):
        pool = _threads._pool_of(2)
        assert _threads._pool_of(2) is pool
        assert _threads._pool_of(1) is pool
        larger = _threads._pool_of(3)
        assert larger is not pool
        assert _threads._pool_of(2) is larger
        assert pool.submit(int).result() == 0  # it still serves those who hold it
        pool.shutdown()

    def test_a_pool_that_is_gone(self, own_pool):
        pool = _threads._pool_of(2)
        pool.shutdown()
        done = []
        _threads.run(lambda jobs: done.extend(jobs), range(9), 3)
        assert done == list(range(9))

    def test_a_thread_that_cannot_be_started(self, own_pool, monkeypatch):
        """The one thread of the pool serves another call, and comes to this one while it ends."""
        caller, busy, done = threading.current_thread(), threading.Event(), []
        _threads._pool_of(2).submit(busy.wait)

        def fail(thread):
            raise RuntimeError(thread)

        def work(jobs):
            for job in jobs:
                if threading.current_thread() is caller:
                    busy.set()
                    time.sleep(0.05)
                else:
                    time.sleep(0.2)
                done.append(job)

        monkeypatch.setattr(threading.Thread, "start", fail)
        _threads.run(work, range(4), 3)
        assert sorted(done) == list(range(4))

    def test_calls_at_once(self, worker, cut_small):
        """From several threads, whose calls share the pool."""
        cases = [make(regime, shape=(2, 11, 53), seed=seed) for seed in range(4) for regime in REGIMES]
        cases = [(logits.astype(np.float32), labels) for logits, labels in cases]

        def call(case):
            return [ohemloss.value_and_grad(*case) for _ in range(5)]

        with ThreadPoolExecutor(4) as pool:
            found = list(pool.map(call, cases))
        for (x, y), results in zip(cases, found, strict=True):
            base = reference(x, y)
            for value, grad in results:
                np.testing.assert_allclose(value, base.value, **tolerance("float32", "value"))
                np.testing.assert_allclose(grad, closed_form(x, y, base), **gradient_tolerance("float32", base))


SETUP = """
import json, os, sys, threading
import numpy as np, ohemloss
from ohemloss_numpy import _grid, _host, _machine, _threads

rng = np.random.default_rng(0)
x, y = rng.normal(size=(2, 19, 128, 160)).astype(np.float32), rng.integers(19, size=(2, 128, 160))
_machine._CHUNK, _host._PER_THREAD, _grid.BLOCK, _grid.CHUNK = 2**16, 1, 2**16, 2**12
_machine.FROM = {start}
def call():
    value, grad = ohemloss.value_and_grad(x, y)
    return value.tobytes() + grad.tobytes()
"""


def run(worker, code, **environment):
    """Run code in a process of its own, where a call has many chunks and several threads."""
    setup = SETUP.replace("{start}", str(WORKERS[worker]))
    return _processes.run(setup + code, **{"OHEMLOSS_NUM_THREADS": "3", **environment})


forks = pytest.mark.skipif(not hasattr(os, "fork"), reason="this system does not fork")


class TestProcesses:
    def test_no_thread_before_a_large_call(self, worker):
        code = """
counts = [threading.active_count()]
_host._PER_THREAD = 2**17
ohemloss.value_and_grad(x[:, :, :2, :4], y[:, :2, :4])
counts += [threading.active_count(), _threads._pool is None]
_host._PER_THREAD = 1
call()
print(json.dumps([*counts, threading.active_count()]))
"""
        assert run(worker, code) == [1, 1, True, 3]

    @forks
    def test_fork(self, worker):
        """After a call on threads; and while another thread is inside one."""
        code = """
import signal
expected = call()
def child():
    pid = os.fork()
    if pid == 0:
        signal.alarm(60)
        try:
            os._exit(0 if call() == expected and threading.active_count() == 3 else 7)
        except BaseException:
            os._exit(8)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
codes, stop = [child()], threading.Event()
def others():
    while not stop.is_set():
        call()
thread = threading.Thread(target=others)
thread.start()
codes += [child() for _ in range(4)]
stop.set()
thread.join()
print(json.dumps([*codes, call() == expected]))
"""
        assert run(worker, code) == [0] * 5 + [True]

    def test_at_exit(self, worker):
        """When the interpreter has closed its pools, the calling thread does it all."""
        code = """
import atexit
expected = call()
atexit.register(lambda: print(json.dumps(call() == expected), flush=True))
"""
        assert run(worker, code) is True
        late = "import atexit\natexit.register(lambda: print(json.dumps(len(call()) > 9), flush=True))\n"
        assert run(worker, late) is True

    @forks
    def test_data_loader(self, worker):
        pytest.importorskip("torch")
        code = """
import torch
del os.environ["OHEMLOSS_NUM_THREADS"]
class Dataset(torch.utils.data.Dataset):
    def __len__(self):
        return 6
    def __getitem__(self, i):
        value = ohemloss.ohem_cross_entropy(torch.from_numpy(x), torch.from_numpy(y))
        assert float(ohemloss.ohem_cross_entropy(x, y)) == float(value)
        return float(value), _threads.thread_count(), int(_threads._pool is None)
call()
workers = {"num_workers": 2, "multiprocessing_context": "fork", "timeout": 100}
loader = torch.utils.data.DataLoader(Dataset(), batch_size=1, **workers)
found = [[float(number) for number in item] for item in loader]
print(json.dumps([found, float(ohemloss.ohem_cross_entropy(x, y))]))
"""
        found, value = run(worker, code)
        assert found == [[value, 1, 1]] * 6


class TestMemory:
    @pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="this system does not tell the peak")
    @pytest.mark.parametrize("what", ["value", "value and gradient", "tensors", "tensors without a gradient"])
    def test_nothing_of_the_size_of_the_logits_but_the_gradient(self, worker, what):
        if what.startswith("tensors"):
            pytest.importorskip("torch")
        code = """
import re
options = {"thresh": None, "min_kept": 0.5}
x, y = rng.random(size=(2, 19, 512, 1024), dtype=np.float32), rng.integers(19, size=(2, 512, 1024))
if what.startswith("tensors"):
    import torch
    x, y = torch.from_numpy(x), torch.from_numpy(y)
def call(x, y):
    if what == "value and gradient":
        return ohemloss.value_and_grad(x, y, **options)
    if what == "tensors":
        x.requires_grad_()
    value = ohemloss.ohem_cross_entropy(x, y, **options)
    return torch.autograd.grad(value, x) if what == "tensors" else value
def peak():
    return 1024 * int(re.search(r"VmHWM:\\s+(\\d+)", open("/proc/self/status").read())[1])
call(x[:1, :, :64, :64].clone() if what.startswith("tensors") else x[:1, :, :64, :64], y[:1, :64, :64])
if what == "tensors":
    x.requires_grad_()
open("/proc/self/clear_refs", "w").write("5")
before = peak()
kept = call(x, y)
print(json.dumps([peak() - before, int(np.prod(x.shape)) * 4, int(np.prod(y.shape))]))
""".replace("\\\\", "\\")
        code = f"what = {what!r}\n" + code.replace("\\\\", "\\")
        extra, logits, pixels = run(
            worker, "_machine._CHUNK, _host._PER_THREAD, _grid.BLOCK, _grid.CHUNK = 2**19, 2**17, 2**18, 2**16\n" + code
        )
        gradient = logits if what in ("value and gradient", "tensors") else 0
        assert extra <= gradient + 12 * pixels + 16 * 2**20
        assert extra >= gradient + 4 * pixels  # the measure works


class TestLabels:
    @pytest.mark.parametrize("wrong", [-1, 5, 254, 2**40, -(2**40)])
    def test_wrong_labels_are_listed(self, worker, cut_small, wrong):
        logits, labels = make("40% hard", shape=(2, 7, 50))
        labels[1, 3, 4] = wrong
        x = logits.astype(np.float32)
        calls = [lambda: ohemloss.ohem_cross_entropy(x, labels), lambda: ohemloss.value_and_grad(x, labels)]
        with contextlib.suppress(ImportError):
            import torch

            t = torch.from_numpy(x).requires_grad_()
            calls += [lambda: ohemloss.ohem_cross_entropy(t, torch.from_numpy(labels))]
        for call in calls:
            with pytest.raises(ValueError, match=rf"labels.*\b{abs(wrong)}\b"):
                call()

    def test_right_labels_and_nan(self, worker):
        logits, labels = make("40% hard", shape=(2, 7, 50))
        logits[labels[:, None].repeat(5, 1) != 255] = math.nan
        value, _ = check(logits.astype(np.float32), labels)
        assert math.isnan(value)

    def test_wrong_labels_that_nobody_saw(self, worker):
        """Of the kernels alone: NaN in the value and in the gradient of the pixel."""
        from ohemloss._inputs import Inputs
        from ohemloss._options import Options

        logits, labels = make("40% hard", shape=(2, 7, 50), ignored=0)
        labels[0, 0, :3] = [-1, 5, 10**6]
        host = _host.Host(Inputs(logits=logits.astype(np.float32), labels=labels), Options())
        value, kept = host.forward()
        grad = host.backward(kept)
        assert math.isnan(value)
        assert np.isnan(grad[0, :, 0, :3]).all()
        assert np.isfinite(grad).sum() == grad.size - 15


class TestTensors:
    @pytest.fixture
    def torch(self):
        return pytest.importorskip("torch")

    @pytest.fixture
    def case(self, torch, worker, cut_small):
        logits, labels = make("40% hard", shape=(2, 6, 45), dtype="float32")
        x, y = torch.tensor(logits, dtype=torch.float32, requires_grad=True), torch.tensor(labels)
        base = reference(logits, labels)
        return x, y, base, closed_form(logits, labels, base)

    @pytest.fixture
    def close(self, case):
        _, _, base, _ = case
        return functools.partial(np.testing.assert_allclose, **gradient_tolerance("float32", base))

    def test_backward_in_another_thread_and_twice(self, torch, case, close):
        x, y, _, expected = case
        value = ohemloss.ohem_cross_entropy(x, y)
        thread = threading.Thread(target=lambda: (3 * value).backward(retain_graph=True))
        thread.start()
        thread.join()
        close(x.grad / 3, expected)
        value.backward(retain_graph=True)
        close(x.grad / 4, expected)

    def test_gradient_is_taken_over(self, torch, case):
        """And not copied: the one that the function makes is the one that the tensor gets."""
        x, y, *_ = case
        seen = []
        value = ohemloss.ohem_cross_entropy(x, y)
        value.grad_fn.register_hook(lambda gradients, _: seen.extend(g.data_ptr() for g in gradients if g is not None))
        value.backward()
        assert seen == [x.grad.data_ptr()]

    @pytest.mark.parametrize("wants", [False, True])
    def test_cotangent(self, torch, case, close, wants):
        """One that wants a gradient itself, in a backward pass that makes no graph, included."""
        x, y, _, expected = case
        cotangent = torch.tensor(-2.5, requires_grad=wants)
        (grad,) = torch.autograd.grad(ohemloss.ohem_cross_entropy(x, y), x, cotangent)
        close(grad / -2.5, expected)
        assert not grad.requires_grad

    @pytest.mark.parametrize("layout", ["plain", "transposed", "expanded", "negative"])
    def test_cotangent_of_each_pixel(self, torch, case, layout):
        x, y, *_ = case
        logits, labels = x.detach().double().numpy(), y.numpy()
        values = torch.tensor(np.random.default_rng(0).normal(size=labels.shape), dtype=torch.float32)
        if layout == "transposed":
            values = values.permute(2, 1, 0).contiguous().permute(2, 1, 0)
        elif layout == "expanded":
            values = values[:1, :, :1].expand(labels.shape)
        elif layout == "negative":
            values = torch._neg_view(values)
        (grad,) = torch.autograd.grad(ohemloss.ohem_cross_entropy(x, y, reduction="none"), x, values)
        base = reference(logits, labels, reduction="sum")
        expected = closed_form(logits, labels, base) * values.resolve_neg().numpy()[:, None]
        np.testing.assert_allclose(grad, expected, rtol=1e-5, atol=3e-6)

    @pytest.mark.parametrize("what", ["not selected", "of no weight", "at the cut"])
    def test_infinite_cotangent(self, torch, worker, what):
        """It reaches what has a gradient alone."""
        x, y = torch.zeros(4, 3), torch.tensor([0, 0, 1, 255])
        x[0, 0] = 200
        options = {
            "not selected": {},
            "of no weight": {"weight": torch.tensor([0.0, 1, 1]), "min_kept": 1.0},
            "at the cut": {"thresh": 1.0, "min_kept": 0},
        }[what]
        value = ohemloss.ohem_cross_entropy(x.requires_grad_(), y, **options)
        (grad,) = torch.autograd.grad(value, x, torch.tensor(math.inf))
        selected = reference(x.detach().numpy(), y.numpy(), **{k: v for k, v in options.items() if k != "weight"})
        live = (selected.weights > 0) & ((y.numpy() != 0) | (what != "of no weight"))
        assert torch.all(grad[~torch.tensor(live)] == 0)
        assert not torch.isfinite(grad[torch.tensor(live)]).any()

    @pytest.mark.parametrize("min_kept", [5, 0.8])
    def test_options_that_are_tensors(self, torch, case, close, min_kept):
        """The forward pass is served by NumPy then, and the backward pass, which needs them no more, may not be."""
        x, y, *_ = case
        logits, labels = x.detach().double().numpy(), y.numpy()
        base = reference(logits, labels, thresh=0.5, min_kept=min_kept)
        value = ohemloss.ohem_cross_entropy(x, y, thresh=torch.tensor(0.5), min_kept=torch.tensor(min_kept))
        np.testing.assert_allclose(value.detach(), base.value, **tolerance("float32", "value"))
        close(torch.autograd.grad(value, x)[0], closed_form(logits, labels, base))

    def test_second_derivative(self, torch, case):
        """The graph is made from what the host kept."""
        x, y, base, _ = case
        direction = torch.tensor(np.random.default_rng(0).normal(size=x.shape), dtype=torch.float32)
        (grad,) = torch.autograd.grad(ohemloss.ohem_cross_entropy(x, y), x, create_graph=True)
        (twice,) = torch.autograd.grad((grad * direction).sum(), x)
        p = torch.softmax(x.detach().double(), 1)
        d = direction.double()
        expected = p * (d - (p * d).sum(1, keepdim=True)) * torch.tensor(base.coefficients)[:, None]
        torch.testing.assert_close(twice.double(), expected, rtol=1e-4, atol=1e-8)

    def test_without_a_gradient(self, torch, case):
        x, y, base, _ = case
        for mode in (torch.inference_mode, torch.no_grad):
            with mode():
                value = ohemloss.ohem_cross_entropy(x, y)
                assert not value.requires_grad
            np.testing.assert_allclose(value, base.value, **tolerance("float32", "value"))

    def test_threads_of_torch_are_a_limit(self, torch, case, monkeypatch):
        x, y, *_ = case
        monkeypatch.delenv("OHEMLOSS_NUM_THREADS")
        monkeypatch.setattr(_threads, "cpu_quota", lambda root, group: None)
        monkeypatch.setattr(_threads, "_processors", lambda: 4)
        asked, run = [], _threads.run
        monkeypatch.setattr(_threads, "run", lambda work, jobs, n: (asked.append(n), run(work, jobs, n))[1])
        before = torch.get_num_threads()
        try:
            for n in (1, 3):
                torch.set_num_threads(n)
                ohemloss.ohem_cross_entropy(x, y).backward()
        finally:
            torch.set_num_threads(before)
        assert asked == [1, 1, 3, 3]


@st.composite
def calls(draw):
    shape = tuple(draw(st.lists(st.integers(1, 9), min_size=0, max_size=3)))
    n_classes = draw(st.sampled_from([2, 3, 5, 19, 70]))
    logits, labels = make(draw(st.sampled_from(list(REGIMES))), (1, *shape), n_classes, seed=draw(st.integers(0, 99)))
    logits, labels = logits[0], np.array(labels[0])
    dtype = draw(st.sampled_from(["float16", "float32", "float64"]))
    memory = draw(st.permutations(range(logits.ndim)))
    where = draw(st.integers(0, len(shape)))
    x = round_to(logits, dtype).astype(dtype)
    x = np.ascontiguousarray(x.transpose(memory)).transpose(np.argsort(memory))
    x = np.moveaxis(x, 0, where)
    if draw(st.booleans()):
        x = padded(x, draw(st.integers(0, x.ndim - 1)), 1, 2)
    rng = np.random.default_rng(draw(st.integers(0, 99)))
    options = {
        "thresh": draw(st.sampled_from([0.7, None, 1.0, 0.0])),
        "min_kept": draw(st.sampled_from([0, 1, 7, 1 / 16, 0.5, 1.0])),
        "reduction": draw(st.sampled_from(["mean", "sum", "none"])),
        "label_smoothing": draw(st.sampled_from([0.0, 0.0, 0.1])),
        "axis": where,
    }
    if draw(st.booleans()):
        options["weight"] = rng.uniform(0.2, 3, n_classes).astype("float32" if dtype == "float16" else dtype)
    if draw(st.booleans()):
        broadcast = [1 if draw(st.booleans()) else length for length in shape]
        options["pixel_weight"] = rng.uniform(0.2, 2, broadcast).astype("float32" if dtype == "float16" else dtype)
    return x, labels, options


@hypothesis.given(calls())  # pyright: ignore[reportCallIssue]
@hypothesis.settings(max_examples=60, deadline=None)
def test_drawn_calls(call):
    x, labels, options = call
    for name in WORKERS:
        with contextlib.suppress(pytest.skip.Exception), serving(name), pytest.MonkeyPatch.context() as patch:
            patch.setattr(_grid, "BLOCK", 200)
            patch.setattr(_machine, "_CHUNK", 300)
            if options["reduction"] != "none":
                check(x, labels, **options)
                continue
            value = ohemloss.ohem_cross_entropy(x, labels, **options)
            expected = reference(x, labels, **options).value
            np.testing.assert_allclose(value, expected, rtol=2e-6, atol=1e-6)
