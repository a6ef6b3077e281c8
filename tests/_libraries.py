"""The array libraries that the tests run on: how to make an array there, and how to compare one."""

import contextlib
import ctypes.util
import importlib
import importlib.util
import os
import warnings
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
import pytest

FLOATS = ("float32", "float64")
HALVES = ("float16", "bfloat16")


@dataclass(frozen=True)
class Library:
    """One library in one setting. `id` is the name of the test parameter."""

    id: str
    package: str  # what OHEMLOSS_TEST_XP names
    namespace: str
    device: str | None = None
    floats: tuple[str, ...] = FLOATS
    label_dtype: str = "int64"
    host: bool = True  # the host may read labels: an error instead of NaN
    eager: bool = True  # shapes may depend on values
    traced: bool = False  # run through `jax.jit`: nobody can look at a value
    compiles: bool = False  # each option and shape is a program of its own: two rows of each test show enough
    sampled: bool = False  # slow, or a setting of a library whose rows all run: one row of each file
    flags: dict[str, Any] = field(default_factory=dict, hash=False)

    @property
    def row(self) -> str:
        """The row of the page of what works where."""
        others = {"array_api_strict": "array-api-strict", "dask": "Dask", "ndonnx": "ndonnx", "mlx": "MLX"}
        name = ({"numpy": "NumPy", "torch": "PyTorch", "jax": "JAX", "cupy": "CuPy"} | others)[self.package]
        return f"{name}, CUDA" if self.id.endswith("cuda") and self.package != "cupy" else name

    @property
    def has_device(self) -> bool:
        """Whether the device of the library is there; without a driver nothing is imported to find out."""
        if not self.id.endswith("cuda"):
            return True
        if ctypes.util.find_library("cuda") is None:
            return False
        if self.package == "jax":
            with contextlib.suppress(RuntimeError):
                return bool(importlib.import_module("jax").devices("cuda"))
            return False
        return bool(self.xp.cuda.is_available())

    @property
    def dtypes(self) -> tuple[str, ...]:
        """Name the dtypes of logits in which the tests run: a sampled library runs the widest."""
        return self.floats[-1:] if self.sampled else self.floats

    def takes(self, row: int, *, first: bool) -> bool:
        """Tell whether the library runs a row of a test; `first` marks the test that stands for its file."""
        if self.sampled:
            return first and row == 0
        return row < 2 or not self.compiles

    @property
    def integers(self) -> list[str]:
        """Name the integer dtypes of the library, those of 64 bits only where it computes with them."""
        names = ["int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64"]
        narrow = self.label_dtype == "int32"
        return [name for name in names if hasattr(self.xp, name) and not (narrow and name.endswith("64"))]

    @cached_property
    def xp(self) -> Any:
        return importlib.import_module(self.namespace)

    @contextlib.contextmanager
    def setting(self):
        """Hold the setting of the library for the time of a test."""
        with contextlib.ExitStack() as stack:
            if self.package == "array_api_strict":
                stack.enter_context(warnings.catch_warnings())
                # "2021.12 was requested but the returned namespace is 2022.12": it has no older one.
                warnings.filterwarnings("ignore", "The 2021.12 version", UserWarning)
                stack.enter_context(self.xp.ArrayAPIStrictFlags(**self.flags))
            elif self.flags:  # jax_enable_x64
                stack.enter_context(importlib.import_module("jax").enable_x64(True))
            yield self

    def asarray(self, array: Any, dtype: str | None = None) -> Any:
        """Make an array of the library from a NumPy one; `dtype` by name, also one that NumPy lacks."""
        array = np.asarray(array)
        if dtype == "bfloat16" or (dtype is None and array.dtype == np.int64 and self.label_dtype != "int64"):
            target = dtype or self.label_dtype
            array = array.astype(np.float32 if dtype else target)
        else:
            target = dtype or str(array.dtype)
            array = array.astype(target)
        made = self.xp.asarray(array.copy(), **self._device())
        return made if target == str(array.dtype) else self.xp.astype(made, getattr(self.xp, target))

    def numpy(self, array: Any) -> np.ndarray:
        """Bring an array of the library to NumPy, bfloat16 as float32."""
        if hasattr(array, "unwrap_numpy"):
            return array.unwrap_numpy()
        if self.device and self.package == "array_api_strict":
            array = array.to_device(self.xp.Device("CPU_DEVICE"))
        if hasattr(array, "detach"):
            array = array.detach().cpu()
        elif hasattr(array, "get"):
            array = array.get()
        if "bfloat16" in str(array.dtype):
            array = self.xp.astype(array, self.xp.float32)
        return np.asarray(array)

    def assert_close(self, actual: Any, expected: Any, *, rtol: float = 0.0, atol: float = 0.0) -> None:
        """Compare with NumPy values: the same library, dtype, shape and device, and close."""
        dtype = str(actual.dtype).rpartition(".")[2].strip("'>")
        desired = self.asarray(np.asarray(expected, dtype=np.float64), dtype) if "float" in dtype else expected
        if "float" not in dtype:
            desired = self.asarray(np.asarray(expected).astype(dtype))
        assert type(actual) is type(desired)
        assert actual.dtype == desired.dtype
        assert getattr(actual, "device", None) == getattr(desired, "device", None)
        assert tuple(actual.shape) == tuple(desired.shape)
        np.testing.assert_allclose(self.numpy(actual), self.numpy(desired), rtol=rtol, atol=atol)

    def differentiate(self, function: Any) -> Any:
        """Differentiate a function of one array by the library itself; None if it cannot."""
        if self.package == "torch":
            torch = importlib.import_module("torch")

            def gradient(x):
                x = x.detach().requires_grad_()
                return torch.autograd.grad(function(x), x)[0]

            return gradient
        if self.package == "jax":
            jax = importlib.import_module("jax")
            return jax.jit(jax.grad(function)) if self.traced else jax.grad(function)
        return self.xp.grad(function) if self.package == "mlx" else None

    def _device(self) -> dict[str, Any]:
        if self.device is None:
            return {}
        if self.package == "array_api_strict":
            return {"device": self.xp.Device(self.device)}
        if self.package == "jax":
            return {"device": importlib.import_module("jax").devices(self.device)[0]}
        return {"device": self.device}


@contextlib.contextmanager
def machine_from(n_logits: int):
    """Leave smaller arrays in host memory to NumPy; skip if there is no Numba for the others."""
    machine: Any = importlib.import_module("ohemloss_numpy._machine")
    if machine._fused() is None:
        pytest.skip("numba is not installed, or compiles nothing")
    before, machine.FROM = machine.FROM, n_logits
    try:
        yield
    finally:
        machine.FROM = before


@contextlib.contextmanager
def interpreted_kernels():
    """Serve tensors on a CPU by the kernels for CUDA, in Triton's interpreter, chosen when they are imported."""
    cuda: Any = importlib.import_module("ohemloss_torch._cuda")
    if cuda._kernels() is None or os.environ.get("TRITON_INTERPRET") != "1":
        msg = "the interpreted kernels need Triton, and TRITON_INTERPRET=1 from the start"
        raise RuntimeError(msg)
    before, cuda.DEVICES = cuda.DEVICES, {"cpu"}
    try:
        # The interpreter computes what is masked, too.
        with np.errstate(all="ignore"):
            yield
    finally:
        cuda.DEVICES = before


_STRICT = "array_api_strict"
_TORCH = "array_api_compat.torch"
_JAX = ("jax", "jax.numpy")
_NO_LAZINESS = {"boolean_indexing": False, "data_dependent_shapes": False, "enabled_extensions": ()}

LIBRARIES = [
    Library("numpy", "numpy", "array_api_compat.numpy", floats=("float16", *FLOATS)),
    Library("strict", _STRICT, _STRICT, flags={"api_version": "2025.12"}),
    Library("strictest", _STRICT, _STRICT, flags=_NO_LAZINESS, eager=False),
    *(
        Library(f"strict-{version}", _STRICT, _STRICT, flags={"api_version": version}, sampled=True)
        for version in ("2021.12", "2022.12", "2023.12", "2024.12")
    ),
    Library("strict-device1", _STRICT, _STRICT, device="device1", sampled=True),
    Library("strict-no_float64", _STRICT, _STRICT, device="no_float64", floats=("float32",), sampled=True),
    Library("strict-no_x64", _STRICT, _STRICT, device="no_x64", floats=("float32",), label_dtype="int32", sampled=True),
    Library("torch", "torch", _TORCH, floats=(*HALVES, *FLOATS)),
    Library("torch-cuda", "torch", _TORCH, device="cuda", floats=(*HALVES, *FLOATS), host=False),
    Library("jax", *_JAX, floats=(*HALVES, "float32"), label_dtype="int32", host=False, traced=True, compiles=True),
    Library("jax-x64", *_JAX, flags={"jax_enable_x64": True}, sampled=True),
    Library(
        "jax-cuda", *_JAX, device="cuda", floats=(*HALVES, "float32"), label_dtype="int32", host=False, compiles=True
    ),
    Library("cupy-cuda", "cupy", "array_api_compat.cupy", floats=("float16", *FLOATS), host=False),
    Library("dask", "dask", "array_api_compat.dask.array", host=False, eager=False, sampled=True),
    Library("ndonnx", "ndonnx", "ndonnx", floats=("float16", *FLOATS), host=False, eager=False, sampled=True),
    Library("mlx", "mlx", "mlx.core", floats=(*HALVES, "float32"), label_dtype="int32", eager=False),
]
# cubed plans each step and writes it to disk, ten seconds a call: `test_lazy.py` alone runs it.
PACKAGES = {library.package for library in LIBRARIES} | {"cubed"}


def requested_packages() -> set[str]:
    """Read OHEMLOSS_TEST_XP: the libraries that must be there. Empty: whatever is installed."""
    names = os.environ.get("OHEMLOSS_TEST_XP", "").replace("-", "_")
    return {name.strip() for name in names.split(",") if name.strip()}


def is_installed(package: str) -> bool:
    return importlib.util.find_spec(package) is not None
