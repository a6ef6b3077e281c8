"""The command: `python -m benchmarks`."""

import argparse
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from rich.console import Console
from rich.progress import track

from . import _machine, _memory, _report
from ._calls import EAGER, OURS
from ._cases import QUICK, Sizes, cases
from ._results import Results
from ._timing import Rounds, interleave

_GROUPS = ("headline", "numpy", "jax", "sizes", "classes", "layouts", "dtypes", "line", "resized", "memory")
_FEW = Rounds(warm=1, least=2, most=3, seconds=0.2)


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure, print, and write."""
    options = _parse(arguments)
    sizes, rounds = (QUICK, _FEW) if options.quick else (Sizes(), Rounds())
    console = Console(highlight=False)
    machine = _machine.describe()
    for key, value in machine.items():
        console.print(f"{key}: {value}", markup=False, soft_wrap=True)
    results = measure(sizes, rounds, options.only or _GROUPS)
    _report.show(console, results)
    if options.quick:
        console.print("Quick: small images and few rounds. The targets are for the full run.")
    if options.json:
        _report.write(options.json, machine, results)


def measure(sizes: Sizes, rounds: Rounds, groups: Sequence[str]) -> Results:
    """Run the cases of some groups."""
    results = Results()
    # On another stream than the tables, and gone at the end.
    console = Console(stderr=True)
    chosen = [case for case in cases(sizes) if case.group in groups]
    for case in track(chosen, "timing", console=console, transient=True, disable=not console.is_terminal):
        brief = replace(rounds, seconds=min(rounds.seconds, case.seconds))
        results.times.append((case, interleave(case.build(), brief)))
    if "memory" in groups:
        results.peaks += [(probe, _memory.measure(probe)) for probe in _probes(sizes)]
    return results


def _probes(sizes: Sizes) -> Iterator[_memory.Probe]:
    variants = (OURS, EAGER)
    for backward in (False, True):
        yield from (_memory.Probe(variant, backward, sizes.headline) for variant in variants)
    shape, ratio = sizes.resized[0]
    yield from (_memory.Probe(variant, True, shape, ratio=ratio) for variant in variants)


def _parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser("python -m benchmarks", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="small images and few rounds: does it run?")
    parser.add_argument("--only", action="append", choices=_GROUPS, metavar="NAME", help=f"of {', '.join(_GROUPS)}")
    parser.add_argument("--json", type=Path, metavar="FILE", help="where the numbers go")
    return parser.parse_args(arguments)


if __name__ == "__main__":
    main()
