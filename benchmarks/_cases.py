"""What is timed: the groups of cases, in full and in a quick form."""

import functools
import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field

from . import _calls, _data, _resized
from ._calls import EAGER, HRNET, NAIVE, OPTAX, OURS, PLAIN
from ._timing import Call

Shape = tuple[int, int, int, int]

_TYPICAL = 0.40
_BRIEF = 0.7  # seconds
_DTYPES = ("float16", "bfloat16", "float64")


@dataclass(frozen=True)
class Case:
    """Variants that are compared on one input. The input is made by `build`, and goes with what that returns."""

    group: str
    name: str
    backward: bool
    shape: Shape
    build: Callable[[], dict[str, Call]]
    # Where the variants differ by it and not by the code.
    n_images: Mapping[str, int] = field(default_factory=dict)
    # No longer than this, whatever the run allows.
    seconds: float = math.inf

    def n_pixels(self, variant: str) -> int:
        """Give the number of pixels of a variant."""
        return self.n_images.get(variant, self.shape[0]) * math.prod(self.shape[2:])


@dataclass(frozen=True)
class Sizes:
    """The shapes of a run, and the regimes of the headline."""

    regimes: tuple[float, ...] = _data.REGIMES
    headline: Shape = (2, 19, 512, 1024)
    small: tuple[Shape, ...] = ((1, 19, 64, 64), (1, 19, 256, 256), (1, 19, 512, 1024), (8, 19, 1024, 1024))
    # About as many logits each as the headline.
    classes: tuple[Shape, ...] = ((10, 2, 1024, 1024), (2, 19, 512, 1024), (1, 150, 256, 512), (1, 1000, 128, 160))
    layouts: Shape = (2, 19, 512, 1024)
    line: Shape = (8, 19, 1024, 1024)
    # Logits, and how many times as large the labels are along each axis. The first ones are those of the headline.
    resized: tuple[tuple[Shape, int], ...] = (((2, 19, 64, 128), 8), ((2, 19, 128, 256), 4), ((1, 150, 64, 64), 8))


QUICK = Sizes(
    headline=(1, 19, 128, 256),
    small=((1, 19, 64, 64), (1, 19, 128, 256)),
    classes=((1, 2, 256, 512), (1, 150, 64, 64), (1, 1000, 32, 32)),
    layouts=(1, 19, 128, 256),
    line=(8, 19, 64, 128),
    resized=(((1, 19, 16, 32), 8), ((1, 150, 8, 8), 8)),
)

make = functools.lru_cache(maxsize=1)(_data.make)  # cases that follow each other share it


def cases(sizes: Sizes) -> Iterator[Case]:
    """List all cases; those of one input follow each other."""
    for hard in sizes.regimes:
        yield from _headline(sizes.headline, hard)
    for shape in sizes.small:
        yield from _both_ways("sizes", _text(shape), shape)
    yield from _line(sizes.line)
    for shape in sizes.classes:
        yield from _both_ways("classes", f"C = {shape[1]}", shape)
    for layout in _calls.LAYOUTS[1:]:
        yield from _both_ways("layouts", layout, sizes.layouts, layout=layout)
    for dtype in _DTYPES:
        yield from _both_ways("dtypes", dtype, sizes.layouts, dtype=dtype)
    for i, (shape, ratio) in enumerate(sizes.resized):
        for hard in (_TYPICAL,) if i else sizes.regimes:
            yield from _resized_both_ways(shape, ratio, hard)


def _headline(shape: Shape, hard: float) -> Iterator[Case]:
    makers: dict[str, tuple[Callable[..., Call], tuple[str, ...]]] = {
        "headline": (_calls.torch_call, (OURS, EAGER, PLAIN, HRNET)),
        "numpy": (_calls.numpy_call, (OURS, NAIVE)),
        "jax": (_calls.jax_call, (OURS, OPTAX)),
    }
    for group, (maker, variants) in makers.items():
        for backward in (False, True):

            def build(
                maker: Callable[..., Call] = maker, variants: tuple[str, ...] = variants, backward: bool = backward
            ) -> dict[str, Call]:
                data = make(shape, hard)
                return {variant: maker(variant, data, backward=backward) for variant in variants}

            yield Case(group, f"{hard:.0%} hard", backward, shape, build)


def _both_ways(group: str, name: str, shape: Shape, **how: str) -> Iterator[Case]:
    for backward in (False, True):

        def build(backward: bool = backward) -> dict[str, Call]:
            data = make(shape, _TYPICAL)
            return {
                variant: _calls.torch_call(variant, data, backward=backward, **how)  # type: ignore[arg-type]
                for variant in (OURS, EAGER)
            }

        yield Case(group, name, backward, shape, build)


def _resized_both_ways(shape: Shape, ratio: int, hard: float) -> Iterator[Case]:
    n, c, h, w = shape
    for backward in (False, True):

        def build(backward: bool = backward) -> dict[str, Call]:
            data = _resized.make(shape, ratio, hard)
            return {variant: _resized.call(variant, data, backward=backward) for variant in (OURS, EAGER)}

        name = f"C = {c}, {ratio} x, {hard:.0%}"
        yield Case("resized", name, backward, (n, c, ratio * h, ratio * w), build, seconds=_BRIEF)


def _line(shape: Shape) -> Iterator[Case]:
    """Compare the loss with itself on more images: an eighth, a quarter, a half, and all."""
    n_images = {f"{OURS}, {n} of {shape[0]}": n for n in (shape[0] >> i for i in (3, 2, 1, 0))}

    def build() -> dict[str, Call]:
        data = make(shape, _TYPICAL)
        return {name: _calls.torch_call(OURS, data, backward=True, n=n) for name, n in n_images.items()}

    yield Case("line", "more images", True, shape, build, n_images)


def _text(shape: Shape) -> str:
    return "x".join(map(str, shape))
