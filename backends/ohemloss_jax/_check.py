"""What `ohemloss check` asks of JAX."""

from importlib import metadata
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

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
    """List the devices of the default platform, the CPU, and if there are several of a default platform all of them."""
    devices = {device: None for platform in (None, "cpu") for device in jax.devices(platform)}
    found = [
        # What it calls a model is the name of the platform on a CPU.
        Place(device=device, label=str(device), model="" if device.platform == "cpu" else device.device_kind)
        for device in sorted(devices, key=lambda device: (device.platform != "cpu", device.platform, device.id))
    ]
    together = jax.devices()
    if len(together) > 1:
        platform, kind = together[0].platform, together[0].device_kind
        model = "" if platform == "cpu" else kind
        label = f"all {platform}"
        found.append(Place(device=None, label=label, model=model, n_devices=len(together), spread=_spread))
    return found


def _spread(array: jax.Array) -> jax.Array:
    """Cut the first axis that can be cut evenly, and give each device a part; an array without one goes to all."""
    devices = jax.devices()
    mesh = Mesh(np.asarray(devices), ("devices",))
    axis = next((i for i, n in enumerate(array.shape) if n and n % len(devices) == 0), array.ndim)
    names = [None] * axis + ["devices"] if axis < array.ndim else []
    spread: jax.Array = jax.device_put(array, NamedSharding(mesh, PartitionSpec(*names)))
    return spread


def _clients() -> dict[str, Any]:
    return {place.device.platform: place.device.client for place in places() if place.spread is None}


def differentiated(loss: Loss) -> LossAndGradient:
    """Differentiate by `jax.value_and_grad`."""
    run: LossAndGradient = jax.value_and_grad(loss)
    return run


def compiled(loss: Loss) -> LossAndGradient:
    """Compile value and gradient to one program."""
    run: LossAndGradient = jax.jit(jax.value_and_grad(loss))
    return run


PROBE = Probe(versions=versions, places=places, differentiated=differentiated, compiled=compiled)
