"""PyTorch: `torch.compile` and programs that are exported."""

import io
import warnings

import numpy as np
import pytest

import ohemloss
import ohemloss._registry
from tests import _processes
from tests._cases import make, tolerance
from tests._reference import reference
from tests.conformance._check import assert_both, case_of

# PyTorch's own, whenever it differentiates forward.
pytestmark = pytest.mark.filterwarnings("ignore:`torch.jit.script` is deprecated:DeprecationWarning")
torch = pytest.importorskip("torch")
ohemloss_torch = pytest.importorskip("ohemloss_torch")
from ohemloss_torch import OhemCELoss

from ._tensors import check, tensors, value_and_gradient


class TestCompiled:
    def test_dynamic_and_whole(self, device, row, shows):
        """No graph break; one program for other sizes; value and gradient."""
        torch._dynamo.reset()
        compiled = torch.compile(
            lambda x, y: ohemloss.ohem_cross_entropy(x, y), fullgraph=True, dynamic=True, backend="aot_eager"
        )
        for shape, regime in (((2, 6, 7), "40% hard"), ((3, 5, 8), "3% hard"), ((4, 9, 11), "95% hard")):
            case = case_of(make(regime, shape=shape))
            x, y = tensors(case.logits, case.labels, device)
            with torch.compiler.set_stance("fail_on_recompile" if shape[0] > 2 else "default"):
                value, grad = value_and_gradient(lambda x, y=y: compiled(x, y), x)
            assert_both(case, value, grad)
            shows(row, "compiled", grad, case.expected.gradient, **case.gradient_tolerance("float64"))

    def test_threshold_and_count_as_tensors(self, device):
        """Annealing: another value, the same program."""
        torch._dynamo.reset()
        criterion = OhemCELoss(thresh=torch.tensor(0.7), min_kept=torch.tensor(5)).to(device)
        compiled = torch.compile(criterion, fullgraph=True, backend="aot_eager")
        stance = "default"
        for thresh, min_kept in ((0.7, 5), (0.5, 30), (0.9, 60)):
            criterion.thresh.fill_(thresh)
            criterion.min_kept.fill_(min_kept)
            with torch.compiler.set_stance(stance):
                check(compiled, make("40% hard"), device, thresh=float(np.float32(thresh)), min_kept=min_kept)
            stance = "fail_on_recompile"

    def test_a_count_as_an_argument(self):
        """Another number than the first becomes a symbol of the compiler."""
        torch._dynamo.reset()
        compiled = torch.compile(
            lambda x, y, k: ohemloss.ohem_cross_entropy(x, y, min_kept=k), fullgraph=True, backend="aot_eager"
        )
        for k in (2, 5, 60, 10**6):
            check(lambda x, y, k=k: compiled(x, y, k), make("3% hard"), min_kept=k)

    def test_as_the_very_first_call(self):
        """In a fresh process, by the default compiler: what has been looked up before is easy to trace."""
        answer = _processes.run(
            """
            import json, numpy, torch, ohemloss, ohemloss_torch
            from tests._cases import make
            compiled = torch.compile(ohemloss_torch.OhemCELoss(), fullgraph=True)
            answer = []
            for regime in ("40% hard", "3% hard"):
                logits, labels = make(regime)
                x = torch.tensor(logits, requires_grad=True)
                value = compiled(x, torch.tensor(labels))
                value.backward()
                answer.append([value.item(), x.grad.tolist()])
            print(json.dumps(answer))
            """
        )
        for (value, grad), regime in zip(answer, ("40% hard", "3% hard"), strict=True):
            assert_both(case_of(make(regime)), value, grad)


def example(shape=(2, 6, 7), regime="40% hard", dtype=torch.float32):
    return tensors(*make(regime, shape=shape, dtype="float32"), dtype=dtype)


def dynamic_shapes():
    n, h, w = (torch.export.Dim(name, max=4096) for name in "nhw")
    return ({0: n, 2: h, 3: w}, {0: n, 1: h, 2: w})


def compare(shows, run):
    """Run a program on batches of other sizes."""
    for shape, regime in (((3, 4, 9), "3% hard"), ((1, 1, 2), "95% hard"), ((2, 30, 40), "40% hard")):
        x, y = example(shape, regime)
        shows("PyTorch", "export", run(x, y), reference(x, y).value, **tolerance("float32", "value"))


class TestExport:
    @pytest.mark.parametrize("strict", [False, True])
    def test_program(self, shows, strict):
        program = torch.export.export(OhemCELoss(), example(), dynamic_shapes=dynamic_shapes(), strict=strict)
        file = io.BytesIO()
        torch.export.save(program, file)
        file.seek(0)
        compare(shows, torch.export.load(file).module())

    def test_onnx(self, shows):
        onnxruntime = pytest.importorskip("onnxruntime")
        pytest.importorskip("onnxscript")
        file = io.BytesIO()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # the exporter's own
            program = torch.onnx.export(
                OhemCELoss().eval(), example(), dynamo=True, dynamic_shapes=dynamic_shapes(), verbose=False
            )
            program.save(file)
        session = onnxruntime.InferenceSession(file.getvalue())
        names = [each.name for each in session.get_inputs()]
        compare(shows, lambda x, y: session.run(None, dict(zip(names, (x.numpy(), y.numpy()), strict=True)))[0])

    @pytest.mark.filterwarnings("ignore:`torch.jit:DeprecationWarning", "ignore::torch.jit.TracerWarning")  # of shapes
    def test_jit_trace(self):
        traced = torch.jit.trace(ohemloss.ohem_cross_entropy, example(), check_trace=False)
        x, y = example((2, 6, 7), "3% hard")
        np.testing.assert_allclose(traced(x, y), reference(x, y).value, **tolerance("float32", "value"))
