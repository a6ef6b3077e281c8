"""What was measured, and how targets and tables ask for it."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

from ._calls import OURS
from ._cases import Case
from ._memory import Probe
from ._timing import Times


@dataclass
class Results:
    """The times of cases and the peaks of probes."""

    times: list[tuple[Case, Times]] = field(default_factory=list)
    peaks: list[tuple[Probe, int]] = field(default_factory=list)

    def ratios(self, groups: Iterable[str], other: str, *, backward: bool | None = None, name: str = "") -> list[float]:
        """List how many times as long `other` takes as ours: of some groups, in one way or both, of one name or all."""
        return [
            times.ratio(other, OURS)
            for case, times in self.times
            if case.group in groups and other in times.seconds
            if backward in (None, case.backward) and name in ("", case.name)
        ]

    def peak(self, variant: str, *, backward: bool, resized: bool = False) -> tuple[Probe, int] | None:
        """Find a peak."""
        asked = (variant, backward, resized)
        found = [pair for pair in self.peaks if (pair[0].variant, pair[0].backward, pair[0].ratio > 1) == asked]
        return found[0] if found else None

    def nanoseconds(self, group: str) -> list[float]:
        """List the times per pixel of all variants of a group."""
        return [row["ns_per_pixel"] for row in self.rows() if row["group"] == group]

    def rows(self) -> Iterator[dict[str, Any]]:
        """Flatten the times: one row for each variant of each case."""
        for case, times in self.times:
            for variant, seconds in times.seconds.items():
                median = times.median(variant)
                yield {
                    "group": case.group,
                    "case": case.name,
                    "shape": list(case.shape),
                    "backward": case.backward,
                    "variant": variant,
                    "ms": 1e3 * median,
                    "ns_per_pixel": 1e9 * median / case.n_pixels(variant),
                    "to_ours": times.ratio(variant, OURS) if OURS in times.seconds else None,
                    "rounds": len(seconds),
                }

    def memory_rows(self) -> Iterator[dict[str, Any]]:
        """Flatten the peaks."""
        for probe, peak in self.peaks:
            yield {
                "variant": probe.variant,
                "backward": probe.backward,
                "shape": list(probe.shape),
                "ratio": probe.ratio,
                "MiB": peak / 2**20,
                "bytes_per_pixel": peak / probe.n_pixels,
                "gradients": peak / probe.gradient_bytes,
            }
