"""Programs of the loss: which are shared, what they hold, and how they are exported."""

import functools
from typing import Any

import numpy as np
import pytest

import ohemloss
from tests._cases import REGIMES, make
from tests.conformance._check import assert_both, case_of

from ._helpers import equations, shapes

jax = pytest.importorskip("jax")
ohemloss_jax = pytest.importorskip("ohemloss_jax")
jnp, export = jax.numpy, pytest.importorskip("jax.export")

STEPS = ((0.7, 5), (0.5, 30), (0.0, 3), (1.0, 0))


def arrays(logits, labels, dtype="float32"):
    return jnp.asarray(logits, dtype), jnp.asarray(labels, "int32")


def of_this(dtype):
    """Compute with 64 bits where the dtype has them."""
    return jax.enable_x64(dtype == "float64")


class TestOptions:
    """Annealing: `thresh` and `min_kept` as arguments of the program."""

    def test_eager_calls_share_a_program(self):
        x, y = arrays(*make("40% hard", shape=(2, 3, 5)))
        programs: Any = ohemloss_jax._op._compiled
        before = programs._cache_size()
        for thresh, min_kept in STEPS:
            ohemloss.ohem_cross_entropy(x, y, thresh=jnp.asarray(thresh), min_kept=jnp.asarray(min_kept))
        assert programs._cache_size() == before + 1

    def test_out_of_range_is_nan(self):
        x, y = arrays(*make("40% hard"))
        loss = lambda x, options: ohemloss.ohem_cross_entropy(x, y, **options)
        both, counts = jax.jit(jax.value_and_grad(loss)), np.asarray(y) != 255
        for thresh, min_kept in ((1.5, 0.5), (-0.1, 0.5), (0.7, 1.5), (0.7, -1)):
            value, grad = both(x, {"thresh": thresh, "min_kept": min_kept})
            assert np.isnan(value)
            np.testing.assert_array_equal(np.isnan(grad), np.broadcast_to(counts[:, None], x.shape))
            assert np.all(np.moveaxis(grad, 1, -1)[~counts] == 0)
        assert both._cache_size() == 2  # one for a count, and one for a fraction

    @pytest.mark.parametrize(("order", "n"), [((1, 1.0), 20), ((1.0, 1), 21)])
    def test_a_count_and_a_fraction_are_compiled_apart(self, order, n):
        batch = make(shape=(n,), ignored=0, dtype="float32")
        x, y = arrays(*batch)
        mine = jax.jit(lambda criterion, x, y: criterion(x, y), static_argnums=0)
        for min_kept in order:
            case = case_of(batch, thresh=None, min_kept=min_kept)
            criterion = ohemloss.OhemCELoss(**case.options)
            for actual in (criterion(x, y), mine(criterion, x, y)):
                np.testing.assert_allclose(actual, case.expected.value, **case.value_tolerance("float32"))

    def test_supports_every_option(self):
        """The compiled loss takes any option; one that is new must be looked at, and then listed."""
        from ohemloss._options import MAY_BE_ARRAYS
        from tests.test_criterion import OPTIONS as names

        others = ("rule", "resize", "align_corners", "axis_name", "pixel_weight", "positives", "reduction")
        assert ohemloss_jax.backend.supports == {*names, *others, *(f"{name} as an array" for name in MAY_BE_ARRAYS)}


def test_labels_closed_over_by_jit_are_checked():
    """They are concrete, so the host can look, though every operation on them is traced."""
    x, y = jnp.zeros((2, 3)), jnp.asarray([0, 7])
    with pytest.raises(ValueError, match="of value 7"):
        jax.jit(lambda x: ohemloss.ohem_cross_entropy(x, y))(x)


def test_trace_passes_through_jit():
    batch = make("3% hard", dtype="float32")
    trace = jax.jit(lambda x, y: ohemloss.explain(x, y))(*arrays(*batch))
    expected = case_of(batch).expected.steps
    assert isinstance(trace, ohemloss.Trace)
    assert isinstance(trace.cut, ohemloss.Cut)
    np.testing.assert_allclose(trace.pixel_loss, expected.pixel_loss, rtol=1e-5, atol=1e-6)
    assert int(trace.cut.count) == expected.count


class TestSteps:
    """Each platform has a way of its own, which runs on all."""

    @pytest.mark.parametrize(
        ("platform", "n_classes", "axis"),
        [("cpu", 1, 1), *((platform, *at) for platform in ("cpu", "cuda", "default") for at in ((5, 2), (70, 0)))],
        indirect=["platform"],
    )
    @pytest.mark.usefixtures("platform", "double")
    def test_over_the_classes(self, n_classes, axis):
        """Value, gradient, and the product of the Hessian with a vector."""
        rng = np.random.default_rng(0)
        x, direction = rng.normal(size=(2, n_classes, 3, 5)) * 5
        index, counts = rng.integers(0, n_classes, (3, 5)), rng.random((3, 5)) < 0.8
        one_hot = (np.arange(n_classes)[:, None, None] == index) * counts
        softmax = np.exp(x) / np.exp(x).sum(0) * counts
        last = lambda array: jnp.asarray(np.moveaxis(array, 0, axis))

        def total(x):
            return ohemloss_jax._classes._nll(axis, x, jnp.asarray(counts), jnp.asarray(index)).sum()

        run = jax.jit(lambda x, v: (total(x), *jax.jvp(jax.grad(total), (x,), (v,))))
        value, grad, product = run(last(x), last(direction))
        nll = np.log(np.exp(x).sum(0)) - np.take_along_axis(x, index[None], 0)[0]
        np.testing.assert_allclose(value, np.where(counts, nll, np.log(n_classes)).sum(), rtol=1e-12, atol=1e-12)
        np.testing.assert_allclose(grad, last(softmax - one_hot), atol=1e-14)
        expected = softmax * (direction - (softmax * direction).sum(0))
        np.testing.assert_allclose(product, last(expected), atol=1e-13)

    @pytest.mark.parametrize(
        ("platform", "axes", "dtype"),
        [
            ("cuda", None, "float32"),
            ("cuda", (1, 2), "float64"),
            ("default", (1, 2), "float32"),
            ("default", None, "float64"),
        ],
        indirect=["platform"],
    )
    @pytest.mark.usefixtures("platform")
    def test_of_the_search(self, axes, dtype):
        """Every rank of scores that are tied, negative, tiny, infinite, or NaN, which ranks first."""
        scores = np.random.default_rng(0).normal(size=(2, 3, 5)).astype(dtype)
        scores[:, 0] = [0.25, 0.25, -0.25, 0.0, -0.0]
        scores[:, 1] = [np.inf, -np.inf, np.nan, np.finfo(dtype).tiny, np.finfo(dtype).max]
        ranked = np.sort(np.where(np.isnan(scores), np.inf, scores).reshape(2 if axes else 1, -1))[:, ::-1]
        with of_this(dtype):
            search = jax.jit(functools.partial(ohemloss_jax._steps._search, axes=axes))
            for k in range(1, ranked.shape[1] + 1):
                ranks = jnp.full((2, 1, 1) if axes else (), k)
                found = search(jnp.asarray(scores), ranks)
                assert (found.shape, found.dtype) == (ranks.shape, dtype)
                np.testing.assert_array_equal(np.ravel(found), ranked[:, k - 1])


class TestPrograms:
    @pytest.mark.parametrize(
        "function", [ohemloss.ohem_cross_entropy, ohemloss.value_and_grad, jax.grad], ids=lambda f: f.__name__
    )
    @pytest.mark.parametrize("platform", ["default"], indirect=True)  # else the choice of the platform is a branch, too
    @pytest.mark.usefixtures("platform")
    def test_search_runs_only_if_needed_and_never_sorts(self, function):
        """The program searches in a branch on the device, and holds no sort or top_k."""
        call = jax.grad(lambda x, y: ohemloss.ohem_cross_entropy(x, y)) if function is jax.grad else function
        program = jax.make_jaxpr(call)(*arrays(*make("40% hard"))).jaxpr
        names = [equation.primitive.name for equation in equations(program)]
        assert {"while", "scan"} & set(names)
        outside = [equation.primitive.name for equation in equations(program, into_branches=False)]
        assert not {"while", "scan"} & set(outside)
        assert not {"sort", "top_k", "approx_top_k"} & set(names)

    @pytest.mark.skipif(jax.default_backend() != "cpu", reason="of the formulation for a CPU")
    @pytest.mark.parametrize(("n_classes", "axis"), [(19, 1), (40, -1)])
    def test_hold_nothing_of_the_size_of_the_logits(self, n_classes, axis):
        """What the compiler keeps between the loops is some numbers a pixel, with the gradient too."""
        x, y = shapes((2, n_classes, 64, 64) if axis == 1 else (2, 64, 64, n_classes), (2, 64, 64))
        for function in (ohemloss.ohem_cross_entropy, jax.grad(ohemloss.ohem_cross_entropy), ohemloss.value_and_grad):
            compiled = jax.jit(functools.partial(function, axis=axis)).lower(x, y).compile()
            temporary = compiled.memory_analysis().temp_size_in_bytes / (2 * 64 * 64 * 4)
            assert temporary < 10, function

    @pytest.mark.parametrize("n_classes", [19, 40])
    def test_for_a_gpu(self, n_classes):
        """Up to 32 classes no reduction reads the logits. No loop, no sort, no look-up, no call to the host."""
        logits = f"2x{n_classes}x16x24x"
        x, y = shapes((2, n_classes, 16, 24), (2, 16, 24))
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

    @pytest.mark.parametrize(("is_dynamic", "dtype"), [(False, "float32"), (True, "float64")])
    def test_exported(self, shows, is_dynamic, dtype):
        """Lowered for each platform, written, read, run here; with sizes known, or left open."""
        platforms = ("cpu", "cuda", "tpu")
        autograd = jax.value_and_grad(ohemloss.ohem_cross_entropy)
        with of_this(dtype):
            n, h, w = export.symbolic_shape("n, h, w") if is_dynamic else (2, 6, 7)
            both = jax.jit(lambda x, y: (ohemloss.value_and_grad(x, y), autograd(x, y)))
            exported = export.export(both, platforms=platforms)(*shapes((n, 5, h, w), (n, h, w), dtype))
            assert exported.platforms == platforms
            loaded = export.deserialize(exported.serialize())
            for regime in REGIMES:
                batch = make(regime, shape=(3, 5, 8) if is_dynamic else (2, 6, 7), dtype=dtype)
                case = case_of(batch)
                for value, grad in loaded.call(*arrays(*batch, dtype)):
                    assert_both(case, value, grad, dtype)
                    shows("JAX", "export", grad, case.expected.gradient, **case.gradient_tolerance(dtype))


def test_optax_and_equinox():
    optax, eqx = pytest.importorskip("optax"), pytest.importorskip("equinox")
    batch = make("40% hard", shape=(2, 4, 5), dtype="float32")
    x, y = arrays(*batch)
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
    expected = case_of(batch, min_kept=0.5).expected
    np.testing.assert_allclose(loss, expected.value, rtol=2e-6)
    slopes = expected.gradient.sum(axis=(0, 2, 3))
    np.testing.assert_allclose(-stepped.bias[:, 0, 0] / 0.5, slopes, rtol=1e-5, atol=1e-6)
    _, _, second = step(stepped, state)
    assert second < loss
