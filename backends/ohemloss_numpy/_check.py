"""What `ohemloss check` asks of NumPy."""

import importlib
from typing import Any

import numpy as np

from ohemloss._probe import Place, Probe


def versions() -> dict[str, str]:
    """Name what the numbers may depend on."""
    found = {"NumPy": np.__version__, "instructions of the CPU": _instructions()}
    for name, package in {"Numba": "numba", "LLVM": "llvmlite"}.items():
        try:
            found[name] = importlib.import_module(package).__version__
        except Exception:  # noqa: BLE001  (whatever is wrong with it, the loss does without)
            found[name] = "none"
    return found


def _instructions() -> str:
    # It also prints, if it is asked for nothing.
    told: Any = np.show_config(mode="dicts")
    extensions = told.get("SIMD Extensions", {})
    return ", ".join([*extensions.get("baseline", []), *extensions.get("found", [])]) or "not told"


def places() -> list[Place]:
    """List the one device."""
    return [Place(device="cpu", label="cpu")]


PROBE = Probe(versions=versions, places=places)
