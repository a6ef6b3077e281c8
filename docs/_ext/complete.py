"""Every public name, and every option of the command line, has its place in the reference."""

from dataclasses import fields
from pathlib import Path
from typing import Any

import commands
from sphinx.application import Sphinx
from sphinx.errors import SphinxError
from sphinx.util.inventory import InventoryFile

import ohemloss
from ohemloss import recipes

# What is public beside the two modules.
_OTHERS = ("ohemloss_torch.OhemCELoss",)


def public_names() -> set[str]:
    """Name all that a user may import, with the public members of classes, and the options of the commands."""
    names = {f"ohemloss.{name}" for name in ohemloss.__all__} | {f"ohemloss.recipes.{name}" for name in recipes.__all__}
    names |= {option for command in commands.command_names() for option in commands.option_names(command)}
    for name in ohemloss.__all__:
        value = getattr(ohemloss, name)
        if isinstance(value, type):
            names |= {f"ohemloss.{name}.{member}" for member in _methods(value)}
    return names | set(_OTHERS)


def _methods(cls: type) -> set[str]:
    """Name the methods and properties; fields are documented as parameters or attributes of their class."""
    described = {member for member, what in vars(cls).items() if callable(what) or isinstance(what, property)}
    return {member for member in described - {field.name for field in fields(cls)} if not member.startswith("_")}


def documented_names(inventory: Path) -> set[str]:
    """Read the names of Python objects and of options from the inventory of the built pages."""
    data = InventoryFile.loads(inventory.read_bytes(), uri="").data
    return {name for kind in data if kind.startswith("py:") or kind == "std:cmdoption" for name in data[kind]}


def _check(app: Sphinx, exception: Exception | None) -> None:
    if exception is None:
        missing = public_names() - documented_names(Path(app.outdir) / "objects.inv")
        if missing:
            msg = f"public names are missing from the reference: {', '.join(sorted(missing))}."
            raise SphinxError(msg)


def setup(app: Sphinx) -> dict[str, Any]:
    """Look at the inventory when the pages are written."""
    app.connect("build-finished", _check)
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}
