"""The command `python -m benchmarks.gpu`: what the loss costs on a CUDA device, beside the speed of its memory."""

import argparse
import json
import statistics
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.table import Table
from torch import Tensor

import ohemloss

from . import _baselines_torch, _data, _gpu, _gpu_others, _gpu_resized, _machine
from ._gpu import Shape

OURS = "ours"
SHAPES: tuple[Shape, ...] = ((8, 19, 1024, 1024), (16, 19, 512, 1024), (4, 150, 512, 512), (2, 1000, 256, 256))
_QUICK: tuple[Shape, ...] = ((1, 19, 32, 64),)
_DTYPES = ("float32", "bfloat16")
LEGEND = (
    "share: of the bandwidth that a copy of the logits has here; forward reads each logit once, backward reads and\n"
    "writes each once (blocks with nothing selected are not read: few hard pixels may give more than 100 %).\n"
    "(a) F.cross_entropy, a mask, topk  (b) F.cross_entropy, nothing mined  (c) HRNet: all probabilities sorted\n"
    "(d) (a) by torch.compile: how many times as long as ours, forward and backward together."
)


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure, print, and write."""
    options = _parse(arguments)
    device = torch.device(options.device)
    if device.type == "cuda" and not torch.cuda.is_available():
        sys.exit("benchmarks.gpu needs a CUDA device. (`--device cpu --quick` tries the program without one.)")
    clock = _gpu.DeviceClock() if device.type == "cuda" else _gpu.HostClock()
    console = Console(highlight=False, width=150)
    machine = _machine.describe() | {"device": _name(device)}
    for key, value in machine.items():
        console.print(f"{key}: {value}", markup=False, soft_wrap=True)
    rows: list[dict[str, Any]] = []
    for shape in _QUICK if options.quick else SHAPES:
        rows += _rows(shape, device, clock, compiled=not options.quick)
    console.print(_table(rows))
    console.print(LEGEND)
    cases = _gpu_resized.QUICK if options.quick else _gpu_resized.CASES
    resized = list(_gpu_resized.rows(cases, device, clock, _DTYPES))
    console.print(_gpu_resized.table(resized))
    console.print(_gpu_resized.LEGEND)
    if device.type == "cuda":
        torch.cuda.empty_cache()
    others = list(_gpu_others.rows(_QUICK[0] if options.quick else SHAPES[0], cases[min(1, len(cases) - 1)]))
    for line in others:
        console.print(_gpu_others.text(line), markup=False)
    if device.type == "cuda":
        console.print(_gpu.check_that_nobody_waits(ohemloss.ohem_cross_entropy, *_arrays(SHAPES[2], 0.03, device)))
        arrays = _gpu_resized.arrays(*_gpu_resized.CASES[-1], 0.03, device)
        console.print(f"resized: {_gpu.check_that_nobody_waits(_gpu_resized.ours, *arrays)}")
    if options.json:
        options.json.write_text(
            json.dumps({"machine": machine, "torch": rows, "resized": resized, "others": others}, indent=1) + "\n"
        )


def _rows(shape: Shape, device: torch.device, clock: _gpu.Clock, *, compiled: bool) -> Iterator[dict[str, Any]]:
    """Measure the losses on one shape, in each dtype and regime."""
    losses: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
        OURS: ohemloss.ohem_cross_entropy,
        "a": _baselines_torch.eager,
        "b": _baselines_torch.plain,
        "c": _baselines_torch.hrnet,
    }
    if compiled:
        torch._dynamo.reset()  # else it would compile for any shape from the second one on
        losses["d"] = torch.compile(_baselines_torch.eager, dynamic=False)
    for hard in _data.REGIMES:
        wide, labels = _arrays(shape, hard, device)
        for dtype in _DTYPES:
            logits = wide.to(getattr(torch, dtype))
            bandwidth = _gpu.copy_bandwidth(logits, clock)
            found = _gpu.steps(losses, logits, labels, clock)
            yield {"shape": shape, "dtype": dtype, "hard": hard} | _figures(found, logits, bandwidth)


def _figures(found: dict[str, _gpu.Step], logits: Tensor, bandwidth: float) -> dict[str, Any]:
    ours = found[OURS]
    forward, backward = statistics.median(ours.forward), statistics.median(ours.backward)
    least = _gpu.least_bytes(logits)
    ratios = {
        name: statistics.median(a / b for a, b in zip(step.both(), ours.both(), strict=True))
        for name, step in found.items()
        if name != OURS
    }
    beyond = None if ours.peak_bytes is None else ours.peak_bytes - logits.nbytes
    return {
        "copy_GB_per_s": bandwidth / 1e9,
        "forward_ms": forward * 1e3,
        "forward_share": least[0] / forward / bandwidth,
        "backward_ms": backward * 1e3,
        "backward_share": least[1] / backward / bandwidth,
        "bytes_per_pixel_beyond_gradient": None if beyond is None else beyond * logits.shape[1] / logits.numel(),
        "ratios": ratios,
    }


def _arrays(shape: Shape, hard: float, device: torch.device) -> tuple[Tensor, Tensor]:
    data = _data.make(shape, hard)
    return torch.from_numpy(data.logits).to(device), torch.from_numpy(data.labels).to(device)


def _table(rows: list[dict[str, Any]]) -> Table:
    table = Table(title="PyTorch", title_justify="left", pad_edge=False)
    right = ("copy GB/s", "forward ms", "share", "backward ms", "share", "bytes / pixel", "to (a)", "(b)", "(c)", "(d)")
    for name in ("logits", "dtype", "hard", *right):
        table.add_column(name, justify="right" if name in right else "left", no_wrap=True)
    for row in rows:
        numbers = [
            f"{row['copy_GB_per_s']:.0f}",
            f"{row['forward_ms']:.3f}",
            f"{row['forward_share']:.0%}",
            f"{row['backward_ms']:.3f}",
            f"{row['backward_share']:.0%}",
            "" if (beyond := row["bytes_per_pixel_beyond_gradient"]) is None else f"{beyond:.1f}",
            *(f"{row['ratios'][name]:.2f} x" if name in row["ratios"] else "" for name in "abcd"),
        ]
        table.add_row("x".join(map(str, row["shape"])), row["dtype"], f"{row['hard']:.0%}", *numbers)
    return table


def _name(device: torch.device) -> str:
    return torch.cuda.get_device_name(device) if device.type == "cuda" else str(device)


def _parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser("python -m benchmarks.gpu", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="small images: does it run?")
    parser.add_argument("--device", default="cuda", help="default: cuda")
    parser.add_argument("--json", type=Path, metavar="FILE", help="where the numbers go")
    return parser.parse_args(arguments)


if __name__ == "__main__":
    main()
