"""Processes: when threads start, forks, exits, data loaders, and how much memory a call takes."""

import os
from pathlib import Path

import numpy as np
import pytest

from tests import _processes
from tests._oracle import expect

from ._workers import WORKERS

SETUP = """
import json, os, sys, threading
import numpy as np, ohemloss
from ohemloss_numpy import _grid, _host, _machine, _threads
from tests._processes import GUARD

rng = np.random.default_rng(0)
x, y = rng.normal(size=(2, 19, 128, 160)).astype(np.float32), rng.integers(19, size=(2, 128, 160))
_machine.FROM = {start}
def call():
    value, grad = ohemloss.value_and_grad(x, y)
    return value.tobytes() + grad.tobytes()
"""
# A call has many chunks, and three threads, which go on when all of them are there.
TOGETHER = """
_machine._CHUNK, _host._PER_THREAD, _grid.BLOCK, _grid.CHUNK = 2**16, 1, 2**16, 2**12
run = _threads.run
def together(work, jobs, n_threads):
    barrier = threading.Barrier(min(n_threads, len(jobs)))
    run(lambda jobs: (barrier.wait(GUARD), work(jobs)), jobs, n_threads)
_threads.run = together
"""


def run(worker, code, *, setup=TOGETHER, **environment):
    """Run code in a process of its own."""
    setup = SETUP.replace("{start}", str(WORKERS[worker])) + setup
    return _processes.run(setup + code, **{"OHEMLOSS_NUM_THREADS": "3", **environment})


forks = pytest.mark.skipif(not hasattr(os, "fork"), reason="this system does not fork")


def test_no_thread_before_a_large_call(worker):
    code = """
counts = [threading.active_count()]
_host._PER_THREAD = 2**17
ohemloss.value_and_grad(x[:, :, :2, :4], y[:, :2, :4])
counts += [threading.active_count(), _threads._pool is None]
_host._PER_THREAD = 1
call()
print(json.dumps([*counts, threading.active_count()]))
"""
    assert run(worker, code) == [1, 1, True, 3]


@forks
def test_fork(worker):
    """After a call on threads; while another thread is inside one; and while another one holds the lock of the pool."""
    code = """
import signal
expected = call()
def child():
    pid = os.fork()
    if pid == 0:
        signal.alarm(GUARD)
        try:
            os._exit(0 if call() == expected and threading.active_count() == 3 else 7)
        except BaseException:
            os._exit(8)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
def pause():
    inside.set()
    leave.wait(GUARD)
def held(work, jobs, n_threads):
    def paused(jobs):
        if threading.current_thread() is thread:
            pause()
        work(jobs)
    together(paused, jobs, n_threads)
def hold_lock():
    with _threads._lock:
        pause()
codes, thread, _threads.run = [child()], None, held
for target in (call, hold_lock):
    inside, leave, thread = threading.Event(), threading.Event(), threading.Thread(target=target)
    thread.start()
    inside.wait(GUARD)
    codes.append(child())
    leave.set()
    thread.join()
print(json.dumps([*codes, call() == expected]))
"""
    assert run(worker, code) == [0] * 3 + [True]


def test_at_exit(worker):
    """When the interpreter has closed its pools, the calling thread does it all."""
    late = "import atexit\natexit.register(lambda: print(json.dumps({}), flush=True))\n"
    no_barrier = TOGETHER.replace("_threads.run = together", "")
    for code in ("expected = call()\n" + late.format("call() == expected"), late.format("len(call()) > 9")):
        assert run(worker, code, setup=no_barrier) is True


@forks
def test_data_loader(worker):
    pytest.importorskip("torch")
    code = """
import torch
del os.environ["OHEMLOSS_NUM_THREADS"]
class Dataset(torch.utils.data.Dataset):
    def __len__(self):
        return 6
    def __getitem__(self, i):
        value = ohemloss.ohem_cross_entropy(torch.from_numpy(x), torch.from_numpy(y))
        assert float(ohemloss.ohem_cross_entropy(x, y)) == float(value)
        return float(value), _threads.thread_count(), int(_threads._pool is None)
call()
workers = {"num_workers": 2, "multiprocessing_context": "fork", "timeout": GUARD}
loader = torch.utils.data.DataLoader(Dataset(), batch_size=1, **workers)
found = [[float(number) for number in item] for item in loader]
print(json.dumps([found, float(ohemloss.ohem_cross_entropy(x, y))]))
"""
    found, value = run(worker, code)
    assert found == [[value, 1, 1]] * 6


MEMORY = """
import re
try:
    import torch
except ImportError:
    torch = None
options = {"thresh": None, "min_kept": 0.5}
def both(x, y, **resizing):
    return ohemloss.value_and_grad(x, y, **options, **resizing)
def alone(x, y):
    return ohemloss.ohem_cross_entropy(x, y, **options)
def autograd(x, y, **resizing):
    x = x.detach().requires_grad_()
    return torch.autograd.grad(ohemloss.ohem_cross_entropy(x, y, **options, **resizing), x)
def peak():
    return 1024 * int(re.search(r"VmHWM:\\s+(\\d+)", open("/proc/self/status").read())[1])
def measure(call, x, y, **resizing):
    few = (1, 19, 8, 8) if resizing else (1, 19, 64, 64)
    call(x[tuple(slice(n) for n in few)], y[:1, :64, :64], **resizing)  # what is made once
    open("/proc/self/clear_refs", "w").write("5")
    before = peak()
    kept = call(x, y, **resizing)
    return [peak() - before, 4 * int(np.prod(x.shape)) * (call is not alone), int(np.prod(y.shape))]
found, y = {}, rng.integers(19, size=(2, 512, 1024))
for resizing, shape in (({}, (2, 19, 512, 1024)), ({"resize": "bilinear"}, (2, 19, 64, 128))):
    x = rng.random(size=shape, dtype=np.float32)
    for call in (both,) if resizing else (alone, both):
        found[f"arrays, {call.__name__}, {resizing}"] = measure(call, x, y, **resizing)
        tensors = () if torch is None else (torch.from_numpy(x), torch.from_numpy(y))
        for by in () if torch is None else (alone,) if call is alone else (both, autograd):
            found[f"tensors, {by.__name__}, {resizing}"] = measure(by, *tensors, **resizing)
print(json.dumps(found))
"""


@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="this system does not tell the peak")
def test_nothing_of_the_size_of_the_logits_but_the_gradient(worker):
    """Nor of the enlarged logits. The environment makes the C library return memory at once."""
    found = run(worker, MEMORY, setup="", MALLOC_MMAP_THRESHOLD_="65536", MALLOC_TRIM_THRESHOLD_="65536")
    assert len(found) >= 3
    for what, (extra, gradient, pixels) in found.items():
        assert extra <= gradient + 12 * pixels + 16 * 2**20, what
        # Linux counts the pages of a thread in batches, so some may be missing.
        assert extra >= gradient + 4 * pixels - 2**20, f"{what}: the measure works"
        assert "resize" not in what or extra < 19 * 4 * pixels / 2, what


@pytest.mark.parametrize("environment", [{"ABSENT": "1"}, {"NUMBA_DISABLE_JIT": "1"}], ids=str)
def test_without_numba(environment):
    """It is absent, or compiles nothing."""
    code = """
if "ABSENT" in os.environ:
    sys.modules["numba"] = None
value, grad = ohemloss.value_and_grad(x[:1], y[:1])
print(json.dumps([_machine._fused() is None, float(value), grad.astype(float).sum(axis=(0, 2, 3)).tolist()]))
"""
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(2, 19, 128, 160)).astype(np.float32), rng.integers(19, size=(2, 128, 160))
    is_absent, value, slopes = run("machine code", code, setup="", **environment)
    expected = expect(x[:1], y[:1])
    assert is_absent
    np.testing.assert_allclose(value, expected.value, rtol=1e-4)
    np.testing.assert_allclose(slopes, expected.gradient.sum(axis=(0, 2, 3)), rtol=1e-4, atol=1e-7)
