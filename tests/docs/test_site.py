"""What the build of the documentation refuses: on a site of one page, with the extensions of the real one."""

import importlib
import os
import re
import subprocess
import sys
from typing import Any

import pytest

pytest.importorskip("sphinx")
pytest.importorskip("typer", reason="the reference describes the command line")

CONF = "extensions = {extensions}\nhtml_math_renderer = 'mathml'\n"


@pytest.fixture
def extensions(project):
    return project / "docs" / "_ext"


@pytest.fixture
def python(extensions, tmp_path):
    """Run Python where the extensions can be imported."""
    environment = os.environ | {"PYTHONPATH": str(extensions)}
    options: dict[str, Any] = {"cwd": tmp_path, "env": environment, "capture_output": True, "text": True}
    return lambda *arguments: subprocess.run([sys.executable, *arguments], check=False, **options)


@pytest.fixture
def build(python, tmp_path):
    """Build a site of one page; give the exit status, what was said, and the page."""

    def build(text, *names):
        (tmp_path / "conf.py").write_text(CONF.format(extensions=[*names]), encoding="utf-8")
        (tmp_path / "index.rst").write_text(f"Page\n====\n\n{text}\n", encoding="utf-8")
        done = python("-m", "sphinx", "-W", "-q", "-b", "html", ".", "out")
        page = tmp_path / "out" / "index.html"
        return done.returncode, done.stderr, page.read_text(encoding="utf-8") if page.exists() else ""

    return build


def test_formulas_are_mathml(build):
    status, said, page = build("Inline :math:`x_i`.\n\n.. math:: \\frac{1}{n} \\sum_i x_i", "mathml", "offline")
    assert (status, said) == (0, "")
    assert page.count("<math") == 2
    assert "<mfrac>" in page


ABSENT = ["ohemloss.Trace.plot", "ohemloss.recipes.hrnet", "ohemloss_torch.OhemCELoss", "ohemloss-demo.--out"]
SCRIPT = '.. raw:: html\n\n   <script src="https://example.org/a.js"></script>'


@pytest.mark.parametrize(
    ("text", "names", "messages"),
    [
        (":math:`\\nothing`", ["mathml"], ["no MathML for"]),
        (SCRIPT, ["mathml", "offline"], ["index.html: https://example.org/a.js"]),
        (".. autofunction:: ohemloss.explain", ["mathml", "sphinx.ext.autodoc", "numpydoc", "complete"], ABSENT),
    ],
    ids=["a formula that is none", "loads something from elsewhere", "a reference without all names"],
)
def test_what_is_refused(build, text, names, messages):
    status, said, _ = build(text, *names)
    assert status != 0
    assert all(message in said for message in messages)
    assert "ohemloss.explain," not in said


def test_commands_are_described_by_the_program(build):
    status, said, page = build(".. command:: explain", "mathml", "commands")
    assert (status, said) == (0, "")
    text = " ".join(re.sub("<[^>]*>", "", page).split())
    assert "ohemloss explain [OPTIONS] LOGITS LABELS" in text
    assert re.search(r"--min-kept K¶? .*? Default: 0\.0625", text)


@pytest.mark.parametrize(
    ("text", "elsewhere"),
    [
        ('<img src="//example.org/a.png">', True),
        ('<link rel="stylesheet" href="http://example.org/a.css">', True),
        ("<style>@import 'https://example.org/a.css';</style>", True),
        ('<p style="background: url(https://example.org/a.png)">', True),
        ('<svg><image href="https://example.org/a.png"/></svg>', True),
        ('<a href="https://example.org">elsewhere</a>', False),
        ('<img src="_images/a.png"><link href="_static/a.css"><img src="data:image/png;base64,AA">', False),
    ],
)
def test_what_a_browser_would_load(extensions, tmp_path, monkeypatch, text, elsewhere):
    monkeypatch.syspath_prepend(extensions)
    offline = importlib.import_module("offline")
    (tmp_path / "page.html").write_text(text, encoding="utf-8")
    (tmp_path / "style.css").write_text("p { background: url(a.png) }", encoding="utf-8")
    assert bool(offline.resources_elsewhere(tmp_path)) == elsewhere
    (tmp_path / "style.css").write_text("@font-face { src: url('https://example.org/a.woff') }", encoding="utf-8")
    assert "style.css: https://example.org/a.woff" in offline.resources_elsewhere(tmp_path)


@pytest.mark.parametrize(
    ("call", "name"),
    [
        ("socket.create_connection(('example.org', 80))", "example.org"),
        ("socket.socket().connect(('192.0.2.1', 80))", "192.0.2.1"),
    ],
)
def test_the_build_reaches_no_other_machine(python, call, name):
    code = f"""
import socket, sys, offline
sys.addaudithook(offline._refuse)
with socket.create_server(("127.0.0.1", 0)) as server:
    socket.create_connection(server.getsockname()).close()
{call}
"""
    said = python("-c", code).stderr
    assert f"SphinxError: the pages are built without the network: refused to reach '{name}'." in said
