"""One loss of a batch that is spread over devices: `axis_name` in `shard_map` and `pmap`, and `jit` by itself."""

from textwrap import dedent

import numpy as np
import pytest

import ohemloss
from tests import _processes
from tests._cases import REGIMES, gradient_tolerance, make, make_small, tolerance
from tests._reference import gradient, interpolate, pull_back, reference

pytest.importorskip("jax")

DEVICES = {"XLA_FLAGS": "--xla_force_host_platform_device_count=4", "JAX_PLATFORMS": "cpu"}
SHAPE, N_CLASSES = (8, 6, 7), 8

BEGIN = """
import functools, json, re, warnings
import jax, jax.numpy as jnp, numpy as np
from jax.sharding import AxisType, NamedSharding, PartitionSpec as P
import ohemloss
from ohemloss import MiningRule
from tests._cases import make, make_small
from tests.test_axis_name import N_CLASSES, SHAPE
mesh = jax.make_mesh((4,), ("i",), axis_types=(AxisType.Auto,))

def batch(regime="3% hard"):
    logits, labels = make(regime, shape=SHAPE, n_classes=N_CLASSES, dtype="float32")
    return jnp.asarray(logits, jnp.float32), jnp.asarray(labels, jnp.int32)

def over_batch(function, out, *, typed=True, mesh=mesh, to=P("i")):
    return jax.jit(jax.shard_map(function, mesh=mesh, in_specs=to, out_specs=out, check_vma=typed))

def collectives(function, *arrays):
    "List the shapes that devices exchange, from the compiled program."
    text = function.lower(*arrays).compile().as_text()
    found = re.findall(r"= (\\S+) (all-reduce|all-gather|all-to-all|collective-permute|reduce-scatter)\\(", text)
    return sorted(found)
"""


def ask(code, **environment):
    return _processes.run(BEGIN + dedent(code), **{**DEVICES, **environment})


def expected_of(regime="3% hard", **options):
    logits, labels = make(regime, shape=SHAPE, n_classes=N_CLASSES, dtype="float32")
    base = reference(logits, labels, **options)
    return base, gradient(logits, labels, **options), gradient_tolerance("float32", base)


def test_is_the_loss_of_the_batch(shows):
    """Value, gradient and counts in all regimes; how often the devices count in a derivative, JAX's own rule says."""
    code = f"""
    loss = functools.partial(ohemloss.ohem_cross_entropy, axis_name="i")
    both = functools.partial(ohemloss.value_and_grad, axis_name="i")
    explain = functools.partial(ohemloss.explain, axis_name="i")
    def counts(x, y):
        trace = explain(x, y)
        assert trace.n_devices == 4
        return jnp.stack([trace.n_valid, trace.n_min, trace.n_hard, trace.cut.count])
    ways = {{}}
    for typed in (True, False):
        one = functools.partial(over_batch, typed=typed)
        ways[f"grad, {{typed}}"] = one(jax.value_and_grad(loss), (P(), P("i")))
        ways[f"closed, {{typed}}"] = one(both, (P(), P("i")))
    def outside(x, y):
        return jax.value_and_grad(lambda x: over_batch(loss, P())(x, y))(x)
    ways["outside"] = outside
    def mapped(x, y):
        x, y = (array.reshape(4, 2, *array.shape[1:]) for array in (x, y))
        value, grad = jax.pmap(jax.value_and_grad(loss), axis_name="i")(x, y)
        assert np.all(value == value[0])
        return value[0], grad.reshape(8, *grad.shape[2:])
    ways["pmap"] = mapped
    count = over_batch(counts, P())
    answer = {{}}
    for regime in {list(REGIMES)}:
        found = {{}}
        for name, way in ways.items():
            value, grad = way(*batch(regime))
            found[name] = [float(value), grad.tolist()]
        answer[regime] = [found, count(*batch(regime)).tolist()]
    print(json.dumps(answer))
    """
    for regime, (ways, counts) in ask(code).items():
        base, expected, close = expected_of(regime)
        assert counts == [base.n_valid, base.n_min, base.n_hard, base.count]
        assert len(ways) == 6
        for name, (value, grad) in ways.items():
            np.testing.assert_allclose(value, base.value, **tolerance("float32", "value"))
            # Without types in the map, each device's own copy of the value has a derivative: `pmean` averages it.
            copies = 4 if name in ("grad, False", "pmap") else 1
            shows("JAX", "sharded", np.asarray(grad) / copies, expected, **close)


RULES = [
    "{'thresh': 0.2, 'min_kept': 150, 'weight': tuple(range(8)), 'label_smoothing': 0.1}",
    "{'rule': MiningRule(rank_by='prob', ties='drop'), 'min_kept': 90, 'thresh': 0.01}",
    "{'rule': MiningRule(normaliser=lambda counts: counts.nonzero + counts.images + counts.all)}",
    "{'rule': MiningRule(per_image='mean')}",
    "{'rule': MiningRule(per_image='select', normaliser='images'), 'min_kept': 20}",
    "{'rule': MiningRule(per_image='select'), 'min_kept': 20}",
]


def test_rules():
    """What a rule counts it counts over all devices."""
    code = f"""
    answer = []
    for text in {RULES!r}:
        both = functools.partial(ohemloss.value_and_grad, axis_name="i", **eval(text))
        value, grad = over_batch(both, (P(), P("i")))(*batch())
        answer.append([float(value), grad.tolist()])
    print(json.dumps(answer))
    """
    for text, (value, grad) in zip(RULES, ask(code), strict=True):
        base, expected, close = expected_of(**eval(text, dict(vars(ohemloss))))
        np.testing.assert_allclose(value, base.value, rtol=5e-6, err_msg=text)
        factor = max(1.0, 8 * base.normaliser / base.count if base.count else 1)
        np.testing.assert_allclose(grad, expected, rtol=2e-5, atol=factor * close["atol"], err_msg=text)


def test_what_is_exchanged():
    """A few numbers: 8 rounds of 16 counts for the search; of arrays that `jit` spreads by itself scalars alone."""
    code = """
    loss = functools.partial(ohemloss.ohem_cross_entropy, axis_name="i")
    x, y = batch()
    mapped = collectives(over_batch(loss, P()), x, y)
    mapped_both = collectives(over_batch(jax.value_and_grad(loss), (P(), P("i"))), x, y)
    place = NamedSharding(mesh, P("i"))
    x, y = jax.device_put(x, place), jax.device_put(y, place)
    assert (ohemloss.explain(x, y).n_devices, ohemloss.explain(*batch()).n_devices) == (4, 1)
    by_itself = collectives(jax.jit(jax.value_and_grad(ohemloss.ohem_cross_entropy)), x, y)
    print(json.dumps([mapped, mapped_both, by_itself]))
    """
    mapped, mapped_both, by_itself = ask(code)
    assert [kind for _, kind in mapped] == ["all-reduce"] * 11
    shapes = sorted(shape.partition("{")[0] for shape, _ in mapped)
    assert shapes == ["f32[]", *["s32[16]"] * 8, "s32[2]", "s32[5]"]
    assert mapped_both == mapped
    assert by_itself
    for shape, kind in by_itself:
        assert kind == "all-reduce"
        sizes = [int(n) for part in shape.strip("()").split("[")[1:] for n in part.split("]")[0].split(",") if n]
        assert max(sizes, default=1) <= 16, f"{shape}: more than a few numbers"


def test_only_where_it_is_mapped():
    import jax

    x, y = jax.numpy.zeros((3, 1, 2)), jax.numpy.zeros((3, 1), int)
    loss = ohemloss.OhemCELoss(axis_name="i")
    np.testing.assert_allclose(jax.vmap(loss, axis_name="i")(x, y), np.log(2), rtol=1e-6)
    for wrong in ("j", ("i", "j")):
        with pytest.raises(ValueError, match="`axis_name` must name axes") as caught:
            jax.vmap(ohemloss.OhemCELoss(axis_name=wrong), axis_name="i")(x, y)
        expected = "axes that `jax.shard_map`, `jax.pmap` or `jax.vmap` has mapped here"
        assert str(caught.value) == f"`axis_name` must name {expected}: got {wrong!r}."


def test_two_axes_and_a_lower_resolution():
    """A tuple of names, as of a mesh of data and height; and logits that are resized, spread over the batch."""
    code = """
    plane = jax.make_mesh((2, 2), ("data", "height"), axis_types=(AxisType.Auto,) * 2)
    both = functools.partial(ohemloss.value_and_grad, axis_name=("data", "height"))
    x, y = batch()
    shard = jax.shard_map(both, mesh=plane, in_specs=(P("data", None, "height"), P("data", "height")),
                          out_specs=(P(), P("data", None, "height")))
    value, grad = jax.jit(shard)(x, y)
    small, pixels = make_small("3% hard", (4, 5, 3, 4))
    resized = functools.partial(ohemloss.value_and_grad, axis_name="i", resize="bilinear")
    small, pixels = jnp.asarray(small, jnp.float32), jnp.asarray(pixels, jnp.int32)
    small_value, small_grad = over_batch(resized, (P(), P("i")))(small, pixels)
    print(json.dumps([float(value), grad.tolist(), float(small_value), small_grad.tolist()]))
    """
    value, grad, small_value, small_grad = ask(code)
    base, expected, close = expected_of()
    np.testing.assert_allclose(value, base.value, **tolerance("float32", "value"))
    np.testing.assert_allclose(grad, expected, **close)
    small, pixels = make_small("3% hard", (4, 5, 3, 4))
    enlarged = interpolate(small, pixels.shape[1:])
    np.testing.assert_allclose(small_value, reference(enlarged, pixels).value, **tolerance("float32", "value"))
    expected = pull_back(gradient(enlarged, pixels), small.shape[2:])
    np.testing.assert_allclose(small_grad, expected, rtol=1e-5, atol=1e-7)


def test_two_processes(tmp_path):
    """Arrays of which each process has a part, by `jax.distributed`."""
    code = """
    import json, os, jax, jax.numpy as jnp, numpy as np
    from jax.sharding import AxisType, NamedSharding, PartitionSpec as P
    import ohemloss
    from tests import _processes
    from tests._cases import make
    from tests.test_axis_name import N_CLASSES, SHAPE
    jax.config.update("jax_cpu_collectives_implementation", "gloo")
    rank = int(os.environ["RANK"])
    seconds = dict.fromkeys(
        ("initialization_timeout", "heartbeat_timeout_seconds", "shutdown_timeout_seconds"), _processes.GUARD
    )
    jax.distributed.initialize(os.environ["ADDRESS"], 2, rank, **seconds)
    mesh = jax.make_mesh((2,), ("i",), axis_types=(AxisType.Auto,))
    logits, labels = make("3% hard", shape=SHAPE, n_classes=N_CLASSES, dtype="float32")
    mine, place = slice(4 * rank, 4 * rank + 4), NamedSharding(mesh, P("i"))
    x = jax.make_array_from_process_local_data(place, logits[mine].astype(np.float32))
    y = jax.make_array_from_process_local_data(place, labels[mine].astype(np.int32))
    value, grad = jax.jit(jax.value_and_grad(ohemloss.ohem_cross_entropy))(x, y)
    mapped = jax.jit(jax.shard_map(lambda x, y: ohemloss.ohem_cross_entropy(x, y, axis_name="i"), mesh=mesh,
                                   in_specs=P("i"), out_specs=P()))(x, y)
    here = np.concatenate([np.asarray(part.data) for part in grad.addressable_shards])
    print(json.dumps([float(value), float(mapped), here.tolist()]))
    """
    value, mapped, grad = _processes.run_together(code, 2)
    base, expected, close = expected_of()
    np.testing.assert_allclose([value, mapped], base.value, **tolerance("float32", "value"))
    np.testing.assert_allclose(grad, expected[:4], **close)
