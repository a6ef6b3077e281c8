"""What the three libraries are given to train, and what they return; the weights that they all begin with."""

from dataclasses import dataclass

import numpy as np

from ._plan import NUMPY, Plan, falling
from ._scene import Scene, training_labels
from ._types import Bytes, Floats, Weights

_REDUCED, _MIXED = 16, 16  # channels


@dataclass(frozen=True)
class Job:
    """What is to be trained, in a few words."""

    loss: str
    rate: float
    steps: int
    seed: int = 0
    fold: int = 0
    library: str = NUMPY
    dtype: str = "float32"


@dataclass(frozen=True)
class Task:
    """
    One training: arrays of NumPy, in the dtype to train in.

    The model: a 1x1 convolution of the features, ReLU, enlargement to the size of the colours, a 3x3 convolution of
    both, ReLU, a 1x1 convolution to the classes, and enlargement to the size of the labels (both bilinear).
    """

    features: Floats
    colours: Floats
    labels: Bytes
    weights: Weights
    loss: str
    rates: list[float]
    momentum: float


@dataclass(frozen=True)
class Trained:
    """The loss of each step, before its update, and the weights after the last."""

    losses: list[float]
    weights: Weights


def make(scene: Scene, plan: Plan, job: Job) -> Task:
    """Set a task."""
    weights = initial_weights(scene, job.seed)
    return Task(
        features=scene.features.astype(job.dtype),
        colours=scene.colours.astype(job.dtype),
        labels=training_labels(scene.labels, plan, job.fold),
        weights={name: array.astype(job.dtype) for name, array in weights.items()},
        loss=job.loss,
        rates=falling(job.rate, job.steps),
        momentum=plan.momentum,
    )


def initial_weights(scene: Scene, seed: int) -> Weights:
    """Draw float32 weights with the deviation that keeps the size of activations (He et al., 2015); biases are 0."""
    rng = np.random.default_rng(seed)
    shapes = {
        "reduce": (_REDUCED, len(scene.features), 1, 1),
        "mix": (_MIXED, _REDUCED + len(scene.colours), 3, 3),
        "classify": (len(scene.names), _MIXED, 1, 1),
    }
    weights: Weights = {}
    for name, shape in shapes.items():
        deviation = np.sqrt(2 / np.prod(shape[1:]))
        weights[f"{name}.weight"] = (deviation * rng.standard_normal(shape)).astype(np.float32)
        weights[f"{name}.bias"] = np.zeros(shape[0], dtype=np.float32)
    return weights
