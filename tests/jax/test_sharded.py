"""One loss of a batch that is spread over devices: `axis_name` in `shard_map` and `pmap`, and `jit` by itself."""

from textwrap import dedent

import jax
import numpy as np
import pytest

import ohemloss
from tests import _processes
from tests._cases import REGIMES, make, make_small
from tests.conformance._check import assert_both, assert_images, case_of, images_of

SHAPE, N_CLASSES = (8, 6, 7), 8
SMALL = (4, 3, 3, 4), (12, 15)
FOUR_DEVICES = {
    # Code that is not optimised is compiled in half the time; what devices exchange is decided before.
    "XLA_FLAGS": "--xla_force_host_platform_device_count=4 --xla_backend_optimization_level=0",
    "JAX_PLATFORMS": "cpu",
}

BEGIN = """
import functools, json, os, re
import jax, jax.numpy as jnp, numpy as np
from jax.sharding import AxisType, NamedSharding, PartitionSpec as P
import ohemloss
from ohemloss import MiningRule
from ohemloss_jax import _resized
from tests import _processes
from tests.jax.test_sharded import batch_of, small
_resized._ON_CPU = 200

def mesh_of(*sizes, names="i"):
    return jax.make_mesh(sizes, tuple(names), axis_types=(AxisType.Auto,) * len(sizes))

def arrays_of(batch):
    return tuple(jnp.asarray(array) for array in batch)

def batch(regime="3% hard"):
    return arrays_of(batch_of(regime))

def over_batch(function, out, *, typed=True, mesh=None, to=P("i")):
    return jax.jit(jax.shard_map(function, mesh=mesh or mesh_of(4), in_specs=to, out_specs=out, check_vma=typed))

def collectives(function, *arrays):
    "List the shapes that devices exchange, from the compiled program."
    text = function.lower(*arrays).compile().as_text()
    found = re.findall(r"= (\\S+) (all-reduce|all-gather|all-to-all|collective-permute|reduce-scatter)\\(", text)
    return sorted(found)

def plain(answer):
    return jax.tree.map(lambda array: np.asarray(array).tolist(), answer)

grad = jax.value_and_grad(ohemloss.ohem_cross_entropy)
loss = functools.partial(ohemloss.ohem_cross_entropy, axis_name="i")
both = functools.partial(ohemloss.value_and_grad, axis_name="i")
answer = {}
"""


def batch_of(regime="3% hard"):
    """Make logits that float32 holds."""
    return make(regime, shape=SHAPE, n_classes=N_CLASSES, dtype="float32")


def small():
    """Make logits of a lower resolution."""
    return make_small("3% hard", *SMALL)


def ask(code):
    """Run code with four devices; return what it left in `answer`."""
    return _processes.run(BEGIN + dedent(code) + "\nprint(json.dumps(plain(answer)))", **FOUR_DEVICES)


def assert_few_numbers(exchanged, n):
    """Compare what devices exchange: sums, of at most `n` numbers."""
    assert exchanged
    for shape, kind in exchanged:
        assert kind == "all-reduce"
        sizes = [int(n) for part in shape.strip("()").split("[")[1:] for n in part.split("]")[0].split(",") if n]
        assert max(sizes, default=1) <= n, f"{shape}: more than a few numbers"


def test_by_itself(shows):
    """Spread over the batch, the height, or the classes, the gradient stays where the logits are; also resized."""
    code = """
    jax.config.update("jax_enable_x64", True)
    places = {"batch": (P("i"), P("i")), "height": (P(None, None, "i"), P()), "classes": (P(None, "i"), P())}
    closed = jax.jit(ohemloss.value_and_grad)
    mesh = mesh_of(4)
    there = NamedSharding(mesh, P("i"))
    x, y = batch()
    x = jnp.concatenate([x, x[:, :, :2]], axis=2)  # eight rows, to cut them in four
    y = jnp.concatenate([y, jnp.full_like(y[:, :2], 255)], axis=1)
    for name, way in {"batch": jax.jit(grad), "batch, eager": grad, "height": jax.jit(grad), "classes": closed}.items():
        in_x, in_y = (NamedSharding(mesh, spec) for spec in places[name.partition(",")[0]])
        value, gradient = way(jax.device_put(x, in_x), jax.device_put(y, in_y))
        assert len(gradient.devices()) == 4
        answer[name] = value, gradient[:, :, :6]
    spread = jax.device_put(x, there), jax.device_put(y, there)
    assert (ohemloss.explain(*spread).n_devices, ohemloss.explain(x, y).n_devices) == (4, 1)
    exchanged = collectives(jax.jit(grad), *spread)

    resized = jax.value_and_grad(functools.partial(ohemloss.ohem_cross_entropy, resize="bilinear"))
    x, y = (jax.device_put(array, there) for array in arrays_of(small()))
    answer["resized"] = jax.jit(resized)(x, y)
    assert len(answer["resized"][1].devices()) == 4
    exchanged_resized = collectives(jax.jit(resized), x, y)
    wide = jax.ShapeDtypeStruct((8, 32, 32, 32), "float32", sharding=there)
    labels = jax.ShapeDtypeStruct((8, 256, 256), "int32", sharding=there)
    held = jax.jit(resized).lower(wide, labels).compile().memory_analysis().temp_size_in_bytes

    a, b = jax.devices()[:2]
    x, zeros = jax.device_put(jnp.zeros((2, 3)), b), jnp.zeros(2, dtype="int32")
    try:
        ohemloss.ohem_cross_entropy(x, jax.device_put(zeros, a))
    except ValueError as error:
        message = str(error)
    # Labels that are not committed follow.
    assert ohemloss.ohem_cross_entropy(x, zeros).devices() == {b}
    assert ohemloss.explain(x, zeros).pixel_loss.devices() == {b}
    answer = answer, held, exchanged, exchanged_resized, message
    """
    ways, held, exchanged, exchanged_resized, message = ask(code)
    assert_both(case_of(small(), resize="bilinear"), *ways.pop("resized"))
    case = case_of(batch_of())
    assert len(ways) == 4
    for value, gradient in ways.values():
        assert_both(case, value, gradient)
        shows("JAX", "sharded", gradient, case.expected.gradient, **case.gradient_tolerance("float64"))
    assert held < 2 * 256 * 256 * 50  # where the resized logits would be 128 bytes a pixel
    assert_few_numbers(exchanged, 16)
    assert_few_numbers(exchanged_resized, 16)
    assert message == (
        "`labels` must be on the device of `logits`: got logits on cpu:1 and labels on cpu:0. Move one of them."
    )


RULES = [
    "{'thresh': 0.2, 'min_kept': 150, 'weight': tuple(range(8)), 'label_smoothing': 0.1}",
    "{'rule': MiningRule(rank_by='prob', ties='drop'), 'min_kept': 90, 'thresh': 0.01}",
    "{'rule': MiningRule(normaliser=lambda counts: counts.nonzero + counts.images + counts.all)}",
    "{'rule': MiningRule(per_image='mean')}",
    "{'rule': MiningRule(per_image='select', normaliser='images'), 'min_kept': 20}",
]


def test_by_axis_name(shows):
    """Value, gradient and counts in all regimes; how often the devices count in a derivative, JAX's own rule says."""
    code = f"""
    def counts(x, y):
        trace = ohemloss.explain(x, y, axis_name="i")
        assert trace.n_devices == 4
        return jnp.stack([trace.n_valid, trace.n_min, trace.n_hard, trace.cut.count])
    def mapped(x, y):
        x, y = (array.reshape(4, 2, *array.shape[1:]) for array in (x, y))
        value, gradient = jax.pmap(jax.value_and_grad(loss), axis_name="i")(x, y)
        assert np.all(value == value[0])
        return value[0], gradient.reshape(8, *gradient.shape[2:])
    def ways(x, y):
        return {{"grad": jax.value_and_grad(loss)(x, y), "closed": both(x, y)}}
    pair = P(), P("i")
    out = {{"grad": pair, "closed": pair}}
    typed = over_batch(lambda x, y: (ways(x, y), counts(x, y)), (out, P()))
    untyped = over_batch(ways, out, typed=False)
    outside = jax.jit(lambda x, y: jax.value_and_grad(lambda x: over_batch(loss, P())(x, y))(x))
    for regime in {list(REGIMES)}:
        arrays = batch(regime)
        found, counted = typed(*arrays)
        found |= {{f"{{name}}, untyped": each for name, each in untyped(*arrays).items()}}
        answer[regime] = found | {{"outside": outside(*arrays), "pmap": mapped(*arrays)}}, counted
    """
    for regime, (ways, counts) in ask(code).items():
        case = case_of(batch_of(regime))
        base = case.expected.steps
        assert counts == [base.n_valid, base.n_min, base.n_hard, base.count]
        assert len(ways) == 6
        for name, (value, gradient) in ways.items():
            # Without types in the map, each device's own copy of the value has a derivative: `pmean` averages it.
            gradient = np.asarray(gradient) / (4 if name in ("grad, untyped", "pmap") else 1)
            assert_both(case, value, gradient, "float32")
            shows("JAX", "sharded", gradient, case.expected.gradient, **case.gradient_tolerance("float32"))


def test_options_by_axis_name():
    """What a rule counts it counts over all devices; also over two axes, and of logits that are resized."""
    code = f"""
    pair = P(), P("i")
    for text in {RULES!r}:
        answer[text] = over_batch(functools.partial(both, **eval(text)), pair)(*batch())
    to = P("data", None, "height"), P("data", "height")
    over_plane = functools.partial(ohemloss.value_and_grad, axis_name=("data", "height"))
    plane = mesh_of(2, 2, names=("data", "height"))
    answer["plane"] = over_batch(over_plane, (P(), to[0]), mesh=plane, to=to)(*batch())
    answer["resized"] = over_batch(functools.partial(both, resize="bilinear"), pair)(*arrays_of(small()))
    """
    answer = ask(code)
    assert_both(case_of(batch_of()), *answer["plane"], "float32")
    assert_both(case_of(small(), resize="bilinear"), *answer["resized"], "float32")
    for text in RULES:
        value, gradient = answer[text]
        case = case_of(batch_of(), **eval(text, dict(vars(ohemloss))))
        base, close = case.expected, case.gradient_tolerance("float32")
        np.testing.assert_allclose(value, base.value, rtol=5e-6, err_msg=text)
        factor = max(1.0, 8 * base.steps.normaliser / base.steps.count if base.steps.count else 1)
        np.testing.assert_allclose(gradient, base.gradient, rtol=2e-5, atol=factor * close["atol"], err_msg=text)


def test_each_device_mines_its_shard_and_what_is_exchanged():
    """Without `axis_name` nothing is; with it a few numbers: 8 rounds of 16 counts for the search."""
    code = """
    one, pair = P("i"), (P(), P("i"))
    def mined(x, y, small, labels):
        values = grad(x, y), ohemloss.value_and_grad(x, y)
        resized = jax.grad(functools.partial(ohemloss.ohem_cross_entropy, resize="bilinear"))(small, labels)
        return [(value[None], gradient) for value, gradient in values], resized
    x, y = batch()
    arrays = x[::2], y[::2], *arrays_of(small())
    shards = over_batch(mined, one)
    answer["shards"], answer["resized"] = shards(*arrays)
    mean = over_batch(lambda x, y: jax.lax.pmean(ohemloss.ohem_cross_entropy(x, y), "i"), P())
    answer["mean"] = jax.jit(jax.grad(mean))(*arrays[:2])
    answer["exchanged"] = [
        collectives(shards, *arrays),
        collectives(over_batch(loss, P()), x, y),
        collectives(over_batch(jax.value_and_grad(loss), pair), x, y),
    ]
    """
    answer = ask(code)
    logits, labels = batch_of()
    cases = images_of((logits[::2], labels[::2]))
    for values, gradients in answer["shards"]:
        assert_images(cases, values, np.asarray(gradients), "float32")
    assert_images(cases, [case.expected.value for case in cases], 4 * np.asarray(answer["mean"]), "float32")
    for i, case in enumerate(images_of(small(), resize="bilinear")):
        assert_both(case, case.expected.value, answer["resized"][i : i + 1], "float32")
    nothing, mapped, mapped_both = answer["exchanged"]
    assert nothing == []
    assert [kind for _, kind in mapped] == ["all-reduce"] * 11
    shapes = sorted(shape.partition("{")[0] for shape, _ in mapped)
    assert shapes == ["f32[]", *["s32[16]"] * 8, "s32[2]", "s32[5]"]
    assert mapped_both == mapped


def test_only_where_it_is_mapped():
    x, y = jax.numpy.zeros((3, 1, 2)), jax.numpy.zeros((3, 1), int)
    loss = ohemloss.OhemCELoss(axis_name="i")
    np.testing.assert_allclose(jax.vmap(loss, axis_name="i")(x, y), np.log(2), rtol=1e-6)
    for wrong in ("j", ("i", "j")):
        with pytest.raises(ValueError, match="`axis_name` must name axes") as caught:
            jax.vmap(ohemloss.OhemCELoss(axis_name=wrong), axis_name="i")(x, y)
        expected = "axes that `jax.shard_map`, `jax.pmap` or `jax.vmap` has mapped here"
        assert str(caught.value) == f"`axis_name` must name {expected}: got {wrong!r}."


def test_two_processes():
    """Arrays of which each process has a part, by `jax.distributed`."""
    code = """
    jax.config.update("jax_cpu_collectives_implementation", "gloo")
    rank = int(os.environ["RANK"])
    waits = ("initialization_timeout", "heartbeat_timeout_seconds", "shutdown_timeout_seconds")
    jax.distributed.initialize(os.environ["ADDRESS"], 2, rank, **dict.fromkeys(waits, _processes.GUARD))
    mesh, mine = mesh_of(2), slice(4 * rank, 4 * rank + 4)
    x, y = (
        jax.make_array_from_process_local_data(NamedSharding(mesh, P("i")), np.asarray(array)[mine].astype(dtype))
        for array, dtype in zip(batch_of(), ("float32", "int32"))
    )
    value, gradient = jax.jit(grad)(x, y)
    mapped = over_batch(loss, P(), mesh=mesh)(x, y)
    part = np.concatenate([np.asarray(part.data) for part in gradient.addressable_shards])
    print(json.dumps([float(value), float(mapped), part.tolist()]))
    """
    value, mapped, part = _processes.run_together(BEGIN + dedent(code), 2)
    case = case_of(batch_of())
    np.testing.assert_allclose([value, mapped], case.expected.value, **case.value_tolerance("float32"))
    np.testing.assert_allclose(part, case.expected.gradient[:4], **case.gradient_tolerance("float32"))
