"""
The report: what `--json` writes and `--against` reads.

A JSON object with these keys. Numbers that JSON has no word for are the strings "nan", "inf" and "-inf".

* ``kind``: "ohemloss check"; ``schema``: the version of this form, 1; ``passed``: whether nothing failed.
* ``cases``: ``fingerprint``, the SHA-256 of all inputs, and ``about``, each case by name with what it is about.
* ``versions``: of Python, NumPy, ohemloss and array-api-compat; ``machine``: the platform, the processor and so on.
* ``tolerance``: by dtype, how many units of error the ``value`` and the ``gradient`` may have.
* ``when``: the time of the run, UTC; ``seconds``: how long it took.
* ``libraries``: a list, each with its ``name``, the ``status`` ("here", "not installed", "no device" or "broken") with
  its ``cause``, whether it ``failed``, its ``versions``, and its ``devices``: a list, each with a ``label``, a
  ``model``, how many they are (``n_devices``, more than 1 if each array is spread over them), its ``dtypes``,
  those that it has not (``absent``, each with the reason), and the ``cause`` if it does not work.
* ``rows``: a list, one for each ``library``, ``device`` (its label), ``dtype`` and ``way`` ("eager": the value alone;
  "closed form": `ohemloss.value_and_grad`; "autograd": by the library's own differentiation; "compiled": the same,
  compiled), with its ``seconds`` and its ``cells``, a list with one for each case:

  * ``case``, its name; ``passed``; ``cause``: why there is no number, or "";
  * ``value``, and ``value_bits``, its bytes in hexadecimal, the highest first;
  * ``gradient_hash``, the SHA-256 of the bytes of the gradient in C order, those of bfloat16 widened to float32; null
    where the way gives none. Each NaN counts as the same;
  * ``value_error`` and ``gradient_error``, in the unit of `ohemloss._cli._check._units`;
  * ``repeats``: whether a second call gave the same bits; ``seconds``, a list: of both calls, the first of which may
    compile.
"""

import json
import math
from dataclasses import asdict
from typing import Any

from ._report import Cell, Device, Library, Report, Row

KIND, SCHEMA = "ohemloss check", 1


def to_json(report: Report) -> str:
    """Write a report."""
    told = asdict(report)
    cases = {"fingerprint": told.pop("fingerprint"), "about": told.pop("about")}
    return json.dumps(_told({"kind": KIND, "schema": SCHEMA, "cases": cases} | told), indent=1, allow_nan=False) + "\n"


def _told(value: Any) -> Any:
    """Replace the floats that JSON has no word for."""
    if isinstance(value, dict):
        return {key: _told(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_told(inner) for inner in value]
    return str(value) if isinstance(value, float) and not math.isfinite(value) else value


def from_json(told: dict[str, Any]) -> Report:
    """Make a report of what `to_json` wrote, once it is parsed; AttributeError, KeyError, TypeError or ValueError."""
    return Report(
        passed=bool(told["passed"]),
        when=str(told["when"]),
        seconds=float(told["seconds"]),
        fingerprint=str(told["cases"]["fingerprint"]),
        about=_texts(told["cases"]["about"]),
        versions=_texts(told["versions"]),
        machine=_texts(told["machine"]),
        tolerance=told["tolerance"],
        libraries=[_library(library) for library in told["libraries"]],
        rows=[_row(row) for row in told["rows"]],
    )


def _texts(told: dict[Any, Any]) -> dict[str, str]:
    return {str(name): str(text) for name, text in told.items()}


def _library(told: dict[str, Any]) -> Library:
    devices = [Device(**{**device, "label": str(device["label"])}) for device in told["devices"]]
    return Library(**{**told, "name": str(told["name"]), "versions": _texts(told["versions"]), "devices": devices})


def _row(told: dict[str, Any]) -> Row:
    names = {name: str(told[name]) for name in ("library", "device", "dtype", "way")}
    return Row(**names, seconds=float(told["seconds"]), cells=[_cell(cell) for cell in told["cells"]])


def _cell(told: dict[str, Any]) -> Cell:
    gradient_error = told["gradient_error"]
    return Cell(
        **{
            **told,
            "value": float(told["value"]),
            "value_error": float(told["value_error"]),
            "gradient_error": None if gradient_error is None else float(gradient_error),
            "seconds": tuple(told["seconds"]),
        }
    )
