"""What the mining does to each class."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt


@dataclass(frozen=True)
class Shares:
    """
    Of each class in the labels, the one with the most mined pixels first.

    Attributes
    ----------
    classes : array
        The labels.
    n_valid, n_mined : array
        How many pixels each has, and how many of them are mined; those that tie share the places left.
    mean_loss : array
        The mean loss of its pixels, mined or not.
    """

    classes: npt.NDArray[Any]
    n_valid: npt.NDArray[np.int64]
    n_mined: npt.NDArray[np.float64]
    mean_loss: npt.NDArray[np.float64]


def shares_of(
    labels: npt.NDArray[Any],
    valid: npt.NDArray[np.bool_],
    weights: npt.NDArray[np.floating[Any]],
    losses: npt.NDArray[np.floating[Any]],
) -> Shares:
    """Count the pixels of each class, and average their losses; `weights` says how much of each pixel is mined."""
    classes, places = np.unique(labels[valid], return_inverse=True)
    n_valid = np.bincount(places, minlength=len(classes))
    n_mined = np.bincount(places, weights[valid], minlength=len(classes))
    mean_loss = np.bincount(places, losses[valid], minlength=len(classes)) / n_valid
    order = np.argsort(-n_mined, kind="stable")
    return Shares(classes[order], n_valid[order], n_mined[order], mean_loss[order])
