"""The targets, and whether a run met them."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from ._calls import EAGER, NAIVE, OPTAX, OURS, PLAIN
from ._results import Results

_PER_PIXEL = 12  # bytes: what is kept of each pixel
_BLOCKS = 8 * 2**20  # bytes: what the threads work in
_BEND = 1.25
_SHAPES = ("sizes", "classes", "layouts", "dtypes")


@dataclass(frozen=True)
class Target:
    """A bound on a measured number: at least so many times as fast, or at most so much."""

    name: str
    bound: float
    measured: float
    at_least: bool = True
    unit: str = "x"

    @property
    def met(self) -> bool:
        """Whether the measured number keeps to the bound."""
        return self.measured >= self.bound if self.at_least else self.measured <= self.bound

    def text(self, value: float) -> str:
        """Write a number with its unit."""
        return f"{value:.2f} {self.unit}"


def targets(results: Results) -> list[Target]:
    """List the targets for which something was measured; of several numbers the worst counts."""
    found: list[Target] = []

    def faster(name: str, bound: float, ratios: Sequence[float]) -> None:
        if ratios:
            found.append(Target(name, bound, min(ratios)))

    ratios: Callable[..., list[float]] = results.ratios
    for hard, bound in (("95% hard", 4), ("40% hard", 4), ("3% hard", 6)):
        faster(f"with gradient, {hard}: {EAGER}", bound, ratios(["headline"], EAGER, backward=True, name=hard))
    faster(f"forward: {EAGER}", 4, ratios(["headline"], EAGER, backward=False))
    faster(f"with gradient: {PLAIN}", 1, ratios(["headline"], PLAIN, backward=True))
    faster(f"NumPy: {NAIVE}", 4, ratios(["numpy"], NAIVE))
    faster(f"JAX, forward: {OPTAX}", 4, ratios(["jax"], OPTAX, backward=False))
    faster(f"JAX, with gradient: {OPTAX}", 2.5, ratios(["jax"], OPTAX, backward=True))
    for way, backward in (("forward", False), ("with gradient", True)):
        faster(f"resized, {way}: {EAGER}", 4, ratios(["resized"], EAGER, backward=backward))
    for group in _SHAPES:
        faster(f"{group}: {EAGER}", 1, ratios([group], EAGER))
    return [*found, *_line(results), *_memory(results)]


def _line(results: Results) -> Iterator[Target]:
    """Compare the times per pixel, which should not depend on the number of pixels."""
    per_pixel = results.nanoseconds("line")
    if per_pixel:
        bend = max(per_pixel) / min(per_pixel)
        yield Target("time per pixel, largest to smallest", _BEND, bend, at_least=False)


def _memory(results: Results) -> Iterator[Target]:
    for backward, resized in ((False, False), (True, False), (True, True)):
        found = results.peak(OURS, backward=backward, resized=resized)
        if found:
            probe, peak = found
            bound = _PER_PIXEL * probe.n_pixels + _BLOCKS + backward * probe.gradient_bytes
            name = f"peak memory, {'with gradient' if backward else 'forward'}{', resized' if resized else ''}"
            yield Target(name, bound / 2**20, peak / 2**20, at_least=False, unit="MiB")
