"""Which tensors hold values in memory of their own, where others than PyTorch may read them."""

import torch


def has_memory(tensor: torch.Tensor) -> bool:
    """Tell whether the values of a tensor lie in the memory of its device, which is a CPU or speaks CUDA."""
    # By its keys: a cotangent of `is_grads_batched` looks like any tensor, and has none of its own memory.
    keys, key = torch._C._dispatch_keys(tensor), torch._C.DispatchKey
    here = keys.has(key.CPU if tensor.device.type == "cpu" else key.CUDA)
    # Nor has one that stands for others, or for zeros.
    stands_for = torch._C._functorch.is_functorch_wrapped_tensor(tensor) or tensor._is_zerotensor()
    return bool(here and not stands_for and tensor.layout == torch.strided and not tensor.is_neg())
