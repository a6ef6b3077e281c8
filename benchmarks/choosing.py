"""
Pictures of the mined pixels at three moments of a training: `python -m benchmarks.choosing`.

The linear model of `ohemloss demo` is trained on its photograph with OHEM. docs/choosing.md shows the results.
"""

import argparse
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure

from ohemloss import Trace, explain
from ohemloss._cli._head import Head
from ohemloss._cli._photograph import IGNORE, Photograph, load
from ohemloss._cli._training import Plan, descend

from . import _pictures

FOLDER = Path(__file__).parent.parent / "docs" / "results"
THRESH, MIN_KEPT = 0.7, 1 / 16  # the defaults, which the model is trained with
PLAN = Plan(steps=64, rate=6.0, momentum=0.8, warm_up=16)
# More features than in the demo, so that few pixels are hard at the end of the training.
EVERY = 2
MOMENTS = {"early": 12, "middle": 18, "late": 63}
_COLOURS = {"early": "#e69f00", "middle": "#0072b2", "late": "#009e73"}
_MINED = "#ffcf33"
_THRESHOLDS = (0.3, 0.5, 0.7, 0.9)
_KEPT = {"1/64": 1 / 64, "1/16": 1 / 16, "1/8": 1 / 8, "1/4": 1 / 4}

Image: TypeAlias = npt.NDArray[np.floating[Any]]


@dataclass(frozen=True)
class Step:
    """What was selected at one step, as shares of the valid pixels, and the losses there."""

    hard: float
    mined: float
    value: float
    mean: float


@dataclass(frozen=True)
class Training:
    """The logits at the three moments, and each step."""

    photograph: Photograph
    logits: dict[str, Image]
    steps: list[Step]

    def trace(self, moment: str, **options: Any) -> Trace:
        """Give every step of the loss at a moment."""
        return explain(self.logits[moment], self.photograph.labels[None], ignore_index=IGNORE, **options)

    def mined(self, moment: str, **options: Any) -> tuple[npt.NDArray[np.bool_], float, float]:
        """Give what is mined at a moment: the pixels, their share of the valid ones, and the mean of their losses."""
        trace = self.trace(moment, **options)
        return trace.selected[0], np.count_nonzero(trace.selected) / int(trace.n_valid), float(trace.value)


def write(folder: Path, training: Training) -> None:
    """Write the pictures and the table."""
    folder.mkdir(parents=True, exist_ok=True)
    pictures = {"thresh": draw_thresholds, "curve": draw_curve, "min-kept": draw_min_kept, "steps": draw_steps}
    for name, draw in pictures.items():
        _pictures.save(draw(training), folder / f"choosing-{name}.png")
    _pictures.save(draw_trace(training), folder / "explain.png")
    (folder / "choosing-shares.md").write_text(table(training), encoding="utf-8")


def train(plan: Plan = PLAN, every: int = EVERY) -> Training:
    """Train from weights of 0."""
    photograph = load(every)
    head, labels = Head(np, photograph), photograph.labels[None]
    weights = head.initial_weights()
    logits, moments, steps = head.logits(weights), {}, list[Step]()
    for i, (_, updated) in enumerate(descend(head, labels, weights, plan, thresh=THRESH, min_kept=MIN_KEPT)):
        moments.update({name: logits for name, step in MOMENTS.items() if step == i})
        steps.append(_look(logits, labels))
        logits = head.logits(updated)
    return Training(photograph, moments, steps)


def _look(logits: Image, labels: npt.NDArray[np.uint8]) -> Step:
    trace = explain(logits, labels, ignore_index=IGNORE, thresh=THRESH, min_kept=MIN_KEPT)
    n = int(trace.n_valid)
    mined = float(trace.cut.count) / n
    return Step(int(trace.n_hard) / n, mined, float(trace.value), float(np.sum(trace.pixel_loss)) / n)


def table(training: Training) -> str:
    """Write the share of hard pixels for each threshold and moment as a table, and what made it."""
    lines = [f"| `thresh` | {' | '.join(f'{name}, step {step}' for name, step in MOMENTS.items())} |"]
    lines.append("| --- |" + " ---: |" * len(MOMENTS))
    for thresh in _THRESHOLDS:
        shares = [training.mined(moment, thresh=thresh, min_kept=0)[1] for moment in MOMENTS]
        lines.append(f"| {thresh} | {' | '.join(f'{share:.1%}' for share in shares)} |")
    versions = ", ".join(f"{name} {metadata.version(name)}" for name in ("ohemloss", "numpy", "imgviz", "matplotlib"))
    made = f"Table and pictures: `python -m benchmarks.choosing`, {datetime.now(UTC).date()}, {versions}."
    return "\n".join([*lines, "", made]) + "\n"


def draw_trace(training: Training) -> Figure:
    """Draw what `ohemloss explain` draws, of the middle of the training."""
    trace = training.trace("middle", thresh=THRESH, min_kept=MIN_KEPT)
    return trace.plot(training.photograph.image, names=training.photograph.names)


def draw_thresholds(training: Training) -> Figure:
    """Draw the pixels that each threshold mines in the middle of the training."""
    options = {f"thresh={thresh}": {"thresh": thresh, "min_kept": 0} for thresh in _THRESHOLDS}
    return _multiples(training, "middle", options)


def draw_min_kept(training: Training) -> Figure:
    """Draw the pixels that each `min_kept` mines late in the training."""
    options = {f"min_kept={name}": {"thresh": THRESH, "min_kept": kept} for name, kept in _KEPT.items()}
    return _multiples(training, "late", options)


def _multiples(training: Training, moment: str, options: dict[str, dict[str, Any]]) -> Figure:
    page = _pictures.new_page(10, 8.1)
    grey = training.photograph.image @ np.asarray([0.299, 0.587, 0.114]) / 255
    for axes, (name, chosen) in zip(page.subplots(2, 2).flat, options.items(), strict=True):
        mined, share, value = training.mined(moment, **chosen)
        axes.imshow(np.where(mined[..., None], to_rgb(_MINED), 0.08 + 0.5 * grey[..., None]))
        axes.set_axis_off()
        _pictures.set_title(axes, f"{name}: {share:.1%} mined, loss {value:.2f}")
    return page


def draw_curve(training: Training) -> Figure:
    """Draw the share of hard pixels against the threshold, a line for each moment."""
    page = _pictures.new_page(10, 5)
    axes = page.subplots()
    thresholds = np.linspace(0.02, 1, 50)
    for moment, step in MOMENTS.items():
        shares = [training.mined(moment, thresh=thresh, min_kept=0)[1] for thresh in thresholds]
        axes.plot(thresholds, shares, color=_COLOURS[moment], linewidth=2.5, label=f"{moment}, step {step}")
    _floor(axes)
    _finish(axes, "thresh: the probability of its class below which a pixel is hard", "hard, share of the valid pixels")
    axes.set_ylim(1e-3, 1.2)
    return page


def draw_steps(training: Training) -> Figure:
    """Draw over the training what is hard and mined, and beside it the loss of the mined and of all pixels."""
    page = _pictures.new_page(10, 4.6)
    left, right = page.subplots(1, 2)
    _lines(left, training, {"mined": (_COLOURS["middle"], lambda s: s.mined), "hard": ("#d55e00", lambda s: s.hard)})
    left.lines[1].set_linestyle("--")
    _floor(left)
    _finish(left, "step", "share of the valid pixels")
    left.set_ylim(1e-2, 1.2)
    means = {"of the mined pixels": (_COLOURS["middle"], lambda s: s.value), "of all": ("#d55e00", lambda s: s.mean)}
    _lines(right, training, means)
    _finish(right, "step", "mean loss", percent=False)
    return page


def _lines(axes: Axes, training: Training, lines: dict[str, tuple[str, Callable[[Step], float]]]) -> None:
    for label, (colour, value) in lines.items():
        axes.plot([value(step) for step in training.steps], color=colour, linewidth=2.5, label=label)


def _floor(axes: Axes) -> None:
    label = "1/16: min_kept decides below"
    axes.axhline(MIN_KEPT, color=_pictures.FAINT, linestyle=":", linewidth=2, label=label)


def _finish(axes: Axes, x: str, y: str, *, percent: bool = True) -> None:
    _pictures.dress(axes, x, y)
    axes.yaxis.set_major_formatter(lambda value, _: f"{100 * value:g} %" if percent else f"{value:g}")
    axes.legend(frameon=False, fontsize=12, labelcolor=_pictures.INK)


def main(arguments: Sequence[str] | None = None) -> None:
    """Make the pictures from the command line."""
    parser = argparse.ArgumentParser("python -m benchmarks.choosing", description=__doc__)
    parser.add_argument("--out", type=Path, default=FOLDER, help="folder of the results, default: %(default)s")
    write(parser.parse_args(arguments).out, train())


if __name__ == "__main__":
    main()
