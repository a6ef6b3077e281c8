"""The page that pictures are laid out on: where panels and captions go, and what lettering they have."""

from collections.abc import Sequence
from dataclasses import dataclass, field

from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.patches import Patch

# In pixels: two rows of two panels, each with a title above and a strip for its key or caption below.
PANEL_WIDTH = 800
_MARGIN, _GAP = 44, 48
_TITLE, _STRIP, _FOOT = 62, 150, 8
_WIDTH = 2 * _MARGIN + 2 * PANEL_WIDTH + _GAP
_DPI = 100

INK, FAINT, _FRAME = "#222222", "#5f6368", "#c9ccd1"
LETTERS = 13.5
_BELOW = 18
_HEADLINE = 30


def _new_figure() -> Figure:
    figure = Figure(dpi=_DPI, facecolor="white")
    FigureCanvasAgg(figure)
    return figure


@dataclass(frozen=True)
class Page:
    """
    An empty page. It knows no window and no global state, so it needs no display.

    `height` is that of a panel, and `head` that of the room above all panels, both in pixels.
    """

    height: int = 600
    head: int = 0
    figure: Figure = field(default_factory=_new_figure)

    def __post_init__(self) -> None:
        """Give the figure its size."""
        self.figure.set_size_inches(*(n / _DPI for n in self.size))

    @property
    def size(self) -> tuple[int, int]:
        """The width and the height of the page in pixels."""
        return _WIDTH, self.head + 2 * (_TITLE + self.height + _STRIP) + _FOOT

    def headline(self, text: str, below: str) -> None:
        """Write above all panels: a line, and what explains it."""
        x, y, _, _ = self._box(_MARGIN, _HEADLINE, 0, 0)
        self.figure.text(x, y, text, va="top", fontsize=18, fontweight="bold", color=INK)
        x, y, _, _ = self._box(_MARGIN, _HEADLINE + 36, 0, 0)
        self.figure.text(x, y, below, va="top", fontsize=LETTERS, color=FAINT)

    def panel(self, row: int, column: int, title: str) -> Axes:
        """Place a panel with its title."""
        axes = self.figure.add_axes(self.box_of_panel(row, column), xticks=[], yticks=[])
        axes.spines[:].set_color(_FRAME)
        _write_title(axes, title)
        return axes

    def chart(self, row: int, column: int, title: str, *, left: int, bottom: int) -> Axes:
        """Place a panel that leaves so many pixels for the numbers at its axes."""
        box = (_left(column) + left, self._top(row), PANEL_WIDTH - left, self.height - bottom)
        axes = self.figure.add_axes(self._box(*box))
        _write_title(axes, title, x=-left / (PANEL_WIDTH - left))
        return axes

    def box_of_panel(self, row: int, column: int) -> tuple[float, float, float, float]:
        """Tell where a panel is: left, bottom, width and height in fractions of the page."""
        return self._box(_left(column), self._top(row), PANEL_WIDTH, self.height)

    def caption(self, row: int, column: int, text: str, *, offset: int = 0) -> None:
        """Write below a panel, `offset` pixels lower than usual."""
        x, y = self._below(row, column, offset)
        self.figure.text(x, y, text, va="top", fontsize=LETTERS, color=FAINT, linespacing=1.45)

    def bar_below(self, row: int, column: int) -> Axes:
        """Place a bar for a scale of colours below a panel."""
        return self.figure.add_axes(
            self._box(_left(column), self._top(row) + self.height + _BELOW, PANEL_WIDTH, _BELOW)
        )

    def key_below(self, row: int, column: int, axes: Axes, patches: Sequence[Patch], *, columns: int) -> None:
        """Explain the colours of a panel below it."""
        axes.legend(
            handles=patches,
            loc="upper left",
            bbox_to_anchor=self._below(row, column),
            bbox_transform=self.figure.transFigure,
            borderaxespad=0,
            borderpad=0,
            frameon=False,
            ncols=columns,
            columnspacing=1.6,
            handlelength=1.6,
            fontsize=LETTERS,
            labelcolor=FAINT,
        )

    def _top(self, row: int) -> int:
        return self.head + _TITLE + row * (self.height + _STRIP + _TITLE)

    def _below(self, row: int, column: int, offset: int = 0) -> tuple[float, float]:
        return self._box(_left(column), self._top(row) + self.height + _BELOW + offset, 0, 0)[:2]

    def _box(self, left: int, top: int, width: int, height: int) -> tuple[float, float, float, float]:
        """Turn pixels from the top left into the fractions of the page that axes are placed by."""
        whole_width, whole_height = self.size
        return (
            left / whole_width,
            1 - (top + height) / whole_height,
            width / whole_width,
            height / whole_height,
        )


def _left(column: int) -> int:
    return _MARGIN + column * (PANEL_WIDTH + _GAP)


def _write_title(axes: Axes, title: str, x: float = 0) -> None:
    axes.set_title(title, loc="left", fontsize=18, fontweight="bold", color=INK, pad=10, x=x)
