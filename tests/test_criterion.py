"""The options, fixed once."""

import copy
import dataclasses
import inspect
import pickle

import numpy as np
import pytest

import ohemloss
from ohemloss import OhemCELoss
from tests._cases import make, tolerance

OPTIONS = {
    "thresh": 0.5,
    "min_kept": 40,
    "ignore_index": 2,
    "weight": (1.0, 2.0, 3.0, 4.0, 5.0),
    "label_smoothing": 0.1,
    "axis": -1,
}


def test_one_criterion_serves_every_library(library):
    """And `explain` has the value of the loss."""
    logits, labels = make("40% hard")
    labels[labels == 255] = 0
    x, y = library.asarray(np.moveaxis(logits, 1, -1), "float32"), library.asarray(labels)
    u = library.asarray(np.full((2, 1, 7), 0.5), "float32")
    close = tolerance("float32", "value")
    for reduction in ("mean", "sum", "none"):
        options = {**OPTIONS, "reduction": reduction}
        criterion = OhemCELoss(**options)
        expected = library.numpy(ohemloss.ohem_cross_entropy(x, y, pixel_weight=u, **options))
        for actual in (criterion(x, y, pixel_weight=u), criterion.explain(x, y, pixel_weight=u).value):
            library.assert_close(actual, expected, **close)
        if reduction != "none":
            value, grad = criterion.value_and_grad(x, y, pixel_weight=u)
            library.assert_close(value, expected, **close)
            _, gradient = ohemloss.value_and_grad(x, y, pixel_weight=u, **options)
            library.assert_close(grad, library.numpy(gradient), **close)


@pytest.mark.parametrize(
    ("options", "shown"),
    [
        ({"thresh": np.float32(0.5), "min_kept": np.int64(3)}, "OhemCELoss(thresh=0.5, min_kept=3)"),
        ({"weight": [1, 2]}, "OhemCELoss(weight=(1.0, 2.0))"),
        ({}, "OhemCELoss()"),
        ({"thresh": None}, "OhemCELoss(thresh=None)"),
        (
            {"thresh": 0.6, "resize": "bilinear", "align_corners": True},
            "OhemCELoss(thresh=0.6, resize='bilinear', align_corners=True)",
        ),
        ({"weight": np.asarray([1.0, 2.0])}, "OhemCELoss(weight=array([1., 2.]))"),
    ],
)
def test_repr(options, shown):
    assert repr(OhemCELoss(**options)) == shown


def test_is_a_value():
    assert OhemCELoss(thresh=0.6) == OhemCELoss(thresh=0.6) != OhemCELoss()
    assert hash(OhemCELoss(**OPTIONS)) == hash(OhemCELoss(**OPTIONS))
    assert pickle.loads(pickle.dumps(OhemCELoss(**OPTIONS))) == copy.deepcopy(OhemCELoss(**OPTIONS))
    with pytest.raises(dataclasses.FrozenInstanceError):
        OhemCELoss().thresh = 0.5


def test_a_count_is_not_a_fraction():
    """1 equals 1.0, but one pixel is not all of them: nothing that caches by value may mix them up."""
    assert OhemCELoss(min_kept=1) != OhemCELoss(min_kept=1.0)
    assert len({OhemCELoss(min_kept=1), OhemCELoss(min_kept=1.0), OhemCELoss(min_kept=1)}) == 2


def test_arrays_as_weights_compare_by_identity():
    weight = np.ones(2)
    assert OhemCELoss(weight=weight) == OhemCELoss(weight=weight) != OhemCELoss(weight=np.ones(2))
    assert hash(OhemCELoss(weight=weight)) == hash(OhemCELoss(weight=weight))


@pytest.mark.parametrize("function", [ohemloss.value_and_grad, ohemloss.explain], ids=lambda f: f.__name__)
def test_same_options_and_defaults_everywhere(function):
    """One set of names, in one order, with one set of defaults."""
    parameters = inspect.signature(ohemloss.ohem_cross_entropy).parameters
    assert list(inspect.signature(function).parameters.values()) == list(parameters.values())
    fields = {field.name: field.default for field in dataclasses.fields(OhemCELoss)}
    of_a_batch = ("pixel_weight", "positives")
    fixed = {p.name: p.default for p in parameters.values() if p.kind is p.KEYWORD_ONLY and p.name not in of_a_batch}
    assert list(fields.items()) == list(fixed.items())
