"""The heat maps: a row for each way to run the loss, a column for each case."""

from collections.abc import Callable, Iterator, Sequence
from html import escape
from itertools import groupby

from ._compare import Comparison
from ._report import Cell, Report, Row
from ._ways import VALUE_ALONE
from ._words import amount

# The least share of the tolerance that each step of the colours stands for.
_STEPS = (0.0, 0.02, 0.05, 0.1, 0.25, 0.5)
_EMPTY = "<td></td>"

_Draw = Callable[[Row, Cell], str]


def error_map(report: Report, what: str) -> str:
    """Draw the errors of the "value" or of the "gradient", by their share of what is allowed."""
    rows = [row for row in report.rows if what == "value" or row.way != VALUE_ALONE]
    ends = [*(f"{end:.0%}" for end in _STEPS[1:]), "100%"]
    keys = [f'<li><b class="s{i}"></b>to {end}</li>' for i, end in enumerate(ends)]
    legend = f'<li>of what is allowed:</li>{"".join(keys)}<li><b class="miss">✕</b>failed</li>'
    return _map(report, rows, lambda row, cell: _error(cell, what, report.tolerance[row.dtype][what]), legend)


def change_map(report: Report, comparison: Comparison) -> str:
    """Draw how far the values moved, in epsilons, where the bits are not those of the other report."""
    changed = {(change.key, change.here.case): change for change in comparison.changes}
    rows = [row for row in report.rows if any(key == row.key for key, _ in changed)]

    def draw(row: Row, cell: Cell) -> str:
        change = changed.get((row.key, cell.case))
        if change is None:
            return _EMPTY
        told = amount(change.moved()) if change.moved() else "="
        return f'<td class="s2" title="{escape(change.told())}">{escape(told)}</td>'

    legend = '<li><b class="s2"></b>other bits: how far the value moved</li><li><b class="s2">=</b>it did not</li>'
    return _map(report, rows, draw, legend)


def _map(report: Report, rows: Sequence[Row], draw: _Draw, legend: str) -> str:
    head = "".join(f'<th class="case" scope="col"><span>{escape(case)}</span></th>' for case in report.about)
    lines = [
        line
        for (library, device), group in groupby(rows, lambda row: row.key[:2])
        for line in _group(f"{library} on {device}", group, list(report.about), draw)
    ]
    return (
        f'<div class="wide"><table class="heat">\n<thead><tr><th></th>{head}</tr></thead>\n<tbody>\n'
        + "\n".join(lines)
        + f'\n</tbody>\n</table></div>\n<ul class="legend">{legend}</ul>'
    )


def _group(name: str, rows: Iterator[Row], cases: list[str], draw: _Draw) -> Iterator[str]:
    yield f'<tr class="group"><th scope="rowgroup">{escape(name)}</th><td colspan="{len(cases)}"></td></tr>'
    for row in rows:
        cells = {cell.case: cell for cell in row.cells}
        drawn = "".join(draw(row, cells[case]) if case in cells else _EMPTY for case in cases)
        yield f'<tr><th scope="row">{escape(row.dtype)} {escape(row.way)}</th>{drawn}</tr>'


def _error(cell: Cell, what: str, allowed: float) -> str:
    if cell.cause:
        return f'<td class="miss" title="{escape(cell.cause)}">✕</td>'
    error = cell.error(what)
    if error < 0:
        return _EMPTY
    title = escape(f"{cell.case}: {error:.3g} of {allowed:g} epsilons")
    if error <= allowed:
        return f'<td class="s{_step(error / allowed)}" title="{title}">{escape(amount(error))}</td>'
    return f'<td class="miss" title="{title}">✕ {escape(amount(error))}</td>'


def _step(share: float) -> int:
    return max(i for i, least in enumerate(_STEPS) if share >= least)
