"""The counts of a recipe for each device, where many devices mine together."""

from dataclasses import dataclass, replace
from typing import Any

from .._counts import Counts
from .._criterion import OhemCELoss
from .._typing import Array
from ._quotas import AllButOne, NegativesPerPositive, OfEachImage, OneLess, RoundedUp, Share, Single

# What is a part of all, or so many of each image, is the same for each device and for all of them.
_PARTS = (float, OfEachImage, Share, RoundedUp, Single, NegativesPerPositive)


@dataclass(frozen=True)
class ForEachDevice:
    """A count, or a quota with one, for each device or process that shares the batch."""

    quota: int | AllButOne | OneLess

    def __call__(self, counts: Counts) -> int | Array:
        """Count."""
        if isinstance(self.quota, int):
            return self.quota * counts.devices
        return replace(self.quota, k=self.quota.k * counts.devices)(counts)


def per_gpu(criterion: OhemCELoss) -> OhemCELoss:
    """
    Keep the counts of a recipe for each device, where many devices mine together.

    The code bases count on each device by itself: 100,000 pixels on 8 devices are 800,000. With `axis_name` or
    `process_group` a recipe counts once over all of them, unless it is wrapped so. Fractions, and counts for each
    image, stay what they are.

    Parameters
    ----------
    criterion : OhemCELoss
        What a recipe returns.

    Returns
    -------
    OhemCELoss
        The same, which still needs to know what the batch is spread over.

    Raises
    ------
    TypeError
        If `min_kept` is an array or a function that no recipe has: nobody knows what it counts.

    Examples
    --------
    >>> from dataclasses import replace
    >>> from ohemloss import recipes
    >>> criterion = recipes.per_gpu(recipes.hrnet(ignore_label=255, min_kept=131072))
    >>> criterion = replace(criterion, axis_name="batch")
    """
    quota: Any = criterion.min_kept
    if isinstance(quota, _PARTS) or (isinstance(quota, AllButOne) and quota.of_each_image):
        return criterion
    if not isinstance(quota, (int, AllButOne, OneLess)):
        msg = (
            f"`criterion` must have the `min_kept` of a recipe, or a number: got {quota!r}. Multiply by "
            "`Counts.devices` in the function."
        )
        raise TypeError(msg)
    return replace(criterion, min_kept=ForEachDevice(quota))
