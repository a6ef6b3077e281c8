"""Memory layouts in host memory: gradients lie as their logits, resized or not; drawn calls."""

import contextlib
import itertools

import hypothesis
import hypothesis.strategies as st
import numpy as np
import pytest

import ohemloss
from tests._cases import MODES, REGIMES, make, make_small, wide
from tests.conformance._layouts import LAYOUTS, RESIZED, padded

from ._workers import WORKERS, check, cut, serving

# One of logits that are resized, whose labels lie as they are.
LAID = LAYOUTS | {"NHCW": lambda x, y: (np.ascontiguousarray(np.moveaxis(x, 1, 2)), y, 2)}


def order(array):
    """Give the axes that have an order in memory, the outermost first."""
    return sorted((i for i in range(array.ndim) if array.shape[i] > 1), key=lambda i: -abs(array.strides[i]))


def assert_lies_as(gradient, logits):
    """It is packed, in the order of axes of the logits."""
    assert gradient.flags.writeable
    if 0 not in logits.strides and logits.size:
        assert order(gradient) == order(logits)
        thin = [i for i in range(logits.ndim) if logits.shape[i] == 1]
        assert gradient.transpose(thin + order(gradient)).flags.c_contiguous


@pytest.mark.parametrize(
    ("layout", "resize"), [*itertools.product(LAYOUTS, [None]), *itertools.product([*RESIZED, "NHCW"], ["bilinear"])]
)
def test_gradient_lies_as_the_logits(worker, cut_small, layout, resize):
    for regime in ("40% hard", "3% hard"):  # memory that the system has zeroed, and memory that it has not
        logits, labels = make(regime, shape=(3, 7, 50), n_classes=6) if resize is None else make_small(regime)
        x, y, axis = LAID[layout](logits.astype(np.float32), labels)
        _, gradient = ohemloss.value_and_grad(x, y, axis=axis, resize=resize)
        assert_lies_as(gradient, x)
    if layout == "NHCW":
        check(x, y, axis=axis, resize=resize)
    if (layout, resize) == ("NHWC", "bilinear"):
        check(x[0], y[0], axis=axis, resize=resize)


@pytest.mark.parametrize("n_classes", [1, 2, 19, 64, 65, 150, 1000, 1500])
def test_classes_of_a_crop(worker, monkeypatch, n_classes):
    """Sizes that do not divide those of the blocks, which have many pixels."""
    cut(monkeypatch, block=97 * n_classes // 5, chunk=301 * n_classes // 5, threads=1)
    shape = (2, 11, 37) if n_classes < 100 else (2, 3, 43) if n_classes < 1100 else (1, 1, 401)
    logits, labels = make("95% hard", shape=shape, n_classes=max(n_classes, 2))
    labels = np.where(labels == 255, 5000, labels % n_classes)
    x, y, _ = LAYOUTS["crop"](logits[:, :n_classes].astype(np.float32), labels)
    check(x, y, ignore_index=5000)


OPTIONS = st.fixed_dictionaries(
    {
        "thresh": st.sampled_from([0.7, None, 0.9, 1.0, 0.0]),
        "min_kept": st.sampled_from([0, 1, 7, 1 / 16, 0.5, 1.0]),
        "reduction": st.sampled_from(["mean", "sum"]),
        "label_smoothing": st.sampled_from([0.0, 0.0, 0.1]),
    }
)


@st.composite
def calls(draw):
    shape = tuple(draw(st.lists(st.integers(1, 9), min_size=0, max_size=3)))
    n_classes = draw(st.sampled_from([2, 3, 5, 19, 70]))
    logits, labels = make(draw(st.sampled_from(list(REGIMES))), (1, *shape), n_classes, seed=draw(st.integers(0, 99)))
    logits, labels = logits[0], np.array(labels[0])
    dtype = draw(st.sampled_from(["float16", "float32", "float64"]))
    memory = draw(st.permutations(range(logits.ndim)))
    where = draw(st.integers(0, len(shape)))
    x = np.ascontiguousarray(logits.astype(dtype).transpose(memory)).transpose(np.argsort(memory))
    x = np.moveaxis(x, 0, where)
    if draw(st.booleans()):
        x = padded(x, draw(st.integers(0, x.ndim - 1)), 1, 2)
    rng = np.random.default_rng(draw(st.integers(0, 99)))
    options = {"axis": where, **draw(OPTIONS), "reduction": draw(st.sampled_from(["mean", "sum", "none"]))}
    if draw(st.booleans()):
        options["weight"] = rng.uniform(0.2, 3, n_classes).astype(wide(dtype))
    if draw(st.booleans()):
        broadcast = [1 if draw(st.booleans()) else length for length in shape]
        options["pixel_weight"] = rng.uniform(0.2, 2, broadcast).astype(wide(dtype))
    return x, labels, {"block": 40, "chunk": 60, "threads": 3}, options


@st.composite
def resized_calls(draw):
    n_resized = draw(st.integers(1, 3))
    largest = {1: 30, 2: 8, 3: 4}[n_resized]
    small = (draw(st.integers(1, 2)), 5, *(draw(st.integers(1, largest)) for _ in range(n_resized)))
    size = tuple(draw(st.integers(1, largest + 3)) for _ in range(n_resized))
    options = {"resize": MODES[n_resized], "align_corners": draw(st.booleans()), **draw(OPTIONS)}
    regime, seed = draw(st.sampled_from(list(REGIMES))), draw(st.integers(0, 99))
    logits, labels = make_small(regime, small, size, align_corners=options["align_corners"], seed=seed)
    sizes = {"chunk": draw(st.integers(1, 60)), "block": draw(st.integers(1, 40)), "threads": draw(st.integers(1, 3))}
    return logits.astype(draw(st.sampled_from(["float16", "float32", "float64"]))), labels, sizes, options


def check_both(call):
    x, labels, sizes, options = call
    for worker in WORKERS:
        with contextlib.suppress(pytest.skip.Exception), serving(worker), pytest.MonkeyPatch.context() as patch:
            cut(patch, **sizes)
            check(x, labels, **options)


@hypothesis.given(calls())
@hypothesis.settings(max_examples=60, deadline=None, derandomize=True)
def test_drawn_calls(call):
    check_both(call)


@hypothesis.given(resized_calls())
@hypothesis.settings(max_examples=40, deadline=None, derandomize=True)
def test_drawn_resized_calls(call):
    check_both(call)
