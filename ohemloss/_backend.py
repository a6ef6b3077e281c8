"""The contract between the core and a library that wants to be served better than by the standard alone."""

from collections.abc import Callable
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from typing import Any, Protocol

from ._engine import Engine, Join, KthLargest, Total, same
from ._inputs import Inputs
from ._kth import kth_largest
from ._options import Options
from ._softmax import CrossEntropy, cross_entropy
from ._total import total
from ._typing import Array, Device


class LossFunction(Protocol):
    """Compute what `ohemloss.ohem_cross_entropy` does, or return NotImplemented. Arguments are validated."""

    def __call__(self, engine: Engine, inputs: Inputs, options: Options, /) -> Array: ...


class ValueAndGradFunction(Protocol):
    """Compute what `ohemloss.value_and_grad` does, or return NotImplemented. Arguments are validated."""

    def __call__(self, engine: Engine, inputs: Inputs, options: Options, /) -> tuple[Array, Array]: ...


class JoinFunction(Protocol):
    """Give the sum over what the option of the library says."""

    def __call__(self, value: Any, /) -> Join: ...


def device_of(array: Array) -> Device | None:
    """Give the device of an array as the standard has it."""
    return getattr(array, "device", None)


def host_view(array: Array) -> Array | None:
    """Give the array itself if it lies in host memory, as the standard's DLPack protocol tells it; None if not."""
    try:
        kind, _ = array.__dlpack_device__()
    except (AttributeError, NotImplementedError, RuntimeError, TypeError, ValueError):
        return None  # lazy, traced, or without memory of its own
    return array if int(kind) == 1 else None


def one_device(array: Array) -> int:
    """Count the device that an array is on."""
    return 1


def no_objection(array: Array) -> str | None:
    """Object to no array."""
    return None


@dataclass(frozen=True, kw_only=True)
class Backend:
    """
    How one library is served: a value, made of functions. It changes speed, never results.

    Parameters
    ----------
    name : str
        Root module of the library's array types; also the name of the entry point in the group ``ohemloss.backends``.
    namespace : str
        Import path of the array API namespace of the library.
    device : callable
        ``device(array)``: the device that new arrays must be made on to meet this one; None where the library decides.
    host_view : callable
        ``host_view(array)``: an array of the same values, of any library, that the host may look at without waiting for
        a device, copying, or breaking a trace; None if there is none.
    objection : callable
        ``objection(array)``: why an array of the library cannot be taken for its values; None if it can.
    constant : callable
        ``constant(array)``: the same array, as a constant of differentiation. Default: as it is.
    cross_entropy, kth_largest, total : callable
        Replacements of steps of the composite; see `ohemloss._softmax.cross_entropy`, `ohemloss._kth.kth_largest` and
        `ohemloss._total.total`.
    n_devices : callable
        ``n_devices(array)``: how many devices or processes the array is spread over. Default: 1.
    group_option : str or None
        The option by which a call says what its batch is spread over: "axis_name", "process_group", or None.
    join : callable or None
        ``join(value)``: for a value of that option the function that adds up what each place has, of 0-d and 1-d
        arrays, see `ohemloss._engine.Join`; hashable where options are. It raises TypeError or ValueError for a value
        that has no meaning. All places call it equally often, with arrays of the same shape and dtype, whatever their
        data.
    loss, value_and_grad : callable or None
        Replacements of the whole. Each may return NotImplemented for a call that it does not want.
    supports : set of str
        Options that `loss` and `value_and_grad` know, by name. A call that uses another one goes to the composite, so
        an option that is new to a backend never silently does nothing. `thresh` and `min_kept` that came as arrays
        have a second name each: ``"thresh as an array"``.
    probe : str or None
        Where the `ohemloss._probe.Probe` is, as an entry point says it (``"package.module:name"``), so that nothing of
        it is imported for a loss: what ``ohemloss check`` asks of devices, versions, and the library's own ways to
        differentiate and to compile. None: the standard tells the devices, and the loss runs as it is.
    """

    name: str
    namespace: str
    device: Callable[[Array], Device | None] = device_of
    host_view: Callable[[Array], Array | None] = host_view
    objection: Callable[[Array], str | None] = no_objection
    constant: Callable[[Array], Array] = same
    cross_entropy: CrossEntropy = cross_entropy
    kth_largest: KthLargest = kth_largest
    total: Total = total
    n_devices: Callable[[Array], int] = one_device
    group_option: str | None = None
    join: JoinFunction | None = None
    loss: LossFunction | None = None
    value_and_grad: ValueAndGradFunction | None = None
    supports: AbstractSet[str] = frozenset()
    probe: str | None = None
