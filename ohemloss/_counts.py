"""What a mining rule may count."""

import math
from dataclasses import dataclass, field

from ._engine import Engine
from ._fractions import floor_of_product
from ._typing import Array


@dataclass(frozen=True, kw_only=True, eq=False)
class Counts:
    """
    The counts that a rule may use: of the batch, or of each image if it selects per image.

    Those of pixels are integers, arrays where they depend on values. The last four are known once the selection is.

    Attributes
    ----------
    all : int or array
        The number of pixels, ignored ones too.
    valid : array
        The number of pixels that are not ignored.
    images : int or array
        The number of images: 1 where the counts are those of one.
    devices : int
        The number of devices or processes that share the batch by `axis_name` or `process_group`.
    positives : array
        The number of pixels that are selected in any case.
    selected : array
        The number of selected pixels.
    nonzero : array
        The number of selected pixels whose loss is not 0.
    selected_weight, valid_weight : array
        The sum of the class weights of the selected, and of the valid pixels.
    """

    all: int | Array
    valid: Array
    images: int | Array
    positives: Array
    devices: int = 1
    selected: Array = None
    nonzero: Array = None
    selected_weight: Array = None
    valid_weight: Array = None
    _engine: Engine = field(repr=False)

    def where(self, condition: bool | Array, a: int | Array, b: int | Array) -> int | Array:
        """
        Choose one of two counts, of which either may be an array.

        Parameters
        ----------
        condition : bool or array
            A comparison of counts.
        a, b : int or array
            The count if it holds, and if not.

        Returns
        -------
        int or array
            The one chosen.
        """
        if isinstance(condition, bool):
            return a if condition else b
        return self._engine.where(condition, self.valid * 0 + a, b)

    def floor(self, fraction: float, count: int | Array) -> int | Array:
        """
        Give a fraction of a count, rounded down: as Python does of numbers, exactly of arrays.

        Parameters
        ----------
        fraction : float
            At least 0.
        count : int or array
            A count.

        Returns
        -------
        int or array
            The number of pixels.
        """
        if isinstance(count, int):
            return math.floor(fraction * count)
        return floor_of_product(count, fraction)
