"""What the experiment leaves in a folder, and whether it is there already."""

import json
from importlib.util import find_spec
from pathlib import Path

from . import _files, _key
from ._plan import FULL, Plan

# By their import names; beyond what ohemloss itself needs.
_NEEDED = ("torch", "jax", "imgviz", "matplotlib", "rich")


class MissingPackages(RuntimeError):
    """Packages that the experiment needs are not installed."""


def write(folder: Path, *, cache: bool = True, plan: Plan = FULL) -> Path:
    """
    Run the experiment, and write its numbers, its pictures and its text.

    Parameters
    ----------
    folder : Path
        Where to; it is made if it is not there.
    cache : bool, optional
        Do nothing if the folder holds the results of the same sources, versions and plan. Default: True.
    plan : Plan, optional
        The settings. Default: those of the full experiment.

    Returns
    -------
    Path
        The text, in Markdown.

    Raises
    ------
    MissingPackages
        If a library that trains or draws is not installed.
    """
    key = _key.key(plan)
    if not (cache and _holds(folder, key)):
        _check_packages()
        from . import _experiment  # only here, since it imports them

        folder.mkdir(parents=True, exist_ok=True)
        _experiment.run(folder, plan, key)
    return folder / _files.TEXT


def _holds(folder: Path, key: str) -> bool:
    if not all((folder / name).is_file() for name in _files.ALL):
        return False
    try:
        found = json.loads((folder / _files.NUMBERS).read_text(encoding="utf-8"))
    except ValueError:
        return False
    return isinstance(found, dict) and found.get("key") == key


def _check_packages() -> None:
    missing = [name for name in _NEEDED if find_spec(name) is None]
    if missing:
        msg = (
            f"the experiment needs {', '.join(_NEEDED)}; not installed: {', '.join(missing)}. "
            "In a checkout, `pip install '.[cli,jax,torch]'` installs them."
        )
        raise MissingPackages(msg)
