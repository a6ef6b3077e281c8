"""Dask, chunk by chunk: of the logits no more is kept than the loss of each pixel."""

import io
import itertools
import os
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import ohemloss
from ohemloss._inputs import Inputs
from ohemloss._options import Options
from tests import _processes
from tests._cases import REGIMES, gradient_tolerance, make, tolerance
from tests._reference import gradient, reference

pytest.importorskip("dask.array")
import dask
import dask.array as da

from ohemloss_dask import _digits, _graph, _op
from ohemloss_numpy._task import ENGINE

CHUNKS = {
    "one": (2, 5, 6, 7),
    "batch": (1, 5, 6, 7),
    "height": (2, 5, 2, 7),
    "classes": (2, 2, 6, 7),
    "uneven": ((2,), (3, 2), (1, 4, 1), (2, 5)),
    "with none": ((0, 2), (5,), (6, 0), (7,)),
}
OPTIONS = {
    "few": {"min_kept": 0.3},
    "count": {"min_kept": 40, "thresh": 0.1},
    "more than there are": {"min_kept": 10**12},
    "all": {"min_kept": 1.0, "thresh": None},
    "sum": {"reduction": "sum"},
    "no label ignored": {"ignore_index": None},
    "another ignored": {"ignore_index": -3},
    "smoothing": {"label_smoothing": 0.2},
    "weight": {"weight": [0.5, 1.0, 2.0, 0.0, 3.0]},
    "weight and smoothing": {"weight": [0.5, 1.0, 2.0, 0.0, 3.0], "label_smoothing": 0.1},
}


@pytest.fixture(autouse=True)
def synchronous():
    with dask.config.set(scheduler="synchronous"):
        yield


@pytest.fixture
def calls(monkeypatch):
    """Count the calls that are served."""
    found = []

    class Counted(_graph.Graph):
        def __init__(self, *args):
            found.append(args)
            super().__init__(*args)

    monkeypatch.setattr(_op, "Graph", Counted)
    return found


def chunked(logits, labels, chunks=(1, 2, 4, 3)):
    """Cut both: the labels as the pixels of the logits."""
    x = da.from_array(logits, chunks=chunks)
    return x, da.from_array(labels, chunks=(x.chunks[0], *x.chunks[2:]))


def run(x, y, **options):
    return dask.compute(*ohemloss.value_and_grad(x, y, **options))


class TestNumbers:
    @pytest.mark.parametrize("dtype", ["float32", "float64"])
    @pytest.mark.parametrize("regime", REGIMES)
    @pytest.mark.parametrize("chunks", CHUNKS)
    def test_chunks(self, chunks, regime, dtype, calls):
        logits, labels = make(regime, dtype=dtype)
        x, y = chunked(logits.astype(dtype), labels, CHUNKS[chunks])
        value, grad = run(x, y)
        base = reference(logits, labels)
        assert (value.dtype, value.shape, grad.dtype) == (dtype, (), dtype)
        np.testing.assert_allclose(value, base.value, **tolerance(dtype, "value"))
        np.testing.assert_allclose(grad, gradient(logits, labels), **gradient_tolerance(dtype, base))
        np.testing.assert_array_equal(ohemloss.ohem_cross_entropy(x, y).compute(), value)
        assert len(calls) == 2

    @pytest.mark.parametrize("dtype", ["float32", "float64"])
    @pytest.mark.parametrize("name", OPTIONS)
    def test_options(self, name, dtype, calls):
        options = OPTIONS[name]
        logits, labels = make("3% hard", ignored=0.0 if "no" in name else 0.1, dtype=dtype)
        if options.get("ignore_index"):
            labels[labels == 255] = options["ignore_index"]
        value, grad = run(*chunked(logits.astype(dtype), labels), **options)
        expected = ohemloss.value_and_grad(logits.astype(dtype), labels, **options)
        np.testing.assert_allclose(value, expected[0], **tolerance(dtype, "value"))
        np.testing.assert_allclose(grad, expected[1], rtol=1e-5, atol=1e-8)
        assert len(calls) == 1

    @pytest.mark.parametrize("shape", [(2, 6, 7), (6, 7), (6, 1), (1, 1, 7), (1, 6, 7), (1,), ()])
    def test_pixel_weights(self, shape, calls):
        """They broadcast to the labels, whatever chunks they are in."""
        logits, labels = make("3% hard")
        u = np.random.default_rng(0).uniform(0, 3, shape)
        weights = da.from_array(u, chunks=tuple(max(1, length - 1) for length in shape))
        value, grad = run(*chunked(logits, labels), pixel_weight=weights, weight=[1.0, 2.0, 0.5, 1.0, 3.0])
        expected = ohemloss.value_and_grad(logits, labels, pixel_weight=u, weight=[1.0, 2.0, 0.5, 1.0, 3.0])
        np.testing.assert_allclose(value, expected[0], rtol=1e-13)
        np.testing.assert_allclose(grad, expected[1], rtol=1e-12, atol=1e-15)
        assert len(calls) == 1

    def test_class_weights_in_chunks(self, calls):
        logits, labels = make("3% hard")
        weight = np.asarray([1.0, 2.0, 0.5, 1.0, 3.0])
        value, grad = run(*chunked(logits, labels), weight=da.from_array(weight, chunks=2))
        expected = ohemloss.value_and_grad(logits, labels, weight=weight)
        np.testing.assert_allclose(value, expected[0], rtol=1e-13)
        np.testing.assert_allclose(grad, expected[1], rtol=1e-12, atol=1e-15)
        assert len(calls) == 1

    @pytest.mark.parametrize("axis", [0, 2, -1])
    def test_axis(self, axis, calls):
        logits, labels = make("3% hard")
        x = da.moveaxis(da.from_array(logits, chunks=(1, 2, 4, 3)), 1, axis)
        value, grad = run(x, da.from_array(labels, chunks=(2, 5, 7)), axis=axis)
        expected = ohemloss.value_and_grad(np.moveaxis(logits, 1, axis), labels, axis=axis)
        np.testing.assert_allclose(value, expected[0], rtol=1e-13)
        np.testing.assert_allclose(grad, expected[1], rtol=1e-12, atol=1e-15)
        assert len(calls) == 1

    @pytest.mark.parametrize("dtype", ["int8", "uint8", "int32", "uint64"])
    def test_labels_of_any_dtype_and_chunks(self, dtype, calls):
        logits, labels = make()
        labels[labels == 255] = 100
        x, y = da.from_array(logits, chunks=(1, 5, 3, 3)), da.from_array(labels.astype(dtype), chunks=(2, 2, 7))
        value, _ = run(x, y, ignore_index=100)
        np.testing.assert_allclose(value, reference(logits, labels, ignore_index=100).value, rtol=1e-13)
        assert len(calls) == 1

    def test_one_pixel(self, calls):
        logits, labels = np.asarray([0.0, 1.0, 2.0]), np.asarray(1)
        value, grad = run(da.from_array(logits, chunks=2), da.from_array(labels), axis=0, min_kept=1)
        expected = ohemloss.value_and_grad(logits, labels, axis=0, min_kept=1)
        np.testing.assert_allclose(value, expected[0], rtol=1e-13)
        np.testing.assert_allclose(grad, expected[1], rtol=1e-13)
        assert len(calls) == 1

    @pytest.mark.parametrize("machine", [False, True], ids=["blocks", "machine code"])
    def test_large_chunks(self, machine, monkeypatch):
        """The machine code of the host's path, where there is Numba, serves a chunk as it does an array."""
        from ohemloss_numpy import _machine

        if machine and _machine._fused() is None:
            pytest.skip("numba is not installed, or compiles nothing")
        monkeypatch.setattr(_machine, "FROM", 0 if machine else 10**9)
        logits, labels = make("3% hard", (3, 40, 50), 7, dtype="float32")
        weight = [1.0, 2.0, 0.5, 1.0, 3.0, 1.0, 1.0]
        various: list[dict[str, Any]] = [{}, {"thresh": 0.01, "min_kept": 0.4}, {"weight": weight}]
        for options in various:
            value, grad = run(*chunked(logits.astype("f4"), labels, (2, 7, 25, 50)), **options)
            expected = ohemloss.value_and_grad(logits.astype("f4"), labels, **options)
            np.testing.assert_allclose(value, expected[0], **tolerance("float32", "value"))
            np.testing.assert_allclose(grad, expected[1], rtol=1e-5, atol=1e-9)


class TestConventions:
    """What holds for every library at the edges."""

    def check(self, logits, labels, **options):
        chunks = (1, *(2,) * (logits.ndim - 1))
        with np.errstate(all="ignore"):
            expected = ohemloss.value_and_grad(logits, labels, **options)
        value, grad = run(*chunked(logits, labels, chunks), **options)
        np.testing.assert_allclose(value, expected[0], rtol=1e-6)
        np.testing.assert_allclose(grad, expected[1], rtol=1e-6, atol=1e-12)
        return value, grad

    @pytest.mark.parametrize("shape", [(0, 3, 4), (2, 3, 0), (0, 3, 0)])
    def test_no_pixel(self, shape):
        value, grad = run(da.zeros(shape), da.zeros((shape[0], shape[2]), dtype=int))
        assert value == 0
        assert grad.shape == shape

    def test_all_ignored(self):
        logits, labels = make()
        value, grad = self.check(logits, np.full_like(labels, 255))
        assert value == 0
        assert not grad.any()

    def test_none_hard_and_none_kept(self):
        logits, labels = make()
        assert self.check(logits, labels, thresh=None, min_kept=0)[0] == 0

    def test_ties_across_chunks(self):
        logits, labels = np.zeros((8, 2)), np.zeros(8, np.int64)
        logits[:, 0] = 2.0
        _, grad = self.check(logits, labels, min_kept=3)
        assert len(np.unique(grad[:, 0])) == 1

    @pytest.mark.parametrize("dtype", ["float32", "float64"])
    def test_a_loss_of_zero_is_above_what_is_ignored(self, dtype):
        """The last place is a pixel of loss 0, with ignored ones beside it."""
        logits, labels = np.zeros((6, 2), dtype), np.asarray([0, 0, 0, 255, 255, 255])
        logits[:, 0] = 1000.0
        logits[0, 0] = 0.0
        value, _ = self.check(logits, labels, min_kept=3)
        np.testing.assert_allclose(value, np.log(2) / 3, rtol=1e-6)

    @pytest.mark.parametrize("where", ["logits", "labels", "both"])
    def test_nan_is_hard(self, where):
        logits, labels = make("3% hard")
        if where != "labels":
            logits[0, 1, 2, 3] = np.nan
            labels[0, 2, 3] = 1
        value, grad = ohemloss.value_and_grad(*chunked(logits, labels))
        if where != "logits":
            labels[1, 3, 3] = 77
            value, grad = ohemloss.value_and_grad(*chunked(logits, labels))
        assert np.isnan(value.compute())
        bad = np.isnan(grad.compute()).all(axis=1)
        assert bad[0, 2, 3] == (where != "labels")
        assert bad[1, 3, 3] == (where != "logits")
        assert bad.sum() == (2 if where == "both" else 1)

    def test_nan_of_an_ignored_pixel_is_nothing(self):
        logits, labels = make()
        logits[0, :, 0, 0], labels[0, 0, 0] = np.nan, 255
        value, _ = self.check(logits, labels)
        assert np.isfinite(value)

    @pytest.mark.parametrize("thresh", [None, 1.0])
    @pytest.mark.parametrize("dtype", ["float32", "float64"])
    def test_infinite_losses(self, dtype, thresh):
        """Also minus infinity, of a negative weight: as low as what is ignored, and it competes all the same."""
        logits, labels = make(dtype=dtype)
        logits = logits.astype(dtype)
        labels[0, 0] = 2
        logits[0, 2, 0, :5] = -np.inf
        for weight in ([1.0, 1.0, 1.0, 1.0, 1.0], [1.0, 1.0, -1.0, 1.0, 1.0]):
            n_valid = int(np.count_nonzero(labels != 255))
            for min_kept in (3, 20, n_valid):
                self.check(logits, labels, thresh=thresh, min_kept=min_kept, weight=weight)

    def test_overflow_of_float32(self):
        logits, labels = np.zeros((4, 2), np.float32), np.zeros(4, np.int64)
        logits[:, 1] = 3e38
        assert self.check(logits, labels, reduction="sum")[0] == np.inf


class TestDigits:
    @pytest.mark.parametrize("dtype", ["float32", "float64"])
    @pytest.mark.parametrize("seed", range(5))
    def test_every_rank(self, seed, dtype):
        """Digit by digit over pieces it is what a sort gives."""
        rng = np.random.default_rng(seed)
        x = (rng.normal(size=60) * 10.0 ** rng.integers(-40, 38, 60)).astype(dtype)
        x[::7], x[1::9] = rng.choice(np.asarray([0.0, -0.0, np.inf, -np.inf, 1.0, np.nextafter(x.dtype.type(1), 2)]), 2)
        ranked = np.sort(x)[::-1]
        for k in range(1, 61):
            low, rank = 0, k
            for shift in _digits.shifts(x.dtype):
                counts = sum(_digits.histogram(piece, low, shift) for piece in np.split(x, [13, 13, 40]))
                digit, rank = _digits.digit(counts, rank)
                low += digit << shift
            assert _digits.number(low, x.dtype) == ranked[k - 1]

    def test_nan_is_as_infinity(self):
        for x in (np.asarray([np.nan, np.inf, 1.0]), np.asarray([-np.nan, np.inf, 1.0], np.float32)):
            keys = _digits._keys(x)
            assert keys[0] == keys[1] > keys[2]
            assert _digits.number(int(keys[0]), x.dtype) == np.inf


class TestDeclined:
    """What the composite does, as before."""

    @pytest.mark.parametrize(
        "options",
        [
            {"rule": ohemloss.MiningRule(ties="keep")},
            {"rule": ohemloss.MiningRule(per_image="mean")},
            {"min_kept": lambda counts: counts.valid // 3},
            {"min_kept": np.asarray(9)},
            {"thresh": np.asarray(0.4)},
            {"positives": True},
        ],
        ids=["rule", "per image", "function", "count as an array", "thresh as an array", "positives"],
    )
    def test_options(self, options, calls):
        logits, labels = make("3% hard")
        if "positives" in options:
            options = {"positives": labels == 1}
        lazy = {name: da.from_array(value) if hasattr(value, "shape") else value for name, value in options.items()}
        value, _ = ohemloss.value_and_grad(*chunked(logits, labels, (2, 5, 3, 7)), **lazy)
        np.testing.assert_allclose(value.compute(), ohemloss.ohem_cross_entropy(logits, labels, **options), rtol=1e-13)
        assert calls == []

    def test_no_reduction(self, calls):
        logits, labels = make("3% hard")
        mined = ohemloss.ohem_cross_entropy(*chunked(logits, labels), reduction="none")
        expected = ohemloss.ohem_cross_entropy(logits, labels, reduction="none")
        np.testing.assert_allclose(mined.compute(), expected, rtol=1e-12)
        assert calls == []

    def test_resize(self, calls):
        logits, labels = make("3% hard")
        x, y = da.from_array(logits[..., ::2, ::2], chunks=(1, 5, 2, 2)), da.from_array(labels, chunks=(1, 3, 7))
        value = ohemloss.ohem_cross_entropy(x, y, resize="bilinear")
        expected = ohemloss.ohem_cross_entropy(logits[..., ::2, ::2], labels, resize="bilinear")
        np.testing.assert_allclose(value.compute(), expected, rtol=1e-12)
        assert calls == []

    def test_unknown_chunks(self):
        """Where a mask has left nobody knows how many pixels."""
        logits, labels = make("3% hard")
        x, y = da.from_array(np.moveaxis(logits, 1, -1).reshape(-1, 5), chunks=(20, 5)), da.from_array(labels.ravel())
        known = y != 255
        inputs = Inputs(logits=x[known], labels=y[known])
        assert _op.loss(ENGINE, inputs, Options()) is NotImplemented
        assert _op.value_and_grad(ENGINE, inputs, Options()) is NotImplemented

    @pytest.mark.parametrize("name", ["logits", "labels", "weight", "pixel_weight"])
    def test_chunks_of_another_kind(self, name):
        """Masked arrays, sparse ones, or those of a device."""
        arrays = {
            "logits": da.zeros((2, 3, 4)),
            "labels": da.zeros((2, 4), dtype=int),
            "weight": da.ones(3),
            "pixel_weight": da.ones((2, 4)),
        }
        options = Options()
        assert _op.loss(ENGINE, Inputs(**arrays), options) is not NotImplemented
        arrays[name] = da.ma.masked_array(arrays[name])
        assert _op.loss(ENGINE, Inputs(**arrays), options) is NotImplemented


class Store:
    """What Dask reads chunks from, and how often it read each."""

    def __init__(self, array):
        self.array, self.reads = array, {}
        self.shape, self.dtype, self.ndim = array.shape, array.dtype, array.ndim

    def __getitem__(self, place):
        starts = tuple(part.start for part in place)
        if all(part.stop > part.start for part in place):
            self.reads[starts] = self.reads.get(starts, 0) + 1
        return self.array[place]


class TestGraph:
    @pytest.mark.parametrize("scheduler", ["synchronous", "threads"])
    @pytest.mark.parametrize("min_kept", [0.0, 0.5])
    @pytest.mark.parametrize("chunks", [(1, 5, 3, 7), (1, 2, 3, 7)], ids=["classes together", "classes apart"])
    def test_one_pass(self, chunks, min_kept, scheduler):
        """Each chunk of logits and of labels is read once for the value, whether or not there is a search."""
        logits, labels = make()
        x, y = Store(logits), Store(labels)
        lazy = da.from_array(x, chunks=chunks), da.from_array(y, chunks=(1, 3, 7))
        value = ohemloss.ohem_cross_entropy(*lazy, min_kept=min_kept).compute(scheduler=scheduler)
        np.testing.assert_allclose(value, reference(logits, labels, min_kept=min_kept).value, rtol=1e-13)
        assert set(x.reads.values()) == set(y.reads.values()) == {1}
        assert len(x.reads) == lazy[0].npartitions
        assert len(y.reads) == lazy[1].npartitions

    def test_what_is_not_needed_is_not_done(self, monkeypatch):
        """Nothing is searched if enough pixels are hard, and in a chunk alone never."""
        from ohemloss_numpy import _quick

        for module, name in ((_digits, "histogram"), (_quick, "_largest")):
            monkeypatch.setattr(module, name, lambda *_: pytest.fail("searched"))
        logits, labels = make("40% hard")
        np.testing.assert_allclose(run(*chunked(logits, labels))[0], reference(logits, labels).value, rtol=1e-13)

    def test_one_pass_for_the_gradient(self):
        """And once for both."""
        logits, labels = make()
        x = Store(logits)
        value, grad = ohemloss.value_and_grad(
            da.from_array(x, chunks=(1, 5, 3, 7)), da.from_array(labels, chunks=(1, 3, 7))
        )
        dask.compute(value, grad)
        assert set(x.reads.values()) == {1}

    @pytest.mark.parametrize(("dtype", "most"), [("float32", 11), ("float64", 15)])
    def test_tasks(self, dtype, most):
        """So many per chunk, reading included."""
        x = da.zeros((64, 3, 4, 4), dtype=dtype, chunks=(1, 3, 4, 4))
        y = da.zeros((64, 4, 4), dtype="int64", chunks=(1, 4, 4))
        (value,) = dask.optimize(ohemloss.ohem_cross_entropy(x, y))
        assert len(value.__dask_graph__()) <= most * 64

    def test_same_call_same_names(self):
        """So that Dask knows what it has."""
        x, y = chunked(*make())
        names = [ohemloss.ohem_cross_entropy(x, y, min_kept=k).name for k in (5, 5, 6)]
        assert names[0] == names[1] != names[2]

    def test_names_of_the_steps(self):
        """They are what a progress bar and a dashboard show."""
        value, grad = ohemloss.value_and_grad(*chunked(*make()))
        assert grad.name.startswith("ohem-gradient-")
        steps = {name.rpartition("-")[0] for name in value.dask.layers if name.startswith("ohem")}
        assert steps == {
            f"ohem-{step}" for step in ("losses", "tally", "start", "histogram", "narrow", "above", "finish", "value")
        }

    def test_progress_bar(self):
        from dask.diagnostics import ProgressBar

        shown = io.StringIO()
        with ProgressBar(out=shown):
            ohemloss.ohem_cross_entropy(*chunked(*make())).compute(scheduler="threads")
        assert "100% Completed" in shown.getvalue()

    @pytest.mark.parametrize("min_kept", [0.05, 0.5])
    def test_bits_do_not_depend_on_who_computes(self, min_kept):
        logits, labels = make("40% hard", (4, 30, 30), dtype="float32")
        lazy = ohemloss.value_and_grad(*chunked(logits.astype("f4"), labels, (1, 5, 7, 30)), min_kept=min_kept)
        with dask.config.set(scheduler="synchronous"):
            expected = dask.compute(*lazy)
        for n in (1, 2, 7):
            for value, base in zip(dask.compute(*lazy, scheduler="threads", num_workers=n), expected, strict=True):
                assert value.tobytes() == base.tobytes()

    def test_one_thread_for_a_chunk(self, monkeypatch):
        """Dask has threads of its own."""
        from ohemloss_numpy import _threads

        monkeypatch.delenv("OHEMLOSS_NUM_THREADS", raising=False)
        monkeypatch.setattr(_threads, "_processors", lambda: 8)
        monkeypatch.setattr(_threads, "_pool_of", lambda n: pytest.fail(f"{n} threads were asked for"))
        run(*chunked(*make(shape=(2, 300, 300)), (2, 5, 300, 300)))


class TestStored:
    """Arrays that are read from files."""

    def test_npy_stack(self, tmp_path):
        logits, labels = make("3% hard")
        x, y = chunked(logits, labels, (1, 5, 6, 7))
        da.to_npy_stack(tmp_path / "x", x)
        da.to_npy_stack(tmp_path / "y", y)
        value, grad = run(da.from_npy_stack(tmp_path / "x"), da.from_npy_stack(tmp_path / "y"), min_kept=0.3)
        expected = ohemloss.value_and_grad(logits, labels, min_kept=0.3)
        np.testing.assert_allclose(value, expected[0], rtol=1e-13)
        np.testing.assert_allclose(grad, expected[1], rtol=1e-12, atol=1e-15)
        assert type(grad) is np.ndarray

    def test_zarr(self, tmp_path):
        zarr = pytest.importorskip("zarr")
        logits, labels = make("3% hard")
        for name, array, chunks in (("x", logits, (1, 5, 4, 7)), ("y", labels, (2, 6, 7))):
            stored = zarr.create_array(str(tmp_path / name), shape=array.shape, chunks=chunks, dtype=array.dtype)
            stored[...] = array
        x, y = da.from_zarr(str(tmp_path / "x")), da.from_zarr(str(tmp_path / "y"))
        value, grad = ohemloss.value_and_grad(x, y, min_kept=0.3)
        expected = ohemloss.value_and_grad(logits, labels, min_kept=0.3)
        np.testing.assert_allclose(value.compute(scheduler="threads"), expected[0], rtol=1e-13)
        np.testing.assert_allclose(grad.compute(scheduler="threads"), expected[1], rtol=1e-12, atol=1e-15)


# One chunk at a time. A piece is written again and again: it is there as often in memory as it is read.
MEMORY = """
import json, pickle, re
import dask, dask.array as da
import numpy as np
import ohemloss
FOLDER, N = {folder!r}, 60
rng = np.random.default_rng(0)
piece = rng.normal(size=(1, 8, 512, 512)).astype(np.float32)
labels = rng.integers(8, size=(1, 512, 512), dtype=np.uint8)
for name, array in (("x", piece), ("y", labels)):
    chunks = ((1,) * N, *((length,) for length in array.shape[1:]))
    da.to_npy_stack(f"{{FOLDER}}/{{name}}", da.from_array(array, chunks=-1))
    for i in range(1, N):
        np.save(f"{{FOLDER}}/{{name}}/{{i}}.npy", array)
    with open(f"{{FOLDER}}/{{name}}/info", "wb") as info:
        pickle.dump({{"chunks": chunks, "dtype": array.dtype, "axis": 0}}, info)
lazy = [da.from_npy_stack(f"{{FOLDER}}/{{name}}", mmap_mode=None) for name in ("x", "y")]

def call(x, y, **options):
    return float(ohemloss.ohem_cross_entropy(x, y, **options).compute(scheduler="synchronous"))

def peak():
    return 1024 * int(re.search(r"VmHWM:\\s+(\\d+)", open("/proc/self/status").read())[1])

call(*(array[:1] for array in lazy), min_kept=0.5)
before = peak()
found = [call(*lazy, min_kept=0.5, thresh=thresh) for thresh in (None, 0.7)]
growth = peak() - before
expected = [ohemloss.ohem_cross_entropy(piece, labels, min_kept=0.5, thresh=thresh) for thresh in (None, 0.7)]
np.testing.assert_allclose(found, expected, rtol=2e-6)
print(json.dumps([growth, lazy[0].nbytes, lazy[1].size]))
"""


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="this system does not tell the peak")
def test_memory(tmp_path):
    """Of half a gigabyte of logits the losses are held, 4 bytes a pixel, and a few chunks of 8 MB."""
    growth, n_bytes, n_pixels = _processes.run(MEMORY.format(folder=str(tmp_path)))
    assert n_bytes > 500_000_000
    assert growth < 4 * n_pixels + 3 * n_bytes / 60


@pytest.fixture(scope="module")
def client():
    distributed = pytest.importorskip("distributed")
    setting = {"n_workers": 2, "threads_per_worker": 1, "processes": True, "dashboard_address": None}
    names = ("distributed.comm.timeouts.connect", "distributed.comm.timeouts.tcp")
    timeouts = dict.fromkeys(names, f"{_processes.GUARD}s")
    with (
        dask.config.set({**timeouts, "distributed.scheduler.worker-ttl": None}),
        distributed.LocalCluster(**setting) as cluster,
        distributed.Client(cluster, set_as_default=False) as one,
    ):
        yield one


class TestDistributed:
    """Two processes that share the chunks."""

    @pytest.mark.parametrize("regime", REGIMES)
    @pytest.mark.parametrize("chunks", ["batch", "uneven"])
    def test_value_and_gradient(self, chunks, regime, client):
        logits, labels = make(regime)
        lazy = ohemloss.value_and_grad(*chunked(logits, labels, CHUNKS[chunks]))
        value, grad = dask.compute(*lazy, scheduler=client)
        np.testing.assert_allclose(value, reference(logits, labels).value, rtol=1e-13)
        np.testing.assert_allclose(grad, gradient(logits, labels), rtol=1e-6, atol=1e-9)
        # The same bits as of one thread.
        for found, base in zip((value, grad), dask.compute(*lazy, scheduler="synchronous"), strict=True):
            assert found.tobytes() == base.tobytes()

    def test_both_have_worked(self, client, tmp_path):
        """Each chunk is read once, by one of the two; neither goes on before both have read one."""

        def read(chunk, block_id):
            with open(tmp_path / str(os.getpid()), "a", encoding="utf-8") as file:
                file.write(f"{block_id}\n")
            while len(os.listdir(tmp_path)) < 2:
                time.sleep(0.01)
            return chunk

        logits, labels = make(shape=(16, 6, 7))
        x, y = chunked(logits, labels, (1, 5, 6, 7))
        x = x.map_blocks(read, dtype=x.dtype, meta=np.empty((0, 0, 0, 0)))
        value = ohemloss.ohem_cross_entropy(x, y, min_kept=0.5).compute(scheduler=client)
        np.testing.assert_allclose(value, reference(logits, labels, min_kept=0.5).value, rtol=1e-13)
        by_process = [path.read_text(encoding="utf-8").split("\n")[:-1] for path in tmp_path.iterdir()]
        assert len(by_process) == 2
        assert sorted(itertools.chain(*by_process)) == sorted(f"({i}, 0, 0, 0)" for i in range(16))

    def test_progress_bar(self, client, capsys):
        from distributed import progress

        future = client.compute(ohemloss.ohem_cross_entropy(*chunked(*make())))
        with client.as_current():
            progress(future, notebook=False)
        future.result()
        assert "100% Completed" in capsys.readouterr().out
