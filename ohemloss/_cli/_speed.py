"""Times of the loss on every library. They are called in turn, so that a machine that slows down slows them all."""

import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from .. import ohem_cross_entropy, value_and_grad
from .._drawing._host import to_numpy
from .._typing import Array, Namespace
from ._errors import CannotRunError
from ._library import cause, choose

IGNORE = 255
# Of all pixels: sure ones are no work for the selection.
_HARD = 0.4
_SURE = 8.0
_QUARTERS = 4


@dataclass(frozen=True)
class Plan:
    """How many pixels and classes, and how often: so many rounds, and none after so many seconds for a size."""

    pixels: int
    classes: int
    rounds: int = 7
    seconds: float = 5.0

    def shapes(self) -> list[tuple[int, int, int, int]]:
        """List the shapes of the logits, images twice as wide as high, each with four times the pixels of the last."""
        sizes = sorted({max(1, self.pixels // 4**i) for i in range(_QUARTERS)})
        widths = [max(1, int((2 * size) ** 0.5)) for size in sizes]
        return [(1, self.classes, size // width, width) for size, width in zip(sizes, widths, strict=True)]


@dataclass(frozen=True)
class Speed:
    """The median seconds of one library at one size."""

    library: str
    n_pixels: int
    forward: float
    both: float


@dataclass(frozen=True)
class Measured:
    """What was timed, and for the libraries that could not be, why."""

    speeds: list[Speed]
    refusals: dict[str, str]


def measure(names: list[str], plan: Plan, advance: Callable[[], None]) -> Measured:
    """Time all libraries at all sizes; `advance` is called `steps(plan)` times."""
    spaces: dict[str, Namespace] = {}
    refusals: dict[str, str] = {}
    for name in names:
        try:
            spaces[name] = choose(name)
        except CannotRunError as error:
            refusals[name] = str(error)
    speeds = []
    for shape in plan.shapes():
        runs = _prepare(spaces, shape, refusals)
        spaces = {name: spaces[name] for name in runs}
        advance()
        speeds += _time_in_turn(runs, plan, shape[2] * shape[3], advance)
    return Measured(speeds, refusals)


def steps(plan: Plan) -> int:
    """Count the steps of the progress."""
    return len(plan.shapes()) * (1 + plan.rounds)


class _Run:
    """The loss of one library on one input. A call ends when its result is there."""

    def __init__(self, xp: Namespace, shape: tuple[int, int, int, int]) -> None:
        logits, labels = _data(shape)
        self._arrays: tuple[Array, Array] = xp.asarray(logits), xp.asarray(labels)
        self.seconds: list[tuple[float, float]] = []

    def call(self) -> tuple[float, float]:
        """Call both functions; give their seconds."""
        start = time.perf_counter()
        to_numpy(ohem_cross_entropy(*self._arrays, ignore_index=IGNORE))
        middle = time.perf_counter()
        value, gradient = value_and_grad(*self._arrays, ignore_index=IGNORE)
        to_numpy(value)
        to_numpy(gradient[0, 0, 0, :1])  # that it is there; a copy of it all would be no part of the loss
        return middle - start, time.perf_counter() - middle


def _prepare(
    spaces: dict[str, Namespace], shape: tuple[int, int, int, int], refusals: dict[str, str]
) -> dict[str, _Run]:
    """Call each library once, which compiles, so that this call is not timed."""
    runs = {}
    for name, xp in spaces.items():
        try:
            runs[name] = _called_once(name, xp, shape)
        except CannotRunError as error:
            refusals[name] = str(error)
    return runs


def _called_once(name: str, xp: Namespace, shape: tuple[int, int, int, int]) -> _Run:
    try:
        run = _Run(xp, shape)
        run.call()
    except Exception as error:  # a device may be too small, and says so in a way of its own
        msg = f"`{name}` failed at {shape[2] * shape[3]:,} pixels: {cause(error)}"
        raise CannotRunError(msg) from error
    return run


def _time_in_turn(runs: dict[str, _Run], plan: Plan, n_pixels: int, advance: Callable[[], None]) -> list[Speed]:
    end = time.monotonic() + plan.seconds
    for i in range(plan.rounds):
        if i == 0 or time.monotonic() < end:
            for run in runs.values():
                run.seconds.append(run.call())
        advance()
    medians = {name: [statistics.median(way) for way in zip(*run.seconds, strict=True)] for name, run in runs.items()}
    return [Speed(name, n_pixels, forward, both) for name, (forward, both) in medians.items()]


def _data(shape: tuple[int, int, int, int]) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.int32]]:
    """Make noise that is sure of the label at all but the hard pixels."""
    rng = np.random.default_rng(0)
    logits = rng.standard_normal(shape, dtype=np.float32)
    labels = rng.integers(0, shape[1], (1, *shape[2:]), dtype=np.int32)
    sure = np.where(rng.random(labels.shape) < _HARD, 0, np.float32(_SURE))
    at_label = np.expand_dims(labels, 1)
    np.put_along_axis(logits, at_label, np.take_along_axis(logits, at_label, 1) + np.expand_dims(sure, 1), 1)
    return logits, labels
