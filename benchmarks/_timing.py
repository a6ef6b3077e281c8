"""The loop: the variants of a case are called in turn, so that a machine that slows down slows all of them."""

import gc
import statistics
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass

# Returns when its work is done: what a library delays, it waits for.
Call = Callable[[], object]


@dataclass(frozen=True)
class Rounds:
    """How often: rounds that are thrown away, then rounds until their number or the seconds are used up."""

    warm: int = 1
    least: int = 3
    most: int = 40
    seconds: float = 2.5


@dataclass(frozen=True)
class Times:
    """The seconds of each variant, round by round."""

    seconds: Mapping[str, list[float]]

    def median(self, variant: str) -> float:
        """Give the median time of a variant."""
        return statistics.median(self.seconds[variant])

    def ratio(self, slow: str, fast: str) -> float:
        """Give how many times as long `slow` takes: the median over the rounds, each of which had one machine."""
        pairs = zip(self.seconds[slow], self.seconds[fast], strict=True)
        return statistics.median(a / b for a, b in pairs)


def interleave(variants: Mapping[str, Call], rounds: Rounds) -> Times:
    """Call all variants in turn, again and again."""
    seconds: dict[str, list[float]] = {name: [] for name in variants}
    with _no_collection():
        for _ in range(rounds.warm):
            _run_round(variants)
        end = time.monotonic() + rounds.seconds
        for i in range(rounds.most):
            if i >= rounds.least and time.monotonic() > end:
                break
            for name, taken in _run_round(variants).items():
                seconds[name].append(taken)
    return Times(seconds)


def _run_round(variants: Mapping[str, Call]) -> dict[str, float]:
    taken = {}
    for name, call in variants.items():
        start = time.perf_counter()
        call()
        taken[name] = time.perf_counter() - start
    return taken


@contextmanager
def _no_collection() -> Iterator[None]:
    """Keep the garbage of one variant from being collected in the time of another."""
    gc.collect()
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()
