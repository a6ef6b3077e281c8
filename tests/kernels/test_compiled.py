"""The kernels compiled for devices that are not here: registers, memory, and how they load and store."""

import importlib
import re

import numpy as np
import pytest

from ohemloss_cupy import _launch
from tests._processes import run

pytestmark = pytest.mark.kernels

# An old and a new generation of devices, and the newest where its compiler differs.
OLD, NEW, NEWEST = 75, 90, 100
LABELS = ("int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64")

TRITON = """
import json
from tests.kernels._launches import compiled, usage

report = []
for case in CASES:
    capability, dtype, labels, height, channels_last, weighted, resize, align_corners = case
    code = compiled(capability, dtype, labels, (2, 19, height, 2 * height), (2, 64, 128),
                    channels_last=channels_last, weighted=weighted, resize=resize, align_corners=align_corners)
    for name, asm in code.items():
        ptx = asm["ptx"]
        counts = [ptx.count(what) for what in ("trap", "ld.global.v4.b32", "st.global.v4.b32", "ex2.approx.ftz")]
        report.append([case, name, *usage(asm["cubin"]), ".local" in ptx, *counts])
print(json.dumps(report))
"""


# Capability, dtype, dtype of the labels, rows of the logits, channels last, weights, resize, align_corners.
PLAIN = [
    *((capability, "float32", "int64", 64, False, False, None, False) for capability in (OLD, NEW)),
    (NEW, "bfloat16", "int64", 64, False, False, None, False),
    *((NEW, dtype, "uint8", 64, True, True, None, False) for dtype in ("float16", "bfloat16", "float32", "float64")),
    *((NEW, dtype, "int32", 64, False, True, None, False) for dtype in ("float16", "float64")),
]
RESIZED = [
    *((capability, "float32", "int64", 8, False, False, "bilinear", False) for capability in (OLD, NEW, NEWEST)),
    (NEW, "bfloat16", "uint8", 16, True, True, "bilinear", True),
    (NEW, "float64", "int32", 32, False, True, "bilinear", False),
]


@pytest.mark.parametrize("cases", [PLAIN, RESIZED], ids=["plain", "resized"])
def test_triton(cases):
    """By all that a launch does, but the launch."""
    report = run(f"CASES = {cases}\n{TRITON}", TRITON_INTERPRET="0")
    assert len({row[1] for row in report}) == 6
    for (capability, dtype, _, _, channels_last, weighted, *_), name, *found in report:
        registers, stack, in_memory, traps, loads, stores, exponentials = found
        assert not traps
        if name.endswith("_resized"):
            assert stack <= (8 if capability == NEWEST else 0), f"{name} holds more than its registers"
            assert registers <= (255 if dtype == "float64" else 168)
        else:
            assert not in_memory, f"{name} holds more than its registers"
        if (name, dtype) == ("forward_resized", "float32"):
            assert exponentials >= 8, "a thread has 8 rows, and an instruction for the exponential of each"
        if name in ("forward", "backward") and not channels_last and not weighted:
            assert loads >= 4, "each thread reads 16 bytes of a class"
            assert stores >= (4 if name == "backward" else 1)


@pytest.mark.parametrize(
    ("capability", "logits", "labels", "resized"),
    [
        *((capability, "float32", "int64", resized) for capability in (OLD, NEW, NEWEST) for resized in (0, 3)),
        *((capability, logits, "int64", 0) for capability in (OLD, NEW) for logits in ("float16", "float64")),
        *((NEW, logits, "int64", 3) for logits in ("float16", "float64")),
        *((NEW, "float32", "int64", resized) for resized in (1, 2)),
        *((NEW, "float32", labels, 0) for labels in LABELS if labels != "int64"),
    ],
)
def test_cuda_c(capability, logits, labels, resized):
    """Without a warning or a spill, and in so few registers that three or four blocks run at a time."""
    nvrtc = importlib.import_module("cupy_backends.cuda.libs.nvrtc")  # as CuPy calls it; it needs no device
    program = nvrtc.createProgram(_launch.source(), "_kernels.cu", (), ())
    options = _launch.options(np.dtype(logits), np.dtype(labels), resized)
    try:
        nvrtc.compileProgram(program, (*options, f"-arch=sm_{capability}", "--ptxas-options=-v"))
    except RuntimeError as error:
        error.add_note(nvrtc.getProgramLog(program))
        raise
    log = nvrtc.getProgramLog(program)
    assert nvrtc.getCUBIN(program)[:4] == b"\x7fELF"
    assert "warning" not in log
    assert set(re.findall(r"(\d+) bytes spill", log)) == {"0"}
    registers = [int(n) for n in re.findall(r"Used (\d+) registers", log)]
    assert len(registers) == (7 if resized else 10)
    wide = logits == "float64"
    assert max(registers) <= ((128 if wide else 80) if resized else (80 if wide else 64))
