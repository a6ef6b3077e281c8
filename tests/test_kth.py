"""The k-th largest by counting, against a sort."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from ohemloss import _kth
from ohemloss._engine import Engine
from ohemloss._steps import plain_engine
from ohemloss._validation import engine_for, find_library

TINY = {"float32": 2.0**-149, "float64": 2.0**-1074}
HUGE = {"float32": float(np.finfo(np.float32).max), "float64": float(np.finfo(np.float64).max)}
RANDOM = np.random.default_rng(3).normal(size=257)
SCORES = {
    "NaN": [1.0, math.nan, -2.0, math.inf, -math.nan],
    "random": RANDOM,
    "tiny": RANDOM * 1e-30,
    "large": RANDOM * 1e30,
    "of three axes": RANDOM[:24].reshape(2, 3, 4),
}


def edges(dtype):
    return [0.0, -0.0, 1.0, -1.0, math.inf, -math.inf, 1.5, 1.5, HUGE[dtype], -HUGE[dtype], 2.0**-126, 3e-5, -7.25]


def check(library, dtype, scores, ranks):
    """Compare the counting, and what the backend of the library does instead, with a sort; NaN ranks first."""
    x = library.asarray(scores, dtype)
    engine = engine_for(find_library("scores", x), x)
    expected = np.sort(np.ravel(np.asarray(scores, dtype)))[::-1]
    for step in dict.fromkeys([_kth.kth_largest, engine.kth_largest]):
        for k in ranks:
            n = library.asarray(np.asarray(k))
            answer = step(engine, x, n, n == n)
            assert library.numpy(answer).item() == expected[k - 1], (step, k)


@pytest.mark.every_library
@pytest.mark.rows(
    "name, ranks",
    [
        ("edges", (2, 7, 13)),
        ("edges", range(1, 14)),
        ("NaN", (3, 4, 5)),
        ("random", (1, 2, 128, 257)),
        ("tiny", (1, 2, 128, 257)),
        ("large", (1, 2, 128, 257)),
        ("of three axes", (5,)),
    ],
)
def test_rank(library, name, ranks):
    dtype = library.floats[-1]
    check(library, dtype, edges(dtype) if name == "edges" else SCORES[name], ranks)


@pytest.mark.skip_library("jax", "mlx", reason="flushes subnormal numbers to zero")
def test_subnormal(library):
    dtype = library.floats[-1]
    check(library, dtype, [3 * TINY[dtype], 0.0, TINY[dtype], 2.0**-126, -TINY[dtype]], range(1, 6))


def test_any_floats(library):
    """Draw arrays of one size: some libraries compile each."""
    floats = st.floats(width=32, allow_nan=False, allow_subnormal=False)

    @settings(max_examples=25)
    @given(scores=hnp.arrays(np.float32, 19, elements=floats), k=st.integers(1, 19))
    def check_any(scores, k):
        check(library, "float32", scores, [k])

    check_any()


def test_not_needed(library):
    """The answer has no meaning then, but has the type of an answer."""
    scores = library.asarray([1.0, 2.0], library.floats[-1])
    engine = engine_for(find_library("scores", scores), scores)
    k = library.asarray(np.asarray(1))
    answer = engine.kth_largest(engine, scores, k, k != k)
    assert answer.ndim == 0
    assert answer.dtype == scores.dtype


def test_number_of_counts(monkeypatch):
    """The sign and the size, then one count for each bit of a float."""
    import array_api_strict as xp

    counts = []
    count = Engine.count
    monkeypatch.setattr(Engine, "count", lambda self, *args: counts.append(1) or count(self, *args))
    for dtype, bits in ((xp.float32, 31), (xp.float64, 63)):
        counts.clear()
        _kth.kth_largest(plain_engine(xp), xp.ones(3, dtype=dtype), xp.asarray(2), xp.asarray(True))
        assert len(counts) == bits + 2
