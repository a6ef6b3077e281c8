"""The ways to run the loss on a library: what is called, on which cases."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import TypeAlias

from ... import ohem_cross_entropy, value_and_grad
from ..._probe import Probe
from ..._probe import Way as LibraryWay
from ..._typing import Array
from ._case import IGNORE, Case
from ._cases import cases, cases_of_one_shape

# From the arguments by name to the value, and the gradient if the way has one.
Run: TypeAlias = Callable[[dict[str, Array]], tuple[Array, Array | None]]

VALUE_ALONE = "eager"  # the way that has no gradient


@dataclass(frozen=True)
class Way:
    """A name, the cases for each dtype, and what makes the function that runs them."""

    name: str
    cases: Callable[[str], tuple[Case, ...]]
    prepare: Callable[[], Run]


def ways_of(probe: Probe | None, *, quick: bool) -> list[Way]:
    """List the ways of a library; without the one that compiles, if it must be quick."""
    ways = [Way(VALUE_ALONE, cases, lambda: _eager), Way("closed form", cases, lambda: _closed_form)]
    if probe is not None and probe.differentiated is not None:
        ways.append(Way("autograd", cases_of_one_shape, partial(_by_library, probe.differentiated)))
    if probe is not None and probe.compiled is not None and not quick:
        ways.append(Way("compiled", cases_of_one_shape, partial(_by_library, probe.compiled)))
    return ways


def _eager(arguments: dict[str, Array]) -> tuple[Array, None]:
    logits, labels, options = _parted(arguments)
    return ohem_cross_entropy(logits, labels, ignore_index=IGNORE, **options), None


def _closed_form(arguments: dict[str, Array]) -> tuple[Array, Array]:
    logits, labels, options = _parted(arguments)
    return value_and_grad(logits, labels, ignore_index=IGNORE, **options)


def _parted(arguments: dict[str, Array]) -> tuple[Array, Array, dict[str, Array]]:
    options = {name: array for name, array in arguments.items() if name not in ("logits", "labels")}
    return arguments["logits"], arguments["labels"], options


def _by_library(way: LibraryWay) -> Run:
    run = way(_loss)
    return lambda arguments: run(*arguments.values())


def _loss(logits: Array, labels: Array, weight: Array, pixel_weight: Array, thresh: Array, min_kept: Array) -> Array:
    """Take every option as an array: one program for all cases."""
    return ohem_cross_entropy(
        logits,
        labels,
        thresh=thresh,
        min_kept=min_kept,
        ignore_index=IGNORE,
        weight=weight,
        pixel_weight=pixel_weight,
    )
