"""One training after the other, each a job of its own: what it gives, and the processes that do them."""

import importlib
import os
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from multiprocessing import get_context
from unittest import mock

import numpy as np

import ohemloss
from ohemloss._cli._photograph import IGNORE

from . import _scene, _task
from ._in_numpy import Model
from ._plan import LIBRARIES, OHEM, OPTIONS, Plan
from ._task import Job
from ._types import Bools, Bytes

# One thread each: matrices this small gain nothing from more, and sums do not depend on how many there are.
_THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "VECLIB_MAXIMUM_THREADS")
_ENVIRONMENT = {**dict.fromkeys((*_THREADS, "OHEMLOSS_NUM_THREADS"), "1"), "JAX_PLATFORMS": "cpu"}
_MOST_WORKERS = 4


@dataclass(frozen=True)
class Outcome:
    """
    What came of a job.

    Attributes
    ----------
    losses : list of float
        The loss of each step.
    predicted : array
        uint8, ``(height, width)``: the class that the trained model gives each pixel.
    mined : array
        bool, ``(height, width)``: the pixels to train on that OHEM would select next, whichever loss it was.
    seconds : float
        How long the training took.
    """

    losses: list[float]
    predicted: Bytes
    mined: Bools
    seconds: float


def do(plan: Plan, job: Job) -> Outcome:
    """Train, and look at the trained model: in NumPy, whatever library trained it."""
    task = _task.make(_load(plan), plan, job)
    start = time.perf_counter()
    trained = importlib.import_module(f"._in_{job.library}", __package__).train(task)
    seconds = time.perf_counter() - start
    logits = Model(task).logits(trained.weights)
    trace = ohemloss.explain(logits[None], task.labels[None], ignore_index=IGNORE, **OPTIONS[OHEM])
    return Outcome(trained.losses, np.argmax(logits, axis=0).astype(np.uint8), trace.selected[0], seconds)


_load = cache(_scene.load)

Outcomes = dict[Job, Outcome]
Crew = Callable[[Iterable[Job]], Iterator[tuple[Job, Outcome]]]


@contextmanager
def crew(plan: Plan) -> Iterator[Crew]:
    """Have processes at hand that do jobs, in any order, or none if the plan wants none."""
    if plan.workers == 0:
        yield lambda jobs: ((job, do(plan, job)) for job in jobs)
        return
    n_workers = plan.workers or min(_MOST_WORKERS, os.cpu_count() or 1)
    # Spawned, since a fork would lose the threads of the libraries; each inherits the environment as it starts.
    with (
        mock.patch.dict(os.environ, _ENVIRONMENT),
        ProcessPoolExecutor(n_workers, mp_context=get_context("spawn")) as pool,
    ):
        yield lambda jobs: _at_once(pool, plan, jobs)


def _at_once(pool: ProcessPoolExecutor, plan: Plan, jobs: Iterable[Job]) -> Iterator[tuple[Job, Outcome]]:
    # What takes long goes first, so that nobody waits for it at the end.
    ordered = sorted(jobs, key=lambda job: (LIBRARIES.index(job.library), job.steps, job.dtype), reverse=True)
    futures = {pool.submit(do, plan, job): job for job in ordered}
    for future in as_completed(futures):
        yield futures[future], future.result()
