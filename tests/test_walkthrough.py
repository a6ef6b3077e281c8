"""
The documented tensors, number by number, on every library.

`ohemloss/_cli/walkthrough.json` holds two images of 4 x 4 pixels and 3 classes, and each number on the way from their
logits to the loss, as a document prints them: to four decimals. The printed logits give them back to 1.1e-4.
"""

import json
from importlib.resources import files

import numpy as np
import pytest

from ohemloss import OhemCELoss, explain, hard_mean

pytestmark = pytest.mark.quick
PRINTED = {"rtol": 0.0, "atol": 1.1e-4}
DOCUMENT = json.loads(files("ohemloss").joinpath("_cli", "walkthrough.json").read_text(encoding="utf-8"))
LOGITS, LABELS = np.asarray(DOCUMENT["logits"]), np.asarray(DOCUMENT["labels"])


def test_document():
    """Compare with what a reader sees in the document: nothing was lost in copying."""
    assert LOGITS.shape == (2, 3, 4, 4)
    assert LABELS.shape == (2, 4, 4)
    assert LOGITS[0, 0, 0].tolist() == [0.4896, 0.5672, 1.5507, -0.3583]
    assert LOGITS[1, 2, 3].tolist() == [0.8904, -0.7844, 0.2835, 0.3533]
    assert LABELS[1, 3].tolist() == [2, 1, 2, 2]
    assert np.ravel(DOCUMENT["pixel_loss"]).tolist() == DOCUMENT["pixel_loss_flat"]
    assert DOCUMENT["thresh_loss"] == 0.3567
    assert [loss for loss in DOCUMENT["pixel_loss_flat"] if loss > 0.3567] == DOCUMENT["hard_losses"]
    assert (DOCUMENT["n_valid"], DOCUMENT["n_min"], DOCUMENT["n_hard"]) == (32, 2, 28)
    assert DOCUMENT["value"] == 1.3310734033584595
    assert DOCUMENT["value_printed"] == DOCUMENT["hard_mean"] == 1.3311


@pytest.mark.every_library
def test_every_step(library):
    """From logits to pixel losses, to the threshold, to the hard losses, to their mean."""
    x, y = library.asarray(LOGITS, "float32"), library.asarray(LABELS)
    trace = explain(x, y, thresh=DOCUMENT["thresh"], ignore_index=DOCUMENT["ignore_index"])

    library.assert_close(trace.pixel_loss, DOCUMENT["pixel_loss"], **PRINTED)
    library.assert_close(trace.thresh, DOCUMENT["thresh_loss"], **PRINTED)
    counts = (trace.n_valid, trace.n_min, trace.n_hard, trace.cut.count)
    assert [int(library.numpy(count)) for count in counts] == [32, 2, 28, 28]

    hard_losses = library.numpy(trace.pixel_loss)[library.numpy(trace.selected)]
    np.testing.assert_allclose(hard_losses, DOCUMENT["hard_losses"], **PRINTED)
    if library.eager:
        library.assert_close(trace.hard_losses, DOCUMENT["hard_losses"], **PRINTED)
    library.assert_close(trace.value, DOCUMENT["value"], **PRINTED)
    library.assert_close(OhemCELoss(thresh=0.7)(x, y), DOCUMENT["value"], **PRINTED)
    losses = library.asarray(DOCUMENT["pixel_loss_flat"], "float32")
    library.assert_close(hard_mean(losses, thresh=DOCUMENT["thresh_loss"]), DOCUMENT["hard_mean"], **PRINTED)
