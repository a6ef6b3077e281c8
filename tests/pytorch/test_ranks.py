"""One loss of a batch that is spread over processes: `process_group`, on gloo."""

from textwrap import dedent

import numpy as np
import pytest

from tests._cases import REGIMES, make, make_small
from tests._ranks import Ranks, ranks
from tests.conformance._check import assert_both, case_of
from tests.test_recipes import SOFTMAX, compare

torch = pytest.importorskip("torch")
ohemloss_torch = pytest.importorskip("ohemloss_torch")
# One process of the tests holds the groups.
pytestmark = pytest.mark.xdist_group("ranks")

SHAPE, N_CLASSES = (5, 12, 14), 8
# How the five images lie on the processes: unevenly, and one of them has none.
CUTS = {2: [0, 4, 5], 4: [0, 0, 3, 4, 5]}
# Images that two, or four, processes have the same number of.
EVEN = {"shape": (4, 6, 7), "n_classes": 8}

# What each piece of code begins with.
BEGIN = """
from ohemloss import MiningRule
from ohemloss_torch import OhemCELoss
from tests._cases import make, make_small
from tests.pytorch.test_ranks import CUTS, EVEN, N_CLASSES, SHAPE
cuts = CUTS[n_ranks]
mine = slice(cuts[rank], cuts[rank + 1])
logits, labels = make("3% hard", shape=SHAPE, n_classes=N_CLASSES)
"""


def ask(code, n_ranks):
    """Run code in each process; return the `answer` of each."""
    return ranks(n_ranks).ask(BEGIN + dedent(code))


def of_all(regime="3% hard", dtype="float64", **options):
    """Make the case of the whole batch."""
    return case_of(make(regime, shape=SHAPE, n_classes=N_CLASSES, dtype=dtype), **options)


def joined(parts, case):
    """Put the gradients of the processes together."""
    return np.concatenate([np.reshape(part, (-1, *case.logits.shape[1:])) for part in parts])


def test_exchanges_and_counts(shows):
    """Four processes: each exchanges the same, and counts the same, by the node and by the composite."""
    code = f"""
    answer = {{}}
    for regime in {list(REGIMES)}:
        logits, labels = make(regime, shape=SHAPE, n_classes=N_CLASSES)
        for dtype in ("float32", "float64", "bfloat16"):
            x = torch.tensor(logits[mine]).to(getattr(torch, dtype)).requires_grad_()
            y = torch.tensor(labels[mine])
            exchanges.clear()
            loss = OhemCELoss(process_group=group)(x, y)
            n_forward = list(exchanges)
            loss.backward()
            assert exchanges == n_forward, "no process waits for another one in the backward pass"
            value, closed = ohemloss.value_and_grad(x.detach(), y, process_group=group)
            alone = ohemloss.ohem_cross_entropy(x.detach(), y, process_group=group)
            assert value == loss and alone == loss
            # The composite, differentiated by its operations.
            weight = torch.ones(N_CLASSES, requires_grad=True)
            again = ohemloss.ohem_cross_entropy(x, y, weight=weight, process_group=group)
            assert again.grad_fn.name() != loss.grad_fn.name()
            slope, = torch.autograd.grad(again, x)
            trace = ohemloss.explain(x.detach(), y, process_group=group)
            torch.testing.assert_close(trace.value, loss.detach())
            assert trace.n_devices == n_ranks
            counts = [int(n) for n in (trace.n_valid, trace.n_min, trace.n_hard, trace.cut.count)]
            grads = [grad.double().tolist() for grad in (x.grad, slope, closed)]
            answer[f"{{regime}}, {{dtype}}"] = [[loss.item().hex(), again.item().hex(), counts, n_forward], *grads]
    """
    answers = ask(code, 4)
    assert len(answers[0]) == 9
    for name, (same, *_) in answers[0].items():
        regime, dtype = name.split(", ")
        assert all(answer[name][0] == same for answer in answers), "other exchanges are a deadlock"
        bits, again, counts, n_forward = same
        case = of_all(regime, dtype)
        steps = case.expected.steps
        assert counts == [steps.n_valid, steps.n_min, steps.n_hard, steps.count]
        # The derivative of the sum of what all processes return, which those that average expect.
        for number, value, copies in ((1, bits, 4), (2, again, 4), (3, bits, 1)):
            found = joined([answer[name][number] for answer in answers], case) / copies
            assert_both(case, float.fromhex(value), found, dtype)
            shows("PyTorch", "sharded", found, case.expected.gradient, **case.gradient_tolerance(dtype))
        n_digits = 0 if steps.n_hard >= steps.n_min else 8 if dtype == "float64" else 4
        wide = "torch.float64" if dtype == "float64" else "torch.float32"
        digits = [[[256], "torch.int64"]] * n_digits
        assert n_forward == [[[5], "torch.int64"], *digits, [[2], "torch.int64"], [[], wide]]


def test_recipes():
    """Over all processes a recipe is what its code returns for the whole batch; `per_gpu` counts for each process."""
    code = """
    from dataclasses import replace
    from ohemloss import recipes
    from tests.test_recipes import ARRAYS, SOFTMAX, cross_entropy
    answer = {}
    for case in SOFTMAX[::2]:
        logits, labels = ARRAYS[f"{case['input']}.logits"], ARRAYS[f"{case['input']}.labels"]
        if case["input"].startswith("D"):
            labels = labels[:, None]
        if len(logits) < 2:
            continue
        anchors = case["input"] == "E.anchors"
        criterion = cross_entropy(case["variant"], case["params"], labels, logits.shape[-1 if anchors else 1])
        part = slice(0, 1) if rank == 0 else slice(1, None)
        options = {"positives": torch.tensor(labels[part] > 0)} if anchors else {}
        if "pixel_weight" in case["params"]:
            options["pixel_weight"] = torch.tensor(ARRAYS[case["params"]["pixel_weight"]])[part]
        weight = criterion.weight if criterion.weight is None else torch.tensor(criterion.weight, dtype=torch.float32)
        criterion = replace(criterion, process_group=group, weight=weight)
        value, grad = criterion.value_and_grad(torch.tensor(logits[part]), torch.tensor(labels[part]), **options)
        answer[case["id"]] = [value.item(), grad.tolist()]
    logits, labels = (torch.tensor(array) for array in make("3% hard", shape=SHAPE, n_classes=N_CLASSES))
    recipe = recipes.hrnet(ignore_label=255, thres=0.01, min_kept=40)
    each = replace(recipes.per_gpu(recipe), process_group=group)(logits[mine], labels[mine])
    alone = recipes.hrnet(ignore_label=255, thres=0.01, min_kept=40 * n_ranks)(logits, labels)
    answer["per GPU"] = [each.item(), alone.item()]
    """
    answers = ask(code, 2)
    found = answers[0].pop("per GPU")
    np.testing.assert_allclose(*found, rtol=1e-12)
    cases = {case["id"]: case for case in SOFTMAX}
    assert len(answers[0]) > 40
    for name, (value, grad) in answers[0].items():
        compare(cases[name], value, np.concatenate([grad, answers[1][name][1]]).astype(np.float32))


def test_other_losses():
    """`hard_mean` and the binary loss, as one process computes them on the whole batch, which other tests compare."""
    code = """
    x, y = torch.tensor(logits[:, 0]), torch.tensor(labels) % 2
    answer = []
    for options in ({}, {"rule": MiningRule(per_image="mean")}, {"min_kept": 7, "thresh": 0.01}):
        binary, alone = (ohemloss.OhemBCELoss(**options, process_group=where) for where in (group, None))
        value, grad = binary.value_and_grad(x[mine], y[mine])
        whole, whole_grad = alone.value_and_grad(x, y)
        torch.testing.assert_close((value, grad), (whole, whole_grad[mine]))
        losses = x.clone().requires_grad_()
        mean, alone = (ohemloss.HardMean(**options, process_group=where) for where in (group, None))
        value, whole = mean(losses[mine]), alone(losses)
        slope, = torch.autograd.grad(value, losses)
        expected, = torch.autograd.grad(whole, losses)
        torch.testing.assert_close(value, whole)
        torch.testing.assert_close(slope[mine] / n_ranks, expected[mine])
        answer.append(value.item())
    try:
        ohemloss.ohem_binary_cross_entropy(x, torch.full_like(y, 3), process_group=group)
    except ValueError as error:
        answer.append(str(error))
    """
    first, second = ask(code, 2)
    assert first == second
    assert first[3].startswith("`labels` must lie in [0, 1] where they count: got 840 outside.")


def test_whatever_a_process_has():
    """Everything ignored, no pixel, other sizes, a NaN, and only some that want a gradient: nobody waits for ever."""
    code = """
    from itertools import product
    answer = []
    logits, labels = make("3% hard", shape=(2, 9, 10), n_classes=N_CLASSES)
    ignored, nan = np.full_like(labels, 255), logits.copy()
    nan[0, 0, 0, 0] = np.nan
    labels[0, 0, 0] = 1
    parts = {
        "ignored": (logits, ignored), "empty": (logits[:0], labels[:0]), "no_pixel": (logits[..., :0], labels[..., :0]),
        "small": (logits[..., :3], labels[..., :3]), "nan": (nan, labels),
    }
    pairs = ("ignored small", "empty ignored", "small no_pixel", "small nan", "empty empty")
    for names in map(str.split, pairs):
        x, y = map(torch.tensor, parts[names[rank]])
        x.requires_grad_(rank == 1)
        loss = OhemCELoss(process_group=group)(x, y)
        value, grad = ohemloss.value_and_grad(x.detach(), y, process_group=group)
        if rank == 1:
            loss.backward()  # and the other does not
            torch.testing.assert_close(x.grad, 2 * grad, equal_nan=True)
        answer.append([loss.item(), value.item(), grad.flatten().tolist()])
    """
    answers = ask(code, 2)
    logits, labels = make("3% hard", shape=(2, 9, 10), n_classes=N_CLASSES)
    labels[0, 0, 0] = 1
    case = case_of((logits[..., :3], labels[..., :3]))
    for answer in answers:
        values = [row[0] for row in answer]
        assert [row[1] for row in answer][:3] == values[:3]
        small = case.expected.value
        np.testing.assert_allclose(values, [small, 0.0, small, np.nan, 0.0], rtol=1e-13)
    for row in (answers[1][0], answers[0][2]):
        assert_both(case, row[0], joined([row[2]], case))
    assert not np.any(answers[0][0][2])


def of_layer(case):
    """Give the derivative of the weights of a 1x1 convolution, the identity, in front of the loss."""
    return np.einsum("nihw,njhw->ij", case.expected.gradient, case.logits)


def test_averaged_by_what_people_run():
    """DDP, FSDP2, an all-reduce: as one process on the whole batch. Without a group each process mines its part."""
    code = """
    from torch.distributed.fsdp import fully_shard
    from torch.nn.parallel import DistributedDataParallel
    x, y = torch.tensor(logits[mine]), torch.tensor(labels[mine])

    def layer():
        model = torch.nn.Conv2d(N_CLASSES, N_CLASSES, 1, bias=False, dtype=torch.float64)
        torch.nn.init.dirac_(model.weight)
        return model

    criterion, answer = OhemCELoss(process_group=group), {}
    model = DistributedDataParallel(layer())
    criterion(model(x), y).backward()
    answer["DDP"] = model.module.weight.grad.flatten().tolist()
    model = fully_shard(layer(), mesh=dist.device_mesh.init_device_mesh("cpu", (n_ranks,)))
    criterion(model(x), y).backward()
    answer["FSDP2"] = model.weight.grad.full_tensor().flatten().tolist()
    model = layer()
    criterion(model(x), y).backward()
    all_reduce(model.weight.grad)
    answer["all-reduce"] = (model.weight.grad / n_ranks).flatten().tolist()
    model = DistributedDataParallel(layer())
    loss = OhemCELoss(weight=[1.0] * N_CLASSES).double()(model(x), y)
    loss.backward()
    answer["alone"] = [loss.item(), *model.module.weight.grad.flatten().tolist()]
    """
    logits, labels = make("3% hard", shape=SHAPE, n_classes=N_CLASSES)
    parts = [case_of((logits[:4], labels[:4])), case_of((logits[4:], labels[4:]))]
    expected, alone = of_layer(of_all()), sum(of_layer(part) for part in parts) / 2
    for answer, part in zip(ask(code, 2), parts, strict=True):
        value, *found = answer.pop("alone")
        np.testing.assert_allclose(value, part.expected.value, rtol=1e-12)
        np.testing.assert_allclose(found, alone.ravel(), rtol=1e-6, atol=1e-8)
        assert list(answer) == ["DDP", "FSDP2", "all-reduce"]
        for name, found in answer.items():
            np.testing.assert_allclose(found, expected.ravel(), rtol=1e-6, atol=1e-9, err_msg=name)


def test_meshes():
    """A mesh of one dimension, a dimension of a larger one, and distributed tensors over the other one."""
    code = """
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.tensor import DTensor, Shard, distribute_tensor
    logits, labels = make("3% hard", **EVEN)
    line, plane = init_device_mesh("cpu", (4,)), init_device_mesh("cpu", (2, 2), mesh_dim_names=("data", "height"))
    answer = []
    own = torch.tensor(logits[rank : rank + 1]), torch.tensor(labels[rank : rank + 1])
    answer.append(ohemloss.ohem_cross_entropy(*own, process_group=line).item())
    half = slice(2 * plane.get_local_rank("data"), 2 * plane.get_local_rank("data") + 2)
    x, y = torch.tensor(logits[half]), torch.tensor(labels[half])
    answer.append(ohemloss.ohem_cross_entropy(x, y, process_group=plane["data"]).item())
    x = distribute_tensor(x, plane["height"], [Shard(2)]).requires_grad_()
    y = distribute_tensor(y, plane["height"], [Shard(1)])
    loss = ohemloss.ohem_cross_entropy(x, y, process_group=plane["data"])
    loss.backward()
    answer += [loss.full_tensor().item(), x.grad.full_tensor().tolist()]
    value, closed = ohemloss.value_and_grad(x.detach(), y, process_group=plane["data"])
    assert torch.equal(value.full_tensor(), loss.full_tensor())
    assert ohemloss.explain(x.detach(), y, process_group=plane["data"]).n_devices == 4
    torch.testing.assert_close(2 * closed.full_tensor(), x.grad.full_tensor())
    try:
        OhemCELoss(process_group=plane)(*own)
    except ValueError as error:
        answer.append(str(error))
    """
    answers = ask(code, 4)
    case = case_of(make("3% hard", **EVEN))
    whole = joined([answers[0][3], answers[2][3]], case) / 2
    for answer in answers:
        for value in answer[:3]:
            assert_both(case, value, whole)
        assert answer[4] == (
            "`process_group` must be a process group or a device mesh of one dimension: got a mesh of 2 with the names "
            "('data', 'height'). Pass one of them, `mesh['name']`."
        )


def test_compiled_and_resized():
    """Under `torch.compile` the composite makes the same exchanges; logits of a lower resolution, too."""
    code = """
    x, y = torch.tensor(logits[mine]).requires_grad_(), torch.tensor(labels[mine])
    compiled = torch.compile(OhemCELoss(process_group=group), fullgraph=True, backend="aot_eager")
    loss = compiled(x, y)
    loss.backward()
    small, pixels = make_small("3% hard", (4, 5, 3, 4))
    half = slice(2 * rank, 2 * rank + 2)
    small, pixels = torch.tensor(small[half]).requires_grad_(), torch.tensor(pixels[half])
    resized = OhemCELoss(process_group=group, resize="bilinear")(small, pixels)
    resized.backward()
    answer = [loss.item(), x.grad.tolist(), resized.item(), small.grad.tolist()]
    """
    answers = ask(code, 2)
    small = case_of(make_small("3% hard", (4, 5, 3, 4)), resize="bilinear")
    for number, case in ((0, of_all()), (2, small)):
        whole = joined([answer[number + 1] for answer in answers], case) / 2
        for answer in answers:
            assert_both(case, answer[number], whole)


@pytest.mark.parametrize("other", ["dead", "silent"])
def test_a_missing_process_is_an_error(other):
    """No deadlock: an error at once if the process is dead, and after the timeout of the group if it is silent."""
    group = Ranks(2)
    code = f"""
    import datetime, threading
    x, y = torch.zeros(1, 2, 3, 3), torch.zeros(1, 3, 3, dtype=torch.int64)
    dist.barrier()
    if rank == 1:
        os._exit(0) if {other == "dead"} else threading.Event().wait()
    if {other == "silent"}:
        dist.distributed_c10d._set_pg_timeout(datetime.timedelta(milliseconds=50), group)
    ohemloss.ohem_cross_entropy(x, y, process_group=group)
    """
    group.send(code)
    errors = sorted(group.hear()[1] for _ in range(2 if other == "dead" else 1))
    group.end()
    assert errors[0].startswith("Traceback")
    assert "RuntimeError" in errors[0] or "DistBackendError" in errors[0]


def test_refused():
    code = """
    from torch.distributed.tensor import Shard, distribute_tensor
    answer = []
    x, y = torch.zeros(2, 2, 3, 3), torch.zeros(2, 3, 3, dtype=torch.int64)
    sharded = distribute_tensor(x, mesh, [Shard(0)])
    for logits, options in ((x, {"process_group": "all"}), (x, {"process_group": 3}), (sharded, {})):
        try:
            OhemCELoss(**options)(logits, y)
        except (TypeError, ValueError) as error:
            answer.append([type(error).__name__, str(error)])
    """
    *wrong, (kind, message) = ask(code, 2)[0]
    expected = "`process_group` must be a process group or a device mesh of one dimension: got "
    assert wrong == [["TypeError", f"{expected}'all'."], ["TypeError", f"{expected}3."]]
    assert kind == "ValueError"
    assert message.startswith("`labels` must be on the device of `logits`: got logits on DeviceMesh(")
    assert message.endswith(" and labels on cpu. Move one of them.")


def test_refused_without_a_group(monkeypatch):
    monkeypatch.setattr(torch.distributed, "is_initialized", lambda: False)
    group = object()
    with pytest.raises(ValueError, match=r"^`process_group` needs `torch\.distributed\.init_process_group` to be"):
        ohemloss_torch.OhemCELoss(process_group=group)(torch.zeros(1, 2, 3), torch.zeros(1, 3, dtype=torch.int64))


@pytest.mark.parametrize("n_ranks", [2, 4])
def test_sharded_tensors(n_ranks, shows):
    """One loss of the whole, spread over the batch, the height, or the classes; the gradient stays in place."""
    code = """
    from torch.distributed.tensor import Replicate, Shard, distribute_tensor
    logits, labels = make("3% hard", **EVEN)
    answer = {}
    places = {"batch": (0, 0), "height": (2, 1), "classes": (1, None)}
    for name, (in_x, in_y) in places.items():
        x = distribute_tensor(torch.tensor(logits), mesh, [Shard(in_x)]).requires_grad_()
        y = distribute_tensor(torch.tensor(labels), mesh, [Replicate() if in_y is None else Shard(in_y)])
        for rule in ({}, {"thresh": 0.2, "min_kept": 0.5, "weight": tuple(range(1, 9)), "label_smoothing": 0.1}):
            loss = ohemloss.ohem_cross_entropy(x, y, **rule)
            grad, = torch.autograd.grad(loss, x)
            assert grad.placements == x.placements
            trace = ohemloss.explain(x.detach(), y, **rule)
            closed = ohemloss.value_and_grad(x.detach(), y, **rule)
            answer[f"{name}, {rule}"] = [
                loss.item(), grad.full_tensor().tolist(), closed[0].item(), closed[1].full_tensor().tolist(),
                [trace.n_valid.item(), trace.n_min.item(), trace.n_hard.item(), trace.cut.count.item()],
            ]
    """
    answer = ask(code, n_ranks)[0]
    assert len(answer) == 6
    for name, (value, grad, closed_value, closed, counts) in answer.items():
        case = case_of(make("3% hard", **EVEN), **eval(name.partition(", ")[2]))
        steps = case.expected.steps
        assert_both(case, value, grad)
        assert_both(case, closed_value, closed)
        assert counts == [steps.n_valid, steps.n_min, steps.n_hard, steps.count]
        shows("PyTorch", "sharded", grad, case.expected.gradient, **case.gradient_tolerance("float64"))
