"""Code in processes of its own: as the first call, with other devices, or in several that find each other."""

import json
import os
import socket
import subprocess
import sys
import textwrap
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path
from typing import Any

# Seconds: a guard against deadlocks, which no slow machine reaches.
GUARD = 1800
_ROOT = Path(__file__).parent.parent


def run(code, **environment) -> Any:
    """Run code; return what it printed last, as JSON."""
    return _finish([start(textwrap.dedent(code), environment)])


def run_together(code, n_processes) -> Any:
    """Run code in processes that find each other at an address; return what the first printed last."""
    with socket.socket() as reserved:
        # The port stays bound, so no other process gets it; the first process may listen at it all the same.
        reserved.setsockopt(socket.SOL_SOCKET, getattr(socket, "SO_REUSEPORT", socket.SO_REUSEADDR), 1)
        reserved.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{reserved.getsockname()[1]}"
        code = textwrap.dedent(code)
        return _finish([start(code, {"ADDRESS": address, "RANK": str(rank)}) for rank in range(n_processes)])


def start(code, environment, **pipes) -> Any:
    """Start an interpreter that runs code."""
    command = [sys.executable, "-W", "error::UserWarning", "-c", code]
    # Only the first is read: another that writes more than fits a pipe would wait, and all others for it.
    out = subprocess.PIPE if environment.get("RANK", "0") == "0" else subprocess.DEVNULL
    pipes = pipes or {"stdout": out, "stderr": subprocess.PIPE}
    return subprocess.Popen(command, **pipes, text=True, cwd=_ROOT, env=os.environ | environment)


def _finish(processes):
    try:
        with ThreadPoolExecutor(len(processes)) as pool:
            done = {pool.submit(process.communicate, timeout=GUARD): process for process in processes}
            try:
                for future in as_completed(done):
                    _, errors = future.result()
                    assert done[future].returncode == 0, errors
            finally:
                # Those that wait for a process that failed.
                for process in processes:
                    process.kill()
    finally:
        for process in processes:
            process.wait()
    lines = next(future for future in done if done[future] is processes[0]).result()[0].strip().splitlines()
    return json.loads(lines[-1]) if lines else None
