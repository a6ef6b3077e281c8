"""What `ohemloss check` asks of PyTorch."""

from importlib import metadata
from typing import Any

import torch

from ohemloss._probe import Loss, LossAndGradient, Place, Probe


def versions() -> dict[str, str]:
    """Name what the numbers may depend on."""
    found: dict[str, Any] = {
        "PyTorch": torch.__version__,
        "instructions of the CPU": torch.backends.cpu.get_cpu_capability(),
        "threads": torch.get_num_threads(),
        "CUDA": torch.version.cuda,
        "HIP": torch.version.hip,
        "Triton": _version_of("triton"),
    }
    return {name: str(version) for name, version in found.items() if version is not None}


def places() -> list[Place]:
    """List the CPU, and the devices of the accelerator that this PyTorch was built for, if there are any."""
    found = [Place(device=torch.device("cpu"), label="cpu")]
    kind = torch.accelerator.current_accelerator()
    if kind is None or not torch.accelerator.is_available():
        return found
    devices = [torch.device(kind.type, i) for i in range(torch.accelerator.device_count())]
    return found + [Place(device=device, label=str(device), model=_model(device)) for device in devices]


def _model(device: torch.device) -> str:
    named = getattr(torch.get_device_module(device), "get_device_name", None)
    return device.type if named is None else str(named(device))


def _version_of(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def differentiated(loss: Loss) -> LossAndGradient:
    """Differentiate by autograd."""

    def run(logits: torch.Tensor, *others: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        variable = logits.detach().requires_grad_()
        value = loss(variable, *others)
        (gradient,) = torch.autograd.grad(value, variable)
        return value.detach(), gradient

    return run


def compiled(loss: Loss) -> LossAndGradient:
    """Compile the whole, and differentiate what was compiled."""
    torch.compiler.reset()  # the programs for other devices and dtypes count against a limit
    return differentiated(torch.compile(loss, fullgraph=True))


PROBE = Probe(versions=versions, places=places, differentiated=differentiated, compiled=compiled)
