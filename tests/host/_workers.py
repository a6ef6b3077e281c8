"""The two workers of the path in host memory, and what a call must give, with the memory layouts as they are."""

import contextlib

import numpy as np
import pytest

import ohemloss
from ohemloss_numpy import _grid, _host, _machine, _resized
from tests._cases import wide
from tests._libraries import machine_from
from tests.conformance._case import Case

NEVER = 2**62
# From how many logits machine code serves a call.
WORKERS = {"blocks": NEVER, "machine code": 0}


@contextlib.contextmanager
def serving(worker):
    """Let one worker serve calls of any size; skip without the machine code."""
    with machine_from(0) if worker == "machine code" else pytest.MonkeyPatch.context() as patch:
        if patch is not None:
            patch.setattr(_machine, "FROM", NEVER)
        yield


def cut(patch, *, chunk=90, block=30, threads=3):
    """Make chunks and blocks of about so many pixels of five classes, and give them to several threads."""
    patch.setattr(_grid, "BLOCK", 5 * block)
    patch.setattr(_grid, "CHUNK", chunk)
    patch.setattr(_machine, "_CHUNK", 5 * chunk)
    patch.setattr(_resized, "_PIXELS", block)
    patch.setattr(_host, "_PER_THREAD", 1)
    patch.setenv("OHEMLOSS_NUM_THREADS", str(threads))


def check(logits, labels, **options):
    """Compare value and gradient with the oracle, where each floating-point warning is an error."""
    case, dtype, gradient = Case("host", "a call", logits, labels, options), str(logits.dtype), None
    with np.errstate(all="raise"):
        value = ohemloss.ohem_cross_entropy(logits, labels, **options)
        if options.get("reduction") != "none":
            both, gradient = ohemloss.value_and_grad(logits, labels, **options)
            np.testing.assert_array_equal(value, both)
    assert value.dtype == wide(dtype)
    np.testing.assert_allclose(value, case.expected.value, **case.value_tolerance(dtype))
    if gradient is not None:
        assert (gradient.dtype, gradient.shape) == (logits.dtype, logits.shape)
        np.testing.assert_allclose(gradient, case.expected.gradient, **case.gradient_tolerance(dtype))
    return gradient


def bits(*arrays):
    """Give the bytes of arrays."""
    return b"".join(array.tobytes() for array in arrays)
