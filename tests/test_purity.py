"""The core knows no framework: not by import, not by name."""

import os
import subprocess
import sys
import tokenize
from pathlib import Path

import pytest

import ohemloss

FRAMEWORKS = {"cubed", "cupy", "dask", "jax", "jaxlib", "mlx", "ndonnx", "tensorflow", "torch"}
CLI = {"imgviz", "matplotlib", "rich", "typer"}
CORE = Path(ohemloss.__file__).parent


def imported_by(code):
    """List the root modules that a fresh interpreter has after running code."""
    probe = f"import sys\n{code}\nprint(*{{name.partition('.')[0] for name in sys.modules}})"
    done = subprocess.run([sys.executable, "-c", probe], capture_output=True, text=True, check=True, cwd=os.sep)
    return set(done.stdout.split())


def test_import_loads_no_framework():
    assert not imported_by("import ohemloss") & (FRAMEWORKS | CLI | {"numpy"})


def test_using_one_library_loads_no_other():
    code = "import numpy, ohemloss\nohemloss.ohem_cross_entropy(numpy.zeros((1, 2)), numpy.zeros(1, int))"
    assert not imported_by(code) & (FRAMEWORKS | CLI)


def test_the_test_can_fail():
    """The probe sees a framework where one is imported."""
    pytest.importorskip("dask")
    assert "dask" in imported_by("import ohemloss, dask")


def names_in(path):
    """Yield each word of a file that is a name or stands in a string or comment, with its line."""
    with path.open("rb") as file:
        for token in tokenize.tokenize(file.readline):
            if token.type in (tokenize.NAME, tokenize.STRING, tokenize.COMMENT):
                for word in "".join(c if c.isalnum() else " " for c in token.string.lower()).split():
                    yield token.start[0], word


def names_of_frameworks(folder):
    """Find the frameworks named in the code, comments and docstrings of a folder."""
    found = []
    for path in sorted(folder.rglob("*.py")):
        words = {(line, word) for line, word in names_in(path) if any(name in word for name in FRAMEWORKS | {"numpy"})}
        found += [(path.relative_to(folder).as_posix(), line, word) for line, word in sorted(words)]
    return found


# The language of pictures, and the default of `--backend`.
ALLOWED_IN_DRAWING = ALLOWED_IN_CLI = {"numpy"}  # prose: NumPy
# Repositories that a recipe is from, and that are called after a framework.
ALLOWED_IN_RECIPES = {"ptsemseg", "pytorch", "tensorflow", "torch", "torchseg", "torchvision"}


def test_no_framework_is_named():
    found = names_of_frameworks(CORE)
    allowed = {"_cli": ALLOWED_IN_CLI, "_drawing": ALLOWED_IN_DRAWING, "recipes": ALLOWED_IN_RECIPES}
    outside = [place for place in found if place[2] not in allowed.get(place[0].partition("/")[0], ())]
    assert outside == []


def test_the_search_for_names_can_fail(tmp_path):
    (tmp_path / "module.py").write_text("def f():\n    # not even here: torch\n    return 'array_api_compat.numpy'\n")
    assert names_of_frameworks(tmp_path) == [("module.py", 2, "torch"), ("module.py", 3, "numpy")]
