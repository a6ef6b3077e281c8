"""The tables of `explain`. They fit 80 columns."""

from collections.abc import Sequence

import numpy as np
from rich.table import Table

from .. import Trace
from .._drawing._host import to_numpy
from .._drawing._words import class_name, percent
from .._options import Options
from ._shares import Shares
from ._tables import new_table


def stages_table(trace: Trace, options: Options) -> Table:
    """Show the steps of the loss in the order they happen."""
    thresh = "no threshold" if options.thresh is None else f"-log({options.thresh:g})"
    table = new_table("stage")
    table.add_column("", justify="right")
    table.add_row(f"thresh, {thresh}: a loss above it is hard", f"{_number(trace.thresh):.4g}")
    table.add_row("n_valid, pixels that are not ignored", f"{_number(trace.n_valid):,}")
    table.add_row("n_min, mined at least", f"{_number(trace.n_min):,}")
    table.add_row("n_hard, above the threshold", f"{_number(trace.n_hard):,}")
    table.add_row("cut.value, a loss above it is mined", f"{_number(trace.cut.value):.4g}")
    table.add_row("cut.tie_weight, what a loss equal to it weighs", f"{_number(trace.cut.tie_weight):.4g}")
    table.add_row("cut.count, pixels mined", f"{_number(trace.cut.count):,}")
    table.add_row("value, the mean of their losses", f"{_number(trace.value):.7f}")
    return table


def classes_table(shares: Shares, names: Sequence[str] | None) -> Table:
    """Show what the mining does to each class."""
    n_mined, n_valid = float(np.sum(shares.n_mined)), float(np.sum(shares.n_valid))
    table = new_table("class")
    for column in ("of all mined", "of all valid", "share mined", "mean loss"):
        table.add_column(column, justify="right", min_width=13)
    for label, valid, mined, mean_loss in zip(
        shares.classes, shares.n_valid, shares.n_mined, shares.mean_loss, strict=True
    ):
        parts = (percent(mined, n_mined), percent(valid, n_valid), percent(mined, valid))
        table.add_row(class_name(int(label), names), *parts, f"{mean_loss:.4f}")
    return table


def _number(array: object) -> float | int:
    number: float | int = to_numpy(array).item()
    return number
