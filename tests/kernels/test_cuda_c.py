"""The CUDA C kernels on a CPU: what they launch, keep and number, and the same bits however work is shared out."""

import contextlib
import importlib
import math
from types import SimpleNamespace

import numpy as np
import pytest

import ohemloss
from ohemloss import _fractions
from ohemloss._inputs import Inputs
from ohemloss._options import Options
from ohemloss_cupy import _call, _resized
from tests import _shim
from tests._cases import REGIMES, make, make_small
from tests._reference import reference, taps
from tests.conformance._layouts import LAYOUTS

pytestmark = pytest.mark.kernels
BILINEAR = {"resize": "bilinear"}
FAR = pytest.mark.parametrize(("options", "axis"), [({}, 0), ({}, 1), *((BILINEAR, axis) for axis in range(4))])


@pytest.fixture
def shim():
    with _shim.serving() as shim:
        yield shim


def batch(regime="40% hard", dtype="float32", **options):
    logits, labels = make(regime, **options)
    return np.ascontiguousarray(logits.astype(dtype)), labels


def small(shape=(2, 5, 3, 4), size=(12, 15), regime="40% hard", dtype="float32", **options):
    logits, labels = make_small(regime, shape, size, **options)
    return logits.astype(dtype), labels


def few(options, n_classes=5):
    """Make half logits, resized or not."""
    if options:
        return small((2, n_classes, 3, 4), (8, 9), dtype="float16")
    return batch(dtype="float16", shape=(2, 3, 41), n_classes=n_classes)


def same(first, second):
    for a, b in zip(first, second, strict=True):
        assert np.ascontiguousarray(a).tobytes() == np.ascontiguousarray(b).tobytes()


def spread(array, axis):
    """Copy an array to memory where the last along an axis is more than 2**31 elements from the first."""
    memory = np.empty(2**31 + 2**16, array.dtype)  # of which few pages are ever touched
    steps = list(np.empty([n for i, n in enumerate(array.shape) if i != axis], np.bool_).strides)
    steps.insert(axis, 2**31 // (array.shape[axis] - 1) + 2**10)
    far = np.lib.stride_tricks.as_strided(memory, array.shape, [step * memory.itemsize for step in steps])
    far[...] = array
    return far


class TestKernels:
    @pytest.mark.parametrize("regime", REGIMES)
    def test_the_host_does_not_look(self, shim, regime):
        """The same kernels are started whatever they find."""
        search = ["tally", *["histogram"] * 3, "sum_above", "finish"]
        ohemloss.value_and_grad(*batch(regime))
        ohemloss.value_and_grad(*small(regime=regime), **BILINEAR)
        resized = ["forward_resized", *search, "weigh", "backward_resized"]
        assert shim.launched == ["forward_1", *search, "backward_1", *resized]

    @pytest.mark.parametrize(
        ("layout", "n_classes", "lanes"), [("NCHW", 19, 1), ("NHWC", 3, 1), ("NHWC", 19, 8), ("NHWC", 65, 32)]
    )
    def test_neighbours_share_a_pixel(self, shim, layout, n_classes, lanes):
        x, y, axis = LAYOUTS[layout](*batch(shape=(2, 5, 4), n_classes=n_classes))
        ohemloss.value_and_grad(x, y, axis=axis)
        assert {f"forward_{lanes}", f"backward_{lanes}"} <= set(shim.launched)

    def test_numbers_between_numbers(self, shim):
        logits, labels = small()
        memory = np.zeros(logits.shape, np.dtype([("logit", np.float32), ("between", np.int8)]))
        memory["logit"] = logits
        for y, options in ((labels, BILINEAR), (labels[:, :3, :4].copy(), {})):
            expected = ohemloss.value_and_grad(logits, y, **options)
            same(expected, ohemloss.value_and_grad(memory["logit"], y, **options))

    def test_equal_sizes_are_not_resized(self, shim):
        logits, labels = small((2, 5, 6, 7), (6, 7))
        resized = ohemloss.value_and_grad(logits, labels, align_corners=True, **BILINEAR)
        assert {"forward_1", "backward_1"} < set(shim.launched)
        same(resized, ohemloss.value_and_grad(logits, labels))

    @pytest.mark.parametrize(
        "options",
        [
            {"label_smoothing": 0.1},
            {"reduction": "none"},
            {"rule": ohemloss.MiningRule(ties="keep")},
            {"min_kept": np.asarray(3)},
            {"min_kept": lambda counts: 3},
            {"positives": np.zeros((2, 6, 7), bool)},
            {"resize": "trilinear"},
        ],
        ids=lambda options: next(iter(options)),
    )
    def test_the_rest_goes_to_the_composite(self, shim, options):
        logits, labels = batch()
        if "resize" in options:
            logits, labels = logits[:, :, None], np.tile(labels[:, None], (1, 2, 2, 1))
        value = ohemloss.ohem_cross_entropy(logits, labels, **options)
        if "label_smoothing" in options or "reduction" in options:
            ohemloss.ohem_cross_entropy(*small(), **BILINEAR, **options)
        assert shim.launched == []
        assert np.isfinite(value).all()

    def test_what_the_kernels_cannot_number_is_declined(self, shim):
        for shape in [(2**31 - 1023, 1), (1, 2**31 - 1023)]:
            x = np.broadcast_to(np.zeros((), np.float16), shape)
            y = np.broadcast_to(np.zeros((), np.int8), shape[:1])
            assert not _call.serves(Inputs(logits=x, labels=y), Options())
        assert _call.serves(Inputs(logits=x[:, :-1], labels=y), Options())
        for n_in, n_out, served in ((2**29, 3, True), (3, 2**29, True), (2**29 + 1, 3, False), (3, 2**29 + 1, False)):
            x = np.broadcast_to(np.zeros((), np.float16), (1, 2, n_in))
            y = np.broadcast_to(np.zeros((), np.int8), (1, n_out))
            assert _call.serves(Inputs(logits=x, labels=y), Options(resize="linear")) == served

    @pytest.mark.parametrize("options", [{}, {"label_smoothing": 0.1}], ids=str)
    def test_on_the_device_of_the_logits(self, shim, monkeypatch, options):
        """Everything is made and run while it is the current one, also what the composite does."""
        (x, labels), current = batch(), []

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

    @pytest.mark.parametrize("weights", [False, True])
    def test_twelve_bytes_a_pixel(self, shim, monkeypatch, weights):
        """And never an array of the enlarged size."""
        logits, labels = small((1, 19, 16, 16), (128, 128))
        options = {**BILINEAR, **({"weight": np.ones(19, np.float32)} if weights else {})}
        made = []

        def noting(name):
            def make_array(*args, **options):
                made.append(getattr(np, name)(*args, **options))
                return made[-1]

            return make_array

        names = {name: getattr(np, name) for name in ("moveaxis", "broadcast_to", "ascontiguousarray")}
        names.update({name: noting(name) for name in ("empty", "zeros", "empty_like")})
        monkeypatch.setattr(shim, "xp", SimpleNamespace(**names), raising=False)
        ohemloss.value_and_grad(logits, labels, **options)
        few = 2**15  # of the blocks, and the histograms
        assert sum(array.nbytes for array in made) <= logits.nbytes + 12 * labels.size + few
        made.clear()
        ohemloss.ohem_cross_entropy(logits, labels, **options)
        assert sum(array.nbytes for array in made) <= 4 * labels.size + few


class TestSelection:
    @pytest.mark.parametrize("seed", range(2))
    @pytest.mark.parametrize("dtype", ["float32", "float64"])
    def test_kth_largest_of_any_losses(self, shim, monkeypatch, dtype, seed):
        """Losses of every size, which differ in their last bits and tie, and every k, by several blocks and rounds."""
        monkeypatch.setattr(_call, "_SEARCH_BLOCKS", 2)
        rng = np.random.default_rng(seed)
        n = 700
        u = (rng.choice([-1, 1], n) * 2.0 ** rng.integers(-120, 120, n)).astype(dtype)
        u[rng.random(n) < 0.3] = u[0]
        some = rng.random(n) < 0.3
        u[some] = np.nextafter(u[0], np.inf, dtype=u.dtype)
        x, y = np.zeros((n, 2), dtype), np.zeros(n, np.int64)
        losses = u * ohemloss.ohem_cross_entropy(x[:1], y[:1], min_kept=1)
        for k in (1, 2, 50, 200, 350, 351, 500, 699, 700):
            options = {"pixel_weight": u, "min_kept": k, "thresh": None, "reduction": "sum"}
            value = ohemloss.ohem_cross_entropy(x, y, **options)
            kept = np.sort(losses.astype(np.float64))[n - k :]
            np.testing.assert_allclose(value, kept.sum(), rtol=1e-5, atol=1e-6 * np.abs(kept).max())
            assert np.frombuffer(shim.state, dtype, count=1, offset=24) == kept[0]

    @pytest.mark.parametrize("min_kept", [0.0, 2**-20, 1 / 16, 0.29, 0.53, 0.7, 1 / 3, 0.999999, 1.0])
    def test_number_kept(self, shim, min_kept):
        """The floor of the product, in integers: in floats 0.53 of 100 is below 53, in doubles 0.29 of it below 29."""
        for n in (1, 7, 90, 100, 1000):
            ohemloss.ohem_cross_entropy(np.zeros((n, 2), np.float32), np.zeros(n, np.int64), min_kept=min_kept)
            n_min = np.frombuffer(shim.state, np.int32)[4]
            assert n_min == _fractions.floor_of_product(n, min_kept)

    def test_zeros_of_both_signs_tie(self, shim):
        """A negative weight makes a loss of 0 into one of -0.0, which is no smaller."""
        x = np.zeros((6, 2), np.float32)
        x[:5, 0] = 500
        x[:2] = x[:2, ::-1]
        labels, weight = np.array([1, 1, 0, 0, 255, 0]), np.array([-1, 1], np.float32)
        ohemloss.ohem_cross_entropy(x, labels, weight=weight, min_kept=3, thresh=None)
        cut_and_tie_weight = np.frombuffer(shim.state, np.float32, count=2, offset=24)
        assert cut_and_tie_weight.tolist() == [0, 3 / 4]

    @pytest.mark.parametrize("thresh", [0.0, 0.3, 1.0, 1.5, -0.5, math.nan])
    @pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
    def test_threshold_as_an_array(self, shim, dtype, thresh):
        thresh = np.asarray(thresh, dtype)
        for options, (x, labels) in (({}, batch(shape=(2, 2, 51))), (BILINEAR, small())):
            value, gradient = ohemloss.value_and_grad(x, labels, thresh=thresh, **options)
            assert "finish" in shim.launched
            if 0 <= thresh <= 1:
                same((value, gradient), ohemloss.value_and_grad(x, labels, thresh=float(thresh), **options))
                continue
            assert np.isnan(value)
            np.testing.assert_array_equal(np.isnan(gradient).any(axis=1), options != {} or labels != 255)


class TestSameBits:
    @pytest.mark.parametrize(("regime", "dtype"), [(r, "float32") for r in REGIMES] + [("3% hard", "float16")])
    def test_again_and_however_it_is_shared_out(self, shim, monkeypatch, regime, dtype):
        x, y = batch(regime, dtype, shape=(2, 15, 100), n_classes=7)
        same(ohemloss.value_and_grad(x, y), ohemloss.value_and_grad(x, y))
        logits, labels = small((2, 5, 9, 6), (31, 47), regime=regime, dtype=dtype)
        first = ohemloss.value_and_grad(logits, labels, **BILINEAR)
        same(first, ohemloss.value_and_grad(logits, labels, **BILINEAR))
        monkeypatch.setattr(_resized, "_THREADS", 1)
        for rows in (2, 4, 9, 100):
            monkeypatch.setattr(_resized, "_MOST_ROWS", rows)
            same(first[1:], ohemloss.value_and_grad(logits, labels, **BILINEAR)[1:])

    def test_whatever_the_layout(self, shim):
        logits, labels = small()
        value, gradient = ohemloss.value_and_grad(logits, labels, **BILINEAR)
        x = np.ascontiguousarray(np.moveaxis(logits, 1, -1))
        other, of_last = ohemloss.value_and_grad(x, labels, axis=-1, **BILINEAR)
        assert of_last.flags.c_contiguous
        same((value, gradient), (other, np.moveaxis(of_last, -1, 1)))


class TestFar:
    """In memory more than 2**31 elements from the first to the last: the same bits as nearby."""

    @pytest.mark.parametrize(("n_classes", "factor"), [(16, 1), (16, 100), (19, 1), (19, 100)])
    @FAR
    def test_logits(self, shim, options, axis, n_classes, factor):
        """Of the last classes that are read together, or of those left; also where one pass is not enough."""
        logits, labels = few(options, n_classes=n_classes)
        logits *= np.float16(factor)
        expected = ohemloss.value_and_grad(logits, labels, **options)
        same(expected, ohemloss.value_and_grad(spread(logits, axis), labels, **options))

    @pytest.mark.parametrize("options", [{}, BILINEAR], ids=str)
    @pytest.mark.parametrize("axis", [0, 1, 2])
    def test_labels_and_pixel_weights(self, shim, options, axis):
        logits, labels = few(options)
        labels[labels == 255] = 0
        u = np.random.default_rng(0).uniform(0.5, 2, labels.shape).astype(np.float32)
        expected = ohemloss.value_and_grad(logits, labels, pixel_weight=u, **options)
        y, far = spread(labels.astype(np.int8), axis), spread(u, axis)
        same(expected, ohemloss.value_and_grad(logits, y, pixel_weight=far, **options))

    @FAR
    def test_gradient(self, shim, monkeypatch, options, axis):
        logits, labels = few(options, n_classes=16)
        labels[0, 0, 0] = -1
        expected = ohemloss.value_and_grad(logits, labels, **options)
        names = ("empty", "zeros", "broadcast_to", "ascontiguousarray", "moveaxis")
        elsewhere = SimpleNamespace(**{name: getattr(np, name) for name in names})
        elsewhere.empty_like = lambda x: spread(np.full(x.shape, 77, x.dtype), axis)
        monkeypatch.setattr(shim, "xp", elsewhere, raising=False)
        found = ohemloss.value_and_grad(logits, labels, **options)
        assert max(found[1].strides) > 2**27
        same(found, expected)

    @pytest.mark.parametrize("align_corners", [False, True])
    def test_many_logits(self, shim, align_corners):
        """Positions of more than 32 bits, between logits of which all but those next to a pixel are 0."""
        n_in = 2**29 - 1
        logits, labels = np.zeros((1, 2, n_in), np.float16), np.array([[0, 1, 1, 0]])
        lower, upper, share = taps(n_in, 4, align_corners=align_corners)
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
        lower, upper, share = taps(n_in, n_out, align_corners=align_corners)
        large = (1 - share) * logits[0][:, lower] + share * logits[0][:, upper]
        slopes = (1 / (1 + np.exp(large[::-1] - large)) - (np.arange(2)[:, None] == labels)) / n_out
        expected = np.zeros_like(logits[0])
        np.add.at(expected, (slice(None), lower), (1 - share) * slopes)
        np.add.at(expected, (slice(None), upper), share * slopes)
        options = {"resize": "linear", "align_corners": align_corners, "thresh": None, "min_kept": 1.0}
        _, gradient = ohemloss.value_and_grad(logits, labels, **options)
        np.testing.assert_allclose(gradient[0], expected, rtol=1e-9, atol=1e-18)
