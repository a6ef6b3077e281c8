"""CuPy and JAX on a GPU: the time of a call that waits for its result, of calls in a row."""

import itertools
import statistics
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

import ohemloss

from . import _baselines, _data, _resized
from ._gpu import Shape

_CALLS, _ROUNDS = 10, 7  # started in a row, so that the host's part of one is hidden behind another


@dataclass(frozen=True)
class _Case:
    """Logits, and labels `times` as large along each axis."""

    shape: Shape
    times: int
    data: _data.Data

    @property
    def options(self) -> dict[str, Any]:
        return {"resize": "bilinear"} if self.times > 1 else {}


def rows(shape: Shape, resized: tuple[Shape, int]) -> Iterator[dict[str, Any]]:
    """Measure what is installed and finds a device, on logits of a shape, and on others that are resized."""
    small, times = resized
    for hard in _data.REGIMES:
        cases = (_Case(shape, 1, _data.make(shape, hard)), _Case(small, times, _resized.make(small, times, hard)))
        for case, (name, calls) in itertools.product(cases, (("CuPy", _cupy_calls), ("JAX", _jax_calls))):
            of_case = {"shape": case.shape, "times": case.times, "hard": hard}
            for what, call in calls(case).items():
                yield {"library": name, "what": what, **of_case, "ms": _seconds(*call) * 1e3}


def text(row: dict[str, Any]) -> str:
    """Say one measurement in a line."""
    shape = "x".join(map(str, row["shape"]))
    resized = f" to {row['times']} x" if row["times"] > 1 else ""
    return f"{row['library']}, {row['what']}, {shape}{resized} float32, {row['hard']:.0%} hard: {row['ms']:.3f} ms"


Calls = dict[str, tuple[Callable[[], Any], Callable[[Any], object]]]


def _cupy_calls(case: _Case) -> Calls:
    try:
        import cupy

        if not cupy.cuda.is_available():
            return {}
    except ImportError:
        return {}
    logits, labels = cupy.asarray(case.data.logits), cupy.asarray(case.data.labels)

    def wait(_: Any) -> object:
        return cupy.cuda.get_current_stream().synchronize()

    return {
        "forward": (lambda: ohemloss.ohem_cross_entropy(logits, labels, **case.options), wait),
        "value and gradient": (lambda: ohemloss.value_and_grad(logits, labels, **case.options), wait),
    }


def _jax_calls(case: _Case) -> Calls:
    try:
        import jax

        jax.devices("gpu")
    except (ImportError, RuntimeError):
        return {}
    logits, labels = (jax.numpy.asarray(a) for a in (case.data.logits, case.data.labels.astype(np.int32)))
    losses: dict[str, Callable[..., Any]] = {"": partial(ohemloss.ohem_cross_entropy, **case.options)}
    if case.times == 1:
        losses[" of optax with top_k"] = _baselines.optax_loss()
    found: Calls = {}
    for name, loss in losses.items():
        for what, function in (("forward", loss), ("value and gradient", jax.value_and_grad(loss))):
            found[f"{what}{name}"] = (partial(jax.jit(function), logits, labels), jax.block_until_ready)
    return found


def _seconds(call: Callable[[], Any], wait: Callable[[Any], object]) -> float:
    taken, answer = [], call()
    wait(answer)
    for _ in range(_ROUNDS):
        start = time.perf_counter()
        for _ in range(_CALLS):
            answer = call()
        wait(answer)
        taken.append((time.perf_counter() - start) / _CALLS)
    return statistics.median(taken)
