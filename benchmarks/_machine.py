"""Where the figures come from: processor, threads, versions."""

import os
import platform
from importlib import metadata
from pathlib import Path

_PACKAGES = ("ohemloss", "numpy", "numba", "torch", "jax", "optax")


def describe() -> dict[str, str]:
    """Name the machine and the software."""
    import torch

    from ohemloss_numpy import _threads

    return {
        "processor": f"{_processor()}, {os.cpu_count()} of them",
        "threads": f"{_threads.thread_count()}, torch {torch.get_num_threads()}",
        "system": f"{platform.system()} {platform.machine()}, Python {platform.python_version()}",
        "packages": ", ".join(f"{name} {_version(name)}" for name in _PACKAGES),
    }


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or "unknown"


def _version(name: str) -> str:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return "absent"
