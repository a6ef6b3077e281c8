"""The Triton kernels of resized logits without a GPU: their numbers by an interpreter, their code by compilers."""

import itertools
import math
import os
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
import torch

from ohemloss import MiningRule, _composite, ohem_cross_entropy, value_and_grad
from ohemloss._options import Options
from ohemloss._validation import prepare
from ohemloss_torch import OhemCELoss, _cuda, _resized, _served
from tests._cases import REGIMES, gradient_tolerance, make_small, round_to, tolerance
from tests._launches import Launches
from tests._libraries import interpreted_kernels
from tests._processes import run
from tests._reference import interpolate, pull_back, reference
from tests.test_host import closed_form

pytestmark = [
    pytest.mark.kernels,
    pytest.mark.skipif(os.environ.get("OHEMLOSS_TEST_KERNELS") != "1", reason="a job of its own"),
]

NAMES = {1: "linear", 2: "bilinear"}
# Lengths of logits and labels: ratios of 8, 4, 3.7, 1 1/2, 1 and 1/2, odd ones, one pixel on either side, several
# blocks of rows, of columns and of cells, and more columns around a logit than a block has.
SIZES = [
    ((2, 3), (16, 24)),
    ((3, 4), (12, 16)),
    ((4, 3), (15, 11)),
    ((4, 5), (6, 5)),
    ((4, 5), (4, 7)),
    ((8, 6), (4, 3)),
    ((5, 7), (7, 5)),
    ((1, 1), (3, 2)),
    ((1, 4), (5, 3)),
    ((4, 3), (1, 7)),
    ((5, 1), (1, 1)),
    ((11, 2), (23, 3)),
    ((2, 17), (3, 136)),
    ((2, 150), (2, 20)),
    ((2, 2), (20, 5)),
    ((2, 3), (2, 420)),
    ((7,), (3,)),
    ((1,), (150,)),
]


@pytest.fixture(autouse=True)
def _interpreted():
    with interpreted_kernels():
        yield


def served(logits, labels, *, weight: Any = None, pixel_weight: Any = None, resize: Any = "bilinear", **options: Any):
    """Validate a call, and give it as it is served."""
    call = prepare(logits, labels, weight, pixel_weight, None, Options(resize=resize, **options))
    found = _served.call_of(call.engine, call.inputs, call.options)
    assert isinstance(found, _resized.Resized)
    return found, call


def passes(*arguments, **options):
    """Run both passes; they give the value, what is kept, and the gradient."""
    device, _ = served(*arguments, **options)
    value, kept = device.forward()
    return value, kept, device.backward(kept)


def tensor(array, dtype="float32"):
    return torch.tensor(array).to(getattr(torch, dtype)) if array.dtype.kind == "f" else torch.tensor(array)


def given(options, dtype):
    wide = "float64" if dtype == "float64" else "float32"
    return {k: tensor(v, wide) if isinstance(v, np.ndarray) else v for k, v in options.items()}


def check(logits, labels, *, dtype="float32", align_corners=False, arrange=lambda x, y: (x, y), axis=1, **options: Any):
    """Compare with the oracle on logits that plain matrices enlarged."""
    size = labels.shape[labels.ndim - (logits.ndim - 2) :]
    enlarged = interpolate(logits, size, align_corners=align_corners)
    base = reference(enlarged, labels, **options)
    expected = pull_back(closed_form(enlarged, labels, base, **options), logits.shape[2:], align_corners=align_corners)
    x, y = arrange(tensor(logits, dtype), tensor(labels))
    resizing = {"resize": NAMES[len(size)], "align_corners": align_corners, "axis": axis}
    value, kept, gradient = passes(x, y, **resizing, **given(options, dtype))

    assert value.dtype == (torch.float64 if dtype == "float64" else torch.float32)
    assert (gradient.dtype, gradient.shape) == (x.dtype, x.shape)
    # Interpolated logits are rounded, and exponentials are as wrong as that; and many pixels add to one logit.
    epsilon, largest = torch.finfo(value.dtype).eps, float(np.max(np.abs(logits), initial=1))
    scale = np.max(np.abs(options.get("weight", 1.0))) * np.max(np.abs(options.get("pixel_weight", 1.0)))
    close = tolerance(dtype, "value")
    close["atol"] += epsilon * largest * scale * (base.count if options.get("reduction") == "sum" else 1)
    np.testing.assert_allclose(value.double().numpy(), base.value, **close)
    close = gradient_tolerance(dtype, base, weight=np.abs(options.get("weight", 1.0)))
    added = np.max(pull_back(np.ones(labels.shape), logits.shape[2:], align_corners=align_corners), initial=0)
    close["atol"] += (4 + largest) * epsilon * scale / base.normaliser * added
    found = gradient.movedim(axis, 1).double().numpy()
    np.testing.assert_allclose(found, expected, **close)
    # What nothing selected looks at is 0, and not only small.
    looked = pull_back((base.weights != 0).astype(float), logits.shape[2:], align_corners=align_corners)
    assert not np.any(found[np.broadcast_to((looked == 0)[:, None], found.shape)])
    return value, kept, gradient


def composite(logits, labels, kept=None, cotangent=None, **options):
    """Give what the composite gives in float64; with a cotangent, from what was kept."""
    options = {"resize": "bilinear", **options}
    call = prepare(logits.double(), labels, None, options.pop("pixel_weight", None), None, Options(**options))
    if kept is None:
        return _composite.value_and_grad(call.engine, call.inputs, call.options)
    found = (kept.scores.double(), kept.cut, kept.divisor, cotangent)
    return None, _composite.gradient_of_kept(call.engine, call.inputs, call.options, *found)


@pytest.mark.parametrize("align_corners", [False, True])
@pytest.mark.parametrize("sizes", SIZES, ids=str)
def test_sizes(sizes, align_corners):
    small, size = sizes
    logits, labels = make_small("40% hard", (1, 3, *small), size, align_corners=align_corners)
    check(logits, labels, align_corners=align_corners)


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float32", "float64"])
@pytest.mark.parametrize("regime", REGIMES)
def test_regimes_and_dtypes(regime, dtype):
    _, kept, _ = check(*make_small(regime, (2, 5, 2, 3), (8, 12)), dtype=dtype)
    assert bool(kept.cut.tie_weight > 0) == (regime == "3% hard")


@pytest.mark.parametrize(
    "options",
    [
        {"weight": np.asarray([0.5, 2.0, 0.0, 1.0, -1.0])},
        {"pixel_weight": np.linspace(0.0, 2.0, 2 * 5 * 9).reshape(2, 5, 9)},
        {"weight": np.asarray([0.5, 2.0, 0.0, 1.0, 3.0]), "pixel_weight": np.linspace(0.0, 2.0, 9)},
        {"min_kept": 40, "thresh": None, "reduction": "sum"},
        {"ignore_index": None},
        {"ignore_index": 3, "min_kept": 0.9},
    ],
    ids=lambda options: "-".join(options),
)
def test_options(options):
    logits, labels = make_small("40% hard", (2, 5, 2, 4), (5, 9))
    labels[labels == 255] = 3
    check(logits, labels, **options)


def test_options_as_tensors():
    logits, labels = make_small("40% hard", (1, 5, 2, 3), (4, 9))
    for thresh, min_kept in ((0.2, 0.9), (0.9, 0.1), (0.2, 20)):
        number, _, gradient = check(logits, labels, thresh=thresh, min_kept=min_kept)
        arrays = {"thresh": torch.tensor(thresh, dtype=torch.float64), "min_kept": torch.tensor(min_kept)}
        value, _, again = passes(tensor(logits), tensor(labels), **arrays)
        assert torch.equal(value, number)
        assert torch.equal(again, gradient)
    thresh = torch.tensor(0.5)
    device, _ = served(tensor(logits), tensor(labels), thresh=thresh)
    thresh.fill_(1.5)  # out of its range, which the host does not see
    value, kept = device.forward()
    assert math.isnan(value)
    assert device.backward(kept).isnan().all()


def channels_last(logits, labels):
    return logits.contiguous(memory_format=torch.channels_last), labels


def crop(logits, labels):
    """Parts of larger arrays, with something else around them."""
    whole = torch.full([n + 3 for n in logits.shape], math.nan, dtype=logits.dtype)[1:-2, 2:-1, 1:-2, 2:-1]
    around = torch.full([2 * n + 3 for n in labels.shape], -7)[1:-2:2, 2:-1:2, 1:-2:2]
    return whole.copy_(logits), around.copy_(labels)


def narrow(logits, labels):
    return logits, labels.transpose(1, 2).contiguous().to(torch.uint8).transpose(1, 2)


@pytest.mark.parametrize("arrange", [channels_last, crop, narrow], ids=lambda function: function.__name__)
def test_layouts(arrange):
    check(*make_small("40% hard", (2, 5, 2, 3), (5, 9)), arrange=arrange)


@pytest.mark.parametrize("axis", [0, 2, 3])
def test_class_axis_anywhere(axis):
    check(*make_small("40% hard", (2, 5, 2, 3), (5, 9)), axis=axis, arrange=lambda x, y: (x.movedim(1, axis), y))


def test_no_batch_and_more_of_it():
    """Images that cannot be counted by one stride, with the classes between their axes or in a part, are copied."""
    rng = np.random.default_rng(0)
    x, y = (
        torch.tensor(rng.normal(size=(2, 2, 4, 2, 1, 2))).float(),
        torch.tensor(rng.integers(4, size=(2, 2, 2, 2, 3))),
    )
    _close(passes(x, y, axis=2), *composite(x, y, axis=2))
    x = x.movedim(2, 3).contiguous()
    _close(passes(x, y, axis=3), *composite(x, y, axis=3))
    part = torch.full((2, 3, 2, 4, 1, 2), math.nan)[:, 1:].copy_(x)
    _close(passes(part, y, axis=3), *composite(x, y, axis=3))
    _close(passes(x[0, 1, 1], y[0, 1, 1], axis=0), *composite(x[0, 1, 1], y[0, 1, 1], axis=0))
    lines = torch.tensor(rng.integers(4, size=(2, 2, 2, 1, 5)))
    _close(passes(x, lines, axis=3, resize="linear"), *composite(x, lines, axis=3, resize="linear"))


def _close(found, value, gradient):
    torch.testing.assert_close(found[0].double(), value, rtol=2e-6, atol=1e-7)
    torch.testing.assert_close(found[2].double(), gradient, rtol=1e-5, atol=1e-7)


def test_overlapping_logits():
    """One vector of classes everywhere: the gradient cannot lie as its logits do."""
    x = torch.randn(2, 4, 1, 1).expand(2, 4, 2, 3)
    y = torch.randint(0, 4, (2, 3, 7))
    value, _, gradient = passes(x, y)
    assert gradient.is_contiguous()
    _close((value, None, gradient), *composite(x, y))


@pytest.mark.parametrize("n_classes", [1, 2, 9, 150])
def test_classes(n_classes):
    rng = np.random.default_rng(n_classes)
    logits = round_to(rng.normal(size=(1, n_classes, 2, 2)), "bfloat16")
    labels = rng.integers(n_classes, size=(1, 3, 5))
    labels[0, 1, 1] = 255
    check(logits, labels, thresh=None, min_kept=1.0)


def test_selected_pixels_far_apart():
    """Gaps without any lie between, before and after: what is carried from gap to gap must end with them."""
    logits, some = make_small("40% hard", (1, 3, 11, 3), (22, 6), ignored=0)
    for rows in ([3], [0, 21], [4, 9, 15, 16], [17]):
        labels = np.full_like(some, 255)
        labels[:, rows] = some[:, rows]
        labels[:, :, 4] = 255
        check(logits, np.where(labels == 255, 255, labels % 3), thresh=None, min_kept=1.0)


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf, 1e4, -1e4])
@pytest.mark.parametrize("align_corners", [False, True])
def test_extreme_logits(bad, align_corners):
    """At exactly the neighbours of pixels that count, as the composite."""
    logits, labels = make_small("40% hard", (1, 3, 3, 4), (7, 9), ignored=0.3)
    logits, labels = tensor(logits), tensor(labels)
    some: dict[str, Any] = {"thresh": None, "min_kept": 1}
    for place, options in (((0, 1, 1, 2), {}), ((0, 2, 2, 3), some)):
        x = logits.clone()
        x[place] = bad
        _same(x, labels, align_corners=align_corners, **options)
    if bad == -math.inf:
        _same(x, labels.clamp(max=2), align_corners=align_corners, pixel_weight=torch.zeros(()))  # 0 times infinity
    labels[:, :4] = 255
    x = logits.clone()
    x[0, 0, 0] = bad  # that only ignored pixels look at, but for shares of 0
    _same(x, labels, align_corners=align_corners)


def _same(logits, labels, **options):
    value, _, gradient = passes(logits, labels, **options)
    expected, slope = composite(logits, labels, **options)
    torch.testing.assert_close(value.double(), expected, rtol=2e-6, atol=1e-7, equal_nan=True)
    # A softmax is as wrong as the interpolated logits, which are rounded.
    rtol = 1e-5 + 4 * torch.finfo(torch.float32).eps * float(logits.nan_to_num(0, 0, 0).abs().max())
    torch.testing.assert_close(gradient.double(), slope, rtol=rtol, atol=1e-6, equal_nan=True)


def test_axis_that_is_not_resized_has_one_neighbour():
    """There a logit that is not finite shows at its own place alone."""
    logits, labels = make_small("40% hard", (1, 3, 3, 4), (3, 9), ignored=0)
    labels[labels == 255] = 0
    for x, y in ((logits, labels), (logits.swapaxes(2, 3), labels.swapaxes(1, 2))):
        x = x.copy()
        x[0, 1, 1, 1] = math.nan
        _same(tensor(x), tensor(y), thresh=None, min_kept=1.0)


@pytest.mark.parametrize("cotangent", [math.inf, math.nan, -2.0])
def test_cotangents(cotangent):
    logits, labels = make_small("40% hard", (1, 3, 3, 3), (9, 8), ignored=0.3)
    logits, labels = tensor(logits), tensor(labels)
    labels[:, 4:7] = 255
    device, _ = served(logits, labels)
    _, kept = device.forward()
    found = device.backward(kept, torch.tensor(cotangent))
    _, expected = composite(logits, labels, kept, torch.tensor(cotangent, dtype=torch.float64))
    torch.testing.assert_close(found.double(), expected, rtol=1e-5, atol=1e-6, equal_nan=True)


@pytest.mark.parametrize("label", [3, -1, 2**40, -(2**62)])
def test_wrong_labels_are_nan_and_read_nothing_else(label):
    logits, labels = make_small("40% hard", (1, 3, 2, 3), (4, 9), ignored=0)
    labels[labels == 255] = 0
    labels[0, 0, 0] = label
    weight = torch.ones(3) if label == 3 else None
    value, _, gradient = passes(tensor(logits), tensor(labels), weight=weight)
    assert math.isnan(value)
    assert gradient.isnan().nonzero().unique(dim=0).tolist() == [
        [0, c, i, j] for c, i, j in itertools.product(range(3), (0, 1), (0, 1))
    ]


@pytest.mark.parametrize("size", [50.0, 70.0, 3000.0])
def test_large_losses_keep_their_digits(size):
    logits, labels = make_small("40% hard", (1, 4, 2, 3), (4, 9), ignored=0)
    logits[:, 3] -= size
    labels = tensor(np.full_like(labels, 3))
    value, _, gradient = passes(tensor(logits), labels)
    assert float(value) > size - 20
    torch.testing.assert_close(gradient[:, 3].sum(), torch.tensor(-1.0), rtol=3e-6, atol=0)
    torch.testing.assert_close(gradient[:, :3].sum(), torch.tensor(1.0), rtol=3e-6, atol=0)


@pytest.mark.parametrize("label", [0, 2])
def test_large_logits_keep_their_digits(label):
    """Two classes that are equally likely, however large their logits are."""
    logits = torch.tensor([1e8, 1e8, 0.0]).reshape(1, 3, 1, 1).expand(1, 3, 2, 3)
    _, _, gradient = passes(logits, torch.full((1, 4, 9), label))
    expected = torch.tensor([0.5, 0.5, 0.0])
    expected[label] -= 1
    torch.testing.assert_close(gradient.sum((0, 2, 3)), expected, rtol=1e-6, atol=1e-7)


def test_nothing_selected():
    logits, labels = make_small("40% hard", (1, 3, 2, 3), (4, 9))
    options: dict[str, Any]
    for options in ({"thresh": None, "min_kept": 0}, {"thresh": 0.0, "min_kept": 0.0}):
        value, _, gradient = check(logits, labels, **options)
        assert value == 0
        assert not gradient.any()
    logits[...] = math.nan
    value, _, gradient = passes(tensor(logits), torch.full((1, 4, 9), 255))
    assert value == 0
    assert torch.equal(gradient, torch.zeros(1, 3, 2, 3))


@pytest.mark.parametrize(
    ("small", "large"),
    [
        ((0, 3, 2, 3), (0, 5, 4)),
        ((2, 3, 2, 3), (2, 0, 4)),
        ((1, 3, 0, 3), (1, 0, 4)),
        ((2, 3, 0, 4, 2, 3), (2, 0, 4, 5, 4)),
    ],
)
def test_empty(small, large):
    value, _, gradient = passes(torch.randn(small), torch.zeros(large, dtype=torch.int64))
    assert value == 0
    assert torch.equal(gradient, torch.zeros(small))


def test_same_bits_every_time():
    logits, labels = (tensor(array) for array in make_small("3% hard", (2, 5, 3, 4), (12, 15)))
    found = []
    for _ in range(3):
        value, kept, gradient = passes(logits, labels)
        found.append((value, *kept.tensors(), gradient))
    for again in found[1:]:
        assert all(torch.equal(a, b) for a, b in zip(again, found[0], strict=True))


def test_autograd_is_served(monkeypatch):
    x, y = (tensor(array) for array in make_small("3% hard", (1, 5, 2, 3), (5, 9)))
    leaf = x.clone().requires_grad_()
    criterion = OhemCELoss(weight=[1.0, 2.0, 1.0, 0.5, 1.0], resize="bilinear", align_corners=True)
    with monkeypatch.context() as patch:
        patch.setattr(_composite, "run_steps", lambda *_: pytest.fail("the composite"))
        patch.setattr(_composite, "gradient_of_kept", lambda *_: pytest.fail("the composite"))
        loss = criterion(leaf, y)
        loss.mul_(2).backward(retain_graph=True)
        first = leaf.grad.clone()
        loss.backward()
    assert torch.equal(leaf.grad, 2 * first)  # what is kept has not changed
    options = {"weight": criterion.weight, "resize": "bilinear", "align_corners": True}
    torch.testing.assert_close(first, 2 * value_and_grad(x, y, **options)[1])


def test_second_derivatives_are_those_of_the_composite():
    x, y = (tensor(array, "float64") for array in make_small("40% hard", (1, 3, 2, 2), (3, 5)))
    leaf = x.clone().requires_grad_()
    (slope,) = torch.autograd.grad(ohem_cross_entropy(leaf, y, resize="bilinear"), leaf, create_graph=True)
    direction = torch.randn(x.shape, generator=torch.Generator().manual_seed(0), dtype=x.dtype)
    (found,) = torch.autograd.grad(slope, leaf, direction)
    ahead, behind = (value_and_grad(x + step * direction, y, resize="bilinear")[1] for step in (1e-4, -1e-4))
    torch.testing.assert_close(found, (ahead - behind) / 2e-4, rtol=1e-5, atol=1e-7)


def test_forward_of_the_composite():
    """An option whose values are not in its memory keeps the kernels away forward, and is not there backward."""
    x, y = (tensor(array) for array in make_small("40% hard", (1, 3, 2, 3), (5, 9)))
    thresh = torch.tensor([-0.6j]).conj().imag[0]
    assert thresh.is_neg()
    leaf = x.clone().requires_grad_()
    ohem_cross_entropy(leaf, y, thresh=thresh, weight=torch.ones(3), resize="bilinear").backward()
    torch.testing.assert_close(leaf.grad, value_and_grad(x, y, thresh=0.6, resize="bilinear")[1])


def test_more_elements_than_32_bits_count():
    """Along any axis, by strides that fit 32 bits themselves; only some pages are ever touched."""
    far = 2**30 + 64
    memory, places = torch.empty(2 * far + 2**14, dtype=torch.float16), torch.empty(3 * far + 2**14, dtype=torch.uint8)
    rng = np.random.default_rng(0)
    x, y = torch.tensor(rng.normal(size=(3, 3, 3, 3))).half(), torch.tensor(rng.integers(3, size=(3, 4, 4))).byte()
    expected, slope = composite(x, y)
    for axis in range(4):
        steps = [27, 9, 3, 1]
        steps[axis] = far
        logits, labels = memory.as_strided(x.shape, steps).copy_(x), y
        if axis != 1:
            labels = places.as_strided(y.shape, [far if i == axis else n for i, n in ((0, 16), (2, 4), (3, 1))]).copy_(
                y
            )
        value, _, gradient = passes(logits, labels)
        torch.testing.assert_close(value.double(), expected, rtol=1e-5, atol=0)
        torch.testing.assert_close(gradient.double(), slope, rtol=2e-3, atol=1e-6)


def test_places_that_32_bits_cannot_hold(monkeypatch):
    line = torch.randn(1, 1, 6_000_000, generator=torch.Generator().manual_seed(0))
    logits, labels = torch.cat((line, -line), dim=1), torch.zeros(1, 180, dtype=torch.int64)
    device, call = served(logits, labels, resize="linear")
    expected = _composite.loss(call.engine, call.inputs, call.options)
    torch.testing.assert_close(device.forward()[0], expected, rtol=2e-6, atol=0)
    small, large = (tensor(array) for array in make_small("40% hard", (1, 3, 3, 4), (7, 9)))
    narrow = passes(small, large, align_corners=True)
    monkeypatch.setattr(_resized.Axis, "largest", 2**31)
    wide = passes(small, large, align_corners=True)
    assert torch.equal(narrow[0], wide[0])
    assert torch.equal(narrow[2], wide[2])


def test_blocks_have_room_for_what_looks_at_their_cells():
    """Exactly, for every block of many axes: else columns would be lost without a sign."""
    for n, m, align_corners in itertools.product(range(1, 40), range(1, 400, 11), (False, True)):
        axis = _resized.Axis(n, m, align_corners)
        scale, offset, unit = axis.places
        lower = [max(i * scale + offset, 0) // unit for i in range(m)]
        for i, position in enumerate(lower):
            exact = Fraction(i * (n - 1), max(m - 1, 1)) if align_corners else Fraction((2 * i + 1) * n - m, 2 * m)
            assert position == math.floor(max(exact, 0)) < n
        counted = max(lower.count(j) for j in range(1, n)) if n > 1 else m
        assert counted <= axis.longest
        assert 1 <= axis.n_wide <= 128
        if axis.n_tall > 1:
            for first in range(0, n, axis.n_wide):
                reach = [i for i, j in enumerate(lower) if first - axis.is_resized <= j < first + axis.n_wide]
                assert len(reach) <= 128


@pytest.mark.parametrize("ratio", [2, 4, 8])
def test_memory_and_host_that_never_looks(monkeypatch, ratio):
    """Beyond the arguments the gradient, 12 bytes a pixel, and a little for each block."""
    logits, labels = torch.zeros(2, 19, 256 // ratio, 256 // ratio), torch.zeros(2, 256, 256, dtype=torch.int64)
    device, _ = served(logits, labels, thresh=torch.tensor(0.7), min_kept=torch.tensor(0.1))

    def look(*_, **__):
        pytest.fail("the host looks")

    for name in ("item", "tolist", "nonzero", "masked_select", "cpu", "numpy", "__bool__", "__int__", "__float__"):
        monkeypatch.setattr(torch.Tensor, name, look)
    launches = Launches()
    device._kernels = device._resized = launches
    _, kept = device.forward()
    gradient = device.backward(kept)
    names = [name for name, _ in launches.made]
    assert names == ["forward_resized", "tally", *["count_digits"] * 4, "add_above", "finish", "backward_resized"]
    used = sum(launches.bytes.values()) - logits.nbytes - labels.nbytes
    assert gradient.nbytes == logits.nbytes
    assert used <= gradient.nbytes + 12 * labels.numel() + 2**14
    assert sum(t.nbytes for t in kept.tensors() if t is not None) <= 12 * labels.numel() + 100


def test_declined(monkeypatch):
    """What the kernels do not know is left to the composite, and gives its numbers; equal sizes are none of theirs."""
    x, y = (tensor(array) for array in make_small("40% hard", (1, 3, 2, 3), (5, 9), ignored=0))
    y = y.clamp(max=2)
    options: dict[str, Any]
    for options in (
        {"label_smoothing": 0.1},
        {"rule": MiningRule(rank_by="prob")},
        {"reduction": "none"},
        {"min_kept": lambda counts: 3},
    ):
        call = prepare(x, y, None, None, None, Options(resize="bilinear", **options))
        assert _served.device_of(call.engine, call.inputs, call.options) is None
        assert _served.resized_of(call.engine, call.inputs, call.options) is None
    volume = torch.randn(1, 3, 2, 2, 3), torch.randint(0, 3, (1, 4, 3, 5))
    call = prepare(*volume, None, None, None, Options(resize="trilinear"))
    assert _served.resized_of(call.engine, call.inputs, call.options) is None
    call = prepare(x, y[:, :2, :3], None, None, None, Options(resize="bilinear", align_corners=True))
    assert type(_served.call_of(call.engine, call.inputs, call.options)) is _cuda.Device
    expected, _ = composite(x, y)
    monkeypatch.setattr(_resized, "_kernels", lambda: None)  # an older Triton
    call = prepare(x, y, None, None, None, Options(resize="bilinear"))
    assert _served.resized_of(call.engine, call.inputs, call.options) is None
    torch.testing.assert_close(ohem_cross_entropy(x, y, resize="bilinear").double(), expected, rtol=2e-6, atol=1e-7)


COMPILED = """
import json
from tests._launches import compiled, usage

report = []
for case in CASES:
    capability, dtype, labels, height, channels_last, weighted, resize, align_corners = case
    code = compiled(capability, dtype, labels, (2, 19, height, 2 * height), (2, 64, 128),
                    channels_last=channels_last, weighted=weighted, resize=resize, align_corners=align_corners)
    for name, asm in code.items():
        report.append([*case, name, *usage(asm["cubin"]), asm["ptx"].count("trap"), asm["ptx"].count("ex2.approx.ftz")])
print(json.dumps(report))
"""


def test_compiles_ahead_of_time():
    """For each generation of devices, by all that a launch does; for one of them more sizes and dtypes."""
    cases = [
        *((capability, "float32", "int64", 8, False, False, "bilinear", False) for capability in (75, 80, 90, 100)),
        (90, "bfloat16", "uint8", 16, True, True, "bilinear", True),
        (90, "float64", "int32", 32, False, True, "bilinear", False),
        (90, "float32", "int64", 64, False, False, None, False),  # of equal sizes
    ]
    report = run(f"CASES = {cases}\n{COMPILED}", TRITON_INTERPRET="0")
    assert len({row[8] for row in report}) == 8
    for capability, dtype, *_, name, registers, stack, traps, exps in report:
        assert not traps
        if name.endswith("_resized"):
            assert stack <= (8 if capability == 100 else 0), f"{name} holds more than its registers"
            assert registers <= (255 if dtype == "float64" else 168)
        if (name, dtype) == ("forward_resized", "float32"):
            assert exps >= 8, "a thread has 8 rows, and an instruction for the exponential of each"
