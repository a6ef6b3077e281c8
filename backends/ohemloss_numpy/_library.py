"""What NumPy knows of its arrays."""

import numpy as np


def objection(array: np.ndarray) -> str | None:
    """Object to a masked array: half of NumPy heeds the mask, and half does not."""
    if isinstance(array, np.ma.MaskedArray):
        return "got a MaskedArray. Pass `.filled(ignore_index)` of labels, or `.data` and a mask as `where`."
    return None
