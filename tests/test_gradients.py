"""The same gradient everywhere: closed form, each library's own differentiation, and differences in float64."""

import json
import math
from importlib.resources import files

import numpy as np
import pytest
from array_api_extra.testing import lazy_xp_function

from ohemloss import ohem_cross_entropy, value_and_grad
from tests._cases import REGIMES, gradient_tolerance, make, round_to, tolerance
from tests._reference import gradient, reference

lazy_xp_function(ohem_cross_entropy)
lazy_xp_function(value_and_grad)

WEIGHTS = (0.5, 2.0, 0.0, 1.0, 3.0)


def documented():
    tensors = json.loads(files("ohemloss").joinpath("_cli", "walkthrough.json").read_text(encoding="utf-8"))
    return np.asarray(tensors["logits"]), np.asarray(tensors["labels"])


def case(name):
    return documented() if name == "documented" else make(name)


@pytest.mark.parametrize("name", ["documented", *REGIMES])
def test_same_gradient(library, float_dtype, name, shows):
    logits, labels = case(name)
    seen = round_to(logits, float_dtype)
    base, expected = reference(seen, labels), gradient(seen, labels)
    assert (base.n_hard < base.n_min) == (name == "3% hard")
    x, y = library.asarray(seen, float_dtype), library.asarray(labels)
    value, closed = value_and_grad(x, y)
    close = gradient_tolerance(float_dtype, base)
    library.assert_close(closed, expected, **close)
    half, best = float_dtype not in ("float32", "float64"), float_dtype == library.floats[-1]
    if best:
        alone = library.numpy(ohem_cross_entropy(x, y))
        shows(library.row, "eager", alone, base.value, **tolerance(float_dtype, "value"))
        shows(library.row, "closed form", library.numpy(closed), expected, **close)
    elif half:
        assert str(value.dtype).rpartition(".")[2].strip("'>") == "float32"
        shows(library.row, "autocast", library.numpy(closed), expected, **close)
    differentiate = library.differentiate(lambda x: ohem_cross_entropy(x, y))
    if differentiate is not None:
        auto = differentiate(x)
        library.assert_close(auto, expected, **close)
        library.assert_close(auto, library.numpy(closed), **close)
        column = "autograd" if best else "autocast" if half else None
        if column:
            shows(library.row, column, library.numpy(auto), expected, **close)


@pytest.mark.parametrize(
    "options",
    [
        {"weight": WEIGHTS, "min_kept": 0.6},
        {"label_smoothing": 0.1, "weight": WEIGHTS},
        {"label_smoothing": 1.0},
        {"reduction": "sum", "min_kept": 3, "thresh": None},
        {"ignore_index": None},
    ],
    ids=str,
)
def test_same_gradient_with_options(library, options):
    logits, labels = make("40% hard", ignored=0)
    check_autograd(library, logits, labels, **options)


def test_same_gradient_with_a_pixel_weight(library):
    logits, labels = make("40% hard")
    u = np.random.default_rng(1).uniform(0, 2, labels.shape).astype(np.float32)
    u[0, 0] = 0
    check_autograd(library, logits, labels, pixel_weight=u)


def check_autograd(library, logits, labels, **options):
    """Compare the closed form, and the library's own differentiation if it has one, with the oracle."""
    x, y = library.asarray(logits, "float32"), library.asarray(labels)
    arrays = {k: library.asarray(v) if isinstance(v, np.ndarray) else v for k, v in options.items()}
    seen = round_to(logits, "float32")
    expected, base = gradient(seen, labels, **options), reference(seen, labels, **options)
    weights = {k: v for k, v in options.items() if k in ("weight", "pixel_weight")}
    close = gradient_tolerance("float32", base, **weights)
    library.assert_close(value_and_grad(x, y, **arrays)[1], expected, **close)
    differentiate = library.differentiate(lambda x: ohem_cross_entropy(x, y, **arrays))
    if differentiate is not None:
        library.assert_close(differentiate(x), expected, **close)


def gradients(library, logits, labels, **options):
    """Give the gradient by every way that the library has."""
    x, y = library.asarray(logits, "float32"), library.asarray(labels)
    found = [value_and_grad(x, y, **options)[1]]
    differentiate = library.differentiate(lambda x: ohem_cross_entropy(x, y, **options))
    if differentiate is not None:
        found.append(differentiate(x))
    return [library.numpy(gradient) for gradient in found]


class TestNoSurprise:
    """What a training step must never meet."""

    @pytest.mark.parametrize(
        "options", [{}, {"label_smoothing": 0.1}, {"weight": WEIGHTS}, {"reduction": "sum"}], ids=str
    )
    def test_nothing_selected(self, library, options):
        logits, labels = make(ignored=0)
        all_ignored = np.full_like(labels, 255)
        found = gradients(library, logits, all_ignored, **options)
        found += gradients(library, logits, labels, thresh=None, min_kept=0, **options)
        for each in found:
            assert np.array_equal(each, np.zeros_like(logits))

    @pytest.mark.filterwarnings("ignore:invalid value encountered:RuntimeWarning")  # inf - inf, in NumPy itself
    @pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
    @pytest.mark.parametrize("options", [{}, {"label_smoothing": 0.1}, {"weight": WEIGHTS}], ids=str)
    def test_ignored_pixels_are_exactly_0(self, library, bad, options):
        logits, labels = make("40% hard")
        labels[1, 3, 4] = 255
        logits[1, :, 3, 4] = bad
        for found in gradients(library, logits, labels, **options):
            assert np.all(np.moveaxis(found, 1, -1)[labels == 255] == 0)
            assert np.all(np.isfinite(found))

    @pytest.mark.filterwarnings("ignore:invalid value encountered:RuntimeWarning")
    @pytest.mark.parametrize("options", [{}, {"thresh": None, "min_kept": 1}], ids=str)
    def test_nan_where_the_value_is(self, library, options):
        logits, labels = make(ignored=0)
        logits[1, 2, 3, 4] = math.nan
        for found in gradients(library, logits, labels, **options):
            assert np.isnan(found[1, :, 3, 4]).all()
            assert np.isnan(found).sum() == logits.shape[1]

    def test_impossible_class(self, library):
        """A logit of -inf on another class is a probability of 0, with a gradient of 0."""
        logits, labels = make(ignored=0)
        logits[0, 0][labels[0] != 0] = -np.inf
        for found in gradients(library, logits, labels):
            assert np.all(np.isfinite(found))
            assert np.all(found[0, 0][labels[0] != 0] == 0)
