"""The mining alone, against the oracle, and differentiated by the libraries that can."""

import math
import re

import numpy as np
import pytest
from array_api_extra.testing import lazy_xp_function

from ohemloss import hard_mean
from tests._cases import TOLERANCE
from tests._reference import select

lazy_xp_function(hard_mean)


def expected_of(losses, where, thresh, min_kept):
    flat = [float(v) for v in np.ravel(losses)]
    pool = [True] * len(flat) if where is None else [bool(v) for v in np.ravel(where)]
    weights, _, _, count, _, _ = select(flat, pool, cut=math.inf if thresh is None else thresh, min_kept=min_kept)
    total = math.fsum(w * v for w, v in zip(weights, flat, strict=True) if w)
    return total / max(count, 1), np.reshape(weights, np.shape(losses)) / max(count, 1)


@pytest.fixture
def losses():
    return np.random.default_rng(5).normal(1.0, 2.0, size=(3, 4, 5)).astype(np.float32).astype(np.float64)


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize(
    ("thresh", "min_kept"), [(None, 1 / 16), (0.5, 0), (-1.0, 0.2), (3.0, 0.5), (None, 0), (None, 10**6)]
)
def test_value(library, float_dtype, losses, masked, thresh, min_kept):
    seen = library.numpy(library.asarray(losses, float_dtype)).astype(np.float64)
    where = losses < 2.5 if masked else None
    mask = None if where is None else library.asarray(where)
    value = hard_mean(library.asarray(losses, float_dtype), where=mask, thresh=thresh, min_kept=min_kept)
    rtol, atol = TOLERANCE[float_dtype]["value"]
    library.assert_close(value, expected_of(seen, where, thresh, min_kept)[0], rtol=rtol, atol=10 * atol)


def test_nan_reaches_the_value_unless_masked(library, losses):
    losses[0, 0, 0] = np.nan
    x = library.asarray(losses, "float32")
    library.assert_close(hard_mean(x, thresh=100.0, min_kept=0), np.nan)
    where = library.asarray(~np.isnan(losses))
    expected = expected_of(losses, ~np.isnan(losses), 1.0, 0)[0]
    library.assert_close(hard_mean(x, where=where, thresh=1.0, min_kept=0), expected, rtol=2e-6)


def test_infinite_losses_that_are_not_selected(library):
    losses = library.asarray(np.asarray([-np.inf, 2.0, 4.0, -np.inf]), "float32")
    library.assert_close(hard_mean(losses, min_kept=2), 3.0)
    library.assert_close(hard_mean(losses, min_kept=3), -np.inf)


@pytest.mark.parametrize(("thresh", "expected"), [(1e300, 3.0), (-1e300, 2.5)])
def test_threshold_beyond_the_dtype(library, thresh, expected):
    losses = library.asarray(np.asarray([2.0, 3.0]), "float32")
    library.assert_close(hard_mean(losses, thresh=thresh, min_kept=1), expected)


def test_nothing_counts(library, losses):
    where = library.asarray(np.zeros(losses.shape, bool))
    library.assert_close(hard_mean(library.asarray(losses, "float32"), where=where), 0.0)


def test_scalar(library):
    library.assert_close(hard_mean(library.asarray(np.asarray(3.0), "float32"), min_kept=1), 3.0)


class TestGradient:
    """Each selected element weighs its share; nothing else has a gradient."""

    CASES = [(None, 0.3), (1.0, 0), (4.0, 0.5)]  # noqa: RUF012

    @pytest.mark.parametrize(("thresh", "min_kept"), CASES)
    def test_torch(self, losses, thresh, min_kept):
        torch = pytest.importorskip("torch")
        x = torch.tensor(losses, requires_grad=True)
        hard_mean(x, where=x < 3.5, thresh=thresh, min_kept=min_kept).backward()
        expected = expected_of(losses, losses < 3.5, thresh, min_kept)[1]
        np.testing.assert_allclose(x.grad.numpy(), expected, rtol=1e-12)

    @pytest.mark.parametrize(("thresh", "min_kept"), CASES)
    def test_jax(self, losses, thresh, min_kept):
        jax = pytest.importorskip("jax")
        x = jax.numpy.asarray(losses, dtype="float32")
        grad = jax.grad(lambda x: hard_mean(x, where=x < 3.5, thresh=thresh, min_kept=min_kept))(x)
        np.testing.assert_allclose(grad, expected_of(losses, losses < 3.5, thresh, min_kept)[1], rtol=1e-6)


class TestErrors:
    def test_losses(self):
        with pytest.raises(TypeError, match=r"^`losses` must be an array of an array API library: got float\."):
            hard_mean(1.0)

    def test_dtype(self, library):
        with pytest.raises(TypeError, match=r"^`losses` must have a real floating dtype \(.*\): got .*int32"):
            hard_mean(library.asarray(np.ones(3), "int32"))

    def test_where(self, library, losses):
        x = library.asarray(losses, "float32")
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
