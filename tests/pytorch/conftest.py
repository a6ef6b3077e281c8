"""Tensors on each device that is there."""

import pytest

from tests._libraries import LIBRARIES

DEVICES = {library.device or "cpu" for library in LIBRARIES if library.package == "torch" and library.has_device}


@pytest.fixture(params=sorted(DEVICES))
def device(request):
    return request.param


@pytest.fixture
def row(device):
    """The row of the page of what works where."""
    return "PyTorch" if device == "cpu" else "PyTorch, CUDA"
