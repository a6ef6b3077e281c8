"""How the same numbers may lie in memory: from (N, C, H, W) and (N, H, W) to logits, labels, and the class axis."""

import numpy as np


def padded(x, axis, before, step):
    """Store an array with other entries around it, or between its entries, along an axis."""
    shape = list(x.shape)
    shape[axis] = before + shape[axis] * step + 1
    place = [slice(None)] * x.ndim
    place[axis] = slice(before, before + x.shape[axis] * step, step)
    memory = np.full(shape, 77, x.dtype)
    memory[tuple(place)] = x
    return memory[tuple(place)]


def unaligned(x):
    """Store an array at an odd address."""
    memory = np.zeros(x.nbytes + 1, np.uint8)
    view = memory[1:].view(x.dtype).reshape(x.shape)
    view[...] = x
    return view


def channels_last(x):
    """Store the classes of a pixel side by side."""
    return np.moveaxis(np.ascontiguousarray(np.moveaxis(x, 1, -1)), -1, 1)


def _rows(x):
    return np.ascontiguousarray(np.moveaxis(x, 1, -1)).reshape(-1, x.shape[1])


# Shapes and class axes: every library runs these.
SHAPES = {
    "NCHW": lambda x, y: (x, y, 1),
    "NHWC": lambda x, y: (np.ascontiguousarray(np.moveaxis(x, 1, -1)), y, -1),
    "CNHW": lambda x, y: (np.ascontiguousarray(np.moveaxis(x, 1, 0)), y, 0),
    "rows": lambda x, y: (_rows(x), y.reshape(-1), 1),
    "rows, classes last": lambda x, y: (_rows(x), y.reshape(-1), -1),
    "rows of classes": lambda x, y: (np.ascontiguousarray(_rows(x).T), y.reshape(-1), 0),
    "one pixel": lambda x, y: (x[0, :, 0, 0].copy(), np.array(1), 1),
    "one pixel, axis 0": lambda x, y: (x[0, :, 0, 0].copy(), np.array(1), 0),
    "one row": lambda x, y: (x.reshape(*x.shape[:2], -1), y.reshape(len(y), -1), 1),
    "volume": lambda x, y: (x.reshape(*x.shape[:3], 1, -1), y.reshape(*y.shape[:2], 1, -1), 1),
    "no image": lambda x, y: (x[:0], y[:0], 1),
    "no column": lambda x, y: (x[..., :0], y[..., :0], 1),
}
# Strides: those of a library that has them.
STRIDES = {
    "channels last": lambda x, y: (channels_last(x), y, 1),
    "thin volume": lambda x, y: (x[:, :, :, :1, None].copy(), y[:, :, :1, None].copy(), 1),
    "volume of rows": lambda x, y: (
        np.ascontiguousarray(x.reshape(*x.shape[:3], x.shape[3] // 2, 2).swapaxes(2, 4)),
        np.ascontiguousarray(y.reshape(*y.shape[:2], y.shape[2] // 2, 2).swapaxes(1, 3)),
        1,
    ),
    "Fortran": lambda x, y: (np.asfortranarray(x), np.asfortranarray(y), 1),
    "crop": lambda x, y: (padded(padded(x, 2, 1, 1), 3, 2, 1), padded(y, 2, 3, 1), 1),
    "rows left apart": lambda x, y: (padded(x, 2, 1, 1), y, 1),
    "reversed": lambda x, y: (np.flip(np.flip(x).copy()), np.flip(np.flip(y).copy()), 1),
    "reversed images": lambda x, y: (np.flip(np.flip(x, 0).copy(), 0), y, 1),
    "every second class": lambda x, y: (padded(x, 1, 0, 2), y, 1),
    "every second pixel": lambda x, y: (padded(x, 3, 0, 2), padded(y, 2, 1, 2), 1),
    "every second image": lambda x, y: (padded(x, 0, 1, 2), padded(y, 0, 0, 2), 1),
    "repeated images": lambda x, y: (np.broadcast_to(x[:1], x.shape), np.broadcast_to(y[:1], y.shape), 1),
    "repeated columns": lambda x, y: (np.broadcast_to(x[..., :1], x.shape), y, 1),
    "repeated classes": lambda x, y: (np.broadcast_to(x[:, :1], x.shape), y, 1),
    "unaligned": lambda x, y: (unaligned(x), y, 1),
    "rows, every second label": lambda x, y: (_rows(x), padded(y.reshape(-1), 0, 1, 2), 1),
    "rows, reversed labels": lambda x, y: (_rows(x), np.flip(np.flip(y.reshape(-1)).copy()), 1),
    "rows, repeated labels": lambda x, y: (_rows(x), np.broadcast_to(y.reshape(-1)[:1], y.size), 1),
}
LAYOUTS = SHAPES | STRIDES
# Those of logits that are resized, whose labels have another size.
RESIZED = (
    *("NHWC", "CNHW", "channels last", "crop", "every second class", "every second pixel", "Fortran", "reversed"),
    *("repeated images", "repeated columns"),
)
