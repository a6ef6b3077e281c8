"""A batch that is spread over devices: one loss of the whole, or one of each part."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import NamedSharding, PartitionSpec

import ohemloss

n = len(jax.devices())
mesh = jax.make_mesh((n,), ("batch",), axis_types=(jax.sharding.AxisType.Auto,))
over_batch = NamedSharding(mesh, PartitionSpec("batch"))

key = jax.random.key(0)
logits = jax.random.normal(key, (8, 5, 16, 16)) * jnp.arange(8)[:, None, None, None]
labels = jax.random.randint(key, (8, 16, 16), 0, 5)
criterion = ohemloss.OhemCELoss(thresh=0.01, min_kept=0.25)

# Nothing changes but where the arrays lie.
loss_and_gradient = jax.jit(jax.value_and_grad(criterion))
value, gradient = loss_and_gradient(jax.device_put(logits, over_batch), jax.device_put(labels, over_batch))


@jax.jit
@functools.partial(jax.shard_map, mesh=mesh, in_specs=PartitionSpec("batch"), out_specs=PartitionSpec("batch"))
def losses_of_parts(logits, labels):
    return criterion(logits, labels)[None]


# The same where a function is mapped over the devices: `axis_name` says over what.
whole = ohemloss.OhemCELoss(thresh=0.01, min_kept=0.25, axis_name="batch")
mapped = jax.jit(jax.shard_map(whole, mesh=mesh, in_specs=PartitionSpec("batch"), out_specs=PartitionSpec()))

expected = criterion(np.asarray(logits), np.asarray(labels))  # by NumPy
parts = losses_of_parts(logits, labels)
print("devices:", n)
print("loss of the sharded batch = loss of the whole batch:", bool(jnp.allclose(value, expected)))
print("the gradient is sharded as the logits are:", gradient.sharding.is_equivalent_to(over_batch, logits.ndim))
of_all = bool(jnp.allclose(mapped(logits, labels), expected))
print("loss with axis_name = loss of the whole batch:", of_all)
differs = not jnp.allclose(jnp.mean(parts), expected)
print(f"each device by itself: {len(parts)} losses, their mean is another:", differs)
