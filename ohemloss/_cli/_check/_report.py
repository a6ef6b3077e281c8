"""What a run found."""

import math
from dataclasses import dataclass, field
from typing import TypeAlias

# Library, device, dtype and way.
Key: TypeAlias = tuple[str, str, str, str]


@dataclass(frozen=True, kw_only=True)
class Cell:
    """One case in one row."""

    case: str
    passed: bool
    cause: str = ""
    value: float = math.nan
    value_bits: str = ""
    gradient_hash: str | None = None
    value_error: float = math.inf
    gradient_error: float | None = None
    repeats: bool = True
    seconds: tuple[float, ...] = ()

    def error(self, what: str) -> float:
        """Give the error of the "value" or of the "gradient"; -1 if the way gives none."""
        error = self.value_error if what == "value" else self.gradient_error
        return -1.0 if error is None else error


@dataclass(frozen=True, kw_only=True)
class Row:
    """All cases of one library, device, dtype and way."""

    library: str
    device: str
    dtype: str
    way: str
    seconds: float
    cells: list[Cell]

    @property
    def key(self) -> Key:
        """What tells it from the others."""
        return self.library, self.device, self.dtype, self.way

    @property
    def passed(self) -> bool:
        """Whether each case did."""
        return all(cell.passed for cell in self.cells)

    @property
    def repeats(self) -> bool:
        """Whether a second call of each case gave the same bits."""
        return all(cell.repeats for cell in self.cells)

    def worst(self, what: str) -> Cell | None:
        """Give the cell with the largest error of the "value" or of the "gradient"; None if no cell has one."""
        having = [cell for cell in self.cells if cell.error(what) >= 0 and not cell.cause]
        return max(having, key=lambda cell: cell.error(what), default=None)


@dataclass(frozen=True, kw_only=True)
class Device:
    """A device of a library, or several that each array is spread over."""

    label: str
    model: str
    n_devices: int = 1
    dtypes: list[str] = field(default_factory=list)
    absent: dict[str, str] = field(default_factory=dict)
    cause: str = ""


@dataclass(frozen=True, kw_only=True)
class Library:
    """A library, and why it was not checked if it was not."""

    name: str
    status: str
    cause: str = ""
    failed: bool = False
    versions: dict[str, str] = field(default_factory=dict)
    devices: list[Device] = field(default_factory=list)


@dataclass(frozen=True, kw_only=True)
class Report:
    """Everything that a run found."""

    passed: bool
    when: str
    seconds: float
    fingerprint: str
    about: dict[str, str]
    versions: dict[str, str]
    machine: dict[str, str]
    tolerance: dict[str, dict[str, float]]
    libraries: list[Library]
    rows: list[Row]
