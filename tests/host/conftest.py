"""Fixtures: each worker, and small calls cut into many chunks."""

import pytest

pytest.importorskip("ohemloss_numpy")
from ohemloss import _composite

from ._workers import WORKERS, cut, serving


@pytest.fixture(params=WORKERS)
def worker(request, monkeypatch):
    """Each worker; a call that neither serves fails."""
    for name in ("loss", "value_and_grad", "run_steps"):
        monkeypatch.setattr(_composite, name, lambda *_: pytest.fail("served by the composite"))
    with serving(request.param):
        yield request.param


@pytest.fixture
def cut_small(monkeypatch):
    """Cut small arrays into many blocks and chunks, and give them to several threads."""
    cut(monkeypatch)
