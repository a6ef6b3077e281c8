"""The kernels of CuPy on NumPy arrays: compiled by g++ with enough of CUDA to run them on a CPU."""

import contextlib
import ctypes
import functools
import hashlib
import os
import subprocess
import tempfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import ohemloss
from ohemloss import _registry

_SHIM = Path(__file__).parent / "data" / "cuda_shim.cpp"
# No multiplication is joined with an addition, so that the CPU gives the same bits with any compiler.
_FLAGS = ("-O2", "-std=c++17", "-ffp-contract=off", "-shared", "-fPIC", "-Wno-unknown-pragmas", "-U_FORTIFY_SOURCE")


class Shim:
    """What the kernels run on: in place of `ohemloss_cupy._launch.Cuda`."""

    xp = np

    def __init__(self):
        self.launched = []
        self.state = b""  # the first numbers of it, after each kernel

    def serves(self):
        return True

    def current(self, array):
        return contextlib.nullcontext()

    def address(self, array):
        assert isinstance(array, np.ndarray)  # and no scalar, whose memory nobody keeps
        return array.ctypes.data

    def launch(self, name, compiler_options, blocks, threads, task):
        self.launched.append(name)
        library = compiled(compiler_options)
        kernel = ctypes.cast(getattr(library, name), ctypes.c_void_p)
        assert library.launch(kernel, blocks, threads, ctypes.c_void_p(task.ctypes.data)) == 0, f"{name} hangs"
        self.state = ctypes.string_at(int(task["state"][0]), 48)


@functools.cache
def compiled(compiler_options):
    """Compile the kernels, once for all processes."""
    from ohemloss_cupy import _launch

    text = _launch.source()
    key = hashlib.sha256("\0".join([text, _SHIM.read_text(), *_FLAGS, *compiler_options]).encode()).hexdigest()[:20]
    folder = Path(tempfile.gettempdir()) / f"ohemloss-shim-{os.getuid()}"
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    library = folder / f"{key}.so"
    if not library.exists():
        with tempfile.TemporaryDirectory(dir=folder) as made:
            kernels = Path(made) / "kernels.cu"
            kernels.write_text(text)
            files = [f'-DSOURCE="{kernels}"', _SHIM, "-o", kernels.with_suffix("")]
            subprocess.run(["g++", *_FLAGS, *compiler_options, *files], check=True)
            kernels.with_suffix("").replace(library)
    return ctypes.PyDLL(str(library))  # which keeps the lock: the shim runs one thread at a time


@contextlib.contextmanager
def serving():
    """Serve NumPy arrays by the kernels, as CuPy's are."""
    import ohemloss_cupy
    from ohemloss_cupy import _launch

    def device(array):
        return None

    backend = replace(ohemloss_cupy.backend, name="numpy", namespace="array_api_compat.numpy", device=device)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(_launch, "runtime", Shim())
        for table in ("_registered", "_by_type"):
            patch.setattr(_registry, table, dict(getattr(_registry, table)))
        ohemloss.register(backend, np.ndarray, np.generic)
        yield _launch.runtime
