"""All cases, their fingerprint, and one shape for all of them."""

import hashlib
from dataclasses import replace
from functools import cache

import numpy as np

from ._case import IGNORE, Case, Shape
from ._extremes import extremes
from ._noise import mined, noise, weighted
from ._reference import n_kept

FLOATS = ("float16", "bfloat16", "float32", "float64")


@cache
def cases(dtype: str) -> tuple[Case, ...]:
    """Give all cases, rounded to a dtype."""
    return (*noise(dtype), *weighted(dtype), *mined(dtype), *extremes(dtype))


def names() -> dict[str, str]:
    """Name all cases, and say what each is about."""
    return {case.name: case.about for case in cases("float64")}


@cache
def fingerprint() -> str:
    """Hash every bit of every case: two reports speak of the same numbers only if theirs are equal."""
    digest = hashlib.sha256()
    for dtype in FLOATS:
        for case in cases(dtype):
            digest.update(repr((dtype, case.name, case.logits.shape, case.thresh, case.min_kept)).encode())
            for array in (case.logits, case.weight, case.pixel_weight):
                digest.update(b"-" if array is None else array.astype("<f8").tobytes())
            digest.update(case.labels.astype("<i4").tobytes())
    return digest.hexdigest()


@cache
def cases_of_one_shape(dtype: str) -> tuple[Case, ...]:
    """
    Lay all cases into arrays of one shape, with all options given, so that one compiled program serves them.

    Their classes that were not there are impossible (minus infinity), and their pixels that were not there are ignored:
    value and gradient stay the same.
    """
    n, c, h, w = (max(lengths) for lengths in zip(*(case.logits.shape for case in cases(dtype)), strict=True))
    return tuple(_laid(case, (n, c, h, w)) for case in cases(dtype))


def _laid(case: Case, shape: Shape) -> Case:
    n, c, h, w = case.logits.shape
    n_images, n_classes, *size = shape
    logits, labels = np.zeros(shape), np.full((n_images, *size), IGNORE, dtype=np.int32)
    logits[:n, c:, :h, :w] = -np.inf
    logits[:n, :c, :h, :w] = case.logits
    labels[:n, :h, :w] = case.labels
    weight, pixel_weight = np.ones(n_classes), np.ones((n_images, *size))
    if case.weight is not None:
        weight[:c] = case.weight
    if case.pixel_weight is not None:
        pixel_weight[:n, :h, :w] = case.pixel_weight
    return replace(case, logits=logits, labels=labels, weight=weight, pixel_weight=pixel_weight, min_kept=n_kept(case))
