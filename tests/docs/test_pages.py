"""Every example runs: in docstrings, in the README, in the documentation."""

import importlib
import os
import pkgutil
import re

import numpy as np
import numpydoc.validate
import pytest

import ohemloss
from tests import _shim

from ._pages import EXAMPLES, Page, blocks, cupy_or_stand_in, pages, run_by_ci, run_docstrings, served_quickly

MODULES = [module.name for module in pkgutil.iter_modules(ohemloss.__path__) if module.name not in ("__main__", "_cli")]
# A module of functions, each of which is looked at by itself.
FUNCTIONS = [name for name in ohemloss.__all__ if name != "recipes"]
RETURNED = ("Counts", "Cut", "Trace")


@pytest.mark.parametrize("name", [*(f"ohemloss.{name}" for name in MODULES), "ohemloss_torch._module"])
def test_docstring_examples(name):
    if name.startswith("ohemloss_torch"):
        pytest.importorskip("torch")
    assert run_docstrings(importlib.import_module(name)) == 0


# Not every name needs an example, a see-also, or an extended summary.
OPTIONAL_PARTS = {"ES01", "EX01", "SA01"}
METHODS = ["Counts.floor", "Counts.where", "OhemCELoss.explain", "Trace.hard_losses", "Trace.plot"]
METHODS += [f"{loss}.{name}" for loss in ("OhemBCELoss", "OhemCELoss") for name in ("__call__", "value_and_grad")]


@pytest.mark.parametrize("name", [*FUNCTIONS, *METHODS, *(f"recipes.{name}" for name in ohemloss.recipes.__all__)])
def test_docstrings_are_numpydoc(name):
    errors = numpydoc.validate.validate(f"ohemloss.{name}")["errors"]
    # What is returned and never made by a user documents its attributes in place of parameters.
    optional = OPTIONAL_PARTS | ({"PR01"} if name in RETURNED else set())
    assert [error for error in errors if error[0] not in optional] == []
    if name in FUNCTIONS and name not in ("Backend", *RETURNED):
        assert ">>>" in getattr(ohemloss, name).__doc__


# Of PyTorch's own compiler and exporter.
TORCH_WARNS = [
    pytest.mark.filterwarnings("ignore:`torch.jit:DeprecationWarning"),
    pytest.mark.filterwarnings("ignore:`isinstance.treespec, LeafSpec:FutureWarning"),
]
PACKAGES: tuple[str, ...] = (
    "dask",
    "distributed",
    "imgviz",
    "jax",
    "matplotlib",
    "mlx.core",
    "ndonnx",
    "onnxruntime",
    "onnxscript",
)
PACKAGES += ("optax", "torch", "typer", "zarr")
PAGES = [pytest.param(path, id=path.name, marks=TORCH_WARNS * (path.name == "pytorch.md")) for path in pages()]


@pytest.mark.parametrize("path", PAGES)
def test_every_line_of_code_runs(project, path, tmp_path, monkeypatch):
    """
    The blocks of a page run one after the other, in a folder of their own, as a reader would run them.

    `torch.compile` makes no machine code, and commands that measure take small arrays.
    """
    for package in PACKAGES:
        pytest.importorskip(package)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MPLBACKEND", "agg")
    with served_quickly(), cupy_or_stand_in(), np.printoptions():
        Page(path, tmp_path).run()


@pytest.mark.kernels
@pytest.mark.skipif(os.environ.get("OHEMLOSS_TEST_KERNELS") != "1", reason="a job of its own")
def test_the_page_of_cupy_runs_by_the_kernels(project, tmp_path):
    with _shim.serving() as shim, cupy_or_stand_in():
        Page(project / "docs" / "cupy.md", tmp_path).run()
    assert "finish" in shim.launched


def test_every_example_is_on_a_page(project):
    shown = [block.argument for path in pages() for block in blocks(path.read_text(encoding="utf-8"))]
    for example in sorted(EXAMPLES.glob("*.py")):
        assert f"examples/{example.name}" in shown


def test_what_only_ci_runs_is_short(project):
    """Commands that make environments or run all tests. Each of them is a line of the README, too."""
    assert all(re.match(r"python3 -m venv |\.venv-test/bin/python -m pip install ", line) for line in run_by_ci())
    assert 2 <= len(run_by_ci()) <= 4


class TestNoLineEscapes:
    """The tests of pages see what is wrong with one."""

    @pytest.fixture
    def run(self, tmp_path):
        def run(text):
            path = tmp_path / "page.md"
            path.write_text(text, encoding="utf-8")
            Page(path, tmp_path).run()

        return run

    def test_blocks_share_names_and_files(self, run, tmp_path, monkeypatch):
        monkeypatch.chdir(tmp_path)
        run(
            "```python\nx = 2\n```\n* in a list:\n\n  ```pycon\n  >>> x + 1\n  3\n  >>> y = x\n  ```\n"
            "```python\nwith open('a.txt', 'w') as file:\n    print(y, file=file)\n```\n"
            "```sh\ncat a.txt > b.txt\n```\n```console\n$ cat b.txt\n2\n$ echo 3; exit 1\n3\n```\n"
        )

    @pytest.mark.parametrize(
        ("text", "error", "message"),
        [
            ("```python\nassert False, 'no'\n```\n", AssertionError, "no"),
            ("```pycon\n>>> 1 + 1\n3\n```\n", AssertionError, "Got:\n    2"),
            ("```pycon\n1 + 1\n```\n", AssertionError, "page.md, line 2"),
            ("```sh\ntrue\nfalse\n```\n", AssertionError, "line 2: false"),
            ("```console\n$ echo 1\n2\n```\n", AssertionError, "Printed:\n1"),
            ("```console\necho 1\n```\n", AssertionError, "line 2"),
            ("```{literalinclude} elsewhere.py\n```\n", AssertionError, "line 2"),
            ("```{eval-rst}\n.. code-block:: python\n\n   1 / 0\n```\n", AssertionError, "code-block"),
            ("```\nx\n```\n", ValueError, "the language ''"),
            ("```text\nx\n```\n", ValueError, "the language 'text'"),
            ("```{code-block} python\nx\n```\n", ValueError, "{code-block}"),
            ("A sentence:\n\n    x = 1\n", ValueError, "line 3: code belongs into a fence"),
            ("<pre>x = 1</pre>\n", ValueError, "line 1: code belongs into a fence"),
        ],
    )
    def test_what_is_refused(self, run, text, error, message):
        with pytest.raises(error, match=re.escape(message)):
            run(text)


def test_links_of_the_pages_lead_somewhere(project):
    for page in pages():
        for target in re.findall(r"\]\(([^)#:]+)\)", page.read_text(encoding="utf-8")):
            if target.startswith("_made/"):  # by the build, which fails without it
                continue
            assert (page.parent / target).exists(), f"{page.name}: {target}"
