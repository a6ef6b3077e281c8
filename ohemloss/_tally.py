"""What is counted before the selection, in one exchange between the places that the batch is spread over."""

import math
from dataclasses import dataclass
from typing import Any

from ._arrays import is_array
from ._counts import Counts
from ._engine import Axes, Engine
from ._typing import Array


@dataclass(frozen=True)
class Tally:
    """What a rule may count, and of the elements that compete: how many there are, and how many are hard."""

    counts: Counts
    n_pool: Array
    n_hard: Array


def tally(engine: Engine, valid: Array, positives: Array | None, pool: Array, hard: Array, axes: Axes) -> Tally:
    """Count along some axes; with None over the whole batch."""
    masks = {"valid": valid, "pool": pool, "hard": hard}
    if positives is not None:
        masks["positives"] = positives
    found = {name: engine.count_here(mask, axes) for name, mask in masks.items()}
    lengths = {"all": _size(engine, valid, axes), "images": 1 if axes is not None else n_images(engine, valid)}
    if axes is None and engine.is_spread:
        dtype = found["valid"].dtype
        here = {name: n if is_array(n) else engine.asarray(n, dtype) for name, n in lengths.items()}
        found = engine.join_all({**found, **here})
    else:
        found = {**found, **lengths}
    n_pool, n_hard = found.pop("pool"), found.pop("hard")
    counts = {"positives": found["valid"] * 0, **found}
    return Tally(Counts(**counts, devices=engine.n_places, _engine=engine), n_pool, n_hard)


def n_images(engine: Engine, x: Array) -> Any:
    """Give the length of the first axis here: a number, a symbol, or where it is not known yet a count."""
    length = x.shape[0] if x.ndim else 1
    if length is None or length != length:
        return engine.count_here(engine.xp.any((x == x) | (x != x), axis=tuple(range(1, x.ndim))))
    return length


def _size(engine: Engine, valid: Array, axes: Axes) -> int | Array:
    shape = valid.shape if axes is None else tuple(valid.shape[i] for i in axes)
    known = all(isinstance(length, int) for length in shape)
    return math.prod(shape) if known else engine.count_here(valid | ~valid, axes)
