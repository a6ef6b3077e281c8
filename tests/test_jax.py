"""JAX: every way to run, to differentiate and to spread the loss."""

import functools
from textwrap import dedent
from typing import Any

import numpy as np
import pytest

import ohemloss
from tests import _processes
from tests._cases import CURVATURE, REGIMES, make, tolerance
from tests._reference import curvature, gradient, reference

jax = pytest.importorskip("jax")
pytest.importorskip("ohemloss_jax")
jnp = jax.numpy

CLOSE = tolerance("float64", "value")
OPTIONS = [
    {},
    {"thresh": None, "min_kept": 0.3},
    {"weight": (0.5, 2.0, 0.0, 1.0, 3.0), "label_smoothing": 0.1, "min_kept": 0.6},
    {"reduction": "sum"},
]


def _device(platform):
    try:
        return jax.devices(platform)[0]
    except RuntimeError:
        return None


@pytest.fixture(params=["cpu", "cuda"])
def row(request):
    """The row of the page; the test runs on that device."""
    device = _device(request.param)
    if device is None:
        pytest.skip(f"jax: no {request.param} device")
    with jax.default_device(device):
        yield "JAX" if request.param == "cpu" else "JAX, CUDA"


@pytest.fixture(params=[True, False], ids=["x64", "x32"])
def x64(request):
    with jax.enable_x64(request.param):
        yield request.param


@pytest.fixture
def double():
    """Test in float64."""
    with jax.enable_x64(True):
        yield


def arrays(logits, labels):
    return jnp.asarray(logits), jnp.asarray(labels)


def close(double):
    return {"rtol": 1e-6, "atol": 1e-9} if double else {"rtol": 1e-5, "atol": 1e-6}


@pytest.mark.usefixtures("double")
class TestDifferentiation:
    @pytest.mark.parametrize("options", OPTIONS, ids=str)
    @pytest.mark.parametrize("regime", REGIMES)
    @pytest.mark.parametrize("jit", [False, True])
    def test_reverse(self, row, shows, regime, jit, options):
        logits, labels = make(regime)
        x, y = arrays(logits, labels)
        both = jax.value_and_grad(lambda x: ohemloss.ohem_cross_entropy(x, y, **options))
        value, grad = jax.jit(both)(x) if jit else both(x)
        np.testing.assert_allclose(value, reference(logits, labels, **options).value, rtol=1e-13)
        shows(row, "compiled" if jit else "autograd", grad, gradient(logits, labels, **options), rtol=1e-6, atol=1e-9)

    @pytest.mark.parametrize("regime", REGIMES)
    def test_forward(self, row, shows, regime):
        logits, labels = make(regime)
        x, y = arrays(logits, labels)
        direction = np.random.default_rng(0).normal(size=logits.shape)
        loss = lambda x: ohemloss.ohem_cross_entropy(x, y)
        value, derivative = jax.jvp(loss, (x,), (jnp.asarray(direction),))
        np.testing.assert_allclose(value, reference(logits, labels).value, **CLOSE)
        expected = gradient(logits, labels)
        shows(row, "forward mode", derivative, (expected * direction).sum(), rtol=1e-6)
        np.testing.assert_allclose(jax.jacfwd(loss)(x), expected, rtol=1e-6, atol=1e-9)

    @pytest.mark.parametrize("options", OPTIONS, ids=str)
    @pytest.mark.parametrize("order", ["forward over reverse", "reverse over reverse", "reverse over forward"])
    def test_second_order(self, row, shows, order, options):
        logits, labels = make("3% hard", shape=(2, 3, 4))
        x, y = arrays(logits, labels)
        direction = np.random.default_rng(0).normal(size=logits.shape) / 10
        v = jnp.asarray(direction)
        loss = functools.partial(ohemloss.ohem_cross_entropy, **options)
        along = {
            "forward over reverse": lambda x: jax.jvp(jax.grad(lambda x: loss(x, y)), (x,), (v,))[1],
            "reverse over reverse": jax.grad(lambda x: (jax.grad(lambda x: loss(x, y))(x) * v).sum()),
            "reverse over forward": jax.grad(lambda x: jax.jvp(lambda x: loss(x, y), (x,), (v,))[1]),
        }[order]
        shows(row, "second order", along(x), curvature(logits, labels, direction, **options), **CURVATURE)

    def test_hessian(self, row):
        logits, labels = make("3% hard", shape=(1, 2, 3), ignored=0)
        x, y = arrays(logits, labels)
        hessian = jax.hessian(lambda x: ohemloss.ohem_cross_entropy(x, y, min_kept=3))(x)
        direction = np.random.default_rng(0).normal(size=logits.shape) / 10
        actual = np.tensordot(hessian, direction, axes=logits.ndim)
        np.testing.assert_allclose(actual, curvature(logits, labels, direction, min_kept=3), **CURVATURE)

    def test_check_grads(self):
        from jax.test_util import check_grads

        x, y = arrays(*make("3% hard", shape=(1, 2, 3)))
        check_grads(lambda x: ohemloss.ohem_cross_entropy(jnp.asarray(x), y), (x,), order=2, modes=("fwd", "rev"))

    @pytest.mark.parametrize("regime", REGIMES)
    def test_vmap(self, row, shows, regime):
        logits, labels = make(regime, shape=(3, 6, 7))
        x, y = arrays(logits, labels)
        values, grads = jax.vmap(jax.value_and_grad(lambda x, y: ohemloss.ohem_cross_entropy(x, y, axis=0)))(x, y)
        images = [(logits[i : i + 1], labels[i : i + 1]) for i in range(3)]
        np.testing.assert_allclose(values, [reference(*image).value for image in images], **CLOSE)
        expected = np.concatenate([gradient(*image) for image in images])
        shows(row, "vmap", grads, expected, rtol=1e-6, atol=1e-9)

    def test_checkpoint(self, row):
        logits, labels = make("3% hard")
        x, y = arrays(logits, labels)
        grad = jax.jit(jax.grad(jax.checkpoint(lambda x: ohemloss.ohem_cross_entropy(x, y))))(x)
        np.testing.assert_allclose(grad, gradient(logits, labels), rtol=1e-6, atol=1e-9)

    def test_scan(self, row):
        """Gradient accumulation: the loss of each part of the batch, in a loop."""
        logits, labels = make("3% hard", shape=(3, 6, 7))
        x, y = arrays(logits, labels)

        def total(x):
            step = lambda total, part: (total + ohemloss.ohem_cross_entropy(*part, axis=0), None)
            return jax.lax.scan(step, 0.0, (x, y))[0]

        value, grad = jax.value_and_grad(total)(x)
        parts = [(logits[i : i + 1], labels[i : i + 1]) for i in range(3)]
        np.testing.assert_allclose(value, sum(reference(*part).value for part in parts), rtol=1e-12)
        np.testing.assert_allclose(grad, np.concatenate([gradient(*part) for part in parts]), rtol=1e-6, atol=1e-9)

    def test_weights_are_differentiated_where_they_are_not_zero(self):
        """d value / d u_i is the weighted loss of the pixel over the number selected."""
        logits, labels = make("40% hard")
        x, y = arrays(logits, labels)
        grad = jax.grad(lambda u: ohemloss.ohem_cross_entropy(x, y, pixel_weight=u))(jnp.ones(labels.shape))
        base = reference(logits, labels)
        np.testing.assert_allclose(grad, base.pixel_loss * base.weights / base.count, rtol=1e-12)


class TestTracedOptions:
    """Annealing: `thresh` and `min_kept` as arguments of the program."""

    STEPS = ((0.7, 5), (0.5, 30), (0.9, 60), (0.0, 3), (1.0, 0))

    def test_one_program_for_all_values(self, x64):
        logits, labels = make("40% hard")
        x, y = arrays(logits, labels)
        step = jax.jit(
            jax.value_and_grad(lambda x, thresh, kept: ohemloss.ohem_cross_entropy(x, y, thresh=thresh, min_kept=kept))
        )
        for thresh, min_kept in self.STEPS:
            value, grad = step(x, thresh, min_kept)
            options = {"thresh": thresh, "min_kept": min_kept}
            np.testing.assert_allclose(value, reference(logits, labels, **options).value, rtol=1e-12 if x64 else 2e-6)
            np.testing.assert_allclose(grad, gradient(logits, labels, **options), **close(x64))
        assert step._cache_size() == 1

    def test_eager_calls_share_a_program(self):
        from ohemloss_jax import _op

        x, y = arrays(*make("40% hard"))
        programs: Any = _op._compiled
        before = programs._cache_size()
        for thresh, min_kept in self.STEPS:
            ohemloss.ohem_cross_entropy(x, y, thresh=jnp.asarray(thresh), min_kept=jnp.asarray(min_kept))
        assert programs._cache_size() == before + 1

    def test_vmap_over_thresholds(self, double):
        logits, labels = make("40% hard")
        x, y = arrays(logits, labels)
        thresholds = np.asarray([0.3, 0.6, 0.9])
        values = jax.vmap(lambda t: ohemloss.ohem_cross_entropy(x, y, thresh=t))(jnp.asarray(thresholds))
        np.testing.assert_allclose(values, [reference(logits, labels, thresh=t).value for t in thresholds], **CLOSE)

    @pytest.mark.parametrize(
        "options", [{"thresh": 1.5}, {"thresh": -0.1}, {"min_kept": -1}, {"min_kept": 1.5}], ids=str
    )
    def test_out_of_range_is_nan(self, options):
        x, y = arrays(*make("40% hard"))
        both = jax.jit(lambda options: jax.value_and_grad(lambda x: ohemloss.ohem_cross_entropy(x, y, **options))(x))
        value, grad = both(options)
        assert np.isnan(value)
        counts = np.asarray(y) != 255
        assert np.isnan(np.moveaxis(grad, 1, -1)[counts]).all()
        assert np.all(np.moveaxis(grad, 1, -1)[~counts] == 0)


class TestCompiled:
    @pytest.mark.parametrize("order", [(1, 1.0), (1.0, 1)])
    def test_a_count_and_a_fraction_are_compiled_apart(self, order):
        logits, labels = make(ignored=0, seed=order[0] == 1 and isinstance(order[0], int))
        x, y = jnp.asarray(logits, "float32"), jnp.asarray(labels, "int32")
        mine = jax.jit(lambda criterion, x, y: criterion(x, y), static_argnums=0)
        for min_kept in order:
            expected = reference(logits, labels, thresh=None, min_kept=min_kept).value
            options = {"thresh": None, "min_kept": min_kept}
            for actual in (
                ohemloss.ohem_cross_entropy(x, y, **options),
                ohemloss.value_and_grad(x, y, **options)[0],
                mine(ohemloss.OhemCELoss(**options), x, y),
            ):
                np.testing.assert_allclose(actual, expected, rtol=1e-5)

    def test_labels_closed_over_by_jit_are_checked(self):
        """They are concrete, so the host can look, though every operation on them is traced."""
        x, y = jnp.zeros((2, 3)), jnp.asarray([0, 7])
        with pytest.raises(ValueError, match="of value 7"):
            jax.jit(lambda x: ohemloss.ohem_cross_entropy(x, y))(x)

    def test_trace_passes_through_jit(self):
        logits, labels = make("3% hard")
        x, y = jnp.asarray(logits, "float32"), jnp.asarray(labels, "int32")
        trace = jax.jit(lambda x, y: ohemloss.explain(x, y))(x, y)
        expected = reference(logits, labels)
        assert isinstance(trace, ohemloss.Trace)
        assert isinstance(trace.cut, ohemloss.Cut)
        np.testing.assert_allclose(trace.pixel_loss, expected.pixel_loss, rtol=1e-5, atol=1e-6)
        assert int(trace.cut.count) == expected.count

    @pytest.mark.parametrize(
        "function", [ohemloss.ohem_cross_entropy, ohemloss.value_and_grad, jax.grad], ids=lambda f: f.__name__
    )
    def test_search_runs_only_if_needed_and_never_sorts(self, function):
        """The program searches in a branch on the device, and holds no sort or top_k."""
        x, y = arrays(*make("40% hard"))
        call = jax.grad(lambda x, y: ohemloss.ohem_cross_entropy(x, y)) if function is jax.grad else function
        program = jax.make_jaxpr(call)(x, y).jaxpr
        names = [equation.primitive.name for equation in _equations(program)]
        assert {"while", "scan"} & set(names)
        outside = [equation.primitive.name for equation in _equations(program, into_branches=False)]
        assert not {"while", "scan"} & set(outside)
        assert not {"sort", "top_k", "approx_top_k"} & set(names)

    @pytest.mark.skipif(jax.default_backend() != "cpu", reason="of the formulation for a CPU")
    @pytest.mark.parametrize("n_classes", [2, 19, 40])
    @pytest.mark.parametrize("axis", [1, -1])
    def test_holds_nothing_of_the_size_of_the_logits(self, n_classes, axis):
        """What the compiler keeps between the loops is some numbers a pixel, with the gradient too."""
        pixels = (2, 64, 64)
        x = jax.ShapeDtypeStruct((2, n_classes, 64, 64) if axis == 1 else (*pixels, n_classes), "float32")
        y = jax.ShapeDtypeStruct(pixels, "int32")
        for function in (ohemloss.ohem_cross_entropy, jax.grad(ohemloss.ohem_cross_entropy), ohemloss.value_and_grad):
            compiled = jax.jit(functools.partial(function, axis=axis)).lower(x, y).compile()
            temporary = compiled.memory_analysis().temp_size_in_bytes / (2 * 64 * 64 * 4)
            assert temporary < 10, function

    @pytest.mark.parametrize("platform", ["cpu", "cuda", "default"])
    @pytest.mark.parametrize(("n_classes", "axis"), [(1, 1), (5, 1), (5, -1), (70, 0)])
    def test_step_over_the_classes_here_and_elsewhere(self, platform, n_classes, axis, monkeypatch, double):
        """Each platform has a way of its own: value, gradient, and the product of the Hessian with a vector."""
        from ohemloss_jax import _classes

        monkeypatch.setattr(jax.lax, "platform_dependent", lambda *x, **ways: ways[platform](*x))
        rng = np.random.default_rng(0)
        x, direction = rng.normal(size=(2, n_classes, 3, 5)) * 5
        index, counts = rng.integers(0, n_classes, (3, 5)), rng.random((3, 5)) < 0.8
        one_hot = (np.arange(n_classes)[:, None, None] == index) * counts
        softmax = np.exp(x) / np.exp(x).sum(0) * counts
        last = lambda array: jnp.asarray(np.moveaxis(array, 0, axis))
        axis = axis % 3

        def total(x):
            return _classes._nll(axis, x, jnp.asarray(counts), jnp.asarray(index)).sum()

        nll = np.log(np.exp(x).sum(0)) - np.take_along_axis(x, index[None], 0)[0]
        expected = np.where(counts, nll, np.log(n_classes)).sum()
        np.testing.assert_allclose(total(last(x)), expected, rtol=1e-12, atol=1e-12)
        np.testing.assert_allclose(jax.grad(total)(last(x)), last(softmax - one_hot), atol=1e-14)
        _, product = jax.jvp(jax.grad(total), (last(x),), (last(direction),))
        expected = softmax * (direction - (softmax * direction).sum(0))
        np.testing.assert_allclose(product, last(expected), atol=1e-13)

    @pytest.mark.parametrize("platform", ["cuda", "default"])
    @pytest.mark.parametrize("axes", [None, (1, 2)])
    def test_search_here_and_elsewhere(self, platform, axes, monkeypatch, x64):
        """Every rank of scores that are tied, negative, tiny, infinite, or NaN, which ranks first."""
        from ohemloss_jax import _steps

        monkeypatch.setattr(jax.lax, "platform_dependent", lambda *x, **ways: ways[platform](*x))
        dtype = "float64" if x64 else "float32"
        scores = np.random.default_rng(0).normal(size=(2, 3, 5)).astype(dtype)
        scores[:, 0] = [0.25, 0.25, -0.25, 0.0, -0.0]
        scores[:, 1] = [np.inf, -np.inf, np.nan, np.finfo(dtype).tiny, np.finfo(dtype).max]
        ranked = np.sort(np.where(np.isnan(scores), np.inf, scores).reshape(2 if axes else 1, -1))[:, ::-1]
        for k in range(1, ranked.shape[1] + 1):
            ranks = jnp.full((2, 1, 1) if axes else (), k)
            found = _steps._search(jnp.asarray(scores), ranks, axes)
            assert found.shape == ranks.shape
            assert found.dtype == dtype
            np.testing.assert_array_equal(np.ravel(found), ranked[:, k - 1])

    @pytest.mark.parametrize("n_classes", [19, 40])
    def test_program_for_a_gpu(self, n_classes):
        """Up to 32 classes no reduction reads the logits. No loop, no sort, no look-up, no call to the host."""
        from jax import export

        logits = f"2x{n_classes}x16x24x"
        x = jax.ShapeDtypeStruct((2, n_classes, 16, 24), "float32")
        y = jax.ShapeDtypeStruct((2, 16, 24), "int32")
        for function in (ohemloss.ohem_cross_entropy, jax.value_and_grad(ohemloss.ohem_cross_entropy)):
            exported = export.export(jax.jit(lambda x, y, f=function: f(x, y)), platforms=["cuda"])(x, y)
            lines = exported.mlir_module().splitlines()
            for absent in ("while", "sort", "top_k", "gather", "custom_call"):
                assert not [line for line in lines if f".{absent}" in line], absent
            reductions = [line for line in lines if "stablehlo.reduce" in line]
            assert sum(logits in line for line in reductions) == (0 if n_classes <= 32 else 3)
            # The digits of the search, each in one pass; the `iota` is why the branch stays one.
            assert sum("2x16x24x16x" in line for line in reductions) == 8
            assert any("stablehlo.iota" in line and "tensor<16xui32>" in line for line in lines)


def _equations(jaxpr, *, into_branches=True):
    """List the equations of a program and of the programs inside."""
    for equation in jaxpr.eqns:
        yield equation
        if equation.primitive.name == "cond" and not into_branches:
            continue
        for value in equation.params.values():
            for inner in value if isinstance(value, (list, tuple)) else [value]:
                inner = getattr(inner, "jaxpr", inner)
                if hasattr(inner, "eqns"):
                    yield from _equations(inner, into_branches=into_branches)


class TestExport:
    PLATFORMS = ("cpu", "cuda", "tpu")

    @pytest.mark.parametrize("dynamic", [False, True])
    def test_value_and_gradient(self, shows, dynamic, x64):
        """Lowered for each platform, written, read, run here; with sizes known, or left open."""
        from jax import export

        dtype = "float64" if x64 else "float32"
        n, h, w = export.symbolic_shape("n, h, w") if dynamic else (2, 6, 7)
        shapes = jax.ShapeDtypeStruct((n, 5, h, w), dtype), jax.ShapeDtypeStruct((n, h, w), "int32")
        for name, function in (
            ("closed form", ohemloss.value_and_grad),
            ("autograd", jax.value_and_grad(ohemloss.ohem_cross_entropy)),
        ):
            exported = export.export(jax.jit(lambda x, y, f=function: f(x, y)), platforms=self.PLATFORMS)(*shapes)
            assert exported.platforms == self.PLATFORMS, name
            loaded = export.deserialize(exported.serialize())
            for regime in REGIMES:
                logits, labels = make(regime, shape=(3, 5, 8) if dynamic else (2, 6, 7), dtype=dtype)
                value, grad = loaded.call(jnp.asarray(logits, dtype), jnp.asarray(labels, "int32"))
                np.testing.assert_allclose(value, reference(logits, labels).value, **tolerance(dtype, "value"))
                shows("JAX", "export", grad, gradient(logits, labels), **close(x64))


class TestTraining:
    """A step as users write it: parameters, an optimiser, one compiled function."""

    def test_optax_and_equinox(self, x64):
        optax, eqx = pytest.importorskip("optax"), pytest.importorskip("equinox")
        logits, labels = make("40% hard", shape=(2, 4, 5))
        x, y = jnp.asarray(logits), jnp.asarray(labels)
        head = eqx.nn.Conv2d(5, 5, 1, use_bias=True, key=jax.random.key(0))
        eye = jnp.eye(5)[:, :, None, None]
        head = eqx.tree_at(lambda m: (m.weight, m.bias), head, (eye, jnp.zeros((5, 1, 1))))
        optimiser = optax.sgd(0.5)
        state = optimiser.init(eqx.filter(head, eqx.is_array))
        criterion = ohemloss.OhemCELoss(min_kept=0.5)

        @eqx.filter_jit
        def step(head, state):
            loss, grads = eqx.filter_value_and_grad(lambda head: criterion(jax.vmap(head)(x), y))(head)
            updates, state = optimiser.update(grads, state)
            return eqx.apply_updates(head, updates), state, loss

        stepped, state, loss = step(head, state)
        np.testing.assert_allclose(loss, reference(x, y, min_kept=0.5).value, rtol=1e-12 if x64 else 2e-6)
        expected = gradient(x, y, min_kept=0.5).sum(axis=(0, 2, 3))
        np.testing.assert_allclose(-stepped.bias[:, 0, 0] / 0.5, expected, **close(x64))
        _, _, second = step(stepped, state)
        assert second < loss

    def test_a_dict_of_parameters(self, x64):
        """As flax and many others have it."""
        optax = pytest.importorskip("optax")
        logits, labels = make("3% hard", shape=(2, 4, 5))
        x, y = jnp.asarray(logits), jnp.asarray(labels)
        params = {"head": {"kernel": jnp.eye(5), "bias": jnp.zeros(5)}}
        optimiser = optax.adam(0.1)

        @jax.jit
        def step(params, state):
            def loss(params):
                out = jnp.einsum("nchw,cd->nhwd", x, params["head"]["kernel"]) + params["head"]["bias"]
                return ohemloss.ohem_cross_entropy(out, y, axis=-1)

            value, grads = jax.value_and_grad(loss)(params)
            updates, state = optimiser.update(grads, state)
            return optax.apply_updates(params, updates), state, value, grads

        _, _, value, grads = step(params, optimiser.init(params))
        np.testing.assert_allclose(value, reference(x, y).value, rtol=1e-12 if x64 else 2e-6)
        np.testing.assert_allclose(grads["head"]["bias"], gradient(x, y).sum(axis=(0, 2, 3)), **close(x64))


FOUR_DEVICES = {"XLA_FLAGS": "--xla_force_host_platform_device_count=4", "JAX_ENABLE_X64": "1"}
SETUP = """
import json, jax, jax.numpy as jnp, numpy as np, ohemloss
from jax.sharding import NamedSharding, PartitionSpec as P
from tests._cases import make
mesh = jax.make_mesh((4,), ("d",), axis_types=(jax.sharding.AxisType.Auto,))
logits, labels = make("3% hard", shape=(4, 8, 7), n_classes=8)
x, y = jnp.asarray(logits), jnp.asarray(labels)
both = jax.value_and_grad(ohemloss.ohem_cross_entropy)
"""


class TestSharded:
    """In a process with four host devices."""

    def test_one_loss_of_a_sharded_batch(self, shows):
        """Over arrays spread over the batch, the height, or the classes; the gradient stays where the logits are."""
        code = """
            answer = {}
            for name, (in_x, in_y) in {
                "batch": (P("d"), P("d")), "height": (P(None, None, "d"), P(None, "d")), "classes": (P(None, "d"), P())
            }.items():
                there = NamedSharding(mesh, in_x)
                a, b = jax.device_put(x, there), jax.device_put(y, NamedSharding(mesh, in_y))
                for way, f in {"jit": jax.jit(both), "eager": both, "closed": jax.jit(ohemloss.value_and_grad)}.items():
                    value, grad = f(a, b)
                    assert len(grad.devices()) == 4
                    answer[f"{name}, {way}"] = [float(value), grad.tolist()]
            print(json.dumps(answer))
        """
        answer = _processes.run(SETUP + dedent(code), **FOUR_DEVICES)
        logits, labels = make("3% hard", shape=(4, 8, 7), n_classes=8)
        assert len(answer) == 9
        for value, grad in answer.values():
            np.testing.assert_allclose(value, reference(logits, labels).value, rtol=1e-12)
            shows("JAX", "sharded", grad, gradient(logits, labels), rtol=1e-6, atol=1e-9)

    def test_shard_map(self):
        """Each device mines its own shard: values and gradients are those of the shards, and so is their mean."""
        code = """
            import functools
            shard = functools.partial(jax.shard_map, mesh=mesh, in_specs=(P("d"), P("d")))
            loss = shard(lambda x, y: ohemloss.ohem_cross_entropy(x, y)[None], out_specs=P("d"))
            grad = shard(jax.grad(lambda x, y: ohemloss.ohem_cross_entropy(x, y)), out_specs=P("d"))
            closed = shard(lambda x, y: ohemloss.value_and_grad(x, y)[1], out_specs=P("d"))
            mean = jax.grad(shard(lambda x, y: jax.lax.pmean(ohemloss.ohem_cross_entropy(x, y), "d"), out_specs=P()))
            calls = [loss, jax.jit(loss), grad, closed, jax.jit(mean)]
            print(json.dumps([call(x, y).tolist() for call in calls]))
        """
        eager, jitted, grad, closed, mean = _processes.run(SETUP + dedent(code), **FOUR_DEVICES)
        logits, labels = make("3% hard", shape=(4, 8, 7), n_classes=8)
        parts = [(logits[i : i + 1], labels[i : i + 1]) for i in range(4)]
        for values in (eager, jitted):
            np.testing.assert_allclose(values, [reference(*part).value for part in parts], rtol=1e-12)
        expected = np.concatenate([gradient(*part) for part in parts])
        for actual in (grad, closed, np.asarray(mean) * 4):
            np.testing.assert_allclose(actual, expected, rtol=1e-6, atol=1e-9)

    def test_devices_that_do_not_meet(self):
        """Committed arrays that do not meet are refused by name; those that are not committed follow."""
        code = """
            a, b = jax.devices()[:2]
            x, zeros = jax.device_put(jnp.zeros((2, 3)), b), jnp.zeros(2, dtype="int32")
            try:
                ohemloss.ohem_cross_entropy(x, jax.device_put(zeros, a))
            except ValueError as error:
                message = str(error)
            assert ohemloss.ohem_cross_entropy(x, zeros).devices() == {b}
            assert ohemloss.explain(x, zeros).pixel_loss.devices() == {b}
            print(json.dumps(message))
        """
        assert _processes.run(SETUP + dedent(code), **FOUR_DEVICES) == (
            "`labels` must be on the device of `logits`: got logits on cpu:1 and labels on cpu:0. Move one of them."
        )


def test_supports_every_option():
    """The compiled loss takes any option; one that is new must be looked at, and then listed."""
    from ohemloss._options import MAY_BE_ARRAYS
    from ohemloss_jax import backend
    from tests.test_criterion import OPTIONS as names

    assert backend.supports == {
        *names,
        "rule",
        "resize",
        "align_corners",
        "axis_name",
        "pixel_weight",
        "positives",
        *(f"{name} as an array" for name in MAY_BE_ARRAYS),
    }
