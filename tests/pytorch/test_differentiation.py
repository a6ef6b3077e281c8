"""PyTorch: what the node of eager autograd keeps, and every way to differentiate the loss."""

import functools
import math
from dataclasses import replace

import numpy as np
import pytest

import ohemloss
import ohemloss._registry
from tests._cases import CURVATURE, make
from tests._reference import curvature
from tests.conformance._check import assert_both, assert_images, case_of, images_of

# PyTorch's own, whenever it differentiates forward.
pytestmark = pytest.mark.filterwarnings("ignore:`torch.jit.script` is deprecated:DeprecationWarning")
torch = pytest.importorskip("torch")
ohemloss_torch = pytest.importorskip("ohemloss_torch")

from ._tensors import OPTIONS, check, is_served_by_the_function, tensors, value_and_gradient

BATCH = make("3% hard")
DIRECTION = np.random.default_rng(0).normal(size=BATCH[0].shape)


class TestBackward:
    """The node of plain eager autograd."""

    @pytest.mark.parametrize("options", OPTIONS, ids=str)
    def test_is_the_closed_form(self, device, options):
        x, y = tensors(*BATCH, device)
        value = ohemloss.ohem_cross_entropy(x.requires_grad_(), y, **options)
        assert is_served_by_the_function(value)
        value.backward()
        closed_value, closed = ohemloss.value_and_grad(x.detach(), y, **options)
        torch.testing.assert_close(value.detach(), closed_value, rtol=0, atol=0)
        torch.testing.assert_close(x.grad, closed, rtol=1e-14, atol=0)

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
        """One cotangent, or several of `is_grads_batched`, which runs the backward under vmap."""
        x, y = tensors(*BATCH, device)
        cotangents = np.random.default_rng(0).normal(size=(3, *y.shape))
        of_pixels = torch.tensor(cotangents, device=device)
        losses = ohemloss.ohem_cross_entropy(x.requires_grad_(), y, reduction="none")
        (grads,) = torch.autograd.grad(losses, x, of_pixels, is_grads_batched=True, retain_graph=True)
        (first,) = torch.autograd.grad(losses, x, of_pixels[0])
        case = case_of(BATCH, reduction="sum")
        expected, close = case.expected.gradient * cotangents[:, :, None], case.gradient_tolerance("float64")
        for actual, wanted in ((grads, expected), (first, expected[0])):
            np.testing.assert_allclose(actual.cpu(), wanted, rtol=1e-12, atol=4 * close["atol"])

    def test_an_infinite_cotangent_reaches_the_selected_alone(self):
        """As when a scaled half overflows: what is not selected stays 0."""
        batch = make("40% hard")
        x, y = tensors(*batch)
        _, grad = value_and_gradient(lambda x: ohemloss.ohem_cross_entropy(x, y) * math.inf, x)
        selected = case_of(batch).expected.steps.weights > 0
        rows = np.moveaxis(grad.numpy(), 1, -1)
        assert np.all(rows[~selected] == 0)
        assert not np.any(np.isfinite(rows[selected]))

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

        def loss(x, y):
            with torch.inference_mode():
                teacher = y.clone()
            return ohemloss.ohem_cross_entropy(x, teacher)

        check(loss, make("40% hard"))

    def test_a_threshold_filled_before_the_backward(self):
        """The selection was made; what the buffer says now is for the next step."""

        def loss(x, y):
            thresh = torch.tensor(0.7, dtype=torch.float64)
            value = ohemloss.ohem_cross_entropy(x, y, thresh=thresh, min_kept=torch.tensor(3))
            thresh.fill_(math.nan)
            return value

        check(loss, make("40% hard"), min_kept=3)

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

        x, y = tensors(*BATCH, device)
        value = checkpoint(lambda x: ohemloss.ohem_cross_entropy(x * 1, y), x.requires_grad_(), use_reentrant=reentrant)
        value.backward()
        assert_both(case_of(BATCH), value.detach().cpu(), x.grad.cpu())

    def test_weights_that_want_a_gradient_get_it(self, device):
        """By the composite; d value / d u_i is the weighted loss of the pixel over the number selected."""
        case = case_of(make("40% hard"))
        x, y = tensors(case.logits, case.labels, device)
        u = torch.ones(y.shape, dtype=torch.float64, device=device, requires_grad=True)
        x.requires_grad_()
        value = ohemloss.ohem_cross_entropy(x, y, pixel_weight=u)
        assert not is_served_by_the_function(value)
        value.backward()
        steps = case.expected.steps
        np.testing.assert_allclose(u.grad.cpu(), steps.pixel_loss * steps.weights / steps.count, rtol=1e-12)
        assert_both(case, value.detach().cpu(), x.grad.cpu())


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
    @pytest.mark.parametrize("traced", [False, True])
    def test_gradcheck(self, device, options, traced):
        """`gradcheck` and `gradgradcheck`, of the node and (weights that want a gradient) of the composite."""
        x, y = tensors(*make("3% hard", shape=(1, 2, 3), n_classes=5), device)
        u = torch.ones(y.shape, dtype=torch.float64, device=device, requires_grad=traced)
        function = functools.partial(ohemloss.ohem_cross_entropy, **options)
        inputs = (x.requires_grad_(), u)
        call = lambda x, u: function(x, y, pixel_weight=u)
        assert is_served_by_the_function(call(*inputs)) != traced
        assert torch.autograd.gradcheck(call, inputs, check_batched_grad=True, check_forward_ad=True)
        assert torch.autograd.gradgradcheck(call, inputs, check_batched_grad=True)

    def test_a_cotangent_that_is_zero_may_be_differentiated(self):
        """The derivative of the gradient with respect to it is the gradient: forward mode by two reverse passes."""
        x, y = tensors(*BATCH)
        expected = (case_of(BATCH).expected.gradient * DIRECTION).sum()
        loss = lambda x: ohemloss.ohem_cross_entropy(x, y)
        _, twice = torch.autograd.functional.jvp(loss, x, torch.tensor(DIRECTION))
        scale = torch.zeros((), dtype=torch.float64, requires_grad=True)
        (grad,) = torch.autograd.grad(scale * loss(x.requires_grad_()), x, create_graph=True)
        (slope,) = torch.autograd.grad((grad * torch.tensor(DIRECTION)).sum(), scale)
        np.testing.assert_allclose([twice, slope], expected, rtol=1e-12)

    def test_third_order(self):
        x, y = tensors(*make("40% hard", shape=(1, 1, 2), n_classes=3, ignored=0))

        def second(x):
            (grad,) = torch.autograd.grad(ohemloss.ohem_cross_entropy(x, y, min_kept=1.0), x, create_graph=True)
            return torch.autograd.grad(grad.square().sum(), x, create_graph=True)[0]

        assert torch.autograd.gradcheck(second, x.requires_grad_())

    @pytest.mark.parametrize(
        "how", ["func.hessian", "autograd.functional.hessian", "vectorized", "reverse over reverse"]
    )
    def test_hessian(self, device, row, shows, how):
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
        shows(row, "second order", actual, curvature(logits, labels, direction, min_kept=3), **CURVATURE)


class TestTransformations:
    """Whatever wraps tensors sees the composite."""

    def test_vmap(self, device, row, shows):
        batch = make("3% hard", shape=(3, 6, 7))
        cases = images_of(batch)
        both = torch.func.vmap(torch.func.grad_and_value(lambda x, y: ohemloss.ohem_cross_entropy(x, y, axis=0)))
        grads, values = (found.cpu() for found in both(*tensors(*batch, device)))
        assert_images(cases, values, grads)
        expected = np.concatenate([case.expected.gradient for case in cases])
        shows(row, "vmap", grads, expected, **cases[0].gradient_tolerance("float64"))

    @pytest.mark.parametrize("how", ["func.jvp", "dual numbers"])
    def test_forward_mode(self, device, row, shows, how):
        case, (x, y) = case_of(BATCH), tensors(*BATCH, device)
        tangent = torch.tensor(DIRECTION, device=device)
        loss = lambda x: ohemloss.ohem_cross_entropy(x, y)
        if how == "func.jvp":
            value, derivative = torch.func.jvp(loss, (x,), (tangent,))
        else:
            with torch.autograd.forward_ad.dual_level():
                dual = torch.autograd.forward_ad.make_dual(x.requires_grad_(), tangent)
                value, derivative = torch.autograd.forward_ad.unpack_dual(loss(dual))
        np.testing.assert_allclose(value.detach().cpu(), case.expected.value, **case.value_tolerance("float64"))
        expected = (case.expected.gradient * DIRECTION).sum()
        shows(row, "forward mode", derivative.detach().cpu(), expected, rtol=1e-12)

    def test_labels_alone_are_wrapped(self):
        """Logits are plain and want a gradient, labels come from vmap: the node of eager autograd must not be used."""
        logits, labels = make("40% hard", shape=(1, 6, 7))
        cases = [case_of((logits, each)) for each in (labels, labels[:, ::-1])]
        x, y = tensors(logits, np.stack([case.labels for case in cases]))
        x.requires_grad_()
        values = torch.func.vmap(lambda y: ohemloss.ohem_cross_entropy(x, y))(y)
        for case, value in zip(cases, values, strict=True):
            (grad,) = torch.autograd.grad(value, x, retain_graph=True)
            assert_both(case, value.detach(), grad)

    def test_nothing_of_the_loss_is_wrapped(self):
        """A transformation around a call that has no part in it."""
        case = case_of(make("40% hard"))
        x, y = tensors(case.logits, case.labels)
        x.requires_grad_()
        scales = torch.tensor([1.0, 2.0, 3.0], dtype=torch.float64)
        scaled = torch.func.vmap(lambda s: s * ohemloss.ohem_cross_entropy(x, y))(scales)
        (grad,) = torch.autograd.grad(scaled.sum(), x)
        slope = torch.func.grad(lambda s: s * ohemloss.ohem_cross_entropy(x, y))(scales[0])
        assert_both(case, slope.detach(), grad / 6)

    def test_subclass(self):
        class Tagged(torch.Tensor):
            pass

        check(
            lambda x, y: ohemloss.ohem_cross_entropy(x.as_subclass(Tagged), y.as_subclass(Tagged)).as_subclass(
                torch.Tensor
            ),
            BATCH,
        )

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

        recorded = make_fx(
            lambda x, y: value_and_gradient(lambda x: ohemloss.ohem_cross_entropy(x, y), x), tracing_mode="fake"
        )(*tensors(*BATCH))
        for batch in (BATCH, make("95% hard")):  # nothing of the values is baked in
            assert_both(case_of(batch), *recorded(*tensors(*batch)))


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
