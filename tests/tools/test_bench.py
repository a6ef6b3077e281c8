"""The command line: `ohemloss bench`, on whatever is installed, and the ways in which it cannot run."""

import re
import sys
from functools import partial

import numpy as np
import pytest

for _name in ("matplotlib", "typer"):
    pytest.importorskip(_name, reason="the command line needs the extra `cli`")

from matplotlib.image import imread

from ohemloss import _registry
from ohemloss._cli import _bandwidth, _chart, _speed
from tests.tools._commands import module, raising

SMALL = ("bench", "--pixels", "1024", "--classes", "3")


@pytest.fixture(autouse=True)
def little_memory(monkeypatch):
    monkeypatch.setattr(_bandwidth, "_BYTES", 2**20)


def rows_of(output, name):
    return [line.replace("|", " ").split() for line in output.splitlines() if line.startswith(f"{name} ")]


def test_every_installed_library(invoke, monkeypatch):
    """Each is timed at each size, or says why not; none ends the command."""
    monkeypatch.setattr(_speed, "_QUARTERS", 1)  # some compile for each size
    result = invoke(*SMALL)
    assert (result.exit_code, result.stderr) == (0, "")
    assert max(map(len, result.stdout.splitlines())) <= 80
    assert "3 classes" in result.stdout.splitlines()[0]
    timed, refused = result.stdout.split("\nfloor: ")
    for name in _registry.installed_names():
        rows = rows_of(timed, name)
        if rows:
            assert [row[1] for row in rows] == ["990"]
        else:
            assert re.search(rf"^{name} +`{name}` ", refused, re.MULTILINE)


def test_numbers(invoke, on_numpy):
    """Rates and times of a row are one measurement, and the floor is at one rate."""
    result = invoke(*SMALL)
    assert "not timed" not in result.stdout
    for name in ("numpy", "floor"):
        for row in rows_of(result.stdout.split("\nfloor: ")[0], name):
            pixels, forward, forward_rate, both, both_rate, per_pixel = map(float, row[1:])
            logits = 4 * 3 * pixels
            # Times are shown to a microsecond, rates to two decimals.
            for time, rate, size in ((forward, forward_rate, logits), (both, both_rate, 3 * logits)):
                assert (rate - 6e-3) * 1e6 * (time - 6e-4) <= size <= (rate + 6e-3) * 1e6 * (time + 6e-4)
            assert per_pixel == pytest.approx(1e6 * both / pixels, abs=0.006 + 6e2 / pixels)


def test_picture(invoke, on_numpy, tmp_path):
    """Where only ASCII is known, too."""
    result = invoke(*SMALL, "--plot", "a.png", charset="ascii")
    assert (result.exit_code, result.stderr) == (0, "")
    assert [row[1] for row in rows_of(result.stdout, "numpy")] == ["15", "55", "242", "990"]
    assert "\x1b" not in result.stdout
    assert result.stdout.splitlines()[-1] == "Picture: a.png"
    picture = imread(tmp_path / "a.png")
    assert picture.shape == (600, 1300, 4)
    assert np.std(picture[..., :3]) > 0.05


def test_lines_of_the_picture():
    speeds = [_speed.Speed(name, n, n / 1e8, n / 4e7) for n in (100, 400) for name in ("a", "b")]
    page = _chart.draw(speeds, _bandwidth.Floor(rate=1e9, classes=2))
    for axes, per_pixel, moved in zip(page.axes, (1e-5, 2.5e-5), (8e-6, 24e-6), strict=True):
        lines = {line.get_label(): line for line in axes.get_lines()}
        assert (axes.get_xscale(), axes.get_yscale()) == ("log", "log")
        for name in ("a", "b"):
            np.testing.assert_allclose(lines.pop(name).get_ydata(), [100 * per_pixel, 400 * per_pixel])
        ((label, floor),) = lines.items()
        assert label.startswith("floor")
        assert floor.get_linestyle() == "--"
        np.testing.assert_allclose(floor.get_ydata(), [100 * moved, 400 * moved])


def test_library_that_cannot_make_an_array(invoke, monkeypatch):
    stub = module("stub", asarray=raising(RuntimeError("no driver\nand more")))
    monkeypatch.setitem(sys.modules, "stub", stub)
    monkeypatch.setattr(_registry, "installed_names", lambda: ["absent_library", "numpy", "stub"])
    result = invoke(*SMALL)
    assert result.exit_code == 0
    assert len(rows_of(result.stdout, "numpy")) == 4
    sentences = " ".join(result.stdout.split("not timed")[1].split())
    assert "stub `stub` is installed but cannot make an array here: RuntimeError: no driver" in sentences
    assert "absent_library `absent_library` cannot be used: `absent_library` is not installed." in sentences
    assert "and more" not in sentences


def test_library_that_fails_at_a_size(invoke, on_numpy, monkeypatch):
    def fail_above(limit, shape, make=_speed._data):
        if shape[2] * shape[3] > limit:
            raise MemoryError
        return make(shape)

    monkeypatch.setattr(_speed, "_data", partial(fail_above, 60))
    result = invoke(*SMALL)
    assert result.exit_code == 0
    assert len(rows_of(result.stdout.split("not timed")[0], "numpy")) == 2
    assert "`numpy` failed at 242 pixels: MemoryError." in result.stdout


def test_no_library_at_all(invoke, monkeypatch):
    monkeypatch.setattr(_registry, "installed_names", lambda: ["absent_library"])
    result = invoke(*SMALL)
    assert (result.exit_code, result.stderr) == (2, "ohemloss bench: no installed library can be timed here.\n")
    assert "`absent_library` is not installed" in " ".join(result.stdout.split())


@pytest.mark.parametrize("arguments", [("--pixels", "0"), ("--classes", "-1"), ("--pixels", "many"), ("--no-such",)])
def test_wrong_use(arguments, invoke):
    assert invoke("bench", *arguments).exit_code == 2


def test_progress_on_a_terminal(invoke, on_numpy, monkeypatch):
    monkeypatch.setenv("TTY_COMPATIBLE", "1")
    assert "timing" in invoke(*SMALL).stderr


@pytest.mark.parametrize(("seconds", "rounds"), [(1e9, 3), (0.0, 1)])
def test_libraries_take_turns(seconds, rounds, monkeypatch):
    """The first call of each, which compiles, is not timed; then round by round, one at least."""
    calls = []

    class Run:
        def __init__(self, xp, shape):
            self.name, self.seconds = xp, []

        def call(self):
            calls.append(self.name)
            return (len(calls), 10 * len(calls))

    monkeypatch.setattr(_speed, "choose", lambda name: name)
    monkeypatch.setattr(_speed, "_Run", Run)
    plan, advanced = _speed.Plan(pixels=1, classes=2, rounds=3, seconds=seconds), []
    measured = _speed.measure(["a", "b"], plan, lambda: advanced.append(1))
    assert calls == ["a", "b"] * (1 + rounds)
    assert len(advanced) == _speed.steps(plan)
    middle = 3 + 2 * (rounds // 2)
    expected = [("a", 1, middle, 10 * middle), ("b", 1, middle + 1, 10 * middle + 10)]
    assert [(speed.library, speed.n_pixels, speed.forward, speed.both) for speed in measured.speeds] == expected


def test_sizes():
    shapes = _speed.Plan(pixels=512 * 1024, classes=19).shapes()
    assert shapes == [(1, 19, 64, 128), (1, 19, 128, 256), (1, 19, 256, 512), (1, 19, 512, 1024)]
    assert _speed.Plan(pixels=2, classes=1).shapes() == [(1, 1, 1, 1), (1, 1, 1, 2)]


def test_data_is_hard_as_announced():
    logits, labels = _speed._data((1, 19, 64, 128))
    odds = np.exp(logits - np.take_along_axis(logits, labels[:, None], 1)).sum(axis=1)
    assert np.mean(1 / odds < 0.7) == pytest.approx(0.4, abs=0.03)
