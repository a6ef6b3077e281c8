"""Arrays from files that may be anything: whatever is wrong with one is told in a sentence."""

import re
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from ._errors import CannotRunError
from ._library import cause

# What follows `.npz:` is a key. Elsewhere a path may hold colons.
_WITH_KEY = re.compile(r"(?P<path>.*\.npz):(?P<key>.+)", re.IGNORECASE | re.DOTALL)
_CUT_OFF = "the file is cut off or damaged"
_REASONS = {
    "allow_pickle=False": "it holds pickled objects, which are refused, since to read them may run code",
    "EOF: reading array": _CUT_OFF,
    "Failed to read all data": _CUT_OFF,
    "cannot identify image": "it is no image, or a damaged one",
}
_MAGIC = {".npy": (np.lib.format.MAGIC_PREFIX,), ".npz": (b"PK\x03\x04", b"PK\x05\x06")}


def read_array(source: str, argument: str) -> npt.NDArray[Any]:
    """Read `file.npy`, `file.npz` with one array in it, or `file.npz:key`. Nothing in it is ever run."""
    path, key = split_key(source)
    check_suffix(path, argument, *_MAGIC)
    check_magic(path, argument, _MAGIC[path.suffix.lower()])
    try:
        with path.open("rb") as file:
            found = np.load(file, allow_pickle=False)
            array = found if path.suffix.lower() == ".npy" else _pick(found, key, path, argument)
    except CannotRunError:
        raise
    except Exception as error:  # a damaged file can raise anything
        raise unreadable(path, argument, error) from error
    # In the byte order of the machine: not every library knows the other one.
    return np.asarray(array, dtype=array.dtype.newbyteorder("="))


def split_key(source: str) -> tuple[Path, str | None]:
    """Tell the path from the key."""
    match = _WITH_KEY.fullmatch(source)
    if match is None or Path(source).exists():
        return Path(source), None
    return Path(match["path"]), match["key"]


def check_suffix(path: Path, argument: str, *suffixes: str) -> None:
    """Refuse a file that does not say by its name that it is of a kind that can be read."""
    if path.suffix.lower() not in suffixes:
        *others, last = suffixes
        msg = f"`{argument}` must be a {', '.join(others)} or {last} file: got {path}."
        raise CannotRunError(msg)


def check_magic(path: Path, argument: str, magic: tuple[bytes, ...]) -> None:
    """Refuse what cannot be opened, and a file that is not of the kind that its name says."""
    try:
        with path.open("rb") as file:
            start = file.read(8)
    except OSError as error:
        raise unreadable(path, argument, error) from error
    if not start:
        msg = f"`{argument}` cannot be read: {path}: the file is empty."
        raise CannotRunError(msg)
    if not start.startswith(magic):
        msg = f"`{argument}` cannot be read: {path}: this is no {path.suffix.lower()} file, whatever its name says."
        raise CannotRunError(msg)


def unreadable(path: Path, argument: str, error: Exception) -> CannotRunError:
    """Make the error that says why not."""
    return CannotRunError(f"`{argument}` cannot be read: {path}: {_reason(error).rstrip('.')}.")


def _reason(error: Exception) -> str:
    """Say what is wrong in words of ours where the words are known, else in those of the error."""
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    if isinstance(error, MemoryError):
        return "its header promises more than there is memory for"
    if isinstance(error, EOFError | zipfile.BadZipFile):
        return _CUT_OFF
    text = str(error)
    return next((reason for words, reason in _REASONS.items() if words in text), cause(error))


def _pick(found: Any, key: str | None, path: Path, argument: str) -> npt.NDArray[Any]:
    keys = list(found.files)
    if key is None and len(keys) == 1:
        key = keys[0]
    if key not in keys:
        which = f"no array {key!r}" if key is not None else f"{len(keys)} arrays" if keys else "no array"
        rest = f": choose one by `{path}:KEY`, where KEY is one of {', '.join(keys)}." if keys else "."
        msg = f"`{argument}` cannot be read: {path} holds {which}{rest}"
        raise CannotRunError(msg)
    array = found[key]
    if not isinstance(array, np.ndarray):
        msg = f"`{argument}` cannot be read: {path}: what it holds as {key!r} is no array."
        raise CannotRunError(msg)
    return array
