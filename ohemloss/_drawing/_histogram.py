"""The histogram of the losses: all valid pixels, and the mined ones among them, with the threshold and the cut."""

from dataclasses import dataclass

import numpy as np
from matplotlib.axes import Axes
from matplotlib.patches import Patch
from matplotlib.ticker import EngFormatter, FuncFormatter, LogLocator, MaxNLocator, NullFormatter

from ._maps import MINED
from ._page import FAINT, INK, LETTERS, Page
from ._types import Bools, Floats
from ._words import describe_extremes, percent

_VALID = "#b4bac2"
# What lies below is the rounding of a float32, and of a trained model there may be much of it.
_SMALLEST = 1e-7
_LOWEST = 1.0  # percent of the pixels may lie left of the picture
_ROOM = 1.3  # above the bars, for the names of the lines
_LEFT, _BOTTOM = 96, 64
_DECADES = 300  # on a scale that spans less, 2 and 5 are numbered, too


@dataclass(frozen=True)
class Ranked:
    """
    What the selection was made of.

    Attributes
    ----------
    scores : array
        1-d, of each valid pixel.
    mined : array
        Bool, beside the scores.
    thresh, cut : float
        In units of the scores; infinite if there is none.
    is_loss : bool
        Whether the scores are the losses.
    has_ties : bool
        Whether some of the mined pixels share the last places.
    """

    scores: Floats
    mined: Bools
    thresh: float
    cut: float
    is_loss: bool
    has_ties: bool


def draw_histogram(page: Page, row: int, column: int, ranked: Ranked, of: str) -> None:
    """Draw the bars, the two lines, and what they mean."""
    axes = page.chart(
        row, column, f"The {'losses' if ranked.is_loss else 'scores'} of {of}", left=_LEFT, bottom=_BOTTOM
    )
    page.key_below(row, column, axes, _key(ranked), columns=2)
    finite = np.isfinite(ranked.scores)
    scores, mined = ranked.scores[finite], ranked.mined[finite]
    notes = []
    if scores.size:
        lines = {name: at for name, at in (("threshold", ranked.thresh), ("cut", ranked.cut)) if np.isfinite(at)}
        edges = _edges(scores, ranked.cut, ranked.thresh)
        _letter(axes, "loss (nats)" if ranked.is_loss else "score: -log of the probability of the label (nats)")
        _draw_bars(axes, scores, mined, edges)
        _draw_lines(axes, {name: at for name, at in lines.items() if at >= edges[0]})
        _number(axes)
        notes = _note_what_lies_left(scores, edges[0], lines)
    else:
        axes.set_axis_off()
        axes.text(0.5, 0.5, "no pixel to count", ha="center", fontsize=LETTERS, color=FAINT, transform=axes.transAxes)
    extremes = describe_extremes(ranked.scores)
    if extremes:
        notes.append(f"Not drawn: {extremes}.")
    if notes:
        page.caption(row, column, "\n".join(notes), offset=34)


def _edges(scores: Floats, cut: float, thresh: float) -> Floats:
    """Give the edges of the bars, one of them at the cut: on a logarithmic scale, unless some scores are negative."""
    n = int(np.clip(2 * scores.size ** (1 / 3), 12, 80))
    marks = [mark for mark in (cut, thresh) if np.isfinite(mark)]
    low, high = float(np.min([np.min(scores), *marks])), float(np.max([np.max(scores), *marks]))
    if low < 0:
        return _grid(low, high if high > low else low + 1, n, cut)
    positive = scores[scores > 0]
    low = float(np.percentile(positive, _LOWEST, method="lower")) if positive.size else _SMALLEST
    low, high = min([low, *(mark for mark in marks if mark > 0)]) / 1.05, max(high, _SMALLEST) * 1.05
    low = max(min(low, high / 10), _SMALLEST)
    return np.exp(_grid(np.log(low), np.log(high), n, np.log(cut) if cut >= low else -np.inf))


def _grid(low: float, high: float, n: int, anchor: float) -> Floats:
    """Cut an interval into about n equal parts; the anchor, if it is a number, is an edge."""
    step = (high - low) / n
    anchor = anchor if np.isfinite(anchor) else low
    first, last = np.floor((low - anchor) / step), np.ceil((high - anchor) / step)
    return anchor + step * np.arange(first, last + 1)


def _draw_bars(axes: Axes, scores: Floats, mined: Bools, edges: Floats) -> None:
    counts, mined_counts = np.histogram(scores, edges)[0], np.histogram(scores[mined], edges)[0]
    axes.stairs(counts, edges, fill=True, color=_VALID)
    axes.stairs(mined_counts, edges, fill=True, color=MINED)
    axes.stairs(counts, edges, color=INK, linewidth=1)
    axes.set_xscale("log" if edges[0] > 0 else "linear")
    axes.set_xlim(edges[0], edges[-1])
    axes.set_ylim(0, max(1, int(np.max(counts))) * _ROOM)


def _draw_lines(axes: Axes, lines: dict[str, float]) -> None:
    """Draw the threshold and the cut, each named on the side that has room; one line if they are equal."""
    if len(set(lines.values())) == 1 < len(lines):
        lines = {"threshold = cut": lines["cut"]}
    styles = {"threshold": "--", "cut": "-", "threshold = cut": "-"}
    for i, (name, at) in enumerate(lines.items()):
        axes.axvline(at, color=INK, linewidth=2, linestyle=styles[name])
        place = axes.transAxes.inverted().transform(axes.transData.transform((at, 0)))[0]
        side = "left" if place < 0.6 else "right"
        axes.annotate(
            f"{name} {at:.4g}",
            (at, 0.97 - 0.1 * i),
            xycoords=("data", "axes fraction"),
            xytext=(7 if side == "left" else -7, 0),
            textcoords="offset points",
            ha=side,
            va="top",
            fontsize=LETTERS,
            color=INK,
            bbox={"facecolor": "white", "edgecolor": "none", "pad": 1},
        )


def _letter(axes: Axes, quantity: str) -> None:
    axes.set_xlabel(quantity, fontsize=LETTERS, color=FAINT)
    axes.set_ylabel("pixels", fontsize=LETTERS, color=FAINT)
    axes.tick_params(labelsize=LETTERS - 1, labelcolor=FAINT, color=FAINT, which="both")
    axes.spines[["top", "right"]].set_visible(False)


def _number(axes: Axes) -> None:
    axes.yaxis.set_major_locator(MaxNLocator(5, integer=True))
    axes.yaxis.set_major_formatter(EngFormatter(sep=""))
    if axes.get_xscale() == "log":
        low, high = axes.get_xlim()
        axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5) if high / low < _DECADES else (1,)))
        axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        axes.xaxis.set_minor_formatter(NullFormatter())


def _key(ranked: Ranked) -> list[Patch]:
    valid = Patch(facecolor=_VALID, label=f"valid  {len(ranked.scores):,}")
    mined = f"{'mined or tied' if ranked.has_ties else 'mined'}  {np.count_nonzero(ranked.mined):,}"
    return [valid, Patch(facecolor=MINED, label=mined)]


def _note_what_lies_left(scores: Floats, start: float, lines: dict[str, float]) -> list[str]:
    notes = [f"The {name}, {at:.4g}, lies left of this scale." for name, at in lines.items() if at < start]
    n_left = int(np.count_nonzero(scores < start))
    return [*notes, f"{percent(n_left, len(scores))} of the valid pixels lie left of this scale."] if n_left else notes
