"""CuPy: what it is asked for, without a device; and with one, that it is never waited for."""

import contextlib
import importlib
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

import ohemloss
from tests._cases import gradient_tolerance, make, make_small, tolerance
from tests._libraries import LIBRARIES, is_installed
from tests._oracle import expect

pytest.importorskip("ohemloss_cupy")
from ohemloss_cupy import _launch, backend

(CUPY,) = (library for library in LIBRARIES if library.id == "cupy-cuda")


def test_host_never_looks():
    """Reading a label would wait for the device."""
    assert backend.host_view(np.zeros(1)) is None
    assert backend.namespace == "ohemloss_cupy._namespace"


class TestWithoutADevice:
    @pytest.fixture
    def cuda(self, monkeypatch):
        cupy = pytest.importorskip("cupy")
        asked: list[Any] = []

        class Module:
            def __init__(self, **options):
                asked.append(options)

            def get_function(self, name):
                return lambda *launch: asked.append((name, *launch))

        monkeypatch.setattr(cupy, "RawModule", Module)
        for cached in (_launch._module, _launch._kernel):
            cached.cache_clear()
        yield _launch.Cuda(), asked
        for cached in (_launch._module, _launch._kernel):
            cached.cache_clear()

    def test_a_kernel_is_compiled_once(self, cuda):
        cuda, asked = cuda
        options, task = _launch.options(np.dtype(np.float32), np.dtype(np.int64)), np.zeros(1, _launch.TASK)
        for _ in range(2):
            cuda.launch("tally", options, 1, 1024, task)
        cuda.launch("finish", options, 1, 1024, task)
        first, *launches = asked
        assert first == {"code": _launch.source(), "options": options}
        assert launches == [(name, (1,), (1024,), (task,)) for name in ("tally", "tally", "finish")]

    def test_only_on_cuda(self, cuda, monkeypatch):
        runtime = importlib.import_module("cupy").cuda.runtime
        assert cuda[0].serves()
        monkeypatch.setattr(runtime, "is_hip", True)
        assert not cuda[0].serves()

    def test_the_task_is_passed_by_value(self):
        """CuPy takes an array of NumPy for a struct, if it has a dtype with fields."""
        function = pytest.importorskip("cupy.cuda.function")
        task = np.zeros(1, _launch.TASK)
        assert function.CNumpyArray(task).ptr == task.ctypes.data

    def test_arrays_are_made_beside_the_others(self, monkeypatch):
        """CuPy makes them on the current device, whatever it is told."""
        namespace = pytest.importorskip("ohemloss_cupy._namespace")
        current: list[Any] = []

        @contextlib.contextmanager
        def device(name):
            current.append(name)
            yield
            current.pop()

        def make(*arguments, **options):
            assert not options
            return list(current)

        monkeypatch.setattr(namespace.cupy.cuda, "Device", device)
        monkeypatch.setattr(namespace.compat, "arange", make)
        monkeypatch.setattr(namespace.compat, "astype", make)
        assert namespace.arange(3, device="there") == ["there"]
        assert namespace.astype(SimpleNamespace(device=device("there")), np.float32) == ["there"]


@pytest.mark.only_library(CUPY.id)
class TestOnADevice:
    __test__ = is_installed("cupy") and CUPY.has_device

    @pytest.mark.filterwarnings("ignore:cupyx.allow_synchronize:UserWarning")
    @pytest.mark.parametrize("regime", ["95% hard", "3% hard"])
    @pytest.mark.parametrize("options", [{}, {"weight": (1.0, 2.0, 0.0, 1.0, 3.0)}, {"reduction": "sum"}], ids=str)
    def test_nothing_waits(self, library, regime, options):
        """CuPy raises an error where its own functions would wait."""
        cupyx = importlib.import_module("cupyx")
        logits, labels = make(regime)
        x, y = library.asarray(logits, "float32"), library.asarray(labels)
        ohemloss.value_and_grad(x, y, **options)
        with cupyx.allow_synchronize(False):
            value, _ = ohemloss.value_and_grad(x, y, **options)
        library.assert_close(value, expect(logits, labels, **options).value, **tolerance("float32", "value"))

    @pytest.mark.filterwarnings("ignore:cupyx.allow_synchronize:UserWarning")
    @pytest.mark.parametrize("regime", ["95% hard", "3% hard"])
    @pytest.mark.parametrize("size", [(24, 32), (11, 15), (3, 9), (2, 2)], ids=str)
    @pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
    def test_nothing_waits_for_resized_logits(self, library, dtype, size, regime):
        """And both runs give the same bits."""
        cupyx = importlib.import_module("cupyx")
        logits, labels = make_small(regime, (2, 19, 3, 4), size)
        x, y = library.asarray(logits, dtype), library.asarray(labels)
        first = ohemloss.value_and_grad(x, y, resize="bilinear")
        with cupyx.allow_synchronize(False):
            value, found = ohemloss.value_and_grad(x, y, resize="bilinear")
        assert [a.get().tobytes() for a in first] == [a.get().tobytes() for a in (value, found)]
        expected = expect(logits, labels, resize="bilinear")
        library.assert_close(value, expected.value, **tolerance(dtype, "value"))
        close = gradient_tolerance(dtype, expected.steps)
        close["atol"] *= expected.shares
        library.assert_close(found, expected.gradient, **close)

    def test_captured_in_a_graph(self, library):
        """Replayed on other numbers, it finds what is true of those."""
        cupy = library.xp
        first, second = make("95% hard"), make("3% hard")
        x, y = library.asarray(first[0], "float32"), library.asarray(first[1])
        with cupy.cuda.Stream(non_blocking=True) as stream:
            cupy.cuda.Stream.null.synchronize()  # on which the arrays were made
            ohemloss.value_and_grad(x, y)  # compiled, and memory that the graph may use
            stream.begin_capture()
            value, gradient = ohemloss.value_and_grad(x, y)
            graph = stream.end_capture()
            for logits, labels in (first, second):
                x.set(np.ascontiguousarray(logits, np.float32), stream=stream)
                y.set(labels, stream=stream)
                graph.launch()
                stream.synchronize()
                expected = ohemloss.value_and_grad(np.asarray(logits, np.float32), labels)
                np.testing.assert_allclose(value.get(), expected[0], **tolerance("float32", "value"))
                np.testing.assert_allclose(gradient.get(), expected[1], rtol=1e-5, atol=1e-7)

    def test_on_another_device(self, library):
        """Not the current one: what is made lies beside the logits."""
        cupy = library.xp
        if cupy.cuda.runtime.getDeviceCount() < 2:
            pytest.skip("one device")
        logits, labels = make("3% hard")
        with cupy.cuda.Device(1):
            x, y = library.asarray(logits, "float32"), library.asarray(labels)
        cases: list[dict[str, Any]] = [{"weight": (1.0, 2.0, 0.0, 1.0, 3.0)}, {"label_smoothing": 0.1}]
        for options in cases:
            value, gradient = ohemloss.value_and_grad(x, y, **options)
            assert value.device == gradient.device == x.device
            with x.device:
                expected = expect(logits, labels, **options).value
                np.testing.assert_allclose(value.get(), expected, **tolerance("float32", "value"))
