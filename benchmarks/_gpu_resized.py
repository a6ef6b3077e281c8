"""Logits at a part of the labels' resolution on a GPU: resized within the loss, or enlarged before it."""

import statistics
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import torch
from rich.table import Table
from torch import Tensor

import ohemloss

from . import _baselines_torch, _data, _gpu, _resized
from ._gpu import Shape

OURS = "ours"
# The logits, and how many times larger the labels are along each axis.
CASES: tuple[tuple[Shape, int], ...] = (
    ((2, 19, 64, 128), 8),
    ((8, 19, 128, 128), 8),
    ((8, 19, 256, 256), 4),
    ((4, 150, 64, 64), 8),
)
QUICK: tuple[tuple[Shape, int], ...] = (((1, 19, 8, 16), 4),)
LEGEND = (
    "G/s: thousand millions of interpolated logits in a second of a pass. (Few of them are read from memory: what\n"
    "bounds it are exponentials and instructions, so there is no share of a bandwidth.)  bytes / pixel: of the\n"
    "labels, beyond the gradient of the logits  (e): F.interpolate, then (a): how many times as long, and the memory\n"
    "of ours in parts of its."
)

ours = partial(ohemloss.ohem_cross_entropy, resize="bilinear")


def rows(
    cases: tuple[tuple[Shape, int], ...], device: torch.device, clock: _gpu.Clock, dtypes: tuple[str, ...]
) -> Iterator[dict[str, Any]]:
    """Measure both on each case, in each dtype and regime."""
    losses: dict[str, Callable[[Tensor, Tensor], Tensor]] = {OURS: ours, "e": _baselines_torch.enlarged}
    for shape, ratio in cases:
        for hard in _data.REGIMES:
            wide, labels = arrays(shape, ratio, hard, device)
            for dtype in dtypes:
                logits = wide.to(getattr(torch, dtype))
                found = _gpu.steps(losses, logits, labels, clock)
                case = {"shape": shape, "times": ratio, "dtype": dtype, "hard": hard}
                yield case | figures(found, logits, labels)


def arrays(shape: Shape, ratio: int, hard: float, device: torch.device) -> tuple[Tensor, Tensor]:
    """Make logits, and labels that many times as large, of which the share `hard` is hard."""
    data = _resized.make(shape, ratio, hard)
    return torch.from_numpy(data.logits).to(device), torch.from_numpy(data.labels).to(device)


def figures(found: dict[str, _gpu.Step], logits: Tensor, labels: Tensor) -> dict[str, Any]:
    """Give times, rates and memory of ours, and how the other compares."""
    mine, other = found[OURS], found["e"]
    forward, backward = statistics.median(mine.forward), statistics.median(mine.backward)
    n_logits = labels.numel() * logits.shape[1]
    beyond = share = None
    if mine.peak_bytes is not None and other.peak_bytes is not None:
        beyond, share = (mine.peak_bytes - logits.nbytes) / labels.numel(), mine.peak_bytes / other.peak_bytes
    return {
        "forward_ms": forward * 1e3,
        "forward_G_per_s": n_logits / forward / 1e9,
        "backward_ms": backward * 1e3,
        "backward_G_per_s": n_logits / backward / 1e9,
        "bytes_per_pixel_beyond_gradient": beyond,
        "memory_share": share,
        "ratio": statistics.median(a / b for a, b in zip(other.both(), mine.both(), strict=True)),
    }


def table(found: list[dict[str, Any]]) -> Table:
    """Lay the rows out."""
    made = Table(title="PyTorch, resized logits", title_justify="left", pad_edge=False)
    right = ("forward ms", "G/s", "backward ms", "G/s", "bytes / pixel", "to (e)", "memory")
    for name in ("logits", "labels", "dtype", "hard", *right):
        made.add_column(name, justify="right" if name in right else "left", no_wrap=True)
    for row in found:
        beyond, share = row["bytes_per_pixel_beyond_gradient"], row["memory_share"]
        numbers = [
            f"{row['forward_ms']:.3f}",
            f"{row['forward_G_per_s']:.0f}",
            f"{row['backward_ms']:.3f}",
            f"{row['backward_G_per_s']:.0f}",
            "" if beyond is None else f"{beyond:.1f}",
            f"{row['ratio']:.2f} x",
            "" if share is None else f"{share:.1%}",
        ]
        shape = "x".join(map(str, row["shape"]))
        made.add_row(shape, f"{row['times']} x", row["dtype"], f"{row['hard']:.0%}", *numbers)
    return made
