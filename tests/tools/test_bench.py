"""The command line: `ohemloss bench`, on whatever is installed, and the ways in which it cannot run."""

import os
import re
import sys
import types
from functools import partial

import numpy as np
import pytest

pytest.importorskip("matplotlib", reason="the command line needs the extra `cli`")
pytest.importorskip("typer", reason="the command line needs the extra `cli`")

from matplotlib.image import imread
from typer.testing import CliRunner

from ohemloss import _registry
from ohemloss._cli import _bandwidth, _chart, _png, _speed
from ohemloss._cli._app import app
from tests import _processes

SMALL = ("bench", "--pixels", "1024", "--classes", "3")


@pytest.fixture
def invoke(tmp_path, monkeypatch):
    """Run the command line in an empty folder; 80 columns, whatever terminal the tests run in."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(_bandwidth, "_BYTES", 2**20)
    return lambda *arguments: CliRunner(env={"COLUMNS": "80"}).invoke(app, arguments)


@pytest.fixture
def on_numpy(monkeypatch):
    monkeypatch.setattr(_registry, "installed_names", lambda: ["numpy"])


def rows_of(output, name):
    return [line.split() for line in output.splitlines() if line.startswith(f"{name} ")]


def test_every_installed_library(invoke, monkeypatch):
    """Each is timed at each size, or says why not; none ends the command."""
    monkeypatch.setattr(_speed, "_QUARTERS", 2)  # some compile for each size
    result = invoke(*SMALL)
    assert (result.exit_code, result.stderr) == (0, "")
    assert max(map(len, result.stdout.splitlines())) <= 80
    assert "3 classes" in result.stdout.splitlines()[0]
    timed, refused = result.stdout.split("\nfloor: ")
    for name in _registry.installed_names():
        rows = rows_of(timed, name)
        if rows:
            assert [row[1] for row in rows] == ["242", "990"]
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
            assert (
                (forward_rate - 0.006) * 1e6 * (forward - 6e-4)
                <= logits
                <= (forward_rate + 6e-3) * 1e6 * (forward + 6e-4)
            )
            assert (both_rate - 0.006) * 1e6 * (both - 6e-4) <= 3 * logits <= (both_rate + 6e-3) * 1e6 * (both + 6e-4)
            assert per_pixel == pytest.approx(1e6 * both / pixels, abs=0.006 + 6e2 / pixels)


def test_in_a_process_where_only_ascii_is_known(tmp_path):
    code = f"""
    import io, json, sys
    sys.stdout = io.TextIOWrapper(out := io.BytesIO(), encoding="ascii")
    sys.argv = ["ohemloss", "bench", "--pixels", "64", "--classes", "2", "--plot", {str(tmp_path / "a.png")!r}]
    from ohemloss import _registry
    from ohemloss._cli import _bandwidth
    from ohemloss.__main__ import main
    _registry.installed_names = lambda: ["numpy"]
    _bandwidth._BYTES = 2**20
    try:
        main()
    except SystemExit as end:
        sys.stdout.flush()
        print(json.dumps([end.code, out.getvalue().decode("ascii")]), file=sys.__stdout__)
    """
    code_of_exit, output = _processes.run(code, COLUMNS="80")
    assert code_of_exit == 0
    assert rows_of(output, "numpy")
    assert "\x1b" not in output
    assert output.splitlines()[-1] == f"Picture: {tmp_path / 'a.png'}"


def test_picture(invoke, on_numpy, tmp_path):
    result = invoke(*SMALL, "--plot", "a.png")
    assert result.exit_code == 0
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
    def refuse(array):
        msg = "no driver\nand more"
        raise RuntimeError(msg)

    stub = types.ModuleType("stub")
    stub.__dict__["asarray"] = refuse
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
    assert result.exit_code == 2
    assert "`absent_library` is not installed" in " ".join(result.stdout.split())
    assert result.stderr == "ohemloss bench: no installed library can be timed here.\n"


@pytest.mark.parametrize("path", ["absent/a.png", "folder.png", "a.jpg"])
def test_picture_that_cannot_be_written(path, invoke, monkeypatch, tmp_path):
    (tmp_path / "folder.png").mkdir()
    monkeypatch.setattr(_bandwidth, "measure", pytest.fail)  # it is known before anything is timed
    result = invoke("bench", "--plot", path)
    assert (result.exit_code, result.stdout) == (2, "")
    assert re.match(
        rf"ohemloss bench: `--plot` (must name a \.png file: got|cannot be written:) {re.escape(path)}", result.stderr
    )
    assert result.stderr.count("\n") == 1


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs a full device")
def test_picture_on_a_full_disk(invoke, on_numpy, tmp_path):
    (tmp_path / "a.png").symlink_to("/dev/full")
    result = invoke(*SMALL, "--plot", "a.png")
    assert result.exit_code == 2
    assert result.stderr == "ohemloss bench: `--plot` cannot be written: a.png: No space left on device.\n"


@pytest.mark.parametrize("arguments", [("--pixels", "0"), ("--classes", "-1"), ("--pixels", "many"), ("--no-such",)])
def test_wrong_use(arguments, invoke):
    assert invoke("bench", *arguments).exit_code == 2


def test_picture_of_an_earlier_run_stays(tmp_path):
    (tmp_path / "a.png").write_bytes(b"earlier")
    _png.check_writable(tmp_path / "a.png", "--plot")
    assert (tmp_path / "a.png").read_bytes() == b"earlier"


def test_progress_on_a_terminal(invoke, on_numpy, monkeypatch):
    monkeypatch.setenv("TTY_COMPATIBLE", "1")
    assert "timing" in invoke(*SMALL).stderr


@pytest.mark.parametrize(("seconds", "rounds"), [(60.0, 3), (0.0, 1)])
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
