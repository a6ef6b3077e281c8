"""MLX: no backend of its own, and yet every transformation."""

import numpy as np
import pytest

import ohemloss
from tests._cases import REGIMES, make
from tests._oracle import expect
from tests._reference import curvature

mx = pytest.importorskip("mlx.core")

CLOSE = {"rtol": 1e-5, "atol": 1e-6}


def arrays(logits, labels):
    return mx.array(logits.astype(np.float32)), mx.array(labels.astype(np.int32))


def test_compiled(shows):
    """A label out of range is NaN under a trace, and an error elsewhere."""
    compiled = mx.compile(mx.value_and_grad(ohemloss.ohem_cross_entropy))  # ten seconds, once
    for regime in REGIMES:
        logits, labels = make(regime)
        value, grad = compiled(*arrays(logits, labels))
        np.testing.assert_allclose(value, expect(logits, labels).value, rtol=2e-6)
        shows("MLX", "compiled", grad, expect(logits, labels).gradient, **CLOSE)
    labels[0, 0, 0] = 7
    x, y = arrays(logits, labels)
    assert np.isnan(compiled(x, y)[0])
    with pytest.raises(ValueError, match="of value 7"):
        ohemloss.ohem_cross_entropy(x, y)


@pytest.mark.parametrize("regime", REGIMES)
def test_vmap(shows, regime):
    logits, labels = make(regime, shape=(3, 6, 7))
    grads = mx.vmap(mx.grad(lambda x, y: ohemloss.ohem_cross_entropy(x, y, axis=0)))(*arrays(logits, labels))
    expected = np.concatenate([expect(logits[i : i + 1], labels[i : i + 1]).gradient for i in range(3)])
    shows("MLX", "vmap", grads, expected, **CLOSE)


@pytest.mark.parametrize("regime", REGIMES)
def test_forward_mode(shows, regime):
    logits, labels = make(regime)
    x, y = arrays(logits, labels)
    direction = np.random.default_rng(0).normal(size=logits.shape)
    _, (derivative,) = mx.jvp(lambda x: ohemloss.ohem_cross_entropy(x, y), (x,), (mx.array(direction, mx.float32),))
    shows("MLX", "forward mode", derivative, (expect(logits, labels).gradient * direction).sum(), rtol=1e-4)


def test_second_order(shows):
    logits, labels = make("3% hard", shape=(2, 3, 4))
    x, y = arrays(logits, labels)
    direction = np.random.default_rng(0).normal(size=logits.shape) / 10
    v = mx.array(direction, mx.float32)
    grad = mx.grad(lambda x: ohemloss.ohem_cross_entropy(x, y))
    along = mx.grad(lambda x: (grad(x) * v).sum())(x)
    shows("MLX", "second order", along, curvature(logits, labels, direction), **CLOSE)


def test_export(shows, tmp_path):
    path = str(tmp_path / "loss.mlxfn")
    mx.export_function(path, ohemloss.value_and_grad, *arrays(*make()))
    loaded = mx.import_function(path)
    for regime in REGIMES:
        logits, labels = make(regime)
        value, grad = loaded(*arrays(logits, labels))
        np.testing.assert_allclose(value, expect(logits, labels).value, rtol=2e-6)
        shows("MLX", "export", grad, expect(logits, labels).gradient, **CLOSE)
