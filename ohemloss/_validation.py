"""The checks of the array arguments: by shape, dtype, library and device; by value only where looking is free."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from ._backend import Backend
from ._dtypes import BOOLEAN, FLOATING, INTEGER, compute_dtype, name_of
from ._engine import Engine
from ._inputs import Inputs
from ._labels import Classes, read_labels
from ._mining_rule import MiningRule
from ._options import Options, check_min_kept, check_real, check_weight
from ._registry import Library, library_of
from ._resize import resized
from ._shapes import agree, check_broadcast, check_label_shape, class_axis, shape_of
from ._spread import join_of
from ._typing import Array, Namespace

# How many different labels an error lists.
_LISTED = 5


@dataclass(frozen=True, kw_only=True)
class Call:
    """The validated arguments of one call. `options.axis` counts from the front."""

    engine: Engine
    backend: Backend
    inputs: Inputs
    options: Options


def prepare(
    logits: Array,
    labels: Array,
    weight: Array | Sequence[float] | None,
    pixel_weight: Array | None,
    positives: Array | None,
    options: Options,
) -> Call:
    """Validate the arguments of the loss but the values of the labels, see `check_label_values`."""
    library = find_library("logits", logits)
    engine = replace(engine_for(library, logits), join=join_of(library, options.axis_name, options.process_group))
    beside = _Beside("logits", logits, library)
    beside.check("labels", labels)
    check_dtype(library, "logits", logits, FLOATING, "a real floating")
    check_dtype(library, "labels", labels, INTEGER, "an integer")
    axis = class_axis(options.axis, logits)
    # Not if it is the same, since replacing checks all options again; a symbol of the same value is not the same.
    if axis is not options.axis:
        options = replace(options, axis=axis)
    check_label_shape(logits, labels, options)
    if options.resize is not None and not resized(options, logits.shape, labels.shape):
        options = replace(options, resize=None, align_corners=False)
    n_classes = logits.shape[options.axis]
    if weight is not None:
        weight = _class_weight(engine, beside, weight, n_classes, logits)
    if pixel_weight is not None:
        beside.check("pixel_weight", pixel_weight)
        check_dtype(library, "pixel_weight", pixel_weight, FLOATING, "a real floating")
        check_broadcast(pixel_weight, labels)
    check_option_arrays(library, options.arrays(), "logits", logits)
    if positives is not None:
        check_mask(library, "positives", positives, "labels", labels)
    check_rule_for(options.rule, "labels", labels, positives)
    return Call(
        engine=engine,
        backend=library.backend,
        inputs=Inputs(logits=logits, labels=labels, weight=weight, pixel_weight=pixel_weight, positives=positives),
        options=options,
    )


def check_label_values(call: Call, value: Array | None = None) -> None:
    """
    Refuse labels out of range, where the host may look at them.

    A label out of range makes the value NaN, so one that is not tells that there is none.
    """
    host_view = call.backend.host_view
    seen = None if value is None else host_view(value)
    if seen is not None:
        xp = find_library("value", seen).xp
        if look(xp.any(seen != seen), bool) is False:
            return
    visible = host_view(call.inputs.labels)
    if visible is not None:
        on_host = engine_for(find_library("labels", visible), visible)
        n_classes = call.inputs.logits.shape[call.options.axis]
        _check_label_values(on_host, visible, n_classes, call.options.ignore_index)


def find_library(name: str, array: Array) -> Library:
    """Find the library of an argument; TypeError if it is no array."""
    # The root module of a type says what library it is from, not that it is an array.
    library = library_of(array) if hasattr(array, "shape") and hasattr(array, "dtype") else None
    if library is None:
        msg = f"`{name}` must be an array of an array API library: got {type(array).__name__}. Convert it to one first."
        raise TypeError(msg)
    objection = library.backend.objection(array)
    if objection is not None:
        msg = f"`{name}` must be a plain array: {objection}"
        raise TypeError(msg)
    return library


def engine_for(library: Library, array: Array) -> Engine:
    """Make the engine of a call on arrays beside this one."""
    backend = library.backend
    return Engine(
        xp=library.xp,
        device=backend.device(array),
        constant=backend.constant,
        cross_entropy=backend.cross_entropy,
        kth_largest=backend.kth_largest,
        total=backend.total,
    )


@dataclass(frozen=True)
class _Beside:
    """The argument that the others must lie beside."""

    name: str
    array: Array
    library: Library

    def check(self, name: str, array: Array) -> None:
        """Refuse an array of another library or on another device."""
        other = find_library(name, array)
        if other.xp is not self.library.xp:
            msg = (
                f"`{name}` must come from the library of `{self.name}`: got {self.name} from "
                f"{self.library.backend.name} and {name} from {other.backend.name}. Convert one of them."
            )
            raise TypeError(msg)
        here, there = self.library.backend.device(self.array), other.backend.device(array)
        if here is not None and there is not None and here != there:
            msg = (
                f"`{name}` must be on the device of `{self.name}`: got {self.name} on {here} and {name} on {there}. "
                "Move one of them."
            )
            raise ValueError(msg)


def check_option_arrays(
    library: Library,
    arrays: dict[str, Array],
    other_name: str,
    other: Array,
    *,
    thresh_range: tuple[float, float] = (0, 1),
) -> None:
    """Refuse options that are no 0-d arrays beside another array, or, where the host may look, out of their range."""
    for name, value in arrays.items():
        _Beside(other_name, other, library).check(name, value)
        if name == "thresh":
            check_dtype(library, name, value, FLOATING, "a real floating")
        else:
            check_dtype(library, name, value, FLOATING + INTEGER, "a real floating or an integer")
        if value.ndim != 0:
            msg = f"`{name}` must be a number or a 0-d array: got {name}.shape={shape_of(value)}."
            raise ValueError(msg)
        visible = library.backend.host_view(value)
        number = None if visible is None else look(visible, float)
        if number is not None and name_of(library.xp, value.dtype) in INTEGER:
            check_min_kept(int(number))
        elif number is not None:
            check_real(name, number, *(thresh_range if name == "thresh" else (0, 1)))


def check_score(library: Library, score: Array, losses: Array) -> None:
    """Refuse a score that is no floating array of the shape of the losses beside them."""
    _Beside("losses", losses, library).check("score", score)
    check_dtype(library, "score", score, FLOATING, "a real floating")
    _check_same_shape("score", score, "losses", losses)


def check_rule_for(rule: MiningRule, name: str, elements: Array, positives: Array | None) -> None:
    """Refuse a rule that asks for what the arrays do not say."""
    if rule.per_image and elements.ndim == 0:
        msg = f"`{name}` must have an axis of images for a rule per image: got {name}.shape=() and {rule!r}."
        raise ValueError(msg)
    if rule.normaliser == "positives" and positives is None:
        msg = f"`positives` must be given for a rule that divides by their number: got None and {rule!r}."
        raise ValueError(msg)


def check_beside(library: Library, name: str, array: Array, other_name: str, other: Array) -> None:
    """Refuse an array of another library or on another device than another argument."""
    _Beside(other_name, other, library).check(name, array)


def check_mask(library: Library, name: str, mask: Array, other_name: str, other: Array) -> None:
    """Refuse what is not a bool array of the shape, library and device of another one."""
    _Beside(other_name, other, library).check(name, mask)
    check_dtype(library, name, mask, BOOLEAN, "a boolean")
    _check_same_shape(name, mask, other_name, other)


def _check_same_shape(name: str, array: Array, other_name: str, other: Array) -> None:
    if array.ndim != other.ndim or not all(map(agree, array.shape, other.shape)):
        msg = (
            f"`{name}` must have the shape of `{other_name}`: "
            f"got {name}.shape={shape_of(array)}, {other_name}.shape={shape_of(other)}."
        )
        raise ValueError(msg)


def check_dtype(library: Library, name: str, array: Array, allowed: tuple[str, ...], kind: str) -> None:
    """Refuse an array whose dtype is not one of those named."""
    if name_of(library.xp, array.dtype) not in allowed:
        there = [dtype for dtype in allowed if hasattr(library.xp, dtype)]
        msg = f"`{name}` must have {kind} dtype ({', '.join(there)}): got {array.dtype}. Convert it first."
        raise TypeError(msg)


def _class_weight(
    engine: Engine, beside: _Beside, weight: Array | Sequence[float], n_classes: int, logits: Array
) -> Array:
    dtype = compute_dtype(engine.xp, logits.dtype)
    array = check_weight(weight)
    if isinstance(array, tuple):
        array = engine.asarray(list(array), dtype)
    beside.check("weight", array)
    check_dtype(beside.library, "weight", array, FLOATING, "a real floating")
    if array.ndim != 1 or not agree(array.shape[0], n_classes):
        msg = f"`weight` must have one number per class: got weight.shape={shape_of(array)} for {n_classes} classes."
        raise ValueError(msg)
    return engine.xp.astype(array, dtype)


def _check_label_values(engine: Engine, labels: Array, n_classes: int, ignore_index: int | None) -> None:
    read = read_labels(engine, labels, n_classes, ignore_index)
    if not look(engine.xp.any(read.wrong), bool):
        return
    ignore = "" if ignore_index is None else f", or equal ignore_index={ignore_index}"
    msg = (
        f"`labels` must lie in [0, {n_classes}){ignore}: got {int(engine.count(read.wrong))} outside, "
        f"of value {_list_values(engine.xp, read, labels)}. "
        "Map them to a class, or pass the label to ignore as `ignore_index`."
    )
    raise ValueError(msg)


def look(array: Array, kind: Callable[[Array], Any]) -> Any:
    """Give the value of a 0-d array as a Python number; None if its library says that it is traced after all."""
    try:
        return kind(array)
    except (RuntimeError, TypeError, ValueError):
        return None


def _list_values(xp: Namespace, read: Classes, labels: Array) -> str:
    """List the smallest different wrong labels, by shapes that do not depend on values."""
    limits = xp.iinfo(labels.dtype)
    values: list[str] = []
    remaining, largest = read.wrong, xp.max(read.index)
    while bool(xp.any(remaining)):
        if len(values) == _LISTED:
            return ", ".join([*values, "..."])
        smallest = int(xp.min(xp.where(remaining, read.index, largest)))
        # Where the index is signed and the labels are not, the largest of them have become negative.
        values.append(str(smallest if smallest >= limits.min else smallest + int(limits.max) + 1))
        remaining = remaining & (read.index != smallest)
    return ", ".join(values)
