"""One run: each library that was found, on each of its devices, in each dtype and way."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from . import _machine
from ._cases import fingerprint, names
from ._find import Found
from ._measure import measure
from ._report import Device, Library, Report
from ._site import Site, floats
from ._units import TOLERANCE
from ._ways import Way, ways_of


@dataclass(frozen=True)
class Planned:
    """A row to be."""

    library: str
    site: Site
    dtype: str
    way: Way

    def __str__(self) -> str:
        """Name it."""
        return f"{self.library} {self.site.place.label} {self.dtype} {self.way.name}"


@dataclass(frozen=True)
class Plan:
    """What is known before the first case is run."""

    libraries: list[Library]
    rows: list[Planned]

    def steps(self) -> int:
        """Count the cases of all rows."""
        return sum(len(row.way.cases(row.dtype)) for row in self.rows)


def plan(found: Sequence[Found], *, named: bool, quick: bool) -> Plan:
    """
    Ask each device for its dtypes, and list the rows.

    A library without a device fails only if it was named.
    """
    libraries, rows = list[Library](), list[Planned]()
    for one in found:
        sites = [Site(one.xp, place) for place in one.places]
        devices = [_device(site) for site in sites]
        ways = ways_of(one.probe, quick=quick)
        rows += [
            Planned(one.name, site, dtype, way)
            for site, device in zip(sites, devices, strict=True)
            for dtype in device.dtypes
            for way in ways
        ]
        failed = one.status == "broken" or (named and one.status == "no device") or any(d.cause for d in devices)
        libraries.append(
            Library(
                name=one.name,
                status=one.status,
                cause=one.cause,
                failed=failed,
                versions=one.versions,
                devices=devices,
            )
        )
    return Plan(libraries, rows)


def _device(site: Site) -> Device:
    dtypes, absent = floats(site)
    # The others may be absent; without this one nothing works.
    missed = absent.get("float32", "")
    return Device(
        label=site.place.label,
        model=site.place.model,
        n_devices=site.place.n_devices,
        dtypes=dtypes,
        absent=absent,
        cause=f"it makes no float32: {missed}" if missed else "",
    )


def run(plan: Plan, tell: Callable[[str], None], advance: Callable[[], None]) -> Report:
    """Run all rows; `tell` is called with the name of each, and `advance` after each case."""
    start, rows = time.perf_counter(), []
    for planned in plan.rows:
        tell(str(planned))
        rows.append(measure(planned.library, planned.site, planned.dtype, planned.way, advance))
    return Report(
        passed=all(row.passed for row in rows) and not any(library.failed for library in plan.libraries),
        when=datetime.now(UTC).isoformat(timespec="seconds"),
        seconds=time.perf_counter() - start,
        fingerprint=fingerprint(),
        about=names(),
        versions=_machine.versions(),
        machine=_machine.machine(),
        tolerance=TOLERANCE,
        libraries=plan.libraries,
        rows=rows,
    )
