"""Dask and cubed: arrays in chunks, computed later."""

import numpy as np
import pytest

import ohemloss
from tests._cases import REGIMES, make
from tests._reference import gradient, reference

CHUNKS = {"batch": (1, 5, 6, 7), "height": (2, 5, 2, 7), "classes": (2, 2, 6, 7), "all": (1, 3, 4, 5)}


@pytest.mark.parametrize("regime", REGIMES)
@pytest.mark.parametrize("chunks", CHUNKS)
def test_dask(chunks, regime, shows):
    """One loss of the whole, however it is cut up, and nothing is computed before it is asked for."""
    da = pytest.importorskip("dask.array")
    import dask

    logits, labels = make(regime)
    sizes = CHUNKS[chunks]
    x, y = da.from_array(logits, chunks=sizes), da.from_array(labels, chunks=(sizes[0], *sizes[2:]))
    with dask.config.set(scheduler=lambda *_, **__: pytest.fail("computed too early")):
        value, grad = ohemloss.value_and_grad(x, y)
    np.testing.assert_allclose(value.compute(scheduler="synchronous"), reference(logits, labels).value, rtol=1e-13)
    grad = grad.compute(scheduler="synchronous")
    shows("Dask", "sharded", grad, gradient(logits, labels), rtol=1e-6, atol=1e-9)


def test_cubed(shows):
    """Some twenty seconds a call: one is enough."""
    xp = pytest.importorskip("cubed.array_api")

    logits, labels = make("3% hard")
    x, y = xp.asarray(logits, chunks=(1, 5, 6, 7)), xp.asarray(labels, chunks=(1, 6, 7))
    value, grad = ohemloss.value_and_grad(x, y)
    shows("cubed", "eager", value.compute(), reference(logits, labels).value, rtol=1e-13)
    grad = grad.compute()
    for column in ("closed form", "sharded"):
        shows("cubed", column, grad, gradient(logits, labels), rtol=1e-6, atol=1e-9)
