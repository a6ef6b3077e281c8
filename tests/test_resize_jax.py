"""The loss of resized logits under JAX: block by block, in every way to differentiate, and spread over devices."""

import functools
import re
from textwrap import dedent

import numpy as np
import pytest

import ohemloss
from tests import _processes
from tests._cases import CURVATURE, make_small, tolerance
from tests._reference import curvature, gradient, interpolate, interpolation, pull_back, reference

jax = pytest.importorskip("jax")
pytest.importorskip("ohemloss_jax")
jnp = jax.numpy

NAMES = {1: "linear", 2: "bilinear", 3: "trilinear"}
CLOSE = {"rtol": 1e-6, "atol": 1e-9}
BY_PROB = ohemloss.MiningRule(rank_by="prob")
# Axes of 8, 4, 3.7, 1 1/2 and 1 times as many places, of half as many, and of one place.
LENGTHS = [(3, 24), (6, 24), (10, 37), (4, 6), (5, 5), (8, 4), (9, 2), (1, 20), (1, 1), (7, 1)]


@pytest.fixture
def double():
    """Test in float64."""
    with jax.enable_x64(True):
        yield


@pytest.fixture
def many_blocks(monkeypatch):
    """Cut into blocks of a few rows, which so small logits do not need."""
    from ohemloss_jax import _resized

    monkeypatch.setattr(_resized, "_ON_CPU", 200)
    monkeypatch.setattr(_resized, "_ELSEWHERE", 400)
    jax.clear_caches()  # of programs with larger blocks
    yield
    jax.clear_caches()


def loss_of(labels, **options):
    y = jnp.asarray(labels)
    return lambda x: ohemloss.ohem_cross_entropy(x, y, **{"resize": "bilinear", **options})


def expected_of(logits, labels, *, align_corners=False, **options):
    """Give value and gradient of the oracle, of logits with the classes along axis 1."""
    size = labels.shape[labels.ndim - (logits.ndim - 2) :]
    enlarged = interpolate(logits, size, align_corners=align_corners)
    full = gradient(enlarged, labels, **options)
    expected = pull_back(full, logits.shape[2:], align_corners=align_corners)
    return reference(enlarged, labels, **options).value, expected


class TestCells:
    @pytest.mark.parametrize("longest", [1, 2, 8])
    @pytest.mark.parametrize("align_corners", [False, True])
    @pytest.mark.parametrize("lengths", LENGTHS, ids=str)
    def test_say_where_each_place_lies(self, lengths, align_corners, longest):
        from ohemloss_jax._cells import Cells

        n_in, n_out = lengths
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
        np.testing.assert_allclose(matrix, interpolation(*lengths, align_corners=align_corners), rtol=1e-15, atol=1e-15)
        np.testing.assert_array_equal(cells.upper[cell], np.minimum(cells.lower[cell] + 1, n_in - 1))

    @pytest.mark.parametrize(("lengths", "length"), [((3, 24), 4), ((6, 24), 4), ((8, 4), 1), ((20, 22), 1)])
    def test_are_as_long_as_pays(self, lengths, length):
        from ohemloss_jax._cells import Cells

        n_in, n_out = lengths
        assert Cells.of(n_in, n_out, False, 8).place.shape[1] == length


@pytest.mark.usefixtures("double")
class TestLinear:
    """Each step forward, and its transpose, against the product with its matrix; NaN goes nowhere else."""

    def check(self, function, matrix, n_in):
        rng = np.random.default_rng(0)
        x, back = rng.normal(size=(2, n_in, 3)), rng.normal(size=(2, len(matrix), 3))
        product, transposed = jax.vjp(function, jnp.asarray(x))
        np.testing.assert_allclose(product, np.einsum("oi,aib->aob", matrix, x), rtol=1e-13, atol=1e-13)
        expected = np.einsum("oi,aob->aib", matrix, back)
        np.testing.assert_allclose(transposed(jnp.asarray(back))[0], expected, rtol=1e-13, atol=1e-13)
        _, tangent = jax.jvp(function, (jnp.asarray(x),), (jnp.asarray(x),))
        np.testing.assert_allclose(tangent, product, rtol=1e-13, atol=1e-13)
        back[1, 0] = np.nan
        np.testing.assert_array_equal(np.isnan(transposed(jnp.asarray(back))[0])[1, :, 0], matrix[0] != 0)

    def test_take(self):
        from ohemloss_jax._linear import take

        index = np.asarray([4, 0, 0, 2, 0, 4])
        self.check(lambda x: take(x, index, 1), np.eye(5)[index], 5)

    def test_take_of_nothing(self):
        from ohemloss_jax._linear import _users, take

        index = np.asarray([1, -1, 0, 1, -1])
        _, transposed = jax.vjp(lambda x: take(x, index, 0), jnp.zeros(3))
        np.testing.assert_array_equal(transposed(jnp.asarray([1.0, 2, 4, 8, 16]))[0], [4, 9, 0])
        assert _users(index, 3).shape == (3, 2)

    def test_between(self):
        from ohemloss_jax._linear import between

        share = np.asarray([[0.25, 0.5], [0.75, 0.125]])
        zeros, cell = jnp.zeros((2, 2, 3)), np.eye(2)[[0, 0, 1, 1]]
        self.check(lambda x: between(1, x, zeros, share).reshape(2, 4, 3), cell * (1 - share).reshape(-1, 1), 2)
        self.check(lambda x: between(1, zeros, x, share).reshape(2, 4, 3), cell * share.reshape(-1, 1), 2)


# Logits, the size of the labels, options.
CASES = [
    ((1, 3, 2, 3), (16, 24), {"label_smoothing": 0.2}),
    ((2, 3, 10, 2), (37, 3), {"align_corners": True}),
    ((2, 5, 16, 12), (8, 6), {}),
    ((4, 5, 5), (37,), {"axis": -1}),
    ((1, 3, 2, 3, 1), (8, 5, 4), {"align_corners": True}),
]


@pytest.mark.usefixtures("double", "many_blocks")
class TestBlocks:
    @pytest.fixture
    def platform(self, request, monkeypatch):
        """Compute in the way of a platform, here."""
        way = lambda *x, **ways: ways.get(request.param, ways["default"])(*x)
        monkeypatch.setattr(jax.lax, "platform_dependent", way)

    def compare(self, logits, labels, base, *, axis=1, **options):
        """Compare value and gradient with what is expected; give the length of the longest loop."""
        resize = NAMES[logits.ndim - 2]
        value, grad = base
        both = jax.jit(jax.value_and_grad(loss_of(labels, resize=resize, axis=axis, **options)))
        traced = both.trace(jnp.asarray(np.moveaxis(logits, 1, axis)))
        found, found_grad = traced.lower().compile()(jnp.asarray(np.moveaxis(logits, 1, axis)))
        np.testing.assert_allclose(found, value, **tolerance("float64", "value"))
        np.testing.assert_allclose(np.moveaxis(found_grad, axis, 1), grad, **CLOSE)
        return max(loop_lengths(traced.jaxpr.jaxpr))

    @pytest.mark.parametrize("case", CASES, ids=str)
    def test_sizes(self, case):
        small, size, options = case
        logits, labels = make_small("40% hard", small, size, align_corners=options.get("align_corners", False))
        base = expected_of(logits, labels, **{k: v for k, v in options.items() if k != "axis"})
        assert self.compare(logits, labels, base, **options) >= 3

    @pytest.mark.parametrize("platform", ["cpu", "cuda", "default"], indirect=True)
    @pytest.mark.usefixtures("platform")
    def test_here_and_elsewhere(self):
        """With blocks that do not count, whose logits may be anything: also in a cell that is not filled."""
        logits, labels = make_small("3% hard", size=(20, 15))
        labels[:, :10] = 255
        base = expected_of(logits, labels)
        logits[:, :, 0] = np.nan
        assert self.compare(logits, labels, base) >= 3

    @pytest.mark.parametrize("differentiate", [jax.value_and_grad, None], ids=["grad", "value_and_grad"])
    def test_pixels_of_weight_0_compete_and_have_no_derivative(self, differentiate):
        """As ranked by probability; one whose logits are NaN is above the cut, and yet its gradient is 0."""
        logits, labels = make_small("40% hard", ignored=0.0)
        weight = [1.0, 0.0, 2.0, 1.0, 0.5]
        logits[0, :, 0, 0] = np.nan
        labels[0, :6, :6] = 1
        options = {"weight": jnp.asarray(weight), "rule": BY_PROB, "resize": "bilinear"}
        both = differentiate and differentiate(lambda x, y: ohemloss.ohem_cross_entropy(x, y, **options))
        both = both or (lambda x, y: ohemloss.value_and_grad(x, y, **options))
        value, grad = jax.jit(both)(jnp.asarray(logits), jnp.asarray(labels))
        host = ohemloss.value_and_grad(logits, labels, **options | {"weight": np.asarray(weight)})
        assert np.isfinite(host[1]).all()
        np.testing.assert_allclose(value, host[0], **tolerance("float64", "value"))
        np.testing.assert_allclose(grad, host[1], **CLOSE)

    @pytest.mark.parametrize("platform", ["cpu", "default"], indirect=True)
    @pytest.mark.usefixtures("platform")
    def test_nan_goes_to_its_neighbours_alone(self):
        """One that comes with the logits, and one that comes from a label out of range, which nobody could refuse."""
        logits, labels = make_small(size=(24, 32), small=(2, 5, 6, 8), ignored=0.0)
        labels[labels == 255] = 0
        logits[0, 3, 1, 2] = np.nan
        labels[1, 9, 30] = 77  # in the row 9 of 24, between the rows 1 and 2 of 6
        expected = np.zeros(logits.shape, bool)
        expected[0, :, 0:3, 1:4] = True
        expected[1, :, 1:3, 7] = True
        grad = jax.jit(lambda x, y: jax.grad(loss_of(y, thresh=None, min_kept=1.0))(x))
        np.testing.assert_array_equal(np.isnan(grad(jnp.asarray(logits), jnp.asarray(labels))), expected)


def loop_lengths(jaxpr):
    """List the lengths of the loops of a program and of the programs inside."""
    for equation in jaxpr.eqns:
        yield equation.params["length"] if equation.primitive.name == "scan" else 0
        for value in equation.params.values():
            for inner in value if isinstance(value, (list, tuple)) else [value]:
                inner = getattr(inner, "jaxpr", inner)
                if hasattr(inner, "eqns"):
                    yield from loop_lengths(inner)


@pytest.mark.usefixtures("double", "many_blocks")
class TestDifferentiation:
    def test_forward(self):
        logits, labels = make_small("3% hard")
        direction = np.random.default_rng(0).normal(size=logits.shape)
        along = jax.jit(lambda x, v: jax.jvp(loss_of(labels), (x,), (v,)))
        value, derivative = along(jnp.asarray(logits), jnp.asarray(direction))
        base = expected_of(logits, labels)
        np.testing.assert_allclose(value, base[0], **tolerance("float64", "value"))
        np.testing.assert_allclose(derivative, (base[1] * direction).sum(), rtol=1e-6)

    def test_second_order(self):
        logits, labels = make_small("3% hard", (2, 3, 2, 3), (6, 5))
        direction = np.random.default_rng(0).normal(size=logits.shape) / 10
        grad = jax.grad(loss_of(labels))
        along = jax.jit(jax.grad(lambda x, v: (grad(x) * v).sum()))
        enlarged, far = (interpolate(array, (6, 5)) for array in (logits, direction))
        expected = pull_back(curvature(enlarged, labels, far), (2, 3))
        np.testing.assert_allclose(along(jnp.asarray(logits), jnp.asarray(direction)), expected, **CURVATURE)

    def test_vmap(self):
        logits, labels = make_small()
        both = jax.value_and_grad(lambda x, y: loss_of(y, axis=0)(x))
        values, grads = jax.jit(jax.vmap(both))(jnp.asarray(logits), jnp.asarray(labels))
        for i in range(2):
            value, grad = expected_of(logits[i : i + 1], labels[i : i + 1])
            np.testing.assert_allclose(values[i], value, **tolerance("float64", "value"))
            np.testing.assert_allclose(grads[i : i + 1], grad, **CLOSE)

    def test_checkpoint_and_a_traced_threshold(self):
        """As a step that anneals has it: one program for all thresholds."""
        logits, labels = make_small()
        y = jnp.asarray(labels)
        loss = jax.checkpoint(lambda x, thresh: ohemloss.ohem_cross_entropy(x, y, thresh=thresh, resize="bilinear"))
        step = jax.jit(jax.value_and_grad(loss))
        for thresh in (0.3, 0.7):
            value, grad = step(jnp.asarray(logits), thresh)
            base = expected_of(logits, labels, thresh=thresh)
            np.testing.assert_allclose(value, base[0], **tolerance("float64", "value"))
            np.testing.assert_allclose(grad, base[1], **CLOSE)
        assert step._cache_size() == 1


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
        shapes = jax.ShapeDtypeStruct(small, "float32"), jax.ShapeDtypeStruct((small[0], *size), "int32")
        both = functools.partial(ohemloss.value_and_grad, resize="bilinear", **options)
        compiled = jax.jit(both).lower(*shapes).compile()
        assert compiled.memory_analysis().temp_size_in_bytes / (small[0] * np.prod(size)) < 50
        shapes = re.findall(r"f32\[([\d,]+)\]", compiled.as_text())
        assert max(np.prod([int(n) for n in shape.split(",")]) for shape in shapes) < small[0] * np.prod(size) * 1.5

    def test_exported(self):
        """Lowered for each platform and run here. Nothing is added to places, which a GPU does in no fixed order."""
        from jax import export

        logits, labels = make_small()
        shapes = jax.ShapeDtypeStruct(logits.shape, "float32"), jax.ShapeDtypeStruct(labels.shape, "int32")
        both = jax.jit(lambda x, y: jax.value_and_grad(loss_of(y))(x))
        exported = export.export(both, platforms=("cpu", "cuda", "tpu"))(*shapes)
        assert "scatter" not in exported.mlir_module()
        program = export.deserialize(exported.serialize())
        value, grad = program.call(jnp.asarray(logits, "float32"), labels.astype("int32"))
        base = expected_of(logits, labels)
        np.testing.assert_allclose(value, base[0], **tolerance("float32", "value"))
        np.testing.assert_allclose(grad, base[1], rtol=1e-5, atol=1e-6)

    def test_exported_for_any_size(self):
        """Then the resized logits are an array."""
        from jax import export

        n, h, w = export.symbolic_shape("n, h, w")
        shapes = jax.ShapeDtypeStruct((n, 5, 3, 4), "float32"), jax.ShapeDtypeStruct((n, h, w), "int32")
        exported = export.export(jax.jit(lambda x, y: ohemloss.ohem_cross_entropy(x, y, resize="bilinear")))(*shapes)
        logits, labels = make_small()
        value = exported.call(jnp.asarray(logits, "float32"), labels.astype("int32"))
        np.testing.assert_allclose(value, expected_of(logits, labels)[0], **tolerance("float32", "value"))


class TestSharded:
    """In a process with four host devices."""

    def test_over_the_batch(self):
        """One loss of the whole, with nothing of the size of the labels brought together; and one of each shard."""
        code = """
            import json, functools, jax, jax.numpy as jnp, numpy as np, ohemloss
            from jax.sharding import NamedSharding, PartitionSpec as P
            from ohemloss_jax import _resized
            from tests._cases import make_small
            _resized._ON_CPU = 200
            mesh = jax.make_mesh((4,), ("d",), axis_types=(jax.sharding.AxisType.Auto,))
            there = NamedSharding(mesh, P("d"))
            logits, labels = make_small("3% hard", (4, 3, 3, 4), (12, 15))
            x, y = jax.device_put(jnp.asarray(logits), there), jax.device_put(jnp.asarray(labels), there)
            loss = functools.partial(ohemloss.ohem_cross_entropy, resize="bilinear")
            both = jax.value_and_grad(loss)
            compiled = jax.jit(both).lower(x, y).compile()
            value, grad = compiled(x, y)
            wide = jax.ShapeDtypeStruct((8, 32, 32, 32), "float32", sharding=there)
            labels_of = jax.ShapeDtypeStruct((8, 256, 256), "int32", sharding=there)
            held = jax.jit(both).lower(wide, labels_of).compile().memory_analysis().temp_size_in_bytes
            mined = jax.shard_map(jax.grad(loss), mesh=mesh, in_specs=(P("d"), P("d")), out_specs=P("d"))
            print(json.dumps({
                "program": compiled.as_text(), "devices": len(grad.devices()), "value": float(value),
                "grad": grad.tolist(), "shards": jax.jit(mined)(x, y).tolist(),
                "held": held,
            }))
        """
        devices = {"XLA_FLAGS": "--xla_force_host_platform_device_count=4", "JAX_ENABLE_X64": "1"}
        answer = _processes.run(dedent(code), **devices)
        logits, labels = make_small("3% hard", (4, 3, 3, 4), (12, 15))
        value, grad = expected_of(logits, labels)
        np.testing.assert_allclose(answer["value"], value, **tolerance("float64", "value"))
        np.testing.assert_allclose(answer["grad"], grad, **CLOSE)
        assert answer["devices"] == 4
        assert answer["held"] < 2 * 256 * 256 * 50  # where the resized logits would be 128 bytes a pixel
        for collective in ("all-gather", "all-to-all", "collective-permute"):
            assert collective not in answer["program"]
        reduced = re.findall(r"= (.*) all-reduce\(", answer["program"])
        shapes = [shape.split(",") for shape in re.findall(r"\[([\d,]+)\]", " ".join(reduced))]
        assert reduced
        assert all(np.prod(np.asarray(shape, int)) < 12 * 15 for shape in shapes)
        shards = [expected_of(logits[i : i + 1], labels[i : i + 1])[1] for i in range(4)]
        np.testing.assert_allclose(answer["shards"], np.concatenate(shards), **CLOSE)
