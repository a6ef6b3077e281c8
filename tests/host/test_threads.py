"""Threads in host memory: how many, that they share the work, and that the bits do not depend on them."""

import multiprocessing
import os
import random
import threading
from collections import deque
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest

import ohemloss
from ohemloss_numpy import _host, _seams, _threads
from tests._cases import MODES, REGIMES, make, make_small
from tests._processes import GUARD

from ._workers import bits


@pytest.fixture
def processors(monkeypatch):
    """Five, and no other limit."""
    monkeypatch.delenv("OHEMLOSS_NUM_THREADS", raising=False)
    monkeypatch.setattr(_threads, "cpu_quota", lambda root, group: None)
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: set(range(5)), raising=False)


@pytest.mark.usefixtures("processors")
class TestThreadCount:
    def test_affinity_and_limits(self, monkeypatch):
        assert [_threads.thread_count(n) for n in (None, 1, 4, 9)] == [5, 1, 4, 5]
        monkeypatch.setattr(_threads, "cpu_quota", lambda root, group: 3)
        assert _threads.thread_count() == 3

    def test_processors_where_there_is_no_affinity(self, monkeypatch):
        monkeypatch.delattr(os, "sched_getaffinity")
        for n_processors, expected in ((7, 7), (None, 1)):
            monkeypatch.setattr(os, "cpu_count", lambda n=n_processors: n)
            assert _threads.thread_count() == expected

    def test_daemonic_process(self, monkeypatch):
        monkeypatch.setitem(multiprocessing.current_process()._config, "daemon", True)
        assert _threads.thread_count() == 1
        monkeypatch.setenv("OHEMLOSS_NUM_THREADS", "6")
        assert _threads.thread_count() == _threads.thread_count(2) == 6

    @pytest.mark.parametrize("value", ["0", "x", "", "-1", "1.5", " 2", "²"])
    def test_environment_that_means_nothing(self, monkeypatch, value):
        monkeypatch.setenv("OHEMLOSS_NUM_THREADS", value)
        with pytest.raises(ValueError, match=r"^`OHEMLOSS_NUM_THREADS` must be a positive integer: got ") as error:
            ohemloss.ohem_cross_entropy(np.zeros((2, 3)), np.zeros(2, np.int64))
        assert repr(value) in str(error.value)


class TestQuota:
    @pytest.mark.parametrize(
        ("files", "group", "expected"),
        [
            ({"cpu.max": "150000 100000"}, "/", 2),
            ({"cpu.max": "50000 100000"}, "", 1),
            ({"cpu.max": "max 100000"}, "/", None),
            ({"cpu.max": "nonsense"}, "/", None),
            ({}, "/a/b", None),
            ({"a/b/cpu.max": "max 100000", "a/cpu.max": "400000 100000", "cpu.max": "900000 100000"}, "/a/b", 4),
            ({"a/b/cpu.max": "300000 100000", "a/cpu.max": "400000 100000"}, "/a/b", 3),
            ({"a/b/cpu.max": "300000 100000"}, "/a", None),
            ({"../cpu.max": "100000 100000"}, "/a", None),
            ({"cpu/cpu.cfs_quota_us": "250000", "cpu/cpu.cfs_period_us": "100000"}, "", 3),
            ({"cpu/cpu.cfs_quota_us": "-1", "cpu/cpu.cfs_period_us": "100000"}, "", None),
            ({"cpu/cpu.cfs_quota_us": "100000"}, "", None),
        ],
    )
    def test_files(self, tmp_path, files, group, expected):
        root = tmp_path / "root"
        root.mkdir()
        for name, text in files.items():
            (root / name).parent.mkdir(parents=True, exist_ok=True)
            (root / name).write_text(text + "\n")
        assert _threads.cpu_quota(root, group) == expected

    def test_this_process(self):
        quota = _threads.cpu_quota(_threads._CGROUPS, _threads._cgroup())
        assert quota is None or quota >= 1


@pytest.fixture
def own_pool(monkeypatch):
    monkeypatch.setattr(_threads, "_pool", None)
    yield
    if _threads._pool is not None:
        _threads._pool[1].shutdown()


class TestRun:
    @pytest.mark.parametrize("n_threads", [1, 2, 4, 50])
    def test_each_job_is_done_once(self, own_pool, n_threads):
        """By as many threads as asked for: each has a job, and goes on when all of them have one."""
        n_threads_of_40_jobs = min(n_threads, 40)
        done, names, together = [], set(), threading.Barrier(n_threads_of_40_jobs)

        def work(jobs):
            done.append(next(jobs))
            names.add(threading.current_thread())
            together.wait(GUARD)
            done.extend(jobs)

        _threads.run(work, range(40), n_threads)
        assert sorted(done) == list(range(40))
        assert len(names) == n_threads_of_40_jobs
        _threads.run(lambda jobs: done.extend(jobs), [], n_threads)
        assert len(done) == 40

    def test_no_pool_for_one_job(self, own_pool):
        done: list[int] = []
        _threads.run(lambda jobs: done.extend(jobs), [0], 8)
        _threads.run(lambda jobs: done.extend(jobs), [0, 1], 1)
        assert done == [0, 0, 1]
        assert _threads._pool is None

    @pytest.mark.parametrize("who", ["caller", "helper"])
    def test_an_error_reaches_the_caller(self, own_pool, monkeypatch, who):
        """The jobs that are left are dropped, and the call returns when no thread works for it."""
        caller, together = threading.current_thread(), threading.Barrier(2)
        dropped, returned, done = threading.Event(), threading.Event(), []

        class Jobs(deque):
            def clear(self):
                super().clear()
                dropped.set()

        def work(jobs):
            job = next(jobs)
            together.wait(GUARD)
            if (threading.current_thread() is caller) == (who == "caller"):
                raise KeyError(job)
            dropped.wait(GUARD)
            # A caller that does not wait for its helper returns in this time.
            is_over = who == "caller" and returned.wait(0.05)
            done.extend([is_over, *jobs])

        monkeypatch.setattr(_threads, "deque", Jobs)
        with pytest.raises(KeyError):
            _threads.run(work, range(500), 2)
        returned.set()
        assert done == [False]
        _threads.run(lambda jobs: done.extend(jobs), range(7), 2)
        assert len(done) == 8

    def test_pool_is_used_again(self, own_pool):
        pool = _threads._pool_of(2)
        assert _threads._pool_of(2) is pool
        assert _threads._pool_of(1) is pool
        larger = _threads._pool_of(3)
        assert larger is not pool
        assert _threads._pool_of(2) is larger
        assert pool.submit(int).result() == 0  # it still serves those who hold it
        pool.shutdown()

    def test_a_pool_that_is_gone(self, own_pool):
        pool = _threads._pool_of(2)
        pool.shutdown()
        done = []
        _threads.run(lambda jobs: done.extend(jobs), range(9), 3)
        assert done == list(range(9))

    def test_a_thread_that_cannot_be_started(self, own_pool, monkeypatch):
        """The one thread of the pool serves another call, and is still at work when the caller has nothing left."""
        caller, done = threading.current_thread(), []
        busy, helped, left = threading.Event(), threading.Event(), threading.Event()
        _threads._pool_of(2).submit(busy.wait)

        def fail(thread):
            raise RuntimeError(thread)

        def work(jobs):
            is_caller = threading.current_thread() is caller
            done.append(next(jobs))
            (busy if is_caller else helped).set()
            (helped if is_caller else left).wait(GUARD)
            done.extend(jobs)
            left.set()

        monkeypatch.setattr(threading.Thread, "start", fail)
        _threads.run(work, range(4), 3)
        assert sorted(done) == list(range(4))


# Of more than one chunk: parts of images, chunks that all see one row, and whole images; lines; volumes.
SIZES: list[Any] = [((2, 5, 7, 6), (53, 24)), ((2, 5, 1, 3), (40, 9)), ((1, 5, 30, 8), (9, 20)), ((9, 5, 2, 2), (5, 4))]
SIZES += [((2, 5, 31), (247,)), ((1, 5, 5, 3, 2), (31, 4, 5))]
CALLS = {
    "plain": [(*make(regime, shape=(2, 20, 30), n_classes=7), {}) for regime in ("95% hard", "3% hard")],
    "resized": [(*make_small("95% hard", *sizes), {"resize": MODES[len(sizes[1])]}) for sizes in SIZES],
}


def on_threads(n_threads, call, patch):
    patch.setenv("OHEMLOSS_NUM_THREADS", str(n_threads))
    x, y, options = call
    return bits(*ohemloss.value_and_grad(x, y, **options))


class TestSameBits:
    @pytest.mark.parametrize("calls", CALLS.values(), ids=CALLS)
    @pytest.mark.parametrize("dtype", ["float16", "float32"])
    def test_whatever_thread_does_what(self, worker, cut_small, monkeypatch, calls, dtype):
        """Any number of threads, and any order of the chunks."""
        for logits, labels, options in calls:
            call = logits.astype(dtype), labels, options
            first = on_threads(1, call, monkeypatch)
            for n_threads in (2, 3, 8):
                assert on_threads(n_threads, call, monkeypatch) == first
            for seed in range(5):

                def shuffled(work, jobs, n_threads, seed=seed):
                    jobs = list(jobs)
                    assert len(jobs) > 2
                    random.Random(seed).shuffle(jobs)
                    work(iter(jobs))

                with monkeypatch.context() as patch:
                    patch.setattr(_threads, "run", shuffled)
                    assert on_threads(1, call, patch) == first

    def test_a_large_call(self, worker, monkeypatch):
        """With nothing made small: several chunks, and several threads."""
        rng = np.random.default_rng(0)
        x, y = rng.normal(size=(2, 19, 200, 300)).astype(np.float32), rng.integers(19, size=(2, 200, 300))
        many = on_threads(4, (x, y, {"thresh": 0.05}), monkeypatch)
        assert on_threads(1, (x, y, {"thresh": 0.05}), monkeypatch) == many

    def test_calls_at_once(self, worker, cut_small):
        """From several threads, whose calls share the pool."""
        cases = [(*make(regime, shape=(2, 11, 53), seed=seed), {}) for seed in range(2) for regime in REGIMES]
        cases += [(*make_small(regime, (1, 5, 5, 4), (22, 13)), {"resize": "bilinear"}) for regime in REGIMES]
        call = lambda case: bits(*ohemloss.value_and_grad(case[0].astype(np.float32), case[1], **case[2]))
        expected, together, found = [call(case) for case in cases], threading.Barrier(4), []

        def calls():
            together.wait(GUARD)
            found.append([call(case) for case in cases])

        with ThreadPoolExecutor(4) as pool:
            for _ in range(4):
                pool.submit(calls)
        assert found == [expected] * 4


def test_little_waits_for_other_chunks(worker, cut_small, monkeypatch):
    """Nothing of chunks that come in their order; and only what they share is kept for the next one."""
    logits, labels = make_small("95% hard", (1, 5, 20, 6), (120, 6))
    sizes, close = [], _seams.Seams._close

    def seen(self, slab, found):
        sizes.append((len(self._waiting), len(found), slab.seen.stop - slab.seen.start))
        return close(self, slab, found)

    monkeypatch.setattr(_seams.Seams, "_close", seen)
    on_threads(1, (logits.astype(np.float32), labels, {"resize": "bilinear"}), monkeypatch)
    assert len(sizes) > 5
    assert {n_waiting for n_waiting, *_ in sizes} == {0}
    assert all(shared <= min(4, seen) for _, shared, seen in sizes)


@pytest.fixture
def asked(processors, monkeypatch):
    """How many threads calls ask for."""
    found, run = [], _threads.run
    monkeypatch.setattr(_threads, "run", lambda work, jobs, n: (found.append(n), run(work, jobs, n))[1])
    return found


def test_a_thread_has_enough_to_do(worker, asked, monkeypatch):
    logits, labels = make(shape=(2, 6, 45))
    for share in (1, 2, 100):
        monkeypatch.setattr(_host, "_PER_THREAD", logits.size // share + 1)
        ohemloss.ohem_cross_entropy(logits.astype(np.float32), labels)
    assert asked == [1, 2, 5]


def test_threads_of_torch_are_a_limit(worker, cut_small, asked):
    torch = pytest.importorskip("torch")
    logits, labels = make(shape=(2, 6, 45), dtype="float32")
    x, y = torch.tensor(logits, dtype=torch.float32, requires_grad=True), torch.tensor(labels)
    before = torch.get_num_threads()
    try:
        for n in (1, 3):
            torch.set_num_threads(n)
            ohemloss.ohem_cross_entropy(x, y).backward()
    finally:
        torch.set_num_threads(before)
    assert asked == [1, 1, 3, 3]
