"""The picture of a trace: what it shows, of every library, and what it refuses."""

import importlib
import operator
import re
import sys
from dataclasses import replace

import numpy as np
import pytest

pytest.importorskip("matplotlib", reason="pictures need the extra `cli`")

from matplotlib.figure import Figure

import ohemloss
from ohemloss import MiningRule, explain
from ohemloss._drawing import _histogram, _host, _palette
from ohemloss._drawing._photo import photograph_of
from ohemloss._drawing._view import view_of
from tests import _processes
from tests._cases import make
from tests.tools._figures import overlapping

LOGITS, LABELS = make("40% hard", shape=(2, 6, 7))
NP_LABELS = np.asarray([[0, 1, 2], [255, 1, 1]])
OTHER_SHAPES = ((3, 1, 2), (1, 2, 2), (2, 2), (1, 2, 3, 1))
OTHER_SHAPE = (
    "`image` must have the shape of the labels, (1, 2), and 3 or 4 channels last, or none: got {}. Resize it, or move "
    "its axes."
)
IGNORED, BLUE, YELLOW, WHITE = (92, 92, 92), (0, 213, 255), (255, 207, 51), (255, 255, 255)


def trace_of(labels, losses, **options):
    """Trace pixels of two classes with these losses, -log of the probability of the label: all but the ignored."""
    labels, losses = np.asarray(labels), np.asarray(losses, np.float64)
    margin = -np.log(np.expm1(losses))
    own = np.minimum(labels, 1) == 0
    return explain(np.stack([np.where(own, margin, 0), np.where(own, 0, margin)], -1), labels, axis=-1, **options)


def panels(figure):
    """Give the arrays of the three maps: labels, losses, mined pixels."""
    return [axes.images[0].get_array() for axes in figure.axes if axes.images]


def texts(figure):
    """Give all that is written on a page."""
    legends = [text.get_text() for axes in figure.axes if axes.get_legend() for text in axes.get_legend().get_texts()]
    titles = [axes.get_title(loc="left") for axes in figure.axes]
    notes = [text.get_text() for axes in figure.axes for text in axes.texts]
    return "\n".join([*(text.get_text() for text in figure.texts), *legends, *titles, *notes])


def chart(figure):
    """Give the axes of the histogram: the only ones with numbered heights."""
    return next(axes for axes in figure.axes if axes.get_ylabel() == "pixels")


def bars(figure):
    """Give the heights of the bars: of all valid, and of the mined pixels."""
    valid, mined, _ = (patch.get_data() for patch in chart(figure).patches)
    np.testing.assert_array_equal(valid.edges, mined.edges)
    return valid.edges, valid.values, mined.values


class TestLibraries:
    """Each shows what NumPy shows."""

    @pytest.mark.every_library
    @pytest.mark.skip_library("jax-x64", reason="compiles it all once more, and is read as jax is")
    def test_same_picture(self, library):
        options = {"thresh": 0.6, "min_kept": 30, "weight": (1.0, 2.0, 0.5, 1.0, 1.5)}
        trace = explain(library.asarray(LOGITS, "float32"), library.asarray(LABELS), **options)
        expected = explain(LOGITS.astype(np.float32), LABELS, **options)
        figure = trace.plot(library.asarray(np.full((6, 7, 3), 0.5), "float32"), index=1)
        assert isinstance(figure, Figure)
        desired = expected.plot(np.full((6, 7, 3), 128, np.uint8), index=1)
        for panel, wanted in zip(panels(figure), panels(desired), strict=True):
            np.testing.assert_allclose(panel.astype(int), wanted.astype(int), atol=1)
        for numbers, wanted in zip(bars(figure), bars(desired), strict=True):
            np.testing.assert_allclose(numbers, wanted, rtol=1e-5)
        assert texts(figure) == texts(desired)

    @pytest.mark.only_library("torch", "jax", "mlx")
    def test_bfloat16(self, library):
        """Which NumPy has not: of logits, and of a photograph."""
        trace = explain(library.asarray(np.zeros((1, 2, 3)), "bfloat16"), library.asarray(np.zeros((1, 3), int)))
        image = library.asarray(np.full((1, 3), 1.0), "bfloat16")
        assert panels(trace.plot(image))[2].tolist() == [[list(YELLOW)] * 3]
        assert _host.to_numpy(image).dtype == np.float32

    @pytest.mark.only_library("torch")
    def test_under_autograd_and_compiled(self, library):
        """The trace leaves the graph with all its fields."""
        torch = importlib.import_module("torch")
        x, y = library.asarray(LOGITS, "float32").requires_grad_(), library.asarray(LABELS)
        expected = texts(explain(LOGITS.astype(np.float32), LABELS).plot())
        trace = explain(x, y)  # the look-up of the backend cannot be traced
        assert trace.value.requires_grad
        assert texts(trace.plot()) == expected
        compiled = torch.compile(lambda x, y: explain(x, y), fullgraph=True, backend="eager")
        assert texts(compiled(x, y).plot()) == expected

    @pytest.mark.only_library("jax")
    def test_in_a_compiled_function(self, library):
        """The trace passes through, its picture does not."""
        jax = importlib.import_module("jax")
        x, y = library.asarray(LOGITS, "float32"), library.asarray(LABELS)
        assert texts(jax.jit(explain)(x, y).plot()) == texts(explain(LOGITS.astype(np.float32), LABELS).plot())
        message = (
            r"^`plot` must be able to read the values of the trace: got a \w*Tracer, of which .* plot it outside\."
        )
        with pytest.raises(TypeError, match=message):
            jax.jit(lambda x: (explain(x, y).plot(), x)[1])(x)

    @pytest.mark.only_library("ndonnx")
    def test_of_a_model(self, library):
        xp = library.xp
        x, y = xp.argument(shape=("N", 2), dtype=xp.float32), xp.argument(shape=("N",), dtype=xp.int64)
        with pytest.raises(TypeError, match=r"^`plot` must be able to read the values of the trace: got a "):
            explain(x, y).plot()


class _OnDevice:
    """Like an array on a device: it refuses NumPy until it is moved by its own method."""

    def __init__(self, values):
        self._values, self.shape, self.dtype = values, values.shape, values.dtype

    def __array__(self, *arguments, **options):
        msg = "Implicit conversion to a NumPy array is not allowed."
        raise TypeError(msg)

    def to_device(self, device, /, *, stream=None):
        assert device == "cpu"
        return self._values


def test_arrays_on_a_device_are_moved():
    trace = explain(LOGITS, LABELS)
    fields = {name: _OnDevice(np.asarray(getattr(trace, name))) for name in ("labels", "valid", "score", "n_valid")}
    assert texts(replace(trace, **fields).plot()) == texts(trace.plot())


class TestMaps:
    def test_labels(self):
        trace = explain(np.zeros((2, 3, 3)), NP_LABELS)
        figure = trace.plot(names=["sky", "road"])
        colours = {0: (201, 204, 209), 1: (230, 159, 0), 2: (213, 94, 0), 255: WHITE}
        assert panels(figure)[0].tolist() == [[list(colours[label]) for label in row] for row in NP_LABELS.tolist()]
        key = [text.get_text() for text in figure.axes[0].get_legend().get_texts()]
        assert key == ["road  60.0%", "sky  20.0%", "class 2  20.0%", "ignored  16.7% of all"]

    def test_losses(self):
        """Dark for 0, light for the largest; grey where ignored, blue where there is no number."""
        trace = explain(np.zeros((1, 2, 6)), np.asarray([[0, 0, 0, 0, 0, 255]]))
        losses = np.asarray([[0.0, 1.0, 2.0, np.nan, np.inf, 0.0]])
        figure = replace(trace, pixel_loss=losses, score=losses).plot()
        panel = panels(figure)[1]
        assert [tuple(pixel) for pixel in panel[0, 3:].tolist()] == [BLUE, BLUE, IGNORED]
        assert np.all(np.diff(panel[0, :3].astype(int).sum(-1)) > 200)
        assert "Blue: 1 NaN and 1 infinite." in texts(figure)
        assert "The losses of all valid pixels" in texts(figure)
        assert "Not drawn: 1 NaN and 1 infinite." in texts(figure)

    def test_the_scale_leaves_out_the_largest(self):
        losses = np.linspace(0.01, 1, 1000)
        losses[-1] = 50.0
        bar = trace_of(np.zeros((1, 1000), int), losses[None]).plot().axes[2]
        assert bar.get_xlim()[1] == pytest.approx(np.percentile(losses, 99.5))
        assert bar.lines[-1].get_xdata()[0] == pytest.approx(-np.log(0.7))

    def test_threshold_that_is_not_on_the_scale(self):
        trace = trace_of([[0, 1]], [[0.1, 0.2]])
        assert "The threshold, 0.3567, is not on this scale." in texts(trace.plot())
        assert "There is no threshold." in texts(trace_of([[0, 1]], [[0.1, 0.2]], thresh=None).plot())

    def test_mined(self):
        """Yellow where mined, else the dimmed photograph; labels in its place if there is none."""
        trace = trace_of([[0, 1, 255]], [[0.1, 0.9, 0.9]])
        image = np.asarray([[(255, 255, 255), (0, 0, 0), (0, 0, 0)]], np.uint8)
        assert panels(trace.plot(image))[2].tolist() == [[[147] * 3, list(YELLOW), [20] * 3]]
        light, _, white = panels(trace.plot())[2][0].tolist()
        assert white == [147] * 3
        assert light == [int(20 + (0.299 * 201 + 0.587 * 204 + 0.114 * 209) / 2)] * 3
        assert "1 of 2 valid pixels (50.0%) are mined here." in texts(trace.plot())

    @pytest.mark.parametrize(
        "image",
        [
            np.asarray([[0, 255]], np.uint8),
            np.asarray([[0.0, 1.0]]),
            [[[0.0, 0.0, 0.0], [1.0, 1.0, 1.0]]],
            np.asarray([[(0, 0, 0, 9), (255, 255, 255, 9)]], np.uint8),
        ],
        ids=["grey", "floats", "list", "transparent"],
    )
    def test_photographs(self, image):
        assert panels(trace_of([[0, 1]], [[0.1, 0.1]], min_kept=0).plot(image))[2].tolist() == [[[20] * 3, [147] * 3]]

    def test_floats_are_rounded(self):
        assert photograph_of(np.asarray([[0.0, 0.003, 0.5, 1.0]]), (1, 4)).tolist() == [[0, 1, 128, 255]]

    @pytest.mark.parametrize(
        ("image", "message"),
        [
            *((np.zeros(shape, np.uint8), OTHER_SHAPE.format(shape)) for shape in OTHER_SHAPES),
            (np.asarray([[-0.5, 2.0]]), "`image` in floats must lie in [0, 1]: got -0.5 to 2. Scale it first"),
            (np.asarray([[0.0, np.nan]]), "`image` in floats must lie in [0, 1]: got nan to nan"),
            (np.zeros((1, 2), int), "`image` must be uint8, or floats from 0 to 1: got int64. Convert it"),
            (object(), "cannot read the values of `object`"),
        ],
    )
    def test_photographs_that_do_not_fit(self, image, message):
        error = TypeError if "int64" in message or "object" in message else ValueError
        with pytest.raises(error, match=f"^{re.escape(message)}"):
            trace_of([[0, 1]], [[0.1, 0.1]]).plot(image)


class TestPalette:
    def test_few_classes_keep_their_colours(self):
        """Whatever is in the picture: class 3 has one colour."""
        for labels in ([3, 3, 0], [3, 8, 8]):
            labels = np.asarray(labels)
            painted = _palette.palette_of(labels, labels >= 0).paint(labels, labels >= 0)
            assert painted[0].tolist() == [0, 114, 178]

    def test_many_classes(self):
        """The eight largest have colours of their own, which are no other's; the rest have one together."""
        labels = np.repeat(np.arange(100, 250), np.arange(150))
        valid = labels < 249
        palette = _palette.palette_of(labels, valid)
        painted = palette.paint(labels, valid)
        largest = {label: {tuple(c) for c in painted[labels == label].tolist()} for label in range(241, 249)}
        assert len(set.union(*largest.values())) == len(largest)
        assert {tuple(c) for c in painted[(labels < 241)].tolist()} == {(63, 67, 74)}
        assert {tuple(c) for c in painted[~valid].tolist()} == {WHITE}
        key = [patch.get_label() for patch in palette.key([f"class number {i} of all those" for i in range(249)])]
        n, rest = labels[valid].size, int(np.sum(labels < 241))
        assert len(key) == 10
        assert key[0] == f"class number 248 of a...  {148 / n:.1%}"
        assert key[8:] == [f"140 other classes  {rest / n:.1%}", f"ignored  {149 / len(labels):.1%} of all"]

    def test_key(self):
        """One class too many; and few classes with large or negative numbers."""
        for labels, names, key in (
            (np.arange(1, 11), None, ["class 8  10.0%", "2 other classes  20.0%"]),
            (np.asarray([700, 700, -3]), ["a"], ["class 700  66.7%", "class -3  33.3%"]),
        ):
            palette = _palette.palette_of(labels, labels < 1000)
            assert [patch.get_label() for patch in palette.key(names)][-2:] == key

    def test_ignored_label_between_others(self):
        labels = np.asarray([0, 1, 2])
        palette = _palette.palette_of(labels, labels != 1)
        assert palette.paint(labels, labels != 1).tolist() == [[201, 204, 209], list(WHITE), [213, 94, 0]]

    def test_colours_of_labels_out_of_range(self):
        """What a GPU could not refuse: it has a colour of its own, too."""
        for labels in (np.asarray([8, -1]), np.asarray([700, -3])):
            first, second = _palette.palette_of(labels, labels < 1000).paint(labels, labels < 1000).tolist()
            assert first != second


class TestHistogram:
    def test_bars(self):
        losses = np.concatenate([np.full(3, 2e-7), np.geomspace(0.01, 4, 497)]).reshape(1, 20, 25)
        figure = trace_of(np.zeros((1, 20, 25), int), losses).plot()
        edges, valid, mined = bars(figure)
        np.testing.assert_array_equal(valid, np.histogram(losses, edges)[0])
        np.testing.assert_array_equal(mined, np.histogram(losses[losses > -np.log(0.7)], edges)[0])
        assert np.sum(valid) == 500 - np.sum(losses < edges[0])
        assert np.sum(losses < edges[0]) == 3
        assert "0.6% of the valid pixels lie left of this scale." in texts(figure)
        few = np.geomspace(0.01, 4, 20)[None]  # all are shown
        assert np.sum(bars(trace_of(np.zeros((1, 20), int), few).plot())[1]) == 20

    def test_two_lines(self):
        """Too few are hard, so the cut is the loss of the last that is mined."""
        figure = trace_of([[0, 0, 0, 0]], [[0.05, 0.1, 0.2, 0.5]], min_kept=3).plot()
        axes = chart(figure)
        at = {text.get_text(): text.xy[0] for text in axes.texts}
        assert at == {"threshold 0.3567": pytest.approx(-np.log(0.7)), "cut 0.1": pytest.approx(0.1)}
        assert sorted(line.get_xdata()[0] for line in axes.lines) == pytest.approx([0.1, -np.log(0.7)])
        assert "mined  3" in texts(figure)
        assert "tied" not in texts(figure)

    def test_one_line(self):
        axes = chart(trace_of([[0, 0]], [[0.1, 0.5]]).plot())
        assert [text.get_text() for text in axes.texts] == ["threshold = cut 0.3567"]
        without = trace_of([[0, 0]], [[0.1, 0.5]], thresh=None, min_kept=0).plot()
        assert not chart(without).texts
        assert "mined 0 (0.0%)" in texts(without)

    def test_negative_losses(self):
        """A linear scale, from the smallest on."""
        trace = explain(np.zeros((1, 2, 2)), np.asarray([[0, 1]]), weight=(1.0, -1.0))
        figure = trace.plot()
        assert chart(figure).get_xscale() == "linear"
        edges, valid, _ = bars(figure)
        assert edges[0] <= -np.log(2) < np.log(2) <= edges[-1]
        assert np.sum(valid) == 2
        assert figure.axes[2].get_xlim()[0] == pytest.approx(-np.log(2))

    @pytest.mark.parametrize(("n", "options"), [(9, {}), (3, {"weight": (-1.0, 1.0), "thresh": None, "min_kept": 0})])
    def test_equal_losses(self, n, options):
        _, valid, mined = bars(explain(np.zeros((1, 2, n)), np.zeros((1, n), int), **options).plot())
        assert (np.max(valid), np.max(mined)) == (n, n if not options else 0)

    @pytest.mark.parametrize(("n", "share"), [(9, "90.0%"), (10, "100.0%")])
    def test_losses_of_0(self, n, share):
        """What a sure model has many of: left of the scale, and said so."""
        trace = explain(np.asarray([[[200.0] * n + [0.0] * (10 - n), [0.0] * 10]]), np.zeros((1, 10), int))
        assert f"{share} of the valid pixels lie left of this scale." in texts(trace.plot())

    def test_cut_of_0(self):
        """Beside no number on a logarithmic scale."""
        losses = np.asarray([[0.0, 0.0, 0.5]])
        trace = replace(trace_of([[0, 0, 0]], [[0.1, 0.1, 0.5]], min_kept=2), score=losses, pixel_loss=losses)
        trace = replace(trace, cut=replace(trace.cut, value=np.asarray(0.0)))
        figure = trace.plot()
        assert "The cut, 0, lies left of this scale." in texts(figure)
        assert [text.get_text() for text in chart(figure).texts] == ["threshold 0.3567"]

    @pytest.mark.parametrize(("cut", "thresh"), [(0.3, 7.0), (0.01, 0.01), (7.0, 7.0), (np.inf, 0.02), (0.3, np.inf)])
    @pytest.mark.parametrize("lowest", [0.1, -2.0])
    def test_edges(self, cut, thresh, lowest):
        """All marks are on the scale, of equal bars, and none of them is on both sides of the cut."""
        edges = _histogram._edges(np.asarray([lowest, 0.5, 0.6]), cut, thresh)
        marks = [mark for mark in (cut, thresh, 0.6, lowest) if np.isfinite(mark)]
        assert edges[0] <= min(marks) < max(marks) <= edges[-1]
        widths = np.diff(edges if lowest < 0 else np.log(edges))
        np.testing.assert_allclose(widths, widths[0])
        assert 12 <= len(widths) <= 14
        assert np.isinf(cut) or np.min(np.abs(edges - cut)) < 1e-12

    def test_room_for_the_names(self):
        """A line near the right edge has its name on the left, where it may cross another line, but no name."""
        names = chart(trace_of([[0, 0]], [[0.3, 0.34]], min_kept=1).plot()).texts
        assert {text.get_text(): text.get_ha() for text in names} == {"threshold 0.3567": "right", "cut 0.34": "right"}
        assert names[0].xy[1] != names[1].xy[1]


# Logits, labels, options, and what the page says.
WORDS = {
    "ties": (
        np.zeros((1, 3, 8)),
        [[0] * 8],
        {"thresh": None, "min_kept": 2},
        "mined 2 (25.0%)",
        "8 of 8 valid pixels (100.0%) are mined or tied here.\nThose that tie at the cut weigh 0.25 each.",
        "mined or tied  8",
    ),
    "ignored and mined": (
        np.zeros((1, 2, 4)),
        [[0, 255, 255, 255]],
        {"min_kept": 1.0, "rule": MiningRule(pool="all")},
        "So are 3 ignored pixels, with a loss of 0.",
        "mined 4 (100.0%)",
    ),
    "not reduced": (LOGITS, LABELS, {"reduction": "none"}, "value one for each pixel"),
    "tiny share": (np.zeros((1, 2, 5000)), [[1] + [0] * 4999], {}, "class 1  <0.1%"),
    "all ignored": (
        np.zeros((1, 2, 3, 4)),
        [[[255] * 4] * 3],
        {},
        "value 0    n_valid 0    n_min 0    n_hard 0    mined 0 (0.0%)",
        *("Every pixel is ignored.", "no pixel to count", "ignored  100.0% of all", "valid  0"),
    ),
}


class TestNumbers:
    def test_of_the_batch(self):
        figure, trace = explain(LOGITS, LABELS).plot(index=-1), explain(LOGITS, LABELS)
        n, count = int(np.sum(LABELS != 255)), int(trace.cut.count)
        numbers = f"value {float(trace.value):.5g}    n_valid {n}    n_min {n // 16}    n_hard {int(trace.n_hard)}"
        assert f"{numbers}    mined {count} ({count / n:.1%})" in texts(figure)
        scope = "The numbers and the histogram are those of the whole batch."
        assert f"Image 1 of 2, counted from 0. {scope}" in texts(figure)
        assert np.sum(bars(figure)[1]) == n
        np.testing.assert_array_equal(panels(figure)[0] == WHITE, np.repeat((LABELS[1] == 255)[..., None], 3, -1))

    def test_of_each_image(self):
        """Of a rule that selects per image all numbers are those of the image, but the value."""
        trace, alone = explain(LOGITS, LABELS, rule=MiningRule(per_image="select")), explain(LOGITS[1:], LABELS[1:])
        view, expected = view_of(trace, 1), view_of(alone, 0)
        numbers = operator.attrgetter("n_valid", "n_min", "n_hard", "count", "tie_weight", "ranked.cut")
        assert numbers(view) == numbers(expected)
        for name in ("scores", "mined"):
            np.testing.assert_array_equal(getattr(view.ranked, name), getattr(expected.ranked, name))
        figure = trace.plot(index=1)
        assert "Image 1 of 2, counted from 0. The numbers are those of this image; the value is" in texts(figure)
        assert "The losses of the image" in texts(figure)

    def test_ranked_by_probability(self):
        """The histogram is of what is ranked; the threshold is not one of the weighted loss."""
        trace = explain(LOGITS, LABELS, weight=(1.0, 2.0, 3.0, 4.0, 5.0), rule=MiningRule(rank_by="prob"))
        figure = trace.plot()
        assert "The scores of all valid pixels" in texts(figure)
        assert "The pixels are ranked by probability, and not by this loss." in texts(figure)
        edges, valid, _ = bars(figure)
        np.testing.assert_array_equal(valid, np.histogram(explain(LOGITS, LABELS).pixel_loss[LABELS != 255], edges)[0])

    @pytest.mark.parametrize("case", WORDS)
    def test_words(self, case):
        logits, labels, options, *words = WORDS[case]
        figure = explain(logits, np.asarray(labels), **options).plot()
        for sentence in words:
            assert sentence in texts(figure)
        if case == "all ignored":
            assert np.all(panels(figure)[0] == WHITE)
            assert np.all(panels(figure)[1] == IGNORED)


OUTSIDE = "`index` must lie in the labels of shape {}: got {}."


class TestShapes:
    @pytest.mark.parametrize(
        ("shape", "index", "drawn"),
        [
            ((), 0, (1, 1)),
            ((9,), 0, (1, 9)),
            ((3, 5), 0, (3, 5)),
            ((2, 3, 5), 1, (3, 5)),
            ((2, 3, 5), (1,), (3, 5)),
            ((2, 3, 5), -2, (3, 5)),
            ((2, 4, 3, 5), (1, -1), (3, 5)),
        ],
    )
    def test_picture(self, shape, index, drawn):
        labels = np.arange(np.prod(shape, dtype=int)).reshape(shape)
        trace = explain(np.zeros((*shape, 120)), labels, axis=-1)
        where = tuple(np.atleast_1d(index))[: max(labels.ndim - 2, 0)]
        view = view_of(trace, index)
        assert view.labels.tolist() == labels[where].reshape(drawn).tolist()
        assert {array.shape for array in (view.valid, view.losses, view.selected)} == {drawn}
        assert len(view.ranked.scores) == labels.size
        assert panels(trace.plot(index=index))[0].shape == (*drawn, 3)

    def test_sequences_that_select_by_themselves(self):
        """The first axis is that of the images, so one of them is drawn."""
        labels = np.zeros((4, 6), int)
        trace = explain(np.zeros((4, 2, 6)), labels, rule=MiningRule(per_image="mean"))
        view = view_of(trace, 2)
        assert (view.index, view.labels.shape, len(view.ranked.scores)) == ((2,), (1, 6), 6)

    @pytest.mark.parametrize(
        ("shape", "index", "message"),
        [
            *((shape, index, OUTSIDE) for shape, index in (((2, 3, 4), 2), ((2, 3, 4), -3), ((0, 3, 4), 0))),
            ((2, 3, 4), (0, 1), "`index` for labels of shape {} must be 1 integers, for instance (0,): got {}."),
            ((2, 3, 4, 5), 0, "`index` for labels of shape {} must be 2 integers, for instance (0, 0): got {}."),
            ((3, 4), 1, "`index` for labels of shape {} must be left out, since they are drawn whole: got {}."),
            *((shape, 0, "`plot` must have pixels to draw: got labels of shape {}.") for shape in ((2, 0, 4), (0,))),
        ],
    )
    def test_index_that_is_not_there(self, shape, index, message):
        trace = explain(np.zeros((*shape, 2)), np.zeros(shape, int), axis=-1)
        with pytest.raises(ValueError, match=f"^{re.escape(message.format(shape, index))}$"):
            trace.plot(index=index)

    @pytest.mark.parametrize(
        ("shape", "aspect"),
        [((1, 3, 5), 1.0), ((1, 40, 10), 1.0), ((1, 1000), "auto"), ((2, 5000), "auto")],
        ids=str,
    )
    def test_strips_fill_their_panel(self, shape, aspect):
        trace = explain(np.zeros((*shape, 2), np.float32), np.zeros(shape, int), axis=-1)
        assert {axes.get_aspect() for axes in trace.plot().axes if axes.images} == {aspect}


@pytest.mark.parametrize("case", ["150 classes", "strip", "tall", "not finite"])
def test_layout(case):
    """No part of the page lies on another, and all lie on it."""
    rng = np.random.default_rng(0)
    shape = {"strip": (1000,), "tall": (1, 60, 15)}.get(case, (2, 30, 40))
    n_classes = 150 if case == "150 classes" else 9
    logits, labels = rng.normal(size=(*shape, n_classes)), rng.integers(0, n_classes, shape)
    labels.flat[:7] = 255
    if case == "not finite":
        logits.reshape(-1, n_classes)[100:110], logits.reshape(-1, n_classes)[110:900, 0] = np.nan, -np.inf
    names = [f"the quite long name of class {i}" for i in range(n_classes)]
    figure = explain(logits, labels, axis=-1, thresh=0.1, min_kept=0.9).plot(names=names)
    assert overlapping(figure) == []


def test_no_window_no_global_state_and_no_matplotlib():
    """A trace is made without matplotlib; a picture needs it, but nothing that opens windows."""
    code = """
    import json, sys
    import numpy as np, ohemloss
    trace = ohemloss.explain(np.zeros((1, 2, 3)), np.zeros((1, 3), int))
    before = "matplotlib" in sys.modules
    sys.modules["matplotlib"] = None
    try:
        trace.plot()
    except ModuleNotFoundError as error:
        refused = [str(error), error.name]
    del sys.modules["matplotlib"]
    trace.plot()
    print(json.dumps([before, "matplotlib.pyplot" in sys.modules, *refused]))
    """
    message = "`plot` needs matplotlib, which is not installed: install `ohemloss[cli]`."
    assert _processes.run(code) == [False, False, message, "matplotlib"]


def test_other_missing_modules_are_not_hidden(monkeypatch):
    monkeypatch.setitem(sys.modules, "ohemloss._drawing._trace", None)
    monkeypatch.delattr(sys.modules["ohemloss._drawing"], "_trace", raising=False)
    with pytest.raises(ModuleNotFoundError, match="_trace"):
        explain(LOGITS, LABELS).plot()


def test_of_a_criterion():
    criterion = ohemloss.OhemCELoss(thresh=0.5)
    assert texts(criterion.explain(LOGITS, LABELS).plot()) == texts(explain(LOGITS, LABELS, thresh=0.5).plot())
