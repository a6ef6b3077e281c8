"""What the results depend on: sources, versions, and the plan."""

import hashlib
from collections.abc import Iterable, Mapping
from importlib import metadata
from importlib.util import find_spec
from pathlib import Path

from ._plan import Plan

# By their import names, without importing any.
_SOURCES = ("ohemloss", "ohemloss_jax", "ohemloss_numpy", "ohemloss_torch", "benchmarks.experiment")
_PACKAGES = ("numpy", "torch", "jax", "jaxlib", "numba", "imgviz", "matplotlib")


def key(plan: Plan) -> str:
    """Make a key that is another one if the results may be."""
    folders = [Path(spec.origin).parent for name in _SOURCES if (spec := find_spec(name)) and spec.origin]
    return digest(folders, versions(), plan)


def versions() -> dict[str, str]:
    """Look up the versions of what trains and draws."""
    return {name: _version(name) for name in _PACKAGES}


def digest(folders: Iterable[Path], versions: Mapping[str, str], plan: Plan) -> str:
    """Hash every file of some folders, by name and content, and the rest."""
    found = hashlib.sha256(repr((dict(versions), plan)).encode())
    for folder in folders:
        for path in sorted(path for path in folder.rglob("*") if path.is_file() and "__pycache__" not in path.parts):
            content = path.read_bytes()
            found.update(f"{folder.name}/{path.relative_to(folder).as_posix()} {len(content)}\n".encode())
            found.update(content)
    return found.hexdigest()


def _version(name: str) -> str:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return "absent"
