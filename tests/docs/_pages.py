"""
The code on the pages: every block of it runs, page by page, and what is displayed is what comes out.

`python` blocks are executed, `pycon` blocks are doctests, `sh` blocks are commands that must succeed, and `console`
blocks are commands with all that they print. A block of any other kind is refused, so that no line escapes.
"""

import contextlib
import doctest
import os
import re
import shutil
import subprocess
import sys
import types
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from markdown_it import MarkdownIt

from ohemloss import _registry
from tests._processes import GUARD

FLAGS = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE
ROOT = Path(__file__).parent.parent.parent
EXAMPLES = ROOT / "docs" / "examples"
# Commands that measure, and what keeps the measurement small where they are tested.
MEASUREMENTS = {"ohemloss bench": "--pixels 1"}
# What Sphinx and MyST do, and no reader runs; `{eval-rst}` holds directives of the reference alone.
INERT = ("{eval-rst}", "{figure}", "{include}", "{toctree}")
_REFERENCE = re.compile(
    r"\.\. (auto(class|function|module|summary)|command|currentmodule)::|   :(members|nosignatures):|   [\w.]+$|$"
)


@dataclass(frozen=True)
class Block:
    """A fence of a page: its language or directive, what follows that, its lines, and where it begins."""

    language: str
    argument: str
    code: str
    line: int


def pages():
    """List the pages that people read, those of the documentation and those beside it."""
    return [ROOT / "README.md", ROOT / "CHANGELOG.md", *sorted((ROOT / "docs").glob("*.md"))]


def blocks(text):
    """List the blocks of a page in their order; code that is set off in any other way is refused."""
    found = []
    for token in MarkdownIt("commonmark").parse(text):
        if token.type in ("code_block", "html_block"):
            msg = f"line {token.map[0] + 1}: code belongs into a fence with a language: got {token.content!r}"
            raise ValueError(msg)
        if token.type == "fence":
            language, _, argument = token.info.partition(" ")
            found.append(Block(language, argument.strip(), token.content, token.map[0] + 2))
    return found


class Page:
    """A page that is being run: the names and files that its blocks have made so far."""

    def __init__(self, path, folder):
        self.path, self.folder = path, folder
        self.names = {"__name__": "__main__"}
        self.by_ci = run_by_ci()

    def run(self):
        for block in blocks(self.path.read_text(encoding="utf-8")):
            runners = {"python": self._python, "pycon": self._pycon, "sh": self._sh, "console": self._console}
            runners |= {"{literalinclude}": self._example, **dict.fromkeys(INERT, self._inert)}
            if block.language not in runners:
                msg = f"{self._place(block)}: nothing runs a block of the language {block.language!r}"
                raise ValueError(msg)
            runners[block.language](block)

    def _place(self, block):
        return f"{self.path.name}, line {block.line}"

    def _python(self, block):
        # Lines as on the page, so that a traceback shows them.
        exec(compile("\n" * (block.line - 1) + block.code, str(self.path), "exec"), self.names)

    def _pycon(self, block):
        parse, name = doctest.DocTestParser().get_doctest, self.path.name
        test = parse(block.code, self.names, name, str(self.path), block.line - 1)
        assert test.examples, self._place(block)
        report = []
        runner = doctest.DocTestRunner(optionflags=FLAGS)
        assert runner.run(test, out=report.append, clear_globs=False).failed == 0, "".join(report)
        self.names.update(test.globs)

    def _sh(self, block):
        for command in block.code.splitlines():
            if command not in self.by_ci:
                smaller = [option for start, option in MEASUREMENTS.items() if command.startswith(start)]
                done = self._shell(" ".join([command, *smaller]))
                assert done.returncode == 0, f"{self._place(block)}: {command}\n{done.stdout}"

    def _console(self, block):
        for session in re.split(r"^\$ ", block.code, flags=re.MULTILINE)[1:]:
            command, _, wanted = session.partition("\n")
            done = self._shell(command)
            shown = f"{self._place(block)}: {command}\nOn the page:\n{wanted}\nPrinted:\n{done.stdout}"
            assert doctest.OutputChecker().check_output(wanted, done.stdout, FLAGS), shown
        assert block.code.startswith("$ "), self._place(block)

    def _shell(self, command):
        path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
        # One thread: the arrays are small, and threads that wait for each other would take most of the time.
        return subprocess.run(
            ["bash", "-euo", "pipefail", "-c", command],
            cwd=self.folder,
            env=os.environ | {"PATH": path, "COLUMNS": "80", "OMP_NUM_THREADS": "1"},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
            timeout=GUARD,
        )

    def _example(self, block):
        """Put an example where the commands of the page find it; what the build makes was printed by a program."""
        if block.argument.startswith("_made/"):
            return
        example = self.path.parent / block.argument
        assert example.parent == EXAMPLES, self._place(block)
        shutil.copy(example, self.folder)

    def _inert(self, block):
        if block.language == "{eval-rst}":
            for line in block.code.splitlines():
                assert _REFERENCE.match(line), f"{self._place(block)}: {line}"


def run_by_ci():
    """Read how the commands of the README begin that `.ci/run` runs, word for word."""
    patterns = re.findall(r"^run_from_readme '(.*)'", (ROOT / ".ci" / "run").read_text(encoding="utf-8"), re.MULTILINE)
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    return [line for pattern in patterns for line in readme.splitlines() if re.match(pattern, line)]


@contextlib.contextmanager
def cupy_or_stand_in():
    """Where CuPy finds no device, let NumPy stand in for it, so that the lines run at least."""
    with pytest.MonkeyPatch.context() as patch:
        if not _cupy_works():
            stand_in = types.ModuleType("cupy")
            stand_in.__dict__.update({name: getattr(np, name) for name in np.__all__})
            stand_in.__dict__["ndarray"] = type("ndarray", (), {})  # else NumPy's arrays would be taken for CuPy's
            patch.setitem(sys.modules, "cupy", stand_in)
        yield


def _cupy_works():
    try:
        import cupy

        cupy.zeros(1)
    except Exception:  # noqa: BLE001 - not installed, no driver, no device: each fails in its own way
        return False
    return True


@contextlib.contextmanager
def _forgotten_registrations():
    """Forget afterwards what an example registers."""
    with pytest.MonkeyPatch.context() as patch:
        for table in ("_by_type", "_registered"):
            patch.setattr(_registry, table, dict(getattr(_registry, table)))
        yield patch


def run_docstrings(module):
    """Run the examples of a module; count those that fail."""
    with _forgotten_registrations():
        return doctest.testmod(module, optionflags=FLAGS).failed


@contextlib.contextmanager
def served_quickly():
    """Let PyTorch trace and differentiate what a page compiles, but make no machine code of it."""
    import torch

    with _forgotten_registrations() as patch:
        patch.setattr(torch, "compile", partial(torch.compile, backend="aot_eager"))
        yield
