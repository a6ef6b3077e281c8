"""The files of a report: read, and written."""

import json
from pathlib import Path

from .._errors import CannotRunError
from .._png import unwritable
from ._cases import fingerprint
from ._json import KIND, SCHEMA, from_json
from ._report import Report

AGAINST = "--against"


def read(path: Path) -> Report:
    """Read the report of another run; whatever makes it useless here is told in a sentence."""
    try:
        told = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        msg = f"`{AGAINST}` cannot be read: {path}: {error.strerror or error}."
        raise CannotRunError(msg) from error
    except (RecursionError, ValueError) as error:
        raise _no_report(path) from error
    if not isinstance(told, dict) or told.get("kind") != KIND:
        raise _no_report(path)
    if told.get("schema") != SCHEMA:
        msg = (
            f"`{AGAINST}` must have the schema {SCHEMA}: {path} has {told.get('schema')!r}. "
            "Make it again with this version of ohemloss."
        )
        raise CannotRunError(msg)
    try:
        report = from_json(told)
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise _no_report(path) from error
    if report.fingerprint != fingerprint():
        msg = (
            f"`{AGAINST}` must be a report of the same cases: {path} is of {str(report.fingerprint)[:12]}, and this "
            f"version checks {fingerprint()[:12]}. Make it again with this version of ohemloss."
        )
        raise CannotRunError(msg)
    return report


def _no_report(path: Path) -> CannotRunError:
    return CannotRunError(f"`{AGAINST}` must name a report that `ohemloss check --json` wrote: {path} is none.")


def write(path: Path | None, option: str, text: str) -> None:
    """Write a file, if it is asked for."""
    if path is None:
        return
    try:
        path.write_text(text, encoding="utf-8")
    except OSError as error:
        raise unwritable(path, option, error) from error
