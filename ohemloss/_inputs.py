"""The arrays of one call."""

from dataclasses import dataclass

from ._typing import Array


@dataclass(frozen=True, kw_only=True)
class Inputs:
    """The array arguments of the loss, validated. See `ohemloss.ohem_cross_entropy`."""

    logits: Array
    labels: Array
    weight: Array | None = None
    pixel_weight: Array | None = None
    positives: Array | None = None
