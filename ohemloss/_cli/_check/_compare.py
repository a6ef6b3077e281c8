"""Two reports of the same cases: what changed, by how much, and whether the bits are equal."""

import math
from dataclasses import dataclass
from typing import TypeAlias

from ._report import Cell, Key, Report
from ._units import unit_of

_Cells: TypeAlias = dict[tuple[Key, str], Cell]


@dataclass(frozen=True)
class Change:
    """A cell whose bits are not those of the other report."""

    key: Key
    here: Cell
    there: Cell

    def moved(self) -> float:
        """Tell how far apart the values are, in the unit of their errors; infinite where one is no number."""
        if self.here.value_bits == self.there.value_bits or self.here.value == self.there.value:
            return 0.0
        largest = max(abs(self.here.value), abs(self.there.value))
        apart = abs(self.here.value - self.there.value) / largest / unit_of(self.key[2], "value")
        return apart if math.isfinite(apart) else math.inf

    def told(self) -> str:
        """Tell what changed, from there to here."""
        parts = [f"{self.there.value:.9g} to {self.here.value:.9g}"] if self.moved() else []
        for what in ("value", "gradient"):
            was, now = self.there.error(what), self.here.error(what)
            parts += [f"error of the {what} {was:.3g} to {now:.3g}"] if was >= 0 and now >= 0 and was != now else []
        parts += [
            f"{where}: {cell.cause}" for where, cell in (("there", self.there), ("here", self.here)) if cell.cause
        ]
        return f"{self.here.case}: {', '.join(parts) or 'other bits'}"


@dataclass(frozen=True)
class Comparison:
    """Everything that two reports differ in."""

    name: str
    there: Report
    n_cells: int
    changes: list[Change]
    only_here: list[str]
    only_there: list[str]
    versions: list[tuple[str, str, str]]

    def by_row(self) -> dict[Key, list[Change]]:
        """Group the changes by what changed."""
        keys = dict.fromkeys(change.key for change in self.changes)
        return {key: [change for change in self.changes if change.key == key] for key in keys}

    def largest(self, n: int) -> list[Change]:
        """Give the changes that moved the values most."""
        return sorted(self.changes, key=lambda change: -change.moved())[:n]

    def summary(self) -> str:
        """Tell it in a sentence."""
        n = len(self.changes)
        if not self.n_cells:
            return "No row is in both reports."
        return (
            f"Of {self.n_cells} cells that are in both reports, {self.n_cells - n} have equal bits, and {n} have not."
        )


def compare(here: Report, there: Report, name: str) -> Comparison:
    """Compare cell by cell; `name` is that of the other report."""
    ours, theirs = _cells(here), _cells(there)
    both = [place for place in ours if place in theirs]
    changes = [Change(place[0], ours[place], theirs[place]) for place in both]
    return Comparison(
        name=name,
        there=there,
        n_cells=len(both),
        changes=[change for change in changes if _bits(change.here) != _bits(change.there)],
        only_here=_only(ours, theirs),
        only_there=_only(theirs, ours),
        versions=_differing(_environment(here), _environment(there)),
    )


def _only(ours: _Cells, theirs: _Cells) -> list[str]:
    """Name the rows that the other report has not, and of those that it has the cells."""
    rows = {key for key, _ in theirs}
    places = (place for place in ours if place not in theirs)
    return list(dict.fromkeys(" ".join(key if key not in rows else (*key, case)) for key, case in places))


def _cells(report: Report) -> _Cells:
    return {(row.key, cell.case): cell for row in report.rows for cell in row.cells}


def _bits(cell: Cell) -> tuple[str, str | None, str]:
    return cell.value_bits, cell.gradient_hash, cell.cause


def _environment(report: Report) -> dict[str, str]:
    """Name everything that the numbers may depend on."""
    found = report.versions | report.machine
    for library in report.libraries:
        found |= {library.name: library.status}
        found |= {f"{library.name}: {name}": version for name, version in library.versions.items()}
        found |= {f"{library.name} {device.label}": device.model for device in library.devices if device.model}
    return found


def _differing(here: dict[str, str], there: dict[str, str]) -> list[tuple[str, str, str]]:
    names = dict.fromkeys([*here, *there])
    return [
        (name, here.get(name, "absent"), there.get(name, "absent"))
        for name in names
        if here.get(name) != there.get(name)
    ]
