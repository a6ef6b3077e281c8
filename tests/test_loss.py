"""What the table of cases does not show of the loss: a million terms of a sum, drawn calls, and the same bits again."""

import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

import ohemloss
from tests._cases import REGIMES, make, tolerance
from tests.conformance._case import Case
from tests.conformance._check import check
from tests.conformance._path import everything
from tests.conformance._paths import paths

PATHS = {path.id: path for path in paths()}
# How many draws each path gets: few where each compiles a program or builds a graph.
DRAWS = {
    **dict.fromkeys(("numpy blocks", "numpy machine code"), 60),
    **dict.fromkeys(("strict", "torch", "torch-cuda", "cupy-cuda", "cuda c"), 40),
    **dict.fromkeys(("torch machine code", "torch func", "mlx"), 20),
    **dict.fromkeys(("dask", "triton"), 8),
    "jax eager": 4,
}


@pytest.mark.only_library("numpy", "strict", "torch", "torch-cuda", "jax", "jax-cuda", "cupy-cuda", "dask", "mlx")
@pytest.mark.every_library
def test_sums_lose_no_digits(library):
    """A million equal losses: their mean is one of them. Added in a row it would be wrong in the fourth digit."""
    for shape in ((2**20 + 77,), (3, 1100, 300)):
        x = library.asarray(np.zeros((shape[0], 2, *shape[1:]), np.float32))
        y = library.asarray(np.zeros(shape, np.int64))
        one = ohemloss.ohem_cross_entropy(x[:1, ...], y[:1, ...], reduction="none")
        value = ohemloss.ohem_cross_entropy(x, y)
        library.assert_close(value, library.numpy(one).flat[0], **tolerance("float32", "value"))


@st.composite
def cases(draw, path):
    """Draw shapes, shares of hard pixels, and options, of which no two losses are close enough to be swapped."""
    shape = tuple(draw(st.lists(st.integers(1, 4), min_size=1, max_size=3)))
    n_classes, seed = draw(st.integers(2, 6)), draw(st.integers(0, 2**32 - 1))
    optional = {
        "thresh": st.one_of(st.none(), st.floats(0, 1)),
        "min_kept": st.one_of(st.integers(0, 70), st.just(0.0), st.floats(2**-20, 1)),
        "label_smoothing": st.floats(0, 1),
        "reduction": st.sampled_from(["mean", "sum"]),
    }
    options = draw(st.fixed_dictionaries({}, optional=optional))
    logits, labels = make(
        draw(st.sampled_from(list(REGIMES))),
        shape=shape,
        n_classes=n_classes,
        ignored=draw(st.sampled_from([0.0, 0.3, 1.0])),
        seed=seed,
        dtype="float32",
    )
    if draw(st.booleans()):
        rng = np.random.default_rng(seed)
        options["weight"] = tuple(np.round(rng.uniform(0, 3, n_classes), 2).tolist())
        options["pixel_weight"] = rng.uniform(0, 2, shape).astype(np.float32)
    case = Case("drawn", "", logits, labels, options)
    dtype = draw(st.sampled_from([dtype for dtype in ("float32", "float64") if dtype in path.library.floats]))
    assume(path.takes(case, dtype))
    # A loss that rounds to the other side of the threshold is another selection: such inputs say nothing.
    steps, cut = case.expected.steps, -math.log(options.get("thresh", 0.7) or 1e-300)
    gaps = np.diff(np.sort(steps.pixel_loss[steps.valid]))
    assume(np.all(np.abs(steps.pixel_loss - cut) > 1e-5 * (1 + cut)) and np.all((gaps == 0) | (gaps > 1e-5)))
    return case, dtype


@pytest.mark.parametrize(
    "path",
    [pytest.param(path, id=path.id, marks=path.marks) for path in PATHS.values() if path.id in DRAWS],
)
def test_drawn_calls(path):
    if path.id in ("torch func", "jax eager", "dask"):  # which take every call, but few rows of the table
        path = replace(path, takes=everything)

    @settings(max_examples=DRAWS[path.id])
    @given(cases(path))
    def compare(drawn):
        case, dtype = drawn
        with path.ready(case):
            check(path, case, dtype)

    compare()


@pytest.mark.parametrize(
    "path",
    [
        pytest.param(path, id=path.id, marks=path.marks)
        for path in PATHS.values()
        if path.id not in ("ndonnx", "torch ranks")
    ],
)
def test_same_bits_again(path):
    case = Case("regimes", "again", *make("3% hard", dtype="bfloat16"))
    answers = []
    with path.ready(case):
        for _ in range(2):
            arrays = [array for _, *found in path.answers(case, "float32") for array in found if array is not None]
            answers.append([path.library.numpy(array).tobytes() for array in arrays])
    assert answers[0] == answers[1]


def test_value_and_grad_refuses_a_map():
    x = np.zeros((1, 2), np.float32)
    with pytest.raises(ValueError, match=r"`reduction` of value_and_grad must be 'mean' or 'sum'.*got 'none'"):
        ohemloss.value_and_grad(x, np.zeros(1, np.int64), reduction="none")
