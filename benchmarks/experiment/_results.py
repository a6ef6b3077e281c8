"""All numbers of the experiment, as they are written to its file."""

from dataclasses import asdict
from typing import Any

import numpy as np

from ._jobs import Outcome
from ._judgement import Judge
from ._plan import FLOAT64, JAX, LIBRARIES, LOSSES, NUMPY, OPTIONS, TORCH
from ._scene import FOLDS, held_out_labels, training_labels
from ._task import initial_weights
from ._trials import Trials
from ._types import Found


def collect(judge: Judge, trials: Trials) -> Found:
    """Compute them."""
    plan, scene = trials.plan, judge.scene
    classes = zip(scene.names, map(float, scene.shares()), judge.rare, strict=True)
    return {
        "plan": asdict(plan),
        "options": OPTIONS,
        "pixels": _pixels(judge),
        "classes": [{"name": name, "share": share, "rare": rare} for name, share, rare in classes],
        "model": {
            "features": len(scene.features),
            "weights": sum(array.size for array in initial_weights(scene, seed=0).values()),
        },
        "rates": trials.rates,
        "libraries": {loss: _compare(trials, loss) for loss in LOSSES},
        "seeds": {loss: [judge(trials.both_folds(loss, seed)) for seed in range(plan.seeds)] for loss in LOSSES},
        "mined": {loss: judge.mined(trials.both_folds(loss, 0)) for loss in LOSSES},
        "longer": {
            loss: [judge(trials.both_folds(loss, seed, times=plan.longer)) for seed in range(plan.trials)]
            for loss in LOSSES
        },
        "tried": {
            loss: [
                [judge(trials.both_folds(loss, seed, rate=rate)) for seed in range(plan.trials)] for rate in plan.rates
            ]
            for loss in LOSSES
        },
        "seconds": {"trainings": sum(outcome.seconds for outcome in trials.outcomes.values())},
    }


def _pixels(judge: Judge) -> dict[str, Any]:
    scene, plan = judge.scene, judge.plan
    sets = {
        "labelled": [scene.labels],
        "training": [training_labels(scene.labels, plan, fold) for fold in FOLDS],
        "held_out": [held_out_labels(scene.labels, plan, fold) for fold in FOLDS],
    }
    counts = {name: [int(np.sum(labels < len(scene.names))) for labels in found] for name, found in sets.items()}
    return {"size": list(scene.labels.shape), **counts}


def _compare(trials: Trials, loss: str) -> Found:
    """Compare the libraries, and NumPy with itself in float64."""
    runs = {library: trials.one(loss, library=library) for library in LIBRARIES}
    runs[FLOAT64] = trials.one(loss, dtype="float64")
    others = (TORCH, JAX, FLOAT64)
    return {
        "losses": {name: run.losses for name, run in runs.items()},
        "differences": {name: _differences(runs[name], runs[NUMPY]) for name in others},
        "predicted_otherwise": {name: int(np.sum(runs[name].predicted != runs[NUMPY].predicted)) for name in others},
        "seconds": {name: run.seconds for name, run in runs.items()},
    }


def _differences(one: Outcome, other: Outcome) -> list[float]:
    """Compute the relative difference of the loss of each step."""
    return [abs(a / b - 1) for a, b in zip(one.losses, other.losses, strict=True)]
