"""The small model, trained with the loss, and what stays hard after it."""

import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from .. import Trace, explain, value_and_grad
from .._drawing._host import to_numpy
from .._typing import Array, Namespace
from ._head import Head
from ._photograph import IGNORE, Photograph


@dataclass(frozen=True)
class Plan:
    """
    How to train: at most so many steps, and none after so many seconds.

    The rate falls linearly to 0, after it has risen linearly over `warm_up` steps.

    The defaults were found by trying: the large objects are learned, while thin and rare ones stay hard. A library that
    delays its work to write it to files needs many seconds for a step, and stops early.
    """

    steps: int = 30
    seconds: float = 60.0
    rate: float = 8.0
    momentum: float = 0.8
    warm_up: int = 1

    def rates(self) -> list[float]:
        """List the rate of each step."""
        return [self.rate * min(1, (i + 1) / self.warm_up) * (1 - i / self.steps) for i in range(self.steps)]


@dataclass(frozen=True)
class Mined:
    """What `ohemloss.explain` says of the trained model, in host memory, with the way there."""

    steps: int
    first_value: float
    value: float
    thresh: float
    n_valid: int
    n_min: int
    n_hard: int
    pixel_loss: npt.NDArray[np.floating[Any]]
    selected: npt.NDArray[np.bool_]


def train(xp: Namespace, photograph: Photograph, plan: Plan, advance: Callable[[], None]) -> Mined:
    """Train from weights of 0, then mine; `advance` is called after each step."""
    head, labels = Head(xp, photograph), xp.asarray(photograph.labels[None])
    weights, steps, first_value, end = head.initial_weights(), 0, math.nan, time.monotonic() + plan.seconds
    for value, updated in descend(head, labels, weights, plan):
        if steps == 0:
            first_value = float(to_numpy(value))
        weights, steps = updated, steps + 1
        advance()
        if time.monotonic() >= end:
            break
    return _to_host(explain(head.logits(weights), labels, ignore_index=IGNORE), steps, first_value)


def descend(head: Head, labels: Array, weights: Array, plan: Plan, **options: Any) -> Iterator[tuple[Array, Array]]:
    """Yield the loss before each step of gradient descent with momentum, and the weights after it."""
    xp, velocity = head.xp, head.initial_weights()
    for rate in plan.rates():
        value, logits_gradient = value_and_grad(head.logits(weights), labels, ignore_index=IGNORE, **options)
        # Through the host, so that a lazy library computes the step and then forgets it.
        velocity = xp.asarray(to_numpy(plan.momentum * velocity + head.weights_gradient(logits_gradient)))
        weights = xp.asarray(to_numpy(weights - rate * velocity))
        yield value, weights


def _to_host(trace: Trace, steps: int, first_value: float) -> Mined:
    return Mined(
        steps=steps,
        first_value=first_value,
        value=float(to_numpy(trace.value)),
        thresh=float(to_numpy(trace.thresh)),
        n_valid=int(to_numpy(trace.n_valid)),
        n_min=int(to_numpy(trace.n_min)),
        n_hard=int(to_numpy(trace.n_hard)),
        pixel_loss=to_numpy(trace.pixel_loss)[0],
        selected=to_numpy(trace.selected)[0],
    )
