"""Where the pixels of the arrays of a call lie in memory, in elements."""

from typing import Any

from ohemloss._layout import lay_out


def pixels(shape: tuple[int, ...], axis: int, arrays: dict[str, Any]) -> Any:
    """Lay the pixels of arrays out: three lengths, and steps, those of the classes last; or None."""
    steps = _steps(shape, axis, arrays)
    found = None if steps is None else lay_out(shape, *(to_pixel for to_pixel, _ in steps.values()))
    if steps is None or found is None:
        return None
    lengths, to_pixels = found
    joined = zip(steps.items(), to_pixels, strict=True)
    return lengths, {name: [*to_pixel, *to_class] for (name, (_, to_class)), to_pixel in joined}


def images(shape: tuple[int, ...], axis: int, n_axes: int, arrays: dict[str, Any]) -> Any:
    """
    Give the steps to the next image, row and column, those of the classes last; or None.

    The arrays agree in all axes of the pixels but the last one or two, `n_axes`: one axis makes an image of one row.
    """
    steps = _steps(shape, axis, arrays)
    found = None if steps is None else lay_out(shape[:-n_axes], *(to_pixel[:-n_axes] for to_pixel, _ in steps.values()))
    if steps is None or found is None or found[0][:2] != (1, 1):
        return None
    no_row = [0] * (2 - n_axes)
    joined = zip(steps.items(), found[1], strict=True)
    return {
        name: [to_image, *no_row, *to_pixel[-n_axes:], *to_class]
        for (name, (to_pixel, to_class)), (_, _, to_image) in joined
    }


def _steps(shape: tuple[int, ...], axis: int, arrays: dict[str, Any]) -> Any:
    """Give the steps of each array along the axes of the pixels, and along its axis of the classes if it has one."""
    if any(stride % array.itemsize for array in arrays.values() for stride in array.strides):
        return None
    steps = {}
    for name, array in arrays.items():
        to_pixel = [stride // array.itemsize for stride in array.strides]
        to_class = [to_pixel.pop(axis)] if array.ndim > len(shape) else []
        steps[name] = to_pixel, to_class
    return steps
