"""`thresh` and `min_kept` as arrays: they may change from step to step without another program."""

import math
import re
from fractions import Fraction

import numpy as np
import pytest
from array_api_extra.testing import lazy_xp_function

from ohemloss import OhemCELoss, explain, hard_mean, ohem_cross_entropy, value_and_grad
from tests._cases import make
from tests._oracle import expect

lazy_xp_function(value_and_grad)
lazy_xp_function(hard_mean)


def scalar(library, value, dtype):
    return library.asarray(np.asarray(value, dtype), dtype)


def test_criterion_and_trace(library):
    logits, labels = make("40% hard")
    x, y = library.asarray(logits, "float32"), library.asarray(labels)
    criterion = OhemCELoss(thresh=scalar(library, 0.5, "float32"), min_kept=scalar(library, 3, library.label_dtype))
    trace = criterion.explain(x, y)
    library.assert_close(trace.thresh, math.log(2), rtol=1e-6)
    assert int(library.numpy(trace.n_min)) == 3
    library.assert_close(criterion(x, y), expect(logits, labels, thresh=0.5, min_kept=3).value, rtol=2e-6)


@pytest.mark.every_library
def test_hard_mean(library):
    losses = library.asarray(np.asarray([-1.0, 2.0, 0.5, 4.0]), "float32")
    for thresh, min_kept, expected in ((-2.0, 0.0, 1.375), (1.0, 0.0, 3.0), (9.0, 0.5, 3.0), (9.0, 0.25, 4.0)):
        options = {"thresh": scalar(library, thresh, "float32"), "min_kept": scalar(library, min_kept, "float32")}
        library.assert_close(hard_mean(losses, **options), expected, rtol=1e-6)


WRONG = [
    ({"thresh": 1.5}, "`thresh` must lie in [0, 1]: got 1.5."),
    ({"thresh": -0.5}, "`thresh` must lie in [0, 1]: got -0.5."),
    ({"thresh": math.nan}, "`thresh` must lie in [0, 1]: got nan."),
    ({"min_kept": 1.5}, "`min_kept` must lie in [0, 1]: got 1.5."),
    ({"min_kept": -1}, "`min_kept` as a count must not be negative: got -1."),
]


@pytest.mark.every_library
@pytest.mark.rows("wrong, message", WRONG)
def test_out_of_range(library, wrong, message):
    """An error where the host may look, NaN where not, and never a number."""
    logits, labels = make("40% hard")
    x, y = library.asarray(logits, "float32"), library.asarray(labels)
    ((name, value),) = wrong.items()
    option = {name: scalar(library, value, library.label_dtype if isinstance(value, int) else "float32")}
    if library.host:
        with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
            value_and_grad(x, y, **option)
        return
    value, grad = value_and_grad(x, y, **option)
    assert np.isnan(library.numpy(value))
    rows = np.moveaxis(library.numpy(grad), 1, -1)
    assert np.isnan(rows[labels != 255]).all()
    assert np.all(rows[labels == 255] == 0)
    if name == "min_kept":
        assert np.isnan(library.numpy(hard_mean(x, **option)))


def test_nan_threshold_of_hard_mean(library):
    losses, thresh = library.asarray(np.ones(4), "float32"), scalar(library, math.nan, "float32")
    if library.host:
        with pytest.raises(ValueError, match=r"`thresh` must lie in \[-inf, inf\]: got nan"):
            hard_mean(losses, thresh=thresh)
    else:
        assert np.isnan(library.numpy(hard_mean(losses, thresh=thresh)))


REAL = "must have a real floating"


@pytest.mark.parametrize(
    ("option", "error", "message"),
    [
        ({"thresh": np.ones(1, np.float32)}, ValueError, r"must be a number or a 0-d array: got thresh\.shape=\(1,\)"),
        ({"min_kept": np.ones((2, 1), np.int32)}, ValueError, r"must be .*: got min_kept\.shape=\(2, 1\)"),
        ({"thresh": np.asarray(1, np.int32)}, TypeError, f"{REAL} dtype .*: got .*int32"),
        ({"min_kept": np.asarray(True)}, TypeError, f"{REAL} or an integer dtype .*: got .*bool"),
    ],
    ids=str,
)
def test_refused(library, option, error, message):
    ((name, value),) = option.items()
    logits, labels = make("40% hard")
    x, y = library.asarray(logits, "float32"), library.asarray(labels)
    option = {name: library.asarray(value, str(value.dtype))}
    for function, arrays in ((ohem_cross_entropy, (x, y)), (explain, (x, y)), (hard_mean, (x,))):
        with pytest.raises(error, match=f"`{name}` {message}"):
            function(*arrays, **option)


def test_threshold_is_not_rounded_to_the_dtype_of_the_losses():
    logits = np.asarray([[0.0, 300.0]], np.float32)
    value = ohem_cross_entropy(logits, np.zeros(1, np.int64), thresh=np.asarray(1e-60), min_kept=0)
    np.testing.assert_allclose(value, 300.0, rtol=1e-6)


def test_of_another_library():
    xp = pytest.importorskip("array_api_strict")
    logits, labels = make("40% hard")
    with pytest.raises(
        TypeError, match="`thresh` must come from the library of `logits`: got logits from numpy and thresh"
    ):
        ohem_cross_entropy(logits, labels, thresh=xp.asarray(0.5))
    with pytest.raises(TypeError, match="`min_kept` must come from the library of `losses`"):
        hard_mean(logits, min_kept=xp.asarray(0.5))


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_fraction_is_that_of_the_number(dtype):
    """Rounded down, though 0.7 is no float and its product with 10 is below 7 in some of them."""
    fractions = [Fraction(p, q) for q in (2, 3, 5, 7, 10, 16, 100) for p in range(1, q + 1)]
    for n in (1, 9, 10, 32, 1000, 4099, 131072):
        losses = np.arange(n, dtype=np.float32)
        for fraction in fractions[:: 1 if n < 5000 else 17]:
            kept = math.floor(fraction * n)
            expected = losses[n - kept :].mean(dtype=np.float64) if kept else 0.0
            actual = hard_mean(losses, min_kept=np.asarray(float(fraction), dtype))
            np.testing.assert_allclose(actual, expected, rtol=1e-6, err_msg=f"{fraction} of {n}")
