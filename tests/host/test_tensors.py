"""Tensors in host memory: cotangents, threads, second derivatives, and gradients that are not copied."""

import math
import threading

import numpy as np
import pytest

import ohemloss
from tests._cases import make, make_small, round_to
from tests._reference import reference
from tests.conformance._case import Case

torch = pytest.importorskip("torch")


class Call:
    """A call on tensors, and what it must give."""

    def __init__(self, resize):
        self.resizing = {"resize": resize}
        logits, labels = make("40% hard", (2, 6, 45), dtype="float32") if resize is None else make_small()
        self.x, self.y = torch.tensor(logits, dtype=torch.float32, requires_grad=True), torch.tensor(labels)
        self.logits, self.labels = logits, labels
        self.case = self.of(logits)

    def of(self, logits, **options):
        return Case("tensors", "a call", logits, self.labels, {**self.resizing, **options})

    def loss(self, **options):
        return ohemloss.ohem_cross_entropy(self.x, self.y, **self.resizing, **options)

    def close(self, gradient, case=None):
        case = case or self.case
        np.testing.assert_allclose(gradient, case.expected.gradient, **case.gradient_tolerance("float32"))


@pytest.fixture(params=[None, "bilinear"], ids=["plain", "resized"])
def call(request, worker, cut_small):
    return Call(request.param)


def test_backward_in_another_thread_and_twice(call):
    value = call.loss()
    thread = threading.Thread(target=lambda: (3 * value).backward(retain_graph=True))
    thread.start()
    thread.join()
    call.close(call.x.grad / 3)
    value.backward(retain_graph=True)
    call.close(call.x.grad / 4)


def test_gradient_is_taken_over(call):
    """And not copied: the one that the function makes is the one that the tensor gets."""
    seen = []
    value = call.loss()
    value.grad_fn.register_hook(lambda gradients, _: seen.extend(g.data_ptr() for g in gradients if g is not None))
    value.backward()
    assert seen == [call.x.grad.data_ptr()]


@pytest.mark.parametrize("wants", [False, True])
def test_cotangent(call, wants):
    """One that wants a gradient itself, in a backward pass that makes no graph, included."""
    cotangent = torch.tensor(-2.5, requires_grad=wants)
    (grad,) = torch.autograd.grad(call.loss(), call.x, cotangent)
    call.close(grad / -2.5)
    assert not grad.requires_grad


@pytest.mark.parametrize("call", [None], indirect=True, ids=["plain"])
@pytest.mark.parametrize("layout", ["plain", "transposed", "expanded", "negative"])
def test_cotangent_of_each_pixel(call, layout):
    values = torch.tensor(np.random.default_rng(0).normal(size=call.labels.shape), dtype=torch.float32)
    if layout == "transposed":
        values = values.permute(2, 1, 0).contiguous().permute(2, 1, 0)
    elif layout == "expanded":
        values = values[:1, :, :1].expand(call.labels.shape)
    elif layout == "negative":
        values = torch._neg_view(values)
    (grad,) = torch.autograd.grad(call.loss(reduction="none"), call.x, values)
    expected = call.of(call.logits, reduction="sum").expected.gradient * values.resolve_neg().numpy()[:, None]
    np.testing.assert_allclose(grad, expected, rtol=1e-5, atol=3e-6)


@pytest.mark.parametrize("what", ["not selected", "of no weight", "at the cut"])
def test_infinite_cotangent(worker, what):
    """It reaches what has a gradient alone."""
    x, y = torch.zeros(4, 3), torch.tensor([0, 0, 1, 255])
    x[0, 0] = 200
    options = {
        "not selected": {},
        "of no weight": {"weight": torch.tensor([0.0, 1, 1]), "min_kept": 1.0},
        "at the cut": {"thresh": 1.0, "min_kept": 0},
    }[what]
    value = ohemloss.ohem_cross_entropy(x.requires_grad_(), y, **options)
    (grad,) = torch.autograd.grad(value, x, torch.tensor(math.inf))
    selected = reference(x.detach().numpy(), y.numpy(), **{k: v for k, v in options.items() if k != "weight"})
    live = torch.tensor((selected.weights > 0) & ((y.numpy() != 0) | (what != "of no weight")))
    assert torch.all(grad[~live] == 0)
    assert not torch.isfinite(grad[live]).any()


@pytest.mark.parametrize("min_kept", [5, 0.8])
def test_options_that_are_tensors(call, min_kept):
    """The forward pass is served by NumPy then, and the backward pass, which needs them no more, may not be."""
    case = call.of(call.logits, thresh=0.5, min_kept=min_kept)
    value = call.loss(thresh=torch.tensor(0.5), min_kept=torch.tensor(min_kept))
    np.testing.assert_allclose(value.detach(), case.expected.value, **case.value_tolerance("float32"))
    call.close(torch.autograd.grad(value, call.x)[0], case)


def test_second_derivative(call):
    """The graph is made from what the host kept."""
    direction = np.random.default_rng(0).normal(size=call.x.shape)
    (grad,) = torch.autograd.grad(call.loss(), call.x, create_graph=True)
    (twice,) = torch.autograd.grad((grad * torch.tensor(direction).float()).sum(), call.x)
    ahead, behind = (call.of(call.logits + s * direction).expected.gradient for s in (1e-6, -1e-6))
    np.testing.assert_allclose(twice, (ahead - behind) / 2e-6, rtol=1e-4, atol=1e-8)


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_halves_are_rounded_once(worker, cut_small, dtype):
    """Also where several chunks add to a logit: it is the gradient in float32, rounded."""
    logits, labels = make_small("95% hard", (1, 5, 3, 4), (60, 15))
    x, y = torch.tensor(logits, dtype=getattr(torch, dtype)), torch.tensor(labels)
    _, half = ohemloss.value_and_grad(x, y, resize="bilinear")
    _, single = ohemloss.value_and_grad(x.float(), y, resize="bilinear")
    np.testing.assert_array_equal(half.double().numpy(), round_to(single.numpy(), dtype))
    leaf = x.clone().requires_grad_()
    (own,) = torch.autograd.grad(ohemloss.ohem_cross_entropy(leaf, y, resize="bilinear"), leaf)
    assert torch.equal(own, half)


def test_wrong_labels_are_an_error_of_autograd(worker, cut_small):
    logits, labels = make("40% hard", shape=(2, 7, 50), dtype="float32")
    labels[1, 3, 4] = -(2**40)
    x = torch.tensor(logits, dtype=torch.float32, requires_grad=True)
    with pytest.raises(ValueError, match=rf"labels.*\b{2**40}\b"):
        ohemloss.ohem_cross_entropy(x, torch.from_numpy(labels))
