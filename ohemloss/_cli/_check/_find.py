"""The libraries that are here, with their versions and devices; and of those that are not, why."""

import re
import sys
from dataclasses import dataclass, field
from importlib.metadata import EntryPoint, PackageNotFoundError, version
from typing import Literal, TypeAlias

import array_api_compat
import numpy as np

from ... import _registry
from ..._backend import Backend
from ..._drawing._host import to_numpy
from ..._probe import Place, Probe
from ..._typing import Device, Namespace
from .._errors import CannotRunError
from .._library import cause, library_named

Status: TypeAlias = Literal["here", "not installed", "no device", "broken"]


@dataclass(frozen=True, kw_only=True)
class Found:
    """A library by the name that was asked for: what it is, or why it cannot be checked."""

    name: str
    status: Status
    cause: str = ""
    xp: Namespace = None
    probe: Probe | None = None
    versions: dict[str, str] = field(default_factory=dict)
    places: list[Place] = field(default_factory=list)


def find(name: str) -> Found:
    """Import a library and ask it for its devices; whatever goes wrong is told."""
    try:
        namespace = _registry.named(name)
    except ModuleNotFoundError as error:
        # Of a library that is here another module may be missing: then it is half installed.
        absent = f"{name}.".startswith(f"{error.name}.")
        return Found(name=name, status="not installed" if absent else "broken", cause=_why(name))
    except Exception as error:  # noqa: BLE001  (a broken installation can raise anything)
        return Found(name=name, status="broken", cause=f"`{name}` cannot be imported: {cause(error)}")
    try:
        return _asked(name, namespace)
    except CannotRunError as error:
        return Found(name=name, status="broken", cause=str(error))
    except Exception as error:  # noqa: BLE001  (drivers fail in ways of their own)
        return Found(name=name, status="broken", cause=f"`{name}` cannot list its devices: {cause(error)}")


def _asked(name: str, namespace: Namespace) -> Found:
    probe = _probe_of(_registry.backend_named(name))
    if probe is not None and not probe.places():
        return Found(name=name, status="no device", cause=_why(name), versions=_versions(name, probe))
    library = library_named(name)
    probe = probe or _probe_of(library.backend)
    places = list(probe.places()) if probe else _standard_places(library.xp)
    return Found(name=name, status="here", xp=library.xp, probe=probe, versions=_versions(name, probe), places=places)


def _probe_of(backend: Backend | None) -> Probe | None:
    if backend is None or backend.probe is None:
        return None
    probe: Probe = EntryPoint(name=backend.name, value=backend.probe, group="").load()
    return probe


def _why(name: str) -> str:
    """Tell in a sentence why no array can be made."""
    try:
        library_named(name)
    except CannotRunError as error:
        return str(error)
    return f"`{name}` lists no device."


def _versions(name: str, probe: Probe | None) -> dict[str, str]:
    """Ask for the versions. Without them the rest is as good."""
    if probe is None:
        root = name.partition(".")[0]
        try:
            return {root: str(getattr(sys.modules[root], "__version__", None) or version(root))}
        except PackageNotFoundError:
            return {}
    try:
        return dict(probe.versions())
    except Exception as error:  # noqa: BLE001  (told in their place)
        return {"versions": f"not told: {cause(error)}"}


def _standard_places(xp: Namespace) -> list[Place]:
    """List the devices that the standard tells of, if an array made there is there, and can be read."""
    if not hasattr(xp, "__array_namespace_info__"):
        return [Place(device=None, label="default")]
    devices = [device for device in xp.__array_namespace_info__().devices() if _holds_arrays(xp, device)]
    if not devices:
        return [Place(device=None, label="default")]
    return [Place(device=device, label=_label(device, i)) for i, device in enumerate(devices)]


def _holds_arrays(xp: Namespace, device: Device) -> bool:
    try:
        made = xp.asarray(np.ones(1, dtype=np.float32), device=device)
        return bool(array_api_compat.device(made) == device) and to_numpy(made).shape == (1,)
    except Exception:  # noqa: BLE001  (a device for shapes alone, for instance)
        return False


def _label(device: Device, i: int) -> str:
    quoted = re.search(r"'(.+)'", str(device))
    text = quoted[1] if quoted else str(device)
    return f"device {i}" if " at 0x" in text else text
