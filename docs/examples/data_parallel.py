"""Two processes: each mines its own part of the batch, or both together mine the whole."""

import tempfile

import torch
import torch.distributed as dist
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.tensor import Shard, distribute_tensor
from torch.nn.parallel import DistributedDataParallel

import ohemloss
from ohemloss_torch import OhemCELoss

N_PROCESSES = 2


def make_batch():
    torch.manual_seed(0)
    images, labels = torch.rand(4, 3, 16, 16), torch.randint(0, 5, (4, 16, 16))
    images[2:] = 0.1 * images[2:]  # the second half is of another kind
    return torch.nn.Conv2d(3, 5, 3, padding=1), images, labels


def part(rank, tensor):
    return tensor.chunk(N_PROCESSES)[rank]


def run(rank, folder):
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder}/store", rank=rank, world_size=N_PROCESSES)
    model, images, labels = make_batch()
    criterion = OhemCELoss(thresh=0.2, min_kept=1 / 16)

    # A loop as it always is. The gradients of the processes are averaged in `backward`.
    parallel = DistributedDataParallel(model)
    own = criterion(parallel(part(rank, images)), part(rank, labels))
    own.backward()
    averaged = model.weight.grad.clone()

    # What that is: computed here without the other process.
    losses = [criterion(model(part(r, images)), part(r, labels)) for r in range(N_PROCESSES)]
    (expected,) = torch.autograd.grad(sum(losses) / N_PROCESSES, model.weight)

    # One loss of the whole batch: all processes select together, and nothing else changes.
    model.zero_grad()
    together = OhemCELoss(thresh=0.2, min_kept=1 / 16, process_group=dist.group.WORLD)
    of_all = together(parallel(part(rank, images)), part(rank, labels))
    of_all.backward()
    averaged_of_all = model.weight.grad.clone()

    # What that is: computed here without the other process.
    one = criterion(model(images), labels)
    (gradient_of_one,) = torch.autograd.grad(one, model.weight)

    # The same from distributed tensors: each process has a part of the logits.
    logits = model(images).detach()
    mesh = init_device_mesh("cpu", (N_PROCESSES,))
    sharded = [distribute_tensor(tensor, mesh, [Shard(0)]) for tensor in (logits, labels)]
    whole = ohemloss.ohem_cross_entropy(*sharded, thresh=0.2, min_kept=1 / 16).full_tensor()

    if rank == 0:
        same = torch.allclose(averaged, expected, rtol=1e-5)
        print("gradient of DistributedDataParallel = mean of the gradients of the parts:", same)
        print("loss with process_group = loss of the whole batch:", torch.allclose(of_all, one))
        print("its averaged gradient = gradient of that:", torch.allclose(averaged_of_all, gradient_of_one, rtol=1e-5))
        print("loss of distributed tensors = loss of the whole batch:", torch.allclose(whole, one))
        print(f"mean of the losses of the parts: {sum(losses) / N_PROCESSES:.4f}, loss of the batch: {one:.4f}")
    dist.destroy_process_group()


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as folder:
        torch.multiprocessing.spawn(run, args=(folder,), nprocs=N_PROCESSES)
