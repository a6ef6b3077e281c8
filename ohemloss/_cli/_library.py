"""From the name given to `--backend` to a namespace that is known to make arrays here."""

from importlib.metadata import metadata

import numpy as np

from .. import _registry
from .._drawing._host import to_numpy
from .._typing import Namespace
from ._errors import CannotRunError


def choose(name: str) -> Namespace:
    """Give the standard's view of a library, which may be a wrapper around what was named."""
    return library_named(name).xp


def library_named(name: str) -> _registry.Library:
    """Import the library and make one array of it; whatever prevents that is told in a sentence."""
    xp = _import(name)
    if not hasattr(xp, "asarray"):
        msg = f"`{name}` is no array API namespace: it has no `asarray`."
        raise CannotRunError(msg)
    try:
        array = xp.asarray(np.ones(1, dtype=np.float32))
        to_numpy(array)  # a lazy library makes nothing before it is asked for values
    except Exception as error:  # drivers and devices fail in ways of their own
        msg = f"`{name}` is installed but cannot make an array here: {cause(error)}"
        raise CannotRunError(msg) from error
    library = _registry.library_of(array)
    if library is None:
        msg = f"`{name}` is no array API namespace: its `asarray` makes a {type(array).__name__}."
        raise CannotRunError(msg)
    return library


def _import(name: str) -> Namespace:
    try:
        return _registry.named(name)
    except ModuleNotFoundError as error:
        msg = f"`{name}` cannot be used: `{error.name}` is not installed. {_remedy(name)}"
        raise CannotRunError(msg) from error
    except Exception as error:  # a broken installation can raise anything
        msg = f"`{name}` cannot be imported: {cause(error)}"
        raise CannotRunError(msg) from error


def _remedy(name: str) -> str:
    names = _registry.installed_names()
    # A backend from elsewhere has no extra here.
    if name in names and name in (metadata("ohemloss").get_all("Provides-Extra") or ()):
        return f"Install `ohemloss[{name}]`."
    return f"Install it, or choose one of {', '.join(names)}, or the import path of another array API library."


def cause(error: Exception) -> str:
    """Give the type and the first line of an error."""
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[0]}" if lines else f"{type(error).__name__}."
