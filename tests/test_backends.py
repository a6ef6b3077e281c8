"""What each backend adds for its own library."""

import copy
import io
import math
import os
import pickle
import subprocess
import sys

import numpy as np
import pytest

import ohemloss
from tests._cases import REGIMES, make
from tests._reference import gradient, reference


class TestNumpy:
    def test_search_is_skipped_when_enough_are_hard(self, monkeypatch):
        logits, labels = make("40% hard")
        monkeypatch.setattr(np, "partition", lambda *_, **__: pytest.fail("searched in vain"))
        ohemloss.ohem_cross_entropy(logits, labels)

    def test_sum_in_float64(self):
        """The float32 value is the rounded float64 sum of the losses, to the last bit."""
        rng = np.random.default_rng(0)
        logits, labels = rng.normal(size=(4, 3, 100, 100)).astype(np.float32), rng.integers(3, size=(4, 100, 100))
        trace = ohemloss.explain(logits, labels)
        mined = trace.pixel_loss[trace.selected].astype(np.float64).sum()
        assert trace.value == np.float32(mined) / np.float32(trace.cut.count)

    def test_masked_array_is_refused(self):
        logits, labels = make()
        message = r"^`{}` must be a plain array: got a MaskedArray\. Pass `\.filled\(ignore_index\)` of labels, or "
        with pytest.raises(TypeError, match=message.format("labels")):
            ohemloss.ohem_cross_entropy(logits, np.ma.masked_array(labels))
        with pytest.raises(TypeError, match=message.format("losses")):
            ohemloss.hard_mean(np.ma.masked_array([1.0, 2.0], mask=[True, False]))

    def test_masked_pixels_cost_no_warning(self):
        logits, labels = make()
        labels[0] = 255
        logits[0] = np.nan
        assert math.isfinite(ohemloss.ohem_cross_entropy(logits, labels))


class TestTorch:
    @pytest.fixture
    def torch(self):
        return pytest.importorskip("torch")

    @pytest.mark.parametrize("regime", REGIMES)
    def test_autograd_is_the_closed_form(self, torch, regime):
        logits, labels = make(regime)
        x, y = torch.tensor(logits, requires_grad=True), torch.tensor(labels)
        value = ohemloss.ohem_cross_entropy(x, y, weight=(1.0, 2.0, 0.0, 1.0, 3.0), label_smoothing=0.1)
        value.backward()
        _, closed = ohemloss.value_and_grad(x.detach(), y, weight=(1.0, 2.0, 0.0, 1.0, 3.0), label_smoothing=0.1)
        torch.testing.assert_close(x.grad, closed, rtol=1e-12, atol=1e-15)

    def test_nothing_selected_is_attached(self, torch):
        x = torch.zeros(2, 3, requires_grad=True)
        ohemloss.ohem_cross_entropy(x, torch.full((2,), 255)).backward()
        assert torch.equal(x.grad, torch.zeros(2, 3))

    def test_nan_in_an_ignored_pixel_has_no_gradient(self, torch):
        x = torch.tensor([[math.nan, math.nan], [0.0, 1.0]], requires_grad=True)
        ohemloss.ohem_cross_entropy(x, torch.tensor([255, 0])).backward()
        assert torch.isfinite(x.grad).all()
        assert (x.grad[0] == 0).all()

    def test_tensors_that_nobody_may_look_into(self, torch):
        """A meta tensor has no values: the loss has a shape and asks for none."""
        x = torch.zeros(2, 3, 4, device="meta")
        loss = ohemloss.ohem_cross_entropy(x, torch.zeros(2, 4, dtype=torch.int64, device="meta"))
        assert loss.device.type == "meta"
        assert loss.shape == ()

    def test_fake_tensors(self, torch):
        from torch._subclasses.fake_tensor import FakeTensorMode

        with FakeTensorMode():
            x, y = torch.zeros(2, 3, 4), torch.zeros(2, 4, dtype=torch.int64)
            assert ohemloss.ohem_cross_entropy(x, y).shape == ()

    def test_search_sees_no_gradient_and_is_skipped_when_enough_are_hard(self, torch, monkeypatch):
        import ohemloss_torch._library as library

        seen = []
        search = library._kth.kth_largest
        monkeypatch.setattr(library._kth, "kth_largest", lambda *args: seen.append(args[1]) or search(*args))
        for regime, searches in (("40% hard", 0), ("3% hard", 1)):
            x, y = map(torch.tensor, make(regime))
            ohemloss.ohem_cross_entropy(x.requires_grad_(), y)
            assert len(seen) == searches
        assert not seen[0].requires_grad

    def test_vmap(self, torch):
        logits, labels = make("3% hard", shape=(3, 6, 7))
        per_image = torch.func.vmap(lambda x, y: ohemloss.ohem_cross_entropy(x, y, axis=0))
        actual = per_image(torch.tensor(logits), torch.tensor(labels))
        expected = [reference(logits[i : i + 1], labels[i : i + 1]).value for i in range(3)]
        np.testing.assert_allclose(actual.numpy(), expected, rtol=1e-12)

    def test_module(self, torch):
        from ohemloss_torch import OhemCELoss

        logits, labels = make("40% hard")
        x, y = torch.tensor(logits), torch.tensor(labels)
        u = torch.full(labels.shape, 0.5)
        module = OhemCELoss(thresh=0.6, min_kept=9, weight=[1, 2, 3, 4, 5], label_smoothing=0.1)
        expected = ohemloss.OhemCELoss(thresh=0.6, min_kept=9, weight=(1.0, 2, 3, 4, 5), label_smoothing=0.1)
        torch.testing.assert_close(module(x, y, pixel_weight=u), expected(x, y, pixel_weight=u))
        assert repr(module) == "OhemCELoss(thresh=0.6, min_kept=9, label_smoothing=0.1)"
        assert list(module.state_dict()) == ["weight"]
        assert module.to(torch.float64).weight.dtype == torch.float64
        for clone in (copy.deepcopy(module), pickle.loads(pickle.dumps(module)), _saved(torch, module)):
            torch.testing.assert_close(clone(x, y), module(x, y))

    def test_module_refuses_what_the_function_refuses(self, torch):
        from ohemloss_torch import OhemCELoss

        with pytest.raises(TypeError, match="`weight` must be an array, or a sequence of numbers: got 'abc'"):
            OhemCELoss(weight="abc")

        with pytest.raises(ValueError, match="`thresh` must lie in"):
            OhemCELoss(thresh=2.0)

    def test_module_has_the_options_of_the_criterion(self, torch):
        import inspect

        from ohemloss_torch import OhemCELoss

        def options(cls):
            parameters = inspect.signature(cls).parameters.values()
            return [(p.name, p.default, p.kind) for p in parameters]

        assert options(OhemCELoss) == options(ohemloss.OhemCELoss)

    def test_compile_without_a_graph_break(self, torch):
        """In a fresh process, as the very first call, since what has been looked up before is easy to trace."""
        code = """
            import torch, numpy as np, ohemloss_torch, ohemloss
            from tests._cases import make
            for regime in ("40% hard", "3% hard"):
                logits, labels = map(torch.tensor, make(regime))
                compiled = torch.compile(ohemloss.ohem_cross_entropy, fullgraph=True, backend="eager")
                actual = compiled(logits, labels)
                torch.testing.assert_close(actual, ohemloss.ohem_cross_entropy(logits, labels), rtol=1e-12, atol=0)
        """
        _run(code)


class TestJax:
    @pytest.fixture
    def jax(self):
        return pytest.importorskip("jax")

    @pytest.mark.parametrize("regime", REGIMES)
    @pytest.mark.parametrize("jit", [False, True])
    def test_autodiff_is_the_closed_form(self, jax, regime, jit):
        logits, labels = make(regime)
        with jax.enable_x64(True):
            x, y = jax.numpy.asarray(logits), jax.numpy.asarray(labels)
            grad = jax.value_and_grad(lambda x: ohemloss.ohem_cross_entropy(x, y, label_smoothing=0.1))
            value, actual = jax.jit(grad)(x) if jit else grad(x)
            np.testing.assert_allclose(value, reference(logits, labels, label_smoothing=0.1).value, rtol=1e-13)
            np.testing.assert_allclose(actual, gradient(logits, labels, label_smoothing=0.1), rtol=1e-6, atol=1e-10)

    @pytest.mark.parametrize("order", [(1, 1.0), (1.0, 1)])
    def test_a_count_and_a_fraction_are_compiled_apart(self, jax, order):
        logits, labels = make(ignored=0, seed=order[0] == 1 and isinstance(order[0], int))
        x, y = jax.numpy.asarray(logits, "float32"), jax.numpy.asarray(labels, "int32")
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

    def test_vmap_and_forward_mode(self, jax):
        logits, labels = make("3% hard", shape=(3, 6, 7))
        with jax.enable_x64(True):
            x, y = jax.numpy.asarray(logits), jax.numpy.asarray(labels)
            actual = jax.vmap(lambda x, y: ohemloss.ohem_cross_entropy(x, y, axis=0))(x, y)
            expected = [reference(logits[i : i + 1], labels[i : i + 1]).value for i in range(3)]
            np.testing.assert_allclose(actual, expected, rtol=1e-12)
            tangent = jax.numpy.ones_like(x).at[:, 0].set(2.0)
            _, derivative = jax.jvp(lambda x: ohemloss.ohem_cross_entropy(x, y), (x,), (tangent,))
            expected = (gradient(logits, labels) * np.asarray(tangent)).sum()
            np.testing.assert_allclose(derivative, expected, rtol=1e-6)

    def test_labels_closed_over_by_jit_are_checked(self, jax):
        """They are concrete, so the host can look, though every operation on them is traced."""
        x, y = jax.numpy.zeros((2, 3)), jax.numpy.asarray([0, 7])
        with pytest.raises(ValueError, match="of value 7"):
            jax.jit(lambda x: ohemloss.ohem_cross_entropy(x, y))(x)

    def test_trace_passes_through_jit(self, jax):
        logits, labels = make("3% hard")
        x, y = jax.numpy.asarray(logits, "float32"), jax.numpy.asarray(labels, "int32")
        trace = jax.jit(lambda x, y: ohemloss.explain(x, y))(x, y)
        expected = reference(logits, labels)
        assert isinstance(trace, ohemloss.Trace)
        assert isinstance(trace.cut, ohemloss.Cut)
        np.testing.assert_allclose(trace.pixel_loss, expected.pixel_loss, rtol=1e-5, atol=1e-6)
        assert int(trace.cut.count) == expected.count

    def test_devices(self, jax):
        """In a fresh process with two host devices: committed arrays that do not meet are refused by name."""
        code = """
            import jax, jax.numpy as jnp, ohemloss
            a, b = jax.devices()
            x = jax.device_put(jnp.zeros((2, 3)), b)
            y = jax.device_put(jnp.zeros(2, dtype="int32"), a)
            try:
                ohemloss.ohem_cross_entropy(x, y)
            except ValueError as error:
                assert str(error) == (
                    "`labels` must be on the device of `logits`: got logits on cpu:1 and labels on cpu:0. "
                    "Move one of them."
                ), error
            else:
                raise AssertionError("accepted")
            loss = ohemloss.ohem_cross_entropy(x, jnp.zeros(2, dtype="int32"))
            assert loss.devices() == {b}
            trace = ohemloss.explain(x, jnp.zeros(2, dtype="int32"))
            assert trace.pixel_loss.devices() == {b}
            mesh = jax.make_mesh((2,), ("batch",))
            shard = jax.NamedSharding(mesh, jax.sharding.PartitionSpec("batch"))
            many = jax.device_put(jnp.zeros((2, 3)), shard)
            assert abs(float(ohemloss.ohem_cross_entropy(many, jnp.zeros(2, dtype="int32"))) - 1.0986123) < 1e-6
        """
        _run(code, XLA_FLAGS="--xla_force_host_platform_device_count=2")

    def test_shard_map(self, jax):
        """Each device mines its own shard: the values and gradients are those of the shards."""
        code = """
            import functools, jax, jax.numpy as jnp, numpy as np, ohemloss
            from tests._cases import make
            from tests._reference import gradient, reference
            logits, labels = make("3% hard")
            mesh = jax.make_mesh((2,), ("batch",), axis_types=(jax.sharding.AxisType.Auto,))
            spec = jax.sharding.PartitionSpec("batch")
            shard = functools.partial(jax.shard_map, mesh=mesh, in_specs=(spec, spec), out_specs=spec)
            x, y = jnp.asarray(logits, "float32"), jnp.asarray(labels, "int32")
            loss = shard(lambda x, y: ohemloss.ohem_cross_entropy(x, y)[None])
            expected = [reference(logits[i:i + 1], labels[i:i + 1]).value for i in range(2)]
            np.testing.assert_allclose(loss(x, y), expected, rtol=1e-5)
            np.testing.assert_allclose(jax.jit(loss)(x, y), expected, rtol=1e-5)
            grad = shard(jax.grad(lambda x, y: ohemloss.ohem_cross_entropy(x, y)))
            closed = shard(lambda x, y: ohemloss.value_and_grad(x, y)[1])
            expected = np.concatenate([gradient(logits[i:i + 1], labels[i:i + 1]) for i in range(2)])
            for actual in (grad(x, y), closed(x, y)):
                np.testing.assert_allclose(actual, expected, rtol=1e-4, atol=1e-6)
        """
        _run(code, XLA_FLAGS="--xla_force_host_platform_device_count=2")


class TestCupy:
    def test_host_never_looks(self):
        """Reading a label would wait for the device."""
        from ohemloss_cupy import backend

        assert backend.host_view(np.zeros(1)) is None
        assert backend.namespace == "array_api_compat.cupy"


def _saved(torch, module):
    file = io.BytesIO()
    torch.save(module, file)
    file.seek(0)
    return torch.load(file, weights_only=False)


def _run(code, **environment):
    import textwrap

    done = subprocess.run(
        [sys.executable, "-W", "error::UserWarning", "-c", textwrap.dedent(code)],
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
        env=os.environ | environment,
    )
    assert done.returncode == 0, done.stderr
