"""
What works where: a table made of what the tests ran.

A test compares a number through the fixture `shows`, for a row (a library, on a device) and a column (a way to run the
loss). A cell that no test may ever show has its reason here. `pytest --support-page=docs/support.md` writes the page;
a run of all tests fails if the page says anything else than they do.
"""

import re

COLUMNS = {
    "eager": "the value, called as it is",
    "closed form": "`value_and_grad`",
    "autograd": "the gradient by the library's own differentiation",
    "compiled": "compiled by the library",
    "vmap": "the gradient of each image, vectorised",
    "forward mode": "a derivative along a direction",
    "second order": "the derivative of a gradient along a direction",
    "export": "exported to a file or a program, loaded, and run",
    "sharded": "over an array that is spread over devices, processes or chunks: one loss of the whole",
    "autocast": "halves in, float32 loss, half gradient",
}

_NO_AUTOGRAD = "{} does not differentiate"
_NO_FUNCTIONS = "{} transforms no functions"
_EAGER_ONLY = {
    "autograd": _NO_AUTOGRAD,
    "compiled": "{} does not compile",
    "vmap": _NO_FUNCTIONS,
    "forward mode": _NO_AUTOGRAD,
    "second order": _NO_AUTOGRAD,
    "export": "{} has no format of programs",
    "sharded": "an array of {} lies in one place",
}
_NO_HALF = "{} names no half dtype"
_UNSEEN = "no device has run the tests yet"

# Why a cell is empty, by row; the columns that are not here are shown by tests.
REASONS: dict[str, dict[str, str]] = {
    "NumPy": _EAGER_ONLY,
    "CuPy": _EAGER_ONLY,
    "PyTorch": {},
    "PyTorch, CUDA": {
        "sharded": "tested with processes on CPUs alone",
        "export": "exported programs are run on CPUs alone",
    },
    "JAX": {},
    "JAX, CUDA": {"sharded": "tested with several CPU devices alone", "export": "lowered for it, never run on it"},
    "array-api-strict": {**_EAGER_ONLY, "autocast": _NO_HALF},
    "Dask": {**_EAGER_ONLY, "compiled": "the graph of {} is not compiled", "autocast": _NO_HALF},
    "cubed": {**_EAGER_ONLY, "compiled": "the plan of {} is not compiled", "autocast": _NO_HALF},
    "ndonnx": {**_EAGER_ONLY, "compiled": "the exported program is what the runtime compiles"},
    "MLX": {"sharded": "tested on one device alone"},
}
ON_GPU = ("CuPy", "PyTorch, CUDA", "JAX, CUDA")
for _row, _shown in {"Dask": ["sharded"], "cubed": ["sharded"], "ndonnx": ["export"]}.items():
    REASONS[_row] = {column: reason for column, reason in REASONS[_row].items() if column not in _shown}

Numbers = dict[tuple[str, str], float]


def render(numbers: Numbers) -> str:
    """Write the page from the largest error of each cell that was shown."""
    lines = [
        "# What works where",
        "",
        "Made by the tests (`pytest --support-page=docs/support.md`). The number is the largest error that they found,",
        "relative to the largest number expected, in the widest dtype of each setting of the library, float32 in some",
        "(in the last column it is that of a half gradient). Each no has its reason below.",
        "",
        f"| | {' | '.join(COLUMNS)} |",
        f"| --- |{' --- |' * len(COLUMNS)}",
    ]
    lines += [f"| {row} | {' | '.join(_cell(numbers.get((row, column))) for column in COLUMNS)} |" for row in REASONS]
    lines += ["", *(f"* **{column}**: {meaning}." for column, meaning in COLUMNS.items()), "", "## Why not", ""]
    lines += [line for row in REASONS for line in _reasons(row, numbers)]
    return "\n".join(lines) + "\n"


def _cell(error: float | None) -> str:
    return "no" if error is None else f"yes, {error:.0e}" if error else "yes, 0"


def _reasons(row: str, numbers: Numbers) -> list[str]:
    by_reason: dict[str, list[str]] = {}
    for column in COLUMNS:
        if (row, column) not in numbers:
            reason = REASONS[row].get(column, _UNSEEN).format(row.partition(",")[0])
            by_reason.setdefault(reason, []).append(column)
    return [f"* {row}, {', '.join(columns)}: {reason}." for reason, columns in by_reason.items()]


def shown_on(page: str) -> set[tuple[str, str]]:
    """Read from the page which cells hold a number."""
    rows = re.findall(rf"^\| ({'|'.join(REASONS)}) \| (.*) \|$", page, re.MULTILINE)
    cells = {
        (row, column): cell for row, cells in rows for column, cell in zip(COLUMNS, cells.split(" | "), strict=True)
    }
    return {key for key, cell in cells.items() if cell != "no"}
