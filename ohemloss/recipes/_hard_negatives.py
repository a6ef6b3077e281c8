"""Recipes of detectors: all positives are kept, and so many hard negatives for each."""

from .._criterion import OhemCELoss
from .._hard_mean import HardMean
from .._mining_rule import MiningRule
from ._quotas import NegativesPerPositive, WithEpsilon


def ssd(neg_pos_ratio: float = 3, axis: int = -1) -> OhemCELoss:
    """
    Mine like SSD (torchvision, MMDetection, ...): all positives of each image, and three hard negatives for each.

    Formula: sum of the losses of the positives and of the hardest `neg_pos_ratio` times as many negatives of each
    image, over the number of positives in the batch. Call it with ``positives=labels > 0``.

    Source: pytorch/vision, ``torchvision/models/detection/ssd.py``; amdegroot/ssd.pytorch,
    ``layers/modules/multibox_loss.py``.

    Differs: without a positive in the batch, NaN in ssd.pytorch; 0 here.

    Parameters
    ----------
    neg_pos_ratio : float, optional
        As there.
    axis : int, optional
        The class axis of the logits, the last one there.

    Returns
    -------
    OhemCELoss
        The criterion.
    """
    rule = MiningRule(per_image="select", normaliser="positives")
    kept = NegativesPerPositive(neg_pos_ratio)
    return OhemCELoss(thresh=None, min_kept=kept, rule=rule, ignore_index=None, axis=axis)


def db(negative_ratio: float = 3.0, eps: float = 1e-6) -> HardMean:
    """
    Mine like the balanced loss of DB and PaddleOCR: all positives of the batch and three hard negatives for each.

    Formula: sum of the losses of the positives and of the ``int(negative_ratio * n_positive)`` hardest negatives, over
    their number plus `eps`. Call it on the loss of each element, with `positives` and with the mask as `where`.

    Source: MhLiao/DB, ``decoders/balance_cross_entropy_loss.py``; PaddlePaddle/PaddleOCR,
    ``ppocr/losses/det_basic_loss.py``.

    Differs: nothing but NaN losses. (With a loss that is a number already, as its default in PaddleOCR, there is
    nothing to mine.)

    Parameters
    ----------
    negative_ratio, eps : optional
        As there.

    Returns
    -------
    HardMean
        The mean.
    """
    rule = MiningRule(normaliser=WithEpsilon(absolute=eps))
    return HardMean(min_kept=NegativesPerPositive(negative_ratio), rule=rule)
