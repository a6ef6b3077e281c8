"""The mining, its steps and `hard_mean`, against the oracle."""

import math
from fractions import Fraction

import numpy as np
import pytest
from array_api_extra.testing import lazy_xp_function
from hypothesis import example, given, settings
from hypothesis import strategies as st

from ohemloss import hard_mean
from ohemloss._fractions import floor_of_product
from ohemloss._mining import Quota, hard_of, mine, weigh
from ohemloss._tally import tally
from ohemloss._validation import engine_for, find_library
from tests._cases import tolerance
from tests._reference import select

lazy_xp_function(hard_mean)


def run(library, scores, pool, quota):
    x, mask = library.asarray(scores, "float32"), library.asarray(np.asarray(pool, bool))
    engine = engine_for(find_library("scores", x), x)
    tallied = tally(engine, mask, None, mask, hard_of(engine, x, mask, quota), quota.axes)
    mined = mine(engine, x, mask, quota, tallied)
    return mined, weigh(engine, x, mask, mined.cut)


def check(library, scores, pool, *, cut, min_kept):
    mined, weights = run(library, scores, pool, Quota(cut=cut, min_kept=min_kept))
    scores = np.asarray(scores, np.float32)
    expected, value, share, count, n_min, n_hard = select(
        [float(v) for v in scores], pool, cut=float(np.float32(cut)), min_kept=min_kept
    )
    library.assert_close(weights, expected, rtol=1e-6)
    numbers = [library.numpy(v).item() for v in (mined.cut.count, mined.n_pool, mined.n_min, mined.n_hard)]
    assert numbers == [count, sum(pool), n_min, n_hard]
    assert library.numpy(mined.cut.value).item() == float(np.float32(value))
    assert library.numpy(mined.cut.tie_weight).item() == pytest.approx(share, rel=1e-6)
    np.testing.assert_allclose(library.numpy(weights).sum(), count, rtol=1e-5)


SCORES = [0.5, 1.0, 1.0, 3.0, 2.0, 2.0, -4.0, 0.0, -0.0]
ALL = [True] * 9
SOME = [True, False, True, False, True, True, False, True, True]
INF, NAN = math.inf, math.nan


ROWS = [
    (SCORES, SOME, 1.0, 4),
    *(
        (SCORES, pool, *options)
        for options in (
            *((1.0, 0), (1.0, 1), (1.0, 4), (INF, 0), (INF, 3), (-1.0, 2), (2.0, 0.5), (INF, 1.0), (INF, 1 / 16)),
            *((9.0, 100), (5.0, 2**70)),
        )
        for pool in (ALL, SOME)
    ),
    ([INF, 1.0, -INF, INF], ALL[:4], INF, 1),
    ([INF, 1.0, -INF, INF], ALL[:4], 5.0, 0),
    ([-INF, -INF, 1.0, -INF], [True, True, True, False], 5.0, 2),
    ([-INF, 2.0, 4.0, -INF], ALL[:4], INF, 2),
    ([-INF, 2.0, 4.0, -INF], ALL[:4], INF, 3),
    ([NAN, 1.0, 0.5], ALL[:3], INF, 0),
    ([NAN, 1.0, 0.5], ALL[:3], INF, 2),
    ([NAN, 1.0, 0.5], [False, True, True], INF, 1),
    ([1.0, 2.0], [False, False], 0.5, 1),
]


@pytest.mark.every_library
@pytest.mark.rows("scores, pool, cut, min_kept", ROWS)
def test_selection(library, scores, pool, cut, min_kept):
    check(library, scores, pool, cut=cut, min_kept=min_kept)


@pytest.mark.every_library
@pytest.mark.rows("scores, pool, cut, min_kept", ROWS)
def test_hard_mean(library, float_dtype, scores, pool, cut, min_kept):
    """Each selected element weighs its share; nothing else has a gradient."""
    x, where = library.asarray(scores, float_dtype), None if all(pool) else library.asarray(np.asarray(pool))
    call = lambda x: hard_mean(x, where=where, thresh=None if cut == INF else cut, min_kept=min_kept)
    weights, _, _, count, *_ = select(scores, pool, cut=cut, min_kept=min_kept)
    mean = sum(w * v for w, v in zip(weights, scores, strict=True) if w) / max(count, 1)
    library.assert_close(call(x), mean, **tolerance(float_dtype, "value"))
    differentiate = library.differentiate(call)
    if differentiate is not None:
        close = {"rtol": 1e-6} if float_dtype == "float32" else tolerance(float_dtype, "gradient")
        library.assert_close(differentiate(x), np.asarray(weights) / max(count, 1), **close)


@pytest.mark.rows("losses, thresh, expected", [([2.0, 3.0], 1e300, 3.0), ([2.0, 3.0], -1e300, 2.5), (3.0, None, 3.0)])
def test_threshold_beyond_the_dtype_and_a_scalar(library, losses, thresh, expected):
    library.assert_close(hard_mean(library.asarray(losses, "float32"), thresh=thresh, min_kept=1), expected)


def test_any_scores(library):
    """Draw arrays of one size: some libraries compile each."""
    score = st.sampled_from([0.0, 0.25, 0.5, 1.0, 3.0, -1.0, INF, NAN])

    @settings(max_examples=25)
    @given(
        elements=st.lists(st.tuples(score, st.booleans()), min_size=12, max_size=12),
        cut=st.sampled_from([0.25, 0.3, 2.0, INF]),
        min_kept=st.one_of(st.integers(0, 15), st.sampled_from([0.0, 0.1, 1 / 16, 0.7, 1 / 3, 1.0])),
    )
    def check_any(elements, cut, min_kept):
        scores, pool = zip(*elements, strict=True)
        check(library, list(scores), list(pool), cut=cut, min_kept=min_kept)

    check_any()


class TestFloorOfProduct:
    """The number of places is the same on every library, also where integers have 32 bits."""

    @pytest.mark.parametrize(
        ("fraction", "n", "expected"), [(0.7, 10, 7), (0.29, 100, 29), (1 / 3, 3, 1), (1 / 16, 31, 1)]
    )
    def test_what_a_person_expects(self, fraction, n, expected):
        assert floor_of_product(n, fraction) == expected

    @settings(max_examples=100)
    @given(n=st.integers(0, 2**31 - 1), fraction=st.floats(0, 1))
    @example(n=2**31 - 1, fraction=1 - 2**-20)
    @example(n=2**31 - 1, fraction=2**-20)
    def test_exact_and_within_32_bits(self, n, fraction):
        ratio = Fraction(fraction).limit_denominator(2**20)
        assert int(floor_of_product(_Int32(n), fraction)) == math.floor(n * ratio)


class _Int32(int):
    """An integer that refuses to be more than 31 bits long."""

    def __new__(cls, value):
        assert abs(int(value)) < 2**31, f"{value} does not fit"
        return super().__new__(cls, value)

    def __add__(self, other):
        return _Int32(int(self) + int(other))

    def __mul__(self, other):
        return _Int32(int(self) * int(other))

    def __floordiv__(self, other):
        return _Int32(int(self) // int(other))

    def __mod__(self, other):
        return _Int32(int(self) % int(other))
