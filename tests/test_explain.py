"""The steps, against the oracle; they lead to the value that the loss returns."""

import numpy as np
import pytest

import ohemloss
from tests._cases import make, make_small, tolerance
from tests._oracle import expect
from tests._reference import reference


@pytest.mark.every_library
@pytest.mark.rows(
    "regime, resize", [("3% hard", None), ("3% hard", "bilinear"), ("40% hard", None), ("95% hard", None)]
)
def test_every_step(library, regime, resize):
    """At the resolution of the labels."""
    logits, labels = make_small(regime) if resize else make(regime)
    expected = expect(logits, labels, resize=resize).steps
    trace = ohemloss.explain(library.asarray(logits, "float32"), library.asarray(labels), resize=resize)
    close = tolerance("float32", "value")
    atol = 1e-5 if resize else 1e-6
    library.assert_close(trace.thresh, -np.log(0.7), **close)
    library.assert_close(trace.pixel_loss, expected.pixel_loss, rtol=1e-5, atol=atol)
    library.assert_close(trace.value, expected.value, **close)
    library.assert_close(trace.cut.value, expected.cut, rtol=1e-5, atol=atol)
    library.assert_close(trace.cut.tie_weight, expected.tie_weight)
    library.assert_close(trace.score, library.numpy(trace.pixel_loss))
    np.testing.assert_array_equal(library.numpy(trace.labels), labels)
    np.testing.assert_array_equal(library.numpy(trace.valid), labels != 255)
    np.testing.assert_array_equal(library.numpy(trace.selected), expected.weights > 0)
    if library.eager:
        hard = expected.pixel_loss[(expected.pixel_loss > -np.log(0.7)) & (labels != 255)]
        library.assert_close(trace.hard_losses, hard, rtol=1e-5)
    counts = (trace.n_valid, trace.n_min, trace.n_hard, trace.cut.count)
    numbers = [int(library.numpy(n)) for n in counts]
    assert numbers == [expected.n_valid, expected.n_min, expected.n_hard, expected.count]


def test_by_probability(library):
    """The rank and the threshold look at the probability alone: no weight, and 0 where ignored."""
    logits, labels = make("40% hard")
    weight = (0.1, 5.0, 1.0, 0.2, 3.0)
    rule = ohemloss.MiningRule(rank_by="prob")
    plain = reference(logits, labels).pixel_loss
    weighed = plain * np.asarray(weight)[np.where(labels == 255, 0, labels)]
    trace = ohemloss.explain(library.asarray(logits, "float32"), library.asarray(labels), weight=weight, rule=rule)
    library.assert_close(trace.score, plain, rtol=1e-5, atol=1e-6)
    library.assert_close(trace.pixel_loss, weighed, rtol=1e-5, atol=1e-5)
    if library.eager:
        library.assert_close(trace.hard_losses, weighed[(plain > -np.log(0.7)) & (labels != 255)], rtol=1e-5)


@pytest.mark.skip_library("strictest", "mlx", reason="shapes do not depend on values")
def test_nan_is_a_hard_loss(library):
    x = library.asarray(np.asarray([[np.nan, 0.0], [9.0, 0.0]]), "float32")
    trace = ohemloss.explain(x, library.asarray(np.zeros(2, np.int64)))
    library.assert_close(trace.hard_losses, [np.nan])


def test_tied_pixels_are_selected(library):
    trace = ohemloss.explain(
        library.asarray(np.asarray([[3.0, 0.0]] * 4), "float32"),
        library.asarray(np.asarray([0, 0, 0, 255])),
        min_kept=1,
    )
    np.testing.assert_array_equal(library.numpy(trace.selected), [True, True, True, False])
    library.assert_close(trace.cut.tie_weight, 1 / 3, rtol=1e-6)


def test_the_labels_are_those_that_came(library):
    """No copy: whoever keeps a trace keeps no second array of labels."""
    y = library.asarray(np.zeros(2, np.int64))
    assert ohemloss.explain(library.asarray(np.zeros((2, 3)), "float32"), y).labels is y


def test_no_label_is_ignored(library):
    x, y = library.asarray(np.zeros((2, 256)), "float32"), library.asarray(np.asarray([0, 255]))
    np.testing.assert_array_equal(library.numpy(ohemloss.explain(x, y, ignore_index=None).valid), [True, True])
