"""Logits at a part of the labels' resolution: resized within the loss, or enlarged before it as training codes do."""

import functools
from collections.abc import Callable
from typing import Any

import numpy as np

import ohemloss

from . import _data
from ._calls import EAGER, OURS, timed
from ._data import IGNORE, Data
from ._timing import Call

# Every how many-th row of the labels the share is measured on; not a multiple of the ratios.
_STEP = 17
_HALVINGS = 10


@functools.lru_cache(maxsize=1)
def make(shape: tuple[int, int, int, int], ratio: int, hard: float) -> Data:
    """Make logits of a shape, and labels that many times as large, of which the share `hard` is hard when enlarged."""
    small = _data.make(shape, hard)
    large = _enlarge(small.logits, ratio)
    ignored = np.repeat(np.repeat(small.labels == IGNORE, ratio, axis=1), ratio, axis=2)
    labels = np.where(ignored, IGNORE, np.argmax(large, axis=1))
    some = Data(np.ascontiguousarray(large[:, :, ::_STEP]), np.ascontiguousarray(labels[:, ::_STEP]))
    return Data(small.logits * np.float32(_scale_for(hard, some)), labels)


def call(variant: str, data: Data, *, backward: bool) -> Call:
    """Make a call of PyTorch."""
    import torch

    from . import _baselines_torch

    ours: Callable[..., Any] = functools.partial(ohemloss.ohem_cross_entropy, resize="bilinear")
    loss = {OURS: ours, EAGER: _baselines_torch.enlarged}[variant]
    return timed(loss, torch.from_numpy(data.logits), torch.from_numpy(data.labels), backward=backward)


def _enlarge(logits: np.ndarray, ratio: int) -> np.ndarray:
    import torch

    made = torch.nn.functional.interpolate(torch.from_numpy(logits), scale_factor=ratio, mode="bilinear")
    return np.asarray(made.numpy())


def _scale_for(hard: float, some: Data) -> float:
    """Find by bisection how much sharper the logits must be; the sharper, the fewer pixels are hard."""

    def share(scale: float) -> float:
        return _data.share_of_hard(Data(some.logits * np.float32(scale), some.labels))

    low, high = 0.0, 1.0
    while share(high) > hard and high < 1e6:
        low, high = high, 2 * high
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        low, high = (middle, high) if share(middle) > hard else (low, middle)
    return high
