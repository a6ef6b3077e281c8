"""The Triton kernels without a GPU: their numbers by Triton's interpreter, their code by compiling it ahead of time."""

import itertools
import math
import os
from typing import Any

import numpy as np
import pytest
import torch

from ohemloss import _composite, ohem_cross_entropy, value_and_grad
from ohemloss._options import Options
from ohemloss._validation import prepare
from ohemloss_torch import _cuda, _served
from tests import _processes
from tests._cases import REGIMES, TOLERANCE, make, make_small, tolerance
from tests._launches import Launches
from tests._libraries import interpreted_kernels
from tests._processes import run
from tests._reference import gradient, interpolate, pull_back, reference

pytestmark = [
    pytest.mark.kernels,
    pytest.mark.skipif(os.environ.get("OHEMLOSS_TEST_KERNELS") != "1", reason="a job of its own"),
]

LAYOUTS = ("nchw", "nhwc", "crop", "rows", "expanded")


@pytest.fixture(autouse=True)
def _interpreted():
    with interpreted_kernels():
        yield


def arrange(logits, labels, layout):
    """Lay the same numbers out in another way."""
    if layout == "nhwc":
        return logits.contiguous(memory_format=torch.channels_last), labels
    if layout == "crop":
        whole = torch.full((logits.shape[0], logits.shape[1] + 1, *(n + 3 for n in logits.shape[2:])), math.nan)
        whole = whole.to(logits.dtype)
        part = whole[:, 1:, 1:-2, 2:-1]
        around = torch.full([n + 3 for n in labels.shape], -7)[2:-1, 1:-2, 2:-1]
        return part.copy_(logits), around.copy_(labels)
    if layout == "rows":
        return logits.movedim(1, -1).reshape(-1, logits.shape[1]).contiguous(), labels.reshape(-1)
    if layout == "expanded":
        return logits[:, :, :1, :1].expand_as(logits), labels
    return logits, labels


def prepared(logits, labels, *, weight: Any = None, pixel_weight: Any = None, **options: Any):
    """Validate a call."""
    return prepare(logits, labels, weight, pixel_weight, None, Options(**options))


def served(logits, labels, **options):
    """Give the call as it is served, and the same call for the composite."""
    call = prepared(logits, labels, **options)
    found = _served.call_of(call.engine, call.inputs, call.options)
    assert isinstance(found, _cuda.Device)
    return found, call


def check(logits, labels, **options):
    """Compare value and gradient with those of the composite in float64."""
    device, _ = served(logits, labels, **options)
    value, kept = device.forward()
    gradient = device.backward(kept)
    wide = {k: v.double() if isinstance(v, torch.Tensor) and v.is_floating_point() else v for k, v in options.items()}
    exact = prepared(logits.double(), labels, **wide)
    expected, slope = _composite.value_and_grad(exact.engine, exact.inputs, exact.options)
    dtype = str(logits.dtype).removeprefix("torch.")
    rtol, atol = TOLERANCE[dtype]["value"]
    assert value.dtype == (torch.float64 if dtype == "float64" else torch.float32)
    torch.testing.assert_close(value.double(), expected, rtol=rtol, atol=atol, equal_nan=True)
    assert gradient.dtype == logits.dtype
    assert gradient.shape == logits.shape
    rtol, atol = TOLERANCE[dtype]["gradient"]
    # Softmax less label cancels, in the dtype that it is computed in.
    atol += 8 * torch.finfo(value.dtype).eps * float(slope.nan_to_num(0, 0, 0).abs().amax() if slope.numel() else 0)
    torch.testing.assert_close(gradient.double(), slope, rtol=rtol, atol=atol, equal_nan=True)
    return value, kept, gradient


def tensors(regime="40% hard", dtype="float32", **options):
    logits, labels = make(regime, **options)
    return torch.tensor(logits).contiguous().to(getattr(torch, dtype)), torch.tensor(labels)


@pytest.mark.parametrize("n_classes", [1, 2, 19, 150, 1000])
@pytest.mark.parametrize("layout", LAYOUTS)
def test_classes_and_layouts(n_classes, layout):
    """Of sizes that divide no block."""
    rng = np.random.default_rng(n_classes)
    logits = torch.tensor(rng.normal(size=(2, n_classes, 23, 29)), dtype=torch.float32)
    labels = torch.tensor(rng.integers(n_classes, size=(2, 23, 29)))
    labels[torch.tensor(rng.random(labels.shape) < 0.1)] = 255 if n_classes < 255 else 1001
    logits, labels = arrange(logits, labels, layout)
    check(logits, labels, ignore_index=255 if n_classes < 255 else 1001)
    check(logits, labels, ignore_index=255 if n_classes < 255 else 1001, min_kept=700, thresh=None)


@pytest.mark.parametrize("regime", REGIMES)
@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float32", "float64"])
@pytest.mark.parametrize("layout", ["nchw", "nhwc"])
def test_regimes_and_dtypes(regime, dtype, layout):
    logits, labels = arrange(*tensors(regime, dtype, shape=(2, 31, 37)), layout)
    value, kept, _ = check(logits, labels)
    assert bool(kept.cut.tie_weight > 0) == (regime == "3% hard")
    again, _, _ = check(logits, labels, reduction="sum")
    torch.testing.assert_close(again / kept.cut.count, value.to(again.dtype), rtol=2e-6, atol=0)


@pytest.mark.parametrize("dtype", ["int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64"])
def test_labels_of_every_dtype(dtype):
    logits, labels = tensors()
    labels = torch.where(labels == 255, 100, labels).to(getattr(torch, dtype))
    check(logits, labels, ignore_index=100)
    largest = torch.iinfo(labels.dtype).max
    labels = torch.tensor(np.where(labels.numpy() == 100, largest, labels.numpy()))
    check(logits, labels, ignore_index=largest)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_weights(dtype):
    logits, labels = tensors("3% hard", dtype, ignored=0.2)
    floating = logits.dtype
    weight = torch.tensor([0.5, 0.0, 3.0, 1.0, -1.0], dtype=floating)
    u = torch.rand((2, 1, 7), generator=torch.Generator().manual_seed(0)).to(floating)
    u[0, 0, 3] = 0
    for options in ({"weight": weight}, {"pixel_weight": u}, {"weight": weight, "pixel_weight": u}):
        for min_kept in (0, 1 / 16, 30, 0.9, 1.0):
            check(logits, labels, min_kept=min_kept, **options)


def test_options_as_tensors():
    logits, labels = tensors()
    for thresh, min_kept in itertools.product((0.2, 0.9), (0.1, 0.95, 77)):
        number, _, gradient = check(logits, labels, thresh=thresh, min_kept=min_kept)
        arrays = {"thresh": torch.tensor(thresh, dtype=torch.float64), "min_kept": torch.tensor(min_kept)}
        device, _ = served(logits, labels, **arrays)
        value, kept = device.forward()
        assert torch.equal(value, number)
        assert torch.equal(device.backward(kept), gradient)


def test_ties_share_the_places_left():
    logits = torch.zeros(1, 2, 6, 7)
    labels = torch.zeros(1, 6, 7, dtype=torch.int64)
    logits[0, 0, 0, :3] = -4  # harder
    labels[0, 5] = 255  # minus infinity, and no tie
    value, kept, _ = check(logits, labels, thresh=0.1, min_kept=10)
    assert float(kept.cut.tie_weight) == pytest.approx(7 / 32)
    assert int(kept.cut.count) == 10
    hard = math.log(1 + math.exp(4))
    assert float(value) == pytest.approx((3 * hard + 7 * math.log(2)) / 10)


def test_ties_at_minus_infinity():
    """Ignored pixels are minus infinity as well, and share nothing."""
    logits = torch.tensor([[0.0, 0.0], [-math.inf, 0.0], [-math.inf, 0.0], [0.0, 0.0], [0.0, 0.0]])
    labels = torch.tensor([1, 0, 0, 255, 255])
    device, _ = served(logits, labels, weight=torch.tensor([-1.0, 1.0]), thresh=None, min_kept=2)
    _, kept = device.forward()
    assert float(kept.cut.value) == -math.inf
    assert float(kept.cut.tie_weight) == 0.5


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_nan_of_either_sign_ranks_first(dtype):
    scores = torch.tensor([1.0, math.nan, -2.0, math.inf, -math.nan], dtype=dtype)
    assert scores.signbit().sum() == 2
    for k, expected in ((3, math.inf), (4, 1.0), (5, -2.0)):
        found = _cuda.kth_largest(scores, torch.tensor(k), torch.tensor(True), per_image=False)
        assert found == expected


def test_ties_at_zero_of_either_sign():
    logits = torch.tensor([[200.0, 0.0], [0.0, 200.0]] * 2)
    labels = torch.tensor([0, 1, 0, 1])
    device, _ = served(logits, labels, weight=torch.tensor([-1.0, 1.0]), thresh=None, min_kept=1)
    value, kept = device.forward()
    assert torch.equal(kept.scores.signbit(), torch.tensor([True, False] * 2))
    assert float(kept.cut.tie_weight) == 0.25
    assert value == 0


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf, 1e4, -1e4])
@pytest.mark.parametrize("at_label", [True, False])
def test_extreme_logits(bad, at_label):
    logits, labels = tensors(ignored=0.2)
    own = labels.clamp(max=4)[1, 3, 4]
    labels[1, 3, 4] = own
    logits[1, own if at_label else (own + 1) % 5, 3, 4] = bad
    labels[0, 0, 0], labels[0, 0, 1] = 255, 0
    logits[0, :, 0, 0] = bad  # ignored
    for options in ({}, {"thresh": None, "min_kept": 1}, {"weight": torch.ones(5)}, {"pixel_weight": torch.zeros(())}):
        _, _, gradient = check(logits, labels, **options)
        assert torch.equal(gradient[0, :, 0, 0], torch.zeros(5))


@pytest.mark.parametrize("bad", [math.nan, -math.inf])
def test_pixel_at_the_threshold_beside_one_that_is_not_finite(bad):
    """It is not hard, and shares nothing."""
    logits = torch.tensor([[200.0, 0.0], [0.0, 1.0], [bad, 0.0]])
    _, _, gradient = check(logits, torch.zeros(3, dtype=torch.int64), thresh=1.0, min_kept=0)
    assert gradient[0].tolist() == [0, 0]


def test_function_of_the_counts_with_weights():
    """The composite runs forward, and what it keeps is not for the kernels."""
    logits, labels = tensors()
    options: dict[str, Any] = {"min_kept": lambda counts: 70, "weight": torch.arange(5.0)}
    value, slope = value_and_grad(logits, labels, **options)
    leaf = logits.clone().requires_grad_()
    loss = ohem_cross_entropy(leaf, labels, **options)
    loss.backward()
    torch.testing.assert_close(loss.detach(), value)
    torch.testing.assert_close(leaf.grad, slope)


@pytest.mark.parametrize("weight", [None, torch.arange(5.0)], ids=["none", "weights"])
def test_forward_of_the_composite(weight):
    """An option whose values are not in its memory keeps the kernels away forward, and is not there backward."""
    logits, labels = tensors()
    thresh = torch.tensor([-0.6j]).conj().imag[0]
    assert thresh.is_neg()
    leaf = logits.clone().requires_grad_()
    ohem_cross_entropy(leaf, labels, thresh=thresh, weight=weight).backward()
    expected = value_and_grad(logits, labels, thresh=0.6, weight=weight)[1]
    torch.testing.assert_close(leaf.grad, expected)


def test_cotangents_that_stand_for_others():
    """Of `vmap` over a backward pass, which have no memory of their own."""
    logits, labels = tensors("3% hard")
    leaf = logits.clone().requires_grad_()
    loss = ohem_cross_entropy(leaf, labels)

    def pull(cotangent):
        return torch.autograd.grad(loss, leaf, cotangent, retain_graph=True)[0]

    many = torch.func.vmap(pull)(torch.tensor([1.0, 2.0]))
    torch.testing.assert_close(many[1], 2 * many[0])
    torch.testing.assert_close(many[0], value_and_grad(logits, labels)[1])
    assert not pull(torch._efficientzerotensor(())).any()


def test_without_a_driver_the_composite_runs():
    """Where Triton is, but finds no device or no compiler."""
    code = "import json; from ohemloss_torch import _cuda; print(json.dumps(_cuda._kernels() is None))"
    if not torch.cuda.is_available():
        assert run(code, TRITON_INTERPRET="0")


@pytest.mark.parametrize("size", [50.0, 70.0, 100.0, 3000.0])
def test_large_losses_keep_their_digits(size):
    """Where the shift by the label's logit gives up, in the sum and in the softmax."""
    logits, labels = tensors(ignored=0)
    logits = logits.scatter_add(1, labels[:, None], torch.full((2, 1, 6, 7), -size))
    value, _, gradient = check(logits, labels)
    others = gradient.scatter(1, labels[:, None], torch.zeros(2, 1, 6, 7)).sum(1) * 84
    torch.testing.assert_close(others, torch.ones(2, 6, 7), rtol=3e-6, atol=0)
    assert float(value) > size - 20


def test_wrong_labels_are_nan_and_read_nothing_else():
    """A label that is no class is never an index: far away lies no memory of this process."""
    logits, labels = tensors(ignored=0)
    for label in (5, -1, 2**40, -(2**62)):
        labels[0, 2, 3] = label
        device, _ = served(logits, labels, weight=torch.zeros(5) if label == 5 else None)
        value, kept = device.forward()
        gradient = device.backward(kept)
        assert math.isnan(value)
        assert gradient[0, :, 2, 3].isnan().all()
        assert gradient.isnan().sum() == 5
    with pytest.raises(ValueError, match="`labels` must lie in"):
        ohem_cross_entropy(logits, labels)


def test_nothing_selected():
    logits, labels = tensors(ignored=0)
    for options in ({"thresh": None, "min_kept": 0}, {"thresh": 0.0, "min_kept": 0.0}):
        value, _, gradient = check(logits, labels, **options)
        assert value == 0
        assert not gradient.any()
    logits[0, 0, 0, 0] = math.nan
    value, _, gradient = check(logits, torch.full_like(labels, 255))
    assert value == 0
    assert not gradient.any()


@pytest.mark.parametrize("shape", [(0, 5, 6, 7), (2, 5, 0, 7), (0, 5)])
def test_empty(shape):
    logits = torch.zeros(shape)
    value, _, gradient = check(logits, torch.zeros((shape[0], *shape[2:]), dtype=torch.int64))
    assert value == 0
    assert gradient.shape == shape


def test_one_pixel():
    device, _ = served(torch.tensor([1.0, 2.0, 3.0]), torch.tensor(0))
    value, kept = device.forward()
    assert float(value) == pytest.approx(2 + math.log(math.exp(-2) + math.exp(-1) + 1))
    assert device.backward(kept).shape == (3,)


def test_class_axis_anywhere():
    logits, labels = tensors()
    expected, slope = value_and_grad(logits, labels)
    for axis in (0, 2, 3, -1):
        moved = logits.movedim(1, axis)
        for each in (moved, moved.contiguous()):
            value, _, gradient = check(each, labels, axis=axis)
            torch.testing.assert_close(value, expected)
            torch.testing.assert_close(gradient.movedim(axis, 1), slope)


def test_more_axes_than_kernels_know():
    """A part of a volume, whose pixels cannot be laid out in three axes, is copied."""
    whole, labels = torch.randn(3, 4, 5, 6, 7, 8), torch.randint(0, 4, (3, 5, 6, 7, 8))
    part, some = whole[:, :, 1:4, ::2, 1:6, 2:], labels[:, 1:4, ::2, 1:6, 2:]
    check(part, some)
    check(part, some, pixel_weight=torch.rand(3, 1, 5, 1))


def test_overlapping_logits():
    """Windows of one signal: their gradient cannot lie as they do."""
    logits = torch.randn(40).as_strided((5, 3, 4, 2, 3), (6, 1, 2, 1, 3))
    check(logits, torch.randint(0, 3, (5, 4, 2, 3)))


def test_more_elements_than_32_bits_count():
    """Two images 2**31 elements apart, of which only some pages are ever touched."""
    far = 2**31 + 64
    memory = torch.empty(far + 2**16, dtype=torch.float16)
    logits = memory.as_strided((2, 3, 40), (far, 40, 1))
    logits.copy_(torch.randn(2, 3, 40))
    labels = torch.randint(0, 3, (2, 40))
    check(logits, labels)
    classes = memory.as_strided((2, 40), (far, 1))[None]  # classes that far apart
    check(classes, torch.randint(0, 2, (1, 40)))
    rows = memory.as_strided((2, 3, 4, 10), (far, 200, 20, 1))  # three axes of pixels and classes
    rows.copy_(torch.randn(2, 3, 4, 10))
    check(rows, torch.randint(0, 4, (2, 3, 10)), axis=2)


def test_same_bits_every_time():
    logits, labels = tensors("3% hard", shape=(2, 61, 67))
    found = []
    for _ in range(3):
        device, _ = served(logits, labels)
        value, kept = device.forward()
        found.append((value, *kept.tensors(), device.backward(kept)))
    for again in found[1:]:
        assert all(a is b is None or torch.equal(a, b) for a, b in zip(again, found[0], strict=True))


def test_order_of_the_pixels_does_not_matter_to_the_selection():
    logits, labels = arrange(*tensors("3% hard", shape=(2, 31, 37)), "rows")
    order = torch.randperm(len(labels), generator=torch.Generator().manual_seed(0))
    (_, one), (_, other) = (served(*pair)[0].forward() for pair in ((logits, labels), (logits[order], labels[order])))
    assert torch.equal(one.cut.value, other.cut.value)
    assert torch.equal(one.cut.count, other.cut.count)
    assert torch.equal(one.scores[order], other.scores)


@pytest.mark.parametrize("regime", ["40% hard", "3% hard"])
def test_host_never_looks(monkeypatch, regime):
    """No tensor becomes a number of the host, and none gets a shape that depends on values."""
    logits, labels = tensors(regime)
    device, _ = served(logits, labels, thresh=torch.tensor(0.7), min_kept=torch.tensor(0.1))

    def look(*_, **__):
        pytest.fail("the host looks")

    for name in ("item", "tolist", "nonzero", "masked_select", "cpu", "numpy", "__bool__", "__int__", "__float__"):
        monkeypatch.setattr(torch.Tensor, name, look)
    monkeypatch.setattr(_cuda, "_kernels", lambda: None)
    device._kernels = Launches()  # the interpreter looks
    _, kept = device.forward()
    device.backward(kept)
    names = [name for name, _ in device._kernels.made]
    assert names == ["forward", "tally", *["count_digits"] * 4, "add_above", "finish", "backward"]


def test_memory_between_the_passes():
    """One float a pixel, two with weights, and little else."""
    logits, labels = tensors(shape=(4, 64, 64))
    n = labels.numel()
    for options, floats in (({}, 1), ({"weight": torch.ones(5)}, 2)):
        device, _ = served(logits, labels, **options)
        _, kept = device.forward()
        held = {t.untyped_storage().data_ptr(): t.untyped_storage().nbytes() for t in kept.tensors() if t is not None}
        assert sum(held.values()) < 4 * n * floats + 100


def test_search_ends_at_once_where_enough_are_hard(monkeypatch):
    logits, labels = tensors("95% hard")
    device, _ = served(logits, labels)
    tables = []
    add_above = device._kernels.add_above

    class Noting:
        def __getitem__(self, grid):
            def launch(losses, tallied, table, sums, *rest, **options):
                sums.fill_(math.nan)
                add_above[grid](losses, tallied, table, sums, *rest, **options)
                tables.append((table, sums))

            return launch

    monkeypatch.setattr(device._kernels, "add_above", Noting())
    device.forward()
    ((table, sums),) = tables
    assert not table.any()
    assert sums.isnan().all()


def test_declined():
    """What the kernels do not know is left to the composite, and gives its numbers."""
    from ohemloss import MiningRule

    logits, labels = tensors(ignored=0)
    for options in (
        {"label_smoothing": 0.1},
        {"rule": MiningRule(rank_by="prob")},
        {"reduction": "none"},
        {"min_kept": lambda counts: 3},
    ):
        call = prepared(logits, labels, **options)
        assert _cuda.device_of(call.engine, call.inputs, call.options) is None
    call = prepared(logits, labels)
    assert _cuda.device_of(call.engine, call.inputs, call.options, torch.tensor(1.0)) is not None
    assert _cuda.device_of(call.engine, call.inputs, call.options, torch.tensor(1.0, device="meta")) is None


def test_over_processes(tmp_path):
    """The kernels give the losses, all processes the cut, and the kernels the gradient."""
    code = """
    import json, numpy as np
    from ohemloss import _composite
    from ohemloss_torch import OhemCELoss, _across, _served
    from tests._cases import make, make_small
    from tests._libraries import interpreted_kernels
    served, forward = [], _across._served.call_of
    _across._served.call_of = lambda *call: served.append(forward(*call)) or served[-1]
    answer = []
    with interpreted_kernels():
        for regime in ("40% hard", "3% hard"):
            for options in ({}, {"weight": [0.5, 2.0, 0.0, 1.0, 3.0]}, {"resize": "bilinear"}):
                logits, labels = make_small(regime) if "resize" in options else make(regime)
                x, y = torch.tensor(logits[rank : rank + 1], dtype=torch.float32), torch.tensor(labels[rank : rank + 1])
                loss = OhemCELoss(**options, process_group=dist.group.WORLD)(x.requires_grad_(), y)
                loss.backward()
                grads = [torch.zeros_like(x) for _ in range(n_ranks)]
                dist.all_gather(grads, x.grad)
                answer.append([loss.item(), torch.cat(grads).tolist()])
    assert {type(call).__name__ for call in served} == {"Device", "Resized"}, served
    print(json.dumps(answer))
    """
    rows = iter(_processes.run_ranks(code, 2, tmp_path))
    options: dict[str, Any]
    for regime in ("40% hard", "3% hard"):
        for options in ({}, {"weight": [0.5, 2.0, 0.0, 1.0, 3.0]}, {"resize": "bilinear"}):
            logits, labels = make_small(regime) if "resize" in options else make(regime)
            enlarged = interpolate(logits, labels.shape[1:]) if "resize" in options else logits
            weights = {} if "weight" not in options else {"weight": options["weight"]}
            base, expected = reference(enlarged, labels, **weights), gradient(enlarged, labels, **weights)
            if "resize" in options:
                expected = pull_back(expected, logits.shape[2:])
            value, grad = next(rows)
            np.testing.assert_allclose(value, base.value, **tolerance("float32", "value"))
            np.testing.assert_allclose(np.asarray(grad) / 2, expected, rtol=1e-5, atol=1e-7)


def test_autograd_is_served(monkeypatch):
    logits, labels = tensors("3% hard")
    logits.requires_grad_()
    with monkeypatch.context() as patch:
        patch.setattr(_composite, "run_steps", lambda *_: pytest.fail("the composite"))
        patch.setattr(_composite, "gradient_of_kept", lambda *_: pytest.fail("the composite"))
        loss = ohem_cross_entropy(logits, labels)
        loss.mul_(2).backward()  # in place: what is kept must not change with it
    _, slope = value_and_grad(logits.detach(), labels)
    torch.testing.assert_close(logits.grad, 2 * slope)


COMPILED = """
import json
from tests._launches import compiled

report = []
for case in CASES:
    capability, dtype, labels, layout, weighted = case
    code = compiled(capability, dtype, labels, (2, 19, 64, 64), (2, 64, 64),
                    channels_last=layout == "nhwc", weighted=weighted)
    for name, asm in code.items():
        assert asm["cubin"]
        ptx = asm["ptx"]
        report.append([*case, name, ptx.count("ld.global.v4.b32"), ptx.count("st.global.v4.b32"),
                       ".local" in ptx, ptx.count("trap")])
print(json.dumps(report))
"""


@pytest.mark.parametrize("capability", [75, 80, 90, 100])
def test_compiles_ahead_of_time(capability):
    """For each generation of devices, as it would be launched; for one of them every dtype."""
    cases = [(capability, "float32", "int64", "nchw", False), (capability, "bfloat16", "int64", "nchw", False)]
    if capability == 90:
        cases += [(90, dtype, "uint8", "nhwc", True) for dtype in ("float16", "bfloat16", "float32", "float64")]
        cases += [(90, dtype, "int32", "nchw", True) for dtype in ("float16", "float64")]
    report = run(f"CASES = {cases}\n{COMPILED}", TRITON_INTERPRET="0")
    assert len({row[5] for row in report}) == 6
    for _, dtype, _, layout, _, name, loads, stores, in_memory, traps in report:
        assert not in_memory, f"{name} holds more than its registers"
        assert not traps
        if name in ("forward", "backward") and (dtype, layout) in (("float32", "nchw"), ("bfloat16", "nchw")):
            assert loads >= 4, "each thread reads 16 bytes of a class"
            assert stores >= (4 if name == "backward" else 1)
