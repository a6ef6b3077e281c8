"""What one call runs on: a namespace, a device, and the three steps that a library may know a better way for."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol, TypeAlias

from ._arrays import is_array
from ._typing import Array, Device, DType, Namespace

# The axes over which one selection is made; None: all of them, to a 0-d result.
Axes: TypeAlias = tuple[int, ...] | None

# Scalars are allowed in `where` since this version of the standard.
_SCALARS_IN_WHERE = "2024.12"


class KthLargest(Protocol):
    """See `ohemloss._kth.kth_largest`."""

    def __call__(self, engine: "Engine", scores: Array, k: Array, needed: Array, axes: Axes = None) -> Array: ...


def same(x: Array) -> Array:
    """Give back what came."""
    return x


class Join(Protocol):
    """Add up what each place has that the batch is spread over; differentiable as the library makes such a sum."""

    def __call__(self, x: Array) -> Array: ...

    @property
    def size(self) -> int:
        """The number of places."""
        ...


# See `ohemloss._softmax.CrossEntropy`, which names types that are made with an engine.
AnyCrossEntropy: TypeAlias = Callable[..., tuple[Array, Array | None]]


class Total(Protocol):
    """See `ohemloss._total.total`."""

    def __call__(self, engine: "Engine", x: Array) -> Array: ...


@dataclass(frozen=True, kw_only=True)
class Engine:
    """
    The namespace `xp`, the device of the call's arrays, and the replaceable steps.

    `device` is None where the library places new arrays by itself (under a trace, or lazily). `constant` takes an array
    out of differentiation; a library that leaves it in does work for a derivative that is 0. `join` is the sum over the
    places that the batch is spread over, or None; what depends on all pixels goes through it, a few numbers at a time.
    """

    xp: Namespace
    cross_entropy: AnyCrossEntropy
    kth_largest: KthLargest
    total: Total
    device: Device | None = None
    constant: Callable[[Array], Array] = same
    join: Join | None = None

    @property
    def is_spread(self) -> bool:
        """Tell whether other places have a part of the batch."""
        return self.join is not None

    @property
    def n_places(self) -> int:
        """Count the places that have parts of the batch."""
        return 1 if self.join is None else self.join.size

    def joined(self, x: Array) -> Array:
        """Add up what each place has."""
        return x if self.join is None else self.join(x)

    def join_all(self, here: dict[str, Array]) -> dict[str, Array]:
        """Add up several numbers of one dtype, in one exchange."""
        if not self.is_spread:
            return here
        joined = self.joined(self.xp.stack(list(here.values())))
        return {name: joined[i] for i, name in enumerate(here)}

    def _beside(self) -> dict[str, Any]:
        return {} if self.device is None else {"device": self.device}

    def asarray(self, values: Any, dtype: DType) -> Array:
        """Make an array of Python numbers on the device of the call."""
        return self.xp.asarray(values, dtype=dtype, **self._beside())

    def as_array(self, value: Any, like: Array) -> Array:
        """Make an array of a scalar type that some libraries return; an array stays what it is."""
        # Not `asarray` of everything: of an array, it may drop the gradient.
        return value if type(value) is type(like) else self.xp.asarray(value)

    def arange(self, n: int) -> Array:
        """Count from 0 to n - 1 in the default integer dtype of the device."""
        return self.xp.arange(n, **self._beside())

    def where(self, condition: Array, x: Array, fill: float | Array) -> Array:
        """Take `x` where the condition holds and `fill`, a number or an array, elsewhere, in the dtype of `x`."""
        if is_array(fill):
            return self.xp.where(condition, x, fill)
        if getattr(self.xp, "__array_api_version__", _SCALARS_IN_WHERE) < _SCALARS_IN_WHERE:
            return self.xp.where(condition, x, self.asarray(fill, x.dtype))
        return self.xp.where(condition, x, fill)

    def sum(self, x: Array, axis: int | Axes, *, keepdims: bool = False) -> Array:
        """Sum along some axes, in the dtype of `x`: the standard before 2023.12 widens to its default."""
        result = self.xp.sum(x, axis=axis, keepdims=keepdims)
        return result if result.dtype == x.dtype else self.xp.astype(result, x.dtype)

    def sum_of_counts(self, counts: Array, axes: Axes = None, *, keepdims: bool = False) -> Array:
        """Sum integers of the default dtype, here."""
        try:
            return self.xp.sum(counts, axis=axes, keepdims=keepdims, dtype=counts.dtype)
        except TypeError:
            # One library sums without a dtype. Another widens without one, to what its device has not.
            return self.xp.sum(counts, axis=axes, keepdims=keepdims)

    def count(self, mask: Array, axes: Axes = None) -> Array:
        """Count the true elements of the whole batch, or of each image along some axes, kept with length 1."""
        here = self.count_here(mask, axes)
        return self.joined(here) if axes is None else here

    def count_here(self, mask: Array, axes: Axes = None) -> Array:
        """Count the true elements that are here, as an integer of the default dtype."""
        if axes is not None:
            return self.sum_of_counts(self.xp.astype(mask, self.arange(1).dtype), axes, keepdims=True)
        try:
            return self.xp.count_nonzero(mask)
        except (AttributeError, RuntimeError, ValueError):
            # New in the standard of 2024.12, and refused on devices without 64-bit integers: there a dtype is named.
            return self.xp.sum(self.xp.astype(mask, self.xp.int8), dtype=self.arange(1).dtype)
