"""The options of the loss, checked once."""

from collections.abc import Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, fields
from numbers import Integral, Real
from typing import Any, Literal, TypeAlias, get_args

from ._arrays import is_array
from ._mining import SMALLEST_FRACTION
from ._typing import Array

Reduction: TypeAlias = Literal["mean", "sum", "none"]

# The options that may change from step to step, and come as a 0-d array then.
MAY_BE_ARRAYS = ("thresh", "min_kept")


class ComparedWithTypes:
    """
    Compare and hash a frozen dataclass by the values of its fields and by their types.

    The count 1 equals the fraction 1.0 and has its hash: a cache that took one for the other would return another loss.
    An array is compared by identity.
    """

    def _identity(self) -> tuple[object, ...]:
        values = [getattr(self, field.name) for field in fields(self)]  # type: ignore[arg-type]
        return tuple((type(value), id(value) if is_array(value) else value) for value in values)

    def __eq__(self, other: object) -> bool:
        """Compare with options of the same class."""
        if not isinstance(other, ComparedWithTypes) or type(other) is not type(self):
            return False
        return other._identity() == self._identity()

    def __hash__(self) -> int:
        """Hash what is compared."""
        return hash(self._identity())


@dataclass(frozen=True, kw_only=True, eq=False)
class Options(ComparedWithTypes):
    """What `ohem_cross_entropy` takes besides arrays. See there."""

    thresh: float | Array | None = 0.7
    min_kept: int | float | Array = 1 / 16
    ignore_index: int | None = 255
    label_smoothing: float = 0.0
    axis: int = 1
    reduction: Reduction = "mean"

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

    def changed(self) -> AbstractSet[str]:
        """Name the options that are not at their default."""
        return {field.name for field in fields(self) if differs(getattr(self, field.name), field.default)}

    def arrays(self) -> dict[str, Array]:
        """Give the options that came as arrays, which may be traced."""
        return {name: value for name in MAY_BE_ARRAYS if is_array(value := getattr(self, name))}


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
    return is_array(value) or value != default


def _is_number(value: object) -> bool:
    return isinstance(value, Real) and not isinstance(value, bool)


def check_thresh(thresh: float | Array | None, low: float, high: float) -> float | Array | None:
    """Return a number of the interval as a float, None or an array as it is; refuse anything else."""
    return thresh if is_array(thresh) else check_real("thresh", thresh, low, high, or_none="None for no threshold")


def check_min_kept(min_kept: int | float | Array) -> int | float | Array:
    """Return a count as an int, a fraction as a float, an array as it is; refuse anything else."""
    if is_array(min_kept):
        return min_kept
    if not _is_number(min_kept):
        msg = f"`min_kept` must be an int (a count) or a float (a fraction): got {min_kept!r}."
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
