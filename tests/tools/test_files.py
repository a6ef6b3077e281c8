"""What the commands refuse alike: a file that cannot be written, a library that cannot compute, an extra that lacks."""

import math
import os
import re
import sys
from dataclasses import replace
from functools import partial

import numpy as np
import pytest

for _name in ("imgviz", "matplotlib", "rich", "typer"):
    pytest.importorskip(_name, reason="the command line needs the extra `cli`")

import ohemloss
from ohemloss import __main__ as entry
from ohemloss._cli import _bandwidth, _demo, _photograph, _read, _training
from ohemloss._cli._check import _cases, _command, _ways
from ohemloss._cli._errors import CannotRunError
from tests import _processes
from tests.tools._commands import module, raising

EXPLAIN = ("explain", "x.npy", "y.npy")
NO_ARRAY = "`stub` is installed but cannot make an array here"
# The arguments before the file, whether it is a picture, and what begins the work.
FILES = {
    "demo": (("demo", "--out"), True, (_demo, "choose")),
    "bench": (("bench", "--pixels", "64", "--classes", "2", "--plot"), True, (_bandwidth, "measure")),
    "check-json": (("check", "--backend", "numpy", "--json"), False, (_command, "find")),
    "check-html": (("check", "--backend", "numpy", "--html"), False, (_command, "find")),
    "explain": ((*EXPLAIN, "--plot"), True, (_read, "read_array")),
}


@pytest.fixture
def short(invoke, on_numpy, monkeypatch):
    """Shorten the work of each command."""
    np.save("x.npy", np.zeros((1, 2, 3), np.float32))
    np.save("y.npy", np.zeros((1, 3), np.int64))
    photograph = _photograph.load()
    small = replace(photograph, image=photograph.image[::8, ::8], labels=photograph.labels[::8, ::8])
    monkeypatch.setattr(_photograph, "load", lambda: small)
    monkeypatch.setattr(_training, "Plan", partial(_training.Plan, steps=1, seconds=math.inf))
    monkeypatch.setattr(_bandwidth, "_BYTES", 2**20)
    monkeypatch.setattr(_ways, "cases", lambda dtype: _cases.cases(dtype)[:1])


@pytest.mark.parametrize("path", ["absent/a.png", "file/a.png", "folder.png", "a.jpg", "."])
@pytest.mark.parametrize("name", FILES)
def test_file_that_cannot_be_written(name, path, refused, monkeypatch, tmp_path):
    """It is known before anything is computed."""
    command, is_picture, work = FILES[name]
    (tmp_path / "file").touch()
    (tmp_path / ("folder.png" if path == "folder.png" else "a.jpg")).mkdir()
    monkeypatch.setattr(*work, pytest.fail)
    sentence = refused(*command, path)
    if is_picture and not path.endswith(".png"):
        assert sentence == f"`{command[-1]}` must name a .png file: got {path}."
    else:
        assert re.fullmatch(rf"`{command[-1]}` cannot be written: {re.escape(path)}: [A-Z][\w ]+\.", sentence)


@pytest.mark.usefixtures("short")
@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs a full device")
@pytest.mark.parametrize("name", FILES)
def test_full_disk(name, invoke, tmp_path):
    """What was computed is shown all the same."""
    command, *_ = FILES[name]
    (tmp_path / "a.png").symlink_to("/dev/full")
    result = invoke(*command, "a.png")
    assert result.exit_code == 2
    sentence = f"`{command[-1]}` cannot be written: a.png: No space left on device."
    assert result.stderr == f"ohemloss {command[0]}: {sentence}\n"
    assert bool(result.stdout) == (name != "explain")


@pytest.mark.usefixtures("on_numpy")
@pytest.mark.parametrize("name", FILES)
def test_file_of_an_earlier_run_stays(name, invoke, monkeypatch, tmp_path):
    """No file is left by a command that cannot run, and none is lost."""
    command, _, work = FILES[name]
    monkeypatch.setattr(*work, raising(CannotRunError("stopped.")))
    (tmp_path / "a.png").write_bytes(b"earlier")
    for path in ("a.png", "b.png"):
        result = invoke(*command, path)
        assert (result.exit_code, result.stderr) == (2, f"ohemloss {command[0]}: stopped.\n")
    assert [path.name for path in tmp_path.iterdir()] == ["a.png"]
    assert (tmp_path / "a.png").read_bytes() == b"earlier"


# ------------------------------------------------------------------------------------------------------ the libraries


@pytest.mark.parametrize("command", [("demo",), ("check", "--json", "a.json"), EXPLAIN])
def test_library_that_is_not_installed(command, refused, tmp_path):
    sentence = refused(*command, "--backend", "no_such.library")
    assert sentence.startswith("`no_such.library` cannot be used: `no_such` is not installed. Install it, or choose ")
    assert not list(tmp_path.iterdir())


def test_extra_that_is_no_backend(refused):
    assert "ohemloss[cli]" not in refused("demo", "--backend", "cli")


class _Unreadable:
    __array__ = raising(RuntimeError("lazy"))


@pytest.mark.parametrize(
    ("names", "sentence"),
    [
        ({}, "`stub` is no array API namespace: it has no `asarray`."),
        ({"asarray": list}, "`stub` is no array API namespace: its `asarray` makes a list."),
        ({"asarray": raising(RuntimeError("no driver\nand more"))}, f"{NO_ARRAY}: RuntimeError: no driver"),
        ({"asarray": raising(RuntimeError())}, f"{NO_ARRAY}: RuntimeError."),
        ({"asarray": raising(AttributeError("x"))}, f"{NO_ARRAY}: AttributeError: x"),
        ({"asarray": lambda x: _Unreadable()}, f"{NO_ARRAY}: RuntimeError: lazy"),
        ({"asarray": lambda x: object()}, f"{NO_ARRAY}: TypeError: cannot read the values of `object`"),
    ],
)
def test_library_that_cannot_make_an_array(names, sentence, refused, monkeypatch):
    monkeypatch.setitem(sys.modules, "stub", module("stub", **names))
    found = refused("demo", "--backend", "stub")
    assert found.startswith(sentence)
    assert "and more" not in found


@pytest.mark.parametrize("name", ["", ".relative"])
def test_name_that_cannot_be_imported(name, refused):
    assert refused("demo", "--backend", name).startswith(f"`{name}` cannot be imported: ")


# ---------------------------------------------------------------------------------------------------- the program


def test_extra_that_is_not_installed(tmp_path):
    """In a process of its own, which forgets the command line after each run."""
    code = f"""
    import contextlib, io, json, sys
    from ohemloss.__main__ import main
    sys.argv, outcomes = ["ohemloss", "demo", "--out", {str(tmp_path / "a.png")!r}], []
    for name in ("imgviz", "matplotlib", "rich", "typer"):
        sys.modules[name] = None
        with contextlib.redirect_stderr(io.StringIO()) as err, contextlib.redirect_stdout(io.StringIO()) as out:
            try:
                main()
            except SystemExit as end:
                outcomes.append([name, end.code, out.getvalue(), err.getvalue()])
        for module in [name, *(name for name in sys.modules if name.startswith("ohemloss._cli"))]:
            del sys.modules[module]
    print(json.dumps(outcomes))
    """
    outcomes = _processes.run(code, PYTHONWARNINGS="error")
    assert [name for name, *_ in outcomes] == ["imgviz", "matplotlib", "rich", "typer"]
    for name, *outcome in outcomes:
        message = f"The command line needs `{name}`, which is not installed: install `ohemloss[cli]`.\n"
        assert outcome == [2, "", message]


def test_other_missing_modules_are_not_hidden(monkeypatch):
    monkeypatch.setitem(sys.modules, "ohemloss._cli._app", None)
    with pytest.raises(ModuleNotFoundError, match="_app"):
        entry.main()


def test_version(invoke):
    result = invoke("--version")
    assert (result.exit_code, result.stdout) == (0, f"ohemloss {ohemloss.__version__}\n")


def test_no_command(invoke):
    result = invoke()
    assert result.exit_code == 2
    assert "demo" in result.output
