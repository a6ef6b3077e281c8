"""The options of `explain` as they are written on a command line."""

from dataclasses import dataclass
from pathlib import Path
from typing import cast, get_args

from .._options import Options, Resize
from ._errors import CannotRunError

_NONE = "none"


@dataclass(frozen=True, kw_only=True)
class Request:
    """What the command was asked for: options that the loss checks itself are still text."""

    logits: str
    labels: str
    backend: str
    thresh: str
    min_kept: str
    ignore_index: str
    axis: int | None
    resize: str | None
    align_corners: bool
    names: Path | None
    plot: Path | None
    image: Path | None
    index: str


def options_of(request: Request, axis: int) -> Options:
    """Turn the options into those of the loss, which refuses what has no meaning."""
    return Options(
        thresh=_number("--thresh", request.thresh),
        min_kept=_count_or_fraction("--min-kept", request.min_kept),
        ignore_index=_label("--ignore-index", request.ignore_index),
        axis=axis,
        resize=_resize(request.resize),
        align_corners=request.align_corners,
    )


def index_of(text: str) -> int | tuple[int, ...]:
    """Read `3`, or `3,1` for a slice of a volume."""
    option = "--index"
    try:
        parts = tuple(int(part) for part in text.split(","))
    except ValueError:
        raise _wrong(option, "an integer, or several with commas between", text) from None
    return parts[0] if len(parts) == 1 else parts


def _number(option: str, text: str) -> float | None:
    try:
        return None if text == _NONE else float(text)
    except ValueError:
        raise _wrong(option, f"a number, or {_NONE}", text) from None


def _count_or_fraction(option: str, text: str) -> int | float:
    try:
        return int(text)
    except ValueError:
        pass
    try:
        return float(text)
    except ValueError:
        raise _wrong(option, "an integer (a count) or a number with a point (a fraction)", text) from None


def _label(option: str, text: str) -> int | None:
    try:
        return None if text == _NONE else int(text)
    except ValueError:
        raise _wrong(option, f"an integer, or {_NONE}", text) from None


def _resize(text: str | None) -> Resize | None:
    option = "--resize"
    if text is None or text in get_args(Resize):
        return cast("Resize | None", text)
    raise _wrong(option, f"one of {', '.join(get_args(Resize))}", text)


def _wrong(option: str, kind: str, text: str) -> CannotRunError:
    return CannotRunError(f"`{option}` must be {kind}: got {text!r}.")
