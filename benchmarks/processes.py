"""
What it costs that processes mine together: `python -m benchmarks.processes`.

Each process has images of its own, and computes the loss and its gradient in turn by itself and with the others. The
calls begin together, and a time is that of the process that is done last.
"""

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import torch
import torch.distributed as dist

from ohemloss_torch import OhemCELoss

from ._data import REGIMES, make

Call = Callable[[], object]


def run(rank: int, n_processes: int, folder: str, shape: tuple[int, int, int, int], rounds: int) -> None:
    """Measure as one of the processes; the first one prints."""
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder}/store", rank=rank, world_size=n_processes)
    for hard in REGIMES:
        data = make(shape, hard, seed=rank)
        logits, labels = torch.from_numpy(data.logits).requires_grad_(), torch.from_numpy(data.labels)
        alone, together = (OhemCELoss(process_group=group) for group in (None, dist.group.WORLD))
        pairs = [[_timed(_call(criterion, logits, labels)) for criterion in (alone, together)] for _ in range(rounds)]
        if rank == 0:
            _tell(n_processes, hard, pairs[1:])  # the first compiles
    dist.destroy_process_group()


def _call(criterion: OhemCELoss, logits: torch.Tensor, labels: torch.Tensor) -> Call:
    def call() -> None:
        logits.grad = None
        criterion(logits, labels).backward()

    return call


def _timed(call: Call) -> float:
    """Give the seconds of the process that is done last."""
    dist.barrier()
    start = time.perf_counter()
    call()
    seconds = torch.tensor(time.perf_counter() - start, dtype=torch.float64)
    dist.all_reduce(seconds, dist.ReduceOp.MAX)
    return float(seconds)


def _tell(n_processes: int, hard: float, pairs: list[list[float]]) -> None:
    alone, together = (1000 * statistics.median(column) for column in zip(*pairs, strict=True))
    ratio = statistics.median(after / before for before, after in pairs)
    print(
        f"{n_processes} processes, {hard:.0%} hard: alone {alone:.1f} ms, together {together:.1f} ms, {ratio:.2f} x",
        flush=True,
    )


def main() -> None:
    """Read the options, and measure with 2 and 4 processes."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.processes", description=__doc__)
    parser.add_argument("--processes", type=int, nargs="+", default=[2, 4])
    parser.add_argument("--quick", action="store_true", help="small images, to see that it runs")
    options = parser.parse_args()
    shape, rounds = ((1, 19, 64, 128), 3) if options.quick else ((1, 19, 512, 1024), 21)
    for n_processes in options.processes:
        with tempfile.TemporaryDirectory() as folder:
            arguments = (n_processes, str(Path(folder)), shape, rounds)
            torch.multiprocessing.spawn(run, args=arguments, nprocs=n_processes)


if __name__ == "__main__":
    main()
