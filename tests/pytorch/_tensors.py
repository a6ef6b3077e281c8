"""What the tests of PyTorch share."""

import torch

from tests.conformance._check import assert_both, case_of

# Pixels that tie, or that are kept though they are easy; weights of 0.
OPTIONS = [
    {},
    {"thresh": None, "min_kept": 0.3},
    {"weight": (0.5, 2.0, 0.0, 1.0, 3.0), "label_smoothing": 0.1, "min_kept": 0.6},
    {"reduction": "sum"},
]


def tensors(logits, labels, device="cpu", dtype=torch.float64):
    return torch.tensor(logits, device=device, dtype=dtype), torch.tensor(labels, device=device)


def value_and_gradient(function, x):
    x = x.detach().requires_grad_()
    value = function(x)
    return value.detach().cpu(), torch.autograd.grad(value, x)[0].cpu()


def check(loss, batch, device="cpu", **options):
    """Differentiate a loss of logits and labels. Compare value and gradient with the oracle of the options."""
    x, y = tensors(*batch, device)
    assert_both(case_of(batch, **options), *value_and_gradient(lambda x: loss(x, y), x))


def is_served_by_the_function(value):
    return value.grad_fn is not None and "_Loss" in value.grad_fn.name()
