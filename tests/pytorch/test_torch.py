"""PyTorch: what is kept for the backward, the module, and every way to run or to differentiate the loss."""

import copy
import functools
import io
import math
import pickle
import warnings
from dataclasses import replace

import numpy as np
import pytest

import ohemloss
import ohemloss._registry
from tests import _processes
from tests._cases import CURVATURE, gradient_tolerance, make, round_to, tolerance
from tests._reference import curvature, gradient, reference

# PyTorch's own, whenever it differentiates forward.
pytestmark = pytest.mark.filterwarnings("ignore:`torch.jit.script` is deprecated:DeprecationWarning")
torch = pytest.importorskip("torch")
ohemloss_torch = pytest.importorskip("ohemloss_torch")
from ohemloss_torch import OhemCELoss

CLOSE = tolerance("float64", "value")
# A rule that takes each path at once: some of the pixels that count tie or are kept though they are easy.
OPTIONS = [
    {},
    {"thresh": None, "min_kept": 0.3},
    {"weight": (0.5, 2.0, 0.0, 1.0, 3.0), "label_smoothing": 0.1, "min_kept": 0.6},
    {"reduction": "sum"},
]


@pytest.fixture(params=["cpu", "cuda"] if torch.cuda.is_available() else ["cpu"])
def device(request):
    return request.param


@pytest.fixture
def row(device):
    return "PyTorch" if device == "cpu" else "PyTorch, CUDA"


def tensors(logits, labels, device="cpu", dtype=torch.float64):
    return torch.tensor(logits, device=device, dtype=dtype), torch.tensor(labels, device=device)


def value_and_gradient(function, x):
    x = x.detach().requires_grad_()
    value = function(x)
    return value.detach().cpu(), torch.autograd.grad(value, x)[0].cpu()


def is_served_by_the_function(value):
    return value.grad_fn is not None and "_Loss" in value.grad_fn.name()


class TestBackward:
    """The node of plain eager autograd."""

    @pytest.mark.parametrize("options", OPTIONS, ids=str)
    def test_is_the_closed_form(self, device, options):
        logits, labels = make("3% hard")
        x, y = tensors(logits, labels, device)
        assert is_served_by_the_function(ohemloss.ohem_cross_entropy(x.clone().requires_grad_(), y, **options))
        value, grad = value_and_gradient(lambda x: ohemloss.ohem_cross_entropy(x, y, **options), x)
        closed_value, closed = ohemloss.value_and_grad(x, y, **options)
        torch.testing.assert_close(value, closed_value.cpu(), rtol=0, atol=0)
        torch.testing.assert_close(grad, closed.cpu(), rtol=1e-14, atol=0)

    @pytest.mark.parametrize("options", OPTIONS, ids=str)
    @pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
    def test_keeps_nothing_of_the_size_of_the_logits(self, device, dtype, options):
        logits, labels = make("3% hard", n_classes=5, shape=(2, 16, 16))
        x, y = tensors(logits, labels, device, dtype)
        u = torch.ones(labels.shape, device=device)
        x.requires_grad_()
        kept = []
        with torch.autograd.graph.saved_tensors_hooks(lambda t: kept.append(t) or t, lambda t: t):
            ohemloss.ohem_cross_entropy(x, y, pixel_weight=u, **options)
        own = [t for t in kept if t.data_ptr() not in {x.data_ptr(), y.data_ptr(), u.data_ptr()}]
        assert len(own) == len(kept) - 3
        sizes = sorted((t.untyped_storage().nbytes() for t in own), reverse=True)
        assert sizes[0] == 4 * labels.size  # one float a pixel
        assert sum(sizes[1:]) <= 4 + 4 + 8 + 4 + 4 * logits.shape[1]  # cut, divisor, and the class weights

    def test_each_pixel(self, device):
        logits, labels = make("3% hard")
        x, y = tensors(logits, labels, device)
        cotangent = torch.tensor(np.random.default_rng(0).normal(size=labels.shape), device=device)
        _, grad = value_and_gradient(
            lambda x: (ohemloss.ohem_cross_entropy(x, y, reduction="none") * cotangent).sum(), x
        )
        expected = gradient(logits, labels, reduction="sum") * cotangent.cpu().numpy()[:, None]
        np.testing.assert_allclose(grad, expected, rtol=1e-6, atol=1e-9)

    def test_an_infinite_cotangent_reaches_the_selected_alone(self):
        """As when a scaled half overflows: what is not selected stays 0."""
        logits, labels = make("40% hard")
        x, y = tensors(logits, labels)
        _, grad = value_and_gradient(lambda x: ohemloss.ohem_cross_entropy(x, y) * math.inf, x)
        selected = reference(logits, labels).weights > 0
        rows = np.moveaxis(grad.numpy(), 1, -1)
        assert np.all(rows[~selected] == 0)
        assert not np.any(np.isfinite(rows[selected]))

    def test_nothing_selected_is_attached(self, device):
        x = torch.zeros(2, 3, requires_grad=True, device=device)
        ohemloss.ohem_cross_entropy(x, torch.full((2,), 255, device=device)).backward()
        assert torch.equal(x.grad.cpu(), torch.zeros(2, 3))

    def test_without_a_gradient_nothing_is_kept(self):
        x, y = tensors(*make())
        assert ohemloss.ohem_cross_entropy(x, y).grad_fn is None
        with torch.no_grad():
            assert ohemloss.ohem_cross_entropy(x.requires_grad_(), y).grad_fn is None
        with torch.inference_mode():
            assert ohemloss.ohem_cross_entropy(x, y).is_inference()

    def test_logits_changed_in_place_are_an_error(self):
        x, y = tensors(*make())
        z = x.requires_grad_() * 1
        loss = ohemloss.ohem_cross_entropy(z, y)
        z += 1
        with pytest.raises(RuntimeError, match="modified by an inplace operation"):
            loss.backward()

    def test_tensors_of_inference_mode(self):
        """They cannot be kept for a backward, so the composite is differentiated."""
        logits, labels = make("40% hard")
        x, y = tensors(logits, labels)
        with torch.inference_mode():
            teacher = y.clone()
        _, grad = value_and_gradient(lambda x: ohemloss.ohem_cross_entropy(x, teacher), x)
        np.testing.assert_allclose(grad, gradient(logits, labels), rtol=1e-6, atol=1e-9)

    def test_a_threshold_filled_before_the_backward(self):
        """The selection was made; what the buffer says now is for the next step."""
        logits, labels = make("40% hard")
        x, y = tensors(logits, labels)
        thresh = torch.tensor(0.7, dtype=torch.float64)
        value = ohemloss.ohem_cross_entropy(x.requires_grad_(), y, thresh=thresh, min_kept=torch.tensor(3))
        thresh.fill_(math.nan)
        value.backward()
        np.testing.assert_allclose(x.grad, gradient(logits, labels, min_kept=3), rtol=1e-6, atol=1e-9)

    def test_a_threshold_out_of_range_that_nobody_could_see(self, monkeypatch):
        """As on a GPU: NaN in the value and in the gradient of each valid pixel, 0 in that of the others."""
        from ohemloss_torch import backend

        logits, labels = make("40% hard")
        x, y = tensors(logits, labels)
        library = ohemloss._registry.library_of(x)
        assert library is not None
        blind = replace(library, backend=replace(backend, host_view=lambda tensor: None))
        monkeypatch.setitem(ohemloss._registry._by_type, torch.Tensor, blind)
        value = ohemloss.ohem_cross_entropy(x.requires_grad_(), y, thresh=torch.tensor(1.5))
        assert is_served_by_the_function(value)
        value.backward()
        assert torch.isnan(value)
        rows = np.moveaxis(x.grad.numpy(), 1, -1)
        assert np.isnan(rows[labels != 255]).all()
        assert np.all(rows[labels == 255] == 0)

    @pytest.mark.parametrize("reentrant", [False, True])
    def test_checkpoint(self, device, reentrant):
        from torch.utils.checkpoint import checkpoint

        logits, labels = make("3% hard")
        x, y = tensors(logits, labels, device)
        x.requires_grad_()
        value = checkpoint(lambda x: ohemloss.ohem_cross_entropy(x * 1, y), x, use_reentrant=reentrant)
        value.backward()
        np.testing.assert_allclose(value.detach().cpu(), reference(logits, labels).value, **CLOSE)
        np.testing.assert_allclose(x.grad.cpu(), gradient(logits, labels), rtol=1e-6, atol=1e-9)

    def test_batched_cotangents(self, device):
        """`is_grads_batched` runs the backward under vmap."""
        logits, labels = make("3% hard")
        x, y = tensors(logits, labels, device)
        losses = ohemloss.ohem_cross_entropy(x.requires_grad_(), y, reduction="none")
        cotangents = torch.tensor(np.random.default_rng(0).normal(size=(3, *labels.shape)), device=device)
        (grads,) = torch.autograd.grad(losses, x, cotangents, is_grads_batched=True)
        expected = gradient(logits, labels, reduction="sum") * cotangents.cpu().numpy()[:, :, None]
        np.testing.assert_allclose(grads.cpu(), expected, rtol=1e-6, atol=1e-9)

    def test_weights_that_want_a_gradient_get_it(self, device):
        """By the composite; d value / d u_i is the weighted loss of the pixel over the number selected."""
        logits, labels = make("40% hard")
        x, y = tensors(logits, labels, device)
        u = torch.full(labels.shape, 1.0, dtype=torch.float64, device=device, requires_grad=True)
        x.requires_grad_()
        value = ohemloss.ohem_cross_entropy(x, y, pixel_weight=u)
        assert not is_served_by_the_function(value)
        value.backward()
        base = reference(logits, labels)
        np.testing.assert_allclose(u.grad.cpu(), base.pixel_loss * base.weights / base.count, rtol=1e-12)
        np.testing.assert_allclose(x.grad.cpu(), gradient(logits, labels), rtol=1e-6, atol=1e-9)


def test_no_derivative_of_the_largest_logit():
    """The softmax does not depend on what is subtracted, and the derivative of a maximum costs three more passes."""
    x, y = tensors(*make("40% hard"))
    u = torch.ones(y.shape, dtype=x.dtype, requires_grad=True)  # so that the composite is differentiated
    value = ohemloss.ohem_cross_entropy(x.requires_grad_(), y, pixel_weight=u)
    names, waiting = set(), [value.grad_fn]
    while waiting:
        node = waiting.pop()
        names.add(node.name())
        waiting += [parent for parent, _ in node.next_functions if parent is not None]
    assert any(name.startswith("Exp") for name in names)
    assert not any("max" in name.lower() and "soft" not in name.lower() for name in names)


class TestSecondOrder:
    """Right, by every way to it."""

    @pytest.mark.parametrize("options", OPTIONS, ids=str)
    def test_gradient_penalty(self, device, row, shows, options):
        """The gradient of |g|^2 / 2 is the Hessian times g; a backward that could not be differentiated gives 0."""
        logits, labels = make("40% hard", shape=(2, 3, 4))
        x, y = tensors(logits, labels, device)
        x.requires_grad_()
        value = ohemloss.ohem_cross_entropy(x, y, **options)
        assert is_served_by_the_function(value)
        (grad,) = torch.autograd.grad(value, x, create_graph=True)
        (penalty,) = torch.autograd.grad(grad.square().sum() / 2, x)
        expected = curvature(logits, labels, grad.detach().cpu().numpy(), **options)
        assert np.abs(expected).max() > 1e-4
        shows(row, "second order", penalty.cpu(), expected, **CURVATURE)

    @pytest.mark.parametrize("options", OPTIONS, ids=str)
    @pytest.mark.parametrize("traced", [False, True])
    def test_gradcheck(self, device, options, traced):
        """`gradcheck` and `gradgradcheck`, of the node and (weights that want a gradient) of the composite."""
        x, y = tensors(*make("3% hard", shape=(1, 2, 3), n_classes=5), device)
        u = torch.ones(y.shape, dtype=torch.float64, device=device, requires_grad=traced)
        function = functools.partial(ohemloss.ohem_cross_entropy, **options)
        inputs = (x.requires_grad_(), u)
        call = lambda x, u: function(x, y, pixel_weight=u)
        assert torch.autograd.gradcheck(call, inputs, check_batched_grad=True, check_forward_ad=True)
        assert torch.autograd.gradgradcheck(call, inputs, check_batched_grad=True)

    def test_a_cotangent_that_is_zero_may_be_differentiated(self):
        """The derivative of the gradient with respect to it is the gradient: forward mode by two reverse passes."""
        logits, labels = make("3% hard")
        x, y = tensors(logits, labels)
        direction = np.random.default_rng(0).normal(size=logits.shape)
        expected = (gradient(logits, labels) * direction).sum()
        loss = lambda x: ohemloss.ohem_cross_entropy(x, y)
        _, twice = torch.autograd.functional.jvp(loss, x, torch.tensor(direction))
        np.testing.assert_allclose(twice, expected, rtol=1e-6)
        scale = torch.zeros((), dtype=torch.float64, requires_grad=True)
        (grad,) = torch.autograd.grad(scale * loss(x.requires_grad_()), x, create_graph=True)
        (slope,) = torch.autograd.grad((grad * torch.tensor(direction)).sum(), scale)
        np.testing.assert_allclose(slope, expected, rtol=1e-6)

    def test_third_order(self):
        x, y = tensors(*make("40% hard", shape=(1, 1, 2), n_classes=3, ignored=0))

        def second(x):
            (grad,) = torch.autograd.grad(ohemloss.ohem_cross_entropy(x, y, min_kept=1.0), x, create_graph=True)
            return torch.autograd.grad(grad.square().sum(), x, create_graph=True)[0]

        assert torch.autograd.gradcheck(second, x.requires_grad_())

    @pytest.mark.parametrize(
        "how", ["func.hessian", "autograd.functional.hessian", "vectorized", "reverse over reverse"]
    )
    def test_hessian(self, device, how):
        logits, labels = make("3% hard", shape=(1, 2, 3), ignored=0)
        x, y = tensors(logits, labels, device)
        loss = lambda x: ohemloss.ohem_cross_entropy(x, y, min_kept=3)
        hessian = {
            "func.hessian": torch.func.hessian(loss),
            "autograd.functional.hessian": functools.partial(torch.autograd.functional.hessian, loss),
            "vectorized": functools.partial(torch.autograd.functional.hessian, loss, vectorize=True),
            "reverse over reverse": torch.func.jacrev(torch.func.jacrev(loss)),
        }[how](x)
        direction = np.random.default_rng(0).normal(size=logits.shape) / 10
        actual = torch.tensordot(hessian.cpu(), torch.tensor(direction), dims=logits.ndim)
        np.testing.assert_allclose(actual, curvature(logits, labels, direction, min_kept=3), **CURVATURE)


class TestTransformations:
    """Whatever wraps tensors sees the composite."""

    @pytest.mark.parametrize("transform", [torch.func.jacrev, torch.func.jacfwd], ids=lambda f: f.__name__)
    def test_gradient(self, device, transform):
        logits, labels = make("3% hard")
        x, y = tensors(logits, labels, device)
        actual = transform(lambda x: ohemloss.ohem_cross_entropy(x, y))(x)
        np.testing.assert_allclose(actual.cpu(), gradient(logits, labels), rtol=1e-6, atol=1e-9)

    def test_vmap(self, device, row, shows):
        logits, labels = make("3% hard", shape=(3, 6, 7))
        x, y = tensors(logits, labels, device)
        both = torch.func.vmap(torch.func.grad_and_value(lambda x, y: ohemloss.ohem_cross_entropy(x, y, axis=0)))
        grads, values = both(x, y)
        images = [(logits[i : i + 1], labels[i : i + 1]) for i in range(3)]
        np.testing.assert_allclose(values.cpu(), [reference(*image).value for image in images], **CLOSE)
        expected = np.concatenate([gradient(*image) for image in images])
        shows(row, "vmap", grads.cpu(), expected, rtol=1e-6, atol=1e-9)

    @pytest.mark.parametrize("how", ["func.jvp", "dual numbers"])
    def test_forward_mode(self, device, row, shows, how):
        logits, labels = make("3% hard")
        x, y = tensors(logits, labels, device)
        direction = np.random.default_rng(0).normal(size=logits.shape)
        tangent = torch.tensor(direction, device=device)
        loss = lambda x: ohemloss.ohem_cross_entropy(x, y)
        if how == "func.jvp":
            value, derivative = torch.func.jvp(loss, (x,), (tangent,))
        else:
            with torch.autograd.forward_ad.dual_level():
                dual = torch.autograd.forward_ad.make_dual(x.requires_grad_(), tangent)
                value, derivative = torch.autograd.forward_ad.unpack_dual(loss(dual))
        np.testing.assert_allclose(value.detach().cpu(), reference(logits, labels).value, **CLOSE)
        expected = (gradient(logits, labels) * direction).sum()
        shows(row, "forward mode", derivative.detach().cpu(), expected, rtol=1e-6)

    def test_forward_over_reverse(self, device):
        logits, labels = make("3% hard", shape=(2, 3, 4))
        x, y = tensors(logits, labels, device)
        direction = np.random.default_rng(0).normal(size=logits.shape) / 10
        grad = torch.func.grad(lambda x: ohemloss.ohem_cross_entropy(x, y))
        _, actual = torch.func.jvp(grad, (x,), (torch.tensor(direction, device=device),))
        np.testing.assert_allclose(actual.cpu(), curvature(logits, labels, direction), **CURVATURE)

    def test_labels_alone_are_wrapped(self):
        """Logits are plain and want a gradient, labels come from vmap: the node of eager autograd must not be used."""
        logits, labels = make("40% hard", shape=(1, 6, 7))
        x, y = tensors(logits, np.stack([labels, labels[:, ::-1]]))
        x.requires_grad_()
        values = torch.func.vmap(lambda y: ohemloss.ohem_cross_entropy(x, y))(y)
        expected = [reference(logits, each.numpy()).value for each in y]
        np.testing.assert_allclose(values.detach(), expected, **CLOSE)
        (grad,) = torch.autograd.grad(values.sum(), x)
        np.testing.assert_allclose(grad, sum(gradient(logits, e.numpy()) for e in y), rtol=1e-6, atol=1e-9)

    def test_nothing_of_the_loss_is_wrapped(self):
        """A transformation around a call that has no part in it."""
        logits, labels = make("40% hard")
        x, y = tensors(logits, labels)
        x.requires_grad_()
        scales = torch.tensor([1.0, 2.0, 3.0], dtype=torch.float64)
        scaled = torch.func.vmap(lambda s: s * ohemloss.ohem_cross_entropy(x, y))(scales)
        (grad,) = torch.autograd.grad(scaled.sum(), x)
        np.testing.assert_allclose(grad, 6 * gradient(logits, labels), rtol=1e-6, atol=1e-9)
        slope = torch.func.grad(lambda s: s * ohemloss.ohem_cross_entropy(x, y))(scales[0])
        np.testing.assert_allclose(slope.detach(), reference(logits, labels).value, **CLOSE)

    def test_subclass(self):
        class Tagged(torch.Tensor):
            pass

        logits, labels = make("3% hard")
        x, y = tensors(logits, labels)
        value, grad = value_and_gradient(
            lambda x: ohemloss.ohem_cross_entropy(x.as_subclass(Tagged), y.as_subclass(Tagged)).as_subclass(
                torch.Tensor
            ),
            x,
        )
        np.testing.assert_allclose(value, reference(logits, labels).value, **CLOSE)
        np.testing.assert_allclose(grad, gradient(logits, labels), rtol=1e-6, atol=1e-9)

    def test_meta_tensors(self):
        """They have no values: the loss and the gradient have a shape, a dtype and a place."""
        x = torch.zeros(2, 3, 4, device="meta", dtype=torch.bfloat16, requires_grad=True)
        loss = ohemloss.ohem_cross_entropy(x, torch.zeros(2, 4, dtype=torch.int64, device="meta"))
        (grad,) = torch.autograd.grad(loss, x)
        assert (loss.shape, loss.dtype, loss.device.type) == ((), torch.float32, "meta")
        assert (grad.shape, grad.dtype, grad.device.type) == (x.shape, torch.bfloat16, "meta")

    def test_fake_tensors(self):
        """What is recorded with tensors without values gives, run with values, the numbers."""
        from torch.fx.experimental.proxy_tensor import make_fx

        logits, labels = make("3% hard")
        x, y = tensors(logits, labels)
        recorded = make_fx(
            lambda x, y: value_and_gradient(lambda x: ohemloss.ohem_cross_entropy(x, y), x), tracing_mode="fake"
        )(x, y)
        value, grad = recorded(x, y)
        np.testing.assert_allclose(value, reference(logits, labels).value, **CLOSE)
        np.testing.assert_allclose(grad, gradient(logits, labels), rtol=1e-6, atol=1e-9)
        other = make("95% hard")  # nothing of the values is baked in
        np.testing.assert_allclose(recorded(*tensors(*other))[0], reference(*other).value, **CLOSE)


class TestCompiled:
    def test_dynamic_and_whole(self, device, row, shows):
        """No graph break; one program for other sizes; value and gradient."""
        torch._dynamo.reset()
        compiled = torch.compile(
            lambda x, y: ohemloss.ohem_cross_entropy(x, y), fullgraph=True, dynamic=True, backend="aot_eager"
        )
        for shape, regime in (((2, 6, 7), "40% hard"), ((3, 5, 8), "3% hard"), ((4, 9, 11), "95% hard")):
            logits, labels = make(regime, shape=shape)
            x, y = tensors(logits, labels, device)
            with torch.compiler.set_stance("fail_on_recompile" if shape[0] > 2 else "default"):
                value, grad = value_and_gradient(lambda x, y=y: compiled(x, y), x)
            np.testing.assert_allclose(value, reference(logits, labels).value, **CLOSE)
            shows(row, "compiled", grad, gradient(logits, labels), rtol=1e-6, atol=1e-9)

    def test_threshold_and_count_as_tensors(self, device):
        """Annealing: another value, the same program."""
        torch._dynamo.reset()
        criterion = OhemCELoss(thresh=torch.tensor(0.7), min_kept=torch.tensor(5)).to(device)
        compiled = torch.compile(criterion, fullgraph=True, backend="aot_eager")
        logits, labels = make("40% hard")
        x, y = tensors(logits, labels, device)
        stance = "default"
        for thresh, min_kept in ((0.7, 5), (0.5, 30), (0.9, 60)):
            criterion.thresh.fill_(thresh)
            criterion.min_kept.fill_(min_kept)
            with torch.compiler.set_stance(stance):
                value, grad = value_and_gradient(lambda x: compiled(x, y), x)
            stance = "fail_on_recompile"
            options = {"thresh": float(np.float32(thresh)), "min_kept": min_kept}
            np.testing.assert_allclose(value, reference(logits, labels, **options).value, **CLOSE)
            np.testing.assert_allclose(grad, gradient(logits, labels, **options), rtol=1e-6, atol=1e-9)

    def test_a_count_as_an_argument(self):
        """Another number than the first becomes a symbol of the compiler."""
        torch._dynamo.reset()
        compiled = torch.compile(
            lambda x, y, k: ohemloss.ohem_cross_entropy(x, y, min_kept=k), fullgraph=True, backend="aot_eager"
        )
        logits, labels = make("3% hard")
        for k in (2, 5, 60, 10**6):
            expected = reference(logits, labels, min_kept=k).value
            np.testing.assert_allclose(compiled(*tensors(logits, labels), k), expected, **CLOSE)

    def test_as_the_very_first_call(self):
        """In a fresh process, by the default compiler: what has been looked up before is easy to trace."""
        answer = _processes.run(
            """
            import json, numpy, torch, ohemloss, ohemloss_torch
            from tests._cases import make
            compiled = torch.compile(ohemloss_torch.OhemCELoss(), fullgraph=True)
            answer = []
            for regime in ("40% hard", "3% hard"):
                logits, labels = make(regime)
                x = torch.tensor(logits, requires_grad=True)
                value = compiled(x, torch.tensor(labels))
                value.backward()
                answer.append([value.item(), x.grad.tolist()])
            print(json.dumps(answer))
            """
        )
        for (value, grad), regime in zip(answer, ("40% hard", "3% hard"), strict=True):
            logits, labels = make(regime)
            np.testing.assert_allclose(value, reference(logits, labels).value, rtol=1e-12)
            np.testing.assert_allclose(grad, gradient(logits, labels), rtol=1e-6, atol=1e-9)


def example(shape=(2, 6, 7), regime="40% hard", dtype=torch.float32):
    return tensors(*make(regime, shape=shape, dtype="float32"), dtype=dtype)


def dynamic_shapes():
    n, h, w = (torch.export.Dim(name, max=4096) for name in "nhw")
    return ({0: n, 2: h, 3: w}, {0: n, 1: h, 2: w})


OTHERS = [((3, 4, 9), "3% hard"), ((1, 1, 2), "95% hard"), ((2, 30, 40), "40% hard")]


class TestExport:
    @pytest.mark.parametrize("strict", [False, True])
    def test_program(self, shows, strict):
        program = torch.export.export(OhemCELoss(), example(), dynamic_shapes=dynamic_shapes(), strict=strict)
        file = io.BytesIO()
        torch.export.save(program, file)
        file.seek(0)
        loaded = torch.export.load(file).module()
        for shape, regime in OTHERS:
            x, y = example(shape, regime)
            shows("PyTorch", "export", loaded(x, y), reference(x, y).value, **tolerance("float32", "value"))

    def test_onnx(self, shows):
        onnxruntime = pytest.importorskip("onnxruntime")
        pytest.importorskip("onnxscript")
        file = io.BytesIO()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # the exporter's own
            program = torch.onnx.export(
                OhemCELoss().eval(), example(), dynamo=True, dynamic_shapes=dynamic_shapes(), verbose=False
            )
            program.save(file)
        session = onnxruntime.InferenceSession(file.getvalue())
        names = [each.name for each in session.get_inputs()]
        for shape, regime in OTHERS:
            x, y = example(shape, regime)
            (value,) = session.run(None, dict(zip(names, (x.numpy(), y.numpy()), strict=True)))
            shows("PyTorch", "export", value, reference(x, y).value, **tolerance("float32", "value"))

    @pytest.mark.filterwarnings("ignore:`torch.jit:DeprecationWarning", "ignore::torch.jit.TracerWarning")  # of shapes
    def test_jit_trace(self):
        traced = torch.jit.trace(ohemloss.ohem_cross_entropy, example(), check_trace=False)
        x, y = example((2, 6, 7), "3% hard")
        np.testing.assert_allclose(traced(x, y), reference(x, y).value, **tolerance("float32", "value"))


class TestAutocast:
    @pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=str)
    def test_halves(self, device, row, shows, dtype):
        """Half logits out of a layer: a float32 loss, of these logits, and a half gradient."""
        name = str(dtype).rpartition(".")[2]
        logits, labels = make("3% hard", dtype=name)
        layer = torch.nn.Conv2d(5, 5, 1, bias=False, device=device)
        torch.nn.init.dirac_(layer.weight)
        x, y = tensors(logits, labels, device, torch.float32)
        x.requires_grad_()
        with torch.autocast(device, dtype=dtype):
            out = layer(x)
            out.retain_grad()
            loss = OhemCELoss()(out, y)
        assert (out.dtype, loss.dtype) == (dtype, torch.float32)
        seen = round_to(out.detach().float().cpu().numpy(), name)
        base = reference(seen, labels)
        np.testing.assert_allclose(loss.detach().cpu(), base.value, **tolerance(name, "value"))
        loss.backward()
        assert out.grad.dtype == dtype
        assert (x.grad.dtype, layer.weight.grad.dtype) == (torch.float32, torch.float32)
        shows(row, "autocast", out.grad.float().cpu(), gradient(seen, labels), **gradient_tolerance(name, base))

    def test_scaled(self, device):
        """A loss scaled against underflow: the product is taken in float32, before the rounding to half."""
        logits, labels = make("95% hard", shape=(2, 60, 70), dtype="float16")
        x, y = tensors(logits, labels, device, torch.float16)
        _, grad = value_and_gradient(lambda x: ohemloss.ohem_cross_entropy(x, y) * 2.0**16, x)
        base, expected = reference(logits, labels), gradient(logits, labels) * 2.0**16
        close = gradient_tolerance("float16", base)
        np.testing.assert_allclose(grad.float(), expected, rtol=close["rtol"], atol=close["atol"] * 2**16)


class TestModule:
    def test_is_the_function(self):
        x, y = tensors(*make("40% hard"))
        u = torch.full(y.shape, 0.5)
        module = OhemCELoss(thresh=0.6, min_kept=9, weight=[1, 2, 3, 4, 5], label_smoothing=0.1)
        expected = ohemloss.OhemCELoss(thresh=0.6, min_kept=9, weight=(1.0, 2, 3, 4, 5), label_smoothing=0.1)
        torch.testing.assert_close(module(x, y, pixel_weight=u), expected(x, y, pixel_weight=u))

    def test_shows_what_differs_from_the_defaults(self):
        assert repr(OhemCELoss()) == "OhemCELoss()"
        module = OhemCELoss(thresh=0.6, min_kept=9, weight=[1, 2], label_smoothing=0.1)
        assert repr(module) == "OhemCELoss(thresh=0.6, min_kept=9, label_smoothing=0.1)"

    def test_copies(self):
        x, y = tensors(*make("40% hard"))
        module = OhemCELoss(thresh=0.6, weight=[1, 2, 3, 4, 5], min_kept=torch.tensor(3))
        for clone in (copy.deepcopy(module), pickle.loads(pickle.dumps(module)), _saved(module)):
            torch.testing.assert_close(clone(x, y), module(x, y), rtol=0, atol=0)

    def test_buffers_follow_the_parent(self):
        class Step(torch.nn.Module):
            def __init__(self):
                super().__init__()
                self.parts = torch.nn.ModuleDict(
                    {"head": torch.nn.Conv2d(5, 5, 1), "criterion": OhemCELoss(weight=[1] * 5)}
                )

            def forward(self, x, y):
                return self.parts["criterion"](self.parts["head"](x), y)

        step = Step()
        assert [key for key in step.state_dict() if "criterion" in key] == ["parts.criterion.weight"]
        assert step.double().parts["criterion"].weight.dtype == torch.float64
        logits, labels = make("40% hard")
        x, y = tensors(logits, labels)
        torch.nn.init.dirac_(step.parts["head"].weight)
        torch.nn.init.zeros_(step.parts["head"].bias)
        loss = step(x, y)
        np.testing.assert_allclose(loss.detach(), reference(logits, labels).value, **CLOSE)
        loss.backward()
        expected = gradient(logits, labels).sum(axis=(0, 2, 3))
        np.testing.assert_allclose(step.parts["head"].bias.grad, expected, rtol=1e-6, atol=1e-9)

    def test_in_a_container(self):
        """A container that hands on a tuple, as users write it."""

        class Steps(torch.nn.Sequential):
            def forward(self, *inputs):
                for module in self:
                    inputs = module(*inputs) if isinstance(inputs, tuple) else module(inputs)
                return inputs

        x, y = tensors(*make())
        torch.testing.assert_close(Steps(OhemCELoss(), torch.nn.Identity())(x, y), ohemloss.ohem_cross_entropy(x, y))

    def test_options_may_be_set_later(self):
        logits, labels = make("40% hard")
        x, y = tensors(logits, labels)
        module = OhemCELoss()
        module.thresh, module.min_kept = 0.5, 30
        np.testing.assert_allclose(module(x, y), reference(logits, labels, thresh=0.5, min_kept=30).value, **CLOSE)
        module.thresh = 2.0
        assert repr(module) == "OhemCELoss(thresh=2.0, min_kept=30)"
        with pytest.raises(ValueError, match="`thresh` must lie in"):
            module(x, y)

    def test_threshold_as_a_buffer(self):
        module = OhemCELoss(thresh=torch.tensor(0.5))
        assert set(module.state_dict()) == {"thresh"}
        assert repr(module) == "OhemCELoss(thresh=tensor(0.5000))"
        logits, labels = make("40% hard")
        x, y = tensors(logits, labels)
        np.testing.assert_allclose(module(x, y), reference(logits, labels, thresh=0.5).value, **CLOSE)

    def test_refuses_what_the_function_refuses(self):
        with pytest.raises(TypeError, match="`weight` must be an array, or a sequence of numbers: got 'abc'"):
            OhemCELoss(weight="abc")
        with pytest.raises(ValueError, match="`thresh` must lie in"):
            OhemCELoss(thresh=2.0)

    def test_has_the_options_of_the_criterion(self):
        import inspect

        def options(cls):
            parameters = inspect.signature(cls).parameters.values()
            return [(p.name, p.default, p.kind) for p in parameters]

        expected = [option for option in options(ohemloss.OhemCELoss) if option[0] != "axis_name"]  # of JAX
        assert options(OhemCELoss) == expected


def _saved(module):
    file = io.BytesIO()
    torch.save(module, file)
    file.seek(0)
    return torch.load(file, weights_only=False)


class TestSearch:
    def test_sees_no_gradient_and_is_skipped_when_enough_are_hard(self, monkeypatch):
        from ohemloss_torch import _library

        seen = []
        search = _library._kth.kth_largest
        monkeypatch.setattr(_library._kth, "kth_largest", lambda *args: seen.append(args[1]) or search(*args))
        for regime, searches in (("40% hard", 0), ("3% hard", 1)):
            x, y = tensors(*make(regime))
            u = torch.ones(y.shape, requires_grad=True)  # so that the composite is differentiated
            ohemloss.ohem_cross_entropy(x.requires_grad_(), y, pixel_weight=u)
            assert len(seen) == searches
        assert not seen[0].requires_grad


def test_supports_every_option():
    """The node keeps what any option needs; one that is new must be looked at, and then listed."""
    from ohemloss._options import MAY_BE_ARRAYS
    from ohemloss_torch import backend
    from tests.test_criterion import OPTIONS as names

    assert backend.supports == {
        *names,
        "rule",
        "resize",
        "align_corners",
        "process_group",
        "pixel_weight",
        "positives",
        *(f"{name} as an array" for name in MAY_BE_ARRAYS),
    }
