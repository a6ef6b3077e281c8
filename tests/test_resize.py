"""What else takes resized logits: `explain` and a criterion. The table of cases shows value and gradient."""

import numpy as np
import pytest

import ohemloss
from tests._cases import make_small, tolerance
from tests._reference import interpolate, reference


@pytest.mark.every_library
def test_explain_is_at_the_resolution_of_the_labels(library):
    logits, labels = make_small("3% hard")
    base = reference(interpolate(logits, labels.shape[1:]), labels)
    trace = ohemloss.explain(library.asarray(logits, "float32"), library.asarray(labels), resize="bilinear")
    library.assert_close(trace.pixel_loss, base.pixel_loss, rtol=1e-5, atol=1e-5)
    library.assert_close(trace.value, base.value, **tolerance("float32", "value"))
    np.testing.assert_array_equal(library.numpy(trace.selected), base.weights > 0)


def test_criterion():
    logits, labels = make_small()
    criterion = ohemloss.OhemCELoss(thresh=0.6, resize="bilinear", align_corners=True)
    assert repr(criterion) == "OhemCELoss(thresh=0.6, resize='bilinear', align_corners=True)"
    base = reference(interpolate(logits, labels.shape[1:], align_corners=True), labels, thresh=0.6)
    np.testing.assert_allclose(criterion(logits, labels), base.value, **tolerance("float64", "value"))
