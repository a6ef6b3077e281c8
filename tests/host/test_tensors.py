"""Tensors in host memory: cotangents, threads, second derivatives, and gradients that are not copied."""

import math
import threading
from types import SimpleNamespace

import numpy as np
import pytest

import ohemloss
from tests._cases import make, make_small, round_to, tolerance
from tests._oracle import expect
from tests._reference import reference

from ._workers import close_to

torch = pytest.importorskip("torch")


@pytest.fixture(params=[None, "bilinear"], ids=["plain", "resized"])
def case(request, worker, cut_small):
    """A call, what it must give, and how close its gradient must be."""
    logits, labels = make("40% hard", (2, 6, 45), dtype="float32") if request.param is None else make_small()
    x = torch.tensor(logits, dtype=torch.float32, requires_grad=True)
    resizing, y = {"resize": request.param}, torch.tensor(labels)
    expected = expect(logits, labels, **resizing)
    return SimpleNamespace(
        x=x,
        logits=logits,
        labels=labels,
        expected=expected,
        expect=lambda logits, **options: expect(logits, labels, **resizing, **options),
        close=lambda found: np.testing.assert_allclose(found, expected.gradient, **close_to(expected)),
        loss=lambda **options: ohemloss.ohem_cross_entropy(x, y, **resizing, **options),
    )


def test_backward_in_another_thread_and_twice(case):
    value = case.loss()
    thread = threading.Thread(target=lambda: (3 * value).backward(retain_graph=True))
    thread.start()
    thread.join()
    case.close(case.x.grad / 3)
    value.backward(retain_graph=True)
    case.close(case.x.grad / 4)


def test_gradient_is_taken_over(case):
    """And not copied: the one that the function makes is the one that the tensor gets."""
    seen = []
    value = case.loss()
    value.grad_fn.register_hook(lambda gradients, _: seen.extend(g.data_ptr() for g in gradients if g is not None))
    value.backward()
    assert seen == [case.x.grad.data_ptr()]


@pytest.mark.parametrize("wants", [False, True])
def test_cotangent(case, wants):
    """One that wants a gradient itself, in a backward pass that makes no graph, included."""
    cotangent = torch.tensor(-2.5, requires_grad=wants)
    (grad,) = torch.autograd.grad(case.loss(), case.x, cotangent)
    case.close(grad / -2.5)
    assert not grad.requires_grad


@pytest.mark.parametrize("case", [None], indirect=True, ids=["plain"])
@pytest.mark.parametrize("layout", ["plain", "transposed", "expanded", "negative"])
def test_cotangent_of_each_pixel(case, layout):
    values = torch.tensor(np.random.default_rng(0).normal(size=case.labels.shape), dtype=torch.float32)
    if layout == "transposed":
        values = values.permute(2, 1, 0).contiguous().permute(2, 1, 0)
    elif layout == "expanded":
        values = values[:1, :, :1].expand(case.labels.shape)
    elif layout == "negative":
        values = torch._neg_view(values)
    (grad,) = torch.autograd.grad(case.loss(reduction="none"), case.x, values)
    expected = case.expect(case.logits, reduction="sum").gradient * values.resolve_neg().numpy()[:, None]
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
def test_options_that_are_tensors(case, min_kept):
    """The forward pass is served by NumPy then, and the backward pass, which needs them no more, may not be."""
    expected = case.expect(case.logits, thresh=0.5, min_kept=min_kept)
    value = case.loss(thresh=torch.tensor(0.5), min_kept=torch.tensor(min_kept))
    np.testing.assert_allclose(value.detach(), expected.value, **tolerance("float32", "value"))
    (grad,) = torch.autograd.grad(value, case.x)
    np.testing.assert_allclose(grad, expected.gradient, **close_to(expected))


def test_second_derivative(case):
    """The graph is made from what the host kept."""
    direction = np.random.default_rng(0).normal(size=case.x.shape)
    (grad,) = torch.autograd.grad(case.loss(), case.x, create_graph=True)
    (twice,) = torch.autograd.grad((grad * torch.tensor(direction).float()).sum(), case.x)
    ahead, behind = (case.expect(case.logits + s * direction).gradient for s in (1e-6, -1e-6))
    np.testing.assert_allclose(twice, (ahead - behind) / 2e-6, rtol=1e-4, atol=1e-8)


def test_without_a_gradient(case):
    for mode in (torch.inference_mode, torch.no_grad):
        with mode():
            value = case.loss()
            assert not value.requires_grad
        np.testing.assert_allclose(value, case.expected.value, **tolerance("float32", "value"))


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
