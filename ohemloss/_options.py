"""The options of the loss, checked once."""

from collections.abc import Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, fields
from numbers import Integral, Real
from typing import Any, Literal, TypeAlias, get_args

from ._arrays import is_array
from ._compared import ComparedWithTypes
from ._fractions import SMALLEST_FRACTION
from ._mining_rule import MiningRule, MinKept
from ._typing import Array

Reduction: TypeAlias = Literal["mean", "sum", "none"]
Resize: TypeAlias = Literal["linear", "bilinear", "trilinear"]

# The options that may change from step to step, and come as a 0-d array then.
MAY_BE_ARRAYS = ("thresh", "min_kept")


@dataclass(frozen=True, kw_only=True, eq=False)
class Options(ComparedWithTypes):
    """What `ohem_cross_entropy` takes besides arrays. See there."""

    thresh: float | Array | None = 0.7
    min_kept: MinKept = 1 / 16
    rule: MiningRule = MiningRule()
    ignore_index: int | None = 255
    label_smoothing: float = 0.0
    axis: int = 1
    reduction: Reduction = "mean"
    resize: Resize | None = None
    align_corners: bool = False
    axis_name: Any = None
    process_group: Any = None

    def __post_init__(self) -> None:
        """Refuse what has no meaning, and keep plain Python numbers, whatever kind of number came."""
        checked = {
            "thresh": check_thresh(self.thresh, 0, 1),
            "min_kept": check_min_kept(self.min_kept),
            "ignore_index": check_integer("ignore_index", self.ignore_index, or_none="None to ignore no label"),
            "label_smoothing": check_real("label_smoothing", self.label_smoothing, 0, 1),
            "axis": check_integer("axis", self.axis),
        }
        for name, value in checked.items():
            object.__setattr__(self, name, value)
        if self.reduction not in get_args(Reduction):
            msg = f"`reduction` must be one of {', '.join(map(repr, get_args(Reduction)))}: got {self.reduction!r}."
            raise ValueError(msg)
        check_rule(self.rule, self.reduction)
        _check_resize(self.resize, self.align_corners)

    def mines_as_usual(self) -> bool:
        """Tell whether the mining is that of the default rule, and the loss a number."""
        return self.rule == Options.rule and self.reduction != "none"

    def changed(self) -> AbstractSet[str]:
        """Name the options that are not at their default."""
        # The defaults by name from the class: a tracing compiler cannot take one that is an object out of a field.
        names = [field.name for field in fields(self)]
        return {name for name in names if differs(getattr(self, name), getattr(Options, name))}

    def arrays(self) -> dict[str, Array]:
        """Give the options that came as arrays, which may be traced."""
        return {name: value for name in MAY_BE_ARRAYS if is_array(value := getattr(self, name))}


def _check_resize(resize: str | None, align_corners: bool) -> None:
    if resize is not None and resize not in get_args(Resize):
        msg = f"`resize` must be None or one of {', '.join(map(repr, get_args(Resize)))}: got {resize!r}."
        raise ValueError(msg)
    if not isinstance(align_corners, bool):
        msg = f"`align_corners` must be True or False: got {align_corners!r}."
        raise TypeError(msg)
    if align_corners and resize is None:
        msg = "`align_corners` says how logits are resized, and `resize` is None: pass for instance 'bilinear'."
        raise ValueError(msg)


def check_weight(weight: Any) -> Any:
    """Return a sequence of numbers as a tuple of floats, an array or None as it is; refuse anything else."""
    if weight is None or is_array(weight):
        return weight
    if isinstance(weight, str) or not isinstance(weight, Sequence) or not all(map(_is_number, weight)):
        msg = f"`weight` must be an array, or a sequence of numbers: got {weight!r}."
        raise TypeError(msg)
    return tuple(float(number) for number in weight)


def differs(value: Any, default: Any) -> bool:
    """Tell whether an option is not at its default; an array, which compares element by element, never is."""
    if default is None:  # whatever it is: a tracing compiler knows of some values only that they are there
        return value is not None
    return is_array(value) or value != default


def _is_number(value: object) -> bool:
    return isinstance(value, Real) and not isinstance(value, bool)


def check_thresh(thresh: float | Array | None, low: float, high: float) -> float | Array | None:
    """Return a number of the interval as a float, None or an array as it is; refuse anything else."""
    return thresh if is_array(thresh) else check_real("thresh", thresh, low, high, or_none="None for no threshold")


def check_rule(rule: MiningRule, reduction: str = "mean") -> None:
    """Refuse what is no rule, or one that does not go with the reduction."""
    if not isinstance(rule, MiningRule):
        msg = f"`rule` must be an `ohemloss.MiningRule`: got {rule!r}."
        raise TypeError(msg)
    if reduction != "mean" and (rule.normaliser != "selected" or rule.per_image == "mean"):
        msg = (
            f"`reduction` must be 'mean' for a rule with a normaliser or a mean per image, which divide: "
            f"got {reduction!r} and {rule!r}."
        )
        raise ValueError(msg)


def check_min_kept(min_kept: MinKept) -> MinKept:
    """Return a count as an int, a fraction as a float, an array or a function as it is; refuse anything else."""
    if is_array(min_kept) or callable(min_kept):
        return min_kept
    if not _is_number(min_kept):
        msg = (
            f"`min_kept` must be an int (a count), a float (a fraction), or a function of the counts: got {min_kept!r}."
        )
        raise TypeError(msg)
    if isinstance(min_kept, Integral):
        if min_kept < 0:
            msg = f"`min_kept` as a count must not be negative: got {min_kept}."
            raise ValueError(msg)
        return int(min_kept)
    if not 0 <= min_kept <= 1:
        msg = (
            f"`min_kept` as a fraction must lie in [0, 1]: got {min_kept}. "
            "For a count pass an int, for instance `min_kept=int(n)`."
        )
        raise ValueError(msg)
    if 0 < min_kept < SMALLEST_FRACTION:
        msg = f"`min_kept` as a fraction must be 0 or at least 2**-20: got {min_kept}. For so few pass an int, a count."
        raise ValueError(msg)
    return float(min_kept)


def check_real(name: str, value: float | None, low: float, high: float, *, or_none: str | None = None) -> float | None:
    """Return a number of the interval as a float, or None where None has a meaning; refuse anything else."""
    if value is None and or_none is not None:
        return None
    hint = f", or {or_none}" if or_none else ""
    if value is None or not _is_number(value):
        msg = f"`{name}` must be a number{hint}: got {value!r}."
        raise TypeError(msg)
    if not low <= value <= high:
        msg = f"`{name}` must lie in [{low}, {high}]{hint}: got {value}."
        raise ValueError(msg)
    return float(value)


def check_integer(name: str, value: int | None, *, or_none: str | None = None) -> int | None:
    """Return an integer as an int, or None where None has a meaning; refuse anything else."""
    if value is None and or_none is not None:
        return None
    if isinstance(value, bool) or not isinstance(value, Integral):
        hint = f", or {or_none}" if or_none else ""
        msg = f"`{name}` must be an int{hint}: got {value!r}."
        raise TypeError(msg)
    return int(value)
