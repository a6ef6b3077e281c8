"""What is trained, and how."""

from dataclasses import dataclass
from typing import Any

# The losses by name, as options of `ohemloss`. Plain cross-entropy is the case in which every valid pixel is kept.
PLAIN, OHEM = LOSSES = ("plain", "ohem")
OPTIONS: dict[str, dict[str, Any]] = {
    PLAIN: {"thresh": None, "min_kept": 1.0},
    OHEM: {"thresh": 0.7, "min_kept": 1 / 16},
}
NUMPY, TORCH, JAX = LIBRARIES = ("numpy", "torch", "jax")
FLOAT64 = "numpy, float64"  # beside them: what rounding to float32 does
LOSS_NAMES = {PLAIN: "plain cross-entropy", OHEM: "OHEM"}
LIBRARY_NAMES = {NUMPY: "NumPy", TORCH: "PyTorch", JAX: "JAX", FLOAT64: "NumPy in float64"}
CELL = 16  # pixels of the photograph in a cell of the features, along each axis


@dataclass(frozen=True)
class Plan:
    """
    The settings of a run.

    Attributes
    ----------
    steps, momentum : int, float
        Of gradient descent; the rate falls linearly to 0.
    rates : tuple of float
        The first rates that are tried. Each loss is then used with the one at which its own value ends lowest, on the
        pixels to train on.
    seeds, trials : int
        How many initial weights, and how many of them the rates are tried with.
    longer : int
        How many times as many steps show what time alone does, with the weights that the rates are tried with.
    block, margin : int
        The photograph is cut into squares of `block` pixels, like a chessboard. `margin` pixels along their sides count
        neither in training nor in the test.
    rare : float
        A class is rare if it has a smaller share of the labelled pixels.
    window : tuple of int
        Top, bottom, left and right of the part of the photograph that is used, in cells of the features.
    workers : int or None
        How many processes; 0 stands for this one, None for one on each processor, at most four.
    """

    steps: int = 60
    rates: tuple[float, ...] = (0.03, 0.1, 0.3, 1.0)
    momentum: float = 0.9
    seeds: int = 5
    trials: int = 2
    longer: int = 3
    block: int = 40
    margin: int = 4
    rare: float = 0.02
    window: tuple[int, int, int, int] = (0, 30, 0, 40)
    workers: int | None = None


FULL = Plan()
# Does it run?
QUICK = Plan(steps=2, rates=(0.1, 0.2), seeds=2, trials=1, longer=2, rare=0.06, window=(13, 25, 8, 20), workers=0)


def falling(rate: float, steps: int) -> list[float]:
    """List the rate of each step: it falls to 0 on a line."""
    return [rate * (1 - step / steps) for step in range(steps)]
