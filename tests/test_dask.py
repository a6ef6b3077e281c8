"""Dask, chunk by chunk: of the logits no more is kept than the loss of each pixel. The numbers: `conformance`."""

import itertools
import os
import time
from pathlib import Path

import numpy as np
import pytest

import ohemloss
from ohemloss._inputs import Inputs
from ohemloss._options import Options
from tests import _processes
from tests._cases import REGIMES, gradient_tolerance, make, tolerance
from tests._oracle import expect

pytest.importorskip("dask.array")
import dask
import dask.array as da

from ohemloss_dask import _digits, _graph, _op
from ohemloss_numpy._task import ENGINE

CHUNKS = {
    "one": (2, 5, 6, 7),
    "batch": (1, 5, 6, 7),
    "classes": (2, 2, 6, 7),
    "uneven": ((2,), (3, 2), (1, 4, 1), (2, 5)),
    "with none": ((0, 2), (5,), (6, 0), (7,)),
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


def assert_expected(found, logits, labels, **options):
    """Compare value and gradient with the oracle."""
    expected, dtype = expect(logits, labels, **options), str(logits.dtype)
    value, grad = found
    assert (value.dtype, value.shape, grad.dtype, type(grad)) == (dtype, (), dtype, np.ndarray)
    np.testing.assert_allclose(value, expected.value, **tolerance(dtype, "value"))
    close = gradient_tolerance(dtype, expected.steps, scale=np.max(options.get("weight", 1.0)))
    np.testing.assert_allclose(grad, expected.gradient, **close)


def check(logits, labels, chunks=(1, 2, 4, 3), **options):
    found = dask.compute(*ohemloss.value_and_grad(*chunked(logits, labels, chunks), **options))
    assert_expected(found, logits, labels, **options)
    return found


class TestServed:
    """What the graph serves, whatever the chunks."""

    @pytest.mark.parametrize("dtype", ["float32", "float64"])
    @pytest.mark.parametrize("regime", REGIMES)
    @pytest.mark.parametrize("chunks", CHUNKS)
    def test_chunks(self, chunks, regime, dtype, calls, shows):
        """One loss of the whole, however it is cut up, and nothing is computed before it is asked for."""
        logits, labels = make(regime, dtype=dtype)
        x, y = chunked(logits.astype(dtype), labels, CHUNKS[chunks])
        with dask.config.set(scheduler=lambda *_, **__: pytest.fail("computed too early")):
            lazy = ohemloss.value_and_grad(x, y)
        found = dask.compute(*lazy)
        assert_expected(found, logits.astype(dtype), labels)
        assert len(calls) == 1
        if chunks != "one":
            expected = expect(logits, labels)
            shows("Dask", "sharded", found[1], expected.gradient, **gradient_tolerance(dtype, expected.steps))

    @pytest.mark.parametrize("shape", [(2, 6, 7), (6, 7), (6, 1), (1, 1, 7), (1,), ()])
    def test_weights_in_other_chunks(self, shape, calls):
        """They broadcast to the labels, whatever chunks they are in."""
        logits, labels = make("3% hard")
        u, w = np.random.default_rng(0).uniform(0, 3, shape), np.asarray([1.0, 2.0, 0.5, 1.0, 3.0])
        weights = {
            "pixel_weight": da.from_array(u, chunks=tuple(max(1, length - 1) for length in shape)),
            "weight": da.from_array(w, chunks=2),
        }
        found = dask.compute(*ohemloss.value_and_grad(*chunked(logits, labels), **weights))
        assert_expected(found, logits, labels, pixel_weight=u, weight=w)
        assert len(calls) == 1

    @pytest.mark.parametrize("dtype", ["int8", "uint64"])
    @pytest.mark.parametrize("axis", [0, 2, -1])
    def test_labels_in_other_chunks(self, axis, dtype, calls):
        logits, labels = make("3% hard")
        labels = np.where(labels == 255, 100, labels).astype(dtype)
        x = da.moveaxis(da.from_array(logits, chunks=(1, 2, 4, 3)), 1, axis)
        found = dask.compute(
            *ohemloss.value_and_grad(x, da.from_array(labels, chunks=(2, 5, 7)), axis=axis, ignore_index=100)
        )
        assert_expected(found, np.moveaxis(logits, 1, axis), labels, axis=axis, ignore_index=100)
        assert len(calls) == 1

    def test_one_pixel(self, calls):
        logits, labels = np.asarray([0.0, 1.0, 2.0]), np.asarray(1)
        lazy = ohemloss.value_and_grad(da.from_array(logits, chunks=2), da.from_array(labels), axis=0, min_kept=1)
        assert_expected(dask.compute(*lazy), logits, labels, min_kept=1)
        assert len(calls) == 1

    @pytest.mark.parametrize("shape", [(0, 3, 4), (2, 3, 0), (0, 3, 0)])
    def test_no_pixel(self, shape):
        check(np.zeros(shape), np.zeros((shape[0], shape[2]), int), (1, 3, 2))

    @pytest.mark.parametrize("machine", [False, True], ids=["blocks", "machine code"])
    def test_large_chunks(self, machine, monkeypatch):
        """The machine code of the host's path, where there is Numba, serves a chunk as it does an array."""
        from ohemloss_numpy import _machine

        if machine and _machine._fused() is None:
            pytest.skip("numba is not installed, or compiles nothing")
        monkeypatch.setattr(_machine, "FROM", 0 if machine else 10**9)
        logits, labels = make("3% hard", (3, 40, 50), 7, dtype="float32")
        for options in ({}, {"thresh": 0.01, "min_kept": 0.4}, {"weight": [1.0, 2.0, 0.5, 1.0, 3.0, 1.0, 1.0]}):
            check(logits.astype("f4"), labels, (2, 7, 25, 50), **options)


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
    """What the composite serves, beside the options that the table of cases shows."""

    def test_unknown_chunks(self):
        """Where a mask has left nobody knows how many pixels."""
        logits, labels = make("3% hard")
        x, y = da.from_array(np.moveaxis(logits, 1, -1).reshape(-1, 5), chunks=(20, 5)), da.from_array(labels.ravel())
        inputs = Inputs(logits=x[y != 255], labels=y[y != 255])
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
        assert _op.loss(ENGINE, Inputs(**arrays), Options()) is not NotImplemented
        arrays[name] = da.ma.masked_array(arrays[name])
        assert _op.loss(ENGINE, Inputs(**arrays), Options()) is NotImplemented


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
        np.testing.assert_allclose(value, expect(logits, labels, min_kept=min_kept).value, rtol=1e-13)
        assert set(x.reads.values()) == set(y.reads.values()) == {1}
        assert [len(x.reads), len(y.reads)] == [array.npartitions for array in lazy]
        if chunks[1] == 5:
            x.reads.clear()
            dask.compute(*ohemloss.value_and_grad(*lazy), scheduler=scheduler)
            assert set(x.reads.values()) == {1}

    def test_no_search_in_vain(self, monkeypatch):
        """Nothing is searched if enough pixels are hard, and in a chunk alone never."""
        from ohemloss_numpy import _quick

        for module, name in ((_digits, "histogram"), (_quick, "_largest")):
            monkeypatch.setattr(module, name, lambda *_: pytest.fail("searched"))
        check(*make("40% hard"))

    @pytest.mark.parametrize(("dtype", "most"), [("float32", 11), ("float64", 15)])
    def test_tasks(self, dtype, most):
        """So many per chunk, reading included."""
        x = da.zeros((64, 3, 4, 4), dtype=dtype, chunks=(1, 3, 4, 4))
        y = da.zeros((64, 4, 4), dtype="int64", chunks=(1, 4, 4))
        (value,) = dask.optimize(ohemloss.ohem_cross_entropy(x, y))
        assert len(value.__dask_graph__()) <= most * 64

    def test_names(self):
        """The same call has the same name; the names of the steps are what a dashboard shows."""
        x, y = chunked(*make())
        names = [ohemloss.ohem_cross_entropy(x, y, min_kept=k).name for k in (5, 5, 6)]
        assert names[0] == names[1] != names[2]
        value, grad = ohemloss.value_and_grad(x, y)
        assert grad.name.startswith("ohem-gradient-")
        steps = {name.rpartition("-")[0] for name in value.dask.layers if name.startswith("ohem")}
        assert steps == {
            f"ohem-{step}" for step in ("losses", "tally", "start", "histogram", "narrow", "above", "finish", "value")
        }

    @pytest.mark.parametrize("min_kept", [0.05, 0.5])
    def test_bits_do_not_depend_on_who_computes(self, min_kept):
        logits, labels = make("40% hard", (4, 30, 30), dtype="float32")
        lazy = ohemloss.value_and_grad(*chunked(logits.astype("f4"), labels, (1, 5, 7, 30)), min_kept=min_kept)
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
        dask.compute(*ohemloss.value_and_grad(*chunked(*make(shape=(2, 300, 300)), (2, 5, 300, 300))))


@pytest.mark.parametrize("kind", ["npy_stack", "zarr"])
def test_stored(kind, tmp_path):
    """Arrays that are read from files."""
    arrays = make("3% hard")
    read = []
    for name, array, chunks in (("x", arrays[0], (1, 5, 6, 7)), ("y", arrays[1], (1, 6, 7))):
        path = str(tmp_path / name)
        if kind == "zarr":
            zarr = pytest.importorskip("zarr")
            zarr.create_array(path, shape=array.shape, chunks=chunks, dtype=array.dtype)[...] = array
            read.append(da.from_zarr(path))
        else:
            da.to_npy_stack(path, da.from_array(array, chunks=chunks))
            read.append(da.from_npy_stack(path))
    found = dask.compute(*ohemloss.value_and_grad(*read, min_kept=0.3), scheduler="threads")
    assert_expected(found, *arrays, min_kept=0.3)


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
    setting = {"n_workers": 2, "threads_per_worker": 1, "processes": True, "dashboard_address": ":0"}
    names = ("distributed.comm.timeouts.connect", "distributed.comm.timeouts.tcp")
    timeouts = dict.fromkeys(names, f"{_processes.GUARD}s")
    with (
        dask.config.set({**timeouts, "distributed.scheduler.worker-ttl": None}),
        distributed.LocalCluster(**setting) as cluster,
        distributed.Client(cluster, set_as_default=False) as one,
    ):
        yield one


@pytest.mark.xdist_group("cluster")
class TestDistributed:
    """Two processes that share the chunks."""

    @pytest.mark.parametrize("regime", REGIMES)
    @pytest.mark.parametrize("chunks", ["batch", "uneven"])
    def test_value_and_gradient(self, chunks, regime, client):
        logits, labels = make(regime)
        lazy = ohemloss.value_and_grad(*chunked(logits, labels, CHUNKS[chunks]))
        value, grad = dask.compute(*lazy, scheduler=client)
        assert_expected((value, grad), logits, labels)
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
        np.testing.assert_allclose(value, expect(logits, labels, min_kept=0.5).value, rtol=1e-13)
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
