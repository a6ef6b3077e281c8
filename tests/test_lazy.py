"""cubed: arrays in chunks on disk. Each step costs a second: one call shows all."""

import pytest

import ohemloss
from tests._cases import make
from tests._oracle import expect


@pytest.mark.quick
def test_cubed(shows):
    cubed = pytest.importorskip("cubed")
    xp = pytest.importorskip("cubed.array_api")

    logits, labels = make("3% hard")
    x, y = xp.asarray(logits, chunks=(1, 5, 6, 7)), xp.asarray(labels, chunks=(1, 6, 7))
    value, grad = cubed.compute(*ohemloss.value_and_grad(x, y), optimize_graph=False)  # which takes as long again
    expected = expect(logits, labels)
    shows("cubed", "eager", value, expected.value, rtol=1e-13)
    for column in ("closed form", "sharded"):
        shows("cubed", column, grad, expected.gradient, rtol=1e-6, atol=1e-9)
