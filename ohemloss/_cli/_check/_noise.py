"""Cases of noise, with a known share of hard pixels."""

from dataclasses import replace

import numpy as np

from .. import _walkthrough
from ._case import IGNORE, Case, Shape
from ._draws import Numbers, fractions, integers, round_to, some

SHAPE = (2, 5, 16, 16)
# More logits than a backend leaves to the code for small arrays.
_MANY = (2, 19, 64, 32)
_CLASS_WEIGHTS = (1.0, 0.5, 2.0, 0.0, 3.0)


def noise(dtype: str) -> list[Case]:
    """Give the documented tensors, and noise."""
    regimes = [
        drawn(dtype, seed, f"{share} % hard", f"noise, {share} % of the pixels hard, 10 % ignored", share / 100)
        for seed, share in ((1, 95), (2, 40), (3, 3))
    ]
    return [
        _documented(dtype),
        *regimes,
        drawn(dtype, 4, "mostly ignored", "noise, 40 % of the pixels hard, 90 % ignored", 0.4, ignored=0.9),
        drawn(dtype, 5, "many pixels", "noise, 4096 pixels of 19 classes, 3 % hard, 10 % ignored", 0.03, shape=_MANY),
    ]


def weighted(dtype: str) -> list[Case]:
    """Noise with weights; always both, some of them all 1, so that a library that compiles has one program to make."""
    n_pixels = SHAPE[0] * SHAPE[2] * SHAPE[3]
    by_class, by_pixel = np.asarray(_CLASS_WEIGHTS), integers(99, n_pixels, 0, 9).reshape(SHAPE[0], *SHAPE[2:]) / 4
    ones, all_ones = np.ones_like(by_class), np.ones_like(by_pixel)
    about = "noise, 40 % of the pixels hard, {} of weight 0"
    classes = drawn(dtype, 6, "class weights", about.format("one class"), 0.4)
    pixels = drawn(dtype, 7, "pixel weights", about.format("some pixels"), 0.4)
    both = drawn(dtype, 8, "both weights", "noise, 3 % of the pixels hard, weights of classes and of pixels", 0.03)
    return [
        replace(classes, weight=by_class, pixel_weight=all_ones),
        replace(pixels, weight=ones, pixel_weight=by_pixel),
        replace(both, weight=by_class, pixel_weight=by_pixel),
    ]


def mined(dtype: str) -> list[Case]:
    """Noise mined by other options."""
    return [
        replace(
            drawn(dtype, 9, "no threshold", "noise, the 100 hardest pixels alone are mined", 0.4),
            thresh=0,
            min_kept=100,
        ),
        replace(drawn(dtype, 10, "all kept", "noise, min_kept above the number of pixels", 0.4), min_kept=10**6),
        replace(drawn(dtype, 11, "none kept", "noise, no pixel hard and min_kept=0: the loss is 0", 0), min_kept=0),
    ]


def drawn(
    dtype: str, seed: int, name: str, about: str, hard: float, *, ignored: float = 0.1, shape: Shape = SHAPE
) -> Case:
    """
    Draw logits and labels.

    The logit of the label is below the largest of the others, so that the loss is above log(2), or so far above it that
    the loss is below 0.2: on either side of the threshold, log(1 / 0.7), and made by nothing but comparisons and sums.
    """
    n_images, n_classes, *size = shape
    n = n_images * size[0] * size[1]
    labels, rows = integers(10 * seed, n, 0, n_classes), np.arange(n)
    logits = fractions(10 * seed + 1, n * n_classes, -3, 3).reshape(n, n_classes)
    logits[rows, labels] = -np.inf
    below, above = fractions(10 * seed + 2, n, -4, 0), fractions(10 * seed + 3, n, 5, 9)
    logits[rows, labels] = np.max(logits, axis=1) + np.where(some(10 * seed + 4, n, round(hard * n)), below, above)
    labels[some(10 * seed + 5, n, round(ignored * n))] = IGNORE
    return Case(
        name=name,
        about=about,
        logits=_images(round_to(logits, dtype), shape),
        labels=labels.astype(np.int32).reshape(n_images, *size),
    )


def _images(rows: Numbers, shape: Shape) -> Numbers:
    n_images, n_classes, height, width = shape
    return np.ascontiguousarray(np.moveaxis(rows.reshape(n_images, height, width, n_classes), -1, 1))


def _documented(dtype: str) -> Case:
    example = _walkthrough.load()
    return Case(
        name="documented",
        about="the tensors of the worked example",
        logits=round_to(np.asarray(example["logits"]), dtype),
        labels=np.asarray(example["labels"], dtype=np.int32),
    )
