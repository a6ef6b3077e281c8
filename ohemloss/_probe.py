"""What `ohemloss check` asks a backend: what only the library knows of itself."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias

from ._typing import Array, Device

# `loss(logits, *others)`, which gives a 0-d array, and what gives its value and its gradient by the logits.
Loss: TypeAlias = Callable[..., Array]
LossAndGradient: TypeAlias = Callable[..., tuple[Array, Array]]
Way: TypeAlias = Callable[[Loss], LossAndGradient]


@dataclass(frozen=True, kw_only=True)
class Place:
    """
    A device that arrays can be made on, or several at once.

    `device` is what `asarray` takes, `label` what tells it from the others in a report, and `model` the name of the
    product; an empty one stands for the processor. ``spread(array)`` brings an array to the `n_devices` that it is
    spread over; None leaves it where it was made.
    """

    device: Device
    label: str
    model: str = ""
    n_devices: int = 1
    spread: Callable[[Array], Array] | None = None


@dataclass(frozen=True, kw_only=True)
class Probe:
    """
    What a library says of itself.

    Parameters
    ----------
    versions : callable
        ``versions()``: what the numbers may depend on, by name: the library, its driver, its compiler.
    places : callable
        ``places()``: the devices that are here, as a sequence of `Place`. None at all is no failure; an error is.
    differentiated : callable or None
        ``differentiated(loss)``: a function of the same arguments that gives the value and, by the library's own
        differentiation, the gradient with respect to the first. None if it does not differentiate.
    compiled : callable or None
        The same, compiled by the library. It is called once for each device and dtype, and the function that it gives
        only with arrays of one shape and dtype each. None if it does not compile.
    """

    versions: Callable[[], Mapping[str, str]]
    places: Callable[[], Sequence[Place]]
    differentiated: Way | None = None
    compiled: Way | None = None
