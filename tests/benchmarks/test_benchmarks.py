"""The benchmarks: what they compare gives the same numbers, on data as announced, in turn, and memory is seen."""

import itertools
import json
import sys
import unittest.mock

import numpy as np
import pytest

import ohemloss
from tests import _processes

pytest.importorskip("benchmarks", reason="the sources are not here")
for _name in ("torch", "jax", "optax", "rich"):
    pytest.importorskip(_name)

import jax
import torch

from benchmarks import (
    __main__ as command,
)
from benchmarks import (
    _baselines,
    _baselines_torch,
    _calls,
    _cases,
    _data,
    _gpu,
    _gpu_others,
    _gpu_resized,
    _memory,
    _resized,
    _targets,
    _timing,
    gpu,
)
from benchmarks._results import Results

SHAPE = (2, 5, 48, 64)
ONCE = _timing.Rounds(warm=0, least=1, most=1, seconds=0)
TINY = _cases.Sizes(
    regimes=(0.4,),
    headline=(1, 3, 16, 16),
    small=((1, 3, 16, 16),),
    classes=((1, 2, 16, 16),),
    layouts=(1, 3, 16, 16),
    line=(8, 2, 16, 16),
    resized=(((1, 3, 4, 4), 4), ((1, 5, 2, 3), 8)),
)


@pytest.fixture(autouse=True, scope="module")
def one_thread():
    """Of arrays as small as these, threads would only wait for each other."""
    n_threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(n_threads)


@pytest.fixture(params=_data.REGIMES, ids=str)
def data(request):
    return _data.make(SHAPE, request.param)


@pytest.mark.parametrize("hard", _data.REGIMES)
@pytest.mark.parametrize("shape", [SHAPE, (1, 2, 16, 16), (1, 19, 128, 256), (1, 150, 32, 32)], ids=str)
def test_regimes(shape, hard):
    data = _data.make(shape, hard)
    assert (data.logits.shape, data.labels.shape) == (shape, (shape[0], *shape[2:]))
    assert (data.logits.dtype, data.labels.dtype) == (np.float32, np.int64)
    ignored = data.labels == _data.IGNORE
    assert np.all(ignored[:, : shape[2] // 20])
    assert np.mean(ignored[:, shape[2] // 20 :]) == pytest.approx(0.02, abs=0.02)
    assert np.all(data.labels[~ignored] < shape[1])
    # Of few pixels the sample is all, but some are ignored after it was looked at.
    some = 4 / data.labels.size**0.5 * (hard * (1 - hard)) ** 0.5
    assert _data.share_of_hard(data) == pytest.approx(hard, abs=0.02 + some)
    p = np.exp(data.logits) / np.exp(data.logits).sum(axis=1, keepdims=True)
    own = np.take_along_axis(p, np.where(ignored, 0, data.labels)[:, None], 1)[:, 0]
    assert _data.share_of_hard(data) == pytest.approx(np.mean(own[~ignored] < 0.7), abs=1e-3)


def test_data_are_the_same_each_time():
    first, again = (_data.make(SHAPE, 0.4) for _ in range(2))
    np.testing.assert_array_equal(first.logits, again.logits)
    np.testing.assert_array_equal(first.labels, again.labels)
    assert not np.array_equal(first.logits, _data.make(SHAPE, 0.4, seed=1).logits)


@pytest.mark.parametrize("hard", _data.REGIMES)
@pytest.mark.parametrize(("shape", "ratio"), [((2, 5, 24, 32), 4), ((1, 19, 16, 32), 8)], ids=str)
def test_regimes_of_resized_logits(shape, ratio, hard):
    data = _resized.make(shape, ratio, hard)
    n, _, h, w = shape
    size = (ratio * h, ratio * w)
    assert (data.logits.shape, data.labels.shape) == (shape, (n, *size))
    assert data.logits.dtype == np.float32
    enlarged = torch.nn.functional.interpolate(torch.from_numpy(data.logits), size=size, mode="bilinear").numpy()
    # Measured on some of the rows.
    assert _data.share_of_hard(_data.Data(enlarged, data.labels)) == pytest.approx(hard, abs=0.05)


def test_eager_on_enlarged_logits_is_ours():
    for hard, backward in itertools.product(_data.REGIMES, (False, True)):
        data = _resized.make((2, 5, 6, 8), 8, hard)
        ours, eager = (_resized.call(name, data, backward=backward)() for name in (_calls.OURS, _calls.EAGER))
        torch.testing.assert_close(ours, eager, rtol=1e-4, atol=1e-6)


def all_mined(logits, labels):
    return ohemloss.ohem_cross_entropy(logits, labels, thresh=None, min_kept=1.0)


def hrnet(min_kept):
    return ohemloss.recipes.hrnet(ignore_label=255, thres=0.7, min_kept=min_kept)


@pytest.mark.parametrize(
    ("name", "options", "ours"),
    [
        ("eager", (), ohemloss.ohem_cross_entropy),
        ("plain", (), all_mined),
        *(("hrnet", (min_kept,), hrnet(min_kept)) for min_kept in (1, 500, 10**6)),
    ],
)
def test_baselines_of_pytorch(name, options, ours, data):
    logits, labels = torch.from_numpy(data.logits).requires_grad_(), torch.from_numpy(data.labels)
    values = [getattr(_baselines_torch, name)(logits, labels, *options), ours(logits, labels)]
    gradients = [torch.autograd.grad(value, logits)[0] for value in values]
    torch.testing.assert_close(*values, rtol=1e-5, atol=0)
    torch.testing.assert_close(*gradients, rtol=1e-4, atol=1e-9)


def test_naive_is_ours(data):
    value, gradient = ohemloss.value_and_grad(data.logits, data.labels)
    naive, naive_gradient = _baselines.numpy_value_and_grad(data.logits, data.labels)
    assert naive == pytest.approx(float(value), rel=1e-5)
    assert _baselines.numpy_loss(data.logits, data.labels) == naive
    assert naive_gradient.dtype == np.float32
    np.testing.assert_allclose(naive_gradient, gradient, rtol=1e-4, atol=1e-9)


def test_optax_is_ours():
    """Of data of each kind, as they come: the loss is compiled once."""

    def ours(logits, labels):
        return ohemloss.ohem_cross_entropy(logits, labels, min_kept=labels.size // 16)

    compiled = [jax.jit(jax.value_and_grad(loss)) for loss in (_baselines.optax_loss(), ours)]
    for hard in _data.REGIMES:
        data = _data.make(SHAPE, hard)
        found = [loss(data.logits, data.labels.astype(np.int32)) for loss in compiled]
        (value, gradient), (expected, expected_gradient) = found
        np.testing.assert_allclose(value, expected, rtol=1e-5)
        np.testing.assert_allclose(gradient, expected_gradient, rtol=1e-4, atol=1e-9)


def test_variants_are_called_in_turn():
    order = []
    variants = {name: lambda name=name: order.append(name) for name in "abc"}
    times = _timing.interleave(variants, _timing.Rounds(warm=2, least=3, most=3))
    assert order == list("abc") * 5
    assert {name: len(seconds) for name, seconds in times.seconds.items()} == dict.fromkeys("abc", 3)


@pytest.mark.parametrize(("seconds", "rounds"), [(0.0, 2), (1e9, 6)])
def test_rounds_end_with_the_seconds(seconds, rounds):
    calls = []
    _timing.interleave({"a": lambda: calls.append(1)}, _timing.Rounds(warm=0, least=2, most=6, seconds=seconds))
    assert len(calls) == rounds


def test_medians_and_ratios():
    """Rounds in which the whole machine was slow change no ratio."""
    times = _timing.Times({"ours": [1.0, 2.0, 40.0], "theirs": [3.0, 6.0, 120.0]})
    assert (times.median("ours"), times.median("theirs")) == (2.0, 6.0)
    assert times.ratio("theirs", "ours") == 3.0


@pytest.mark.parametrize("layout", _calls.LAYOUTS)
def test_layouts(layout):
    data = _data.make(SHAPE, 0.4)
    logits, labels = _calls._laid_out(torch.from_numpy(data.logits), torch.from_numpy(data.labels), layout)
    assert logits.is_contiguous() == (layout in ("contiguous", "rows"))
    assert logits.is_contiguous(memory_format=torch.channels_last if logits.ndim == 4 else torch.contiguous_format) == (
        layout in ("channels_last", "rows")
    )
    value = float(ohemloss.ohem_cross_entropy(logits, labels))
    assert value == pytest.approx(float(ohemloss.ohem_cross_entropy(data.logits, data.labels)), rel=1e-5)


def test_leaves_are_not_shared():
    data = _data.make((1, 2, 16, 16), 0.4)
    ours, again, eager = (
        _calls.torch_call(name, data, backward=True) for name in (_calls.OURS, _calls.OURS, _calls.EAGER)
    )
    gradients = [np.asarray(call()) for call in (ours, again, eager)]
    assert not np.shares_memory(gradients[0], gradients[1])
    np.testing.assert_allclose(gradients[0], gradients[2], rtol=1e-4, atol=1e-9)
    np.testing.assert_array_equal(np.asarray(ours()), gradients[1])  # not added up


def test_memory_probe_sees_an_allocation():
    code = """
    import json
    import numpy as np
    from benchmarks._memory import extra_peak
    def call(n):
        np.ones(n * 2**20, np.uint8)  # freed before the call returns
        return np.ones(2**20, np.uint8)
    print(json.dumps([extra_peak(lambda: call(n)) / 2**20 for n in (64, 16, 0)]))
    """
    peaks = _processes.run(code)
    if sys.platform == "linux":
        np.testing.assert_allclose(peaks, [64, 16, 1], atol=1.5)
    else:  # the mark is never set back
        assert peaks[0] == pytest.approx(64, abs=4)


@pytest.mark.parametrize(
    ("shape", "ratio", "least"),
    [
        ((1, 19, 256, 256), 1, 1.9),  # the gradient and the probabilities
        ((1, 19, 32, 32), 8, 2.9 * 64),  # the enlarged logits, their probabilities, and their gradient
    ],
)
def test_memory_of_a_loss(shape, ratio, least):
    probe = _memory.Probe(_calls.EAGER, True, shape, ratio=ratio)
    assert (probe.n_pixels, probe.gradient_bytes) == (256 * 256, 4 * np.prod(shape))
    assert least < _memory.measure(probe) / probe.gradient_bytes < 10 * ratio**2


def test_memory_probe_that_fails():
    with pytest.raises(RuntimeError, match="no_such"):
        _memory.measure(_memory.Probe("no_such", False, (1, 2, 16, 16)))


@pytest.fixture(scope="module")
def results():
    """Everything but memory, once, on images of a few pixels."""
    return command.measure(TINY, ONCE, [group for group in command._GROUPS if group != "memory"])


def test_cases(results):
    rows = list(results.rows())
    groups = {group: sum(row["group"] == group for row in rows) for group in {row["group"] for row in rows}}
    assert groups == {
        "headline": 2 * 4,
        "numpy": 2 * 2,
        "jax": 2 * 2,
        "sizes": 2 * 2,
        "classes": 2 * 2,
        "layouts": 3 * 2 * 2,
        "dtypes": 3 * 2 * 2,
        "line": 4,
        "resized": 2 * 2 * 2,
    }
    line = [row for row in rows if row["group"] == "line"]
    assert [round(1e6 * row["ms"] / row["ns_per_pixel"]) for row in line] == [256, 512, 1024, 2048]
    assert all(row["to_ours"] == 1 for row in rows if row["variant"] == _calls.OURS)
    assert [(row["backward"], row["variant"]) for row in rows if row["group"] == "jax"] == [
        (backward, variant) for backward in (False, True) for variant in (_calls.OURS, _calls.OPTAX)
    ]


def test_full_shapes_are_about_as_large_as_the_headline():
    sizes = _cases.Sizes()
    for shape in sizes.classes:
        assert np.prod(shape) == pytest.approx(np.prod(sizes.headline), rel=0.06)


def test_targets(results):
    probe = _memory.Probe(_calls.OURS, True, (1, 19, 1024, 1024))
    peaks = [(probe, 19 * 4 * 2**20 + 21 * 2**20), (_memory.Probe(_calls.OURS, False, probe.shape), 2**20)]
    found = _targets.targets(Results(results.times, peaks))
    assert len(found) == len({target.name for target in found}) == 15
    assert [target.met for target in found[-2:]] == [True, False]
    assert found[-1].bound == 19 * 4 + 12 + 8
    probe = _memory.Probe(_calls.OURS, True, (1, 19, 128, 128), ratio=8)
    (resized,) = _targets.targets(Results(peaks=[(probe, 2**20)]))
    assert resized.bound == 19 / 16 + 12 + 8
    assert _targets.targets(Results()) == []


def test_worst_ratio_counts():
    def case(name, seconds):
        return _cases.Case("sizes", name, True, SHAPE, dict), _timing.Times({"ours": [1.0], "eager": [seconds]})

    (target,) = _targets.targets(Results([case("a", 3.0), case("b", 0.9)]))
    assert (target.measured, target.met) == (0.9, False)


def test_command(results, monkeypatch, capsys, tmp_path):
    monkeypatch.setattr(command, "measure", lambda sizes, rounds, groups: results)
    monkeypatch.setenv("COLUMNS", "80")
    command.main(["--quick", "--json", str(tmp_path / "a.json")])
    out, err = capsys.readouterr()
    assert err == ""
    tables = out[out.index("\nours ") :]
    assert max(map(len, tables.splitlines())) <= 80
    assert "…" not in tables
    assert "targets" in tables
    written = json.loads((tmp_path / "a.json").read_text())
    assert written["times"] == list(results.rows())
    assert {"processor", "threads", "packages"} < set(written["machine"])
    assert len(written["targets"]) == 13


def test_wrong_use(capsys):
    with pytest.raises(SystemExit, match="2"):
        command.main(["--only", "no_such"])
    assert "no_such" in capsys.readouterr().err


class TestGpu:
    """The program for GPUs, tried on the host: its figures mean nothing here, but all of it runs."""

    @pytest.fixture(autouse=True)
    def _quickly(self, monkeypatch):
        monkeypatch.setattr(_gpu.DeviceClock, "spent", 0)
        for name in ("_CALLS", "_ROUNDS"):
            monkeypatch.setattr(_gpu_others, name, 1)

    def test_runs(self, capsys, tmp_path):
        file = tmp_path / "gpu.json"
        gpu.main(["--device", "cpu", "--quick", "--json", str(file)])
        printed = capsys.readouterr().out
        assert "1x19x32x64" in printed
        assert "device: cpu" in printed
        rows = json.loads(file.read_text(encoding="utf-8"))["torch"]
        assert [(row["dtype"], row["hard"]) for row in rows] == [
            (dtype, hard) for hard in _data.REGIMES for dtype in ("float32", "bfloat16")
        ]
        for row in rows:
            assert set(row["ratios"]) == {"a", "b", "c"}
            assert row["forward_ms"] > 0 < row["backward_ms"]
        assert "1x19x8x16" in printed
        resized = json.loads(file.read_text(encoding="utf-8"))["resized"]
        assert [(row["times"], row["dtype"]) for row in resized] == [(4, "float32"), (4, "bfloat16")] * 3

    def test_runs_on_a_device(self, device, capsys, monkeypatch, tmp_path):
        """All that a device alone is asked for, too: of one that does nothing."""
        checked = []

        def check(loss, logits, labels):
            checked.append((tuple(logits.shape), tuple(labels.shape), loss(logits, labels).item() > 0))
            return "nobody waits"

        monkeypatch.setattr(_gpu, "check_that_nobody_waits", check)
        file = tmp_path / "gpu.json"
        gpu.main(["--quick", "--json", str(file)])
        printed = capsys.readouterr().out
        assert "device: a stand-in" in printed
        assert printed.count("nobody waits") == 2
        assert checked == [((1, 19, 32, 64), (1, 32, 64), True), ((1, 19, 8, 16), (1, 32, 64), True)]
        assert device["held"] > 100
        assert json.loads(file.read_text(encoding="utf-8"))["machine"]["device"] == "a stand-in"

    @pytest.fixture
    def device(self, monkeypatch):
        """Stand-ins for what runs on a device; the arrays stay small, and on the host."""
        noted = {"held": 0, "marks": 0, "peak": 1000, "now": 400}

        class Event:
            def __init__(self, enable_timing):
                assert enable_timing

            def record(self):
                noted["marks"] += 1
                self.at = noted["marks"]

            def synchronize(self):
                """Nothing runs."""

            def elapsed_time(self, later):
                return 1.0 * (later.at - self.at)

        def hold(cycles):
            noted["held"] += cycles > 0

        stand_ins = {
            "Event": Event,
            "_sleep": hold,
            "is_available": lambda: True,
            "get_device_name": lambda device: "a stand-in",
            "memory_allocated": lambda device: noted["now"],
            "max_memory_allocated": lambda device: noted["peak"],
            **dict.fromkeys(("empty_cache", "synchronize", "reset_peak_memory_stats"), lambda *device: None),
        }
        for name, stand_in in stand_ins.items():
            monkeypatch.setattr(torch.cuda, name, stand_in)
        host, arrays, resized = torch.device("cpu"), gpu._arrays, _gpu_resized.arrays
        monkeypatch.setattr(gpu, "_arrays", lambda shape, hard, device: arrays(gpu._QUICK[0], hard, host))
        monkeypatch.setattr(
            _gpu_resized, "arrays", lambda shape, times, hard, device: resized(*_gpu_resized.QUICK[0], hard, host)
        )
        return noted

    def test_clock_and_peak_of_a_device(self, device):
        clock = _gpu.DeviceClock()
        first, last = clock.mark(), clock.mark()
        assert clock.seconds(first, last) == 1e-3
        ran = []
        assert _gpu._peak(lambda: ran.append(1), torch.device("cuda")) == 600
        assert ran == [1]

    def test_check_that_nobody_waits(self, monkeypatch):
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

    def test_other_libraries(self, monkeypatch):
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

    def test_without_a_device(self):
        if torch.cuda.is_available():
            pytest.skip("there is a device")
        with pytest.raises(SystemExit, match="needs a CUDA device"):
            gpu.main([])

    def test_least_bytes(self):
        """At 19 classes in float32, 88 bytes a pixel forward: 76, the label, and the loss. Backward: 152 and these."""
        logits = torch.empty(2, 19, 8, 8)
        assert _gpu.least_bytes(logits) == (128 * (76 + 12), 128 * (152 + 12))

    def test_shares_of_known_times(self):
        logits = torch.empty(1, 19, 10, 10)
        step = _gpu.Step([2.0, 1.0, 4.0], [1.0, 3.0, 2.0], logits.nbytes + 400)
        slow = _gpu.Step([4.0, 2.0, 8.0], [2.0, 6.0, 4.0])
        found = gpu._figures({"ours": step, "a": slow}, logits, bandwidth=4400.0)
        assert found["forward_ms"] == found["backward_ms"] == 2000.0
        assert found["forward_share"] == pytest.approx(8800 / 2 / 4400)
        assert found["backward_share"] == pytest.approx(16400 / 2 / 4400)
        assert found["bytes_per_pixel_beyond_gradient"] == 4
        assert found["ratios"] == {"a": 2.0}

    def test_figures_of_resized_logits(self):
        logits, labels = torch.empty(1, 19, 5, 5), torch.empty(1, 10, 10)
        step = _gpu.Step([2.0, 1.0, 4.0], [1.0, 3.0, 2.0], logits.nbytes + 1200)
        slow = _gpu.Step([4.0, 2.0, 8.0], [2.0, 6.0, 4.0], 10 * (logits.nbytes + 1200))
        found = _gpu_resized.figures({"ours": step, "e": slow}, logits, labels)
        assert found["forward_G_per_s"] == found["backward_G_per_s"] == 1900 / 2 / 1e9
        assert found["bytes_per_pixel_beyond_gradient"] == 12
        assert found["memory_share"] == 0.1
        assert found["ratio"] == 2.0
