"""
The OHEM losses that people train with, by name.

Each function has the argument names and the defaults of one code base, and returns a criterion that computes what that
code computes, on arrays of any library; its docstring says where it is from, and what we do not copy.
"""

from ._by_loss import (
    aot,
    bisenet,
    bisenet_old,
    deeplab2,
    deeplab_ce,
    luxonis,
    luxonis_bce,
    nnunet_topk,
    paddleseg_bootstrapped,
    paddleseg_ce,
    pytorch_semseg,
    regseg,
    seamseg,
    semseg,
    stdc,
    super_gradients,
    super_gradients_bce,
    tf_deeplab,
    xmem,
)
from ._by_prob import (
    hrnet,
    mmseg,
    mmseg_ohem,
    ocnet,
    paddleseg,
    panoptic_deeplab_ohem,
    pidnet,
    pytorch_loss,
    torchseg,
    tramac,
)
from ._hard_negatives import db, ssd
from ._per_gpu import per_gpu

__all__ = [
    "aot",
    "bisenet",
    "bisenet_old",
    "db",
    "deeplab2",
    "deeplab_ce",
    "hrnet",
    "luxonis",
    "luxonis_bce",
    "mmseg",
    "mmseg_ohem",
    "nnunet_topk",
    "ocnet",
    "paddleseg",
    "paddleseg_bootstrapped",
    "paddleseg_ce",
    "panoptic_deeplab_ohem",
    "per_gpu",
    "pidnet",
    "pytorch_loss",
    "pytorch_semseg",
    "regseg",
    "seamseg",
    "semseg",
    "ssd",
    "stdc",
    "super_gradients",
    "super_gradients_bce",
    "tf_deeplab",
    "torchseg",
    "tramac",
    "xmem",
]
