"""The CUDA C kernels without a GPU: compiled for several, and run on the CPU against the oracle."""

import contextlib
import importlib
import math
import os
import re
from types import SimpleNamespace

import numpy as np
import pytest

import ohemloss
from ohemloss._inputs import Inputs
from ohemloss._options import Options
from tests import _cases, _shim, test_host
from tests._cases import REGIMES
from tests._reference import reference
from tests.test_host import EXTREMES, LAYOUTS, padded

pytest.importorskip("ohemloss_cupy")
from ohemloss_cupy import _call, _launch

pytestmark = [
    pytest.mark.kernels,
    pytest.mark.skipif(os.environ.get("OHEMLOSS_TEST_KERNELS") != "1", reason="a job of its own"),
]

LABELS = ["int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64"]
ARCHITECTURES = ["sm_75", "sm_80", "sm_90", "sm_100"]


@pytest.fixture
def shim():
    with _shim.serving() as shim:
        yield shim


@pytest.fixture
def cut_small(monkeypatch):
    """Let small calls have several blocks of several tiles, and passes of several rounds."""
    monkeypatch.setattr(_call, "_FORWARD_BLOCKS", 3)
    monkeypatch.setattr(_call, "_SEARCH_BLOCKS", 2)


def make(*args, **options):
    """Make the classes the second axis in memory, too."""
    logits, labels = _cases.make(*args, **options)
    return np.ascontiguousarray(logits), labels


def check(shim, logits, labels, **options):
    """Compare with the oracle, and see that it was the kernels that ran."""
    shim.launched.clear()
    result = test_host.check(logits, labels, **options)
    assert shim.launched.count("finish") == 2
    assert sum(name.startswith("backward") for name in shim.launched) == 1
    return result


def same(first, second):
    for a, b in zip(first, second, strict=True):
        assert a.tobytes() == b.tobytes()


class TestLayouts:
    @pytest.mark.parametrize("layout", LAYOUTS)
    @pytest.mark.parametrize("regime", REGIMES)
    def test_layout(self, shim, cut_small, regime, layout):
        logits, labels = make(regime, shape=(3, 7, 50), n_classes=6)
        x, y, axis = LAYOUTS[layout](logits.astype(np.float32), labels)
        check(shim, x, y, axis=axis)

    @pytest.mark.parametrize("layout", ["NCHW", "NHWC", "channels last", "crop", "reversed"])
    @pytest.mark.parametrize("n_classes", [1, 2, 8, 9, 19, 64, 65, 150, 1000])
    def test_number_of_classes(self, shim, n_classes, layout):
        """Sizes that divide neither the block nor what a thread reads ahead."""
        for regime in ("95% hard", "3% hard"):
            logits, labels = make(regime, shape=(2, 5, 43), n_classes=max(n_classes, 2))
            labels = np.where(labels == 255, 5000, labels % n_classes)
            x, y, axis = LAYOUTS[layout](logits[:, :n_classes].astype(np.float32), labels)
            # What the labels say no longer is what the regime says, so the oracle's selection is the check.
            check(shim, x, y, axis=axis, ignore_index=5000)

    @pytest.mark.parametrize(("layout", "n_classes", "lanes"), [("NCHW", 19, 1), ("NHWC", 3, 1), ("NHWC", 19, 8)])
    @pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
    def test_neighbours_share_a_pixel(self, shim, dtype, layout, n_classes, lanes):
        logits, labels = make(shape=(2, 5, 43), n_classes=n_classes, dtype=dtype)
        x, y, axis = LAYOUTS[layout](logits.astype(dtype), labels)
        check(shim, x, y, axis=axis)
        assert {f"forward_{lanes}", f"backward_{lanes}"} <= set(shim.launched)

    @pytest.mark.parametrize(
        "change", [np.asfortranarray, lambda y: padded(y, 1, 1, 2), lambda y: np.flip(np.flip(y).copy())]
    )
    def test_labels_and_pixel_weights_of_any_layout(self, shim, change):
        logits, labels = make("40% hard", shape=(2, 9, 31))
        u = np.random.default_rng(0).uniform(0.5, 2, labels.shape).astype(np.float32)
        check(shim, logits.astype(np.float32), change(labels), pixel_weight=change(u))

    @pytest.mark.parametrize("n", [0, 1, 255, 256, 257, 2048, 2049])
    def test_number_of_pixels(self, shim, n):
        logits, labels = make("3% hard", shape=(max(n, 1),))
        x = logits[:n].astype(np.float32)
        check(shim, x, labels[:n])
        check(shim, np.ascontiguousarray(x.T), labels[:n], axis=0)


class TestDtypes:
    @pytest.mark.parametrize("layout", ["NCHW", "NHWC", "crop"])
    @pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
    @pytest.mark.parametrize("regime", REGIMES)
    def test_logits(self, shim, cut_small, regime, dtype, layout):
        logits, labels = make(regime, shape=(2, 17, 41), n_classes=19, dtype=dtype)
        x, y, axis = LAYOUTS[layout](logits.astype(dtype), labels)
        check(shim, x, y, axis=axis)

    @pytest.mark.parametrize("dtype", LABELS)
    def test_labels(self, shim, dtype):
        logits, labels = make("40% hard", shape=(2, 5, 31))
        x, largest = logits.astype(np.float32), np.iinfo(dtype).max
        ignored = np.where(labels == 255, largest, labels.astype(object)).astype(dtype)
        check(shim, x, ignored, ignore_index=int(largest))
        inside = np.where(labels == 255, 3, labels).astype(dtype)
        for outside in (None, -1 if dtype.startswith("u") else 2**63, 2**64 - 1 if dtype != "uint64" else 2**64, 2**70):
            check(shim, x, inside, ignore_index=outside)
        check(shim, x, inside, ignore_index=3)
        if not dtype.startswith("u"):
            check(shim, x, np.where(labels == 255, -100, labels).astype(dtype), ignore_index=-100)

    @pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
    @pytest.mark.parametrize("layout", ["NCHW", "NHWC"])
    def test_weights(self, shim, layout, dtype):
        logits, labels = make("40% hard", shape=(2, 5, 31))
        x, y, axis = LAYOUTS[layout](logits.astype(np.float32), labels)
        w, u = np.array([0.5, 1, 2, 0, 4], dtype), np.random.default_rng(0).uniform(0.5, 2, (5, 1)).astype(dtype)
        for options in ({"weight": w}, {"pixel_weight": u}, {"weight": w[::-1], "pixel_weight": u}):
            for min_kept in (1 / 16, 0.9):
                check(shim, x, y, axis=axis, min_kept=min_kept, **options)


class TestExtremes:
    @pytest.mark.parametrize("extreme", EXTREMES)
    @pytest.mark.parametrize("regime", REGIMES)
    @pytest.mark.parametrize("lanes", [1, 8])
    def test_extreme(self, shim, regime, lanes, extreme):
        """Pixels that count, of class 0, among others, and each beside one that is ignored."""
        logits, labels = make(regime, shape=(2, 2, 301))
        x = np.ascontiguousarray(np.moveaxis(logits, 1, -1)).astype(np.float32).reshape(-1, 5)
        y = labels.reshape(-1).copy()
        whole = extreme in ("logits far apart", "large logits")
        for at in range(7, len(x), 101):
            y[at], y[at + 1] = 0, 255
            x[at + 1] = (math.nan, math.inf, -math.inf, 1e30, 0)
            if not whole:
                EXTREMES[extreme](x, at)
        if whole:
            EXTREMES[extreme](x, 0)
        axis = 1 if lanes == 8 else 0
        x = x if axis else np.ascontiguousarray(x.T)
        for options in ({}, {"min_kept": 0.99}, {"thresh": None, "min_kept": 5}):
            check(shim, x, y, axis=axis, **options)

    @pytest.mark.parametrize("label", [5, 200, -1, -(2**31), 2**32, 2**62, -(2**63)])
    @pytest.mark.parametrize("layout", ["NCHW", "NHWC"])
    def test_label_out_of_range(self, shim, layout, label):
        """NaN, and no memory is touched: the last of these would be far outside of any."""
        logits, labels = make("3% hard", shape=(2, 5, 31))
        labels[1, 2, 3] = label
        x, y, axis = LAYOUTS[layout](logits.astype(np.float32), labels)
        weight = np.array([0.5, 1, 2, 0, 4], np.float32)
        for options in ({}, {"weight": weight}, {"thresh": None, "min_kept": 0}):
            _, gradient = check(shim, x, y, axis=axis, **options)
            assert np.isnan(gradient).sum() == 5

    def test_unsigned_label_out_of_range(self, shim):
        """Those that do not fit 64 bits with a sign, too."""
        logits, labels = make(shape=(2, 5, 31))
        labels = labels.astype(np.uint64)
        labels[1, 2, 3] = 2**64 - 1
        check(shim, logits.astype(np.float32), labels)

    @pytest.mark.parametrize("min_kept", [0, 1 / 16, 0.9, 1.0])
    def test_weights_of_zero_may_weigh_anything(self, shim, min_kept):
        logits, labels = make("40% hard", shape=(2, 2, 301))
        x = logits.astype(np.float32)
        x[:, :, 0, 5] = math.nan
        x[:, :, 1, 6] = math.inf
        labels[:, 0, 5] = 1
        u = np.ones((2, 301), np.float32)
        u[1, 6] = 0
        check(shim, x, labels, weight=np.array([1, 0, 2, 3, 0.5], np.float32), pixel_weight=u, min_kept=min_kept)

    @pytest.mark.parametrize("min_kept", [0.3, 0.9, 1.0, 500])
    def test_negative_losses_rank_above_no_ignored_pixel(self, shim, min_kept):
        logits, labels = make("40% hard", shape=(2, 2, 151))
        weight = np.array([-1, 0.5, 0, -2, 1], np.float32)
        check(shim, logits.astype(np.float32), labels, weight=weight, min_kept=min_kept)
        check(shim, logits.astype(np.float32), labels, weight=-np.abs(weight), min_kept=min_kept)

    @pytest.mark.parametrize("dtype", ["float32", "float64"])
    @pytest.mark.parametrize("min_kept", [0, 1, 5, 6, 11, 0.5, 1.0])
    def test_ties_at_the_cut(self, shim, min_kept, dtype):
        x = np.tile(np.array([[3, 0], [2, 0], [1, 0]], dtype), (5, 1))
        labels = np.array([1, 0, 0] * 4 + [255, 255, 0])
        check(shim, x, labels, min_kept=min_kept, thresh=None)
        check(shim, x, labels, min_kept=min_kept, thresh=0.01)

    @pytest.mark.parametrize("n_nan", [1, 3])
    def test_ties_below_nan(self, shim, n_nan):
        x = np.tile(np.array([[3, 0], [2, 0], [1, 0]], np.float32), (5, 1))
        x[:n_nan] = math.nan
        check(shim, x, np.zeros(15, np.int64), min_kept=6, thresh=None)

    def test_ties_at_minus_infinity(self, shim):
        """An ignored pixel does not tie with a loss of -inf."""
        x = np.zeros((4, 2), np.float32)
        x[0, 0] = -math.inf
        check(shim, x, np.array([0, 0, 0, 255]), weight=np.array([-1, 1], np.float32), min_kept=1.0)

    def test_zeros_of_both_signs_tie(self, shim):
        """A negative weight makes a loss of 0 into one of -0.0, which is no smaller."""
        x = np.zeros((6, 2), np.float32)
        x[:, 0] = 500
        weight = np.array([-1, 1], np.float32)
        x[:2] = x[:2, ::-1]
        labels = np.array([1, 1, 0, 0, 255, 0])
        x[5] = 0  # a loss below 0
        check(shim, x, labels, weight=weight, min_kept=3, thresh=None)
        assert np.frombuffer(shim.state, np.float32, count=2, offset=24).tolist() == [
            0,
            3 / 4,
        ]  # the cut, and the weight of a tie

    @pytest.mark.parametrize("thresh", [0.0, 1e-30, 0.5, 1.0, None])
    def test_thresholds(self, shim, thresh):
        logits, labels = make("40% hard", shape=(2, 2, 151))
        logits[0, :, 0] = 0
        logits[0, 0, 0], labels[0, 0] = 500, 0  # losses of exactly 0
        for reduction in ("mean", "sum"):
            for min_kept in (0, 0.4):
                check(shim, logits.astype(np.float32), labels, thresh=thresh, min_kept=min_kept, reduction=reduction)

    @pytest.mark.parametrize("thresh", [0.0, 0.3, 1.0, 1.5, -0.5, math.nan])
    @pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
    def test_threshold_as_an_array(self, shim, dtype, thresh):
        logits, labels = make("40% hard", shape=(2, 2, 151))
        x, thresh = logits.astype(np.float32), np.asarray(thresh, dtype)
        value, gradient = ohemloss.value_and_grad(x, labels, thresh=thresh)
        assert "finish" in shim.launched
        if 0 <= thresh <= 1:
            same((value, gradient), ohemloss.value_and_grad(x, labels, thresh=float(thresh)))
            expected = reference(logits, labels, thresh=float(thresh)).value
            np.testing.assert_allclose(value, expected, rtol=2e-6)
        else:
            assert np.isnan(value)
            np.testing.assert_array_equal(np.isnan(gradient).any(axis=1), labels != 255)

    @pytest.mark.parametrize("layout", ["NCHW", "NHWC"])
    @pytest.mark.parametrize("loss", [59, 61, 63, 65, 82.3, 84.1, 86.7])
    def test_large_losses_among_many_pixels(self, shim, loss, layout):
        """The gradient of one of a million pixels is as exact as that of one alone."""
        x = np.zeros((4, 5), np.float32)
        x[:, 1] = loss
        weight = np.full(5, 1e-6, np.float32)
        axis = 1 if layout == "NHWC" else 0
        _, grad = ohemloss.value_and_grad(
            x if axis else np.ascontiguousarray(x.T), np.zeros(4, np.int64), weight=weight, min_kept=1.0, axis=axis
        )
        expected = np.tile([-2.5e-7, 2.5e-7, 0, 0, 0], (4, 1))
        np.testing.assert_allclose(grad if axis else grad.T, expected, rtol=1e-5, atol=1e-30)

    def test_nothing_valid(self, shim):
        check(shim, np.full((2, 3, 400), math.nan, np.float32), np.full((2, 400), 255))


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_kth_largest_of_any_losses(shim, cut_small, dtype, seed):
    """Losses of every size, which differ in their last bits and tie, and every k."""
    rng = np.random.default_rng(seed)
    n = 700
    u = (rng.choice([-1, 1], n) * 2.0 ** rng.integers(-120, 120, n)).astype(dtype)
    u[rng.random(n) < 0.3] = u[0]
    some = rng.random(n) < 0.3
    u[some] = np.nextafter(u[0], np.inf, dtype=u.dtype)
    x = np.zeros((n, 2), dtype)
    losses = u * ohemloss.ohem_cross_entropy(x[:1], np.zeros(1, np.int64), min_kept=1)
    for k in (1, 2, 50, 200, 350, 351, 500, 699, 700):
        value = ohemloss.ohem_cross_entropy(
            x, np.zeros(n, np.int64), pixel_weight=u, min_kept=k, thresh=None, reduction="sum"
        )
        kept = np.sort(losses.astype(np.float64))[n - k :]
        np.testing.assert_allclose(value, kept.sum(), rtol=1e-5, atol=1e-6 * np.abs(kept).max())
        assert np.frombuffer(shim.state, dtype, count=1, offset=24) == kept[0]


@pytest.mark.parametrize("min_kept", [0.0, 2**-20, 1 / 16, 0.29, 0.53, 0.7, 1 / 3, 0.999999, 1.0])
def test_number_kept(shim, min_kept):
    """The floor of the product, in integers: in floats 0.53 of 100 is less than 53, in doubles 0.29 of it than 29."""
    for n in (1, 7, 90, 100, 1000):
        ohemloss.ohem_cross_entropy(np.zeros((n, 2), np.float32), np.zeros(n, np.int64), min_kept=min_kept)
        n_min = np.frombuffer(shim.state, np.int32)[4]
        assert n_min == ohemloss._mining.floor_of_product(n, min_kept)


def spread(array, axis, dtype):
    """Copy an array to memory where the last along an axis is more than 2**31 elements from the first."""
    memory = np.empty(2**31 + 2**16, dtype)  # of which few pages are ever touched
    steps = list(np.empty([n for i, n in enumerate(array.shape) if i != axis], np.bool_).strides)
    steps.insert(axis, 2**31 // (array.shape[axis] - 1) + 2**10)
    far = np.lib.stride_tricks.as_strided(memory, array.shape, [step * memory.itemsize for step in steps])
    far[...] = array
    return far


class TestFar:
    @pytest.mark.parametrize("axis", [0, 1])
    @pytest.mark.parametrize("factor", [1, 100])
    @pytest.mark.parametrize("n_classes", [16, 19])
    def test_logits(self, shim, n_classes, factor, axis):
        """Of the last classes that are read together, or of those left; also where one pass is not enough."""
        logits, labels = make(shape=(2, 3, 41), n_classes=n_classes, dtype="float16")
        check(shim, spread(logits * factor, axis, np.float16), labels)

    def test_labels(self, shim):
        logits, labels = make(shape=(2, 3, 41), ignored=0)
        check(shim, logits.astype(np.float32), spread(labels, 0, np.int8), ignore_index=None)

    def test_pixel_weights(self, shim):
        logits, labels = make(shape=(2, 3, 41))
        u = np.random.default_rng(0).uniform(0.5, 2, labels.shape).astype(np.float32)
        value, _ = check(shim, logits.astype(np.float32), labels, pixel_weight=u)
        far = ohemloss.ohem_cross_entropy(logits.astype(np.float32), labels, pixel_weight=spread(u, 0, np.float32))
        assert far == value

    @pytest.mark.parametrize("axis", [0, 1])
    def test_gradient(self, axis, monkeypatch):
        logits, labels = make(shape=(2, 3, 41), n_classes=16, dtype="float16")
        labels[0, 0, 0] = -1
        names = ("empty", "zeros", "broadcast_to", "ascontiguousarray")
        elsewhere = SimpleNamespace(**{name: getattr(np, name) for name in names})
        elsewhere.empty_like = lambda x: spread(np.full(x.shape, 77), axis, np.float16)
        with _shim.serving() as shim:
            expected = ohemloss.value_and_grad(logits.astype(np.float16), labels)
            monkeypatch.setattr(shim, "xp", elsewhere, raising=False)
            found = ohemloss.value_and_grad(logits.astype(np.float16), labels)
        assert max(found[1].strides) > 2**27
        same(found, expected)

    def test_what_the_kernels_cannot_number_is_declined(self, shim):
        for shape in [(2**31 - 1023, 1), (1, 2**31 - 1023)]:
            x = np.broadcast_to(np.zeros((), np.float16), shape)
            y = np.broadcast_to(np.zeros((), np.int8), shape[:1])
            assert not _call.serves(Inputs(logits=x, labels=y), Options())
        assert _call.serves(Inputs(logits=x[:, :-1], labels=y), Options())


class TestSameBits:
    @pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
    @pytest.mark.parametrize("regime", REGIMES)
    def test_again(self, shim, regime, dtype):
        logits, labels = make(regime, shape=(2, 30, 100), n_classes=7)
        x = logits.astype(dtype)
        same(ohemloss.value_and_grad(x, labels), ohemloss.value_and_grad(x, labels))

    @pytest.mark.parametrize("regime", REGIMES)
    def test_whatever_shares_a_pixel(self, shim, regime):
        """Not the same bits, but the same selection."""
        logits, labels = make(regime, shape=(2, 30, 100), n_classes=70, dtype="float32")
        found = {}
        for layout in ("NCHW", "NHWC"):
            x, y, axis = LAYOUTS[layout](logits.astype(np.float32), labels)
            gradient = ohemloss.value_and_grad(x, y, axis=axis)[1]
            found[layout] = np.moveaxis(gradient, axis, 1)
        np.testing.assert_array_equal(found["NCHW"] != 0, found["NHWC"] != 0)
        np.testing.assert_allclose(found["NCHW"], found["NHWC"], rtol=1e-4, atol=1e-9)


class TestWhatIsServed:
    @pytest.mark.parametrize(
        "options",
        [
            {"label_smoothing": 0.1},
            {"reduction": "none"},
            {"rule": ohemloss.MiningRule(ties="keep")},
            {"min_kept": np.asarray(3)},
            {"min_kept": lambda counts: 3},
            {"positives": np.zeros((2, 6, 7), bool)},
        ],
        ids=lambda options: next(iter(options)),
    )
    def test_the_rest_goes_to_the_composite(self, shim, options):
        logits, labels = make()
        ohemloss.ohem_cross_entropy(logits.astype(np.float32), labels, **options)
        assert shim.launched == []

    @pytest.mark.parametrize("options", [{}, {"label_smoothing": 0.1}], ids=str)
    def test_on_the_device_of_the_logits(self, shim, monkeypatch, options):
        """Everything is made and run while it is the current one, also what the composite does."""
        logits, labels = make()
        x, current = logits.astype(np.float32), []

        @contextlib.contextmanager
        def device_of(array):
            assert array is x
            current.append(array)
            yield
            current.pop()

        monkeypatch.setattr(shim, "current", device_of)
        composite = importlib.import_module("ohemloss._composite")

        def inside(run):
            return lambda *call: run(*call) if current else pytest.fail("outside")

        for where, name in ((composite, "loss"), (composite, "value_and_grad"), (shim, "launch")):
            monkeypatch.setattr(where, name, inside(getattr(where, name)))
        ohemloss.value_and_grad(x, labels, **options)
        ohemloss.ohem_cross_entropy(x, labels, **options)

    @pytest.mark.parametrize("regime", REGIMES)
    def test_the_host_does_not_look(self, shim, regime):
        """The same kernels are started whatever they find."""
        logits, labels = make(regime)
        ohemloss.value_and_grad(logits.astype(np.float32), labels)
        names = ["forward_1", "tally", *["histogram"] * 3, "sum_above", "finish", "backward_1"]
        assert shim.launched == names


@pytest.fixture(scope="module")
def nvrtc():
    """The compiler, as CuPy calls it; it needs no device."""
    return importlib.import_module("cupy_backends.cuda.libs.nvrtc")


def compile_for(nvrtc, architecture, logits, labels, *more):
    """Compile as CuPy does, to machine code; give it and what the compiler says."""
    program = nvrtc.createProgram(_launch.source(), "_kernels.cu", (), ())
    options = _launch.options(np.dtype(logits), np.dtype(labels))
    try:
        nvrtc.compileProgram(program, (*options, f"-arch={architecture}", *more))
    except RuntimeError as error:
        error.add_note(nvrtc.getProgramLog(program))
        raise
    return nvrtc.getCUBIN(program), nvrtc.getProgramLog(program)


class TestCompiled:
    @pytest.mark.parametrize("logits", ["float16", "float32", "float64"])
    @pytest.mark.parametrize("architecture", ARCHITECTURES)
    def test_without_a_warning(self, nvrtc, architecture, logits):
        for labels in LABELS if architecture == "sm_90" else ("int64", "uint8"):
            binary, log = compile_for(nvrtc, architecture, logits, labels)
            assert binary[:4] == b"\x7fELF"
            assert log.strip("\0\n ") == ""

    @pytest.mark.parametrize("architecture", ARCHITECTURES)
    def test_in_registers(self, nvrtc, architecture):
        """Nothing is spilled to memory, and so little is held that four blocks, or three of float64, run at a time."""
        for logits in ("float16", "float32", "float64"):
            _, log = compile_for(nvrtc, architecture, logits, "int64", "--ptxas-options=-v")
            spilled = re.findall(r"(\d+) bytes spill", log)
            assert spilled
            assert set(spilled) == {"0"}
            registers = [int(n) for n in re.findall(r"Used (\d+) registers", log)]
            assert len(registers) == 10
            assert max(registers) <= (80 if logits == "float64" else 64)
