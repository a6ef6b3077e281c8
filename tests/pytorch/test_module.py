"""PyTorch: the module, and half precision."""

import copy
import io
import pickle

import numpy as np
import pytest

import ohemloss
import ohemloss._registry
from tests._cases import make, round_to
from tests.conformance._check import assert_both, case_of

# PyTorch's own, whenever it differentiates forward.
pytestmark = pytest.mark.filterwarnings("ignore:`torch.jit.script` is deprecated:DeprecationWarning")
torch = pytest.importorskip("torch")
ohemloss_torch = pytest.importorskip("ohemloss_torch")
from ohemloss_torch import OhemCELoss

from ._tensors import check, tensors, value_and_gradient


class TestAutocast:
    @pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=str)
    def test_halves(self, device, row, shows, dtype):
        """Half logits out of a layer: a float32 loss, of these logits, and a half gradient."""
        name = str(dtype).rpartition(".")[2]
        logits, labels = make("3% hard", dtype=name)
        layer = torch.nn.Conv2d(5, 5, 1, bias=False, device=device)
        torch.nn.init.dirac_(layer.weight)
        x, y = tensors(logits, labels, device, torch.float32)
        x.requires_grad_()
        with torch.autocast(device, dtype=dtype):
            out = layer(x)
            out.retain_grad()
            loss = OhemCELoss()(out, y)
        assert (out.dtype, loss.dtype) == (dtype, torch.float32)
        loss.backward()
        assert out.grad.dtype == dtype
        assert (x.grad.dtype, layer.weight.grad.dtype) == (torch.float32, torch.float32)
        case, found = case_of((round_to(out.detach().float().cpu().numpy(), name), labels)), out.grad.float().cpu()
        assert_both(case, loss.detach().cpu(), found, name)
        shows(row, "autocast", found, case.expected.gradient, **case.gradient_tolerance(name))

    def test_scaled(self, device):
        """A loss scaled against underflow: the product is taken in float32, before the rounding to half."""
        case = case_of(make("95% hard", shape=(2, 60, 70), dtype="float16"))
        x, y = tensors(case.logits, case.labels, device, torch.float16)
        value, grad = value_and_gradient(lambda x: ohemloss.ohem_cross_entropy(x, y) * 2.0**16, x)
        assert_both(case, value / 2.0**16, grad.double() / 2.0**16, "float16")


class TestModule:
    def test_is_the_function(self):
        x, y = tensors(*make("40% hard"))
        u = torch.full(y.shape, 0.5)
        module = OhemCELoss(thresh=0.6, min_kept=9, weight=[1, 2, 3, 4, 5], label_smoothing=0.1)
        expected = ohemloss.OhemCELoss(thresh=0.6, min_kept=9, weight=(1.0, 2, 3, 4, 5), label_smoothing=0.1)
        torch.testing.assert_close(module(x, y, pixel_weight=u), expected(x, y, pixel_weight=u))

    def test_shows_what_differs_from_the_defaults(self):
        assert repr(OhemCELoss()) == "OhemCELoss()"
        module = OhemCELoss(thresh=0.6, min_kept=9, weight=[1, 2], label_smoothing=0.1)
        assert repr(module) == "OhemCELoss(thresh=0.6, min_kept=9, label_smoothing=0.1)"

    def test_copies(self):
        x, y = tensors(*make("40% hard"))
        module = OhemCELoss(thresh=0.6, weight=[1, 2, 3, 4, 5], min_kept=torch.tensor(3))
        for clone in (copy.deepcopy(module), pickle.loads(pickle.dumps(module)), _saved(module)):
            torch.testing.assert_close(clone(x, y), module(x, y), rtol=0, atol=0)

    def test_buffers_follow_the_parent(self):
        class Step(torch.nn.Module):
            def __init__(self):
                super().__init__()
                self.parts = torch.nn.ModuleDict(
                    {"head": torch.nn.Conv2d(5, 5, 1), "criterion": OhemCELoss(weight=[1] * 5)}
                )

            def forward(self, x, y):
                return self.parts["criterion"](self.parts["head"](x), y)

        step = Step()
        assert [key for key in step.state_dict() if "criterion" in key] == ["parts.criterion.weight"]
        assert step.double().parts["criterion"].weight.dtype == torch.float64
        case = case_of(make("40% hard"))
        torch.nn.init.dirac_(step.parts["head"].weight)
        torch.nn.init.zeros_(step.parts["head"].bias)
        loss = step(*tensors(case.logits, case.labels))
        np.testing.assert_allclose(loss.detach(), case.expected.value, **case.value_tolerance("float64"))
        loss.backward()
        expected = case.expected.gradient.sum(axis=(0, 2, 3))
        np.testing.assert_allclose(step.parts["head"].bias.grad, expected, rtol=1e-6, atol=1e-9)

    def test_in_a_container(self):
        """A container that hands on a tuple, as users write it."""

        class Steps(torch.nn.Sequential):
            def forward(self, *inputs):
                for module in self:
                    inputs = module(*inputs) if isinstance(inputs, tuple) else module(inputs)
                return inputs

        x, y = tensors(*make())
        torch.testing.assert_close(Steps(OhemCELoss(), torch.nn.Identity())(x, y), ohemloss.ohem_cross_entropy(x, y))

    def test_options_may_be_set_later(self):
        module, batch = OhemCELoss(), make("40% hard")
        module.thresh, module.min_kept = 0.5, 30
        check(module, batch, thresh=0.5, min_kept=30)
        module.thresh = 2.0
        assert repr(module) == "OhemCELoss(thresh=2.0, min_kept=30)"
        with pytest.raises(ValueError, match="`thresh` must lie in"):
            module(*tensors(*batch))

    def test_threshold_as_a_buffer(self):
        module = OhemCELoss(thresh=torch.tensor(0.5))
        assert set(module.state_dict()) == {"thresh"}
        assert repr(module) == "OhemCELoss(thresh=tensor(0.5000))"
        check(module, make("40% hard"), thresh=0.5)

    def test_refuses_what_the_function_refuses(self):
        with pytest.raises(TypeError, match="`weight` must be an array, or a sequence of numbers: got 'abc'"):
            OhemCELoss(weight="abc")
        with pytest.raises(ValueError, match="`thresh` must lie in"):
            OhemCELoss(thresh=2.0)

    def test_has_the_options_of_the_criterion(self):
        import inspect

        def options(cls):
            parameters = inspect.signature(cls).parameters.values()
            return [(p.name, p.default, p.kind) for p in parameters]

        expected = [option for option in options(ohemloss.OhemCELoss) if option[0] != "axis_name"]  # of JAX
        assert options(OhemCELoss) == expected


def _saved(module):
    file = io.BytesIO()
    torch.save(module, file)
    file.seek(0)
    return torch.load(file, weights_only=False)


def test_supports_every_option():
    """The node keeps what any option needs; one that is new must be looked at, and then listed."""
    from ohemloss._options import MAY_BE_ARRAYS
    from ohemloss_torch import backend
    from tests.test_criterion import OPTIONS as names

    others = ("rule", "resize", "align_corners", "process_group", "pixel_weight", "positives", "reduction")
    assert backend.supports == {*names, *others, *(f"{name} as an array" for name in MAY_BE_ARRAYS)}
