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


@app.command()
def check(
    backend: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME",
            help="What is checked: an installed backend, or the import path of an array API library. May be given "
            "several times. Default: every installed backend.",
        ),
    ] = None,
    json: Annotated[Path | None, typer.Option(metavar="FILE", help="Write everything that was found here.")] = None,
    html: Annotated[Path | None, typer.Option(metavar="FILE", help="Write a page for people here.")] = None,
    against: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Compare with what --json wrote on another machine.")
    ] = None,
    quick: Annotated[
        bool, typer.Option("--quick", help="Leave out what libraries compile, which takes minutes.")
    ] = False,
) -> None:
    """Compare every installed library with a reference, on each device, dtype and way to run the loss."""
    from ._check._command import Request, check

    try:
        passed = check(Request(names=backend or [], json=json, html=html, against=against, quick=quick))
    except CannotRunError as error:
        typer.echo(f"ohemloss check: {error}", err=True)
        raise typer.Exit(2) from None
    if not passed:
        raise typer.Exit(1)


@app.command()
def explain(
    logits: Annotated[
        str,
        typer.Argument(
            metavar="LOGITS",
            help="Floats (n, c, h, w), or of one image (c, h, w): a .npy file, a .npz file, or FILE.npz:KEY.",
        ),
    ],
    labels: Annotated[
        str,
        typer.Argument(
            metavar="LABELS",
            help="Integers (n, h, w) or (h, w): the same kinds of file, or a .png in grey or with a palette.",
        ),
    ],
    plot: Annotated[
        Path | None, typer.Option(metavar="PICTURE.png", help="Draw the batch, and put the picture here.")
    ] = None,
    image: Annotated[
        Path | None, typer.Option(metavar="PHOTO", help="What the mined pixels are drawn over. Default: the labels.")
    ] = None,
    index: Annotated[
        str, typer.Option(metavar="I", help="Which image of the batch is drawn; I,J for a slice of a volume.")
    ] = "0",
    names: Annotated[Path | None, typer.Option(metavar="FILE", help="The names of the classes, one a line.")] = None,
    thresh: Annotated[
        str, typer.Option(metavar="P", help="A pixel is hard if the probability of its label is below; or none.")
    ] = "0.7",
    min_kept: Annotated[
        str, typer.Option(metavar="K", help="How many pixels are mined at least: a count, or with a point a fraction.")
    ] = "0.0625",
    ignore_index: Annotated[str, typer.Option(metavar="L", help="The label that is ignored; or none.")] = "255",
    axis: Annotated[
        int | None, typer.Option(metavar="A", help="The axis of the classes. Default: 1, or 0 for one image (c, h, w).")
    ] = None,
    resize: Annotated[
        str | None,
        typer.Option(metavar="R", help="Interpolate logits to the size of the labels: linear, bilinear, trilinear."),
    ] = None,
    align_corners: Annotated[
        bool, typer.Option("--align-corners", help="Lay the first and last places on each other for that.")
    ] = False,
    backend: Annotated[
        str,
        typer.Option(
            metavar="NAME", help="What computes: an installed backend, or the import path of an array API library."
        ),
    ] = "numpy",
) -> None:
    """Show every step of the loss of your batch, what is mined of each class, and where."""
    from . import _explain
    from ._explain_options import Request

    request = Request(
        logits=logits,
        labels=labels,
        backend=backend,
        thresh=thresh,
        min_kept=min_kept,
        ignore_index=ignore_index,
        axis=axis,
        resize=resize,
        align_corners=align_corners,
        names=names,
        plot=plot,
        image=image,
        index=index,
    )
    try:
        _explain.run(request)
    except CannotRunError as error:
        typer.echo(f"ohemloss explain: {error}", err=True)
        raise typer.Exit(2) from None
