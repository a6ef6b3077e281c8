"""Logits and labels like those of a segmentation model: smooth regions, sure inside, unsure at borders."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

IGNORE = 255
THRESH = 0.7
# Shares of hard pixels: a model that starts, one that learns, one that has learned.
REGIMES = (0.95, 0.40, 0.03)

_CELL = 32  # pixels between two values of the coarse field, along each axis
_LEAST = 4  # values along an axis, so that small images have borders, too
_FLOOR, _SHIFT, _NOISE = -12.0, 3.0, 0.2
_SAMPLE = 2**21  # logits that the share is measured on
_HALVINGS = 12  # no more: it closes in on a pixel at the threshold, which rounding would then decide


@dataclass(frozen=True)
class Data:
    """Logits of shape ``(n, c, h, w)`` and float32, and labels of shape ``(n, h, w)``."""

    logits: npt.NDArray[np.float32]
    labels: npt.NDArray[np.int64]


def make(shape: tuple[int, int, int, int], hard: float, seed: int = 0) -> Data:
    """Make logits and labels of which the share `hard` has a label less probable than `THRESH`."""
    rng = np.random.default_rng(seed)
    logits = _enlarge(_coarse(rng, shape), shape)
    labels = np.argmax(logits, axis=1)
    logits -= np.max(logits, axis=1, keepdims=True)
    noise = rng.standard_normal(shape, dtype=np.float32)
    noise *= _NOISE
    scale = _scale_for(hard, *(_sample(array, labels, rng) for array in (logits, noise)))
    _sharpen(logits, noise, scale)
    logits += np.float32(_SHIFT)
    _ignore_some(labels, rng)
    return Data(logits, labels)


def share_of_hard(data: Data) -> float:
    """Measure the share of hard pixels among those that are not ignored."""
    valid = data.labels != IGNORE
    rows = np.moveaxis(data.logits, 1, -1)[valid]
    return _share(_label_first(rows, data.labels[valid]))


def _coarse(rng: np.random.Generator, shape: tuple[int, int, int, int]) -> npt.NDArray[np.float32]:
    n, c, *size = shape
    return rng.standard_normal((n, c, *(max(_LEAST, length // _CELL) for length in size)), dtype=np.float32)


def _enlarge(coarse: npt.NDArray[np.float32], shape: tuple[int, int, int, int]) -> npt.NDArray[np.float32]:
    down, across = (_interpolation(coarse.shape[i], shape[i]) for i in (2, 3))
    large: npt.NDArray[np.float32] = down @ (coarse @ across.T)
    return large


def _interpolation(n: int, m: int) -> npt.NDArray[np.float32]:
    """Make the ``(m, n)`` matrix that samples `n` values at `m` places between them, linearly."""
    places = np.linspace(0, n - 1, m)
    hats: npt.NDArray[np.float64] = np.maximum(0, 1 - np.abs(places[:, None] - np.arange(n)))
    return hats.astype(np.float32)


def _sample(
    array: npt.NDArray[np.float32], labels: npt.NDArray[np.int64], rng: np.random.Generator
) -> npt.NDArray[np.float32]:
    """Take some pixels, evenly spread, as rows that begin with the class of the label."""
    n, c, h, w = array.shape
    step = max(1, array.size // _SAMPLE)
    step += step % 2 == 0 and step > 1  # lengths of rows are even: an even step would see some columns alone
    pixels = np.arange(0, labels.size, step)
    image, place = np.divmod(pixels, h * w)
    rows = array.reshape(n, c, h * w)[image, :, place]
    return _label_first(rows, labels.ravel()[pixels])


def _label_first(rows: npt.NDArray[Any], labels: npt.NDArray[Any]) -> npt.NDArray[Any]:
    rows = rows.copy()
    own = np.arange(len(rows)), labels
    rows[:, 0], rows[own] = rows[own], rows[:, 0].copy()
    return rows


def _scale_for(hard: float, field: npt.NDArray[np.float32], noise: npt.NDArray[np.float32]) -> float:
    """Find by bisection how sharp the field must be; the sharper, the fewer pixels are hard."""
    low, high = 0.0, 1.0
    while _share_at(high, field, noise) > hard and high < 1e6:
        low, high = high, 2 * high
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        low, high = (middle, high) if _share_at(middle, field, noise) > hard else (low, middle)
    return high


def _share_at(scale: float, field: npt.NDArray[np.float32], noise: npt.NDArray[np.float32]) -> float:
    logits = field.copy()
    _sharpen(logits, noise, scale)
    return _share(logits)


def _share(rows: npt.NDArray[np.float32]) -> float:
    """Measure how often the first class of a row is less probable than `THRESH`."""
    odds = np.sum(np.exp(rows[:, 1:] - rows[:, :1]), axis=1)
    return float(np.mean(1 / (1 + odds) < THRESH))


def _sharpen(field: npt.NDArray[np.float32], noise: npt.NDArray[np.float32], scale: float) -> None:
    field *= np.float32(scale)
    np.maximum(field, np.float32(_FLOOR), out=field)
    field += noise


def _ignore_some(labels: npt.NDArray[np.int64], rng: np.random.Generator) -> None:
    """Ignore the first rows, as an unlabelled edge, and single pixels."""
    labels[:, : labels.shape[1] // 20] = IGNORE
    labels[rng.random(labels.shape) < 0.02] = IGNORE
