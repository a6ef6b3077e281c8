"""Whether a picture can be written, asked before the work that would be lost."""

import os
from pathlib import Path

from ._errors import CannotRunError


def check_writable(path: Path, option: str) -> None:
    """Open the picture's file; refuse a name that is not one of a picture."""
    if path.suffix.lower() != ".png":
        msg = f"`{option}` must name a .png file: got {path}."
        raise CannotRunError(msg)
    check_file(path, option)


def check_file(path: Path, option: str) -> None:
    """Open a file of any kind; what is there already stays."""
    new = not os.path.lexists(path)
    try:
        with path.open("ab"):
            pass
        if new:
            path.unlink()
    except OSError as error:
        raise unwritable(path, option, error) from error


def unwritable(path: Path, option: str, error: OSError) -> CannotRunError:
    """Make the error that says why not."""
    return CannotRunError(f"`{option}` cannot be written: {path}: {error.strerror or error}.")
