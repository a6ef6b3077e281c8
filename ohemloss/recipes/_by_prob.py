"""Recipes of code bases that rank pixels by the probability of their class, and cut by its value."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

from .._criterion import OhemCELoss
from .._mining_rule import MiningRule, Normaliser
from .._typing import Array
from ._quotas import AllButOne, OfEachImage, OneLess, Share, WithEpsilon

Weight = Array | Sequence[float] | None


def hrnet(
    ignore_label: int = -1,
    thres: float = 0.7,
    min_kept: int = 100000,
    weight: Weight = None,
    align_corners: bool = True,
) -> OhemCELoss:
    """
    Mine like HRNet, OCR, DDRNet, and all that copied them: below the threshold or the next probability.

    Formula: sum of the weighted losses of the valid pixels with a probability below ``max(thres, p)``, over their
    number; p is the (k + 1)-th smallest probability, with ``k = min(min_kept, n_valid - 1)``. Logits of another
    resolution than the labels are interpolated.

    Source: HRNet/HRNet-Semantic-Segmentation, ``lib/core/criterion.py``.

    Differs: an error there if all pixels are ignored, and NaN if all that compete have one probability; 0 here. The
    rank is that of the logarithm here, so probabilities that round to 1 there are told apart.

    Parameters
    ----------
    ignore_label, thres, min_kept, weight : optional
        As there. The configurations in use have ``thres=0.9, min_kept=131072``.
    align_corners : bool, optional
        ``MODEL.ALIGN_CORNERS`` of the configuration there. Default: True.

    Returns
    -------
    OhemCELoss
        The criterion.
    """
    criterion = _drop(thres, AllButOne(max(1, min_kept)), "selected", ignore_label, weight)
    return replace(criterion, resize="bilinear", align_corners=align_corners)


def pidnet(ignore_label: int = 255, thres: float = 0.9, min_kept: int = 131072, weight: Weight = None) -> OhemCELoss:
    """
    Mine like PIDNet, with the numbers of its configurations: as `hrnet`.

    Formula: as `hrnet`.

    Source: XuJiacong/PIDNet, ``utils/criterion.py``.

    Differs: as `hrnet`; it meets batches without a valid pixel often, since it masks by the boundary.

    Parameters
    ----------
    ignore_label, thres, min_kept, weight : optional
        As there.

    Returns
    -------
    OhemCELoss
        The criterion.
    """
    return _drop(thres, AllButOne(max(1, min_kept)), "selected", ignore_label, weight)


def mmseg_ohem(
    ignore_label: int = 255, thres: float = 0.7, min_kept: int = 100000, class_weight: Weight = None
) -> OhemCELoss:
    """
    Mine like the OhemCrossEntropy of MMSegmentation, not its sampler: as `hrnet`.

    Formula: as `hrnet`.

    Source: open-mmlab/mmsegmentation, ``mmseg/models/losses/ohem_cross_entropy_loss.py``.

    Differs: as `hrnet`, but for a constant without a gradient if all pixels are ignored; 0, attached, here.

    Parameters
    ----------
    ignore_label, thres, min_kept, class_weight : optional
        As there.

    Returns
    -------
    OhemCELoss
        The criterion.
    """
    return _drop(thres, AllButOne(max(1, min_kept)), "selected", ignore_label, class_weight)


def panoptic_deeplab_ohem(
    ignore_label: int = -1, threshold: float = 0.7, min_kept: int = 100000, weight: Weight = None
) -> OhemCELoss:
    """
    Mine like OhemCE of Panoptic-DeepLab in PyTorch: as `hrnet`, with pixel weights.

    Formula: as `hrnet`; the pixel weights, passed as `pixel_weight`, do not enter the ranking.

    Source: bowenc0221/panoptic-deeplab, ``segmentation/model/loss/criterion.py``.

    Differs: as `hrnet`.

    Parameters
    ----------
    ignore_label, threshold, min_kept, weight : optional
        As there.

    Returns
    -------
    OhemCELoss
        The criterion.
    """
    return _drop(threshold, AllButOne(max(1, min_kept)), "selected", ignore_label, weight)


def mmseg(
    thresh: float | None = None,
    min_kept: int = 100000,
    class_weight: Weight = None,
    avg_non_ignore: bool = False,
    ignore_index: int = 255,
) -> OhemCELoss:
    """
    Mine like the OHEMPixelSampler of MMSegmentation: the sampled loss over the number of all pixels.

    Formula: with `thresh`, the pixels are those of `hrnet`, for `min_kept` times the number of images; without, the
    so many largest losses of the valid pixels. The sum of their weighted losses is divided by the number of all pixels,
    selected or not; with `avg_non_ignore` by that of the valid ones; with class weights by the sum of these over the
    valid ones.

    Source: open-mmlab/mmsegmentation, ``mmseg/structures/sampler/ohem_pixel_sampler.py``.

    Differs: with class weights and a label of 255, an error there. With several losses, it ranks by their sum: use
    `hard_mean` with a `score`. Its version 0.x divides by the number of all pixels also with class weights.

    Parameters
    ----------
    thresh, min_kept : optional
        As those of the sampler.
    class_weight, avg_non_ignore, ignore_index : optional
        As those of the cross-entropy.

    Returns
    -------
    OhemCELoss
        The criterion.
    """
    normaliser: Normaliser = "valid" if avg_non_ignore else "all"
    if class_weight is not None:
        normaliser = "valid_weight"
    if thresh is not None:
        kept = AllButOne(min_kept, of_each_image=True)
        return _drop(thresh, kept, normaliser, ignore_index, class_weight)
    rule = MiningRule(normaliser=normaliser)
    kept_of_each = OfEachImage(min_kept)
    return OhemCELoss(thresh=None, min_kept=kept_of_each, rule=rule, ignore_index=ignore_index, weight=class_weight)


def torchseg(ignore_label: int = 255, thresh: float = 0.6, min_kept: int = 256, weight: Weight = None) -> OhemCELoss:
    """
    Mine like TorchSeg, and CPS, UniMatch and U2PL after it: up to the threshold or the k-th probability.

    Formula: sum of the weighted losses of the valid pixels with a probability of at most ``max(thresh, p)``, over the
    class weights of these; p is the `min_kept`-th smallest. For `min_kept` of 0, or more than are valid, all of them.

    Source: yu-changqian/TorchSeg, ``furnace/seg_opr/loss_opr.py``.

    Differs: NaN there if all pixels are ignored, 0 here. Its class weights are 19 numbers in the code; pass yours.

    Parameters
    ----------
    ignore_label, thresh, min_kept : optional
        As there. UniMatch has ``thresh=0.7, min_kept=200000``.
    weight : optional
        Class weights.

    Returns
    -------
    OhemCELoss
        The criterion.
    """
    if min_kept == 0:
        return _keep(None, 1.0, ignore_label, weight)
    return _keep(thresh, min_kept, ignore_label, weight)


def tramac(ignore_index: int = -1, thresh: float = 0.7, min_kept: int = 100000, weight: Weight = None) -> OhemCELoss:
    """
    Mine like the OHEM loss of awesome-semantic-segmentation-pytorch and Fast-SCNN: as `torchseg`, but for a count of 0.

    Formula: as `torchseg`; for `min_kept` of 0 the threshold decides alone.

    Source: Tramac/awesome-semantic-segmentation-pytorch, ``core/utils/loss.py``.

    Differs: as `torchseg`; NaN there if nothing is selected, 0 here.

    Parameters
    ----------
    ignore_index, thresh, min_kept : optional
        As there.
    weight : optional
        Class weights.

    Returns
    -------
    OhemCELoss
        The criterion.
    """
    return _keep(thresh, min_kept, ignore_index, weight)


def ocnet(ignore_label: int = 255, thresh: float = 0.6, min_kept: int = 0, weight: Weight = None) -> OhemCELoss:
    """
    Mine like OCNet, which sorts on the CPU: as `tramac`.

    Formula: as `tramac`. Logits of another resolution than the labels are interpolated, with aligned corners, as the
    criteria around it do there.

    Source: openseg-group/OCNet.pytorch, ``utils/criterion.py``.

    Differs: as `tramac`; halves are an error there.

    Parameters
    ----------
    ignore_label, thresh, min_kept : optional
        As there.
    weight : optional
        Class weights.

    Returns
    -------
    OhemCELoss
        The criterion.
    """
    return replace(_keep(thresh, min_kept, ignore_label, weight), resize="bilinear", align_corners=True)


def paddleseg(thresh: float = 0.7, min_kept: int = 10000, ignore_index: int = 255, eps: float = 1e-5) -> OhemCELoss:
    """
    Mine like PaddleSeg's OhemCrossEntropyLoss: below the threshold or the k-th probability.

    Formula: sum of the losses of the valid pixels with a probability below ``max(thresh, p)``, over their number plus
    `eps` times that of all pixels; p is the `min_kept`-th smallest. For `min_kept` of 0, or not fewer than are valid,
    all of them.

    Source: PaddlePaddle/PaddleSeg, ``paddleseg/models/losses/ohem_cross_entropy_loss.py``.

    Differs: on a CPU the logarithm stops at -64 there.

    Parameters
    ----------
    thresh, min_kept, ignore_index : optional
        As there. Its edge attention has ``min_kept=5000, eps=1e-10``.
    eps : float, optional
        The part of the number of all pixels that is added to the divisor; 0 in its ``ProbOhemCrossEntropy2D``.

    Returns
    -------
    OhemCELoss
        The criterion.
    """
    normaliser = WithEpsilon(of_all=eps)
    if min_kept == 0:
        rule = MiningRule(normaliser=normaliser)
        return OhemCELoss(thresh=None, min_kept=1.0, rule=rule, ignore_index=ignore_index)
    return _drop(thresh, OneLess(min_kept), normaliser, ignore_index, None)


def pytorch_loss(
    score_thresh: float = 0.7, n_min: int | None = None, ignore_index: int = 255, weight: Weight = None
) -> OhemCELoss:
    """
    Mine like the CUDA kernel of pytorch-loss: a sixteenth of all pixels by probability, and all up to the threshold.

    Formula: sum of the weighted losses of the selected valid pixels over their class weights; `n_min` pixels are
    selected at least, of all, ignored ones counted as the most probable.

    Source: CoinCheung/pytorch-loss, ``pytorch_loss/ohem_loss.py``.

    Differs: a probability that equals the threshold is hard there.

    Parameters
    ----------
    score_thresh, n_min, ignore_index : optional
        As there; `n_min` of None is a sixteenth of all pixels.
    weight : optional
        Class weights.

    Returns
    -------
    OhemCELoss
        The criterion.
    """
    rule = MiningRule(rank_by="prob", pool="all", normaliser="selected_weight")
    kept: Any = Share(1 / 16) if n_min is None else n_min
    return OhemCELoss(thresh=score_thresh, min_kept=kept, rule=rule, ignore_index=ignore_index, weight=weight)


def _drop(
    thresh: float, kept: Any, normaliser: Normaliser | Callable[..., Any], ignore_index: int, weight: Weight
) -> OhemCELoss:
    rule = MiningRule(rank_by="prob", ties="drop", normaliser=normaliser)
    return OhemCELoss(thresh=thresh, min_kept=kept, rule=rule, ignore_index=ignore_index, weight=weight)


def _keep(thresh: float | None, kept: int | float, ignore_index: int, weight: Weight) -> OhemCELoss:
    rule = MiningRule(rank_by="prob", ties="keep", normaliser="selected_weight")
    return OhemCELoss(thresh=thresh, min_kept=kept, rule=rule, ignore_index=ignore_index, weight=weight)
