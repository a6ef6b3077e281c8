"""Processes that form a group of PyTorch and stay: code runs in all of them, without starting them anew."""

import atexit
import contextlib
import functools
import json
import queue
import subprocess
import tempfile
import textwrap
import threading
from typing import Any

from tests._processes import GUARD, start

_SERVE = """
import json, os, sys, traceback
import numpy as np, torch, torch.distributed as dist
import ohemloss, ohemloss_torch

rank, n_ranks = int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])
torch.set_num_threads(1)
dist.init_process_group("gloo", init_method=os.environ["STORE"], rank=rank, world_size=n_ranks)
group = dist.group.WORLD
mesh = dist.device_mesh.init_device_mesh("cpu", (n_ranks,))
exchanges, all_reduce = [], dist.all_reduce

def counted(x, *args, **options):
    exchanges.append([list(x.shape), str(x.dtype)])
    return all_reduce(x, *args, **options)

dist.all_reduce = counted
for line in sys.stdin:
    names = dict(globals())
    try:
        exec(json.loads(line), names)
        answers = [None] * n_ranks
        dist.all_gather_object(answers, names["answer"])
        print("\\x1e" + json.dumps([answers, None]), flush=True)
    except BaseException:
        print("\\x1e" + json.dumps([None, traceback.format_exc()]), flush=True)
"""


class Ranks:
    """A group of processes. Each has `rank`, `n_ranks`, `group`, `mesh`, and the list of its `exchanges`."""

    def __init__(self, n_ranks: int) -> None:
        self._folder = tempfile.TemporaryDirectory()
        common = {"STORE": f"file://{self._folder.name}/store", "WORLD_SIZE": str(n_ranks)}
        self._said: queue.Queue[list[Any]] = queue.Queue()
        pipes = dict.fromkeys(("stdin", "stdout"), subprocess.PIPE)
        self._processes = [start(_SERVE, common | {"RANK": str(rank)}, **pipes) for rank in range(n_ranks)]
        self._listeners = [threading.Thread(target=self._listen, args=[each], daemon=True) for each in self._processes]
        for listener in self._listeners:
            listener.start()

    def ask(self, code: str) -> list[Any]:
        """Run code in each process; list what each has put into `answer`."""
        self.send(code)
        answers: list[Any] = []
        for _ in self._processes:
            found, error = self.hear()
            if error is not None:
                self.end()
                ranks.cache_clear()
                raise AssertionError(error)
            answers = found
        return answers

    def send(self, code: str) -> None:
        """Start code in each process."""
        for process in self._processes:
            process.stdin.write(json.dumps(textwrap.dedent(code)) + "\n")
            process.stdin.flush()

    def hear(self) -> list[Any]:
        """Wait for the next process that is done, or has ended: its answers, and its error."""
        return self._said.get(timeout=GUARD)

    def end(self) -> None:
        """End the processes: threads of gloo that still run abort an interpreter that ends by itself now and then."""
        for process in self._processes:
            process.kill()
            process.wait()
        for process, listener in zip(self._processes, self._listeners, strict=True):
            listener.join()
            for pipe in (process.stdin, process.stdout):
                with contextlib.suppress(BrokenPipeError):
                    pipe.close()
        self._folder.cleanup()

    def _listen(self, process: Any) -> None:
        for line in process.stdout:
            if line.startswith("\x1e"):
                self._said.put(json.loads(line[1:]))
        self._said.put([None, "a process has ended"])


@functools.cache
def ranks(n_ranks: int) -> Ranks:
    """Give the group of a size, started at the first call."""
    found = Ranks(n_ranks)
    atexit.register(found.end)
    return found
