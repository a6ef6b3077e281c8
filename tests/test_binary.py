"""The binary loss and its closed-form gradient, against a plain formula, on every library."""

import math
from functools import partial
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from array_api_extra.testing import lazy_xp_function

import ohemloss
from ohemloss import MiningRule, OhemBCELoss, ohem_binary_cross_entropy
from tests import _cases
from tests._cases import gradient_tolerance, round_to, tolerance
from tests._reference import by_rule

lazy_xp_function(ohem_binary_cross_entropy)


def make(regime="40% hard", shape=(2, 1, 6, 7)):
    """Make logits with a known share of hard elements, and labels of 0 and 1."""
    logits, labels = _cases.make(regime, shape, n_classes=2, ignored=0)
    return logits[:, 1] - logits[:, 0], labels


def oracle(logits, labels, *, where=None, u=1.0, thresh: Any = 0.7, min_kept=1 / 16, rule=MiningRule(), positives=None):
    """Compute value, gradient and divisor in float64."""
    x, y = np.asarray(logits, np.float64), np.asarray(labels, np.float64)
    valid = np.ones(x.shape, bool) if where is None else where
    plain = np.where(valid, y * np.logaddexp(0, -x) + (1 - y) * np.logaddexp(0, x), 0.0)
    losses = plain * u
    weights, divisors = by_rule(
        losses.ravel().tolist(),
        (plain if rule.rank_by == "prob" else losses).ravel().tolist(),
        valid.ravel().tolist(),
        valid.ravel().astype(float).tolist(),
        x.shape,
        cut=-math.log(thresh) if thresh else math.inf,
        min_kept=min_kept,
        rule=rule,
        positives=np.broadcast_to(False if positives is None else positives, x.shape).ravel(),
    )
    coefficients = np.reshape(np.divide(weights, divisors), x.shape)
    return (coefficients * losses).sum(), coefficients * u * (1 / (1 + np.exp(-x)) - y), min(divisors)


def check(library, logits, labels, *, dtype="float32", u=1.0, **options):
    seen = round_to(logits, dtype)
    value, expected, divisor = oracle(seen, labels, u=u, **options)
    arrays = {k: library.asarray(v) for k, v in options.items() if isinstance(v, np.ndarray)}
    if not np.isscalar(u):
        arrays["pixel_weight"] = library.asarray(u, "float32")
    fixed = {k: v for k, v in options.items() if k not in arrays}
    x, y = library.asarray(seen, dtype), library.asarray(labels)
    actual, grad = OhemBCELoss(**fixed).value_and_grad(x, y, **arrays)
    library.assert_close(actual, value, **tolerance(dtype, "value"))
    base = SimpleNamespace(normaliser=divisor)
    close = gradient_tolerance(dtype, base, scale=np.max(u))
    library.assert_close(grad, expected, **close)
    differentiate = library.differentiate(lambda x: ohem_binary_cross_entropy(x, y, **fixed, **arrays))
    if differentiate is not None:
        library.assert_close(differentiate(x), expected, **close)


@pytest.mark.every_library
@pytest.mark.rows("regime", ["3% hard", "95% hard", "40% hard"])
def test_regimes(library, float_dtype, regime):
    check(library, *make(regime), dtype=float_dtype)


@pytest.mark.rows(
    "options",
    [
        {"rule": MiningRule(pool="all", per_image="mean"), "min_kept": 0.5},
        {"thresh": None, "min_kept": 5},
        {"rule": MiningRule(ties="keep", normaliser="all"), "thresh": 0.5},
        {"rule": MiningRule(rank_by="prob", ties="drop"), "min_kept": 30},
        {"rule": MiningRule(normaliser="positives"), "min_kept": lambda counts: 3 * counts.positives, "thresh": None},
    ],
)
def test_options(library, options):
    logits, labels = make("40% hard", shape=(2, 3, 4, 5))
    where = np.random.default_rng(0).random(labels.shape) < 0.7
    u = np.random.default_rng(1).uniform(0.5, 2, labels.shape).astype(np.float32)
    positives = {"positives": labels > 0} if options.get("rule", MiningRule()).normaliser == "positives" else {}
    check(library, logits, labels, where=where, u=u, **options, **positives)


def _soft(labels):
    return np.random.default_rng(3).uniform(0, 1, labels.shape).astype(np.float32)


@pytest.mark.rows(
    "convert",
    [_soft, *(partial(np.asarray, dtype=dtype) for dtype in ("bool", "uint8", "int32", "float32"))],
)
def test_labels(library, convert):
    """Soft ones, and hard ones of any dtype, with or without the axis of length 1."""
    logits, labels = make("95% hard")
    labels = convert(labels)
    check(library, logits, labels, thresh=None, min_kept=1.0)
    x, (with_axis, without) = library.asarray(logits, "float32"), (library.asarray(y) for y in (labels, labels[:, 0]))
    value, grad = OhemBCELoss().value_and_grad(x, without)
    expected, slopes = OhemBCELoss().value_and_grad(x, with_axis)
    library.assert_close(value, library.numpy(expected), **tolerance("float32", "value"))
    library.assert_close(grad, library.numpy(slopes), rtol=1e-5, atol=1e-8)


@pytest.mark.filterwarnings("ignore:invalid value encountered:RuntimeWarning")
def test_no_surprise(library):
    """Ignored: exactly 0, whatever the logits. NaN where it counts: NaN. Infinite and right: 0."""
    logits, labels = make()
    labels[0, 0, 0, 0], logits[0, 0, 0, 0] = 1, np.inf
    where = np.ones(labels.shape, bool)
    where[1] = False
    logits[1] = np.nan
    x, y, mask = library.asarray(logits, "float32"), library.asarray(labels), library.asarray(where)
    value, grad = OhemBCELoss(min_kept=1.0).value_and_grad(x, y, where=mask)
    assert np.isfinite(library.numpy(value))
    assert np.all(np.isfinite(library.numpy(grad)))
    assert np.all(library.numpy(grad)[1] == 0)
    assert np.isnan(library.numpy(ohem_binary_cross_entropy(x, y)))
    nothing = library.asarray(np.zeros(labels.shape, bool))
    value, grad = OhemBCELoss().value_and_grad(x, y, where=nothing)
    library.assert_close(value, 0.0)
    assert not library.numpy(grad).any()


def test_label_out_of_range(library):
    logits, labels = make()
    labels[0, 0, 0, 0] = 255
    x, y = library.asarray(logits, "float32"), library.asarray(labels)
    if library.host:
        with pytest.raises(
            ValueError, match=r"^`labels` must lie in \[0, 1\] where they count: got 1 outside\. Pass the"
        ):
            ohem_binary_cross_entropy(x, y)
    else:
        assert np.isnan(library.numpy(ohem_binary_cross_entropy(x, y)))
    where = library.asarray(labels < 2)
    assert np.isfinite(library.numpy(ohem_binary_cross_entropy(x, y, where=where)))


def test_refused():
    logits, labels = make()
    shape = "must have the shape of `labels`"
    for error, message, y, options in (
        (ValueError, "`labels` must have the shape of `logits`, or that without a second axis", labels[:1], {}),
        (TypeError, "`labels` must have a boolean, integer or real floating dtype", labels.astype(complex), {}),
        (ValueError, f"`where` {shape}", labels, {"where": np.ones(3, bool)}),
        (ValueError, f"`pixel_weight` {shape}", labels, {"pixel_weight": np.ones(3)}),
    ):
        with pytest.raises(error, match=f"^{message}"):
            ohem_binary_cross_entropy(logits, y, **options)
    with pytest.raises(ValueError, match=r"^`thresh` must lie in \[0, 1\]"):
        OhemBCELoss(thresh=2.0)
    with pytest.raises(ValueError, match=r"^`reduction` of value_and_grad must be 'mean' or 'sum'"):
        OhemBCELoss(reduction="none").value_and_grad(logits, labels)


def test_per_element():
    logits, labels = make()
    losses = ohem_binary_cross_entropy(logits, labels, reduction="none")
    assert losses.shape == labels.shape
    np.testing.assert_allclose(losses.sum() / (losses > 0).sum(), oracle(logits, labels)[0], rtol=1e-12)


def test_criterion_is_the_function():
    logits, labels = make()
    criterion = OhemBCELoss(thresh=0.5, min_kept=3)
    assert criterion(logits, labels) == ohem_binary_cross_entropy(logits, labels, thresh=0.5, min_kept=3)
    assert criterion == OhemBCELoss(thresh=0.5, min_kept=3) != ohemloss.OhemBCELoss()
