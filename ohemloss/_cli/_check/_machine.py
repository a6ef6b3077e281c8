"""What the numbers were made on."""

import os
import platform
from importlib.metadata import version
from pathlib import Path

from ... import __version__

_PROCESSORS = Path("/proc/cpuinfo")
_DRIVER = Path("/proc/driver/nvidia/version")


def versions() -> dict[str, str]:
    """Give the versions of what every row has in common."""
    packages = {package: version(package) for package in ("numpy", "array-api-compat")}
    return {"Python": platform.python_version(), "ohemloss": __version__, **packages}


def machine() -> dict[str, str]:
    """Describe the machine."""
    told = {"platform": platform.platform(), "processor": _processor(), "processors": str(os.cpu_count())}
    driver = _first_line(_DRIVER, "NVRM version:")
    return told | ({"driver": driver} if driver else {})


def _processor() -> str:
    # Python knows the name of the family alone on most systems.
    return _first_line(_PROCESSORS, "model name") or platform.processor() or platform.machine()


def _first_line(path: Path, start: str) -> str:
    """Give what follows the colon in the first line that starts so; "" if there is none."""
    try:
        lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return ""
    found = next((line for line in lines if line.startswith(start)), "")
    return " ".join(found.partition(":")[2].split())
