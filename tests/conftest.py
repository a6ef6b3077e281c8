"""Fixtures: every test that takes `library` or `xp` runs over every array library."""

import contextlib
import os
from pathlib import Path

import hypothesis
import numpy as np
import pytest
from array_api_extra.testing import patch_lazy_xp_functions

from tests import _support
from tests._libraries import CUBED, LIBRARIES, PACKAGES, is_installed, requested_packages

hypothesis.settings.register_profile("default", deadline=None, derandomize="CI" in os.environ)
hypothesis.settings.load_profile("default")


_PAGE = Path(__file__).parent.parent / "docs" / "support.md"
# The largest error shown for each cell of the page, by this process.
_shown: _support.Numbers = {}


def pytest_addoption(parser):
    parser.addoption("--support-page", metavar="PATH", help="write what works where, as these tests showed it")


def pytest_configure(config):
    config.addinivalue_line("markers", "only_library(*ids): run the test on these libraries alone")
    config.addinivalue_line("markers", "skip_library(*ids, reason): do not run the test on these libraries")
    config.addinivalue_line("markers", "quick: under a minute in all, with each library and each path at least once")
    config.addinivalue_line("markers", "kernels: the kernels for CUDA on a CPU; OHEMLOSS_TEST_KERNELS=1 runs them")
    config.addinivalue_line("markers", "xfail_library(*ids, reason): the test must fail on these libraries")
    requested = requested_packages()
    unknown, absent = requested - PACKAGES, {name for name in requested & PACKAGES if not is_installed(name)}
    if unknown or absent:
        msg = f"OHEMLOSS_TEST_XP names what is not {'known' if unknown else 'installed'}: {sorted(unknown or absent)}"
        raise pytest.UsageError(msg)


def pytest_generate_tests(metafunc):
    """Spread `library` and `any_library` over the libraries; pair `float_dtype` with those that a library has."""
    requested = requested_packages()
    names = metafunc.fixturenames
    for name, libraries in {"library": LIBRARIES, "any_library": [*LIBRARIES, CUBED]}.items():
        only = metafunc.definition.get_closest_marker("only_library")
        chosen = [library for library in libraries if not requested or library.package in requested]
        chosen = [library for library in chosen if only is None or library.id in only.args]
        chosen = [library for library in chosen if library.has_device]
        if name in names and "float_dtype" in names:
            pairs = [(library, dtype) for library in chosen for dtype in library.floats]
            params = [pytest.param(library, dtype, id=f"{library.id}-{dtype}") for library, dtype in pairs]
            metafunc.parametrize((name, "float_dtype"), params, indirect=[name])
        elif name in names:
            params = [pytest.param(library, id=library.id) for library in chosen]
            metafunc.parametrize(name, params, indirect=True)


@pytest.fixture
def library(request):
    """One array library in one setting."""
    yield from _serve(request, request.param)


@pytest.fixture
def any_library(request):
    """Like `library`, and also those that are too slow for more than a few calls."""
    yield from _serve(request, request.param)


@pytest.fixture
def xp(library):
    """The namespace of `library`."""
    return library.xp


def _serve(request, library):
    for marker in request.node.iter_markers("skip_library"):
        if library.id in marker.args or library.package in marker.args:
            pytest.skip(f"{library.id}: {marker.kwargs['reason']}")
    for marker in request.node.iter_markers("xfail_library"):
        if library.id in marker.args or library.package in marker.args:
            request.node.add_marker(pytest.mark.xfail(reason=marker.kwargs["reason"], strict=True))
    if not is_installed(library.package):
        pytest.skip(f"{library.package} is not installed")
    with contextlib.ExitStack() as stack:
        stack.enter_context(library.setting())
        if library.traced or library.package == "dask":
            # Under JAX the functions that a test module names run jitted; under Dask they may not compute.
            stack.enter_context(patch_lazy_xp_functions(request, xp=library.xp))
        yield library


@pytest.fixture
def project():
    """The folder of the sources; the tests of them skip where only the wheel is."""
    folder = Path(__file__).parent.parent
    if not (folder / "pyproject.toml").exists():
        pytest.skip("the sources are not here")
    return folder


@pytest.fixture
def shows(request):
    """Compare a number, and show by it that a cell of the page of what works where is filled."""

    def compare(row, column, actual, expected, *, rtol=0.0, atol=0.0):
        assert row in _support.REASONS
        assert column in _support.COLUMNS
        actual, expected = np.asarray(actual, np.float64), np.asarray(expected, np.float64)
        assert actual.shape == expected.shape
        np.testing.assert_allclose(actual, expected, rtol=rtol, atol=atol)
        assert np.any(expected), "a number that shows something is not 0"
        error = float(np.max(np.abs(actual - expected)) / np.max(np.abs(expected)))
        request.node.user_properties.append(("shows", [row, column, error]))

    return compare


def pytest_runtest_logreport(report):
    """Collect, in the process that hears of all tests, what those that passed have shown."""
    if report.when == "call" and report.passed:
        for name, value in report.user_properties:
            if name == "shows":
                row, column, error = value
                _shown[row, column] = max(error, _shown.get((row, column), 0.0))


def pytest_sessionfinish(session):
    """Write the page, or after a run of everything compare it with what the tests showed."""
    config = session.config
    if hasattr(config, "workerinput"):
        return
    target = config.getoption("--support-page")
    if target:
        Path(target).write_text(_support.render(_shown), encoding="utf-8")
    elif _PAGE.exists() and _ran_everything(config) and not session.testsfailed:
        # The rows of a GPU stay as they were where there is none.
        said, showed = (
            {cell for cell in cells if cell[0] not in _support.ON_GPU}
            for cells in (_support.shown_on(_PAGE.read_text(encoding="utf-8")), _shown)
        )
        if said != showed:
            config.get_terminal_writer().line(
                f"docs/support.md says what no test showed, {sorted(said - showed)}, or does not say what tests "
                f"showed, {sorted(showed - said)}. Run pytest --support-page=docs/support.md."
            )
            session.exitstatus = pytest.ExitCode.TESTS_FAILED


def _ran_everything(config):
    everything = config.args == config.getini("testpaths") or config.args == [str(_PAGE.parent.parent / "tests")]
    narrowed = config.getoption("-k") or config.getoption("-m") or config.getoption("--deselect")
    return everything and not narrowed and requested_packages() == PACKAGES
