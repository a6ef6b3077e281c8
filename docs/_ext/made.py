"""What the build makes before it reads a page: pictures, tables and reports of measured numbers, in `_made`."""

import hashlib
import os
import subprocess
import sys
from collections.abc import Callable, Iterable
from importlib import metadata
from pathlib import Path
from typing import Any

import choosing
from sphinx.application import Sphinx
from sphinx.util import logging

import ohemloss
from benchmarks import experiment

_logger = logging.getLogger(__name__)
_MADE_WITH = ("imgviz", "matplotlib", "numpy")


def _make(app: Sphinx) -> None:
    folder = Path(app.srcdir) / "_made"
    folder.mkdir(exist_ok=True)
    experiment.write(folder, cache=True)
    loss = Path(ohemloss.__file__).parent.rglob("*.py")
    key = _key([Path(__file__), Path(choosing.__file__), *loss])
    _once(folder, "choosing", key, choosing.write)
    _once(folder, "check", key, _check)


def _check(folder: Path) -> None:
    """Run the check of a machine on this one."""
    command = [sys.executable, "-m", "ohemloss", "check", "--quick", "--backend", "numpy", "--html", "check.html"]
    done = subprocess.run(
        command, cwd=folder, env=os.environ | {"COLUMNS": "80"}, capture_output=True, text=True, check=True
    )
    (folder / "check.txt").write_text(done.stdout, encoding="utf-8")


def _once(folder: Path, name: str, key: str, write: Callable[[Path], None]) -> None:
    """Let `write` make its files, unless it has already with the same key."""
    kept = folder / f"{name}.key"
    if not kept.exists() or kept.read_text(encoding="utf-8") != key:
        _logger.info("making %s, some seconds ...", name)
        write(folder)
        kept.write_text(key, encoding="utf-8")  # at the end: what was interrupted is made again


def _key(sources: Iterable[Path]) -> str:
    """Give another key if a source, or a version of what computes and draws, has changed."""
    digest = hashlib.sha256()
    for path in sorted(sources):
        digest.update(path.read_bytes())
    digest.update(repr([metadata.version(name) for name in _MADE_WITH]).encode())
    return digest.hexdigest()


def setup(app: Sphinx) -> dict[str, Any]:
    """Make it before the first page is read."""
    app.connect("builder-inited", _make)
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}
