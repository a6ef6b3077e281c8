"""The loss of resized logits: block by block, and what its program holds."""

import functools
import re

import numpy as np
import pytest

import ohemloss
from tests._cases import MODES, make_small
from tests._reference import interpolation
from tests.conformance._check import assert_both, case_of

from ._helpers import equations, shapes

jax = pytest.importorskip("jax")
Cells = pytest.importorskip("ohemloss_jax._cells").Cells
jnp, export = jax.numpy, pytest.importorskip("jax.export")

BY_PROB = ohemloss.MiningRule(rank_by="prob")
# Axes of 8, 4, 3.7, 1 1/2 and 1 times as many places, of half as many, and of one place.
LENGTHS = [(3, 24), (6, 24), (10, 37), (4, 6), (5, 5), (8, 4), (9, 2), (1, 20), (1, 1), (7, 1)]


def both_of(**options):
    return lambda x, y: jax.value_and_grad(lambda x: ohemloss.ohem_cross_entropy(x, y, **options))(x)


class TestCells:
    @pytest.mark.parametrize("lengths", LENGTHS, ids=str)
    def test_say_where_each_place_lies(self, lengths):
        n_in, n_out = lengths
        for longest in (1, 2, 8):
            for align_corners in (False, True):
                cells = Cells.of(n_in, n_out, align_corners, longest).in_groups(3)
                assert len(cells.place) % 3 == 0
                assert cells.place.shape[1] <= longest
                np.testing.assert_array_equal(cells.place.ravel()[cells.order], np.arange(n_out))
                assert np.sum(cells.place == n_out) == cells.place.size - n_out
                np.testing.assert_array_equal(cells.share[cells.place == n_out], 0)
                for ends in (cells.lower, cells.upper):
                    np.testing.assert_array_equal(ends < 0, (cells.place == n_out).all(axis=1))
                matrix = np.zeros((n_out, n_in))
                cell = cells.order // cells.place.shape[1]
                share = cells.share.ravel()[cells.order]
                np.add.at(matrix, (np.arange(n_out), cells.lower[cell]), 1 - share)
                np.add.at(matrix, (np.arange(n_out), cells.upper[cell]), share)
                expected = interpolation(*lengths, align_corners=align_corners)
                np.testing.assert_allclose(matrix, expected, rtol=1e-15, atol=1e-15)
                np.testing.assert_array_equal(cells.upper[cell], np.minimum(cells.lower[cell] + 1, n_in - 1))

    @pytest.mark.parametrize(("lengths", "length"), [((3, 24), 4), ((6, 24), 4), ((8, 4), 1), ((20, 22), 1)])
    def test_are_as_long_as_pays(self, lengths, length):
        assert Cells.of(*lengths, False, 8).place.shape[1] == length


@pytest.mark.usefixtures("double", "many_blocks")
class TestBlocks:
    @pytest.mark.parametrize(
        ("small", "size", "options"),
        [
            ((1, 3, 2, 3), (16, 24), {"label_smoothing": 0.2}),
            ((2, 3, 10, 2), (37, 3), {"align_corners": True}),
            ((2, 5, 16, 12), (8, 6), {}),
            ((4, 5, 5), (37,), {"axis": -1}),
            ((1, 3, 2, 3, 1), (8, 5, 4), {"align_corners": True}),
        ],
        ids=str,
    )
    def test_sizes(self, small, size, options):
        logits, labels = make_small("40% hard", small, size, align_corners=options.get("align_corners", False))
        options = {**options, "resize": MODES[len(size)]}
        logits = np.moveaxis(logits, 1, options.get("axis", 1))
        traced = jax.jit(both_of(**options)).trace(jnp.asarray(logits), jnp.asarray(labels))
        found = traced.lower().compile()(jnp.asarray(logits), jnp.asarray(labels))
        assert_both(case_of((logits, labels), **options), *found)
        loops = [equation for equation in equations(traced.jaxpr.jaxpr) if equation.primitive.name == "scan"]
        assert max(loop.params["length"] for loop in loops) >= 3

    @pytest.mark.parametrize("platform", ["cpu", "cuda", "default"], indirect=True)
    @pytest.mark.usefixtures("platform")
    def test_nan_goes_to_its_neighbours_alone(self):
        """
        Not at all from blocks that do not count, whose logits may be anything: also in a cell that is not filled.

        One NaN comes with the logits, and one from a label out of range, which nobody could refuse.
        """
        options = {"resize": "bilinear", "thresh": None, "min_kept": 1.0}
        both = jax.jit(both_of(**options))
        logits, labels = make_small(size=(24, 32), small=(2, 5, 6, 8), ignored=0.0)
        unseen = logits.copy(), np.where(np.arange(24)[:, None] < 10, 255, labels)
        unseen[0][:, :, 0] = np.nan
        value, grad = both(*(jnp.asarray(array) for array in unseen))
        assert np.isfinite(grad).all()
        assert_both(case_of((np.nan_to_num(unseen[0]), unseen[1]), **options), value, grad)
        labels[labels == 255] = 0
        logits[0, 3, 1, 2] = np.nan
        labels[1, 9, 30] = 77  # in the row 9 of 24, between the rows 1 and 2 of 6
        expected = np.zeros(logits.shape, bool)
        expected[0, :, 0:3, 1:4] = True
        expected[1, :, 1:3, 7] = True
        value, grad = both(jnp.asarray(logits), jnp.asarray(labels))
        np.testing.assert_array_equal(np.isnan(grad), expected)

    def test_pixels_of_weight_0_compete_and_have_no_derivative(self):
        """As ranked by probability; one whose logits are NaN is above the cut, and yet its gradient is 0."""
        logits, labels = make_small("40% hard", ignored=0.0)
        logits[0, :, 0, 0] = np.nan
        labels[0, :6, :6] = 1
        options = {"weight": (1.0, 0.0, 2.0, 1.0, 0.5), "rule": BY_PROB, "resize": "bilinear"}
        host = ohemloss.value_and_grad(logits, labels, **options)
        assert np.isfinite(host[1]).all()
        closed = lambda x, y: ohemloss.value_and_grad(x, y, **options)
        answers = jax.jit(lambda x, y: (both_of(**options)(x, y), closed(x, y)))(logits, jnp.asarray(labels))
        for value, grad in answers:
            np.testing.assert_allclose(value, host[0], rtol=1e-13, atol=1e-14)
            np.testing.assert_allclose(grad, host[1], rtol=1e-6, atol=1e-9)


class TestProgram:
    @pytest.mark.skipif(jax.default_backend() != "cpu", reason="of the blocks for a CPU")
    @pytest.mark.parametrize(
        ("small", "size", "options"),
        [
            ((2, 32, 32, 64), (512, 1024), {"label_smoothing": 0.1}),
            ((2, 32, 32, 64), (512, 1024), {"rule": BY_PROB}),
            ((64, 32, 16, 16), (128, 128), {}),
        ],
        ids=["smoothed", "by probability", "many images"],
    )
    def test_never_holds_the_resized_logits(self, small, size, options):
        """They would take 128 bytes a pixel. Few wide rows, and rows of so many images that a cell is no block."""
        both = functools.partial(ohemloss.value_and_grad, resize="bilinear", **options)
        compiled = jax.jit(both).lower(*shapes(small, (small[0], *size))).compile()
        assert compiled.memory_analysis().temp_size_in_bytes / (small[0] * np.prod(size)) < 50
        held = re.findall(r"f32\[([\d,]+)\]", compiled.as_text())
        assert max(np.prod([int(n) for n in shape.split(",")]) for shape in held) < small[0] * np.prod(size) * 1.5

    def test_exported(self):
        """Lowered for each platform and run here. Nothing is added to places, which a GPU does in no fixed order."""
        logits, labels = batch = make_small()
        both = jax.jit(both_of(resize="bilinear"))
        exported = export.export(both, platforms=("cpu", "cuda", "tpu"))(*shapes(logits.shape, labels.shape))
        assert "scatter" not in exported.mlir_module()
        program = export.deserialize(exported.serialize())
        found = program.call(jnp.asarray(logits, "float32"), labels.astype("int32"))
        assert_both(case_of(batch, resize="bilinear"), *found, "float32")

    def test_exported_for_any_size(self):
        """Then the resized logits are an array."""
        n, h, w = export.symbolic_shape("n, h, w")
        loss = jax.jit(lambda x, y: ohemloss.ohem_cross_entropy(x, y, resize="bilinear"))
        exported = export.export(loss)(*shapes((n, 5, 3, 4), (n, h, w)))
        logits, labels = batch = make_small()
        value = exported.call(jnp.asarray(logits, "float32"), labels.astype("int32"))
        case = case_of(batch, resize="bilinear")
        np.testing.assert_allclose(value, case.expected.value, **case.value_tolerance("float32"))
