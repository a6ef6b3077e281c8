"""The comparison with another report on a terminal."""

from rich.console import Console
from rich.table import Table

from .._tables import new_table
from ._compare import Comparison
from ._words import MOVED, MOVES, moves, name_of

# Of the cells that changed: more are on the page.
_LISTED = 5


def show_comparison(console: Console, comparison: Comparison) -> None:
    """Print what differs, and the sum of it."""
    console.print(f"\nAgainst {comparison.name}, of {comparison.there.when}")
    if comparison.versions:
        console.print()
        console.print(_versions(comparison))
    if comparison.changes:
        console.print()
        console.print(_changes(comparison))
        console.print(f"\n{MOVED}\n")
        for change in comparison.largest(_LISTED):
            console.print(f"{name_of(change.key)}, {change.told()}")
    for where, names in (("here", comparison.only_here), ("there", comparison.only_there)):
        for name in names:
            console.print(f"only {where}: {name}")
    console.print(f"\n{comparison.summary()}")


def _versions(comparison: Comparison) -> Table:
    table = new_table("differs")
    for column in ("here", "there"):
        table.add_column(column, overflow="fold")
    for line in comparison.versions:
        table.add_row(*line)
    return table


def _changes(comparison: Comparison) -> Table:
    table = new_table("other bits")
    for column in MOVES:
        table.add_column(column, justify="right", min_width=5)
    for key, changes in comparison.by_row().items():
        table.add_row(name_of(key), *moves(changes))
    return table
