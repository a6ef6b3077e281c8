"""The rule of the mining: against the oracle, on every library, traced and refused."""

import pickle
from typing import Any

import numpy as np
import pytest
from array_api_extra.testing import lazy_xp_function

from ohemloss import HardMean, MiningRule, OhemCELoss, explain, hard_mean, ohem_cross_entropy, value_and_grad
from tests._cases import gradient_tolerance, make, round_to, tolerance
from tests._reference import gradient, reference

lazy_xp_function(value_and_grad)
lazy_xp_function(hard_mean)

WEIGHTS = (0.5, 2.0, 0.0, 1.0, 3.0)


def sixteenth(counts):
    return counts.floor(1 / 16, counts.all)


def all_but_one(counts):
    return counts.where(counts.valid > 50, 50, counts.valid - 1)


def a_little_more(counts):
    return counts.selected + 0.5 * counts.all + 0.25


RULES = [
    ({"rank_by": "prob"}, {}),
    ({"rank_by": "prob", "ties": "drop", "normaliser": "all"}, {"min_kept": all_but_one}),
    ({"rank_by": "prob", "ties": "keep", "normaliser": "selected_weight"}, {"min_kept": 40}),
    ({"rank_by": "prob", "pool": "all", "normaliser": "selected_weight"}, {"min_kept": 0.9}),
    ({"pool": "all"}, {"min_kept": 0.95, "thresh": None}),
    ({"pool": "all", "normaliser": "nonzero"}, {"min_kept": 0.95, "thresh": None}),
    ({"pool": "all", "per_image": "mean"}, {"min_kept": sixteenth, "thresh": None}),
    ({"pool": "all", "per_image": "mean", "normaliser": "nonzero"}, {"min_kept": 0.9}),
    ({"per_image": "select"}, {"min_kept": 7, "thresh": None}),
    ({"per_image": "select", "normaliser": "valid_weight", "ties": "drop"}, {"min_kept": 0.5}),
    ({"per_image": "mean", "ties": "keep", "normaliser": "valid"}, {"min_kept": 0.25}),
    ({"normaliser": a_little_more}, {}),
    ({"normaliser": lambda counts: 100}, {"min_kept": lambda counts: 0.5}),
    ({"normaliser": "images"}, {}),
]


def check(library, logits, labels, *, dtype="float32", **options):
    x, y = library.asarray(logits, dtype), library.asarray(labels)
    arrays = {k: library.asarray(v) if isinstance(v, np.ndarray) else v for k, v in options.items()}
    value, grad = value_and_grad(x, y, **arrays)
    seen = round_to(logits, dtype)
    base = reference(seen, labels, **options)
    library.assert_close(value, base.value, **tolerance(dtype, "value"))
    close = gradient_tolerance(dtype, base, weight=options.get("weight"))
    library.assert_close(grad, gradient(seen, labels, **options), **close)


@pytest.mark.parametrize("regime", ["40% hard", "3% hard"])
@pytest.mark.parametrize("number", range(len(RULES)))
def test_rules(library, number, regime):
    if (2 * number + (regime == "3% hard")) % library.stride:
        pytest.skip("few like cases where each costs seconds")
    rule, options = RULES[number]
    logits, labels = make(regime, ignored=0.3)
    weight = WEIGHTS if "rank_by" in rule or number % 2 else None
    check(library, logits, labels, rule=MiningRule(**rule), weight=weight, **options)


@pytest.mark.parametrize("ties", ["share", "keep", "drop"])
@pytest.mark.parametrize("per_image", [False, "select"])
def test_ties(library, ties, per_image):
    """Four values, many pixels of each: what ties is shared, kept, or dropped."""
    logits = np.zeros((2, 2, 12))
    logits[:, 0] = np.repeat([1.0, 2.0, 2.0, 3.0, 4.0, 4.0], 2)
    labels = np.zeros((2, 12), np.int64)
    rule = MiningRule(ties=ties, per_image=per_image)
    for min_kept in (3, 0, 1, 2, 6, 11, 12, 30)[:: library.stride]:
        check(library, logits, labels, rule=rule, min_kept=min_kept, thresh=None)


@pytest.mark.parametrize(
    "rule", [{}, {"per_image": "select", "normaliser": "positives"}, {"pool": "all", "ties": "keep"}], ids=str
)
def test_positives(library, rule):
    """They are selected in any case, and do not compete; ignored ones are not."""
    logits, labels = make("40% hard", ignored=0.3)
    positives = np.random.default_rng(0).random(labels.shape) < 0.2
    kept = lambda counts: 2 * counts.positives
    check(library, logits, labels, positives=positives, rule=MiningRule(**rule), min_kept=kept, thresh=None)


@pytest.mark.parametrize("rule", [{"pool": "all"}, {"per_image": "mean", "pool": "all"}, {"rank_by": "prob"}], ids=str)
def test_nothing_selected(library, rule):
    logits, labels = make()
    x, y = library.asarray(logits, "float32"), library.asarray(np.full_like(labels, 255))
    value, grad = value_and_grad(x, y, rule=MiningRule(**rule))
    library.assert_close(value, 0.0)
    library.assert_close(grad, np.zeros_like(logits))


def test_nan_at_a_weight_of_zero_passes_nowhere(library):
    """Ranked by probability a pixel of weight 0 competes, but gives nothing."""
    logits, labels = make("40% hard", ignored=0)
    labels[1, 3, 4] = 2
    logits[1, :, 3, 4] = np.nan
    x, y = library.asarray(logits, "float32"), library.asarray(labels)
    value, grad = value_and_grad(x, y, weight=WEIGHTS, rule=MiningRule(rank_by="prob"))
    assert np.isfinite(library.numpy(value))
    assert np.all(library.numpy(grad)[1, :, 3, 4] == 0)


def test_hard_mean_with_score_and_positives(library):
    losses = library.asarray(np.asarray([[1.0, 2.0, 3.0, 4.0], [5.0, 6.0, 7.0, 8.0]]), "float32")
    score = library.asarray(np.asarray([[4.0, 3.0, 2.0, 1.0], [1.0, 9.0, 1.0, 0.0]]), "float32")
    first = library.asarray(np.asarray([[False, False, False, True], [False] * 4]))
    library.assert_close(hard_mean(losses, score=score, min_kept=2), 3.5, rtol=1e-6)  # 6 and 1
    library.assert_close(hard_mean(losses, score=score, min_kept=1, positives=first), 5.0, rtol=1e-6)
    rule = MiningRule(per_image="mean")
    library.assert_close(hard_mean(losses, score=score, min_kept=1, rule=rule), 3.5, rtol=1e-6)
    rule = MiningRule(per_image="select", normaliser="images")
    library.assert_close(hard_mean(losses, min_kept=1, positives=first, rule=rule), (4 + 3 + 8) / 2, rtol=1e-6)


class TestTraced:
    """Any rule goes where the default one goes."""

    @pytest.mark.parametrize("number", range(len(RULES)))
    def test_torch_compile_and_node(self, number):
        torch = pytest.importorskip("torch")
        import ohemloss_torch  # noqa: F401

        rule, options = RULES[number]
        options = {**options, "rule": MiningRule(**rule), "weight": WEIGHTS}
        logits, labels = make("3% hard", ignored=0.3)
        x, y = torch.tensor(logits, requires_grad=True), torch.tensor(labels)
        expected = gradient(logits, labels, **options)
        value = ohem_cross_entropy(x, y, **options)
        assert "_Loss" in value.grad_fn.name()
        (grad,) = torch.autograd.grad(value, x)
        np.testing.assert_allclose(grad, expected, rtol=1e-6, atol=1e-9)
        np.testing.assert_allclose(
            torch.func.grad(lambda x: ohem_cross_entropy(x, y, **options))(x.detach()), expected, rtol=1e-6, atol=1e-9
        )
        torch._dynamo.reset()
        compiled = torch.compile(lambda x: ohem_cross_entropy(x, y, **options), fullgraph=True, backend="aot_eager")
        (grad,) = torch.autograd.grad(compiled(x), x)
        np.testing.assert_allclose(grad, expected, rtol=1e-6, atol=1e-9)

    @pytest.mark.parametrize("number", range(len(RULES)))
    def test_jax_jit_grad_and_vmap(self, number):
        jax = pytest.importorskip("jax")
        rule, options = RULES[number]
        options = {**options, "rule": MiningRule(**rule), "weight": WEIGHTS}
        logits, labels = make("3% hard", ignored=0.3)
        with jax.enable_x64(True):
            x, y = jax.numpy.asarray(logits), jax.numpy.asarray(labels)
            grad = jax.jit(jax.grad(lambda x, y: ohem_cross_entropy(x, y, **options)))
            np.testing.assert_allclose(grad(x, y), gradient(logits, labels, **options), rtol=1e-6, atol=1e-9)
            values = jax.vmap(lambda x, y: ohem_cross_entropy(x[None], y[None], **options))(x, y)
            each = [reference(logits[i : i + 1], labels[i : i + 1], **options).value for i in range(2)]
            np.testing.assert_allclose(values, each, rtol=1e-12)


class TestRefused:
    @pytest.mark.parametrize(
        ("options", "message"),
        [
            ({"rank_by": "nll"}, r"^`rank_by` of a rule must be one of 'loss', 'prob': got 'nll'\.$"),
            ({"pool": "hard"}, r"^`pool` of a rule must be one of 'valid', 'all': got 'hard'\.$"),
            ({"ties": "exact"}, r"^`ties` of a rule must be one of 'share', 'keep', 'drop': got 'exact'\.$"),
            ({"per_image": True}, r"^`per_image` of a rule must be one of False, 'select', 'mean': got True\.$"),
            ({"per_image": 0}, r"^`per_image` of a rule must be one of False, 'select', 'mean': got 0\.$"),
            (
                {"normaliser": "kept"},
                r"^`normaliser` of a rule must be one of .*, or a function of the counts: got 'kept'\.$",
            ),
        ],
        ids=str,
    )
    def test_unknown_choice(self, options, message):
        with pytest.raises(ValueError, match=message):
            MiningRule(**options)

    @pytest.mark.parametrize("rule", [MiningRule(normaliser="all"), MiningRule(per_image="mean")], ids=str)
    @pytest.mark.parametrize("reduction", ["sum", "none"])
    def test_what_divides_goes_with_a_mean(self, rule, reduction):
        with pytest.raises(
            ValueError, match=r"^`reduction` must be 'mean' for a rule with a normaliser or a mean per im"
        ):
            OhemCELoss(rule=rule, reduction=reduction)

    def test_what_the_arrays_do_not_say(self):
        logits, labels = make()
        with pytest.raises(
            ValueError, match=r"^`positives` must be given for a rule that divides by their number: got"
        ):
            ohem_cross_entropy(logits, labels, rule=MiningRule(normaliser="positives"))
        with pytest.raises(ValueError, match=r"^`labels` must have an axis of images for a rule per image: got labels"):
            ohem_cross_entropy(np.zeros(3), np.asarray(1), rule=MiningRule(per_image="select"))
        with pytest.raises(ValueError, match=r"^`rule` must rank by loss, since losses have no probability"):
            hard_mean(np.ones(3), rule=MiningRule(rank_by="prob"))

    def test_arguments(self):
        logits, labels = make()
        no_rule: Any = "prob"
        with pytest.raises(TypeError, match=r"^`rule` must be an `ohemloss\.MiningRule`: got 'prob'"):
            ohem_cross_entropy(logits, labels, rule=no_rule)
        with pytest.raises(ValueError, match=r"^`positives` must have the shape of `labels`"):
            ohem_cross_entropy(logits, labels, positives=np.zeros(3, bool))
        with pytest.raises(TypeError, match=r"^`positives` must have a boolean dtype"):
            explain(logits, labels, positives=labels)
        with pytest.raises(ValueError, match=r"^`score` must have the shape of `losses`: got score\.shape=\(2,\)"):
            hard_mean(np.ones(3), score=np.ones(2))
        with pytest.raises(TypeError, match=r"^`score` must have a real floating dtype"):
            hard_mean(np.ones(3), score=np.ones(3, np.int64))


def test_hard_mean_with_fixed_options():
    losses = np.asarray([0.1, 2.0, 0.3, 4.0])
    mean = HardMean(thresh=1, min_kept=np.int64(3))
    assert mean(losses) == hard_mean(losses, thresh=1.0, min_kept=3)
    assert (mean.thresh, mean.min_kept) == (1.0, 3)
    assert mean == HardMean(thresh=1.0, min_kept=3) != HardMean()
    with pytest.raises(ValueError, match="`min_kept` as a count must not be negative"):
        HardMean(min_kept=-1)


def test_is_a_value():
    assert MiningRule(ties="keep") == MiningRule(ties="keep") != MiningRule()
    assert hash(MiningRule(per_image="mean")) == hash(MiningRule(per_image="mean"))
    assert pickle.loads(pickle.dumps(MiningRule(ties="drop"))) == MiningRule(ties="drop")
    assert repr(OhemCELoss(rule=MiningRule(ties="drop"))).startswith("OhemCELoss(rule=MiningRule(rank_by='loss'")
