"""Resized logits in host memory: places, cells, chunks, and which path serves a call."""

import numpy as np
import pytest

import ohemloss
from ohemloss import MiningRule
from ohemloss._inputs import Inputs
from ohemloss._options import Options
from ohemloss._resize import Taps
from ohemloss_numpy import _op, _resized, _walks
from ohemloss_numpy._cells import Axis, Cells
from ohemloss_numpy._task import ENGINE
from tests._cases import make_small
from tests._oracle import neighbours

from ._workers import check, serving

AXES = [(64, 512), (128, 1023), (10, 37), (7, 26), (26, 7), (8, 5), (3, 4), (1, 9), (9, 1), (2, 2**12)]
aligned = pytest.mark.parametrize("align_corners", [False, True])


def test_many_pixels(worker):
    """With nothing made small: blocks of several rows, and of parts of rows."""
    for small, size in (((1, 5, 6, 8), (47, 64)), ((1, 3, 2, 300), (3, 2400)), ((1, 260, 3, 7), (8, 29))):
        logits, labels = make_small("40% hard", small, size)
        check(logits.astype(np.float32), labels, min_kept=0.7, resize="bilinear")


@pytest.mark.parametrize(("small", "size"), [((2, 3, 2, 2), (2, 0, 4)), ((2, 3, 0, 2), (2, 4, 0))])
def test_empty(worker, small, size):
    value, grad = ohemloss.value_and_grad(np.ones(small, np.float32), np.zeros(size, np.int64), resize="bilinear")
    assert (value, grad.shape, np.any(grad)) == (0, small, False)


def test_one_class(worker, cut_small):
    """The loss is exactly 0: the logit of the label is interpolated as those of all classes are."""
    x = np.random.default_rng(0).normal(scale=1e3, size=(1, 1, 5, 7)).astype(np.float32)
    labels, options = np.zeros((1, 31, 26), np.int64), {"resize": "bilinear", "min_kept": 1.0}
    losses = ohemloss.ohem_cross_entropy(x, labels, reduction="none", **options)
    for found in (losses, *ohemloss.value_and_grad(x, labels, **options)):
        np.testing.assert_array_equal(found, 0)


def test_anything_where_ignored_pixels_alone_look(worker, cut_small):
    """A logit that ignored pixels alone look at may be anything, and has a gradient of exactly 0."""
    logits, labels = make_small("40% hard", (2, 5, 4, 5), (12, 15))
    labels[0, :8, :8] = 255
    for anything in (np.nan, np.inf):
        logits[0, 2, 1, 1] = anything
        gradient = check(logits.astype(np.float32), labels, resize="bilinear")
        np.testing.assert_array_equal(gradient[0, :, 1, 1], 0)


@pytest.mark.parametrize("what", ["weight", "pixel_weight"])
def test_infinite_weights(worker, cut_small, what):
    """They make NaN of all classes, of the logits that the pixel looks at."""
    logits, labels = make_small("40% hard", (2, 5, 4, 5), (12, 15), ignored=0.0)
    labels[labels >= 4] = 3
    labels[0, 5, 6] = 4
    weights = np.ones(5 if what == "weight" else labels.shape, np.float32)
    weights[4 if what == "weight" else (0, 5, 6)] = np.inf
    options = {"resize": "bilinear", "min_kept": 1.0, what: weights}
    value, grad = ohemloss.value_and_grad(logits.astype(np.float32), labels, **options)
    assert value == np.inf
    expected = np.zeros((2, 4, 5), bool)
    expected[0] = neighbours(labels[0] == 4, (4, 5))
    assert expected.sum() == 4
    np.testing.assert_array_equal(np.isnan(grad), np.broadcast_to(expected[:, None], grad.shape))


def test_blocks_without_a_selected_pixel_are_skipped(cut_small, monkeypatch):
    logits, labels = make_small("95% hard", (1, 5, 8, 5), (64, 20))
    labels[:, 6:] = 255
    with serving("blocks"):
        enlarged, enlarge = [], _resized.enlarge
        monkeypatch.setattr(_resized, "enlarge", lambda *args: (enlarged.append(1), enlarge(*args))[1])
        ohemloss.ohem_cross_entropy(logits, labels, resize="bilinear")
        n_blocks = len(enlarged)
        ohemloss.value_and_grad(logits, labels, resize="bilinear")
    assert 0 < len(enlarged) - 2 * n_blocks <= n_blocks / 8


@aligned
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize(("n_in", "n_out"), AXES)
def test_taps_are_those_of_the_composite(n_in, n_out, dtype, align_corners):
    expected = Taps.of(ENGINE, n_in, n_out, align_corners, np.dtype(dtype))
    for start, stop in ((0, n_out), (n_out // 3, n_out // 3 + 1), (n_out // 2, n_out)):
        found = Axis(n_in, n_out, align_corners).taps(np.arange(start, stop), dtype)
        np.testing.assert_array_equal(found.index[0], expected.lower[start:stop])
        np.testing.assert_array_equal(found.index[1], expected.upper[start:stop])
        np.testing.assert_array_equal(found.shares[1], expected.share[start:stop])
        np.testing.assert_array_equal(found.shares[0], 1 - expected.share[start:stop])
        assert found.shares[0].dtype == found.shares[1].dtype == dtype


@aligned
@pytest.mark.parametrize("group", [1, 3])
@pytest.mark.parametrize(("n_in", "n_out"), [(1, 1), (1, 100), (9, 1), *AXES[:7], (16, 64), (64, 64)])
def test_cells_hold_each_pixel_once(n_in, n_out, group, align_corners):
    """And little else, which is computed for nothing."""
    cells = Cells.of(Axis(n_in, n_out, align_corners).taps(np.arange(n_out), np.float32), group)
    n_cells = cells.lower.size
    np.testing.assert_array_equal(cells.column[cells.phase, cells.position], np.arange(group * n_out))
    np.testing.assert_array_equal(np.repeat(np.arange(group * n_cells), np.diff(cells.starts)), cells.position)
    assert cells.column.size <= 2 * group * n_out
    if n_out >= 4 * n_in and n_in > 1:
        assert 3 * n_cells * group <= cells.column.size <= 1.3 * group * n_out


@pytest.mark.parametrize(
    ("small", "size"),
    [((4, 5, 64, 64), (512, 512)), ((1, 5, 512, 512), (64, 64)), ((300, 5, 4, 4), (8, 8))],
    ids=["larger labels", "larger logits", "many images"],
)
def test_chunks_are_not_too_large(small, size):
    inputs = Inputs(logits=np.zeros(small, np.float32), labels=np.zeros((small[0], *size), int))
    chunks = _walks.Slabs(inputs, Options(resize="bilinear"), np.dtype(np.float32), 10_000, 1000).chunks
    assert [chunk.start for chunk in chunks[1:]] == [chunk.stop for chunk in chunks[:-1]]
    assert (chunks[0].start, chunks[-1].stop) == (0, inputs.labels.size)
    assert 1 < len(chunks) <= 2 + max(inputs.labels.size, inputs.logits.size / 5) / 4000
    for chunk in chunks:
        n_images = chunk.images.stop - chunk.images.start
        assert chunk.stop - chunk.start <= 10_000
        assert n_images * (chunk.seen.stop - chunk.seen.start - 2) * small[3] <= 10_000


def test_same_size_is_not_resized(worker, monkeypatch):
    monkeypatch.setattr(_walks, "Slabs", lambda *_: pytest.fail("resized"))
    logits, labels = make_small("40% hard", (2, 5, 6, 7), (6, 7))
    x = logits.astype(np.float32)
    value, grad = ohemloss.value_and_grad(x, labels)
    for resize in ("linear", "bilinear"):
        resized, resized_grad = ohemloss.value_and_grad(x, labels, resize=resize, align_corners=True)
        assert resized == value
        np.testing.assert_array_equal(resized_grad, grad)


@pytest.mark.parametrize("per_image", ["select", "mean"])
def test_selection_per_image_is_left_to_the_composite(per_image):
    logits, labels = make_small()
    x, options = logits.astype(np.float32), {"rule": MiningRule(per_image=per_image), "resize": "bilinear"}
    assert _op.loss(ENGINE, Inputs(logits=x, labels=labels), Options(**options)) is NotImplemented
    check(x, labels, **options)
