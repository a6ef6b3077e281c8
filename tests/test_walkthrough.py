"""The documented tensors, on every library: they are printed to four decimals, so the printed logits give 1.1e-4."""

import json
from importlib.resources import files

import numpy as np
import pytest

from ohemloss import OhemCELoss, explain, hard_mean, ohem_cross_entropy, value_and_grad

PRINTED = {"rtol": 0.0, "atol": 1.1e-4}


@pytest.fixture(scope="module")
def documented():
    return json.loads(files("ohemloss").joinpath("_cli", "walkthrough.json").read_text(encoding="utf-8"))


@pytest.fixture
def arrays(any_library, documented):
    return any_library.asarray(documented["logits"], "float32"), any_library.asarray(documented["labels"])


def test_the_document_itself(documented):
    """What a reader checks by eye: nothing was lost in copying."""
    assert np.shape(documented["logits"]) == (2, 3, 4, 4)
    assert np.shape(documented["labels"]) == (2, 4, 4)
    assert np.shape(documented["pixel_loss"]) == (2, 4, 4)
    assert np.ravel(documented["pixel_loss"]).tolist() == documented["pixel_loss_flat"]
    hard = [loss for loss in documented["pixel_loss_flat"] if loss > documented["thresh_loss"]]
    assert hard == documented["hard_losses"]
    assert len(hard) == documented["n_hard"] == 28
    assert documented["n_valid"] == 32
    assert documented["n_min"] == 2
    assert documented["value"] == 1.3310734033584595
    assert documented["thresh_loss"] == 0.3567
    assert documented["value_printed"] == documented["hard_mean"] == 1.3311
    assert documented["logits"][0][0][0] == [0.4896, 0.5672, 1.5507, -0.3583]
    assert documented["logits"][1][2][3] == [0.8904, -0.7844, 0.2835, 0.3533]
    assert documented["labels"][1][3] == [2, 1, 2, 2]


def test_every_step(any_library, documented, arrays):
    trace = explain(*arrays, thresh=documented["thresh"], ignore_index=documented["ignore_index"])
    any_library.assert_close(trace.thresh, documented["thresh_loss"], **PRINTED)
    any_library.assert_close(trace.pixel_loss, documented["pixel_loss"], **PRINTED)
    any_library.assert_close(any_library.xp.reshape(trace.pixel_loss, (-1,)), documented["pixel_loss_flat"], **PRINTED)
    any_library.assert_close(trace.value, documented["value"], **PRINTED)
    counts = (trace.n_valid, trace.n_min, trace.n_hard, trace.cut.count)
    assert [int(any_library.numpy(count)) for count in counts] == [32, 2, 28, 28]
    selected, losses = any_library.numpy(trace.selected), any_library.numpy(trace.pixel_loss)
    np.testing.assert_allclose(losses[selected], documented["hard_losses"], **PRINTED)
    np.testing.assert_allclose(losses[selected].mean(), documented["hard_mean"], **PRINTED)
    if any_library.eager:
        any_library.assert_close(trace.hard_losses, documented["hard_losses"], **PRINTED)


def test_loss(any_library, documented, arrays):
    criterion = OhemCELoss(thresh=0.7)  # as the document builds it; calls `ohem_cross_entropy`
    any_library.assert_close(criterion(*arrays), documented["value"], **PRINTED)


def test_loss_in_more_digits(library, documented):
    """The printed logits in float64, and not the document, are the source of this number: 1.33107004."""
    dtype = library.floats[-1]
    x, y = library.asarray(documented["logits"], dtype), library.asarray(documented["labels"])
    rows = np.moveaxis(np.asarray(documented["logits"]), 1, -1).reshape(-1, 3)
    nll = np.log(np.exp(rows).sum(-1)) - rows[np.arange(32), np.ravel(documented["labels"])]
    expected = nll[nll > -np.log(0.7)].mean()
    library.assert_close(ohem_cross_entropy(x, y), expected, rtol=1e-13 if dtype == "float64" else 1e-6)


def test_gradient(any_library, documented, arrays):
    value, grad = value_and_grad(*arrays)
    any_library.assert_close(value, documented["value"], **PRINTED)
    rows = np.moveaxis(np.asarray(documented["logits"]), 1, -1)
    softmax = np.exp(rows) / np.exp(rows).sum(-1, keepdims=True)
    hard = np.asarray(documented["pixel_loss"]) > documented["thresh_loss"]
    expected = (softmax - np.eye(3)[documented["labels"]]) * hard[..., None] / 28
    any_library.assert_close(grad, np.moveaxis(expected, -1, 1), rtol=2e-5, atol=1e-7)


def test_hard_mean_of_the_documented_losses(any_library, documented):
    losses = any_library.asarray(documented["pixel_loss_flat"], "float32")
    actual = hard_mean(losses, thresh=documented["thresh_loss"])
    any_library.assert_close(actual, documented["hard_mean"], **PRINTED)
