"""Cases that only the kernels need: edges of their blocks, and interpolated numbers that are not finite."""

import itertools
import math

import numpy as np

from tests._cases import MODES, make_small
from tests.conformance._case import Case
from tests.conformance._table import NEGATIVE, SIZES, batch

# Resized: what is written over the logits at one place.
EXTREMES = {
    "NaN": lambda x: x.__setitem__(2, math.nan),
    "inf": lambda x: x.__setitem__(2, math.inf),
    "-inf": lambda x: x.__setitem__(2, -math.inf),
    "-inf but for one": lambda x: x.__setitem__([0, 1, 2, 4], -math.inf),
    "all -inf": lambda x: x.__setitem__(slice(None), -math.inf),
    "all inf": lambda x: x.__setitem__(slice(None), math.inf),
    "mixed": lambda x: x.__setitem__(slice(None), [math.nan, math.inf, 0, -math.inf, 0]),
    "large": lambda x: x.__imul__(1024),
    "far up": lambda x: x.__iadd__(8192),
}
# Ratios with shares of 0 among them, and axes that stay as they are.
RATIOS = [((3, 4), (9, 15)), ((3, 5), (3, 9)), ((5, 4), (7, 4)), ((7, 9), (3, 5))]
# Several blocks of columns and of cells, and more columns around a logit than a block has.
WIDE = [((2, 17), (3, 136)), ((2, 150), (2, 20)), ((2, 3), (2, 420)), ((1,), (150,)), ((11, 2), (23, 3))]
BILINEAR = {"resize": "bilinear"}
ALL_KEPT = {"thresh": None, "min_kept": 1.0}


def _plain():
    for n in (0, 1, 255, 256, 257, 513, 1025, 2049):
        logits, labels = batch("3% hard", shape=(max(n, 1),))
        yield Case("pixels", str(n), logits[:n], labels[:n])
        yield Case("pixels", f"{n}, rows of classes", logits[:n].T, labels[:n], {"axis": 0})
    logits, labels = batch()
    yield Case("axes", "classes in front of the columns", np.moveaxis(logits, 1, 2), labels, {"axis": 2})


def _sizes():
    for small, size in WIDE:
        for align_corners in (False, True):
            logits, labels = make_small("40% hard", (1, 3, *small), size, align_corners=align_corners)
            options = {"resize": MODES[len(size)], "align_corners": align_corners}
            yield Case("wide", f"{small} to {size}, {align_corners}", logits, labels, options)
    for (small, size), align_corners, kept in itertools.product(SIZES, (False, True), ({"thresh": 0.8}, ALL_KEPT)):
        if len(size) < 3:
            logits, labels = make_small("40% hard", small, size, align_corners=align_corners)
            options = {"resize": MODES[len(size)], "align_corners": align_corners, **kept}
            # An error of one part in 10**12 shows.
            yield Case("exact", f"{small} to {size}, {options}", logits, labels, options, dtypes=("float64",))


def _shapes():
    for n_classes in (1, 2, 8, 9, 150):
        logits, labels = make_small("95% hard", (1, max(n_classes, 2), 2, 2), (3, 5))
        labels = np.where(labels == 255, 5000, labels % n_classes)
        options = {**BILINEAR, **ALL_KEPT, "ignore_index": 5000}
        yield Case("classes", str(n_classes), logits[:, :n_classes], labels, options)
    layouts = ("channels last", "crop", "reversed", "Fortran", "every second class", "repeated images")
    for layout in (*layouts, "every second pixel", "repeated columns"):
        logits, labels = make_small("95% hard", (2, 5, 2, 3), (5, 7))
        yield Case("layouts", layout, logits, labels, BILINEAR, layout=layout)
    logits, labels = make_small("40% hard", (2, 5, 2, 3), (5, 9))
    for axis in (0, 2, 3):
        yield Case("axes", str(axis), np.moveaxis(logits, 1, axis), labels, {**BILINEAR, "axis": axis})
    for change in (np.asfortranarray, lambda y: np.flip(np.flip(y).copy())):
        u = change(np.linspace(0.5, 2, labels.size, dtype=np.float32).reshape(labels.shape))
        yield Case("labels", f"of another layout, {u.strides}", logits, change(labels), {**BILINEAR, "pixel_weight": u})
    yield Case("labels", "uint8", logits, labels, BILINEAR, label_dtype="uint8")
    for label in (-1, 2**32, -(2**63)):  # no memory is touched: the last would be far outside of any
        wrong = labels.copy()
        wrong[1, 2, 3] = label
        for options in ({}, {"weight": NEGATIVE, "thresh": None, "min_kept": 0}):
            yield Case("wrong", f"{label}, {options}", logits, wrong, {**BILINEAR, **options})
    logits, labels = make_small("40% hard", (6, 4, 2, 3), (5, 7))
    videos, of_videos = logits.reshape(2, 3, 4, 2, 3), labels.reshape(2, 3, 5, 7)
    for axis in (0, 1, 2, 4):
        yield Case("axes", f"videos, {axis}", np.moveaxis(videos, 2, axis), of_videos, {**BILINEAR, "axis": axis})
    yield Case("axes", "an image alone", logits[0], labels[0], {**BILINEAR, "axis": 0})
    logits, labels = make_small("40% hard", (6, 5, 3), (8,))
    yield Case("axes", "a line alone", logits[0], labels[0], {"resize": "linear", "axis": 0})
    lines = logits.reshape(3, 2, 5, 3), labels.reshape(3, 2, 8)
    yield Case("axes", "lines of several axes", *lines, {"resize": "linear", "axis": 2})


def _extremes():
    for number, (name, write) in enumerate(EXTREMES.items()):
        for small, size in RATIOS:
            for align_corners in (False, True):
                logits, labels = make_small("40% hard", (2, 5, *small), size, align_corners=align_corners)
                write(logits[0, :, 1, 2])
                write(logits[1, :, -1, -1])
                labels[0, 0] = 2
                kept = ({}, {"thresh": None, "min_kept": 5}, ALL_KEPT)[(number + align_corners + small[0]) % 3]
                options = {**BILINEAR, "align_corners": align_corners, **kept}
                yield Case("extremes", f"{name}, {small} to {size}, {options}", logits, labels, options)
    for seen, why in itertools.product((math.nan, math.inf), ("ignored", "class weight", "pixel weight")):
        logits, labels = make_small(ignored=0)
        logits[1, 2, 0, 0] = seen
        u, w = np.ones(labels.shape, np.float32), np.ones(5, np.float32)
        where = (1, slice(0, 6), slice(0, 6))  # all that lie next to it
        if why == "pixel weight":
            u[where] = 0
        else:
            labels[where] = 255 if why == "ignored" else 4
            w[4] = why == "ignored"
        options = {**BILINEAR, **ALL_KEPT, "pixel_weight": u, "weight": w}
        yield Case("no matter", f"{seen}, {why}", logits, labels, options)
    yield Case("no matter", "all NaN", np.full((2, 3, 4, 4), math.nan), np.full((2, 9, 9), 255), BILINEAR)
    logits, some = make_small("40% hard", (1, 3, 11, 3), (22, 6), ignored=0)
    for rows in ([3], [0, 21], [4, 9, 15, 16], [17]):  # what is carried from gap to gap must end with them
        labels = np.full_like(some, 255)
        labels[:, rows] = some[:, rows] % 3
        labels[:, :, 4] = 255
        yield Case("selected", f"rows {rows} alone", logits, labels, {**BILINEAR, **ALL_KEPT})
    equal = np.zeros((2, 3, 2, 3))
    equal[1, 1] = 2
    labels = np.tile([0, 1, 255, 1], (2, 5, 2))
    for min_kept, more in ((1, {"thresh": None}), (7, {"thresh": 0.01, "reduction": "sum"}), (0.5, {"thresh": None})):
        yield Case("selected", f"ties, {min_kept}", equal, labels, {**BILINEAR, "min_kept": min_kept, **more})
    for min_kept in (0.3, 500):
        options = {**BILINEAR, "weight": NEGATIVE, "min_kept": min_kept}
        yield Case("selected", f"negative weights, {min_kept}", *make_small(), options)
    for options in ({"thresh": None, "min_kept": 0}, {"thresh": 0.0, "min_kept": 0.0}):
        yield Case(
            "selected", f"nothing, {options}", *make_small("40% hard", (1, 3, 2, 3), (4, 9)), {**BILINEAR, **options}
        )


ROWS = [case for section in (_plain, _sizes, _shapes, _extremes) for case in section()]


def runs(path_id, case):
    """Leave to one path what only its blocks need, and to the interpreter, which is slow, some of many like rows."""
    if path_id == "cuda c":
        return case.kind != "wide"
    if case.kind == "extremes":
        return ("(7, 9)" in case.name) != case.options["align_corners"] and "(3, 5)" in case.name
    return case.kind not in ("exact", "wrong") and "2049" not in case.name and "videos" not in case.name
