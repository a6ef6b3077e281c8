"""NumPy: partition, sums in float64, and what it refuses."""

import numpy as np
import pytest

import ohemloss
from tests._cases import make


def test_search_is_skipped_when_enough_are_hard(monkeypatch):
    logits, labels = make("40% hard")
    monkeypatch.setattr(np, "partition", lambda *_, **__: pytest.fail("searched in vain"))
    ohemloss.ohem_cross_entropy(logits, labels)


def test_sum_in_float64():
    """The float32 value is the rounded float64 sum of the losses, to the last bit."""
    rng = np.random.default_rng(0)
    logits, labels = rng.normal(size=(4, 3, 100, 100)).astype(np.float32), rng.integers(3, size=(4, 100, 100))
    trace = ohemloss.explain(logits, labels)
    mined = trace.pixel_loss[trace.selected].astype(np.float64).sum()
    assert trace.value == np.float32(mined) / np.float32(trace.cut.count)


def test_masked_array_is_refused():
    logits, labels = make()
    message = r"^`{}` must be a plain array: got a MaskedArray\. Pass `\.filled\(ignore_index\)` of labels, or "
    with pytest.raises(TypeError, match=message.format("labels")):
        ohemloss.ohem_cross_entropy(logits, np.ma.masked_array(labels))
    with pytest.raises(TypeError, match=message.format("losses")):
        ohemloss.hard_mean(np.ma.masked_array([1.0, 2.0], mask=[True, False]))
