"""JAX: the loss, the closed form and JAX's own derivative in one program, and few programs for many rows."""

import functools
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

import ohemloss

from ._case import Case
from ._path import Answer, Call

STATIC = ("ignore_index", "label_smoothing", "reduction", "rule", "resize", "align_corners", "axis")
# Pixels that rows of options are padded to.
_PIXELS = 128
# A third less compilation. The arithmetic that a program describes stays the same.
_CHEAP = {"xla_backend_optimization_level": 0}
_CLASSES = ("1", "19 last", "65", "150 last", "more than int8 holds")
_LAYOUTS = ("NCHW", "NHWC", "CNHW", "one pixel, axis 0", "volume", "no image", "no column")
# Those of the resized rows that need a program each. `tests/jax/test_resized.py` runs more, cut into blocks.
_RESIZED = (
    *("40% hard", "3% hard", "95% hard", "empty", "nan beside ignored pixels", "5 out of range"),
    "(1, 5, 10, 12) to (11, 18), corners aligned",
)


def compiled_rows(case: Case, dtype: str) -> bool:
    """Take each kind; of rows that each need a program and differ in little, take some."""
    if case.kind == "labels":
        return case.error is not None or case.options.get("ignore_index") == np.iinfo(case.label_dtype).max
    if case.kind == "options":
        return case.options.get("ignore_index", 255) in (None, -100, 255)
    if case.kind == "rules":
        return "40% hard" not in case.name
    if case.kind == "classes":
        return case.name in _CLASSES
    if case.kind == "layouts":
        return case.layout in _LAYOUTS and dtype == "float32"
    if case.kind == "resized":
        rule = case.options.get("rule", ohemloss.MiningRule())
        weighed = {"weight", "pixel_weight", "label_smoothing", "min_kept"} & set(case.options)
        usual = bool(weighed) and rule.pool == "valid" and not {"positives", "ignore_index"} & set(case.options)
        usual = usual and case.layout in ("NCHW", "NHWC")
        return (case.name in _RESIZED and dtype != "bfloat16") or (usual and "reduction" not in case.options)
    return True


def eager_rows(case: Case, dtype: str) -> bool:
    """Take the shares of hard pixels, labels out of range, and a map."""
    if case.kind == "regimes":
        return dtype == "float32" and "larger" not in case.name
    return (case.kind == "labels" and case.error is not None) or (case.kind, case.name) == ("maps", "40% hard")


def wide_rows(case: Case, dtype: str) -> bool:
    """Take the rows whose dtypes exist with 64 bits alone, and one gradient in float32."""
    if case.kind == "labels":
        return case.name in ("int64, 9223372036854775807 ignored", "uint64, 255 ignored", "beyond 63 bits")
    return case.kind == "weights" or dtype == "float64" or (case.kind, case.name) == ("regimes", "3% hard")


# One process of the tests compiles the programs that rows share.
MARKS = (pytest.mark.xdist_group("jax"),)


def jitted(call: Call) -> list[Answer]:
    """Run all in one program. Options that may be arrays are arrays, so that rows share programs."""
    arrays: dict[str, Any] = {}
    static: dict[str, Any] = {}
    padded, is_plain = _padded(call)
    for name, option in {"thresh": 0.7, "min_kept": 1 / 16, **padded.options}.items():
        is_static = name in STATIC or option is None or callable(option)
        (static if is_static else arrays)[name] = option if is_static else np.asarray(option)
    program = _program(is_optimised=is_plain)
    answers = program(padded.x, padded.y, arrays, tuple(sorted(static.items(), key=str)))
    names = ["loss", "closed form", "compiled"]
    if call.derivative_is_nan:
        names.remove("compiled")
    return [
        (name, value, None if gradient is None else _unpadded(gradient, call))
        for name, (value, gradient) in zip(names, answers, strict=False)
    ]


@functools.cache
def _program(*, is_optimised: bool) -> Any:
    import jax

    def run(x, y, arrays, static):
        options = {**arrays, **dict(static)}
        loss = lambda x: ohemloss.ohem_cross_entropy(x, y, **options)
        if options.get("reduction") == "none":
            return [(loss(x), jax.grad(lambda x: loss(x).sum())(x))]
        return [(loss(x), None), ohemloss.value_and_grad(x, y, **options), jax.value_and_grad(loss)(x)]

    return jax.jit(run, static_argnums=3, compiler_options={} if is_optimised else _CHEAP)


def _padded(call: Call) -> tuple[Call, bool]:
    """
    Bring a call with options to a few shapes, and tell whether it has none.

    Weights of 1 stand for absent ones. Ignored pixels fill rows up where nothing depends on the number of all pixels
    or on images.
    """
    options, library = dict(call.options), call.library
    is_plain = call.y.size <= _PIXELS and not set(options) - {"axis", "resize"}
    rule = options.get("rule", ohemloss.MiningRule())
    is_one_pool = replace(rule, rank_by="loss", ties="share") == ohemloss.MiningRule()
    is_resized = options.get("resize") is not None
    if is_plain or call.is_map or not is_one_pool or str(call.x.dtype) != "float32" or "positives" in options:
        return call, is_plain
    pixels = np.broadcast_to(np.asarray(options.get("pixel_weight", np.float32(1))), call.y.shape)
    options["weight"] = np.asarray(options.get("weight", np.ones(call.x.shape[options["axis"]], np.float32)))
    if is_resized:
        return Call(library, call.x, call.y, {**options, "pixel_weight": pixels}), False
    if call.y.size > _PIXELS or options.get("ignore_index", 255) != 255:
        return call, False
    x, y = _rows(np.asarray(call.x), options["axis"]), np.asarray(call.y).ravel()
    more = _PIXELS - len(y)
    options |= {"pixel_weight": np.pad(pixels.ravel(), (0, more), constant_values=1), "axis": 1}
    x, y = np.pad(x, ((0, more), (0, 0))), np.pad(y, (0, more), constant_values=255)
    return Call(library, library.asarray(x), library.asarray(y), options), False


def _rows(x: np.ndarray, axis: int) -> np.ndarray:
    return np.moveaxis(x, axis, -1).reshape(-1, x.shape[axis])


def _unpadded(gradient: Any, call: Call) -> Any:
    if gradient.shape == call.x.shape:
        return gradient
    axis = call.options["axis"]
    shape = np.moveaxis(np.empty(call.x.shape), axis, -1).shape
    found = np.asarray(gradient)[: call.y.size].reshape(shape)
    return call.library.asarray(np.moveaxis(found, -1, axis))
