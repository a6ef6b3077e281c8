"""One call as the workers see it: flat arrays with a number for each pixel, and what is asked for."""

from dataclasses import dataclass
from typing import Any

import array_api_compat.numpy as xp
import numpy as np

from ohemloss import Cut
from ohemloss._inputs import Inputs
from ohemloss._options import Options
from ohemloss._steps import plain_engine

from ._steps import kth_largest, total

ENGINE = plain_engine(xp, kth_largest=kth_largest, total=total)


@dataclass(frozen=True)
class Task:
    """
    The arguments of a call, all pixels in the order of the labels.

    Attributes
    ----------
    dtype : numpy.dtype
        Of the loss.
    n_classes : int
        The number of classes.
    labels, pixel_weight, positives : numpy.ndarray
        1-d.
    weight : numpy.ndarray or None
        One number for each class.
    options : Options
        Of the call.
    """

    dtype: np.dtype
    n_classes: int
    labels: np.ndarray
    pixel_weight: np.ndarray | None
    positives: np.ndarray | None
    weight: np.ndarray | None
    options: Options

    @property
    def n_logits(self) -> int:
        """How many logits the labels see: as many as there are, unless these are resized."""
        return self.n_classes * len(self.labels)

    @staticmethod
    def of(inputs: Inputs, options: Options) -> "Task":
        """Lay the arguments out."""
        shape = inputs.labels.shape
        return Task(
            dtype=np.dtype(np.float64 if inputs.logits.dtype == np.float64 else np.float32),
            n_classes=inputs.logits.shape[options.axis],
            labels=inputs.labels.reshape(-1),
            pixel_weight=None if inputs.pixel_weight is None else flat(inputs.pixel_weight, shape),
            positives=None if inputs.positives is None else flat(inputs.positives, shape),
            weight=inputs.weight,
            options=options,
        )


@dataclass(frozen=True)
class Kept:
    """
    What the forward pass leaves for the backward pass.

    `scores` has a number for each pixel, in the shape of the labels.
    """

    scores: np.ndarray
    cut: Cut
    divisor: Any


def flat(array: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """Lay an array that broadcasts to a shape out in the order of that shape."""
    return np.broadcast_to(array, shape).reshape(-1)
