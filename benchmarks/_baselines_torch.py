"""What PyTorch users write in place of the loss. Apart from the others: the memory probe loads one framework."""

import torch
from torch import Tensor
from torch.nn import functional as F

from ._baselines import MIN_KEPT, THRESH_LOSS
from ._data import IGNORE, THRESH


def eager(logits: Tensor, labels: Tensor) -> Tensor:
    """Mine as most repositories do: the hard pixels, or `topk` if they are too few."""
    n_min = labels[labels != IGNORE].numel() // MIN_KEPT
    loss = F.cross_entropy(logits, labels, ignore_index=IGNORE, reduction="none").view(-1)
    hard = loss[loss > THRESH_LOSS]
    if hard.numel() < n_min:
        hard, _ = loss.topk(n_min)
    return hard.mean()


def enlarged(logits: Tensor, labels: Tensor) -> Tensor:
    """Enlarge logits of a lower resolution first."""
    return eager(F.interpolate(logits, size=labels.shape[1:], mode="bilinear"), labels)


def plain(logits: Tensor, labels: Tensor) -> Tensor:
    """Compute the cross-entropy without mining."""
    return F.cross_entropy(logits, labels, ignore_index=IGNORE)


def hrnet(logits: Tensor, labels: Tensor, min_kept: int | None = None) -> Tensor:
    """Mine as HRNet does: all probabilities of the labels are sorted, and the next one raises the threshold."""
    pixel_losses = F.cross_entropy(logits, labels, ignore_index=IGNORE, reduction="none").reshape(-1)
    valid = (labels != IGNORE).reshape(-1)
    places = torch.where(labels == IGNORE, 0, labels).unsqueeze(1)
    p = F.softmax(logits, dim=1).gather(1, places).reshape(-1)[valid]
    ordered, _ = p.sort()
    k = valid.numel() // MIN_KEPT if min_kept is None else min_kept
    threshold = ordered[min(k, ordered.numel() - 1)].clamp(min=THRESH)
    return pixel_losses[valid][p < threshold].mean()
