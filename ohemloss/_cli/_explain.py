"""The command `explain`: the loss of one's own batch, step by step, class by class, and as a picture."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from rich.console import Console

from .. import Trace, __version__, explain
from .._drawing._host import to_numpy
from .._drawing._words import describe_extremes
from .._options import Options
from .._typing import Namespace
from .._validation import check_label_values, prepare
from . import _explain_files, _explain_tables, _png
from ._errors import CannotRunError
from ._explain_options import Request, index_of, options_of
from ._library import cause, choose
from ._shares import shares_of

_PLOT = "--plot"


def run(request: Request) -> None:
    """Read, compute, draw, and print."""
    _check_plot(request)
    xp, index = choose(request.backend), index_of(request.index)
    logits, labels = _explain_files.read_logits(request.logits), _explain_files.read_labels(request.labels)
    names = None if request.names is None else _explain_files.read_names(request.names)
    image = None if request.image is None else _explain_files.read_image(request.image)
    labels, axis = _explain_files.arrange(logits, labels, request.axis, request.resize)
    options = _checked_options(request, logits, labels, axis)
    trace = _explain(xp, request.backend, logits, labels, options)
    if request.plot is not None:
        _draw(trace, request.plot, image, index, names)
    console = Console(highlight=False, markup=False)
    console.print(f"ohemloss {__version__}, explain on {request.backend}")
    console.print(f"logits: {logits.dtype} {logits.shape}, {logits.shape[axis]} classes along axis {axis}")
    console.print(f"labels: {labels.dtype} {labels.shape}\n")
    _print_tables(console, trace, options, names)
    if request.plot is not None:
        console.print(f"\nPicture: {request.plot}", soft_wrap=True)


def _check_plot(request: Request) -> None:
    if request.plot is not None:
        _png.check_writable(request.plot, _PLOT)
    elif request.image is not None:
        msg = "`--image` is what the picture is drawn on: say by `--plot` where the picture goes."
        raise CannotRunError(msg)


def _checked_options(request: Request, logits: npt.NDArray[Any], labels: npt.NDArray[Any], axis: int) -> Options:
    """Let the loss check everything, the labels too, in host memory: not every library could."""
    try:
        call = prepare(logits, labels, None, None, None, options_of(request, axis))
        check_label_values(call)
    except (TypeError, ValueError) as error:
        raise CannotRunError(str(error)) from error
    return call.options


def _explain(
    xp: Namespace, backend: str, logits: npt.NDArray[Any], labels: npt.NDArray[Any], options: Options
) -> Trace:
    try:
        return explain(
            xp.asarray(logits),
            xp.asarray(labels),
            thresh=options.thresh,
            min_kept=options.min_kept,
            ignore_index=options.ignore_index,
            axis=options.axis,
            resize=options.resize,
            align_corners=options.align_corners,
        )
    except Exception as error:  # a device may be too small, and says so in a way of its own
        msg = f"`{backend}` cannot compute this: {cause(error)}"
        raise CannotRunError(msg) from error


def _draw(
    trace: Trace,
    path: Path,
    image: npt.NDArray[Any] | None,
    index: int | tuple[int, ...],
    names: Sequence[str] | None,
) -> None:
    try:
        trace.plot(image, index=index, names=names).savefig(path, format="png")
    except (TypeError, ValueError) as error:
        raise CannotRunError(str(error)) from error
    except OSError as error:
        raise _png.unwritable(path, _PLOT, error) from error


def _print_tables(console: Console, trace: Trace, options: Options, names: Sequence[str] | None) -> None:
    losses, valid = to_numpy(trace.pixel_loss), to_numpy(trace.valid)
    if names is not None:  # letters that the terminal lacks would end the command
        names = [name.encode(console.encoding, "replace").decode(console.encoding) for name in names]
    console.print(_explain_tables.stages_table(trace, options))
    console.print()
    shares = shares_of(to_numpy(trace.labels), valid, _weights(trace, losses), losses)
    console.print(_explain_tables.classes_table(shares, names))
    extremes = describe_extremes(losses[valid])
    if extremes:
        console.print(f"\nOf the losses {extremes}.")


def _weights(trace: Trace, losses: npt.NDArray[Any]) -> npt.NDArray[np.float64]:
    """Say how much of each pixel is mined: those that tie at the cut share the places left."""
    cut = trace.cut
    weights: npt.NDArray[np.float64] = np.where(losses == to_numpy(cut.value), to_numpy(cut.tie_weight), 1.0)
    return weights * to_numpy(trace.selected)
