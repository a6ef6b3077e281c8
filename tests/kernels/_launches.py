"""In place of what launches Triton's kernels, where there is no device: note each launch, or compile for it."""

import itertools
import re
import subprocess
import tempfile
from types import SimpleNamespace

import torch

from ohemloss._options import Options
from ohemloss._validation import prepare

_numbers = itertools.count()


class Launches:
    """In place of the kernels: note what is launched, and how large the arrays are that it is given."""

    def __init__(self):
        self.made, self.bytes = [], {}

    def __getattr__(self, name):
        def launch(grid, *arguments, **options):
            self.made.append((name, grid))
            for each in arguments:
                if isinstance(each, torch.Tensor):
                    storage = each.untyped_storage()
                    self.bytes[storage.data_ptr()] = storage.nbytes()

        return _Kernel(launch)


class Compiler:
    """In place of the kernels: do all that a launch does, but the launch."""

    def __init__(self, *modules):
        self.modules, self.code = modules, {}

    def __getattr__(self, name):
        function = next(getattr(module, name) for module in self.modules if hasattr(module, name))

        def launch(grid, *arguments, **options):
            self.code[name] = function.warmup(*arguments, grid=grid, **options).asm

        return _Kernel(launch)


class _Kernel:
    def __init__(self, launch):
        self.launch = launch

    def __getitem__(self, grid):
        return lambda *arguments, **options: self.launch(grid, *arguments, **options)


def compiled(capability, dtype, labels, small, size, *, channels_last=False, weighted=False, **options):
    """Compile what both passes of a call launch: the code of each kernel, by name. In a process of its own."""
    from ohemloss_torch import _cuda, _kernels, _resized, _resized_kernels

    _be_a_device(capability)
    x = torch.zeros(small, dtype=getattr(torch, dtype))
    if channels_last:
        x = x.contiguous(memory_format=torch.channels_last)
    y = torch.zeros(size, dtype=getattr(torch, labels))
    wide = torch.float64 if dtype == "float64" else torch.float32
    weight, pixel_weight = (torch.ones(shape, dtype=wide) if weighted else None for shape in (small[1], size[1:]))
    call = prepare(x, y, weight, pixel_weight, None, Options(**options))
    compiler = Compiler(_kernels, _resized_kernels)
    arguments = (call.engine, call.inputs, call.options, compiler)
    device = _resized.Resized(*arguments, compiler) if call.options.resize else _cuda.Device(*arguments)
    _, kept = device.forward()
    device.backward(kept)
    return compiler.code


def _be_a_device(capability):
    """Let Triton find a device; another one each time, since it keeps what it compiled for each."""
    from triton.backends.compiler import GPUTarget
    from triton.runtime import driver

    number, target = next(_numbers), GPUTarget("cuda", capability, 32)
    driver.set_active(
        SimpleNamespace(
            get_current_target=lambda: target,
            get_current_device=lambda: number,
            get_current_stream=lambda device: 0,
        )
    )


def usage(cubin):
    """Read the registers and the bytes of memory of a thread."""
    from triton.knobs import nvidia

    with tempfile.NamedTemporaryFile(suffix=".cubin") as file:
        file.write(cubin)
        file.flush()
        command = [nvidia.cuobjdump.path, "-res-usage", file.name]
        text = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    ((registers, stack),) = re.findall(r"REG:([0-9]+) STACK:([0-9]+)", text)
    return int(registers), int(stack)
