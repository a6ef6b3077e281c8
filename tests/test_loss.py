"""The value and the closed-form gradient, against the oracle, on every library."""

import math

import numpy as np
import pytest
from array_api_extra.testing import lazy_xp_function
from hypothesis import assume, given, settings
from hypothesis import strategies as st

import ohemloss
from ohemloss import ohem_cross_entropy, value_and_grad
from tests._cases import REGIMES, gradient_tolerance, make, round_to, tolerance
from tests._reference import gradient, reference

lazy_xp_function(ohem_cross_entropy)
lazy_xp_function(value_and_grad)


def run(library, logits, labels, *, dtype="float32", **options):
    """Call `value_and_grad` and `ohem_cross_entropy` on arrays of a library; return both, checked to agree."""
    x, y = library.asarray(logits, dtype), library.asarray(labels)
    options = {k: library.asarray(v, "float32") if isinstance(v, np.ndarray) else v for k, v in options.items()}
    value, grad = value_and_grad(x, y, **options)
    if library.package == "ndonnx":  # a second graph of the same operations, at a second each
        return value, grad
    alone = ohem_cross_entropy(x, y, **options)
    assert alone.dtype == value.dtype
    np.testing.assert_allclose(library.numpy(value), library.numpy(alone), **tolerance(dtype, "value"))
    return value, grad


def check(library, logits, labels, *, dtype="float32", **options):
    """Compare value and gradient with the oracle."""
    value, grad = run(library, logits, labels, dtype=dtype, **options)
    seen = round_to(logits, dtype)
    base = reference(seen, labels, **options)
    assert str(value.dtype).rpartition(".")[2].strip("'>") == ("float64" if dtype == "float64" else "float32")
    library.assert_close(value, base.value, **tolerance(dtype, "value"))
    assert str(grad.dtype).rpartition(".")[2].strip("'>") == dtype
    weights = {k: v for k, v in options.items() if k in ("weight", "pixel_weight")}
    library.assert_close(grad, gradient(seen, labels, **options), **gradient_tolerance(dtype, base, **weights))


@pytest.mark.parametrize("regime", REGIMES)
def test_regimes(library, float_dtype, regime):
    logits, labels = make(regime, dtype=float_dtype)
    expected = reference(logits, labels)
    assert (expected.n_hard < expected.n_min) == (regime == "3% hard")
    check(library, logits, labels, dtype=float_dtype)


@pytest.mark.parametrize(
    "options",
    [
        {"thresh": None},
        {"thresh": 0.0, "min_kept": 7},
        {"thresh": 1.0},
        {"min_kept": 0},
        {"min_kept": 3},
        {"min_kept": 10**6},
        {"min_kept": 0.7, "reduction": "sum"},
        {"min_kept": 1.0},
        {"ignore_index": None},
        {"ignore_index": 2},
        {"ignore_index": -100},
        {"weight": (0.5, 2.0, 0.0, 1.0, 3.0)},
        {"label_smoothing": 0.1},
        {"label_smoothing": 1.0},
        {"label_smoothing": 0.2, "weight": (0.5, 2.0, 0.0, 1.0, 3.0), "min_kept": 0.6},
    ],
    ids=str,
)
def test_options(library, options):
    logits, labels = make("40% hard")
    if options.get("ignore_index", 255) != 255:
        labels[labels == 255] = 3
    check(library, logits, labels, **options)


@pytest.mark.parametrize("shape", [(2, 6, 7), (1, 6, 7), (2, 1, 1), (7,), ()], ids=str)
def test_pixel_weight(library, shape):
    logits, labels = make("40% hard")
    weight = np.random.default_rng(1).uniform(0, 2, shape).astype(np.float32)
    check(
        library, logits, labels, pixel_weight=np.asarray(weight), weight=(1.0, 2.0, 3.0, 4.0, 5.0), label_smoothing=0.1
    )


def test_weight_array(library):
    logits, labels = make("40% hard")
    check(library, logits, labels, weight=np.asarray([1.0, 2.0, 3.0, 4.0, 5.0], np.float32))


@pytest.mark.parametrize(
    ("shape", "axis"),
    [((), 1), ((), 0), ((9,), 1), ((9,), -1), ((2, 5), -1), ((2, 6, 7), -1), ((2, 6, 7), 0), ((2, 3, 4, 2), 1)],
    ids=str,
)
def test_layouts(library, shape, axis):
    logits, labels = make("40% hard", shape=shape or (1,), ignored=0)
    if shape == ():
        logits, labels = logits[0], labels[0]
    elif axis != 1:
        logits = np.moveaxis(logits, 1, axis)
    check(library, logits, labels, axis=axis, min_kept=0.5)


@pytest.mark.parametrize("shape", [(2**20 + 77,), (3, 1100, 300)], ids=str)
def test_sums_lose_no_digits(library, shape):
    """A million equal losses: their mean is one of them. Added in a row it would be wrong in the fourth digit."""
    logits, labels = np.zeros((shape[0], 2, *shape[1:]), np.float32), np.zeros(shape, np.int64)
    x, y = library.asarray(logits), library.asarray(labels)
    one = ohem_cross_entropy(x[:1, ...], y[:1, ...], reduction="none")
    library.assert_close(ohem_cross_entropy(x, y), library.numpy(one).flat[0], **tolerance("float32", "value"))


@pytest.mark.parametrize("n_classes", [1, 2, 19])
def test_class_counts(library, n_classes):
    logits, labels = make("40% hard", n_classes=max(n_classes, 2))
    if n_classes == 1:
        logits, labels = logits[:, :1], np.where(labels == 255, 255, 0)
    check(library, logits, labels, min_kept=0.5)


@pytest.mark.parametrize("ignore_index", [255, -1, 3])
def test_label_dtypes(library, ignore_index):
    """Also where the dtype cannot hold `ignore_index`: then no label is ignored."""
    for dtype in library.integers[:: library.stride]:
        logits, labels = make("40% hard", ignored=0)
        if np.iinfo(dtype).min <= ignore_index <= np.iinfo(dtype).max:
            labels.flat[::4] = ignore_index
        expected = reference(logits, labels, ignore_index=ignore_index).value
        value = ohem_cross_entropy(
            library.asarray(logits, "float32"), library.asarray(labels, dtype), ignore_index=ignore_index
        )
        library.assert_close(value, expected, **tolerance("float32", "value"))


def test_negative_label_is_not_the_ignored_one_of_the_same_bits(library):
    """The int8 label -1 has the bits of 255; it is no class, and it is not ignored."""
    x, y = library.asarray(np.zeros((2, 2)), "float32"), library.asarray(np.asarray([0, -1]), "int8")
    if library.host:
        with pytest.raises(ValueError, match="got 1 outside, of value -1"):
            ohem_cross_entropy(x, y)
    else:
        library.assert_close(ohem_cross_entropy(x, y), np.nan)


def test_weights_are_used_in_the_dtype_of_the_loss(library):
    if "float64" not in library.floats or "float32" not in library.floats:
        pytest.skip(f"{library.id} has no float64")
    logits, labels = make("40% hard")
    x, y = library.asarray(logits, "float32"), library.asarray(labels)
    weight, u = np.asarray([1.0, 2.0, 3.0, 4.0, 5.0]), np.full(labels.shape, 0.5)
    value, grad = value_and_grad(
        x, y, weight=library.asarray(weight, "float64"), pixel_weight=library.asarray(u, "float64")
    )
    library.assert_close(value, reference(logits, labels, weight=weight, pixel_weight=u).value, rtol=2e-6)
    assert value.dtype == grad.dtype == x.dtype


def test_more_classes_than_the_label_dtype_holds(library):
    logits, labels = make("40% hard", n_classes=300, shape=(2, 3), ignored=0)
    labels = labels % 120
    value = ohem_cross_entropy(library.asarray(logits, "float32"), library.asarray(labels, "int8"), ignore_index=None)
    library.assert_close(value, reference(logits, labels, ignore_index=None).value, **tolerance("float32", "value"))


class TestNothingSelected:
    """The value is 0 and the gradient is 0: finite, of the right type."""

    def test_all_ignored(self, library):
        logits, labels = make()
        value, grad = run(library, logits, np.full_like(labels, 255))
        library.assert_close(value, 0.0)
        library.assert_close(grad, np.zeros_like(logits))

    def test_nothing_hard_and_none_kept(self, library):
        logits, labels = make()
        value, grad = run(library, logits, labels, thresh=None, min_kept=0)
        library.assert_close(value, 0.0)
        library.assert_close(grad, np.zeros_like(logits))

    def test_empty_batch(self, library):
        value, grad = run(library, np.zeros((0, 3, 4)), np.zeros((0, 4), np.int64))
        library.assert_close(value, 0.0)
        assert tuple(grad.shape) == (0, 3, 4)

    def test_per_pixel(self, library):
        logits, labels = make()
        x, y = library.asarray(logits, "float32"), library.asarray(np.full_like(labels, 255))
        library.assert_close(ohem_cross_entropy(x, y, reduction="none"), np.zeros(labels.shape))


class TestTies:
    """Elements that tie at the last place share the places left."""

    def test_all_tied(self, library):
        """Eight equal pixels, three places: each weighs 3/8, whatever its position."""
        logits, labels = np.zeros((8, 2)), np.zeros(8, np.int64)
        logits[:, 0] = 2.0  # easy
        check(library, logits, labels, min_kept=3)
        value, grad = run(library, logits, labels, min_kept=3)
        p = 1 / (1 + math.exp(-2))
        library.assert_close(value, -math.log(p), rtol=2e-6)
        library.assert_close(grad, np.broadcast_to([[(p - 1) / 8, (1 - p) / 8]], (8, 2)), rtol=1e-5)

    def test_order_does_not_matter(self, library):
        logits, labels = np.zeros((6, 2)), np.zeros(6, np.int64)
        logits[:, 0] = [3.0, 2.0, 2.0, 5.0, 2.0, 4.0]
        for order in (slice(None), slice(None, None, -1)):
            x, y = library.asarray(logits[order], "float32"), library.asarray(labels)
            weights = ohem_cross_entropy(x, y, min_kept=2, reduction="none")
            p = math.log(1 + math.exp(-2)) * 2 / 3
            library.assert_close(weights, np.asarray([0, p, p, 0, p, 0])[order], rtol=1e-5)

    def test_some_above_and_some_tied(self, library):
        logits, labels = np.zeros((6, 2)), np.zeros(6, np.int64)
        logits[:, 0] = [1.0, 2.0, 2.0, 5.0, 2.0, 4.0]
        check(library, logits, labels, min_kept=3)

    def test_loss_equal_to_the_threshold_is_not_hard(self, library):
        """The losses are log(2) to the last bit, and so is the threshold."""
        dtype = "float64" if "float64" in library.floats else "float32"
        x, y = library.asarray(np.zeros((4, 2)), dtype), library.asarray(np.zeros(4, np.int64))
        value = ohem_cross_entropy(x, y, thresh=0.5, min_kept=0)
        below = ohem_cross_entropy(x, y, thresh=0.5 + 2**-20, min_kept=0)
        library.assert_close(value, 0.0)
        library.assert_close(below, math.log(2), rtol=1e-6)

    def test_zero_losses_that_tie(self, library):
        """Sure of every pixel, to the last bit: all losses are 0, and so is the value, not NaN."""
        logits = np.zeros((4, 2))
        logits[:, 0] = 200.0
        check(library, logits, np.zeros(4, np.int64), min_kept=3)


class TestExtremes:
    def test_large(self, library, float_dtype):
        logits, labels = make()
        logits = round_to(1e4 * np.sign(logits) + np.round(logits), float_dtype)
        check(library, logits, labels, dtype=float_dtype)

    def test_minus_infinity_on_another_class(self, library):
        logits, labels = make(ignored=0)
        logits[0, 0][labels[0] != 0] = -np.inf
        expected = reference(logits, labels).value
        assert math.isfinite(expected)
        value, grad = run(library, logits, labels)
        library.assert_close(value, expected, **tolerance("float32", "value"))
        assert np.all(np.isfinite(library.numpy(grad)))
        assert np.all(library.numpy(grad)[0, 0][labels[0] != 0] == 0)

    def test_minus_infinity_on_the_label(self, library):
        """The loss is infinite, as it is; the gradient is softmax minus label, and finite."""
        logits, labels = make(ignored=0)
        logits[0, labels[0, 0, 0], 0, 0] = -np.inf
        value, grad = run(library, logits, labels)
        library.assert_close(value, np.inf)
        pixel = library.numpy(grad)[0, :, 0, 0]
        assert np.all(np.isfinite(library.numpy(grad)))
        np.testing.assert_allclose(pixel[labels[0, 0, 0]], -np.abs(pixel).sum() / 2, rtol=1e-5)

    @pytest.mark.filterwarnings("ignore:invalid value encountered:RuntimeWarning")  # inf - inf, in NumPy itself
    @pytest.mark.parametrize("bad", [math.nan, math.inf])
    @pytest.mark.parametrize("options", [{}, {"thresh": None, "min_kept": 1}, {"thresh": None, "min_kept": 0}], ids=str)
    def test_nan_reaches_value_and_its_own_gradient_only(self, library, bad, options):
        logits, labels = make(ignored=0)
        logits[1, 2, 3, 4] = bad
        value, grad = run(library, logits, labels, **options)
        library.assert_close(value, np.nan)
        is_nan = np.isnan(library.numpy(grad))
        assert is_nan[1, :, 3, 4].all()
        assert is_nan.sum() == logits.shape[1]

    @pytest.mark.filterwarnings("ignore:invalid value encountered:RuntimeWarning")
    def test_all_classes_minus_infinity_is_nan(self, library):
        logits, labels = make(ignored=0)
        logits[1, :, 3, 4] = -np.inf
        value, _ = run(library, logits, labels)
        library.assert_close(value, np.nan)

    def test_nan_in_an_ignored_pixel_passes_nowhere(self, library):
        logits, labels = make(ignored=0)
        labels[1, 3, 4] = 255
        expected = reference(logits, labels).value
        logits[1, :, 3, 4] = np.nan
        value, grad = run(library, logits, labels)
        library.assert_close(value, expected, **tolerance("float32", "value"))
        assert np.all(library.numpy(grad)[1, :, 3, 4] == 0)
        assert np.all(np.isfinite(library.numpy(grad)))

    @pytest.mark.parametrize("label_smoothing", [0.0, 0.1])
    def test_nan_in_a_pixel_of_weight_zero_passes_nowhere(self, library, label_smoothing):
        logits, labels = make(ignored=0)
        weight = np.ones(labels.shape, np.float32)
        weight[1, 3, 4] = 0
        logits[1, :, 3, 4] = np.nan
        options = {"label_smoothing": label_smoothing, "min_kept": 1.0}  # so that it is selected
        value, grad = run(library, logits, labels, pixel_weight=weight, **options)
        assert math.isfinite(float(library.numpy(value)))
        assert np.all(library.numpy(grad)[1, :, 3, 4] == 0)
        assert np.all(np.isfinite(library.numpy(grad)))

    def test_nan_in_a_pixel_of_a_class_of_weight_zero_passes_nowhere(self, library):
        logits, labels = make(ignored=0)
        weight = (0.0, 1.0, 2.0, 1.0, 1.0)
        labels[1, 3, 4] = 0
        expected = reference(logits, labels, weight=weight, min_kept=1.0).value
        logits[1, :, 3, 4] = np.nan
        value, grad = run(library, logits, labels, weight=weight, min_kept=1.0)  # so that it is selected
        library.assert_close(value, expected, **tolerance("float32", "value"))
        assert np.all(library.numpy(grad)[1, :, 3, 4] == 0)

    def test_impossible_class_of_weight_zero(self, library):
        """Label smoothing sums over all classes: one that weighs 0 and has a logit of -inf gives 0, not NaN."""
        logits, labels = make(ignored=0)
        options = {"weight": (0.0, 1.0, 2.0, 1.0, 1.0), "label_smoothing": 0.1, "min_kept": 1.0}
        logits[:, 0] = -np.inf
        expected = reference(logits, labels, **options).value
        assert math.isfinite(expected)
        value, grad = run(library, logits, labels, **options)
        library.assert_close(value, expected, **tolerance("float32", "value"))
        assert np.all(np.isfinite(library.numpy(grad)))

    def test_minus_infinity_on_the_label_with_nothing_but_smoothing(self, library):
        logits, labels = make(ignored=0)
        logits[0, labels[0, 0, 0], 0, 0] = -np.inf
        value, _ = run(library, logits, labels, label_smoothing=1.0)
        library.assert_close(value, np.inf)

    @pytest.mark.parametrize("bad", [math.nan, math.inf])
    def test_weight_of_an_ignored_pixel_passes_nowhere(self, library, bad):
        logits, labels = make(ignored=0)
        labels[1, 3, 4] = 255
        weight = np.ones(labels.shape, np.float32)
        weight[1, 3, 4] = bad
        for label_smoothing in (0.0, 0.1):
            expected = reference(logits, labels, label_smoothing=label_smoothing).value
            value, grad = run(library, logits, labels, pixel_weight=weight, label_smoothing=label_smoothing)
            library.assert_close(value, expected, **tolerance("float32", "value"))
            assert np.all(library.numpy(grad)[1, :, 3, 4] == 0)

    def test_infinite_loss_that_is_not_selected(self, library):
        """Nothing is hard without a threshold and nothing is kept: an infinite loss times 0 is not NaN."""
        logits, labels = make(ignored=0)
        logits[0, labels[0, 0, 0], 0, 0] = -np.inf
        value, grad = run(library, logits, labels, thresh=None, min_kept=0)
        library.assert_close(value, 0.0)
        library.assert_close(grad, np.zeros_like(logits))


class TestLabelOutOfRange:
    """An error where the host can look; NaN where it cannot, without touching foreign memory."""

    @pytest.mark.parametrize("label", [5, 200, -1, -(2**31)])
    def test_value(self, library, label):
        logits, labels = make()
        labels[0, 1, 2] = label
        x, y = library.asarray(logits, "float32"), library.asarray(labels)
        if library.host:
            with pytest.raises(ValueError, match=rf"`labels` must lie in \[0, 5\).*got 1 outside, of value {label}\."):
                ohem_cross_entropy(x, y)
            return
        value, grad = value_and_grad(x, y)
        library.assert_close(value, np.nan)
        is_nan = np.isnan(library.numpy(grad))
        assert is_nan[0, :, 1, 2].all()
        assert is_nan.sum() == 5

    def test_beyond_32_bits(self, library):
        """The label 2**32 is no class, though its low bits are those of class 0."""
        if library.label_dtype == "int32":
            pytest.skip(f"{library.id} has no 64-bit integers")
        logits, labels = make()
        labels[0, 1, 2] = 2**32
        x, y = library.asarray(logits, "float32"), library.asarray(labels)
        if library.host:
            with pytest.raises(ValueError, match="of value 4294967296"):
                ohem_cross_entropy(x, y)
        else:
            library.assert_close(ohem_cross_entropy(x, y), np.nan)


@pytest.mark.parametrize("regime", REGIMES)
def test_reduction_none_sums_to_the_mean(library, regime):
    logits, labels = make(regime)
    expected = reference(logits, labels, reduction="none").value
    actual = ohem_cross_entropy(library.asarray(logits, "float32"), library.asarray(labels), reduction="none")
    library.assert_close(actual, expected, rtol=1e-5, atol=1e-6)


def test_result_lies_where_the_logits_lie(library):
    logits, labels = make()
    value, grad = run(library, logits, labels)
    x = library.asarray(logits, "float32")
    if hasattr(x, "device"):
        assert value.device == x.device
        assert grad.device == x.device
    assert type(value) is type(x)
    assert value.ndim == 0


def test_inputs_are_left_alone(library):
    logits, labels = make()
    x, y = library.asarray(logits, "float32"), library.asarray(labels)
    value_and_grad(x, y, label_smoothing=0.1)
    np.testing.assert_array_equal(library.numpy(x), logits.astype(np.float32))
    np.testing.assert_array_equal(library.numpy(y), labels)


def test_non_contiguous(library, xp):
    """Strided views, made by the library itself."""
    logits, labels = make("40% hard", shape=(2, 6, 7))
    x = library.asarray(np.moveaxis(np.repeat(logits, 2, axis=2), 1, -1).copy(), "float32")
    y = library.asarray(np.repeat(labels, 2, axis=1))
    x = xp.permute_dims(x[:, ::2, ...], (0, 3, 1, 2))
    value, grad = value_and_grad(x, y[:, ::2, ...])
    library.assert_close(value, reference(logits, labels).value, **tolerance("float32", "value"))
    close = gradient_tolerance("float32", reference(logits, labels))
    library.assert_close(grad, gradient(logits, labels), **close)


def test_any_input(library):
    """Drawn shapes, shares of hard pixels, and options, against the oracle."""

    @settings(max_examples=library.examples)
    @given(
        seed=st.integers(0, 2**32 - 1),
        regime=st.sampled_from(list(REGIMES)),
        shape=st.lists(st.integers(1, 4), min_size=1, max_size=3).map(tuple),
        n_classes=st.integers(2, 6),
        ignored=st.sampled_from([0.0, 0.3, 1.0]),
        options=st.fixed_dictionaries(
            {},
            optional={
                "thresh": st.one_of(st.none(), st.floats(0, 1)),
                "min_kept": st.one_of(st.integers(0, 70), st.just(0.0), st.floats(2**-20, 1)),
                "label_smoothing": st.floats(0, 1),
                "reduction": st.sampled_from(["mean", "sum"]),
            },
        ),
        weighted=st.booleans(),
        dtype=st.sampled_from([dtype for dtype in library.floats if dtype in ("float32", "float64")]),
    )
    def compare(seed, regime, shape, n_classes, ignored, options, weighted, dtype):
        logits, labels = make(regime, shape=shape, n_classes=n_classes, ignored=ignored, seed=seed, dtype=dtype)
        if weighted:
            rng = np.random.default_rng(seed)
            options["weight"] = tuple(np.round(rng.uniform(0, 3, n_classes), 2).tolist())
            options["pixel_weight"] = rng.uniform(0, 2, shape).astype(np.float32)
        base = reference(logits, labels, **options)
        # A loss that rounds to the other side of the threshold is another selection: such inputs say nothing.
        cut = -math.log(options.get("thresh", 0.7) or 1e-300)
        assume(np.all(np.abs(base.pixel_loss - cut) > 1e-5 * (1 + cut)) and _well_apart(base))
        check(library, logits, labels, dtype=dtype, **options)

    compare()  # pyright: ignore[reportCallIssue]


def _well_apart(base):
    """Tell whether no two losses are so close that float32 may swap them."""
    losses = np.sort(base.pixel_loss[base.valid])
    gaps = np.diff(losses)
    return bool(np.all((gaps == 0) | (gaps > 1e-5)))


def test_same_bits_again(library):
    logits, labels = make("3% hard")
    first, second = (run(library, logits, labels) for _ in range(2))
    for a, b in zip(first, second, strict=True):
        assert library.numpy(a).tobytes() == library.numpy(b).tobytes()


def test_value_and_grad_refuses_a_map():
    x = np.zeros((1, 2), np.float32)
    with pytest.raises(ValueError, match=r"`reduction` of value_and_grad must be 'mean' or 'sum'.*got 'none'"):
        ohemloss.value_and_grad(x, np.zeros(1, np.int64), reduction="none")
