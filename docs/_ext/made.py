"""The report of `ohemloss check` on the machine that builds the pages, in `_made`."""

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from sphinx.application import Sphinx


def _make(app: Sphinx) -> None:
    folder = Path(app.srcdir) / "_made"
    folder.mkdir(exist_ok=True)
    command = [sys.executable, "-m", "ohemloss", "check", "--quick", "--backend", "numpy", "--html", "check.html"]
    done = subprocess.run(
        command, cwd=folder, env=os.environ | {"COLUMNS": "80"}, capture_output=True, text=True, check=True
    )
    (folder / "check.txt").write_text(done.stdout, encoding="utf-8")


def setup(app: Sphinx) -> dict[str, Any]:
    """Run the check before the first page is read."""
    app.connect("builder-inited", _make)
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}
