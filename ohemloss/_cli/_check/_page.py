"""The report as a page of HTML: one file, which needs no other, and no script."""

from html import escape
from importlib.resources import files
from string import Template

from ._compare import Comparison
from ._heat import change_map, error_map
from ._markup import definitions, heading, paragraph, table
from ._report import Library, Report, Row
from ._words import MOVED, MOVES, REPEATS, UNITS, amount, failures, model_of, moves, name_of, verdict


def page(report: Report, comparison: Comparison | None) -> str:
    """Write the page."""
    template = Template(files(__package__ or "").joinpath("report.html").read_text(encoding="utf-8"))
    parts = [*_summary(report), *_environment(report), *([] if comparison is None else _comparison(report, comparison))]
    parts += [*_maps(report), *_rows(report), *_explained(report)]
    title = f"ohemloss check: {'passed' if report.passed else 'FAILED'}"
    return template.substitute(title=escape(title), body="\n".join(parts))


def _summary(report: Report) -> list[str]:
    kind, mark = ("good", "✓") if report.passed else ("bad", "✕")
    told = [
        "<h1>ohemloss check</h1>",
        paragraph(f"{report.when}, {report.seconds:.0f} s", "faint"),
        f'<p class="verdict {kind}">{mark} {escape(verdict(report))}</p>',
    ]
    failed = failures(report)
    return [*told, table(["failed", "why"], failed)] if failed else told


def _environment(report: Report) -> list[str]:
    common = list((report.versions | report.machine).items())
    libraries = [(library.name, library.status, *_about(library)) for library in report.libraries]
    return [
        heading("Machine and versions"),
        table(["what", "which"], common),
        table(["library", "", "versions", "devices and dtypes"], libraries),
    ]


def _about(library: Library) -> tuple[str, str]:
    devices = []
    for device in library.devices:
        absent = "".join(f"; no {dtype}: {reason}" for dtype, reason in device.absent.items())
        devices.append(f"{device.label} ({model_of(device)}): {', '.join(device.dtypes)}{absent}")
    return ", ".join(f"{name} {version}" for name, version in library.versions.items()), ". ".join(
        [*devices, *([library.cause] if library.cause else [])]
    )


def _comparison(report: Report, comparison: Comparison) -> list[str]:
    told = [
        heading(f"Against {comparison.name}"),
        paragraph(f"{comparison.summary()} That report is of {comparison.there.when}."),
    ]
    if comparison.versions:
        told.append(table(["differs", "here", "there"], comparison.versions))
    if comparison.changes:
        rows = [(name_of(key), *moves(changes)) for key, changes in comparison.by_row().items()]
        told += [table(["other bits", *MOVES], rows, numbers=len(MOVES)), paragraph(MOVED, "faint")]
        told.append(change_map(report, comparison))
    only = [(name, "here") for name in comparison.only_here] + [(name, "there") for name in comparison.only_there]
    return [*told, table(["row", "only"], only)] if only else told


def _maps(report: Report) -> list[str]:
    if not report.rows:
        return []
    return [
        heading("Errors of the value"),
        paragraph(f"{UNITS} Point at a cell to read more."),
        error_map(report, "value"),
        heading("Errors of the gradient"),
        error_map(report, "gradient"),
    ]


def _rows(report: Report) -> list[str]:
    columns = ["library", "device", "dtype", "way", "", "repeats", "worst value", "", "worst gradient", "", "s"]
    return [heading("Rows"), table(columns, map(_row, report.rows)), paragraph(REPEATS, "faint")] if report.rows else []


def _row(row: Row) -> tuple[str, ...]:
    worst = [
        ("", "-") if cell is None else (cell.case, amount(cell.error(what)))
        for what, cell in ((what, row.worst(what)) for what in ("value", "gradient"))
    ]
    outcome = "passed" if row.passed else "✕ FAILED"
    return *row.key, outcome, "yes" if row.repeats else "NO", *worst[0], *worst[1], f"{row.seconds:.1f}"


def _explained(report: Report) -> list[str]:
    allowed = [(dtype, f"{of['value']:g}", f"{of['gradient']:g}") for dtype, of in report.tolerance.items()]
    return [
        heading("What is allowed"),
        paragraph("In the unit of the errors. More is a failure, and so are NaN for a number, and any number for 0."),
        table(["dtype of the logits", "value", "gradient"], allowed, numbers=2),
        heading("Cases"),
        paragraph("The inputs are the same on every machine, to the bit."),
        definitions(report.about),
        paragraph(f"Fingerprint of all inputs: {report.fingerprint}", "faint"),
    ]
