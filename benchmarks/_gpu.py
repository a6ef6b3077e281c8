"""Times on a GPU: of what the device does, and not of what the host does meanwhile."""

import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Protocol

import torch
from torch import Tensor

Shape = tuple[int, int, int, int]

# What a device reads and writes of one pixel besides its logits: the label, and the loss that is kept.
_LABEL, _LOSS = 8, 4
# Of the spin that holds the device back until the host has started a whole step.
_BACKLOG_CYCLES = 20_000_000
_LEAST, _MOST, _WARM = 5, 50, 3  # the number of rounds of one case


class Clock(Protocol):
    """Marks points in the work of a device."""

    spent: float  # seconds for the rounds of one loss

    def hold(self) -> None:
        """Hold the device back, so that what is started now runs without gaps."""

    def mark(self) -> Any:
        """Mark this point."""

    def seconds(self, first: Any, last: Any) -> float:
        """Wait for the later of two points; give the time between them."""
        ...


class DeviceClock:
    """Events in the current stream of a CUDA device."""

    spent = 0.5

    def hold(self) -> None:
        """See `Clock`."""
        torch.cuda._sleep(_BACKLOG_CYCLES)

    def mark(self) -> torch.cuda.Event:
        """See `Clock`."""
        event = torch.cuda.Event(enable_timing=True)
        event.record()
        return event

    def seconds(self, first: torch.cuda.Event, last: torch.cuda.Event) -> float:
        """See `Clock`."""
        last.synchronize()
        return float(first.elapsed_time(last)) / 1e3


class HostClock:
    """The time of day: to try the program where there is no device, in as few rounds as possible."""

    spent = 0.0

    def hold(self) -> None:
        """See `Clock`."""

    def mark(self) -> float:
        """See `Clock`."""
        return time.perf_counter()

    def seconds(self, first: float, last: float) -> float:
        """See `Clock`."""
        return last - first


@dataclass
class Step:
    """The seconds of forward and backward, round by round, and the most memory beyond what was there, if known."""

    forward: list[float] = field(default_factory=list)
    backward: list[float] = field(default_factory=list)
    peak_bytes: int | None = None

    def both(self) -> list[float]:
        """Give the seconds of both together."""
        return [a + b for a, b in zip(self.forward, self.backward, strict=True)]


def steps(
    losses: Mapping[str, Callable[[Tensor, Tensor], Tensor]], logits: Tensor, labels: Tensor, clock: Clock
) -> dict[str, Step]:
    """Run training steps of all losses in turn."""
    found = {name: Step() for name in losses}
    for name, loss in losses.items():
        for _ in range(_WARM):
            _step(loss, logits, labels, clock)
        found[name].peak_bytes = _peak(partial(_step, loss, logits, labels, clock), logits.device)
    end = time.monotonic() + clock.spent * len(losses)
    for i in range(_MOST):
        if i >= _LEAST and time.monotonic() > end:
            break
        for name, loss in losses.items():
            forward, backward = _step(loss, logits, labels, clock)
            found[name].forward.append(forward)
            found[name].backward.append(backward)
    return found


def _step(
    loss: Callable[[Tensor, Tensor], Tensor], logits: Tensor, labels: Tensor, clock: Clock
) -> tuple[float, float]:
    leaf = logits.detach().requires_grad_()
    clock.hold()
    first = clock.mark()
    value = loss(leaf, labels)
    middle = clock.mark()
    value.backward()
    last = clock.mark()
    return clock.seconds(first, middle), clock.seconds(middle, last)


def _peak(call: Callable[[], object], device: torch.device) -> int | None:
    if device.type != "cuda":
        return None
    torch.cuda.synchronize(device)
    torch.cuda.reset_peak_memory_stats(device)
    before = torch.cuda.memory_allocated(device)
    call()
    torch.cuda.synchronize(device)
    return int(torch.cuda.max_memory_allocated(device) - before)


def copy_bandwidth(logits: Tensor, clock: Clock) -> float:
    """Measure the bytes a second, read and written, of the library's own copy of an array of this size."""
    target, taken = torch.empty_like(logits), []
    for _ in range(_WARM + _LEAST * 4):
        clock.hold()
        first = clock.mark()
        target.copy_(logits)
        taken.append(clock.seconds(first, clock.mark()))
    return float(2 * logits.nbytes / statistics.median(taken[_WARM:]))


def least_bytes(logits: Tensor) -> tuple[int, int]:
    """Give what forward and backward have to move at least: each logit once, each gradient once, and the pixels."""
    n_pixels = logits.numel() // logits.shape[1]
    per_pixel = n_pixels * (_LABEL + _LOSS)
    return logits.nbytes + per_pixel, 2 * logits.nbytes + per_pixel


def check_that_nobody_waits(loss: Callable[[Tensor, Tensor], Tensor], logits: Tensor, labels: Tensor) -> str:
    """
    Run a step where each wait of the host is an error, and replay one that was recorded, on other data.

    Raises
    ------
    RuntimeError
        If the host waits, or the replayed step gives other numbers than a fresh one.
    """
    leaf = logits.detach().clone().requires_grad_()
    labels = labels.clone()

    def step() -> tuple[Tensor, Tensor]:
        value = loss(leaf, labels)
        (slope,) = torch.autograd.grad(value, leaf)
        return value.detach(), slope

    step()
    try:
        torch.cuda.set_sync_debug_mode("error")
        step()
    finally:
        torch.cuda.set_sync_debug_mode("default")
    side = torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        step()
    torch.cuda.current_stream().wait_stream(side)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        recorded = step()
    with torch.no_grad():
        leaf.copy_(leaf.flip(0) * 0.5)
        labels.copy_(labels.roll(1, -1))
    graph.replay()
    fresh = step()
    if not all(torch.equal(a, b) for a, b in zip(recorded, fresh, strict=True)):
        msg = "a replayed step gives other numbers than a fresh one"
        raise RuntimeError(msg)
    return "0 host synchronisations; a recorded step replays to the same bits on other data"
