"""The look-up: from the type of an array to its namespace and backend."""

import importlib
from dataclasses import dataclass

from ._backend import Backend
from ._typing import Array, Namespace

_GROUP = "ohemloss.backends"


@dataclass(frozen=True)
class Library:
    """A namespace and its backend."""

    xp: Namespace
    backend: Backend


# Plain dicts, and not a cached function: tracing compilers see through them.
_registered: dict[type, Library] = {}
_by_type: dict[type, Library] = {}  # those, and what has been looked up since


def register(backend: Backend, *types: type) -> None:
    """
    Serve arrays of these types by a backend.

    Installed backends are found by their entry point and need no call. Registering ahead of the first look-up is for
    array types from elsewhere, for tests, and for compilers that cannot trace an import.

    Parameters
    ----------
    backend : Backend
        What serves the arrays.
    *types : type
        Types of arrays. A later registration replaces an earlier one.

    Raises
    ------
    TypeError
        If `backend` is no `Backend`, or a type is not a type.

    Examples
    --------
    >>> import array_api_strict as xp
    >>> import ohemloss
    >>> plain = ohemloss.Backend(name="array_api_strict", namespace="array_api_strict")
    >>> ohemloss.register(plain, type(xp.zeros(1)))
    """
    if not isinstance(backend, Backend):
        msg = f"`backend` must be an `ohemloss.Backend`: got {type(backend).__name__}."
        raise TypeError(msg)
    for array_type in types:
        if not isinstance(array_type, type):
            msg = f"`types` must be types of arrays: got {array_type!r}."
            raise TypeError(msg)
    library = Library(importlib.import_module(backend.namespace), backend)
    _registered.update(dict.fromkeys(types, library))
    _by_type.clear()  # a subclass may be served by another backend now
    _by_type.update(_registered)


def library_of(array: Array) -> Library | None:
    """Find what serves an array; None if it is not an array of an array API library."""
    array_type = type(array)
    known = _by_type.get(array_type)
    if known is not None:
        return known
    for parent in array_type.__mro__:
        library = _registered.get(parent) or _library_from_entry_point(parent)
        if library is not None:
            return _by_type.setdefault(array_type, library)
    library = _standard_library(array)
    if library is not None:
        _by_type[array_type] = library
    return library


def _library_from_entry_point(array_type: type) -> Library | None:
    backend = _load(array_type.__module__.partition(".")[0])
    return None if backend is None else Library(importlib.import_module(backend.namespace), backend)


def named(name: str) -> Namespace:
    """Import the namespace of a backend by its name, or any array API namespace by its import path."""
    backend = _load(name)
    return importlib.import_module(name if backend is None else backend.namespace)


def backend_named(name: str) -> Backend | None:
    """Load an installed backend by its name; None if there is none of that name."""
    return _load(name)


def installed_names() -> list[str]:
    """Name the installed backends, without importing them."""
    from importlib.metadata import entry_points

    return sorted({entry_point.name for entry_point in entry_points(group=_GROUP)})


def _load(name: str) -> Backend | None:
    # Imported on a miss only: it costs more than the rest of the package.
    from importlib.metadata import entry_points

    found = {entry_point.value: entry_point for entry_point in entry_points(group=_GROUP, name=name)}
    if len(found) > 1:
        msg = f"two backends claim {name!r}: {', '.join(sorted(found))}. Uninstall one of them."
        raise RuntimeError(msg)
    for entry_point in found.values():
        backend = entry_point.load()
        if not isinstance(backend, Backend):
            msg = f"entry point {entry_point.value!r} must be an `ohemloss.Backend`: got {type(backend).__name__}."
            raise TypeError(msg)
        return backend
    return None


def _standard_library(array: Array) -> Library | None:
    import array_api_compat

    try:
        xp = array_api_compat.array_namespace(array)
    except TypeError:
        return None
    name = type(array).__module__.partition(".")[0]
    return Library(xp, Backend(name=name, namespace=xp.__name__))
