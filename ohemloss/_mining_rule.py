"""The rule of the mining: everything but how many."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias, get_args

from ._compared import ComparedWithTypes
from ._counts import Counts
from ._typing import Array

# A count, a fraction of the pool, or a function that gives one of them.
MinKept: TypeAlias = int | float | Array | Callable[[Counts], int | float | Array]
RankBy: TypeAlias = Literal["loss", "prob"]
Pool: TypeAlias = Literal["valid", "all"]
Ties: TypeAlias = Literal["share", "keep", "drop"]
PerImage: TypeAlias = Literal[False, "select", "mean"]
Normaliser: TypeAlias = Literal[
    "selected", "selected_weight", "nonzero", "valid", "valid_weight", "all", "positives", "images"
]


@dataclass(frozen=True, kw_only=True, eq=False)
class MiningRule(ComparedWithTypes):
    """
    Say which pixels compete, by what, and what their losses are divided by.

    How many are selected is said by `thresh` and `min_kept`: the hard ones, united with the `min_kept` hardest. The
    defaults are the rule of `ohem_cross_entropy`; other code bases need other ones, see `ohemloss.recipes`.

    Parameters
    ----------
    rank_by : {"loss", "prob"}, optional
        What makes a pixel hard: its loss, class and pixel weights included, or the probability of its true class alone.
        Default: "loss".
    pool : {"valid", "all"}, optional
        Which pixels compete for the `min_kept` places and are counted by a fraction. With "all" the ignored ones do
        too, with a loss of 0; selected, they count. Default: "valid".
    ties : {"share", "keep", "drop"}, optional
        What happens to the pixels that tie with the last place: they share the places left; all of them are kept (and
        those at the threshold); or all are dropped, so that only what is strictly harder than the next pixel stays.
        Only "share" selects as many as are asked for. Default: "share".
    per_image : {False, "select", "mean"}, optional
        Select in each image (the first axis of the labels) by itself: "select" then divides the sum of all by the count
        of all, "mean" averages the means of the images. Default: False, one selection over the batch.
    normaliser : str or callable, optional
        What the sum of the selected losses is divided by, with ``reduction="mean"``: the name of one of the `Counts`
        ("selected", "selected_weight", "nonzero", "valid", "valid_weight", "all", "positives", "images"), or a function
        of them. Where it is 0 the value is 0. Default: "selected".

    Raises
    ------
    ValueError
        If an option is not one of those listed.

    Examples
    --------
    >>> import array_api_strict as xp
    >>> import ohemloss
    >>> logits = xp.asarray([[2.0, 0.0], [0.0, 0.0], [0.0, 1.0]])
    >>> labels = xp.asarray([0, 1, 255])
    >>> rule = ohemloss.MiningRule(normaliser="all")
    >>> round(float(ohemloss.ohem_cross_entropy(logits, labels, rule=rule)), 4)
    0.231
    """

    rank_by: RankBy = "loss"
    pool: Pool = "valid"
    ties: Ties = "share"
    per_image: PerImage = False
    normaliser: Normaliser | Callable[[Counts], int | float | Array] = "selected"

    def __post_init__(self) -> None:
        """Refuse what has no meaning."""
        choices: dict[str, Any] = {"rank_by": RankBy, "pool": Pool, "ties": Ties, "per_image": PerImage}
        for name, allowed in choices.items():
            _check_choice(name, getattr(self, name), get_args(allowed))
        if not callable(self.normaliser):
            _check_choice("normaliser", self.normaliser, get_args(Normaliser), or_else=", or a function of the counts")


def _check_choice(name: str, value: object, allowed: tuple[object, ...], *, or_else: str = "") -> None:
    # Compared with the type, since 0 equals False.
    if not any(type(value) is type(one) and value == one for one in allowed):
        msg = f"`{name}` of a rule must be one of {', '.join(map(repr, allowed))}{or_else}: got {value!r}."
        raise ValueError(msg)
