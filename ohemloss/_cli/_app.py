"""The commands and their options. What a command does is imported when it runs, so that `--help` is quick."""

from pathlib import Path
from typing import Annotated

import typer

from .. import __version__
from ._errors import CannotRunError

app = typer.Typer(add_completion=False, no_args_is_help=True, pretty_exceptions_enable=False, rich_markup_mode=None)


def _show_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"ohemloss {__version__}")
        raise typer.Exit


@app.callback()
def root(
    version: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Show the version and exit.")
    ] = False,
) -> None:
    """OHEM cross-entropy: only the hard pixels enter the loss."""


@app.command()
def demo(
    backend: Annotated[
        str,
        typer.Option(
            metavar="NAME", help="What computes: an installed backend, or the import path of an array API library."
        ),
    ] = "numpy",
    out: Annotated[Path, typer.Option(metavar="PICTURE.png", help="Where the picture goes.")] = Path(
        "ohemloss-demo.png"
    ),
) -> None:
    """Recompute a worked example, then mine a photograph."""
    from . import _demo
    from ._training import Plan

    try:
        passed = _demo.run(backend, out, Plan())
    except CannotRunError as error:
        typer.echo(f"ohemloss demo: {error}", err=True)
        raise typer.Exit(2) from None
    if not passed:
        raise typer.Exit(1)


@app.command()
def bench(
    pixels: Annotated[int, typer.Option(min=1, metavar="N", help="The largest image has about so many pixels.")] = 2
    ** 19,
    classes: Annotated[int, typer.Option(min=1, metavar="N", help="The number of classes.")] = 19,
    plot: Annotated[
        Path | None, typer.Option(metavar="PICTURE.png", help="Draw time against pixels, and put the picture here.")
    ] = None,
) -> None:
    """Time the loss on this machine, on every installed library that works here."""
    from . import _bench
    from ._speed import Plan

    try:
        _bench.run(Plan(pixels=pixels, classes=classes), plot)
    except CannotRunError as error:
        typer.echo(f"ohemloss bench: {error}", err=True)
        raise typer.Exit(2) from None
