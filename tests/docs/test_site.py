"""What the build of the documentation refuses: on a site of one page, with the extensions of the real one."""

import importlib.util
import os
import re
import subprocess
import sys

import pytest

pytest.importorskip("sphinx")
pytest.importorskip("typer", reason="the reference describes the command line")

CONF = "extensions = {extensions}\nhtml_math_renderer = 'mathml'\n"


@pytest.fixture
def extensions(project):
    return project / "docs" / "_ext"


@pytest.fixture
def build(extensions, tmp_path):
    """Build a site of one page; give the exit status, what was said, and the page."""

    def build(text, *names):
        (tmp_path / "conf.py").write_text(CONF.format(extensions=[*names]), encoding="utf-8")
        (tmp_path / "index.rst").write_text(f"Page\n====\n\n{text}\n", encoding="utf-8")
        done = subprocess.run(
            [sys.executable, "-m", "sphinx", "-W", "-q", "-b", "html", ".", "out"],
            cwd=tmp_path,
            env=os.environ | {"PYTHONPATH": str(extensions)},
            capture_output=True,
            text=True,
            check=False,
        )
        page = tmp_path / "out" / "index.html"
        return done.returncode, done.stderr, page.read_text(encoding="utf-8") if page.exists() else ""

    return build


def test_formulas_are_mathml(build):
    status, said, page = build("Inline :math:`x_i`.\n\n.. math:: \\frac{1}{n} \\sum_i x_i", "mathml", "offline")
    assert (status, said) == (0, "")
    assert page.count("<math") == 2
    assert "<mfrac>" in page


def test_a_formula_that_is_none_is_refused(build):
    status, said, _ = build(":math:`\\nothing`", "mathml")
    assert status != 0
    assert "no MathML for" in said


def test_a_page_that_loads_something_from_elsewhere_is_refused(build):
    script = '.. raw:: html\n\n   <script src="https://example.org/a.js"></script>'
    status, said, _ = build(script, "mathml", "offline")
    assert status != 0
    assert "index.html: https://example.org/a.js" in said


def test_a_reference_without_all_names_is_refused(build):
    page = ".. autofunction:: ohemloss.explain"
    status, said, _ = build(page, "mathml", "sphinx.ext.autodoc", "numpydoc", "complete")
    assert status != 0
    for name in ("ohemloss.Trace.plot", "ohemloss.recipes.hrnet", "ohemloss_torch.OhemCELoss", "ohemloss-demo.--out"):
        assert name in said
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
def test_what_a_browser_would_load(extensions, tmp_path, text, elsewhere):
    spec = importlib.util.spec_from_file_location("offline", extensions / "offline.py")
    assert spec
    assert spec.loader
    offline = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(offline)
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
def test_the_build_reaches_no_other_machine(extensions, call, name):
    code = f"""
import socket, sys, offline
sys.addaudithook(offline._refuse)
with socket.create_server(("127.0.0.1", 0)) as server:
    socket.create_connection(server.getsockname()).close()
{call}
"""
    environment = os.environ | {"PYTHONPATH": str(extensions)}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=False)
    assert f"SphinxError: the pages are built without the network: refused to reach '{name}'." in done.stderr
