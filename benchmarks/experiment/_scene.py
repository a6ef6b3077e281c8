"""The photograph as a model sees it, and which of its labels are for training and which for the test."""

from dataclasses import dataclass

import numpy as np

from ohemloss._cli import _photograph
from ohemloss._cli._photograph import IGNORE

from ._plan import CELL, Plan
from ._types import Array, Bools, Bytes, Floats, Numbers

FOLDS = (0, 1)  # training on the white squares and the test on the black ones, and the other way round
FINE = 2  # how many times finer than the features the colours are


@dataclass(frozen=True)
class Scene:
    """
    The photograph.

    Attributes
    ----------
    features, colours : array
        float32, ``(channels, rows, columns)``, mean 0 and deviation 1: of a residual network, at 1/16 of the size of
        the photograph, and its red, green and blue at 1/8.
    labels : array
        uint8, ``(height, width)``.
    names : tuple of str
        What the classes are called.
    image : array
        uint8, ``(height, width, 3)``.
    """

    features: Floats
    colours: Floats
    labels: Bytes
    names: tuple[str, ...]
    image: Bytes

    def shares(self) -> Numbers:
        """Compute the share of each class among the labelled pixels."""
        counts = np.bincount(self.labels[self.labels != IGNORE], minlength=len(self.names))
        shares: Numbers = counts / np.sum(counts)
        return shares


def load(plan: Plan) -> Scene:
    """Read the part of the photograph that the plan asks for."""
    photograph = _photograph.load()
    top, bottom, left, right = plan.window
    pixels = slice(top * CELL, bottom * CELL), slice(left * CELL, right * CELL)
    image = photograph.image[pixels]
    return Scene(
        features=_standardise(photograph.features[top:bottom, left:right]),
        colours=_standardise(_shrink(image, CELL // FINE)),
        labels=photograph.labels[pixels],
        names=photograph.names,
        image=image,
    )


def squares(shape: tuple[int, int], plan: Plan, fold: int) -> Bools:
    """Find the pixels in the squares of one colour, without their margins."""
    (row, down), (column, across) = (np.divmod(np.arange(length), plan.block) for length in shape)
    inside = [(plan.margin <= place) & (place < plan.block - plan.margin) for place in (down, across)]
    found: Bools = (row[:, None] + column) % 2 == fold
    return found & inside[0][:, None] & inside[1]


def training_labels(labels: Bytes, plan: Plan, fold: int) -> Bytes:
    """Ignore all but the squares to train on."""
    return _keep(labels, plan, fold)


def held_out_labels(labels: Bytes, plan: Plan, fold: int) -> Bytes:
    """Ignore all but the squares that are held out."""
    return _keep(labels, plan, 1 - fold)


def _keep(labels: Bytes, plan: Plan, colour: int) -> Bytes:
    height, width = labels.shape
    return np.where(squares((height, width), plan, colour), labels, np.uint8(IGNORE))


def _shrink(image: Bytes, n: int) -> Numbers:
    """Average squares of `n` by `n` pixels."""
    height, width, channels = image.shape
    means: Numbers = np.mean(image.reshape(height // n, n, width // n, n, channels), axis=(1, 3))
    return means


def _standardise(places: Array) -> Floats:
    """Give each channel mean 0 and deviation 1, and put the channels first."""
    wide = places.astype(np.float64)
    scaled = (wide - np.mean(wide, axis=(0, 1))) / (np.std(wide, axis=(0, 1)) + 1e-6)
    return np.ascontiguousarray(np.moveaxis(scaled, -1, 0), dtype=np.float32)
