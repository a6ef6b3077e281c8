"""Recipes of code bases that rank pixels by their loss."""

import math
from collections.abc import Sequence

from .._binary import OhemBCELoss
from .._criterion import OhemCELoss
from .._mining_rule import MiningRule, Pool
from .._typing import Array
from ._quotas import RoundedUp, Share, Single

Weight = Array | Sequence[float] | None

_ALL = MiningRule(pool="all")
_MEAN_OF_IMAGES = MiningRule(pool="all", per_image="mean")


def bisenet(thresh: float = 0.7, ignore_lb: int = 255) -> OhemCELoss:
    """
    Mine like BiSeNet: hard pixels, or a sixteenth of the valid ones.

    Formula: mean of the losses above ``-log(thresh)``; if fewer than ``n_valid // 16``, of so many largest.

    Source: CoinCheung/BiSeNet, ``lib/ohem_ce_loss.py``.

    Differs: NaN there if all pixels are ignored or nothing is selected, 0 here. NaN logits vanish from the value there.

    Parameters
    ----------
    thresh, ignore_lb : optional
        As there.

    Returns
    -------
    OhemCELoss
        The criterion.
    """
    return OhemCELoss(thresh=thresh, ignore_index=ignore_lb)


def semseg(ignore_label: int = 255, weight: Weight = None, thresh: float = 0.7) -> OhemCELoss:
    """
    Mine like semantic-segmentation: as `bisenet`, with class weights.

    Formula: as `bisenet`; class weights enter the ranking and the threshold, and the mean divides by the number.

    Source: sithu31296/semantic-segmentation, ``semseg/losses.py``.

    Differs: as `bisenet`.

    Parameters
    ----------
    ignore_label, weight, thresh : optional
        As there.

    Returns
    -------
    OhemCELoss
        The criterion.
    """
    return OhemCELoss(thresh=thresh, ignore_index=ignore_label, weight=weight)


def bisenet_old(thresh: float, n_min: int, ignore_lb: int = 255) -> OhemCELoss:
    """
    Mine like the first BiSeNet: hard pixels, or a fixed number.

    Formula: mean of the losses above ``-log(thresh)``; if fewer than `n_min`, of the `n_min` largest, among them
    ignored pixels, with a loss of 0, if too few are valid.

    Source: CoinCheung/BiSeNet, ``old/loss.py``.

    Differs: an error there if the batch has no more than `n_min` pixels; all of them here.

    Parameters
    ----------
    thresh, n_min, ignore_lb : optional
        As there.

    Returns
    -------
    OhemCELoss
        The criterion.
    """
    return OhemCELoss(thresh=thresh, min_kept=n_min, ignore_index=ignore_lb, rule=_ALL)


def stdc(thresh: float, n_min: int, ignore_lb: int = 255, weight: Weight = None) -> OhemCELoss:
    """
    Mine like STDC: as `bisenet_old`, with class weights.

    Formula: as `bisenet_old`. Its weighted form computes class weights ``1 / log(1.02 + frequency)`` from the labels of
    each batch; compute them and pass them as `weight`.

    Source: MichaelFan01/STDC-Seg, ``loss/loss.py``.

    Differs: as `bisenet_old`; its weighted form fails there if any pixel is ignored.

    Parameters
    ----------
    thresh, n_min, ignore_lb : optional
        As there.
    weight : optional
        Class weights.

    Returns
    -------
    OhemCELoss
        The criterion.
    """
    return OhemCELoss(thresh=thresh, min_kept=n_min, ignore_index=ignore_lb, weight=weight, rule=_ALL)


def super_gradients(
    threshold: float = 0.7,
    mining_percent: float = 0.1,
    ignore_lb: int = -100,
    num_pixels_exclude_ignored: bool = True,
    weight: Weight = None,
) -> OhemCELoss:
    """
    Mine like SuperGradients: hard pixels, or a tenth.

    Formula: mean of the losses above ``-log(threshold)``; if fewer than ``min(int(mining_percent * n), n - 1)``, of so
    many largest, where n counts the valid pixels or, with `num_pixels_exclude_ignored` False, all.

    Source: Deci-AI/super-gradients, ``src/super_gradients/training/losses/ohem_ce_loss.py``.

    Differs: if all pixels are ignored, 0 of shape (1,) without a gradient there; 0, attached, here.

    Parameters
    ----------
    threshold, mining_percent, ignore_lb, num_pixels_exclude_ignored : optional
        As there.
    weight : optional
        Class weights of the criterion inside.

    Returns
    -------
    OhemCELoss
        The criterion.
    """
    pool: Pool = "valid" if num_pixels_exclude_ignored else "all"
    kept = Share(mining_percent, of=pool, all_but_one=True)
    return OhemCELoss(
        thresh=threshold, min_kept=kept, rule=MiningRule(pool=pool), ignore_index=ignore_lb, weight=weight
    )


def luxonis(
    ohem_ratio: float = 0.1, ohem_threshold: float = 0.7, ignore_index: int = 255, weight: Weight = None
) -> OhemCELoss:
    """
    Mine like LuxonisTrain: as `super_gradients` over all pixels.

    Formula: as `super_gradients` with ``num_pixels_exclude_ignored=False``.

    Source: luxonis/luxonis-train, ``luxonis_train/attached_modules/losses/ohem_loss.py``.

    Differs: NaN there if nothing is selected, 0 here.

    Parameters
    ----------
    ohem_ratio, ohem_threshold, ignore_index : optional
        As there.
    weight : optional
        Class weights of the criterion inside.

    Returns
    -------
    OhemCELoss
        The criterion.
    """
    kept = Share(ohem_ratio, all_but_one=True)
    return OhemCELoss(thresh=ohem_threshold, min_kept=kept, rule=_ALL, ignore_index=ignore_index, weight=weight)


def regseg(min_K: int, loss_th: float = 0.3, ignore_index: int = 255) -> OhemCELoss:
    """
    Mine like RegSeg: a threshold on the loss, or a fixed number.

    Formula: mean of the losses above `loss_th`; if no more than `min_K`, of the `min_K` largest.

    Source: RolandGao/RegSeg, ``losses.py``.

    Differs: an error there if the batch has fewer than `min_K` pixels; all of them here.

    Parameters
    ----------
    min_K, loss_th, ignore_index : optional
        As there; `min_K` is that of the batch.

    Returns
    -------
    OhemCELoss
        The criterion.
    """
    return OhemCELoss(thresh=math.exp(-loss_th), min_kept=min_K, rule=_ALL, ignore_index=ignore_index)


def paddleseg_bootstrapped(
    min_K: int,
    loss_th: float,
    weight: Weight = None,
    ignore_index: int = 255,
) -> OhemCELoss:
    """
    Mine like PaddleSeg's bootstrapped cross-entropy: as `regseg`, image by image.

    Formula: mean over the images of the mean of the losses above `loss_th`, or of the `min_K` largest.

    Source: PaddlePaddle/PaddleSeg, ``paddleseg/models/losses/bootstrapped_cross_entropy.py``.

    Differs: an error there if an image has no more than `min_K` pixels; all of them here.

    Parameters
    ----------
    min_K, loss_th, weight, ignore_index : optional
        As there.

    Returns
    -------
    OhemCELoss
        The criterion.
    """
    thresh = math.exp(-loss_th)
    return OhemCELoss(thresh=thresh, min_kept=min_K, rule=_MEAN_OF_IMAGES, ignore_index=ignore_index, weight=weight)


def deeplab_ce(ignore_label: int = -1, top_k_percent_pixels: float = 1.0, weight: Weight = None) -> OhemCELoss:
    """
    Mine like DeepLabCE of Detectron2 and Panoptic-DeepLab: a fraction of all pixels.

    Formula: mean of the ``int(top_k_percent_pixels * n)`` largest weighted losses of all n pixels, ignored ones with a
    loss of 0 among them. Pass its pixel weights as `pixel_weight`.

    Source: facebookresearch/detectron2, ``projects/DeepLab/deeplab/loss.py``.

    Differs: NaN there if the fraction rounds to no pixel, 0 here.

    Parameters
    ----------
    ignore_label, top_k_percent_pixels, weight : optional
        As there.

    Returns
    -------
    OhemCELoss
        The criterion.
    """
    kept = Share(top_k_percent_pixels)
    return OhemCELoss(thresh=None, min_kept=kept, rule=_ALL, ignore_index=ignore_label, weight=weight)


def nnunet_topk(
    weight: Weight = None, ignore_index: int = -100, k: float = 10, label_smoothing: float = 0.0
) -> OhemCELoss:
    """
    Mine like the top-k loss of nnU-Net: a percentage of all voxels.

    Formula: mean of the ``int(n * k / 100)`` largest losses of all n voxels of the batch.

    Source: MIC-DKFZ/nnUNet, ``nnunetv2/training/loss/robust_ce_loss.py``.

    Differs: NaN there if the percentage rounds to no voxel, 0 here.

    Parameters
    ----------
    weight, ignore_index, k, label_smoothing : optional
        As there.

    Returns
    -------
    OhemCELoss
        The criterion.
    """
    return OhemCELoss(
        thresh=None,
        min_kept=Share(k / 100),
        rule=_ALL,
        ignore_index=ignore_index,
        weight=weight,
        label_smoothing=label_smoothing,
    )


def xmem(
    it: int, start_warm: int = 20000, end_warm: int = 70000, top_p: float = 0.15, ignore_index: int = -100
) -> OhemCELoss:
    """
    Mine like the bootstrapped cross-entropy of XMem and STCN: a fraction that falls during training.

    Formula: before `start_warm`, the mean over all valid pixels; then of the ``int(p * n)`` largest losses, where p
    falls linearly from 1 to `top_p` at `end_warm`. Made anew for each iteration `it`, or with `min_kept` as an array.

    Source: hkchengrex/XMem, ``model/losses.py``.

    Differs: NaN there if nothing is selected, 0 here.

    Parameters
    ----------
    it : int
        The iteration.
    start_warm, end_warm, top_p : optional
        As there.
    ignore_index : int, optional
        As that of the cross-entropy inside.

    Returns
    -------
    OhemCELoss
        The criterion of this iteration.
    """
    if it < start_warm:
        return OhemCELoss(thresh=None, min_kept=1.0, ignore_index=ignore_index)
    left = max(0.0, (end_warm - it) / (end_warm - start_warm))
    kept = Share(top_p + (1 - top_p) * left)
    return OhemCELoss(thresh=None, min_kept=kept, rule=_ALL, ignore_index=ignore_index)


def aot(
    step: int,
    top_k_percent_pixels: float = 0.15,
    hard_example_mining_step: int = 50000,
    ignore_index: int = 255,
) -> OhemCELoss:
    """
    Mine like AOT: a fraction of each image that falls during training.

    Formula: mean over the images of the mean of the ``int(n * (r * q + 1 - r))`` largest losses, with
    q = `top_k_percent_pixels` and r = min(1, step / hard_example_mining_step). Made anew for each step.

    Source: yoxu515/aot-benchmark, ``networks/layers/loss.py``.

    Differs: there the means of the images are returned and the trainer averages them; here their mean is.

    Parameters
    ----------
    step : int
        The step of training.
    top_k_percent_pixels, hard_example_mining_step, ignore_index : optional
        As there; the trainer sets `hard_example_mining_step` to half of the training.

    Returns
    -------
    OhemCELoss
        The criterion of this step.
    """
    ratio = min(1.0, step / (hard_example_mining_step + 1e-5))
    kept = Share(ratio * top_k_percent_pixels + (1 - ratio))
    return OhemCELoss(thresh=None, min_kept=kept, rule=_MEAN_OF_IMAGES, ignore_index=ignore_index)


def pytorch_semseg(K: int, weight: Weight = None, ignore_index: int = 250) -> OhemCELoss:
    """
    Mine like the bootstrapped cross-entropy of pytorch-semseg: a fixed number of each image.

    Formula: mean over the images of the mean of the `K` largest losses.

    Source: meetshah1995/pytorch-semseg, ``ptsemseg/loss/loss.py``.

    Differs: an error there if an image has fewer than `K` pixels; all of them here.

    Parameters
    ----------
    K, weight : optional
        As there.
    ignore_index : int, optional
        250 is written into the code there.

    Returns
    -------
    OhemCELoss
        The criterion.
    """
    return OhemCELoss(thresh=None, min_kept=K, rule=_MEAN_OF_IMAGES, ignore_index=ignore_index, weight=weight)


def seamseg(ohem: float = 0.25, ignore_index: int = 255) -> OhemCELoss:
    """
    Mine like seamseg: a fraction of each image, rounded up.

    Formula: mean over the images of the mean of the ``ceil(ohem * n)`` largest losses.

    Source: mapillary/seamseg, ``seamseg/algos/semantic_seg.py``.

    Differs: nothing but NaN logits and labels out of range.

    Parameters
    ----------
    ohem, ignore_index : optional
        As there.

    Returns
    -------
    OhemCELoss
        The criterion.
    """
    return OhemCELoss(thresh=None, min_kept=RoundedUp(ohem), rule=_MEAN_OF_IMAGES, ignore_index=ignore_index)


def tf_deeplab(
    top_k_percent_pixels: float = 1.0,
    hard_example_mining_step: int = 0,
    step: int = 0,
    ignore_label: int = 255,
    weight: Weight = None,
) -> OhemCELoss:
    """
    Mine like DeepLab in TensorFlow: a fraction of all pixels, divided by the number of losses that are not 0.

    Formula: sum of the ``int(q * n)`` largest losses (in single precision) over the number of those that are not 0; q
    goes from 1 to `top_k_percent_pixels` in `hard_example_mining_step` steps. For q = 1, the sum over all over the
    number of valid pixels.

    Source: tensorflow/models, ``research/deeplab/utils/train_utils.py``.

    Differs: a label out of range has a loss of 0 there; it is an error, or NaN, here.

    Parameters
    ----------
    top_k_percent_pixels, hard_example_mining_step : optional
        As there.
    step : int, optional
        The step of training, where `hard_example_mining_step` is not 0.
    ignore_label : optional
        As there.
    weight : optional
        Class weights.

    Returns
    -------
    OhemCELoss
        The criterion, of this step.
    """
    if top_k_percent_pixels == 1.0:
        rule = MiningRule(normaliser="valid")
        return OhemCELoss(thresh=None, min_kept=1.0, rule=rule, ignore_index=ignore_label, weight=weight)
    ratio = min(1.0, step / hard_example_mining_step) if hard_example_mining_step else 1.0
    kept = Single(ratio * top_k_percent_pixels + (1 - ratio))
    rule = MiningRule(pool="all", normaliser="nonzero")
    return OhemCELoss(thresh=None, min_kept=kept, rule=rule, ignore_index=ignore_label, weight=weight)


def deeplab2(top_k_percent_pixels: float = 1.0, ignore_label: int = 255, weight: Weight = None) -> OhemCELoss:
    """
    Mine like deeplab2: a fraction of each image, divided by the number of losses that are not 0.

    Formula: mean over the images of the sum of the ``round(q * n)`` largest losses over the number of those that are
    not 0. Pass its pixel weights as `pixel_weight`.

    Source: google-research/deeplab2, ``model/loss/base_loss.py``.

    Differs: there the losses of the images are returned and averaged later; here their mean is. Labels of another size
    than the logits are refused here.

    Parameters
    ----------
    top_k_percent_pixels, ignore_label : optional
        As there.
    weight : optional
        Class weights.

    Returns
    -------
    OhemCELoss
        The criterion.
    """
    kept = Single(top_k_percent_pixels, rounded=True)
    rule = MiningRule(pool="all", per_image="mean", normaliser="nonzero")
    return OhemCELoss(thresh=None, min_kept=kept, rule=rule, ignore_index=ignore_label, weight=weight)


def paddleseg_ce(
    weight: Weight = None,
    ignore_index: int = 255,
    top_k_percent_pixels: float = 1.0,
    avg_non_ignore: bool = True,
) -> OhemCELoss:
    """
    Mine like PaddleSeg's cross-entropy: a fraction of all pixels, divided by their class weights.

    Formula: sum of the ``int(q * n)`` largest weighted losses over the class weights of those pixels. For q = 1, the
    sum over all over the class weights of the valid pixels, or with `avg_non_ignore` False and no class weights over
    the number of all.

    Source: PaddlePaddle/PaddleSeg, ``paddleseg/models/losses/cross_entropy_loss.py``.

    Differs: there an ignored pixel that is selected is counted with the weight of class 0; here with 0 if there are
    class weights, with 1 if not, as there.

    Parameters
    ----------
    weight, ignore_index, top_k_percent_pixels, avg_non_ignore : optional
        As there.

    Returns
    -------
    OhemCELoss
        The criterion.
    """
    if top_k_percent_pixels == 1.0:
        rule = MiningRule(normaliser="all" if weight is None and not avg_non_ignore else "valid_weight")
        return OhemCELoss(thresh=None, min_kept=1.0, rule=rule, ignore_index=ignore_index, weight=weight)
    rule = MiningRule(pool="all", normaliser="selected" if weight is None else "selected_weight")
    kept = Share(top_k_percent_pixels)
    return OhemCELoss(thresh=None, min_kept=kept, rule=rule, ignore_index=ignore_index, weight=weight)


def super_gradients_bce(
    threshold: float = 0.7, mining_percent: float = 0.1, num_pixels_exclude_ignored: bool = True
) -> OhemBCELoss:
    """
    Mine like SuperGradients: as `super_gradients`, of binary losses.

    Formula: as `super_gradients`. Pass the elements that count as `where`.

    Source: Deci-AI/super-gradients, ``src/super_gradients/training/losses/ohem_ce_loss.py``.

    Differs: a label to ignore that is not passed on is a target there (255 in its STDC loss); an error, or NaN, here.

    Parameters
    ----------
    threshold, mining_percent, num_pixels_exclude_ignored : optional
        As there.

    Returns
    -------
    OhemBCELoss
        The criterion.
    """
    pool: Pool = "valid" if num_pixels_exclude_ignored else "all"
    kept = Share(mining_percent, of=pool, all_but_one=True)
    return OhemBCELoss(thresh=threshold, min_kept=kept, rule=MiningRule(pool=pool))


def luxonis_bce(ohem_ratio: float = 0.1, ohem_threshold: float = 0.7) -> OhemBCELoss:
    """
    Mine like LuxonisTrain: as `luxonis`, of binary losses.

    Formula: as `luxonis`.

    Source: luxonis/luxonis-train, ``luxonis_train/attached_modules/losses/ohem_loss.py``.

    Differs: NaN there if nothing is selected, 0 here.

    Parameters
    ----------
    ohem_ratio, ohem_threshold : optional
        As there.

    Returns
    -------
    OhemBCELoss
        The criterion.
    """
    kept = Share(ohem_ratio, all_but_one=True)
    return OhemBCELoss(thresh=ohem_threshold, min_kept=kept, rule=_ALL)
