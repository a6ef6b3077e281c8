"""The experiment as a whole: train, count, draw, write."""

import json
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from rich.console import Console
from rich.progress import Progress

from benchmarks import _machine

from . import _classes, _curves, _files, _fragment, _jobs, _key, _masks, _results, _scene, _trials
from ._judgement import Judge
from ._plan import Plan
from ._types import Found


def run(folder: Path, plan: Plan, key: str) -> None:
    """Leave all files in a folder that exists."""
    start = time.perf_counter()
    scene = _scene.load(plan)
    with _progress() as progress, _jobs.crew(plan) as crew:
        trials = _trials.run(plan, crew, progress)
    found: Found = {"key": key, "versions": _key.versions(), "machine": _describe_machine()}
    found |= _results.collect(Judge(scene, plan), trials)
    _curves.draw(found, folder / _files.CURVES)
    _classes.draw(found, folder / _files.CLASSES)
    _masks.draw(scene, trials, folder / _files.MASKS)
    found["seconds"]["all"] = time.perf_counter() - start
    (folder / _files.TEXT).write_text(_fragment.text(found), encoding="utf-8")
    # The last one: what was interrupted is not taken for finished.
    numbers = json.dumps(found, indent=1, allow_nan=False)
    (folder / _files.NUMBERS).write_text(numbers + "\n", encoding="utf-8")


def _describe_machine() -> dict[str, str]:
    # What it says of threads is true of this process, and not of those that train.
    described = _machine.describe()
    return {name: described[name] for name in ("processor", "system")}


@contextmanager
def _progress() -> Iterator[_trials.Progress]:
    """Show bars, on stderr and only where it is a terminal."""
    console = Console(stderr=True)
    with Progress(console=console, transient=True, disable=not console.is_terminal) as bars:

        def begin(name: str, total: int) -> Callable[[], None]:
            task = bars.add_task(name, total=total)
            return lambda: bars.advance(task)

        yield begin
