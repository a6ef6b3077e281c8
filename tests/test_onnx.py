"""The composite on ndonnx arrays is an ONNX model."""

import numpy as np
import pytest

import ohemloss
from tests._cases import REGIMES, gradient_tolerance, make, tolerance
from tests._reference import gradient, reference

ndx = pytest.importorskip("ndonnx")
onnxruntime = pytest.importorskip("onnxruntime")

SHAPES = [(2, 6, 7), (1, 4, 5), (3, 30, 41)]


@pytest.fixture(scope="module")
def arguments():
    """Names in place of sizes: they are known when the model runs."""
    return ndx.argument(shape=("N", 5, "H", "W"), dtype=ndx.float32), ndx.argument(
        shape=("N", "H", "W"), dtype=ndx.int64
    )


@pytest.fixture(scope="module")
def session(arguments):
    logits, labels = arguments
    loss, grad = ohemloss.value_and_grad(logits, labels)
    model = ndx.build({"logits": logits, "labels": labels}, {"loss": loss, "gradient": grad})
    return onnxruntime.InferenceSession(model.SerializeToString())


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("regime", REGIMES)
def test_value_and_gradient(session, shows, shape, regime):
    logits, labels = make(regime, shape=shape, dtype="float32")
    value, grad = session.run(None, {"logits": logits.astype(np.float32), "labels": labels})
    base, expected = reference(logits, labels), gradient(logits, labels)
    np.testing.assert_allclose(value, base.value, **tolerance("float32", "value"))
    np.testing.assert_allclose(grad, expected, **gradient_tolerance("float32", base))
    shows("ndonnx", "export", grad, expected, **gradient_tolerance("float32", base))


def test_nothing_selected(session):
    logits, labels = make(dtype="float32")
    value, grad = session.run(None, {"logits": logits.astype(np.float32), "labels": np.full_like(labels, 255)})
    assert value == 0
    assert not grad.any()


def test_label_out_of_range_is_nan(session):
    logits, labels = make(dtype="float32")
    labels[0, 0, 0] = 7
    value, _ = session.run(None, {"logits": logits.astype(np.float32), "labels": labels})
    assert np.isnan(value)


def test_threshold_and_count_as_inputs(arguments):
    """One model for every value: annealing without another export."""
    logits, labels = arguments
    thresh, min_kept = ndx.argument(shape=(), dtype=ndx.float32), ndx.argument(shape=(), dtype=ndx.int64)
    loss = ohemloss.ohem_cross_entropy(logits, labels, thresh=thresh, min_kept=min_kept)
    inputs = {"logits": logits, "labels": labels, "thresh": thresh, "min_kept": min_kept}
    session = onnxruntime.InferenceSession(ndx.build(inputs, {"loss": loss}).SerializeToString())
    x, y = make("40% hard", dtype="float32")
    for t, k in ((0.7, 5), (0.25, 30), (1.0, 0)):
        feeds = {
            "logits": x.astype(np.float32),
            "labels": y,
            "thresh": np.asarray(t, np.float32),
            "min_kept": np.asarray(k),
        }
        (value,) = session.run(None, feeds)
        expected = reference(x, y, thresh=float(np.float32(t)), min_kept=k).value
        np.testing.assert_allclose(value, expected, **tolerance("float32", "value"))


@pytest.mark.parametrize(
    "rule", [{"per_image": "mean", "pool": "all"}, {"per_image": "select"}, {"normaliser": "images"}], ids=str
)
def test_rules_with_an_open_number_of_images(arguments, rule):
    logits, labels = arguments
    options = {"rule": ohemloss.MiningRule(**rule), "min_kept": lambda counts: 2 * counts.images, "thresh": None}
    loss, grad = ohemloss.value_and_grad(logits, labels, **options)
    model = ndx.build({"logits": logits, "labels": labels}, {"loss": loss, "gradient": grad})
    session = onnxruntime.InferenceSession(model.SerializeToString())
    for shape in SHAPES[:2]:
        x, y = make("40% hard", shape=shape, dtype="float32")
        value, grad = session.run(None, {"logits": x.astype(np.float32), "labels": y})
        base = reference(x, y, **options)
        np.testing.assert_allclose(value, base.value, **tolerance("float32", "value"))
        np.testing.assert_allclose(grad, gradient(x, y, **options), **gradient_tolerance("float32", base))
