"""Which trainings the experiment consists of, and the choice of a rate for each loss."""

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from itertools import product

from ._jobs import Crew, Outcome, Outcomes
from ._plan import JAX, LOSSES, NUMPY, TORCH, Plan
from ._scene import FOLDS
from ._task import Job

Progress = Callable[[str, int], Callable[[], None]]


@dataclass(frozen=True)
class Trials:
    """All that was trained, and the rate that each loss was given."""

    plan: Plan
    rates: dict[str, float]
    outcomes: Outcomes

    def one(self, loss: str, library: str = NUMPY, dtype: str = "float32") -> Outcome:
        """Look up a training with the first seed on the first fold, at the rate of the loss."""
        return self.outcomes[Job(loss, self.rates[loss], self.plan.steps, library=library, dtype=dtype)]

    def both_folds(self, loss: str, seed: int, *, rate: float | None = None, times: int = 1) -> list[Outcome]:
        """Look up the two trainings that together test every square."""
        rate = self.rates[loss] if rate is None else rate
        return [self.outcomes[Job(loss, rate, times * self.plan.steps, seed, fold)] for fold in FOLDS]


def run(plan: Plan, crew: Crew, progress: Progress) -> Trials:
    """Try the rates, choose, and train the rest."""
    outcomes = _do(crew, _trials(plan), progress, "trying rates")
    rates = {loss: _best_rate(plan, loss, outcomes) for loss in LOSSES}
    rest = [job for job in _rest(plan, rates) if job not in outcomes]
    return Trials(plan, rates, {**outcomes, **_do(crew, rest, progress, "training")})


def _do(crew: Crew, jobs: list[Job], progress: Progress, name: str) -> Outcomes:
    advance, found = progress(name, len(jobs)), {}
    for job, outcome in crew(jobs):
        found[job] = outcome
        advance()
    return found


def _trials(plan: Plan) -> list[Job]:
    return [
        Job(loss, rate, plan.steps, seed, fold)
        for loss, rate, seed, fold in product(LOSSES, plan.rates, range(plan.trials), FOLDS)
    ]


def _rest(plan: Plan, rates: dict[str, float]) -> Iterable[Job]:
    for loss, rate in rates.items():
        for seed, fold in product(range(plan.seeds), FOLDS):
            yield Job(loss, rate, plan.steps, seed, fold)
        for seed, fold in product(range(plan.trials), FOLDS):
            yield Job(loss, rate, plan.longer * plan.steps, seed, fold)
        for library in (TORCH, JAX):
            yield Job(loss, rate, plan.steps, library=library)
        yield Job(loss, rate, plan.steps, dtype="float64")


def _best_rate(plan: Plan, loss: str, outcomes: Outcomes) -> float:
    """Choose by what a loss ends with where it trains; what is held out has no say."""

    def end(rate: float) -> float:
        ends = [outcome.losses[-1] for job, outcome in outcomes.items() if (job.loss, job.rate) == (loss, rate)]
        return sum(ends) if math.isfinite(sum(ends)) else math.inf

    return min(plan.rates, key=end)
