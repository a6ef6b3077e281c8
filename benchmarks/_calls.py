"""The variants as calls without arguments, each on arrays of its own library, made before the clock runs."""

from collections.abc import Callable
from typing import Any

import numpy as np

import ohemloss

from . import _baselines
from ._data import Data
from ._timing import Call

OURS = "ours"
EAGER, PLAIN, HRNET = "eager", "plain", "HRNet"
NAIVE, OPTAX = "naive", "optax"

LAYOUTS = ("contiguous", "channels_last", "crop", "rows")
_EDGE = 8


def torch_call(
    variant: str,
    data: Data,
    *,
    backward: bool,
    layout: str = "contiguous",
    dtype: str = "float32",
    n: int | None = None,
) -> Call:
    """Make a call on the first `n` images."""
    import torch

    loss = _torch_losses()[variant]
    logits, labels = _laid_out(
        torch.from_numpy(data.logits[:n]).to(getattr(torch, dtype)), torch.from_numpy(data.labels[:n]), layout
    )
    return timed(loss, logits, labels, backward=backward)


def timed(loss: Callable[..., Any], logits: Any, labels: Any, *, backward: bool) -> Call:
    """Make a call on tensors. Its leaf is its own: to free another's gradient would take its time."""
    if not backward:
        return lambda: loss(logits, labels)
    leaf = logits.detach().requires_grad_()

    def call() -> object:
        leaf.grad = None
        loss(leaf, labels).backward()
        return leaf.grad

    return call


def numpy_call(variant: str, data: Data, *, backward: bool) -> Call:
    """Make a call on NumPy arrays, with the gradient in closed form."""
    functions: dict[tuple[str, bool], Callable[..., object]] = {
        (OURS, False): ohemloss.ohem_cross_entropy,
        (OURS, True): ohemloss.value_and_grad,
        (NAIVE, False): _baselines.numpy_loss,
        (NAIVE, True): _baselines.numpy_value_and_grad,
    }
    function = functions[variant, backward]
    return lambda: function(data.logits, data.labels)


def jax_call(variant: str, data: Data, *, backward: bool) -> Call:
    """Make a compiled call that waits for its result."""
    import jax

    loss = ohemloss.ohem_cross_entropy if variant == OURS else _baselines.optax_loss()
    function = jax.jit(jax.value_and_grad(loss) if backward else lambda x, y: loss(x, y))
    logits, labels = jax.numpy.asarray(data.logits), jax.numpy.asarray(data.labels.astype(np.int32))
    return lambda: jax.block_until_ready(function(logits, labels))


def _torch_losses() -> dict[str, Callable[..., Any]]:
    from . import _baselines_torch

    return {
        OURS: ohemloss.ohem_cross_entropy,
        EAGER: _baselines_torch.eager,
        PLAIN: _baselines_torch.plain,
        HRNET: _baselines_torch.hrnet,
    }


def _laid_out(logits: Any, labels: Any, layout: str) -> tuple[Any, Any]:
    import torch

    if layout == "channels_last":
        return logits.contiguous(memory_format=torch.channels_last), labels
    if layout == "crop":
        h, w = logits.shape[2:]
        framed = torch.nn.functional.pad(logits, (_EDGE,) * 4)
        return framed[..., _EDGE : _EDGE + h, _EDGE : _EDGE + w], labels
    if layout == "rows":
        return torch.movedim(logits, 1, -1).reshape(-1, logits.shape[1]), labels.reshape(-1)
    return logits, labels
