"""The mining alone, against the oracle, and differentiated by the libraries that can."""

import math
import re

import numpy as np
import pytest
from array_api_extra.testing import lazy_xp_function

from ohemloss import hard_mean
from tests._cases import tolerance
from tests._reference import select

lazy_xp_function(hard_mean)


def expected_of(losses, where, thresh, min_kept):
    flat = [float(v) for v in np.ravel(losses)]
    pool = [True] * len(flat) if where is None else [bool(v) for v in np.ravel(where)]
    weights, _, _, count, _, _ = select(flat, pool, cut=math.inf if thresh is None else thresh, min_kept=min_kept)
    total = math.fsum(w * v for w, v in zip(weights, flat, strict=True) if w)
    return total / max(count, 1), np.reshape(weights, np.shape(losses)) / max(count, 1)


LOSSES = np.random.default_rng(5).normal(1.0, 2.0, size=(3, 4, 5)).astype(np.float32).astype(np.float64)


@pytest.mark.every_library
@pytest.mark.rows(
    "masked, thresh, min_kept",
    [
        (True, 3.0, 0.5),
        *(
            (masked, *options)
            for options in ((None, 1 / 16), (0.5, 0), (-1.0, 0.2), (3.0, 0.5), (None, 0), (None, 10**6))
            for masked in (False, True)
        ),
    ],
)
def test_value_and_gradient(library, float_dtype, masked, thresh, min_kept):
    """Each selected element weighs its share; nothing else has a gradient."""
    x = library.asarray(LOSSES, float_dtype)
    where = LOSSES < 2.5 if masked else None
    mask = None if where is None else library.asarray(where)
    call = lambda x: hard_mean(x, where=mask, thresh=thresh, min_kept=min_kept)
    value, gradient = expected_of(library.numpy(x).astype(np.float64), where, thresh, min_kept)
    close = tolerance(float_dtype, "value")
    library.assert_close(call(x), value, rtol=close["rtol"], atol=10 * close["atol"])
    differentiate = library.differentiate(call)
    if differentiate is not None:
        close = {"rtol": 1e-6} if float_dtype == "float32" else tolerance(float_dtype, "gradient")
        library.assert_close(differentiate(x), gradient, **close)


@pytest.mark.rows(
    "losses, expected, options",
    [
        ([-np.inf, 2.0, 4.0, -np.inf], 3.0, {"min_kept": 2}),
        ([-np.inf, 2.0, 4.0, -np.inf], -np.inf, {"min_kept": 3}),
        ([2.0, 3.0], 3.0, {"thresh": 1e300, "min_kept": 1}),
        ([2.0, 3.0], 2.5, {"thresh": -1e300, "min_kept": 1}),
        (3.0, 3.0, {"min_kept": 1}),
        ([np.nan, 2.0], np.nan, {"thresh": 100.0, "min_kept": 0}),
        ([np.nan, 2.0], 2.0, {"thresh": 1.0, "min_kept": 0, "where": np.asarray([False, True])}),
        ([1.0, 2.0], 0.0, {"where": np.asarray([False, False])}),
    ],
)
def test_edges(library, losses, expected, options):
    """Infinity that is not selected, a threshold beyond the dtype, a scalar, NaN unless masked, and nothing."""
    arrays = {name: library.asarray(option) for name, option in options.items() if name == "where"}
    library.assert_close(hard_mean(library.asarray(losses, "float32"), **{**options, **arrays}), expected)


class TestErrors:
    def test_losses(self):
        with pytest.raises(TypeError, match=r"^`losses` must be an array of an array API library: got float\."):
            hard_mean(1.0)

    def test_dtype(self, library):
        with pytest.raises(TypeError, match=r"^`losses` must have a real floating dtype \(.*\): got .*int32"):
            hard_mean(library.asarray(np.ones(3), "int32"))

    def test_where(self, library):
        x = library.asarray(LOSSES, "float32")
        with pytest.raises(TypeError, match=r"^`where` must have a boolean dtype \(.*bool.*\): got .*float32"):
            hard_mean(x, where=x)
        message = "`where` must have the shape of `losses`: got where.shape=(3, 4), losses.shape=(3, 4, 5)."
        with pytest.raises(ValueError, match=f"^{re.escape(message)}"):
            hard_mean(x, where=library.asarray(np.ones((3, 4), bool)))

    def test_options(self):
        x = np.ones(3)
        with pytest.raises(ValueError, match=r"^`min_kept` as a count must not be negative: got -1\.$"):
            hard_mean(x, min_kept=-1)
        with pytest.raises(
            ValueError, match=r"^`thresh` must lie in \[-inf, inf\], or None for no threshold: got nan\.$"
        ):
            hard_mean(x, thresh=math.nan)
