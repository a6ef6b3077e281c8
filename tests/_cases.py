"""Seeded inputs with a known share of hard pixels, and what is expected of each dtype."""

import numpy as np

from tests._reference import interpolate

# The share of pixels whose loss is above -log(0.7). The last is below 1/16, so that min_kept decides.
REGIMES = {"95% hard": 0.95, "40% hard": 0.40, "3% hard": 0.03}

# Relative and absolute tolerance of the value and of the gradient. The value of a half is computed in float32, its
# gradient is rounded to half.
TOLERANCE = {
    "float64": {"value": (1e-13, 1e-14), "gradient": (1e-12, 0.0)},
    "float32": {"value": (2e-6, 1e-7), "gradient": (1e-5, 0.0)},
    "float16": {"value": (2e-6, 1e-7), "gradient": (1e-3, 6e-8)},  # its numbers end at 6e-8
    "bfloat16": {"value": (2e-6, 1e-7), "gradient": (8e-3, 0.0)},
}
# Softmax minus label cancels: its error is that of a number of size 1, in units of the epsilon that it is computed in.
CANCELLED = 4
# Of the differences of differences.
CURVATURE = {"rtol": 1e-5, "atol": 1e-7}


# The names of resizing along one to three axes.
MODES = {1: "linear", 2: "bilinear", 3: "trilinear"}
AXES = {name: n_axes for n_axes, name in MODES.items()}


def tolerance(dtype, what):
    """Give the tolerance as keyword arguments."""
    rtol, atol = TOLERANCE[dtype][what]
    return {"rtol": rtol, "atol": atol}


def wide(dtype):
    """Name the dtype of the loss of logits of a dtype."""
    return "float64" if dtype == "float64" else "float32"


def gradient_tolerance(dtype, base, *, scale=1.0):
    """Give the tolerance of a gradient: of the dtype, and of what cancels, which weights scale."""
    rtol, atol = TOLERANCE[dtype]["gradient"]
    return {"rtol": rtol, "atol": atol + CANCELLED * np.finfo(wide(dtype)).eps * scale / base.normaliser}


def make(regime="40% hard", shape=(2, 6, 7), n_classes=5, ignored=0.1, seed=0, dtype="float64"):
    """Make logits (n, c, *spatial), rounded to `dtype`, and labels: about `ignored` of them are 255."""
    rng = np.random.default_rng([seed, len(regime), *shape])
    n = int(np.prod(shape))
    labels = rng.integers(n_classes, size=n)
    n_hard = round(REGIMES[regime] * n)
    p = np.concatenate([rng.uniform(0.02, 0.65, n_hard), rng.uniform(0.75, 0.99, n - n_hard)])
    rng.shuffle(p)
    logits = rng.normal(size=(n, n_classes))
    others = np.ones((n, n_classes), dtype=bool)
    others[np.arange(n), labels] = False
    rest = np.log(np.exp(logits).sum(axis=1, where=others))
    logits[np.arange(n), labels] = rest + np.log(p / (1 - p))
    labels[rng.random(n) < ignored] = 255
    logits = np.moveaxis(logits.reshape(*shape, n_classes), -1, 1)
    return round_to(logits, dtype), labels.reshape(shape)


def round_to(array, dtype):
    """Round to a dtype and return as float64: the input that all sides see."""
    if dtype == "bfloat16":
        bits = np.asarray(array, np.float32).view(np.uint32)
        rounded = (bits + 0x7FFF + ((bits >> 16) & 1)) & np.uint32(0xFFFF0000)
        return rounded.astype(np.uint32).view(np.float32).astype(np.float64)
    return np.asarray(array).astype(dtype).astype(np.float64)


def make_small(regime="40% hard", small=(2, 5, 3, 4), size=(12, 15), *, align_corners=False, ignored=0.1, seed=0):
    """Make logits whose last axes are resized to a size, and labels of it: the share of hard pixels is that of then."""
    rng = np.random.default_rng([seed, len(regime), *small, *size])
    logits = round_to(4 * rng.normal(size=small), "bfloat16")  # what every dtype holds
    enlarged = np.moveaxis(interpolate(logits, size, align_corners=align_corners), 1, -1)
    exps = np.exp(enlarged)
    p = exps / exps.sum(-1, keepdims=True)
    # The most likely class, where it is likely enough for an easy pixel, and else the least likely one.
    sure, hard = np.max(p, -1) > 0.72, np.zeros(p.shape[:-1], bool)
    share = REGIMES[regime] * np.mean(sure) / (1 - REGIMES[regime] * np.mean(~sure))
    hard.flat[rng.permutation(hard.size)[: int(share * hard.size)]] = True
    labels = np.where(hard, np.argmin(p, -1), np.argmax(p, -1))
    labels[(~sure & ~hard) | (rng.random(labels.shape) < ignored)] = 255
    return logits, labels
