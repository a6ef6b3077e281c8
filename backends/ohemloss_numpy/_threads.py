"""How many threads a call may use, and a pool of them that is made when it is first needed."""

import functools
import os
import sys
import threading
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Generic, TypeVar

Job = TypeVar("Job")

_VARIABLE = "OHEMLOSS_NUM_THREADS"
_CGROUPS = Path("/sys/fs/cgroup")

_pool: tuple[int, ThreadPoolExecutor] | None = None
_lock = threading.Lock()


def thread_count(at_most: int | None = None) -> int:
    """
    Give the number of threads of a call: that of the environment, or that of the processors this process may use.

    `at_most` is what another pool of the process was told, if there is one.

    One in a daemonic process: a worker of a pool or of a data loader shares the processors with its siblings.
    """
    asked = os.environ.get(_VARIABLE)
    if asked is not None:
        if not asked.isdecimal() or int(asked) == 0:
            msg = f"`{_VARIABLE}` must be a positive integer: got {asked!r}. Unset it to use every processor."
            raise ValueError(msg)
        return int(asked)
    processes = sys.modules.get("multiprocessing.process")  # imported wherever such a process is
    if processes is not None and processes.current_process().daemon:
        return 1
    limits = (_processors(), cpu_quota(_CGROUPS, _cgroup()), at_most)
    return min(limit for limit in limits if limit is not None)


def run(work: Callable[[Iterator[Job]], None], jobs: Sequence[Job], n_threads: int) -> None:
    """
    Call ``work(jobs)`` on several threads, which take the jobs from one iterator as they get to them.

    The calling thread is one of them, so nobody waits for a pool that is busy, or gone with the interpreter. After an
    error the jobs that are left are dropped.
    """
    team = _Team(work, jobs)
    for _ in range(min(n_threads, len(jobs)) - 1):
        try:
            _pool_of(n_threads - 1).submit(team.help)
        except RuntimeError:  # the interpreter goes down, or no thread can be made
            break
    team.work()


class _Team(Generic[Job]):
    """The threads at work on some jobs."""

    def __init__(self, work: Callable[[Iterator[Job]], None], jobs: Sequence[Job]) -> None:
        self._work, self._jobs = work, deque(jobs)
        self._changed = threading.Condition()
        self._helpers, self._is_over = 0, False
        self._errors: list[BaseException] = []

    def __iter__(self) -> Iterator[Job]:
        return self

    def __next__(self) -> Job:
        try:
            return self._jobs.popleft()
        except IndexError:
            raise StopIteration from None

    def work(self) -> None:
        """Do jobs until none is left, wait for those who help, and raise what went wrong."""
        self._do_jobs()
        with self._changed:
            # Who comes later, be it a thread that nobody knows of, finds the work done.
            self._is_over = True
            self._changed.wait_for(lambda: not self._helpers)
        if self._errors:
            raise self._errors[0]

    def help(self) -> None:
        """Do jobs beside the thread that calls `work`."""
        with self._changed:
            if self._is_over:
                return
            self._helpers += 1
        self._do_jobs()
        with self._changed:
            self._helpers -= 1
            self._changed.notify_all()

    def _do_jobs(self) -> None:
        try:
            self._work(self)
        except BaseException as error:  # noqa: BLE001  (raised again in the calling thread)
            self._jobs.clear()
            self._errors.append(error)


def _pool_of(n: int) -> ThreadPoolExecutor:
    global _pool
    with _lock:
        if _pool is None or _pool[0] < n:
            # A smaller one is left to the calls that hold it, and ends with the last of them.
            _pool = (n, ThreadPoolExecutor(n, thread_name_prefix="ohemloss"))
        return _pool[1]


def _forget() -> None:
    """Drop the pool in a child process, which has none of its threads, and may have its lock in any state."""
    global _pool, _lock
    _pool, _lock = None, threading.Lock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget)


def _processors() -> int:
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


@functools.cache
def cpu_quota(root: Path, group: str) -> int | None:
    """Give how many processors the control groups of a container allow, rounded up; None for no limit."""
    found = []
    for folder in [root / group.strip("/"), *(root / group.strip("/")).parents]:
        if not folder.is_relative_to(root):
            break
        found += [quota for quota in (_quota(folder), _quota_of_version_1(folder / "cpu")) if quota is not None]
    return min(found, default=None)


def _quota(folder: Path) -> int | None:
    try:
        limit, period = (folder / "cpu.max").read_text().split()
        return None if limit == "max" else _round_up(int(limit), int(period))
    except (OSError, ValueError):
        return None


def _quota_of_version_1(folder: Path) -> int | None:
    try:
        limit = int((folder / "cpu.cfs_quota_us").read_text())
        return None if limit < 0 else _round_up(limit, int((folder / "cpu.cfs_period_us").read_text()))
    except (OSError, ValueError):
        return None


def _round_up(limit: int, period: int) -> int:
    return max(1, -(-limit // max(period, 1)))


@functools.cache
def _cgroup() -> str:
    """Give the path of the control group of this process, of version 2."""
    try:
        lines = Path("/proc/self/cgroup").read_text().splitlines()
    except OSError:
        return ""
    return next((line[3:] for line in lines if line.startswith("0::")), "")
