"""The report on a terminal."""

from rich.console import Console
from rich.table import Table
from rich.text import Text

from .._tables import new_table
from ._report import Library, Report, Row
from ._words import REPEATS, UNITS, amount, failures, model_of, verdict


def show(console: Console, report: Report) -> None:
    """Print what was found."""
    console.print(", ".join(f"{name} {version}" for name, version in report.versions.items()))
    for name, text in report.machine.items():
        console.print(f"{name}: {text}")
    console.print()
    console.print(_libraries(report.libraries))
    if report.rows:
        console.print()
        console.print(_rows(report.rows))
        console.print(f"\n{UNITS} {_tolerance(report)} {REPEATS}")


def show_verdict(console: Console, report: Report) -> None:
    """Print what failed, and the outcome."""
    console.print()
    for name, why in failures(report):
        console.print(Text.assemble((f"FAILED {name}", "bold red"), f": {why}"))
    console.print(Text(f"{verdict(report)} {report.seconds:.0f} s.", "green" if report.passed else "bold red"))


def _libraries(libraries: list[Library]) -> Table:
    table = new_table("library")
    table.add_column("", no_wrap=True)
    table.add_column("", overflow="fold")
    for library in libraries:
        told = [library.cause] if library.cause else []
        told += [f"{name} {version}" for name, version in library.versions.items()]
        for device in library.devices:
            told.append(f"{device.label}: {model_of(device)}, {', '.join(device.dtypes)}")
            told += [f"{device.label}: no {dtype}, {reason}" for dtype, reason in device.absent.items()]
        table.add_row(library.name, Text(library.status, "bold red" if library.failed else ""), "\n".join(told))
    return table


def _rows(rows: list[Row]) -> Table:
    table = new_table("library")
    for column in ("device", "dtype", "way"):
        table.add_column(column, no_wrap=True)
    for column in ("value", "gradient"):
        table.add_column(column, justify="right", no_wrap=True)
    table.add_column("repeats", no_wrap=True)
    table.add_column("s", justify="right", no_wrap=True)
    table.add_column("", no_wrap=True)
    for i, row in enumerate(rows):
        if i and rows[i - 1].key[:3] != row.key[:3]:
            table.add_section()
        table.add_row(*row.key, *(_worst(row, what) for what in ("value", "gradient")), *_outcome(row))
    return table


def _worst(row: Row, what: str) -> str:
    worst = row.worst(what)
    return "-" if worst is None else amount(worst.error(what))


def _outcome(row: Row) -> tuple[Text, str, Text]:
    repeats = Text("yes") if row.repeats else Text("NO", "bold yellow")
    return repeats, f"{row.seconds:.1f}", Text("ok", "green") if row.passed else Text("FAILED", "bold red")


def _tolerance(report: Report) -> str:
    told = (f"{dtype} {of['value']:g} and {of['gradient']:g}" for dtype, of in report.tolerance.items())
    return f"Allowed for value and gradient: {', '.join(told)}."
