"""What `ohemloss check` asks of JAX."""

from importlib import metadata
from typing import Any

import jax

from ohemloss._probe import Loss, LossAndGradient, Place, Probe


def versions() -> dict[str, str]:
    """Name what the numbers may depend on."""
    found = {"JAX": jax.__version__, "jaxlib": metadata.version("jaxlib")}
    for name, client in _clients().items():
        # Of a CPU it is no more than the name.
        version = " ".join(client.platform_version.split())
        found |= {f"platform {name}": version} if version != name else {}
    return found


def places() -> list[Place]:
    """List the devices of the default platform, and the CPU."""
    devices = {device: None for platform in (None, "cpu") for device in jax.devices(platform)}
    return [
        # What it calls a model is the name of the platform on a CPU.
        Place(device=device, label=str(device), model="" if device.platform == "cpu" else device.device_kind)
        for device in sorted(devices, key=lambda device: (device.platform != "cpu", device.platform, device.id))
    ]


def _clients() -> dict[str, Any]:
    return {place.device.platform: place.device.client for place in places()}


def differentiated(loss: Loss) -> LossAndGradient:
    """Differentiate by `jax.value_and_grad`."""
    run: LossAndGradient = jax.value_and_grad(loss)
    return run


def compiled(loss: Loss) -> LossAndGradient:
    """Compile value and gradient to one program."""
    run: LossAndGradient = jax.jit(jax.value_and_grad(loss))
    return run


PROBE = Probe(versions=versions, places=places, differentiated=differentiated, compiled=compiled)
