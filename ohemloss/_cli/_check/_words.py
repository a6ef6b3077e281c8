"""How numbers, names and outcomes are written, in tables and on the page."""

import math

from ._compare import Change
from ._report import Device, Key, Report, Row

UNITS = (
    "An error is the largest difference from a float64 reference, divided by the largest number of the reference and "
    "by the epsilon of the dtype; for the value of a half, which is computed in float32, by that of float32."
)
REPEATS = "Repeats: whether a second call gave the same bits. One that does not is told, and is no failure."


def amount(error: float | None) -> str:
    """Write an error in at most four characters."""
    if error is None:
        return "-"
    if error == 0 or not math.isfinite(error):
        return f"{error:g}"
    if error < 0.005:
        return "<.01"
    return f"{error:.2f}" if error < 9.995 else f"{error:.0f}" if error < 9999.5 else f"{error:.0e}".replace("e+0", "e")


def model_of(device: Device) -> str:
    """Say what a device is, and how many of them take part where arrays are spread over several."""
    model = device.model or "the processor"
    return model if device.n_devices == 1 else f"{model}, {device.n_devices} devices that share each batch"


def name_of(key: Key) -> str:
    """Name a row."""
    return " ".join(key)


def verdict(report: Report) -> str:
    """Tell the outcome in a sentence."""
    if report.passed:
        return f"All {len(report.rows)} rows are within the tolerance."
    rows = sum(not row.passed for row in report.rows)
    told = [f"{rows} of {len(report.rows)} rows"] if rows else []
    told += [library.name for library in report.libraries if library.failed]
    return f"FAILED: {', '.join(told)}."


def failures(report: Report) -> list[tuple[str, str]]:
    """Name everything that failed, and say why."""
    told = []
    for library in report.libraries:
        if library.failed and library.cause:
            told.append((library.name, library.cause))
        told += [(f"{library.name} {device.label}", device.cause) for device in library.devices if device.cause]
    return told + [(name_of(row.key), _why(row, report)) for row in report.rows if not row.passed]


def _why(row: Row, report: Report) -> str:
    """Tell how many cases failed, and the worst of each kind."""
    failed = [cell for cell in row.cells if not cell.passed]
    raised = [cell for cell in failed if cell.cause]
    parts = [f"{len(failed)} of {len(row.cells)} cases"]
    parts += [f"{cell.case}: {cell.cause.rstrip('.')}" for cell in raised[:1]]
    for what, allowed in report.tolerance[row.dtype].items():
        worst = row.worst(what)
        if worst is not None and worst.error(what) > allowed:
            parts.append(f"{worst.case}: the {what} is {amount(worst.error(what))} epsilons off, {allowed:g} allowed")
    return ". ".join(parts) + "."


# What `moves` gives after the number of cells.
MOVES = ("cells", "moved", "value was", "is", "gradient was", "is")
MOVED = (
    "Moved: how far apart the values are, in epsilons. Was, is: the error there and here, of the cells that changed."
)


def moves(changes: list[Change]) -> list[str]:
    """Tell of the cells of a row that changed: how many, how far the values moved, and the errors there and here."""
    errors = [
        max(cell.error(what) for cell in cells)
        for what in ("value", "gradient")
        for cells in ([change.there for change in changes], [change.here for change in changes])
    ]
    moved = amount(max(change.moved() for change in changes))
    return [str(len(changes)), moved, *("-" if error < 0 else amount(error) for error in errors)]
