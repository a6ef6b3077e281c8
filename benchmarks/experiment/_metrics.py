"""How well pixels are classified: counts of pairs of label and prediction, and what follows from them."""

import numpy as np

from ohemloss._cli._photograph import IGNORE

from ._types import Bytes, Counts, Numbers


def confusion(labels: Bytes, predicted: Bytes, n_classes: int) -> Counts:
    """Count the pixels of each label (rows) that were taken for each class (columns); the ignored are left out."""
    valid = labels != IGNORE
    pairs = labels[valid].astype(np.int64) * n_classes + predicted[valid]
    return np.bincount(pairs, minlength=n_classes**2).reshape(n_classes, n_classes)


def iou(counts: Counts) -> Numbers:
    """Divide the pixels on which label and prediction are a class by those on which one of them is; NaN without any."""
    both = np.diagonal(counts)
    return _ratio(both, np.sum(counts, axis=0) + np.sum(counts, axis=1) - both)


def recall(counts: Counts) -> Numbers:
    """Compute the share of each class's pixels that were found; NaN without any."""
    return _ratio(np.diagonal(counts), np.sum(counts, axis=1))


def _ratio(part: Counts, whole: Counts) -> Numbers:
    return np.divide(part, whole, out=np.full(len(part), np.nan), where=whole > 0)
