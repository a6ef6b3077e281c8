"""
The most memory that one call adds to a process of its own.

A process that has run before keeps freed memory and uses it again, so the peak of a later call says little. Run as a
program, this is that process: its argument is a `Probe` in JSON, and it prints the bytes.
"""

import contextlib
import gc
import json
import math
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path

_ROOT = Path(__file__).parent.parent
_STATUS, _CLEAR = Path("/proc/self/status"), Path("/proc/self/clear_refs")
_RESET_PEAK = "5"
_PAGE_BYTES = 1024


@dataclass(frozen=True)
class Probe:
    """What is called: a variant of PyTorch, forward or also backward, on logits of a shape that `ratio` enlarges."""

    variant: str
    backward: bool
    shape: tuple[int, int, int, int]
    hard: float = 0.40
    ratio: int = 1

    @property
    def n_pixels(self) -> int:
        """The number of pixels of the labels."""
        n, _, h, w = self.shape
        return n * h * w * self.ratio**2

    @property
    def gradient_bytes(self) -> int:
        """The size of a float32 gradient."""
        return 4 * math.prod(self.shape)


def measure(probe: Probe) -> int:
    """Give the peak of a probe in bytes, from a fresh process."""
    # Large blocks go back to the system when they are freed, so that those of the warm-up are not used again unseen.
    environment = os.environ | {"MALLOC_MMAP_THRESHOLD_": "65536", "MALLOC_TRIM_THRESHOLD_": "65536"}
    command = [sys.executable, "-m", "benchmarks._memory", json.dumps(asdict(probe))]
    done = subprocess.run(command, cwd=_ROOT, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        msg = f"the memory probe failed: {done.stderr.strip()}"
        raise RuntimeError(msg)
    return int(done.stdout.split()[-1])


def extra_peak(call: Callable[[], object]) -> int:
    """Call once; give the bytes by which this process outgrew what it held before."""
    gc.collect()
    # Where the mark cannot be set back it must not have been higher before, which holds for a fresh process at most.
    with contextlib.suppress(OSError):
        _CLEAR.write_text(_RESET_PEAK)
    before = _resident()
    kept = call()
    peak = _highest() - before
    del kept
    return max(0, peak)


def _resident() -> int:
    return _status("VmRSS") if _STATUS.exists() else _highest()


def _highest() -> int:
    if _STATUS.exists():
        return _status("VmHWM")
    import resource  # not on every system

    highest = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return highest if sys.platform == "darwin" else highest * _PAGE_BYTES


def _status(name: str) -> int:
    for line in _STATUS.read_text().splitlines():
        if line.startswith(f"{name}:"):
            return int(line.split()[1]) * _PAGE_BYTES
    msg = f"{_STATUS} does not tell {name}"
    raise RuntimeError(msg)


def _main(text: str) -> None:
    fields = json.loads(text)
    probe = Probe(**fields | {"shape": tuple(fields["shape"])})
    n, c, h, w = probe.shape
    # What is made once, code and threads, is made here: on half the rows, since small images may go another way.
    _call(replace(probe, shape=(n, c, max(1, h // 2), w)))()
    print(extra_peak(_call(probe)))


def _call(probe: Probe) -> Callable[[], object]:
    from . import _calls, _data, _resized

    if probe.ratio == 1:
        return _calls.torch_call(probe.variant, _data.make(probe.shape, probe.hard), backward=probe.backward)
    return _resized.call(probe.variant, _resized.make(probe.shape, probe.ratio, probe.hard), backward=probe.backward)


if __name__ == "__main__":
    _main(sys.argv[1])
