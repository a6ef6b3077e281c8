"""The sum over the processes that a batch is spread over."""

from dataclasses import dataclass
from typing import Any

import torch
import torch.distributed as dist


@dataclass(frozen=True)
class Group:
    """
    A process group, as what adds up a few numbers that each process has.

    The derivative is the one that processes which average their gradients expect: the value is the same everywhere, and
    each process differentiates its own copy, so that the derivative here is that of the sum of all copies.
    """

    group: Any

    def __call__(self, x: torch.Tensor) -> torch.Tensor:
        """Add up."""
        found: torch.Tensor = _Join.apply(x, self.group)
        return found

    @property
    def size(self) -> int:
        """The number of processes."""
        return int(dist.get_world_size(self.group))


class _Join(torch.autograd.Function):
    @staticmethod
    def forward(x: torch.Tensor, group: Any) -> torch.Tensor:
        return add_up(x, group)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: torch.Tensor) -> None:
        ctx.size = dist.get_world_size(inputs[1])

    @staticmethod
    def backward(ctx: Any, cotangent: torch.Tensor) -> tuple[torch.Tensor, None]:
        # Not summed over the processes: who does not go back must not make the others wait.
        return cotangent * ctx.size, None


def add_up(x: torch.Tensor, group: Any) -> torch.Tensor:
    """Add up, without a derivative; of distributed tensors what they stand for, which each of their places has."""
    mesh = getattr(x, "device_mesh", None)
    here = x if mesh is None else x.full_tensor()
    found = here.detach().clone(memory_format=torch.contiguous_format)
    dist.all_reduce(found, group=group)
    if mesh is None:
        return found
    from torch.distributed.tensor import DTensor, Replicate

    return DTensor.from_local(found, mesh, [Replicate()] * mesh.ndim, run_check=False)


def group_of(value: Any) -> Group:
    """Take a process group or a device mesh of one dimension; refuse anything else."""
    if not dist.is_available() or not dist.is_initialized():
        msg = f"`process_group` needs `torch.distributed.init_process_group` to be called first: got {value!r}."
        raise ValueError(msg)
    if isinstance(value, dist.ProcessGroup):
        return Group(value)
    if isinstance(value, dist.DeviceMesh):
        if value.ndim != 1:
            msg = (
                "`process_group` must be a process group or a device mesh of one dimension: "
                f"got a mesh of {value.ndim} with the names {value.mesh_dim_names}. Pass one of them, `mesh['name']`."
            )
            raise ValueError(msg)
        return Group(value.get_group())
    msg = f"`process_group` must be a process group or a device mesh of one dimension: got {value!r}."
    raise TypeError(msg)
