"""One loss of a batch that is spread over processes: `process_group`, on gloo."""

from textwrap import dedent
from types import SimpleNamespace

import numpy as np
import pytest

import ohemloss
from tests._cases import REGIMES, gradient_tolerance, make, make_small, tolerance
from tests._ranks import Ranks, ranks
from tests._reference import gradient, interpolate, pull_back, reference
from tests.test_recipes import SOFTMAX, compare

torch = pytest.importorskip("torch")
ohemloss_torch = pytest.importorskip("ohemloss_torch")
# One process of the tests holds the groups.
pytestmark = pytest.mark.xdist_group("ranks")

SHAPE, N_CLASSES = (5, 12, 14), 8
# How the five images lie on the processes: unevenly, and one of them has none.
CUTS = {1: [0, 5], 2: [0, 4, 5], 4: [0, 0, 3, 4, 5]}
POSITIVES = np.arange(5 * 12 * 14).reshape(SHAPE) % 17 == 3

# What each piece of code begins with.
BEGIN = """
from ohemloss import MiningRule
from ohemloss_torch import OhemCELoss
from tests._cases import make, make_small
from tests.pytorch.test_ranks import CUTS, N_CLASSES, POSITIVES, SHAPE
cuts = CUTS[n_ranks]
mine = slice(cuts[rank], cuts[rank + 1])
"""


def ask(code, n_ranks):
    """Run code in each process; return the `answer` of each."""
    return ranks(n_ranks).ask(BEGIN + dedent(code))


@pytest.mark.parametrize("n_ranks", [2, 4])
def test_is_the_loss_of_the_batch(n_ranks, shows):
    """Value, gradient and counts, in all regimes: the same bits on each process, and a part of one gradient."""
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
            assert exchanges == n_forward, "nobody waits for another one to go back"
            value, closed = ohemloss.value_and_grad(x.detach(), y, process_group=group)
            alone = ohemloss.ohem_cross_entropy(x.detach(), y, process_group=group)
            assert value == loss and alone == loss
            trace = ohemloss.explain(x.detach(), y, process_group=group)
            torch.testing.assert_close(trace.value, loss.detach())
            assert trace.n_devices == n_ranks
            counts = [int(n) for n in (trace.n_valid, trace.n_min, trace.n_hard, trace.cut.count)]
            grads = [grad.double().tolist() for grad in (x.grad, closed)]
            answer[f"{{regime}}, {{dtype}}"] = [loss.item().hex(), counts, *grads, n_forward]
    """
    answers = ask(code, n_ranks)
    assert len(answers) == n_ranks
    assert len(answers[0]) == 9
    for name, (bits, counts, _, _, n_forward) in answers[0].items():
        regime, dtype = name.split(", ")
        assert all(answer[name][:2] == [bits, counts] for answer in answers)
        assert all(answer[name][4] == n_forward for answer in answers), "other exchanges, and all wait for ever"
        logits, labels = make(regime, shape=SHAPE, n_classes=N_CLASSES, dtype=dtype)
        base, expected = reference(logits, labels), gradient(logits, labels)
        np.testing.assert_allclose(float.fromhex(bits), base.value, **tolerance(dtype, "value"))
        assert counts == [base.n_valid, base.n_min, base.n_hard, base.count]
        close = gradient_tolerance(dtype, base)
        # The derivative of what all processes return, which those that average expect.
        backward, closed = (
            np.concatenate([np.reshape(a[name][i], (-1, *expected.shape[1:])) for a in answers]) for i in (2, 3)
        )
        shows("PyTorch", "sharded", backward / n_ranks, expected, **close)
        np.testing.assert_allclose(closed, expected, **close)
        n_digits = 0 if base.n_hard >= base.n_min else 8 if dtype == "float64" else 4
        wide = "torch.float64" if dtype == "float64" else "torch.float32"
        digits = [[[256], "torch.int64"]] * n_digits
        assert n_forward == [[[5], "torch.int64"], *digits, [[2], "torch.int64"], [[], wide]]


RULES = [
    "{}",
    "{'thresh': 0.2, 'min_kept': 150, 'weight': tuple(range(8)), 'label_smoothing': 0.1}",
    "{'min_kept': 0.3, 'thresh': None, 'reduction': 'sum'}",
    "{'rule': MiningRule(rank_by='prob', ties='drop'), 'min_kept': 200, 'thresh': 0.01}",
    "{'rule': MiningRule(pool='all', ties='keep', normaliser='all'), 'min_kept': 0.5}",
    "{'rule': MiningRule(normaliser='valid_weight'), 'weight': tuple(range(8))}",
    "{'rule': MiningRule(normaliser=lambda counts: counts.nonzero + counts.images + counts.all)}",
    "{'rule': MiningRule(per_image='mean')}",
    "{'rule': MiningRule(per_image='select', normaliser='images'), 'min_kept': 20}",
    "{'rule': MiningRule(per_image='select'), 'min_kept': 20}",
    "{'min_kept': lambda counts: counts.where(counts.valid > counts.all // 2, counts.valid // 9, counts.images)}",
    "{'rule': MiningRule(normaliser='positives'), 'positives': POSITIVES, 'min_kept': lambda n: 3 * n.positives}",
]


@pytest.mark.parametrize("n_ranks", [2, 4])
def test_rules(n_ranks):
    """What a rule counts it counts over all processes."""
    code = f"""
    answer = []
    logits, labels = make("3% hard", shape=SHAPE, n_classes=N_CLASSES)
    for text in {RULES!r}:
        options = eval(text)
        arrays = {{"positives": torch.tensor(options.pop("positives")[mine])}} if "positives" in options else {{}}
        x, y = torch.tensor(logits[mine]).requires_grad_(), torch.tensor(labels[mine])
        loss = OhemCELoss(**options, process_group=group).double()(x, y, **arrays)
        loss.backward()
        value, closed = ohemloss.value_and_grad(x.detach(), y, **options, **arrays, process_group=group)
        # The composite, differentiated by its operations, with the same exchanges.
        weight = options.pop("weight", None)
        weight = None if weight is None else torch.tensor(weight, dtype=torch.float64, requires_grad=True)
        again = ohemloss.ohem_cross_entropy(x, y, weight=weight, **options, **arrays, process_group=group)
        assert again.grad_fn.name() != loss.grad_fn.name() or weight is None
        slope, = torch.autograd.grad(again, x)
        answer.append([[loss.item(), value.item(), again.item()], x.grad.tolist(), slope.tolist(), closed.tolist()])
    """
    answers = ask(code, n_ranks)
    logits, labels = make("3% hard", shape=SHAPE, n_classes=N_CLASSES)
    for number, text in enumerate(RULES):
        options = eval(text, vars(ohemloss) | {"POSITIVES": POSITIVES})
        if callable(options.get("min_kept")):  # of the same counts, as the oracle knows them
            n_positive = int(np.sum(POSITIVES & (labels != 255)))
            counts = SimpleNamespace(all=labels.size, valid=int(np.sum(labels != 255)), images=5, positives=n_positive)
            counts.where = lambda condition, a, b: a if condition else b
            options["min_kept"] = options["min_kept"](counts)
        base, expected = reference(logits, labels, **options), gradient(logits, labels, **options)
        for answer in answers:
            np.testing.assert_allclose(answer[number][0], base.value, rtol=1e-12, err_msg=text)
        for i, factor in ((1, n_ranks), (2, n_ranks), (3, 1)):
            found = np.concatenate([np.reshape(answer[number][i], (-1, *expected.shape[1:])) for answer in answers])
            np.testing.assert_allclose(found / factor, expected, rtol=1e-6, atol=1e-9, err_msg=text)


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
        compare(
            cases[name], value, np.concatenate([np.asarray(grad), np.asarray(answers[1][name][1])]).astype(np.float32)
        )


def test_other_losses():
    """`hard_mean` and the binary loss, as one process computes them on the whole batch, which other tests compare."""
    code = """
    logits, labels = make("3% hard", shape=SHAPE, n_classes=N_CLASSES)
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
    small = reference(logits[..., :3], labels[..., :3])
    for answer in answers:
        values = [row[0] for row in answer]
        assert [row[1] for row in answer][:3] == values[:3]
        np.testing.assert_allclose(values, [small.value, 0.0, small.value, np.nan, 0.0], rtol=1e-13)
    expected = gradient(logits[..., :3], labels[..., :3]).ravel()
    np.testing.assert_allclose(answers[1][0][2], expected, rtol=1e-6, atol=1e-9)
    np.testing.assert_allclose(answers[0][2][2], expected, rtol=1e-6, atol=1e-9)
    assert not np.any(answers[0][0][2])


def test_averaged_by_what_people_run():
    """DistributedDataParallel, FSDP2 and a plain all-reduce train as one process does on the whole batch."""
    code = """
    from torch.distributed.fsdp import fully_shard
    from torch.nn.parallel import DistributedDataParallel
    logits, labels = make("3% hard", shape=SHAPE, n_classes=N_CLASSES)
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
    """
    logits, labels = make("3% hard", shape=SHAPE, n_classes=N_CLASSES)
    expected = np.einsum("nihw,njhw->ij", gradient(logits, labels), logits).ravel()
    for answer in ask(code, 2):
        assert list(answer) == ["DDP", "FSDP2", "all-reduce"]
        for name, found in answer.items():
            np.testing.assert_allclose(found, expected, rtol=1e-6, atol=1e-9, err_msg=name)


def test_meshes():
    """A mesh of one dimension, a dimension of a larger one, and distributed tensors over the other one."""
    code = """
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.tensor import DTensor, Shard, distribute_tensor
    logits, labels = make("3% hard", shape=(4, 6, 7), n_classes=N_CLASSES)
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
    logits, labels = make("3% hard", shape=(4, 6, 7), n_classes=N_CLASSES)
    base, expected = reference(logits, labels), gradient(logits, labels)
    for answer in answers:
        np.testing.assert_allclose(answer[:3], base.value, rtol=1e-12)
        assert answer[4] == (
            "`process_group` must be a process group or a device mesh of one dimension: got a mesh of 2 with the names "
            "('data', 'height'). Pass one of them, `mesh['name']`."
        )
    np.testing.assert_allclose(np.concatenate([answers[0][3], answers[2][3]]) / 2, expected, rtol=1e-6, atol=1e-9)


def test_compiled_and_resized():
    """Under `torch.compile` the composite makes the same exchanges; logits of a lower resolution, too."""
    code = """
    logits, labels = make("3% hard", shape=SHAPE, n_classes=N_CLASSES)
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
    logits, labels = make("3% hard", shape=SHAPE, n_classes=N_CLASSES)
    small, pixels = make_small("3% hard", (4, 5, 3, 4))
    enlarged = interpolate(small, pixels.shape[1:])
    for answer in answers:
        np.testing.assert_allclose(answer[0], reference(logits, labels).value, rtol=1e-12)
        np.testing.assert_allclose(answer[2], reference(enlarged, pixels).value, rtol=1e-12)
    expected = gradient(logits, labels), pull_back(gradient(enlarged, pixels), small.shape[2:])
    for i, grad in zip((1, 3), expected, strict=True):
        found = np.concatenate([np.reshape(answer[i], (-1, *grad.shape[1:])) for answer in answers])
        np.testing.assert_allclose(found / 2, grad, rtol=1e-6, atol=1e-8)


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
    answer = []
    x, y = torch.zeros(1, 2, 3, 3), torch.zeros(1, 3, 3, dtype=torch.int64)
    for value in ("all", 3):
        try:
            OhemCELoss(process_group=value)(x, y)
        except TypeError as error:
            answer.append(str(error))
    """
    wrong = "`process_group` must be a process group or a device mesh of one dimension: got "
    assert ask(code, 2)[0] == [wrong + "'all'.", wrong + "3."]


def test_refused_without_a_group(monkeypatch):
    monkeypatch.setattr(torch.distributed, "is_initialized", lambda: False)
    group = object()
    with pytest.raises(ValueError, match=r"^`process_group` needs `torch\.distributed\.init_process_group` to be"):
        ohemloss_torch.OhemCELoss(process_group=group)(torch.zeros(1, 2, 3), torch.zeros(1, 3, dtype=torch.int64))


SHARDED = """
from torch.distributed.tensor import Replicate, Shard, distribute_tensor
logits, labels = make("3% hard", shape=(4, 6, 7), n_classes=8)
"""


@pytest.mark.parametrize("n_ranks", [2, 4])
def test_sharded_tensors(n_ranks, shows):
    """One loss of the whole, spread over the batch, the height, or the classes; the gradient stays in place."""
    code = """
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
    answer = ask(SHARDED + dedent(code), n_ranks)[0]
    logits, labels = make("3% hard", shape=(4, 6, 7), n_classes=8)
    assert len(answer) == 6
    for name, (value, grad, closed_value, closed, counts) in answer.items():
        rule = eval(name.partition(", ")[2])
        base, expected = reference(logits, labels, **rule), gradient(logits, labels, **rule)
        np.testing.assert_allclose([value, closed_value], base.value, rtol=1e-12)
        np.testing.assert_allclose(closed, expected, rtol=1e-6, atol=1e-9)
        assert counts == [base.n_valid, base.n_min, base.n_hard, base.count]
        shows("PyTorch", "sharded", grad, expected, rtol=1e-6, atol=1e-9)


def test_plain_labels_beside_a_sharded_tensor_are_refused():
    code = """
    x = distribute_tensor(torch.tensor(logits), mesh, [Shard(0)])
    try:
        ohemloss.ohem_cross_entropy(x, torch.tensor(labels))
    except ValueError as error:
        answer = str(error)
    """
    message = ask(SHARDED + dedent(code), 2)[0]
    assert message.startswith("`labels` must be on the device of `logits`: got logits on DeviceMesh(")
    assert message.endswith(" and labels on cpu. Move one of them.")


def test_without_a_group_each_process_mines_its_own_part():
    code = """
    from torch.nn.parallel import DistributedDataParallel
    model = torch.nn.Conv2d(8, 8, 1, bias=False, dtype=torch.float64)
    torch.nn.init.dirac_(model.weight)
    model = DistributedDataParallel(model)
    criterion = OhemCELoss(weight=[1.0] * 8).double()
    mine = slice(2 * rank, 2 * rank + 2)
    loss = criterion(model(torch.tensor(logits[mine])), torch.tensor(labels[mine]))
    loss.backward()
    answer = [loss.item(), model.module.weight.grad[:, :, 0, 0].tolist()]
    """
    value, grad = ask(SHARDED + dedent(code), 2)[0]
    logits, labels = make("3% hard", shape=(4, 6, 7), n_classes=8)
    parts = [(logits[:2], labels[:2]), (logits[2:], labels[2:])]
    np.testing.assert_allclose(value, reference(*parts[0]).value, rtol=1e-12)
    expected = [np.einsum("nihw,njhw->ij", gradient(x, y), x) for x, y in parts]
    np.testing.assert_allclose(grad, sum(expected) / 2, rtol=1e-6, atol=1e-8)
