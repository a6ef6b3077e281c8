"""Every example runs: in docstrings, in the README, in the documentation."""

import doctest
import importlib
import pkgutil
import re

import numpydoc.validate
import pytest

import ohemloss

FLAGS = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE


def forget_registrations(monkeypatch):
    """Undo after the test what an example registers."""
    for table in ("_by_type", "_registered"):
        monkeypatch.setattr(ohemloss._registry, table, dict(getattr(ohemloss._registry, table)))


def modules_with_examples():
    names = [
        f"ohemloss.{m.name}" for m in pkgutil.iter_modules(ohemloss.__path__) if m.name not in ("__main__", "_cli")
    ]
    return [*names, "ohemloss_torch._module"]


# A module of functions, each of which is looked at by itself.
FUNCTIONS = [name for name in ohemloss.__all__ if name != "recipes"]
RETURNED = ("Counts", "Cut", "Trace")


@pytest.mark.parametrize("name", modules_with_examples())
def test_docstring_examples(name, monkeypatch):
    if name.startswith("ohemloss_torch"):
        pytest.importorskip("torch")
    forget_registrations(monkeypatch)
    result = doctest.testmod(importlib.import_module(name), optionflags=FLAGS)
    assert result.failed == 0


@pytest.mark.parametrize("name", [n for n in FUNCTIONS if n not in ("Backend", *RETURNED)])
def test_public_functions_have_an_example(name):
    assert ">>>" in getattr(ohemloss, name).__doc__


# Not every name needs an example, a see-also, or an extended summary.
OPTIONAL_PARTS = {"ES01", "EX01", "SA01"}
METHODS = [
    "Counts.floor",
    "Counts.where",
    "OhemBCELoss.__call__",
    "OhemBCELoss.value_and_grad",
    "OhemCELoss.explain",
    "OhemCELoss.value_and_grad",
    "OhemCELoss.__call__",
    "Trace.hard_losses",
]


@pytest.mark.parametrize("name", [*FUNCTIONS, *METHODS, *(f"recipes.{name}" for name in ohemloss.recipes.__all__)])
def test_docstrings_are_numpydoc(name):
    errors = numpydoc.validate.validate(f"ohemloss.{name}")["errors"]
    # What is returned and never made by a user documents its attributes in place of parameters.
    optional = OPTIONAL_PARTS | ({"PR01"} if name in RETURNED else set())
    assert [error for error in errors if error[0] not in optional] == []


def python_blocks(path):
    return re.findall(r"^```python\n(.*?)^```", path.read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE)


@pytest.mark.parametrize(
    "page", ["README.md", "docs/design.md", "docs/faq.md", "docs/performance.md", "docs/recipes.md"]
)
def test_code_blocks(project, page, monkeypatch, capsys):
    """The blocks of a page run one after the other, as a reader would run them."""
    for package in ("torch", "jax", "ndonnx"):
        pytest.importorskip(package)
    forget_registrations(monkeypatch)
    names = {}
    for block in python_blocks(project / page):
        exec(compile(block, f"{page}", "exec"), names)


def test_the_readme_has_code(project):
    assert len(python_blocks(project / "README.md")) >= 2


def test_links_of_the_pages_lead_somewhere(project):
    for page in [project / "README.md", project / "CHANGELOG.md", *sorted((project / "docs").glob("*.md"))]:
        for target in re.findall(r"\]\(([^)#:]+)\)", page.read_text(encoding="utf-8")):
            assert (page.parent / target).exists(), f"{page.name}: {target}"
