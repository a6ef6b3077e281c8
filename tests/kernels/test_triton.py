"""The Triton kernels in the interpreter: what autograd, memory and the order of the kernels ask of them alone."""

import itertools
import math
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
import torch

from ohemloss import MiningRule, _composite, ohem_cross_entropy, value_and_grad
from ohemloss._options import Options
from ohemloss._validation import prepare
from ohemloss_torch import OhemCELoss, _cuda, _resized, _served
from tests import _processes
from tests._cases import make, make_small
from tests._libraries import interpreted_kernels
from tests._ranks import Ranks
from tests.conformance._check import assert_both, case_of

from ._launches import Launches

pytestmark = pytest.mark.kernels
BILINEAR = {"resize": "bilinear"}
EITHER = pytest.mark.parametrize("options", [{}, BILINEAR], ids=["plain", "resized"])


@pytest.fixture(autouse=True)
def _interpreted():
    with interpreted_kernels():
        yield


def tensors(regime="40% hard", dtype="float32", **options):
    logits, labels = make(regime, **options)
    return torch.tensor(logits).contiguous().to(getattr(torch, dtype)), torch.tensor(labels)


def small(regime="40% hard", shape=(1, 3, 2, 3), size=(5, 9), dtype="float32", **options):
    logits, labels = make_small(regime, shape, size, **options)
    return torch.tensor(logits).to(getattr(torch, dtype)), torch.tensor(labels)


def inputs(options, regime="40% hard", **others):
    """Make a batch that is resized, or one that is not."""
    return small(regime, **others) if options else tensors(regime, shape=(2, 3, 4), n_classes=3, **others)


def prepared(logits, labels, *, weight: Any = None, pixel_weight: Any = None, **options: Any):
    """Validate a call."""
    return prepare(logits, labels, weight, pixel_weight, None, Options(**options))


def served(logits, labels, **options):
    """Give the call as the kernels serve it."""
    call = prepared(logits, labels, **options)
    found = _served.call_of(call.engine, call.inputs, call.options)
    assert type(found) is (_resized.Resized if options.get("resize") else _cuda.Device)
    return found


def passes(*arguments, **options):
    """Run both passes; they give the value, what is kept, and the gradient."""
    device = served(*arguments, **options)
    value, kept = device.forward()
    return value, kept, device.backward(kept)


def composite(logits, labels, **options):
    """Give what the composite gives in float64."""
    call = prepared(logits.double(), labels, **options)
    return _composite.value_and_grad(call.engine, call.inputs, call.options)


def check(logits, labels, **options):
    """Compare with the composite, where no path of the table can lay out such a tensor."""
    value, _, gradient = passes(logits, labels, **options)
    expected, slope = composite(logits, labels, **options)
    torch.testing.assert_close(value.double(), expected, rtol=2e-6, atol=1e-7)
    rtol = 1e-5 if gradient.dtype == torch.float32 else 2e-3
    torch.testing.assert_close(gradient.double(), slope, rtol=rtol, atol=1e-6 if rtol > 1e-5 else 1e-7)
    return gradient


class TestSelection:
    @pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
    def test_nan_of_either_sign_ranks_first(self, dtype):
        scores = torch.tensor([1.0, math.nan, -2.0, math.inf, -math.nan], dtype=dtype)
        assert scores.signbit().sum() == 2
        for k, expected in ((3, math.inf), (4, 1.0), (5, -2.0)):
            assert _cuda.kth_largest(scores, torch.tensor(k), torch.tensor(True), per_image=False) == expected

    def test_ties_at_minus_infinity(self):
        """Ignored pixels are minus infinity as well, and share nothing."""
        logits = torch.tensor([[0.0, 0.0], [-math.inf, 0.0], [-math.inf, 0.0], [0.0, 0.0], [0.0, 0.0]])
        weight, labels = torch.tensor([-1.0, 1.0]), torch.tensor([1, 0, 0, 255, 255])
        _, kept = served(logits, labels, weight=weight, thresh=None, min_kept=2).forward()
        assert float(kept.cut.value) == -math.inf
        assert float(kept.cut.tie_weight) == 0.5

    def test_ties_at_zero_of_either_sign(self):
        logits, labels = torch.tensor([[200.0, 0.0], [0.0, 200.0]] * 2), torch.tensor([0, 1, 0, 1])
        value, kept = served(logits, labels, weight=torch.tensor([-1.0, 1.0]), thresh=None, min_kept=1).forward()
        assert torch.equal(kept.scores.signbit(), torch.tensor([True, False] * 2))
        assert float(kept.cut.tie_weight) == 0.25
        assert value == 0

    @pytest.mark.parametrize("bad", [math.nan, -math.inf])
    def test_pixel_at_the_threshold_beside_one_that_is_not_finite(self, bad):
        """It is not hard, and shares nothing."""
        logits = torch.tensor([[200.0, 0.0], [0.0, 1.0], [bad, 0.0]])
        _, _, gradient = passes(logits, torch.zeros(3, dtype=torch.int64), thresh=1.0, min_kept=0)
        assert gradient[0].tolist() == [0, 0]

    @EITHER
    def test_options_as_tensors(self, options):
        """The same bits as from numbers, and NaN where a threshold is out of its range."""
        x, y = inputs(options)
        for thresh, min_kept in ((0.2, 0.9), (0.9, 0.1), (0.2, 7)):
            number, _, gradient = passes(x, y, thresh=thresh, min_kept=min_kept, **options)
            arrays = {"thresh": torch.tensor(thresh, dtype=torch.float64), "min_kept": torch.tensor(min_kept)}
            value, _, again = passes(x, y, **arrays, **options)
            assert torch.equal(value, number)
            assert torch.equal(again, gradient)
        thresh = torch.tensor(0.5)
        device = served(x, y, thresh=thresh, **options)
        thresh.fill_(1.5)  # out of its range, which the host does not see
        value, kept = device.forward()
        assert math.isnan(value)
        pixels = device.backward(kept).isnan()
        assert pixels.all() if options else torch.equal(pixels.any(1), y != 255)

    def test_search_ends_at_once_where_enough_are_hard(self, monkeypatch):
        device = served(*tensors("95% hard"))
        tables, add_above = [], device._kernels.add_above

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

    @EITHER
    @pytest.mark.parametrize("label", [3, -1, 2**40, -(2**62)])
    def test_wrong_labels_are_nan_and_read_nothing_else(self, options, label):
        """A label that is no class is never an index: far away lies no memory of this process."""
        x, y = inputs(options, ignored=0)
        y[y == 255], y[0, 0, 0] = 0, label
        weight = torch.zeros(3) if label == 3 and not options else torch.ones(3) if label == 3 else None
        value, _, gradient = passes(x, y, weight=weight, **options)
        assert math.isnan(value)
        near = (0, 1) if options else (0,)
        expected = [[0, c, i, j] for c, i, j in itertools.product(range(3), near, near)]
        assert gradient.isnan().nonzero().tolist() == expected
        with pytest.raises(ValueError, match="`labels` must lie in"):
            ohem_cross_entropy(x, y, **options)

    def test_order_of_the_pixels_does_not_matter_to_the_selection(self):
        logits, labels = tensors("3% hard", shape=(1147,))
        order = torch.randperm(len(labels), generator=torch.Generator().manual_seed(0))
        (_, one), (_, other) = (served(*pair).forward() for pair in ((logits, labels), (logits[order], labels[order])))
        assert torch.equal(one.cut.value, other.cut.value)
        assert torch.equal(one.cut.count, other.cut.count)
        assert torch.equal(one.scores[order], other.scores)

    @EITHER
    def test_same_bits_every_time(self, options):
        x, y = inputs(options, "3% hard")
        found = []
        for _ in range(3):
            value, kept, gradient = passes(x, y, **options)
            found.append((value, *kept.tensors(), gradient))
        for again in found[1:]:
            assert all(a is b is None or torch.equal(a, b) for a, b in zip(again, found[0], strict=True))


class TestAutograd:
    @EITHER
    def test_is_served(self, monkeypatch, options):
        x, y = inputs(options, "3% hard")
        leaf = x.clone().requires_grad_()
        criterion = OhemCELoss(weight=[1.0, 2.0, 0.5], **options)
        with monkeypatch.context() as patch:
            patch.setattr(_composite, "run_steps", lambda *_: pytest.fail("the composite"))
            patch.setattr(_composite, "gradient_of_kept", lambda *_: pytest.fail("the composite"))
            loss = criterion(leaf, y)
            loss.mul_(2).backward(retain_graph=True)  # in place: what is kept must not change with it
            first = leaf.grad.clone()
            loss.backward()
        assert torch.equal(leaf.grad, 2 * first)
        torch.testing.assert_close(first, 2 * value_and_grad(x, y, weight=criterion.weight, **options)[1])

    @EITHER
    @pytest.mark.parametrize("weight", [None, torch.arange(3.0)], ids=["none", "weights"])
    def test_forward_of_the_composite(self, options, weight):
        """A tensor without memory keeps the kernels away forward alone, a function of the counts both ways."""
        x, y = inputs(options)
        thresh = torch.tensor([-0.6j]).conj().imag[0]
        assert thresh.is_neg()
        unknown: dict[str, Any]
        for unknown, known in (
            ({"thresh": thresh}, {"thresh": 0.6}),
            ({"min_kept": lambda counts: 20}, {"min_kept": 20}),
        ):
            leaf = x.clone().requires_grad_()
            ohem_cross_entropy(leaf, y, weight=weight, **unknown, **options).backward()
            torch.testing.assert_close(leaf.grad, value_and_grad(x, y, weight=weight, **known, **options)[1])

    def test_cotangents_that_stand_for_others(self):
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

    @pytest.mark.parametrize("cotangent", [math.inf, math.nan, -2.0])
    def test_cotangents(self, cotangent):
        logits, labels = small(shape=(1, 3, 3, 3), size=(9, 8), ignored=0.3)
        labels[:, 4:7] = 255
        device, call = served(logits, labels, **BILINEAR), prepared(logits.double(), labels, **BILINEAR)
        _, kept = device.forward()
        found = device.backward(kept, torch.tensor(cotangent))
        others = (kept.scores.double(), kept.cut, kept.divisor, torch.tensor(cotangent, dtype=torch.float64))
        expected = _composite.gradient_of_kept(call.engine, call.inputs, call.options, *others)
        torch.testing.assert_close(found.double(), expected, rtol=1e-5, atol=1e-6, equal_nan=True)

    def test_second_derivatives_are_those_of_the_composite(self):
        x, y = small(shape=(1, 3, 2, 2), size=(3, 5), dtype="float64")
        leaf = x.clone().requires_grad_()
        (slope,) = torch.autograd.grad(ohem_cross_entropy(leaf, y, resize="bilinear"), leaf, create_graph=True)
        direction = torch.randn(x.shape, generator=torch.Generator().manual_seed(0), dtype=x.dtype)
        (found,) = torch.autograd.grad(slope, leaf, direction)
        ahead, behind = (value_and_grad(x + step * direction, y, resize="bilinear")[1] for step in (1e-4, -1e-4))
        torch.testing.assert_close(found, (ahead - behind) / 2e-4, rtol=1e-5, atol=1e-7)


class TestLayouts:
    def test_more_axes_than_kernels_know(self):
        """They are copied: a part of a volume, and images that no stride counts, around the classes or in a part."""
        whole, labels = torch.randn(3, 4, 5, 4, 4, 4), torch.randint(0, 4, (3, 5, 4, 4, 4))
        part, some = whole[:, :, 1:4, ::2, 1:3, 2:], labels[:, 1:4, ::2, 1:3, 2:]
        check(part, some, pixel_weight=torch.rand(3, 1, 2, 1))
        x, y = torch.randn(2, 2, 4, 1, 2), torch.randint(0, 4, (2, 2, 2, 3))
        check(torch.full((2, 3, 4, 1, 2), math.nan)[:, 1:].copy_(x), y, axis=2, **BILINEAR)
        check(x.movedim(2, 1).contiguous(), y, axis=1, **BILINEAR)
        check(x, torch.randint(0, 4, (2, 2, 1, 5)), axis=2, resize="linear")

    def test_overlapping_logits(self):
        """Windows of one signal, or one vector of classes everywhere: their gradient cannot lie as they do."""
        logits = torch.randn(40).as_strided((5, 3, 4, 2, 3), (6, 1, 2, 1, 3))
        check(logits, torch.randint(0, 3, (5, 4, 2, 3)))
        gradient = check(torch.randn(2, 4, 1, 1).expand(2, 4, 2, 3), torch.randint(0, 4, (2, 3, 7)), **BILINEAR)
        assert gradient.is_contiguous()

    def test_more_elements_than_32_bits_count(self):
        """Two images 2**31 elements apart, of which only some pages are ever touched."""
        far = 2**31 + 64
        memory = torch.empty(far + 2**16, dtype=torch.float16)
        logits = memory.as_strided((2, 3, 40), (far, 40, 1))
        logits.copy_(torch.randn(2, 3, 40))
        check(logits, torch.randint(0, 3, (2, 40)))
        classes = memory.as_strided((2, 40), (far, 1))[None]  # classes that far apart
        check(classes, torch.randint(0, 2, (1, 40)))
        rows = memory.as_strided((2, 3, 4, 10), (far, 200, 20, 1))  # three axes of pixels and classes
        check(rows.copy_(torch.randn(2, 3, 4, 10)), torch.randint(0, 4, (2, 3, 10)), axis=2)

    @pytest.mark.parametrize("axis", range(4))
    def test_resized_elements_than_32_bits_count(self, axis):
        """Along any axis, by strides that fit 32 bits themselves."""
        far = 2**30 + 64
        memory, places = (torch.empty(n * far + 2**14, dtype=t) for n, t in ((2, torch.float16), (3, torch.uint8)))
        rng = np.random.default_rng(0)
        x, labels = torch.tensor(rng.normal(size=(3, 3, 3, 3))).half(), torch.tensor(rng.integers(3, size=(3, 4, 4)))
        labels, steps = labels.byte(), [27, 9, 3, 1]
        steps[axis] = far
        logits = memory.as_strided(x.shape, steps).copy_(x)
        if axis != 1:
            strides = [far if i == axis else n for i, n in ((0, 16), (2, 4), (3, 1))]
            labels = places.as_strided(labels.shape, strides).copy_(labels)
        check(logits, labels, **BILINEAR)

    def test_places_that_32_bits_cannot_hold(self, monkeypatch):
        line = torch.randn(1, 1, 6_000_000, generator=torch.Generator().manual_seed(0))
        logits, labels = torch.cat((line, -line), dim=1), torch.zeros(1, 180, dtype=torch.int64)
        value, _ = served(logits, labels, resize="linear").forward()
        call = prepared(logits, labels, resize="linear")
        expected = _composite.loss(call.engine, call.inputs, call.options)
        torch.testing.assert_close(value, expected, rtol=2e-6, atol=0)
        batch = small(shape=(1, 3, 3, 4), size=(7, 9))
        narrow = passes(*batch, align_corners=True, **BILINEAR)
        monkeypatch.setattr(_resized.Axis, "largest", 2**31)
        wide = passes(*batch, align_corners=True, **BILINEAR)
        assert torch.equal(narrow[0], wide[0])
        assert torch.equal(narrow[2], wide[2])

    def test_blocks_have_room_for_what_looks_at_their_cells(self):
        """Exactly, for every block of many axes: else columns would be lost without a sign."""
        for n, m, align_corners in itertools.product(range(1, 40), range(1, 400, 11), (False, True)):
            axis = _resized.Axis(n, m, align_corners)
            scale, offset, unit = axis.places
            lower = [max(i * scale + offset, 0) // unit for i in range(m)]
            for i in {0, 1, m // 2, m - 1} & {*range(m)}:
                exact = Fraction(i * (n - 1), max(m - 1, 1)) if align_corners else Fraction((2 * i + 1) * n - m, 2 * m)
                assert lower[i] == math.floor(max(exact, 0)) < n
            counts = np.bincount(lower, minlength=n)
            assert (counts[1:].max() if n > 1 else m) <= axis.longest
            assert 1 <= axis.n_wide <= 128
            if axis.n_tall > 1:
                for first in range(0, n, axis.n_wide):
                    assert counts[max(first - axis.is_resized, 0) : first + axis.n_wide].sum() <= 128


class TestServed:
    @pytest.mark.parametrize(("ratio", "most"), [(1, 4), (2, 12), (4, 12), (8, 12)])
    def test_memory_and_host_that_never_looks(self, monkeypatch, ratio, most):
        """Beyond the arguments the gradient, 4 or 12 bytes a pixel, and a little for each block."""
        logits, labels = torch.zeros(2, 19, 256 // ratio, 256 // ratio), torch.zeros(2, 256, 256, dtype=torch.int64)
        options: dict[str, Any] = BILINEAR if ratio > 1 else {}
        device = served(logits, labels, thresh=torch.tensor(0.7), min_kept=torch.tensor(0.1), **options)

        def look(*_, **__):
            pytest.fail("the host looks")

        for name in ("item", "tolist", "nonzero", "masked_select", "cpu", "numpy", "__bool__", "__int__", "__float__"):
            monkeypatch.setattr(torch.Tensor, name, look)
        monkeypatch.setattr(_cuda, "_kernels", lambda: None)
        launches = Launches()  # the interpreter looks
        device._kernels = device._resized = launches
        _, kept = device.forward()
        gradient = device.backward(kept)
        suffix = "_resized" if options else ""
        search = ["tally", *["count_digits"] * 4, "add_above", "finish"]
        assert [name for name, _ in launches.made] == [f"forward{suffix}", *search, f"backward{suffix}"]
        used = sum(launches.bytes.values()) - logits.nbytes - labels.nbytes
        assert gradient.nbytes == logits.nbytes
        assert used <= gradient.nbytes + most * labels.numel() + 2**14
        assert sum(t.nbytes for t in kept.tensors() if t is not None) <= most * labels.numel() + 100

    def test_memory_between_the_passes_with_weights(self):
        """Two floats a pixel, and little else."""
        logits, labels = tensors(shape=(4, 32, 32))
        _, kept = served(logits, labels, weight=torch.ones(5)).forward()
        storages = [t.untyped_storage() for t in kept.tensors() if t is not None]
        held = {storage.data_ptr(): storage.nbytes() for storage in storages}
        assert sum(held.values()) < 8 * labels.numel() + 100

    def test_declined(self, monkeypatch):
        """What the kernels do not know is left to the composite; equal sizes are none of the resized ones."""
        (logits, labels), (x, y) = tensors(ignored=0), small(ignored=0)
        y = y.clamp(max=2)
        options: dict[str, Any]
        for options in (
            {"label_smoothing": 0.1},
            {"rule": MiningRule(rank_by="prob")},
            {"reduction": "none"},
            {"min_kept": lambda counts: 3},
        ):
            for call in (prepared(logits, labels, **options), prepared(x, y, **BILINEAR, **options)):
                assert _cuda.device_of(call.engine, call.inputs, call.options) is None
                assert _served.resized_of(call.engine, call.inputs, call.options) is None
        call = prepared(logits, labels)
        assert _cuda.device_of(call.engine, call.inputs, call.options, torch.tensor(1.0)) is not None
        assert _cuda.device_of(call.engine, call.inputs, call.options, torch.tensor(1.0, device="meta")) is None
        volume = torch.randn(1, 3, 2, 2, 3), torch.randint(0, 3, (1, 4, 3, 5))
        call = prepared(*volume, resize="trilinear")
        assert _served.resized_of(call.engine, call.inputs, call.options) is None
        call = prepared(x, y[:, :2, :3], align_corners=True, **BILINEAR)
        assert type(_served.call_of(call.engine, call.inputs, call.options)) is _cuda.Device
        expected, _ = composite(x, y, **BILINEAR)
        monkeypatch.setattr(_resized, "_kernels", lambda: None)  # an older Triton
        call = prepared(x, y, **BILINEAR)
        assert _served.resized_of(call.engine, call.inputs, call.options) is None
        torch.testing.assert_close(ohem_cross_entropy(x, y, resize="bilinear").double(), expected, rtol=2e-6, atol=1e-7)

    def test_over_processes(self):
        """The kernels give the losses, all processes the cut, and the kernels the gradient."""
        code = """
        from ohemloss_torch import OhemCELoss, _across
        from tests._cases import make, make_small
        from tests._libraries import interpreted_kernels
        served, forward = [], _across._served.call_of
        _across._served.call_of = lambda *call: served.append(forward(*call)) or served[-1]
        answer = []
        with interpreted_kernels():
            for options in ({}, {"weight": [0.5, 2.0, 0.0, 1.0, 3.0]}, {"resize": "bilinear"}):
                for regime in ("40% hard", "3% hard"):
                    logits, labels = make_small(regime) if "resize" in options else make(regime)
                    x, y = torch.tensor(logits[rank : rank + 1]).float(), torch.tensor(labels[rank : rank + 1])
                    loss = OhemCELoss(**options, process_group=group)(x.requires_grad_(), y)
                    loss.backward()
                    grads = [torch.zeros_like(x) for _ in range(n_ranks)]
                    dist.all_gather(grads, x.grad)
                    answer.append([loss.item(), torch.cat(grads).tolist()])
        assert {type(call).__name__ for call in served} == {"Device", "Resized"}, served
        """
        group = Ranks(2)
        rows = iter(group.ask(code)[0])
        group.end()
        options: dict[str, Any]
        for options in ({}, {"weight": [0.5, 2.0, 0.0, 1.0, 3.0]}, {"resize": "bilinear"}):
            for regime in ("40% hard", "3% hard"):
                case = case_of(make_small(regime) if "resize" in options else make(regime), **options)
                value, gradient = next(rows)
                assert_both(case, value, np.asarray(gradient) / 2, "float32")

    def test_without_a_driver_the_composite_runs(self):
        """Where Triton is, but finds no device or no compiler."""
        code = "import json; from ohemloss_torch import _cuda; print(json.dumps(_cuda._kernels() is None))"
        if not torch.cuda.is_available():
            assert _processes.run(code, TRITON_INTERPRET="0")
