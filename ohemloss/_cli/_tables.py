"""The tables that the commands print. They fit 80 columns."""

from typing import Any

import numpy as np
import numpy.typing as npt
from rich import box
from rich.table import Table
from rich.text import Text

from ._bandwidth import Floor
from ._photograph import Photograph
from ._speed import Speed
from ._training import Mined
from ._walkthrough import Stage

# Of a long list so many numbers are shown: what fits beside a row of four.
_SHOWN = 3
_HARDEST = 3


def stages_table(stages: list[Stage]) -> Table:
    """Show documented and computed numbers side by side."""
    table = new_table("stage")
    table.add_column("documented", no_wrap=True, min_width=28)
    table.add_column("computed", no_wrap=True)
    table.add_column("differs", justify="right")
    table.add_column("")
    for stage in stages:
        mark = Text("ok", "green") if stage.passed else Text("NO", "bold red")
        cells = (_cell(values, stage.form) for values in (stage.documented, stage.computed))
        table.add_row(stage.name, *cells, f"{stage.difference:.1e}" if stage.difference else "0", mark)
    return table


def mining_table(mined: Mined) -> Table:
    """Show the counts of the mining, and the loss before and after the training."""
    n_mined = np.count_nonzero(mined.selected)
    table = new_table("mining")
    table.add_column("", justify="right")
    table.add_row("n_valid, pixels that are not ignored", f"{mined.n_valid:,}")
    table.add_row("n_min, mined at least", f"{mined.n_min:,}")
    table.add_row("n_hard, above the threshold", f"{mined.n_hard:,}")
    table.add_row("mined, share of the valid pixels", f"{n_mined / mined.n_valid:.1%}")
    table.add_row("loss at the start of the training", f"{mined.first_value:.4f}")
    table.add_row("loss at its end, over the pixels that are still mined", f"{mined.value:.4f}")
    table.add_row("the same pixel losses over all valid pixels", f"{np.sum(mined.pixel_loss) / mined.n_valid:.4f}")
    return table


def classes_table(photograph: Photograph, mined: Mined) -> Table:
    """Show the classes of which the largest shares were mined."""
    n = len(photograph.names)
    # Ignored pixels have a label above every class, and are never mined.
    sizes = np.bincount(photograph.labels.ravel(), minlength=n)[:n]
    mined_sizes = np.bincount(photograph.labels[mined.selected], minlength=n)
    table = new_table("classes mined most")
    for column in ("share mined", "of all mined", "of all valid"):
        table.add_column(column, justify="right", min_width=13)
    for i in np.argsort(-mined_sizes / sizes, kind="stable")[:_HARDEST]:
        shares = (mined_sizes[i] / sizes[i], mined_sizes[i] / np.sum(mined_sizes), sizes[i] / np.sum(sizes))
        table.add_row(photograph.names[i], *(f"{share:.1%}" for share in shares))
    return table


def speeds_table(speeds: list[Speed], floor: Floor) -> Table:
    """Show the time of each library at each size, and at what rate it took the bytes that it must move."""
    table = new_table("library")
    for column in ("pixels", "forward ms", "GB/s", "value+gradient ms", "GB/s", "ns/pixel"):
        table.add_column(column, justify="right", no_wrap=True)
    for n in dict.fromkeys(speed.n_pixels for speed in speeds):
        least = Speed("floor", n, floor.forward(n), floor.both(n))
        for speed in (*(speed for speed in speeds if speed.n_pixels == n), least):
            forward, both = floor.forward_rate(n, speed.forward), floor.both_rate(n, speed.both)
            times = (
                f"{1e3 * speed.forward:.3f}",
                f"{forward / 1e9:.2f}",
                f"{1e3 * speed.both:.3f}",
                f"{both / 1e9:.2f}",
            )
            table.add_row(speed.library, f"{n:,}", *times, f"{1e9 * speed.both / n:.2f}")
        table.add_section()
    return table


def refusals_table(refusals: dict[str, str]) -> Table:
    """Show which libraries could not be timed, and why."""
    table = new_table("not timed")
    table.add_column("")
    for name, reason in refusals.items():
        table.add_row(name, reason)
    return table


def new_table(first_column: str) -> Table:
    """Make a table as all commands print them; the first column is never wrapped."""
    table = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False, padding=0, header_style="bold")
    table.add_column(first_column, no_wrap=True)
    return table


def _cell(values: npt.NDArray[Any], form: str) -> str:
    if values.ndim == 0:
        return format(values.item(), form)
    lines = [f"shape {values.shape}"]
    if values.ndim == 1:
        return "\n".join([*lines, _row(values[:_SHOWN], form) + " ..."])
    for matrix in values:
        lines += ["", *(_row(row, form) for row in matrix)]
    return "\n".join(lines)


def _row(values: npt.NDArray[Any], form: str) -> str:
    return " ".join(format(value, form) for value in values.tolist())
