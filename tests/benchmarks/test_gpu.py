"""The program for GPUs, tried on the host: its figures mean nothing here, but all of it runs."""

import itertools
import json
import sys
import unittest.mock

import numpy as np
import pytest

import ohemloss

for _name in ("torch", "jax", "optax", "rich"):
    pytest.importorskip(_name)

import jax
import torch

from benchmarks import _data, _gpu, _gpu_others, _gpu_resized, gpu

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(autouse=True)
def _quickly(monkeypatch):
    monkeypatch.setattr(_gpu.DeviceClock, "spent", 0)
    for name in ("_CALLS", "_ROUNDS"):
        monkeypatch.setattr(_gpu_others, name, 1)


@pytest.fixture
def program(capsys, tmp_path):
    """Run the program on small arrays; give what it prints and what it writes."""

    def run(*arguments):
        file = tmp_path / "gpu.json"
        gpu.main([*arguments, "--quick", "--json", str(file)])
        return capsys.readouterr().out, json.loads(file.read_text(encoding="utf-8"))

    return run


def test_runs(program):
    printed, written = program("--device", "cpu")
    assert all(text in printed for text in ("1x19x32x64", "1x19x8x16", "device: cpu"))
    rows = [(row["hard"], row["dtype"]) for row in written["torch"]]
    assert rows == list(itertools.product(_data.REGIMES, ("float32", "bfloat16")))
    for row in written["torch"]:
        assert set(row["ratios"]) == {"a", "b", "c"}
        assert row["forward_ms"] > 0 < row["backward_ms"]
    assert [(row["times"], row["dtype"]) for row in written["resized"]] == [(4, "float32"), (4, "bfloat16")] * 3


def test_runs_on_a_device(device, program, monkeypatch):
    """All that a device alone is asked for, too: of one that does nothing."""
    checked = []

    def check(loss, logits, labels):
        checked.append((tuple(logits.shape), tuple(labels.shape), loss(logits, labels).item() > 0))
        return "nobody waits"

    monkeypatch.setattr(_gpu, "check_that_nobody_waits", check)
    printed, written = program()
    assert "device: a stand-in" in printed
    assert printed.count("nobody waits") == 2
    assert checked == [((1, 19, 32, 64), (1, 32, 64), True), ((1, 19, 8, 16), (1, 32, 64), True)]
    assert sum(call.args[0] > 0 for call in device.call_args_list) > 100
    assert written["machine"]["device"] == "a stand-in"


@pytest.fixture
def device(monkeypatch):
    """Stand-ins for what runs on a device; the arrays stay small, and on the host. Give the one that holds it back."""
    marks, hold = itertools.count(), unittest.mock.Mock()

    class Event:
        def __init__(self, enable_timing):
            assert enable_timing

        def record(self):
            self.at = next(marks)

        def synchronize(self):
            """Nothing runs."""

        def elapsed_time(self, later):
            return 1.0 * (later.at - self.at)

    stand_ins = dict.fromkeys(("empty_cache", "synchronize", "reset_peak_memory_stats"), lambda *device: None)
    stand_ins |= {"Event": Event, "_sleep": hold, "get_device_name": lambda device: "a stand-in"}
    stand_ins |= {"memory_allocated": lambda device: 400, "max_memory_allocated": lambda device: 1000}
    for name, stand_in in {**stand_ins, "is_available": lambda: True}.items():
        monkeypatch.setattr(torch.cuda, name, stand_in)
    host, small, arrays, resized = torch.device("cpu"), _gpu_resized.QUICK[0], gpu._arrays, _gpu_resized.arrays
    monkeypatch.setattr(gpu, "_arrays", lambda shape, hard, device: arrays(gpu._QUICK[0], hard, host))
    monkeypatch.setattr(_gpu_resized, "arrays", lambda shape, times, hard, device: resized(*small, hard, host))
    return hold


def test_clock_and_peak_of_a_device(device):
    clock = _gpu.DeviceClock()
    first, last = clock.mark(), clock.mark()
    assert clock.seconds(first, last) == 1e-3
    ran = []
    assert _gpu._peak(lambda: ran.append(1), torch.device("cuda")) == 600
    assert ran == [1]


def test_check_that_nobody_waits(monkeypatch):
    """A graph that replays nothing leaves the numbers of before, and a wait is an error."""
    modes = []
    monkeypatch.setattr(torch.cuda, "set_sync_debug_mode", modes.append)
    for name in ("Stream", "current_stream", "CUDAGraph", "stream", "graph"):
        monkeypatch.setattr(torch.cuda, name, unittest.mock.MagicMock())
    data = _data.make((2, 5, 8, 8), 0.4)
    logits, labels = torch.from_numpy(data.logits), torch.from_numpy(data.labels)
    assert "0 host" in _gpu.check_that_nobody_waits(lambda x, y: (0 * x).sum(), logits, labels)
    assert modes == ["error", "default"]
    with pytest.raises(RuntimeError, match="other numbers"):
        _gpu.check_that_nobody_waits(ohemloss.ohem_cross_entropy, logits, labels)

    def wait(x, y):
        if modes[-1] == "error":
            msg = "called a synchronizing operation"
            raise RuntimeError(msg)
        return (0 * x).sum()

    with pytest.raises(RuntimeError, match="synchronizing"):
        _gpu.check_that_nobody_waits(wait, logits, labels)
    assert modes[-1] == "default"


def test_other_libraries(monkeypatch):
    """CuPy's part on NumPy, JAX's on the host."""
    cupy, host = unittest.mock.MagicMock(asarray=np.asarray), jax.devices("cpu")
    cupy.cuda.is_available.return_value = True
    monkeypatch.setitem(sys.modules, "cupy", cupy)
    monkeypatch.setattr(jax, "devices", lambda kind: host)
    monkeypatch.setattr(_data, "REGIMES", (0.4,))
    found = list(_gpu_others.rows((1, 19, 32, 64), ((1, 19, 8, 16), 4)))
    both = ["forward", "value and gradient"]
    baseline = [f"{what} of optax with top_k" for what in both]
    assert [(row["library"], row["what"], row["times"]) for row in found] == [
        *(("CuPy", what, 1) for what in both),
        *(("JAX", what, 1) for what in both + baseline),
        *((library, what, 4) for library in ("CuPy", "JAX") for what in both),
    ]
    assert all(row["ms"] > 0 for row in found)
    assert _gpu_others.text(found[-1]).startswith("JAX, value and gradient, 1x19x8x16 to 4 x float32, 40% hard: ")
    cupy.cuda.is_available.return_value = False
    monkeypatch.setattr(jax, "devices", unittest.mock.Mock(side_effect=RuntimeError("no such platform")))
    assert list(_gpu_others.rows((1, 19, 8, 16), ((1, 19, 8, 16), 4))) == []


def test_without_a_device():
    if torch.cuda.is_available():
        pytest.skip("there is a device")
    with pytest.raises(SystemExit, match="needs a CUDA device"):
        gpu.main([])


def test_least_bytes():
    """At 19 classes in float32, 88 bytes a pixel forward: 76, the label, and the loss. Backward: 152 and these."""
    logits = torch.empty(2, 19, 8, 8)
    assert _gpu.least_bytes(logits) == (128 * (76 + 12), 128 * (152 + 12))


def test_shares_of_known_times():
    logits = torch.empty(1, 19, 10, 10)
    step = _gpu.Step([2.0, 1.0, 4.0], [1.0, 3.0, 2.0], logits.nbytes + 400)
    slow = _gpu.Step([4.0, 2.0, 8.0], [2.0, 6.0, 4.0])
    found = gpu._figures({"ours": step, "a": slow}, logits, bandwidth=4400.0)
    assert found["forward_ms"] == found["backward_ms"] == 2000.0
    assert found["forward_share"] == pytest.approx(8800 / 2 / 4400)
    assert found["backward_share"] == pytest.approx(16400 / 2 / 4400)
    assert found["bytes_per_pixel_beyond_gradient"] == 4
    assert found["ratios"] == {"a": 2.0}


def test_figures_of_resized_logits():
    logits, labels = torch.empty(1, 19, 5, 5), torch.empty(1, 10, 10)
    step = _gpu.Step([2.0, 1.0, 4.0], [1.0, 3.0, 2.0], logits.nbytes + 1200)
    slow = _gpu.Step([4.0, 2.0, 8.0], [2.0, 6.0, 4.0], 10 * (logits.nbytes + 1200))
    found = _gpu_resized.figures({"ours": step, "e": slow}, logits, labels)
    assert found["forward_G_per_s"] == found["backward_G_per_s"] == 1900 / 2 / 1e9
    assert found["bytes_per_pixel_beyond_gradient"] == 12
    assert found["memory_share"] == 0.1
    assert found["ratio"] == 2.0
