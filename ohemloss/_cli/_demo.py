"""The command `demo`: the worked example, then the photograph."""

from pathlib import Path

from rich.console import Console
from rich.progress import Progress

from .. import __version__
from .._typing import Namespace
from . import _photograph, _picture, _png, _tables, _walkthrough
from ._library import choose
from ._training import Mined, Plan, train

_OPTION = "--out"


def run(backend: str, out: Path, plan: Plan) -> bool:
    """Run the demo; False if a documented number was missed."""
    _png.check_writable(out, _OPTION)
    xp = choose(backend)
    console = Console(highlight=False, markup=False)
    console.print(f"ohemloss {__version__}, demo on {backend}")
    if not _show_worked_example(console, xp):
        return False
    _show_photograph(console, xp, out, plan)
    return True


def _show_worked_example(console: Console, xp: Namespace) -> bool:
    example = _walkthrough.load()
    console.print(f"\n1. A worked example: 2 pictures of 4 x 4 pixels, 3 classes, thresh={example['thresh']}\n")
    stages = _walkthrough.recompute(xp, example)
    console.print(_tables.stages_table(stages))
    console.print("\ngrad: from ohemloss.value_and_grad. The gradient sums to 0 over the classes of")
    console.print("each pixel, and differs from 0 at the mined pixels only.\n")
    missed = [stage.name for stage in stages if not stage.passed]
    if missed:
        console.print(
            f"FAILED: {len(missed)} of {len(stages)} stages miss the documented numbers: {', '.join(missed)}."
        )
    else:
        console.print(f"All {len(stages)} stages meet the documented numbers.")
    return not missed


def _show_photograph(console: Console, xp: Namespace, out: Path, plan: Plan) -> None:
    photograph = _photograph.load()
    height, width = photograph.labels.shape
    console.print(f"\n2. A photograph: {width} x {height} pixels, {len(photograph.names)} classes\n")
    console.print(_photograph.CREDIT)
    mined = _train(xp, photograph, plan)
    console.print(f"A linear model on the features was trained with the loss, {mined.steps} of {plan.steps} steps.")
    if mined.steps < plan.steps:
        console.print(f"It was stopped after {plan.seconds:g} seconds.")
    console.print()
    console.print(_tables.mining_table(mined))
    console.print()
    console.print(_tables.classes_table(photograph, mined))
    try:
        _picture.write(photograph, mined, out)
    except OSError as error:
        raise _png.unwritable(out, _OPTION, error) from error
    console.print(f"\nPicture: {out}", soft_wrap=True)


def _train(xp: Namespace, photograph: _photograph.Photograph, plan: Plan) -> Mined:
    # On stderr, and only where it is a terminal: a bar has no place in a file.
    console = Console(stderr=True)
    with Progress(console=console, transient=True, disable=not console.is_terminal) as progress:
        task = progress.add_task("training", total=plan.steps)
        return train(xp, photograph, plan, lambda: progress.advance(task))
