"""The table of cases: what the loss must give, whatever computes it."""

import json
import math
from importlib.resources import files

import numpy as np

from ohemloss import MiningRule
from tests._cases import MODES, REGIMES, make, make_small, round_to

from ._case import ALL, Case
from ._layouts import LAYOUTS
from ._layouts import RESIZED as RESIZED_LAYOUTS

WEIGHTS = (0.5, 2.0, 0.0, 1.0, 3.0)
NEGATIVE = np.asarray([-1, 0.5, 0, -2, 1], np.float32)


def batch(regime="40% hard", **options):
    """Make logits that every dtype holds."""
    return make(regime, dtype="bfloat16", **options)


def _named(options):
    """Name options, the same in each process."""
    short = lambda value: "array" if hasattr(value, "shape") else getattr(value, "__name__", value)
    return ", ".join(f"{name}={short(value)}" for name, value in options.items())


def _regimes():
    tensors = json.loads(files("ohemloss").joinpath("_cli", "walkthrough.json").read_text(encoding="utf-8"))
    logits = round_to(tensors["logits"], "bfloat16")
    yield Case("regimes", "documented", logits, np.asarray(tensors["labels"]), dtypes=ALL)
    for regime in REGIMES:
        yield Case("regimes", regime, *batch(regime), dtypes=ALL)
        logits, labels = batch(regime, shape=(3, 7, 50), n_classes=6)
        yield Case("regimes", f"{regime}, larger", logits, labels, dtypes=("float16", "float32"))


def _options():
    logits, labels = batch()
    sure = logits.copy()
    sure[0, :, 0] = 0
    sure[0, 0, 0] = 500
    of_sure = labels.copy()
    of_sure[0, 0] = 0
    for options in (
        {"thresh": None},
        {"thresh": 0.0, "min_kept": 7},
        {"thresh": 0.0, "min_kept": 0},
        {"thresh": 1e-30},
        {"thresh": 1.0},
        {"min_kept": 0},
        {"min_kept": 3},
        {"min_kept": 10**6},
        {"min_kept": 0.7, "reduction": "sum"},
        {"min_kept": 1.0},
        {"thresh": None, "min_kept": 0.3},
        {"reduction": "sum"},
        {"weight": WEIGHTS},
        {"weight": np.asarray([1, 2, 3, 4, 5], np.float32)},
        {"weight": WEIGHTS, "min_kept": 0.6},
        {"label_smoothing": 0.1},
        {"label_smoothing": 1.0},
        {"label_smoothing": 0.1, "weight": WEIGHTS},
        {"label_smoothing": 0.2, "weight": WEIGHTS, "min_kept": 0.6},
    ):
        yield Case("options", str(options), logits, labels, options)
    for options in ({"thresh": 1.0, "min_kept": 0}, {"thresh": 0.0, "min_kept": 0.4}, {"thresh": None, "min_kept": 0}):
        yield Case("options", f"losses of 0, {options}", sure, of_sure, options)
    for ignore_index in (None, 2, -100, 3):
        kept = np.where(labels == 255, 3 if ignore_index != -100 else -100, labels)
        yield Case("options", f"ignore_index={ignore_index}", logits, kept, {"ignore_index": ignore_index})
    for shape in ((2, 6, 7), (1, 6, 7), (2, 1, 1), (7,), ()):
        u = np.asarray(np.random.default_rng(1).uniform(0, 2, shape), np.float32)
        options = {"pixel_weight": u, "weight": (1.0, 2.0, 3.0, 4.0, 5.0), "label_smoothing": 0.1}
        yield Case("options", f"pixel_weight {shape}", logits, labels, options)
        yield Case("options", f"pixel_weight {shape} alone", logits, labels, {"pixel_weight": u, "min_kept": 0.9})
    for min_kept in (0.3, 0.9, 1.0, 500):
        for name, weight in {"negative": NEGATIVE, "all negative": -np.abs(NEGATIVE)}.items():
            options = {"weight": weight, "min_kept": min_kept}
            yield Case("options", f"{name} weights, {min_kept}", *batch(shape=(2, 2, 31)), options)


def _arrays():
    """`thresh` and `min_kept` as arrays."""
    for thresh, min_kept in (
        (0.5, 0),
        (0.7, 9),
        (0.0, 5),
        (1.0, 0),
        (0.25, 10**6),
        (0.7, 0.5),
        (0.0, 1.0),
        (0.3, 0.0),
        (None, 0.25),
    ):
        options = {
            "thresh": None if thresh is None else np.asarray(thresh, np.float32),
            "min_kept": np.asarray(min_kept, np.int64 if isinstance(min_kept, int) else np.float32),
        }
        name = f"thresh={thresh}, min_kept={min_kept}"
        yield Case("arrays", name, *batch(), options)
        yield Case("arrays", f"{name}, smoothed", *batch("3% hard"), {**options, "label_smoothing": 0.1})

    for dtype in ("int8", "uint8", "int16", "uint16", "int32", "uint32", "int64", "uint64"):
        for count in (3, np.iinfo(dtype).max):
            options = {"min_kept": np.asarray(count, dtype)}
            yield Case("arrays", f"{dtype} {count}", *batch("3% hard"), options)


def _layouts():
    for layout in LAYOUTS:
        for regime in ("40% hard", "3% hard"):
            logits, labels = batch(regime, shape=(3, 7, 50), n_classes=6)
            dtypes = ALL if layout in ("NHWC", "crop", "reversed") else ("float32",)
            yield Case("layouts", f"{layout}, {regime}", logits, labels, layout=layout, dtypes=dtypes)
    u = np.random.default_rng(0).uniform(0.5, 2, (3, 7, 50)).astype(np.float32)
    logits, labels = batch(shape=(3, 7, 50), n_classes=6)
    for layout in ("Fortran", "crop", "reversed", "every second pixel"):
        laid = LAYOUTS[layout](u[:, None], labels)[0][:, 0]
        yield Case("layouts", f"{layout}, pixel_weight", logits, labels, {"pixel_weight": laid}, layout=layout)


def _classes():
    for n_classes in (1, 2, 8, 9, 19, 64, 65, 150, 1000, 1500):
        shape = (2, 5, 43) if n_classes < 100 else (2, 3, 11) if n_classes < 1500 else (1, 1, 21)
        logits, labels = batch("95% hard" if n_classes % 2 else "3% hard", shape=shape, n_classes=max(n_classes, 2))
        labels = np.where(labels == 255, 5000, labels % n_classes)
        logits, options = logits[:, :n_classes], {"ignore_index": 5000, "min_kept": 0.5}
        yield Case("classes", str(n_classes), logits, labels, options)
        yield Case("classes", f"{n_classes} last", logits, labels, options, layout="NHWC")
    logits, labels = batch(n_classes=300, shape=(2, 3), ignored=0)
    options = {"ignore_index": None}
    yield Case("classes", "more than int8 holds", logits, labels % 120, options, label_dtype="int8")


def _label_dtypes():
    for dtype in ("int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64"):
        least, largest = np.iinfo(dtype).min, np.iinfo(dtype).max
        logits, labels = batch(ignored=0)
        labels = labels.astype(object)
        for ignore_index in dict.fromkeys((255, -1, 3, int(largest))):
            some = labels.copy()
            if least <= ignore_index <= largest:
                some.flat[::4] = ignore_index
            options = {"ignore_index": ignore_index}
            yield Case("labels", f"{dtype}, {ignore_index} ignored", logits, some, options, label_dtype=dtype)
        for outside in (2**63, 2**64 - 1 if dtype != "uint64" else 2**64, 2**70):
            options = {"ignore_index": outside}
            yield Case("labels", f"{dtype}, {outside} ignored", logits, labels, options, label_dtype=dtype)
    for label in (5, 200, -1, -(2**31), 2**32, 2**40, 2**62, -(2**63)):
        logits, labels = batch("3% hard")
        labels[0, 1, 2] = label
        error = rf"`labels` must lie in \[0, 5\).*got 1 outside, of value {label}\."
        yield Case("labels", f"{label} out of range", logits, labels, error=error)
        options = {"weight": WEIGHTS, "thresh": None, "min_kept": 0}
        yield Case("labels", f"{label} out of range, not selected", logits, labels, options, error=error)
    labels = np.asarray([0, -1])
    error = "got 1 outside, of value -1"
    yield Case("labels", "-1 is not 255", np.zeros((2, 2)), labels, label_dtype="int8", error=error)
    logits, labels = batch()
    labels = labels.astype(np.uint64)
    labels[1, 2, 3] = 2**64 - 1
    error = f"got 1 outside, of value {2**64 - 1}"
    yield Case("labels", "beyond 63 bits", logits, labels, label_dtype="uint64", error=error)


def _weight_dtypes():
    logits, labels = batch()
    for dtype in ("float16", "float64"):
        w, u = np.asarray([0.5, 1, 2, 0, 4], dtype), np.linspace(0.5, 2, 6).reshape(6, 1).astype(dtype)
        yield Case("weights", dtype, logits, labels, {"weight": w, "pixel_weight": u})


def _nothing():
    logits, labels = batch()
    ignored = np.full_like(labels, 255)
    for options in ({}, {"label_smoothing": 0.1}, {"weight": WEIGHTS}, {"reduction": "sum"}):
        yield Case("nothing", f"all ignored, {options}", logits, ignored, options)
        none_kept = {**options, "thresh": None, "min_kept": 0}
        yield Case("nothing", f"none kept, {options}", logits, labels, none_kept)
    for rule in ({"pool": "all"}, {"per_image": "mean", "pool": "all"}, {"rank_by": "prob"}):
        yield Case("nothing", f"all ignored, {rule}", logits, ignored, {"rule": MiningRule(**rule)})
    yield Case("nothing", "all NaN and ignored", np.full_like(logits, math.nan), ignored)


def _ties():
    equal = np.zeros((8, 2))
    equal[:, 0] = 2.0
    yield Case("ties", "all", equal, np.zeros(8, np.int64), {"min_kept": 3})
    some = np.zeros((6, 2))
    some[:, 0] = [1.0, 2.0, 2.0, 5.0, 2.0, 4.0]
    yield Case("ties", "some above", some, np.zeros(6, np.int64), {"min_kept": 3})
    order = np.zeros((6, 2))
    order[:, 0] = [3.0, 2.0, 2.0, 5.0, 2.0, 4.0]
    options = {"min_kept": 2, "reduction": "none"}
    for name, logits in {"in order": order, "in reverse": order[::-1].copy()}.items():
        yield Case("ties", name, logits, np.zeros(6, np.int64), options)
    # The losses are log(2) to the last bit, and so is the threshold: not hard.
    for thresh in (0.5, 0.5 + 2**-20):
        options = {"thresh": thresh, "min_kept": 0}
        name = f"with the threshold, {thresh}"
        yield Case("ties", name, np.zeros((4, 2)), np.zeros(4, np.int64), options, dtypes=("float32", "float64"))
    sure = np.zeros((4, 2))
    sure[:, 0] = 200.0
    yield Case("ties", "losses of 0", sure, np.zeros(4, np.int64), {"min_kept": 3})
    signs = np.zeros((6, 2))
    signs[:, 0] = 500
    signs[:2] = signs[:2, ::-1]
    signs[5] = 0
    options = {"weight": np.asarray([-1, 1], np.float32), "min_kept": 3, "thresh": None}
    yield Case("ties", "zeros of either sign", signs, np.asarray([1, 1, 0, 0, 255, 0]), options)
    lost = np.zeros((4, 2))
    lost[0, 0] = -math.inf
    options = {"weight": np.asarray([-1, 1], np.float32), "min_kept": 1.0}
    yield Case("ties", "minus infinity and ignored", lost, np.asarray([0, 0, 0, 255]), options)
    cycle = np.tile(np.asarray([[3.0, 0], [2, 0], [1, 0]]), (5, 1))
    labels = np.asarray([1, 0, 0] * 4 + [255, 255, 0])
    for min_kept in (0, 1, 5, 6, 11, 0.5, 1.0):
        for thresh in (None, 0.01):
            options = {"min_kept": min_kept, "thresh": thresh}
            yield Case("ties", f"in turn, {options}", cycle, labels, options)
    for n_nan in (1, 3):
        lost = cycle.copy()
        lost[:n_nan] = math.nan
        yield Case("ties", f"below {n_nan} NaN", lost, np.zeros(15, np.int64), {"min_kept": 6, "thresh": None})
    pairs = np.zeros((2, 2, 12))
    pairs[:, 0] = np.repeat([1.0, 2.0, 2.0, 3.0, 4.0, 4.0], 2)
    for ties in ("share", "keep", "drop"):
        for per_image in (False, "select"):
            rule = MiningRule(ties=ties, per_image=per_image)
            for min_kept in (3, 0, 1, 2, 6, 11, 12, 30):
                options = {"rule": rule, "min_kept": min_kept, "thresh": None}
                name = f"{ties}, per image {per_image}, {min_kept}"
                yield Case("ties", name, pairs, np.zeros((2, 12), np.int64), options)


# What is written over the logits of one pixel of class 0.
EXTREMES = {
    "a loss above 88": [-50, 40, 3, 2, 1],
    "a loss of 1e4": [-5e3, 5e3, 3, 2, 1],
    "just before the overflow": [-44, 44.25, 44.25, 44.25, 44.25],
    "inf at the label": [math.inf, 1, 0, -1, 0.5],
    "inf elsewhere": [1, math.inf, 0, -1, 0.5],
    "-inf at the label": [-math.inf, 1, 0, -1, 0.5],
    "-inf elsewhere": [1, -math.inf, -math.inf, -math.inf, 0.5],
    "all -inf": [-math.inf] * 5,
    "all inf": [math.inf] * 5,
    "NaN at the label": [math.nan, 1, 0, -1, 0.5],
    "NaN elsewhere": [1, 0, -1, 0.5, math.nan],
    "the first NaN": [math.nan, math.inf, 0, -math.inf, 0],
}


def _extremes():
    for regime in ("40% hard", "3% hard"):
        for name, pixel in EXTREMES.items():
            logits, labels = batch(regime, shape=(2, 2, 31))
            rows, y = np.moveaxis(logits, 1, -1).reshape(-1, 5).copy(), labels.reshape(-1).copy()
            for at in range(7, len(rows), 31):
                y[at], y[at + 1] = 0, 255
                rows[at], rows[at + 1] = pixel, (math.nan, math.inf, -math.inf, 1e4, 0)
            for options in ({}, {"min_kept": 0.99}, {"thresh": None, "min_kept": 5}, {"thresh": None, "min_kept": 0}):
                if regime == "3% hard":
                    yield Case("extremes", f"{name}, {options}", rows, y, options)
                elif not options:
                    yield Case("extremes", f"{name}, rows of classes", rows.T, y, {"axis": 0})
    logits, labels = batch(shape=(2, 2, 31))
    for name, far in {"logits far apart": logits * 2048, "large logits": np.round(logits) + 1e4}.items():
        for layout in ("NCHW", "NHWC"):
            yield Case("extremes", f"{name}, {layout}", far, labels, layout=layout)
    for loss in (82.25, 84.0, 86.75):
        large = np.tile([0.0, loss], (4, 1))
        options = {"weight": (1e-6, 1e-6), "min_kept": 1.0}
        yield Case("extremes", f"a loss of {loss}, of weight 1e-6", large, np.zeros(4, np.int64), options)
    logits, labels = batch(ignored=0)
    never = logits.copy()
    never[:, 0] = -math.inf
    options = {"weight": (0.0, 1.0, 2.0, 1.0, 1.0), "label_smoothing": 0.1, "min_kept": 1.0}
    yield Case("extremes", "impossible class of weight 0", never, labels, options)
    lost = logits.copy()
    lost[0, labels[0, 0, 0], 0, 0] = -math.inf
    yield Case("extremes", "-inf at the label, smoothing alone", lost, labels, {"label_smoothing": 1.0})
    for bad in (math.nan, math.inf):
        lost, of_lost = logits.copy(), labels.copy()
        lost[1, :, 3, 4], lost[1, :, 2, 2], lost[0, :, 1, 1] = bad, bad, bad
        of_lost[1, 3, 4], of_lost[1, 2, 2], of_lost[0, 1, 1] = 255, 1, 2
        u = np.ones(labels.shape, np.float32)
        u[1, 2, 2] = 0
        for smoothing in (0.0, 0.1):
            options = {"pixel_weight": u.copy(), "label_smoothing": smoothing}
            options["pixel_weight"][0, 1, 1] = 0
            for min_kept in (0, 1 / 16, 1.0):
                name = f"{bad} at a weight of 0, smoothing {smoothing}, {min_kept}"
                yield Case("extremes", name, lost, of_lost, {**options, "min_kept": min_kept})
        for min_kept in (0, 1 / 16, 1.0):
            options = {"weight": WEIGHTS, "pixel_weight": u, "min_kept": min_kept}
            yield Case("extremes", f"{bad} at a class of weight 0, {min_kept}", lost, of_lost, options)
        rule = MiningRule(rank_by="prob")
        yield Case("extremes", f"{bad} ranked by probability", lost, of_lost, {**options, "rule": rule})
        u = np.ones(labels.shape, np.float32)
        u[1, 3, 4] = bad
        of_lost = labels.copy()
        of_lost[1, 3, 4] = 255
        options = {"pixel_weight": u, "label_smoothing": 0.1}
        yield Case("extremes", f"{bad} as the weight of an ignored pixel", logits, of_lost, options)


def _sixteenth(counts):
    return counts.floor(1 / 16, counts.all)


def _all_but_one(counts):
    return counts.where(counts.valid > 50, 50, counts.valid - 1)


def _a_little_more(counts):
    return counts.selected + 0.5 * counts.all + 0.25


def _hundred(counts):
    return 100


def _half(counts):
    return 0.5


def _twice_the_positives(counts):
    return 2 * counts.positives


RULES = [
    ({"rank_by": "prob"}, {}),
    ({"rank_by": "prob", "ties": "drop", "normaliser": "all"}, {"min_kept": _all_but_one}),
    ({"rank_by": "prob", "ties": "keep", "normaliser": "selected_weight"}, {"min_kept": 40}),
    ({"rank_by": "prob", "pool": "all", "normaliser": "selected_weight"}, {"min_kept": 0.9}),
    ({"pool": "all"}, {"min_kept": 0.95, "thresh": None}),
    ({"pool": "all", "normaliser": "nonzero"}, {"min_kept": 0.95, "thresh": None}),
    ({"pool": "all", "per_image": "mean"}, {"min_kept": _sixteenth, "thresh": None}),
    ({"pool": "all", "per_image": "mean", "normaliser": "nonzero"}, {"min_kept": 0.9}),
    ({"per_image": "select"}, {"min_kept": 7, "thresh": None}),
    ({"per_image": "select", "normaliser": "valid_weight", "ties": "drop"}, {"min_kept": 0.5}),
    ({"per_image": "mean", "ties": "keep", "normaliser": "valid"}, {"min_kept": 0.25}),
    ({"normaliser": _a_little_more}, {}),
    ({"normaliser": _hundred}, {"min_kept": _half}),
    ({"normaliser": "images"}, {}),
]


def _rules():
    for number, (rule, options) in enumerate(RULES):
        for regime in ("40% hard", "3% hard"):
            logits, labels = batch(regime, ignored=0.3)
            weight = {"weight": WEIGHTS} if "rank_by" in rule or number % 2 else {}
            given = {**options, **weight, "rule": MiningRule(**rule)}
            yield Case("rules", f"{_named({**rule, **options})}, {regime}", logits, labels, given)
    logits, labels = batch(ignored=0.3)
    positives = np.random.default_rng(0).random(labels.shape) < 0.2
    for rule in ({}, {"per_image": "select", "normaliser": "positives"}, {"pool": "all", "ties": "keep"}):
        options = {"positives": positives, "rule": MiningRule(**rule), "min_kept": _twice_the_positives, "thresh": None}
        yield Case("rules", f"positives, {rule}", logits, labels, options)


# Logits and labels: ratios of 8, 4, 3.7, 1.5 and 1.1 up, of 0.5 and below, some axes alone, one pixel on either side,
# images of more than one axis.
SIZES = [
    ((1, 3, 2, 3), (16, 24)),
    ((2, 4, 2, 3), (8, 12)),
    ((1, 3, 10, 2), (37, 3)),
    ((1, 5, 10, 12), (11, 18)),
    ((2, 3, 8, 6), (4, 3)),
    ((1, 5, 19, 23), (3, 2)),
    ((2, 3, 3, 4), (3, 9)),
    ((2, 5, 4, 5), (4, 7)),
    ((2, 3, 1, 4), (5, 4)),
    ((2, 3, 4, 3), (1, 7)),
    ((1, 5, 1, 1), (12, 9)),
    ((2, 5, 1, 40), (40, 1)),
    ((2, 3, 5), (13,)),
    ((1, 5, 31), (211,)),
    ((3, 5, 20), (7,)),
    ((1, 3, 3), (1,)),
    ((40, 3, 2), (9,)),
    ((2, 3, 5, 7), (19,)),
    ((1, 3, 2, 3, 2), (4, 5, 1)),
    ((2, 5, 2, 3, 2), (5, 7, 6)),
]
_U = np.random.default_rng(0).uniform(0.0, 2.0, (2, 12, 15)).astype(np.float32)
RESIZED = [
    {"weight": np.asarray([0.5, 2.0, 0.0, 1.0, 3.0], np.float32)},
    {"pixel_weight": _U},
    {"pixel_weight": _U[:, :1], "weight": (0.5, 2.0, 0.125, 1.0, 3.0), "min_kept": 0.8},
    {"label_smoothing": 0.2, "thresh": 0.9},
    {"label_smoothing": 0.2, "weight": WEIGHTS, "min_kept": 0.9},
    {"min_kept": 100, "thresh": None, "reduction": "sum"},
    {"min_kept": 0, "thresh": 0.0},
    {"min_kept": 37, "ignore_index": 1},
    {"rule": MiningRule(ties="keep", rank_by="prob"), "min_kept": 50},
    {"rule": MiningRule(pool="all", normaliser="valid"), "min_kept": 0.6},
    {"thresh": np.asarray(0.3, np.float32), "min_kept": np.asarray(0.9, np.float32)},
    {"positives": _U < 0.4, "min_kept": _twice_the_positives, "rule": MiningRule()},
]


def _resized():
    for regime in REGIMES:
        logits, labels = make_small(regime)
        yield Case("resized", regime, logits, labels, {"resize": "bilinear"}, dtypes=ALL)
    for small, size in SIZES:
        for align_corners in (False, True):
            logits, labels = make_small("40% hard", small, size, align_corners=align_corners)
            options = {"resize": MODES[len(size)], "align_corners": align_corners}
            name = f"{small} to {size}{', corners aligned' * align_corners}"
            yield Case("resized", name, logits, labels, options)
    logits, labels = make_small()
    for options in RESIZED:
        y = np.where(labels == 255, 0, labels) if "ignore_index" in options else labels
        name = _named(options)
        yield Case("resized", name, logits, y, {**options, "resize": "bilinear"})
    for layout in RESIZED_LAYOUTS:
        laid = LAYOUTS[layout](1 + _U[:, None], labels)[0]
        options = {"resize": "bilinear", "pixel_weight": np.squeeze(laid, LAYOUTS[layout](_U[:, None], labels)[2])}
        yield Case("resized", layout, logits, labels, options, layout=layout)
    same, of_same = make_small("40% hard", (2, 5, 6, 7), (6, 7))
    yield Case("resized", "to the same size", same, of_same, {"resize": "bilinear", "align_corners": True})
    for scale in (32, 2**15):
        yield Case("resized", f"logits {scale} times as far apart", scale * logits, labels, {"resize": "bilinear"})
    far, of_far = logits.copy(), labels.copy()
    of_far[1, :9, :9] = 255
    for bad in (math.nan, math.inf):
        far[1, 2, 0, 0] = bad
        yield Case("resized", f"{bad} beside ignored pixels", far.copy(), of_far, {"resize": "bilinear"})
    everywhere, of_everywhere = make_small(ignored=0.0)
    of_everywhere[of_everywhere == 255] = 0
    for bad in (math.nan, math.inf, -math.inf):
        for place, align_corners in (((0, 3, 1, 2), False), ((1, 0, 0, 0), True), ((1, 4, 2, 3), False)):
            some = everywhere.copy()
            some[place] = bad
            options = {"resize": "bilinear", "align_corners": align_corners, "thresh": None, "min_kept": 1.0}
            yield Case("resized", f"{bad} at {place}", some, of_everywhere, options)
    yield Case("resized", "empty", np.zeros((0, 3, 2, 2)), np.zeros((0, 4, 4), np.int64), {"resize": "bilinear"})
    of_wrong = labels.copy()
    of_wrong[1, 2, 3] = 5
    yield Case("resized", "5 out of range", logits, of_wrong, {"resize": "bilinear"}, error="of value 5")


def _maps():
    for regime in REGIMES:
        yield Case("maps", regime, *batch(regime), {"reduction": "none"})
    logits, labels = batch()
    yield Case("maps", "all ignored", logits, np.full_like(labels, 255), {"reduction": "none"})
    options = {"reduction": "none", "rule": MiningRule(per_image="select"), "min_kept": 7, "thresh": None}
    yield Case("maps", "per image", logits, labels, options)
    yield Case("maps", "resized", *make_small(), {"reduction": "none", "resize": "bilinear"})


CASES = [
    case
    for section in (
        _regimes,
        _options,
        _arrays,
        _layouts,
        _classes,
        _label_dtypes,
        _weight_dtypes,
        _nothing,
        _ties,
        _extremes,
        _rules,
        _resized,
        _maps,
    )
    for case in section()
]
