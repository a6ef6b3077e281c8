"""CuPy and JAX on a GPU: the time of a call that waits for its result, of calls in a row."""

import statistics
import time
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import numpy as np

import ohemloss

from . import _baselines, _data
from ._gpu import Shape

_CALLS, _ROUNDS = 10, 7  # started in a row, so that the host's part of one is hidden behind another


def rows(shape: Shape) -> Iterator[dict[str, Any]]:
    """Measure what is installed and finds a device."""
    for hard in _data.REGIMES:
        data = _data.make(shape, hard)
        for name, calls in (("CuPy", _cupy_calls), ("JAX", _jax_calls)):
            found = {what: _seconds(*call) for what, call in calls(data).items()}
            for what, seconds in found.items():
                yield {"library": name, "what": what, "shape": shape, "hard": hard, "ms": seconds * 1e3}


def text(row: dict[str, Any]) -> str:
    """Say one measurement in a line."""
    shape = "x".join(map(str, row["shape"]))
    return f"{row['library']}, {row['what']}, {shape} float32, {row['hard']:.0%} hard: {row['ms']:.3f} ms"


Calls = dict[str, tuple[Callable[[], Any], Callable[[Any], object]]]


def _cupy_calls(data: _data.Data) -> Calls:
    try:
        import cupy

        if not cupy.cuda.is_available():
            return {}
    except ImportError:
        return {}
    logits, labels = cupy.asarray(data.logits), cupy.asarray(data.labels)

    def wait(_: Any) -> object:
        return cupy.cuda.get_current_stream().synchronize()

    return {
        "forward": (lambda: ohemloss.ohem_cross_entropy(logits, labels), wait),
        "value and gradient": (lambda: ohemloss.value_and_grad(logits, labels), wait),
    }


def _jax_calls(data: _data.Data) -> Calls:
    try:
        import jax

        jax.devices("gpu")
    except (ImportError, RuntimeError):
        return {}
    logits, labels = jax.numpy.asarray(data.logits), jax.numpy.asarray(data.labels.astype(np.int32))
    found: Calls = {}
    for name, loss in (("", ohemloss.ohem_cross_entropy), (" of optax with top_k", _baselines.optax_loss())):
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
