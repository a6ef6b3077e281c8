"""The command `bench`: every installed library on this machine, against the speed of its memory."""

import os
import platform
from pathlib import Path

from rich.console import Console
from rich.progress import Progress

from .. import __version__, _registry
from . import _bandwidth, _png, _speed, _tables
from ._bandwidth import Floor
from ._errors import CannotRunError
from ._speed import Measured, Plan

_OPTION = "--plot"


def run(plan: Plan, plot: Path | None) -> None:
    """Time, print, and draw."""
    if plot is not None:
        _png.check_writable(plot, _OPTION)
    console = Console(highlight=False, markup=False)
    console.print(f"ohemloss {__version__}, {plan.classes} classes, float32, about 40 % of the pixels hard")
    console.print(f"{platform.machine()}, {os.cpu_count()} processors, Python {platform.python_version()}\n")
    floor = _bandwidth.measure(plan.classes)
    measured = _measure(plan)
    _show(console, measured, floor)
    if not measured.speeds:
        msg = "no installed library can be timed here."
        raise CannotRunError(msg)
    if plot is not None:
        _draw(measured, floor, plot)
        console.print(f"\nPicture: {plot}", soft_wrap=True)


def _measure(plan: Plan) -> Measured:
    # On stderr, and only where it is a terminal: a bar has no place in a file.
    console = Console(stderr=True)
    with Progress(console=console, transient=True, disable=not console.is_terminal) as progress:
        task = progress.add_task("timing", total=_speed.steps(plan))
        return _speed.measure(_registry.installed_names(), plan, lambda: progress.advance(task))


def _show(console: Console, measured: Measured, floor: Floor) -> None:
    if measured.speeds:
        console.print(_tables.speeds_table(measured.speeds, floor))
        console.print(f"\nfloor: the logits at the {floor.rate / 1e9:.1f} GB/s at which this machine copies memory,")
        console.print("read once; with the gradient read twice and written once. GB/s: that many bytes")
        console.print("in the time measured. Small arrays stay in the cache, and may be above it.")
    if measured.refusals:
        console.print()
        console.print(_tables.refusals_table(measured.refusals))


def _draw(measured: Measured, floor: Floor, plot: Path) -> None:
    from . import _chart  # it needs a second to import

    try:
        _chart.write(measured.speeds, floor, plot)
    except OSError as error:
        raise _png.unwritable(plot, _OPTION, error) from error
