"""Fixtures: a test that takes `library` runs over the array libraries, each of which says how many rows it takes."""

import contextlib
import os
import re
from pathlib import Path

import hypothesis
import numpy as np
import pytest
from array_api_extra.testing import patch_lazy_xp_functions

from tests import _support
from tests._libraries import LIBRARIES, PACKAGES, is_installed, requested_packages

hypothesis.settings.register_profile("default", deadline=None, derandomize="CI" in os.environ)
hypothesis.settings.load_profile("default")


_PAGE = Path(__file__).parent.parent / "docs" / "support.md"
# The largest error shown for each cell of the page, by this process.
_shown: _support.Numbers = {}


def pytest_addoption(parser):
    parser.addoption("--support-page", metavar="PATH", help="write what works where, as these tests showed it")


def pytest_configure(config):
    config.addinivalue_line("markers", "rows(names, values, ids=None): parametrize a test that takes `library`")
    config.addinivalue_line("markers", "every_library: run the first row on the sampled libraries, too")
    config.addinivalue_line("markers", "only_library(*ids): run the test on these libraries alone")
    config.addinivalue_line("markers", "skip_library(*ids, reason): do not run the test on these libraries")
    config.addinivalue_line("markers", "quick: under a minute in all, with each library and each path at least once")
    config.addinivalue_line("markers", "kernels: the kernels for CUDA on a CPU; OHEMLOSS_TEST_KERNELS=1 runs them")
    requested = requested_packages()
    unknown, absent = requested - PACKAGES, {name for name in requested & PACKAGES if not is_installed(name)}
    if unknown or absent:
        msg = f"OHEMLOSS_TEST_XP names what is not {'known' if unknown else 'installed'}: {sorted(unknown or absent)}"
        raise pytest.UsageError(msg)


def pytest_generate_tests(metafunc):
    """Pair the libraries with the rows of a test, and with their dtypes if it takes `float_dtype`."""
    if "library" not in metafunc.fixturenames:
        return
    rows = metafunc.definition.get_closest_marker("rows")
    names, values = rows.args if rows else ("", [()])
    names = [name.strip() for name in names.split(",") if name]
    make_id = rows.kwargs.get("ids", _name) if rows else _name
    by_dtype = "float_dtype" in metafunc.fixturenames
    params = []
    for library, taken in _libraries_of(metafunc.definition, list(values)):
        for dtype in library.dtypes if by_dtype else [None]:
            for row in taken:
                label = [library.id, *([dtype] if by_dtype else []), *([make_id(row)] if rows else [])]
                cells = [library, *([dtype] if by_dtype else []), *([row] if len(names) == 1 else row)]
                params.append(pytest.param(*cells, id="-".join(label)))
    arguments = ["library", *(["float_dtype"] if by_dtype else []), *names]
    metafunc.parametrize(arguments, params, indirect=["library"])


def _name(row):
    """Name a row; the address of a function is another one in each process of the tests."""
    return re.sub(" at 0x[0-9a-f]+", "", getattr(row, "__name__", str(row)))


def _libraries_of(definition, rows):
    """List the libraries that run a test, each with the rows that it takes."""
    requested = requested_packages()
    only, skip = (definition.get_closest_marker(name) for name in ("only_library", "skip_library"))
    first = only is not None or definition.get_closest_marker("every_library") is not None
    for library in LIBRARIES:
        named = {library.id, library.package}
        wanted = not requested or library.package in requested
        if only is not None:
            wanted = wanted and library.id in only.args
        if skip is not None:
            wanted = wanted and not named & set(skip.args)
        taken = [row for number, row in enumerate(rows) if library.takes(number, first=first)]
        if wanted and taken and library.has_device:
            yield library, taken


@pytest.fixture
def library(request):
    """One array library in one setting."""
    library = request.param
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
    return everything and not narrowed and not config.option.collectonly and requested_packages() == PACKAGES
