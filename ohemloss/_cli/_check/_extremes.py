"""Cases at the ends: ties, few or no pixels, the largest numbers, and what is no number."""

from dataclasses import replace

import numpy as np

from ._case import IGNORE, Case
from ._draws import Numbers, integers, round_to
from ._noise import SHAPE, drawn

# Logits next to the largest number of a dtype, so that sums of losses still fit the dtype that they are summed in.
_LARGEST = {"float16": 2.0**15, "bfloat16": 2.0**115, "float32": 2.0**115, "float64": 2.0**1000}
_N = SHAPE[0] * SHAPE[2] * SHAPE[3]


def extremes(dtype: str) -> list[Case]:
    """Give all of them."""
    return [*_few(dtype), *_large(dtype), *_no_numbers(dtype)]


def _few(dtype: str) -> list[Case]:
    one = drawn(dtype, 12, "one class", "one class: the loss is 0", 0.4)
    none = drawn(dtype, 13, "empty", "a batch of no images: the loss is 0", 0.4)
    ignored = drawn(dtype, 14, "all ignored", "no pixel counts: the loss is 0", 0.4)
    return [
        _ties(),
        replace(one, logits=one.logits[:, :1], labels=np.where(one.labels == IGNORE, one.labels, np.int32(0))),
        replace(none, logits=none.logits[:0], labels=none.labels[:0]),
        replace(ignored, labels=np.full_like(ignored.labels, IGNORE)),
    ]


def _ties() -> Case:
    """
    Give 20 pixels of loss log(5), and 100 of log(2), which share 12 places; whatever the order of the classes.

    All others have a loss of 0. The exponential of -100 is less than half of the epsilon of each dtype.
    """
    order = np.argsort(integers(150, _N, 0, 2**32), kind="stable")
    labels = integers(151, _N, 0, SHAPE[1]).astype(np.int32)
    logits = np.full((_N, SHAPE[1]), -100.0)
    logits[np.arange(_N), labels] = 0
    logits[order[:20]] = 0
    logits[order[20:120], (labels[order[20:120]] + 1) % SHAPE[1]] = 0
    return Case(
        name="ties",
        about="100 pixels tie at the last place, and share 12 places; no threshold",
        logits=_of_rows(logits),
        labels=labels.reshape(SHAPE[0], *SHAPE[2:]),
        thresh=0,
        min_kept=32,
    )


def _of_rows(rows: Numbers) -> Numbers:
    images = np.moveaxis(rows.reshape(SHAPE[0], *SHAPE[2:], SHAPE[1]), -1, 1)
    return np.ascontiguousarray(images)


def _large(dtype: str) -> list[Case]:
    sharp = drawn(dtype, 16, "1e4", "logits of 10000 and -10000", 0.4)
    limits = drawn(dtype, 17, "limits", "logits near the largest numbers of the dtype", 0.4)
    shifted = drawn(dtype, 18, "shifted", "noise around 1000: only differences count", 0.4)
    barred = drawn(dtype, 19, "-inf", "a class that is impossible, its logits minus infinity", 0.4)
    # The class of the label takes no part: of the others it is the lowest that may be impossible.
    impossible = np.moveaxis(barred.logits, 1, -1).copy()
    impossible[barred.labels != 0, 0] = -np.inf
    return [
        replace(sharp, logits=round_to(np.where(sharp.logits > 0, 1e4, -1e4), dtype)),
        replace(limits, logits=np.where(limits.logits > 0, _LARGEST[dtype], -_LARGEST[dtype])),
        replace(shifted, logits=round_to(shifted.logits + 1000, dtype)),
        replace(barred, logits=np.ascontiguousarray(np.moveaxis(impossible, -1, 1))),
    ]


def _no_numbers(dtype: str) -> list[Case]:
    hidden = drawn(dtype, 20, "NaN hidden", "NaN and infinity among the logits of ignored pixels", 0.4, ignored=0.3)
    shown = drawn(dtype, 21, "NaN shown", "NaN among the logits of a pixel that counts: the loss is NaN", 0.4)
    rows = np.moveaxis(hidden.logits, 1, -1).copy()
    ignored = hidden.labels == IGNORE
    rows[ignored, 1], rows[ignored, 2] = np.nan, np.inf
    seen = np.moveaxis(shown.logits, 1, -1).copy()
    first = np.unravel_index(np.argmax(shown.labels != IGNORE), shown.labels.shape)
    seen[(*first, 3)] = np.nan
    return [
        replace(hidden, logits=np.ascontiguousarray(np.moveaxis(rows, -1, 1))),
        replace(shown, logits=np.ascontiguousarray(np.moveaxis(seen, -1, 1))),
    ]
