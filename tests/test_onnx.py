"""The composite on ndonnx arrays is an ONNX model."""

import numpy as np
import pytest

import ohemloss
from tests._cases import REGIMES, gradient_tolerance, make, tolerance
from tests._oracle import expect

ndx = pytest.importorskip("ndonnx")
onnxruntime = pytest.importorskip("onnxruntime")

SHAPES = [(2, 6, 7), (1, 4, 5), (3, 30, 41)]


@pytest.fixture(scope="module")
def arguments():
    """Names in place of sizes: they are known when the model runs."""
    logits = ndx.argument(shape=("N", 5, "H", "W"), dtype=ndx.float32)
    return {"logits": logits, "labels": ndx.argument(shape=("N", "H", "W"), dtype=ndx.int64)}


def export(inputs, **options):
    """Export value and gradient, and load what was exported."""
    arrays = {name: inputs[name] for name in inputs if name not in ("logits", "labels")}
    loss, grad = ohemloss.value_and_grad(inputs["logits"], inputs["labels"], **arrays, **options)
    model = ndx.build(inputs, {"loss": loss, "gradient": grad})
    return onnxruntime.InferenceSession(model.SerializeToString())


@pytest.fixture(scope="module")
def session(arguments):
    return export(arguments)


def check(session, logits, labels, feeds=None, **options):
    """Run a model, and compare with the oracle; return gradient, what was expected, and the tolerance."""
    feeds = {"logits": logits.astype(np.float32), "labels": labels, **(feeds or {})}
    value, grad = session.run(None, feeds)
    expected = expect(logits, labels, **options)
    close = gradient_tolerance("float32", expected.steps)
    np.testing.assert_allclose(value, expected.value, **tolerance("float32", "value"))
    np.testing.assert_allclose(grad, expected.gradient, **close)
    return grad, expected.gradient, close


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("regime", REGIMES)
def test_value_and_gradient(session, shows, shape, regime):
    grad, expected, close = check(session, *make(regime, shape=shape, dtype="float32"))
    shows("ndonnx", "export", grad, expected, **close)


def test_nothing_selected_and_a_label_out_of_range(session):
    logits, labels = make(dtype="float32")
    check(session, logits, np.full_like(labels, 255))
    labels[0, 0, 0] = 7
    check(session, logits, labels)


def test_threshold_and_count_as_inputs(arguments):
    """One model for every value: annealing without another export."""
    scalars = {"thresh": ndx.argument(shape=(), dtype=ndx.float32), "min_kept": ndx.argument(shape=(), dtype=ndx.int64)}
    session = export({**arguments, **scalars})
    for thresh, min_kept in ((0.7, 5), (0.25, 30), (1.0, 0)):
        options = {"thresh": np.asarray(thresh, np.float32), "min_kept": np.asarray(min_kept)}
        check(session, *make("40% hard", dtype="float32"), options, **options)


@pytest.mark.parametrize(
    "rule", [{"per_image": "mean", "pool": "all"}, {"per_image": "select"}, {"normaliser": "images"}], ids=str
)
def test_rules_with_an_open_number_of_images(arguments, rule):
    options = {"rule": ohemloss.MiningRule(**rule), "min_kept": lambda counts: 2 * counts.images, "thresh": None}
    session = export(arguments, **options)
    for shape in SHAPES[:2]:
        check(session, *make("40% hard", shape=shape, dtype="float32"), **options)
