"""The k-th largest by counting, against a sort."""

import math
from itertools import product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from ohemloss import _kth
from ohemloss._engine import Engine
from ohemloss._validation import engine_for, find_library

TINY = {"float32": 2.0**-149, "float64": 2.0**-1074}
HUGE = {"float32": float(np.finfo(np.float32).max), "float64": float(np.finfo(np.float64).max)}


def search(library, scores, k, dtype, step):
    """Run one search."""
    scores = library.asarray(scores, dtype)
    engine = engine_for(find_library("scores", scores), scores)
    n = engine.arange(k + 1)[k]
    needed = n == n
    return library.numpy(step(engine, scores, n, needed)).item()


@pytest.fixture
def steps(library):
    """The search in array API operations, and what the backend of the library does instead, if it does."""
    scores = library.asarray(np.zeros(1), "float32")
    return list(dict.fromkeys([_kth.kth_largest, find_library("scores", scores).backend.kth_largest]))


@pytest.fixture
def wide(library):
    return library.floats[-1]


def values_with_every_edge(dtype):
    edges = [0.0, -0.0, 1.0, -1.0, math.inf, -math.inf, 1.5, 1.5, HUGE[dtype], -HUGE[dtype], 2.0**-126, 3e-5, -7.25]
    return np.asarray(edges)


def test_edges(library, wide, steps):
    values = values_with_every_edge(wide)
    expected = np.sort(np.asarray(values, wide))[::-1]
    for step, k in product(steps, range(1, len(values) + 1, library.stride)):
        assert search(library, values, k, wide, step) == expected[k - 1]


@pytest.mark.skip_library("jax", "mlx", reason="flushes subnormal numbers to zero")
def test_subnormal(library, wide, steps):
    values = [3 * TINY[wide], 0.0, TINY[wide], 2.0**-126, -TINY[wide]]
    expected = sorted(values, reverse=True)
    for step, k in product(steps, (1, 2, 3, 4, 5)):
        assert search(library, values, k, wide, step) == expected[k - 1]


def test_nan_ranks_above_everything(library, wide, steps):
    values = [1.0, math.nan, -2.0, math.inf, -math.nan]
    for step, (k, expected) in product(steps, [(3, math.inf), (4, 1.0), (5, -2.0)]):
        assert search(library, values, k, wide, step) == expected


@pytest.mark.parametrize("scale", [1.0, 1e-30, 1e30])
def test_random(library, wide, steps, scale):
    values = np.random.default_rng(3).normal(size=257) * scale
    expected = np.sort(np.asarray(values, wide))[::-1]
    for step, k in product(steps, (1, 2, 128, 257)):
        assert search(library, values, k, wide, step) == expected[k - 1]


def test_any_floats(library, steps):
    floats = st.floats(width=32, allow_nan=False, allow_subnormal=False)

    @settings(max_examples=library.examples)
    @given(values=hnp.arrays(np.float32, st.integers(1, 40), elements=floats), data=st.data())
    def check(values, data):
        k = data.draw(st.integers(1, values.size))
        for step in steps:
            assert search(library, values, k, "float32", step) == np.sort(values)[::-1][k - 1]

    check()  # pyright: ignore[reportCallIssue]


def test_shape_does_not_matter(library, wide, steps):
    values = np.random.default_rng(3).normal(size=(2, 3, 4))
    for step in steps:
        assert search(library, values, 5, wide, step) == np.sort(np.asarray(values, wide).ravel())[-5]


def test_not_needed(library, wide):
    """The answer has no meaning then, but has the type of an answer."""
    scores = library.asarray([1.0, 2.0], wide)
    engine = engine_for(find_library("scores", scores), scores)
    k = engine.arange(2)[1]
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
        _kth.kth_largest(Engine(xp=xp), xp.ones(3, dtype=dtype), xp.asarray(2), xp.asarray(True))
        assert len(counts) == bits + 2
