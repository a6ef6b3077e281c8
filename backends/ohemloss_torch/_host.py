"""Plain tensors in host memory, served without a copy by what serves NumPy arrays."""

from dataclasses import fields, replace
from typing import Any

import numpy as np
import torch

from ohemloss import Cut
from ohemloss._inputs import Inputs
from ohemloss._options import Options
from ohemloss_numpy._host import Host
from ohemloss_numpy._task import Kept as HostKept

from ._kept import Kept, Pixels
from ._memory import has_memory

_DTYPES = (torch.float16, torch.bfloat16, torch.float32, torch.float64)


class HostCall:
    """One call, in tensors."""

    def __init__(self, host: Host) -> None:
        self._host = host

    def forward(self) -> tuple[torch.Tensor, Kept]:
        """Compute the loss, and what the backward pass needs."""
        value, kept = self._host.forward()
        numbers = (kept.cut.value, kept.cut.tie_weight, kept.cut.count)
        return _tensor(value), Kept(_tensor(kept.scores), None, Cut(*map(_tensor, numbers)), _tensor(kept.divisor))

    def pixels(self) -> Pixels:
        """Compute the losses alone, for a selection that others take part in."""
        losses, scores, valid, class_scales = map(_tensor, self._host.pixels())
        return Pixels(losses, scores, valid, class_scales, None)

    def backward(self, kept: Kept, cotangent: torch.Tensor | None = None) -> torch.Tensor:
        """Compute the gradient with respect to the logits; `cotangent` is that with respect to the value."""
        numbers = (kept.cut.value, kept.cut.tie_weight, kept.cut.count)
        found = HostKept(kept.scores.numpy(), Cut(*(number.numpy() for number in numbers)), kept.divisor.numpy())
        bits = self._host.backward(found) if cotangent is None else self._host.backward(found, cotangent.numpy())
        return torch.from_numpy(bits.view(np.int16)).view(torch.bfloat16) if bits.dtype == np.uint16 else _tensor(bits)


def host_of(inputs: Inputs, options: Options, *others: torch.Tensor) -> HostCall | None:
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
    return HostCall(Host(Inputs(logits=bits, **arrays), options, torch.get_num_threads()))


def _is_in_host_memory(tensor: torch.Tensor) -> bool:
    return tensor.device.type == "cpu" and has_memory(tensor)


def _numpy(tensor: torch.Tensor) -> np.ndarray:
    tensor = tensor.detach()
    return (tensor.float() if tensor.dtype == torch.bfloat16 else tensor).numpy()


def _tensor(array: Any) -> torch.Tensor:
    """Give the tensor of an array or a number of NumPy, without a copy of an array."""
    return torch.from_numpy(np.asarray(array))
