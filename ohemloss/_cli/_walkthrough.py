"""The worked example: documented tensors, and the same stages recomputed."""

import json
import math
from dataclasses import dataclass
from importlib.resources import files
from typing import Any

import numpy as np
import numpy.typing as npt

from .. import Trace, explain, hard_mean, value_and_grad
from .._drawing._host import to_numpy
from .._typing import Array, Namespace

# The documented numbers are rounded to four decimals, and so are the logits that they are recomputed from.
_ROUNDED = 1.1e-4
_COUNT = 0.0
# float32: a few units in the last place of a gradient, whose largest element is below 1 / 28.
_ZERO = 1e-6


@dataclass(frozen=True)
class Stage:
    """One stage: what is documented, what was computed, and how far the two may be apart."""

    name: str
    documented: npt.NDArray[Any]
    computed: npt.NDArray[Any]
    tolerance: float
    form: str = ".4f"

    @property
    def difference(self) -> float:
        """The largest absolute difference; infinite if the shapes differ."""
        if self.documented.shape != self.computed.shape:
            return math.inf
        return float(np.max(np.abs(self.computed.astype(np.float64) - self.documented)))

    @property
    def passed(self) -> bool:
        """Whether the documented numbers were met. NaN never is."""
        return self.difference <= self.tolerance


def load() -> dict[str, Any]:
    """Read the documented example."""
    text = files("ohemloss._cli").joinpath("walkthrough.json").read_text(encoding="utf-8")
    example: dict[str, Any] = json.loads(text)
    return example


def recompute(xp: Namespace, example: dict[str, Any]) -> list[Stage]:
    """Compute every stage from the documented logits and labels."""
    logits = xp.asarray(np.asarray(example["logits"], dtype=np.float32))
    labels = xp.asarray(np.asarray(example["labels"], dtype=np.int32))
    options = {"thresh": example["thresh"], "ignore_index": example["ignore_index"]}
    trace = explain(logits, labels, **options)
    flat = xp.reshape(trace.pixel_loss, (-1,))
    # `hard_mean` has its threshold in units of the loss.
    mean = hard_mean(trace.pixel_loss, where=labels != example["ignore_index"], thresh=-math.log(example["thresh"]))
    value, gradient = value_and_grad(logits, labels, **options)
    return [
        *_trace_stages(example, trace, flat, mean),
        *_gradient_stages(example, to_numpy(value), to_numpy(gradient)),
    ]


def _trace_stages(example: dict[str, Any], trace: Trace, flat: Array, mean: Array) -> list[Stage]:
    def number(name: str, key: str, computed: Array, form: str = ".4f") -> Stage:
        return Stage(name, np.asarray(example[key]), to_numpy(computed), _ROUNDED, form)

    def count(key: str, computed: Array) -> Stage:
        return Stage(key, np.asarray(example[key]), to_numpy(computed), _COUNT, "d")

    return [
        number("thresh", "thresh_loss", trace.thresh),
        count("n_valid", trace.n_valid),
        count("n_min", trace.n_min),
        number("pixel_loss", "pixel_loss", trace.pixel_loss),
        number("flattened", "pixel_loss_flat", flat),
        number("hard_losses", "hard_losses", _hard_losses(trace)),
        count("n_hard", trace.n_hard),
        number("hard_mean", "hard_mean", mean),
        number("value", "value_printed", trace.value),
        number("full value", "value", trace.value, ".7f"),
    ]


def _hard_losses(trace: Trace) -> npt.NDArray[Any]:
    try:
        return to_numpy(trace.hard_losses)
    except (IndexError, NotImplementedError, RuntimeError, TypeError, ValueError):
        # Not every library can select a number of elements that depends on the values: the host can.
        losses = to_numpy(trace.pixel_loss)
        return losses[to_numpy(trace.selected) & ~(losses <= to_numpy(trace.thresh))]


def _gradient_stages(example: dict[str, Any], value: npt.NDArray[Any], gradient: npt.NDArray[Any]) -> list[Stage]:
    """
    Check the gradient by what follows from the documented numbers.

    Over the classes of a pixel it sums to 0, as a softmax minus a one-hot vector does; and it is 0 everywhere but at
    the pixels that were mined, here the hard ones.
    """
    sums = np.max(np.abs(np.sum(gradient, axis=1, dtype=np.float64)))
    pixels = np.count_nonzero(np.any(gradient != 0, axis=1))
    return [
        Stage("grad value", np.asarray(example["value"]), value, _ROUNDED, ".7f"),
        Stage("grad sums", np.asarray(0), sums, _ZERO, ".2g"),
        Stage("grad pixels", np.asarray(example["n_hard"]), np.asarray(pixels), _COUNT, "d"),
    ]
