"""The rule of the mining: what is refused, and what `hard_mean` does with it. The table of cases shows the numbers."""

import math
import pickle
import re
from typing import Any

import numpy as np
import pytest
from array_api_extra.testing import lazy_xp_function

from ohemloss import HardMean, MiningRule, OhemCELoss, explain, hard_mean, ohem_cross_entropy
from tests._cases import make

lazy_xp_function(hard_mean)


@pytest.mark.every_library
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


class TestRefused:
    @pytest.mark.parametrize(
        ("options", "message"),
        [
            ({"rank_by": "nll"}, "'loss', 'prob': got 'nll'"),
            ({"pool": "hard"}, "'valid', 'all': got 'hard'"),
            ({"ties": "exact"}, "'share', 'keep', 'drop': got 'exact'"),
            ({"per_image": True}, "False, 'select', 'mean': got True"),
            ({"per_image": 0}, "False, 'select', 'mean': got 0"),
            ({"normaliser": "kept"}, ".*, or a function of the counts: got 'kept'"),
        ],
        ids=str,
    )
    def test_unknown_choice(self, options, message):
        with pytest.raises(ValueError, match=rf"^`{next(iter(options))}` of a rule must be one of {message}\.$"):
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

    def test_losses(self, library):
        with pytest.raises(TypeError, match=r"^`losses` must be an array of an array API library: got float\."):
            hard_mean(1.0)
        x = library.asarray(np.ones((3, 4, 5)), "float32")
        with pytest.raises(TypeError, match=r"^`losses` must have a real floating dtype \(.*\): got .*int32"):
            hard_mean(library.asarray(np.ones(3), "int32"))
        with pytest.raises(TypeError, match=r"^`where` must have a boolean dtype \(.*bool.*\): got .*float32"):
            hard_mean(x, where=x)
        message = "`where` must have the shape of `losses`: got where.shape=(3, 4), losses.shape=(3, 4, 5)."
        with pytest.raises(ValueError, match=f"^{re.escape(message)}"):
            hard_mean(x, where=library.asarray(np.ones((3, 4), bool)))

    def test_options_of_hard_mean(self):
        for function in (lambda **options: hard_mean(np.ones(3), **options), HardMean):
            with pytest.raises(ValueError, match=r"^`min_kept` as a count must not be negative: got -1\.$"):
                function(min_kept=-1)
            with pytest.raises(
                ValueError, match=r"^`thresh` must lie in \[-inf, inf\], or None for no threshold: got nan\.$"
            ):
                function(thresh=math.nan)


def test_hard_mean_with_fixed_options():
    losses = np.asarray([0.1, 2.0, 0.3, 4.0])
    mean = HardMean(thresh=1, min_kept=np.int64(3))
    assert mean(losses) == hard_mean(losses, thresh=1.0, min_kept=3)
    assert (mean.thresh, mean.min_kept) == (1.0, 3)
    assert mean == HardMean(thresh=1.0, min_kept=3) != HardMean()


def test_is_a_value():
    assert MiningRule(ties="keep") == MiningRule(ties="keep") != MiningRule()
    assert hash(MiningRule(per_image="mean")) == hash(MiningRule(per_image="mean"))
    assert pickle.loads(pickle.dumps(MiningRule(ties="drop"))) == MiningRule(ties="drop")
    assert repr(OhemCELoss(rule=MiningRule(ties="drop"))).startswith("OhemCELoss(rule=MiningRule(rank_by='loss'")
