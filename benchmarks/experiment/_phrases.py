"""How numbers become words: means with their ranges, tables, and what a comparison says."""

from collections.abc import Iterable, Sequence

from ._types import Judged


def mean(judged: Iterable[Judged], name: str) -> float:
    """Average a number over the seeds that have it; NaN if none has."""
    found = _known(judged, name)
    return sum(found) / len(found) if found else float("nan")


def spread(judged: Iterable[Judged], name: str) -> str:
    """Write the mean over the seeds, and the range in brackets."""
    found = _known(judged, name)
    return f"{sum(found) / len(found):.2f} ({min(found):.2f} to {max(found):.2f})" if found else "none"


def compare(before: Sequence[Judged], after: Sequence[Judged], name: str) -> str:
    """Say what becomes of a number, on average and seed by seed."""
    pairs = [(a[name], b[name]) for a, b in zip(before, after, strict=True) if None not in (a[name], b[name])]
    old, new = mean(before, name), mean(after, name)
    higher = sum(b > a for a, b in pairs)
    verb = "rises" if new > old else "falls" if new < old else "stays"
    return f"{verb} from {old:.2f} to {new:.2f}, and is higher with {higher} of {len(pairs)} seeds"


def percent(share: float) -> str:
    """Write a share with three digits."""
    return f"{100 * share:.3g} %"


def power(value: float) -> str:
    """Write a small number."""
    return f"{value:.1e}"


def listed(names: Sequence[str]) -> str:
    """Write names one after the other."""
    return ", ".join(names) if names else "none"


def _known(judged: Iterable[Judged], name: str) -> list[float]:
    return [one[name] for one in judged if one[name] is not None]
