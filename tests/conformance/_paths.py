"""All paths: each library, each way to run it, and each fast path by its name."""

import contextlib
import os
from typing import Any

import numpy as np
import pytest

import ohemloss
from tests._libraries import LIBRARIES, interpreted_kernels, is_installed, requested_packages

from . import _distributed, _jax
from ._case import Case
from ._path import Answer, Call, Path, both, closed_form
from ._table import CASES

FIRST = {case.kind: case for case in reversed(CASES)}
KERNELS_MARKS = (pytest.mark.kernels,)
LIBRARY = {library.id: library for library in LIBRARIES}


def one_of_each_kind(case: Case, dtype: str) -> bool:
    """Take one row of each kind."""
    return FIRST[case.kind] is case


def narrow_row_of_each_kind(case: Case, dtype: str) -> bool:
    """Take one row of each kind, in one dtype; the first one, which the page of what works where shows, in all."""
    return one_of_each_kind(case, dtype) and (dtype == "float32" or case.kind == "regimes")


def regimes_and_one_of_each_kind(case: Case, dtype: str) -> bool:
    """Take all shares of hard pixels in all dtypes, and one row of each other kind."""
    return (case.kind == "regimes" and "larger" not in case.name) or one_of_each_kind(case, dtype)


def traced_rows(case: Case, dtype: str) -> bool:
    """Take one row of each kind, the shares of hard pixels, and each rule."""
    if dtype != "float32":
        return False
    return regimes_and_one_of_each_kind(case, dtype) or (case.kind == "rules" and "40% hard" in case.name)


def differentiated_rows(case: Case, dtype: str) -> bool:
    """Take what changes a gradient."""
    return case.kind in ("regimes", "options", "rules") or one_of_each_kind(case, dtype)


def per_image(case: Case) -> bool:
    """Tell whether images are mined one by one."""
    return bool("rule" in case.options and case.options["rule"].per_image)


def usual(case: Case) -> bool:
    """Tell whether the kernels know the options: all but label smoothing, maps and other rules."""
    rule = case.options.get("rule", ohemloss.MiningRule())
    known = rule == ohemloss.MiningRule() and "positives" not in case.options
    return known and not case.options.get("label_smoothing") and case.options.get("reduction") != "none"


def by_mlx(call: Call) -> list[Answer]:
    """Run the closed form, and autograd where it is right."""
    return closed_form(call) if call.derivative_is_nan else both(call)


def but_empty(case: Case, dtype: str) -> bool:
    """Leave out resized logits without an image: MLX divides by zero in native code."""
    return (case.kind, case.name) != ("resized", "empty")


@contextlib.contextmanager
def no_composite():
    """Fail where the composite serves a call, or its gradient."""
    from ohemloss import _composite

    with pytest.MonkeyPatch.context() as patch:
        for name in ("loss", "value_and_grad", "run_steps", "gradient_of_kept"):
            patch.setattr(_composite, name, lambda *_: pytest.fail("served by the composite"))
        yield


# ---- in host memory


@contextlib.contextmanager
def cut_small(*, blocks: bool):
    """Cut small arrays into many blocks and chunks, give them to several threads, and let nothing else serve them."""
    from ohemloss_numpy import _host
    from tests.host._workers import cut, serving

    with serving("blocks" if blocks else "machine code"), no_composite(), pytest.MonkeyPatch.context() as patch:
        for name in () if blocks else ("Blocks", "ResizedBlocks"):
            patch.setattr(_host, name, lambda *_: pytest.fail("served by NumPy"))
        cut(patch)
        yield


def in_blocks():
    return cut_small(blocks=True)


def in_machine_code():
    return cut_small(blocks=False)


def without_a_warning(call: Call) -> list[Answer]:
    """Run it where each floating-point warning is an error."""
    with np.errstate(all="raise"):
        answers = both(call)
    numbers = [call.library.numpy(value) for _, value, _ in answers if value is not None]
    np.testing.assert_array_equal(numbers[0], numbers[-1], "with a gradient or without")
    return answers


def whole_batch(case: Case, dtype: str) -> bool:
    return not per_image(case)


def by_machine_code(case: Case, dtype: str) -> bool:
    arrays = any(hasattr(case.options.get(name), "dtype") for name in ("thresh", "min_kept"))
    return usual(case) and not arrays and dtype != "float64"


# ---- PyTorch


def torch_compiled(call: Call) -> list[Answer]:
    """Trace the whole; what PyTorch compiles it to is tested where the default compiler is."""
    import torch

    import ohemloss_torch  # noqa: F401

    torch._dynamo.reset()
    compiled = torch.compile(call.loss, fullgraph=True, backend="eager")
    x = call.x.detach().requires_grad_()
    value = compiled(x)
    gradient = torch.autograd.grad(value.sum(), x)[0]
    return [("compiled", value.detach(), gradient)]


def torch_func(call: Call) -> list[Answer]:
    """Differentiate the composite."""
    import torch

    total = (lambda x: call.loss(x).sum()) if call.is_map else call.loss
    gradient, value = torch.func.grad_and_value(total)(call.x)
    return [("torch.func", None if call.is_map else value, gradient)]


# ---- Dask


def in_chunks(call: Call) -> list[Answer]:
    """Cut logits in two along each axis, and labels in three along the last."""
    import dask
    import dask.array as da

    def cut(array, pieces):
        sizes = [max(1, -(-n // piece)) for n, piece in zip(array.shape, pieces, strict=True)]
        return da.rechunk(array, tuple(sizes)) if array.ndim else array

    options = {
        name: cut(option, [2] * option.ndim) if hasattr(option, "chunks") else option
        for name, option in call.options.items()
    }
    y = cut(call.y, [*[1] * (call.y.ndim - 1), 3][-call.y.ndim :] if call.y.ndim else [])
    answers = both(Call(call.library, cut(call.x, [2] * call.x.ndim), y, options))
    case: Any = call.case
    rule, arrays = "rule" in case.options, any(hasattr(options.get(name), "dask") for name in ("thresh", "min_kept"))
    served = not (rule or arrays or call.is_map or case.options.get("resize"))
    layers = answers[0][1].dask.layers
    assert served == any(name.startswith("ohem") for name in layers), "chunk by chunk, or by the composite"
    with dask.config.set(scheduler="synchronous"):
        return list(dask.persist(*answers))  # one computation of them all


def lazy_rows(case: Case, dtype: str) -> bool:
    """Take what is served chunk by chunk; of what runs operation by operation, some rules and one row of each kind."""
    served = case.kind in ("regimes", "options", "nothing", "extremes") or case.name.startswith("in turn")
    return served or one_of_each_kind(case, dtype) or (case.kind == "rules" and "40% hard" not in case.name)


# ---- the kernels for CUDA


@contextlib.contextmanager
def by_interpreter():
    """Serve tensors on a CPU by the kernels in Triton."""
    with interpreted_kernels(), no_composite():
        yield


@contextlib.contextmanager
def by_small_grids():
    """Let small calls have several blocks of several tiles, and threads that walk through some rows, not all."""
    from ohemloss_cupy import _call, _resized
    from tests import _shim

    with _shim.serving(), no_composite(), pytest.MonkeyPatch.context() as patch:
        patch.setattr(_call, "_FORWARD_BLOCKS", 3)
        patch.setattr(_call, "_SEARCH_BLOCKS", 2)
        patch.setattr(_resized, "_THREADS", 1)
        patch.setattr(_resized, "_MOST_ROWS", 3)
        yield


def in_triton(call: Call) -> list[Answer]:
    """Run each pass once, which the interpreter takes long for, and see that both ran in kernels."""
    import torch

    from ohemloss_torch import _cuda

    passes: list[str] = []

    def noted(name: str) -> Any:
        run = getattr(_cuda.Device, name)

        def note(*arguments: Any) -> Any:
            passes.append(name)
            return run(*arguments)

        return note

    with pytest.MonkeyPatch.context() as patch:
        for name in ("forward", "backward"):
            patch.setattr(_cuda.Device, name, noted(name))
        x = call.x.detach().requires_grad_()
        value = call.loss(x)
        gradient = torch.autograd.grad(value, x)[0]
    assert passes[:2] == ["forward", "backward"]
    return [("autograd", value.detach(), gradient)]


def in_cuda_c(call: Call) -> list[Answer]:
    """Run the closed form, where each floating-point warning is an error, and see which kernels were launched."""
    from ohemloss_cupy import _launch

    launched = _launch.runtime.launched
    launched.clear()
    with np.errstate(all="raise"):
        answers = closed_form(call)
    assert launched.count("finish") == 2
    assert sum(name.startswith("backward") for name in launched) == bool(call.x.size or not call.options.get("resize"))
    return answers


def by_triton(case: Case, dtype: str) -> bool:
    return usual(case) and case.options.get("resize") != "trilinear"


def interpreted_rows(case: Case, dtype: str) -> bool:
    """Take one share of hard pixels where the regime changes little: the interpreter is slow."""
    repeated = case.kind == "layouts" and "40% hard" in case.name
    repeated |= case.kind in ("regimes", "resized") and case.name[:3] in ("95%", "40%") and dtype != "float32"
    return by_triton(case, dtype) and not repeated


def by_cuda_c(case: Case, dtype: str) -> bool:
    arrays = hasattr(case.options.get("min_kept"), "dtype")
    return by_triton(case, dtype) and not arrays


def paths():
    """List the paths of the libraries that are asked for, or installed."""
    numpy, torch = LIBRARY["numpy"], LIBRARY["torch"]
    found = [
        Path("numpy", numpy, takes=regimes_and_one_of_each_kind),
        Path("numpy blocks", numpy, without_a_warning, takes=whole_batch, setting=in_blocks),
        Path("numpy machine code", numpy, without_a_warning, takes=by_machine_code, setting=in_machine_code),
        Path("strict", LIBRARY["strict"]),
        Path("strictest", LIBRARY["strictest"]),
        *(
            Path(name, library, takes=regimes_and_one_of_each_kind)
            for name, library in LIBRARY.items()
            if name.startswith("strict-")
        ),
        Path("torch", torch),
        Path("torch blocks", torch, without_a_warning, takes=whole_batch, setting=in_blocks),
        Path("torch machine code", torch, without_a_warning, takes=by_machine_code, setting=in_machine_code),
        Path("torch func", torch, torch_func, takes=differentiated_rows),
        Path("torch compiled", torch, torch_compiled, takes=traced_rows, reads_labels=False),
        Path("torch ranks", torch, _distributed.over_ranks, _distributed.takes, marks=_distributed.MARKS),
        Path("torch-cuda", LIBRARY["torch-cuda"]),
        # Nearly all the time of JAX is compilation. Under `jit` run all kinds of rows, in programs that rows share.
        Path("jax", LIBRARY["jax"], _jax.jitted, takes=_jax.compiled_rows, marks=_jax.MARKS),
        # Called as it is, the loss compiles the same steps. New is that the host reads labels.
        Path("jax eager", LIBRARY["jax"], takes=_jax.eager_rows, reads_labels=True),
        # 64 bits change dtypes alone: of logits, labels and weights.
        Path("jax-x64", LIBRARY["jax-x64"], _jax.jitted, takes=_jax.wide_rows, reads_labels=False, marks=_jax.MARKS),
        Path("jax-cuda", LIBRARY["jax-cuda"], _jax.jitted, takes=_jax.compiled_rows),
        Path("cupy-cuda", LIBRARY["cupy-cuda"]),
        Path("dask", LIBRARY["dask"], in_chunks, takes=lazy_rows),
        Path("ndonnx", LIBRARY["ndonnx"], closed_form, takes=narrow_row_of_each_kind),
        Path("mlx", LIBRARY["mlx"], by_mlx, takes=but_empty),
        Path("triton", torch, in_triton, interpreted_rows, by_interpreter, marks=KERNELS_MARKS),
        Path("cuda c", numpy, in_cuda_c, by_cuda_c, by_small_grids, reads_labels=False, marks=KERNELS_MARKS),
    ]
    if os.environ.get("OHEMLOSS_TEST_KERNELS") != "1":
        found = [path for path in found if pytest.mark.kernels not in path.marks]
    requested = requested_packages()
    wanted = [path for path in found if not requested or path.library.package in requested]
    return [path for path in wanted if is_installed(path.library.package) and path.library.has_device]
