"""What `ohemloss check` asks of CuPy."""

import cupy

from ohemloss._probe import Place, Probe

_NO_DEVICE = 100  # cudaErrorNoDevice, which CuPy does not name


def versions() -> dict[str, str]:
    """Name what the numbers may depend on."""
    runtime = cupy.cuda.runtime
    return {
        "CuPy": cupy.__version__,
        "CUDA": str(runtime.runtimeGetVersion()),
        "CUDA of the driver": str(runtime.driverGetVersion()),  # 0: there is none
        "NVRTC": _compiler(),
    }


def _compiler() -> str:
    try:
        return ".".join(map(str, cupy.cuda.nvrtc.getVersion()))
    except RuntimeError:  # a library of its own, which is loaded when it is needed
        return "not found"


def places() -> list[Place]:
    """List the devices; a driver that fails is an error, and none at all is not."""
    runtime = cupy.cuda.runtime
    if runtime.driverGetVersion() == 0:
        return []
    try:
        n = runtime.getDeviceCount()
    except runtime.CUDARuntimeError as error:
        if error.status == _NO_DEVICE:
            return []
        raise
    names = [runtime.getDeviceProperties(i)["name"].decode() for i in range(n)]
    return [Place(device=cupy.cuda.Device(i), label=f"cuda:{i}", model=name) for i, name in enumerate(names)]


PROBE = Probe(versions=versions, places=places)
