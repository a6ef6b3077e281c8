"""The kernels: what the host tells them, how they are compiled, and what they run on."""

import functools
from contextlib import AbstractContextManager
from importlib import resources
from typing import Any

import numpy as np

# As in the source of the kernels.
BLOCK, WIDE, DIGIT_BITS, CELLS = 256, 1024, 11, 2
# The numbers of threads that may share a pixel.
LANES = (1, 8, 32)

LOGITS = (np.dtype(np.float16), np.dtype(np.float32), np.dtype(np.float64))
_C_TYPES = {
    "int8": "signed char",
    "int16": "short",
    "int32": "int",
    "int64": "long long",
    "uint8": "unsigned char",
    "uint16": "unsigned short",
    "uint32": "unsigned int",
    "uint64": "unsigned long long",
}

_ADDRESSES = (
    *("logits", "gradient", "labels", "weight", "pixel_weight", "cut_array"),
    *("losses", "nlls", "shifts", "partials", "state", "value"),
)
# The fields of the struct of the kernels, in its order. All have 8 bytes, so nothing lies between them.
TASK = np.dtype(
    [
        *((name, np.uint64) for name in _ADDRESSES),
        ("cut", np.float64),
        *((name, np.int64) for name in ("n_pixels", "n_classes", "n_partials", "rows", "columns")),
        *((name, np.int64, 4) for name in ("logit_steps", "gradient_steps")),
        *((name, np.int64, 3) for name in ("label_steps", "weight_steps")),
        *((name, np.int64) for name in ("is_ignoring", "ignore_index", "numerator", "denominator", "limit")),
        *((name, np.int64) for name in ("is_mean", "tiles", "digit", "n_images", "strip")),
        ("axes", np.int64, (2, 5)),
    ]
)


def n_digits(dtype: Any) -> int:
    """Give the number of digits of the key of a loss."""
    return -(-8 * int(dtype.itemsize) // DIGIT_BITS)


def state_bytes(dtype: Any) -> int:
    """Give the room for what the kernels tell each other: a histogram for each digit, and a few numbers."""
    return n_digits(dtype) * 4 * (1 << DIGIT_BITS) + 512


def compute_dtype(logits: Any) -> Any:
    """Give the dtype of the losses."""
    return np.dtype(np.float64 if logits == np.float64 else np.float32)


@functools.cache
def source() -> str:
    """Read the CUDA C source."""
    folder = resources.files("ohemloss_cupy")
    return "".join(folder.joinpath(name).read_text(encoding="utf-8") for name in ("_kernels.cu", "_resized.cu"))


@functools.cache
def options(logits: Any, labels: Any, resized: int = 0) -> tuple[str, ...]:
    """Give the options of the compiler for logits and labels of these dtypes; `resized` says which axes are."""
    return (
        f"-DLOGIT_BITS={8 * logits.itemsize}",
        f"-DLABEL={_C_TYPES[labels.name]}",
        f"-DRESIZED={resized}",
        f"-DTASK_BYTES={TASK.itemsize}",
        f"-DSTATE_BYTES={state_bytes(compute_dtype(logits))}",
    )


class Cuda:
    """The device of an array, and its current stream; whatever takes the place of this can run the kernels."""

    @property
    def xp(self) -> Any:
        """The module that makes arrays."""
        import cupy

        return cupy

    def serves(self) -> bool:
        """Tell whether the kernels can be compiled: they are CUDA C, and never ran on anything else."""
        return not self.xp.cuda.runtime.is_hip

    def current(self, array: Any) -> AbstractContextManager[Any]:
        """Make the device of an array the one that things are made and run on."""
        device: AbstractContextManager[Any] = array.device
        return device

    def address(self, array: Any) -> int:
        """Give where an array starts."""
        return int(array.data.ptr)

    def launch(self, name: str, compiler_options: tuple[str, ...], blocks: int, threads: int, task: Any) -> None:
        """Start a kernel. The task is copied before this returns."""
        _kernel(name, compiler_options)((blocks,), (threads,), (task,))


@functools.cache
def _module(compiler_options: tuple[str, ...]) -> Any:
    import cupy

    return cupy.RawModule(code=source(), options=compiler_options)


@functools.cache
def _kernel(name: str, compiler_options: tuple[str, ...]) -> Any:
    """Give a kernel, which keeps what is compiled for each device."""
    return _module(compiler_options).get_function(name)


# Tests without a device put another in its place.
runtime: Any = Cuda()
