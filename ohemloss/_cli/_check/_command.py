"""The command: what it was asked for, from the first look at its files to the last line."""

from dataclasses import dataclass
from pathlib import Path

from rich.console import Console
from rich.progress import Progress

from ... import _registry
from .._errors import CannotRunError
from .._png import check_file
from . import _files, _page
from ._compare import Comparison, compare
from ._find import Found, find
from ._json import to_json
from ._quiet import quiet
from ._report import Report
from ._run import plan, run
from ._show import show, show_verdict
from ._show_comparison import show_comparison

JSON, HTML = "--json", "--html"


@dataclass(frozen=True, kw_only=True)
class Request:
    """What the user asked for. No names: every installed backend."""

    names: list[str]
    json: Path | None = None
    html: Path | None = None
    against: Path | None = None
    quick: bool = False


def check(request: Request) -> bool:
    """Check, print, and write; False if anything failed."""
    for path, option in ((request.json, JSON), (request.html, HTML)):
        if path is not None:
            check_file(path, option)
    there = None if request.against is None else _files.read(request.against)
    report = _measured(request)
    comparison = None if there is None else compare(report, there, str(request.against))
    _print(report, comparison)
    _files.write(request.json, JSON, to_json(report))
    if request.html is not None:
        _files.write(request.html, HTML, _page.page(report, comparison))
    return report.passed


def _measured(request: Request) -> Report:
    names = list(dict.fromkeys(request.names)) or _registry.installed_names()
    # On stderr, and only where it is a terminal: a bar has no place in a file.
    console = Console(stderr=True)
    with Progress(console=console, transient=True, disable=not console.is_terminal) as progress, quiet():
        task = progress.add_task("looking for libraries", total=None)
        found = [find(name) for name in names]
        _refuse_absent(request, found)
        planned = plan(found, named=bool(request.names), quick=request.quick)
        progress.update(task, total=planned.steps())
        return run(
            planned,
            lambda name: progress.update(task, description=name),
            lambda: progress.advance(task),
        )


def _refuse_absent(request: Request, found: list[Found]) -> None:
    """Stop where a library was named that is not there."""
    absent = [one.cause for one in found if one.status == "not installed"]
    if request.names and absent:
        raise CannotRunError(absent[0])


def _print(report: Report, comparison: Comparison | None) -> None:
    console = Console(highlight=False, markup=False)
    show(console, report)
    if comparison is not None:
        show_comparison(console, comparison)
    show_verdict(console, report)
