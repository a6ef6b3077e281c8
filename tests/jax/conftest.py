"""Fixtures of the tests of JAX."""

import pytest

from tests._libraries import LIBRARIES

DEVICES = {library.device or "cpu" for library in LIBRARIES if library.package == "jax" and library.has_device}


@pytest.fixture
def double():
    """Test in float64."""
    import jax

    with jax.enable_x64(True):
        yield


@pytest.fixture(params=sorted(DEVICES))
def row(request):
    """The row of the page; the test runs on that device."""
    import jax

    with jax.default_device(jax.devices(request.param)[0]):
        yield "JAX" if request.param == "cpu" else "JAX, CUDA"


@pytest.fixture
def platform(request, monkeypatch):
    """Compute in the way of a platform, here."""
    import jax

    way = lambda *x, **ways: ways.get(request.param, ways["default"])(*x)
    monkeypatch.setattr(jax.lax, "platform_dependent", way)
    jax.clear_caches()  # of programs of the platform that is here
    yield request.param
    jax.clear_caches()


@pytest.fixture(scope="class")
def many_blocks():
    """Cut into blocks of a few rows, which so small logits do not need."""
    import jax

    from ohemloss_jax import _resized

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(_resized, "_ON_CPU", 200)
        patch.setattr(_resized, "_ELSEWHERE", 400)
        jax.clear_caches()  # of programs with larger blocks
        yield
        jax.clear_caches()
