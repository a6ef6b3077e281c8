"""What the tests of PyTorch share."""

import torch

from tests._cases import tolerance

CLOSE = tolerance("float64", "value")
# A rule that takes each path at once: some of the pixels that count tie or are kept though they are easy.
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


def is_served_by_the_function(value):
    return value.grad_fn is not None and "_Loss" in value.grad_fn.name()
