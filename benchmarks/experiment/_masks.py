"""The picture of the masks: labels, what both models say of held-out squares, and what OHEM mined."""

from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import to_rgb
from matplotlib.patches import Patch

from ohemloss._cli._photograph import CREDIT, IGNORE

from . import _style
from ._plan import LOSS_NAMES, OHEM, PLAIN
from ._scene import FOLDS, Scene, held_out_labels
from ._trials import Trials
from ._types import Bools, Bytes, Numbers

# One for each class that the photograph has, grey for the background.
_COLOURS = ("#c9ccd1", "#e69f00", "#d55e00", "#0072b2", "#009e73", "#8c564b", "#56b4e9", "#cc79a7", "#f0e442")
_MINED = "#ffcf33"


def draw(scene: Scene, trials: Trials, path: Path) -> None:
    """Draw the four panels: of the first seed, both folds laid together."""
    page = _style.new_page(13, 11.6)
    (upper_left, upper_right), (lower_left, lower_right) = page.subplots(2, 2)
    _show(upper_left, "Labels", _paint(scene.labels, scene.labels != IGNORE))
    _show(upper_right, "Mined by OHEM after the last step", _mined(scene, trials))
    for axes, loss in ((lower_left, PLAIN), (lower_right, OHEM)):
        _show(axes, f"Held-out squares: {LOSS_NAMES[loss]}", _held_out(scene, trials, loss))
    patches = [Patch(facecolor=colour, label=name) for colour, name in zip(_COLOURS, scene.names, strict=True)]
    patches += [
        Patch(facecolor=_MINED, label="mined"),
        Patch(facecolor="white", edgecolor=_style.FAINT, label="not counted"),
    ]
    page.legend(
        handles=patches,
        loc="outside lower center",
        ncols=4,
        frameon=False,
        fontsize=_style.LETTERS,
        title=CREDIT.replace("\n", " "),
        labelcolor=_style.INK,
    )
    _style.save(page, path)


def _held_out(scene: Scene, trials: Trials, loss: str) -> Numbers:
    """Paint what each model says of the squares that it did not train on."""
    picture = np.ones((*scene.labels.shape, 3))
    for fold, outcome in zip(FOLDS, trials.both_folds(loss, 0), strict=True):
        tested = held_out_labels(scene.labels, trials.plan, fold) != IGNORE
        picture[tested] = _paint(outcome.predicted, tested)[tested]
    return picture


def _mined(scene: Scene, trials: Trials) -> Numbers:
    grey = scene.image @ np.asarray([0.299, 0.587, 0.114]) / 255
    mined = np.any([outcome.mined for outcome in trials.both_folds(OHEM, 0)], axis=0)
    return np.where(mined[..., None], to_rgb(_MINED), 0.08 + 0.5 * grey[..., None])


def _paint(classes: Bytes, where: Bools) -> Numbers:
    colours = np.asarray([to_rgb(colour) for colour in _COLOURS])
    return np.where(where[..., None], colours[np.where(where, classes, 0)], 1.0)


def _show(axes: Axes, title: str, picture: Numbers) -> None:
    axes.imshow(picture)
    axes.set_axis_off()
    axes.set_title(title, loc="left", fontsize=16, fontweight="bold", color=_style.INK, pad=8)
