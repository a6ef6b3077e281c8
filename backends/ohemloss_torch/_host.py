"""Plain tensors in host memory, served without a copy by what serves NumPy arrays."""

from dataclasses import fields, replace
from typing import Any

import numpy as np
import torch

from ohemloss import Cut
from ohemloss._inputs import Inputs
from ohemloss._options import Options
from ohemloss_numpy._host import Host
from ohemloss_numpy._task import Kept

_DTYPES = (torch.float16, torch.bfloat16, torch.float32, torch.float64)


def host_of(inputs: Inputs, options: Options, *others: torch.Tensor) -> Host | None:
    """
    Give the call on NumPy views of plain tensors; None if they are elsewhere, or the rule selects per image.

    `others` must be in host memory, too.
    """
    tensors = {field.name: getattr(inputs, field.name) for field in fields(inputs)}
    given = [tensor for tensor in (*tensors.values(), *options.arrays().values(), *others) if tensor is not None]
    if options.rule.per_image or inputs.logits.dtype not in _DTYPES or not all(map(_is_in_host_memory, given)):
        return None
    arrays = {name: None if tensor is None else _numpy(tensor) for name, tensor in tensors.items() if name != "logits"}
    numbers = {name: _numpy(tensor) for name, tensor in options.arrays().items()}
    if numbers:
        options = replace(options, **numbers)
    logits = inputs.logits.detach()
    bits = logits.view(torch.int16).numpy().view(np.uint16) if logits.dtype == torch.bfloat16 else logits.numpy()
    return Host(Inputs(logits=bits, **arrays), options, torch.get_num_threads())


def gradient(host: Host, kept: Kept, cotangent: torch.Tensor | None = None) -> torch.Tensor:
    """Run the backward pass."""
    bits = host.backward(kept) if cotangent is None else host.backward(kept, cotangent.numpy())
    return torch.from_numpy(bits.view(np.int16)).view(torch.bfloat16) if bits.dtype == np.uint16 else tensor(bits)


def tensor(array: Any) -> torch.Tensor:
    """Give the tensor of an array or a number of NumPy, without a copy of an array."""
    return torch.from_numpy(np.asarray(array))


def kept(scores: torch.Tensor, divisor: torch.Tensor, *cut: torch.Tensor) -> Kept:
    """Give what was kept in tensors as NumPy has it."""
    return Kept(scores.numpy(), Cut(*(number.numpy() for number in cut)), divisor.numpy())


def _is_in_host_memory(tensor: torch.Tensor) -> bool:
    # By its key: a cotangent of `is_grads_batched` looks like any tensor, and has none of its own memory.
    has_memory = torch._C._dispatch_keys(tensor).has(torch._C.DispatchKey.CPU)
    return has_memory and tensor.layout == torch.strided and not tensor.is_neg()


def _numpy(tensor: torch.Tensor) -> np.ndarray:
    tensor = tensor.detach()
    return (tensor.float() if tensor.dtype == torch.bfloat16 else tensor).numpy()
