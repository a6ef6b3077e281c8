"""Labels and photographs from image files."""

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from ._errors import CannotRunError
from ._read import check_magic, unreadable

_MAGIC = (b"\x89PNG\r\n\x1a\n",)
# Where the header of a PNG says how many bits a sample has.
_DEPTH_AT = 24
# What a grey sample of so few bits was multiplied by to fill a byte.
_SCALES = {2: 85, 4: 17}


def read_label_image(path: Path, argument: str) -> npt.NDArray[Any]:
    """Read the label of each pixel from a PNG: the index in its palette, or the grey level as it is in the file."""
    check_magic(path, argument, _MAGIC)
    try:
        with Image.open(path, formats=["PNG"]) as image:
            mode, pixels = image.mode, np.array(image)  # a copy, since not every library takes what it may not write to
    except Exception as error:  # a damaged file can raise anything
        raise unreadable(path, argument, error) from error
    if len(image.getbands()) > 1:
        msg = (
            f"`{argument}` must hold one label a pixel: {path} is a colour image ({mode}). Save the labels as a PNG in "
            "grey or with a palette, or map the colours to labels and save those as .npy."
        )
        raise CannotRunError(msg)
    if mode == "1":
        return pixels.astype(np.uint8)
    return pixels // np.uint8(_SCALES.get(_depth(path), 1)) if mode == "L" else pixels


def read_photograph(path: Path, argument: str) -> npt.NDArray[np.uint8]:
    """Read a photograph of any kind that the library for images knows, as bytes of red, green and blue."""
    try:
        with Image.open(path) as image:
            if image.mode.startswith(("I", "F")):
                msg = f"`{argument}` must have 8 bits a channel: {path} is of mode {image.mode}. Convert it first."
                raise CannotRunError(msg)
            return np.asarray(image.convert("RGB"))
    except CannotRunError:
        raise
    except Exception as error:  # a damaged file can raise anything
        raise unreadable(path, argument, error) from error


def _depth(path: Path) -> int:
    with path.open("rb") as file:
        return file.read(_DEPTH_AT + 1)[_DEPTH_AT]
