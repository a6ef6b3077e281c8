"""One device of a library: which dtypes it has, and how arrays are made on it and read."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from ..._drawing._host import to_numpy
from ..._dtypes import name_of
from ..._probe import Place
from ..._typing import Array, Namespace
from .._library import cause
from ._case import MIN_KEPT, THRESH, Case
from ._cases import FLOATS
from ._units import COMPUTED_IN


@dataclass(frozen=True)
class Site:
    """A namespace and one of its devices, or several at once."""

    xp: Namespace
    place: Place

    def array(self, values: npt.NDArray[Any] | float, dtype: str) -> Array:
        """Make an array of a dtype by its name, also one that NumPy lacks; the numbers are such that it holds them."""
        host = np.asarray(values, dtype=np.float32 if dtype == "bfloat16" else dtype)
        beside = {} if self.place.device is None else {"device": self.place.device}
        made = self.xp.asarray(host, **beside)
        made = self.xp.astype(made, self.xp.bfloat16) if dtype == "bfloat16" else made
        return made if self.place.spread is None else self.place.spread(made)

    def why_not(self, dtype: str) -> str | None:
        """Ask for a dtype and look at what comes back; None if it is there."""
        if not hasattr(self.xp, dtype):
            return "the library does not name it"
        try:
            made = self.array(np.ones(1), dtype)
            to_numpy(self.xp.astype(made, self.xp.float32))  # a lazy library makes nothing before
        except Exception as error:  # noqa: BLE001  (each library refuses in its own way)
            return cause(error)
        found = name_of(self.xp, made.dtype)
        return None if found == dtype else f"asked for, it comes back as {found or made.dtype}"

    def arguments(self, case: Case, dtype: str) -> dict[str, Array]:
        """
        Make the arguments of a call.

        Options that are not at their default come as arrays, so that a library that compiles has few programs to make.
        """
        computed = COMPUTED_IN[dtype]
        made = {"logits": self.array(case.logits, dtype), "labels": self.array(case.labels, "int32")}
        for name in ("weight", "pixel_weight"):
            given = getattr(case, name)
            made |= {} if given is None else {name: self.array(given, computed)}
        if (case.thresh, case.min_kept) != (THRESH, MIN_KEPT):
            made |= {"thresh": self.array(case.thresh, computed), "min_kept": self.array(case.min_kept, "int32")}
        return made

    def read(self, array: Array, dtype: str) -> npt.NDArray[Any]:
        """Bring an array to NumPy, bfloat16 as float32; TypeError if it has another dtype than it should."""
        found = name_of(self.xp, array.dtype)
        if found != dtype:
            msg = f"the result has dtype {found or array.dtype}, and not {dtype}"
            raise TypeError(msg)
        return to_numpy(self.xp.astype(array, self.xp.float32) if dtype == "bfloat16" else array)


def floats(site: Site) -> tuple[list[str], dict[str, str]]:
    """Name the floating dtypes that a device has, and say of the others why not."""
    answers = {dtype: site.why_not(dtype) for dtype in FLOATS}
    there = [dtype for dtype, reason in answers.items() if reason is None]
    return there, {dtype: reason for dtype, reason in answers.items() if reason is not None}
