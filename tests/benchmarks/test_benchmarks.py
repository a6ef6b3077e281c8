"""The benchmarks: what they compare gives the same numbers, on data as announced, in turn, and memory is seen."""

import itertools
import json
import sys
from collections import Counter
from functools import partial

import numpy as np
import pytest

import ohemloss
from tests import _processes

for _name in ("torch", "jax", "optax", "rich"):
    pytest.importorskip(_name)

import jax
import torch

from benchmarks import __main__ as command
from benchmarks import _baselines, _baselines_torch, _calls, _cases, _data, _memory, _resized, _targets, _timing
from benchmarks._results import Results

pytestmark = pytest.mark.usefixtures("one_thread")
SHAPE = (2, 5, 48, 64)
ONCE = _timing.Rounds(warm=0, least=1, most=1, seconds=0)
TINY = _cases.Sizes(
    regimes=(0.4,),
    headline=(1, 3, 16, 16),
    small=((1, 3, 16, 16),),
    classes=((1, 2, 16, 16),),
    layouts=(1, 3, 16, 16),
    line=(8, 2, 16, 16),
    resized=(((1, 3, 4, 4), 4), ((1, 5, 2, 3), 8)),
)


@pytest.fixture(params=_data.REGIMES, ids=str)
def data(request):
    return _data.make(SHAPE, request.param)


@pytest.mark.parametrize("hard", _data.REGIMES)
@pytest.mark.parametrize("shape", [SHAPE, (1, 2, 16, 16), (1, 19, 128, 256), (1, 150, 32, 32)], ids=str)
def test_regimes(shape, hard):
    data = _data.make(shape, hard)
    assert (data.logits.shape, data.labels.shape) == (shape, (shape[0], *shape[2:]))
    assert (data.logits.dtype, data.labels.dtype) == (np.float32, np.int64)
    ignored = data.labels == _data.IGNORE
    assert np.all(ignored[:, : shape[2] // 20])
    assert np.mean(ignored[:, shape[2] // 20 :]) == pytest.approx(0.02, abs=0.02)
    assert np.all(data.labels[~ignored] < shape[1])
    # Of few pixels the sample is all, but some are ignored after it was looked at.
    some = 4 / data.labels.size**0.5 * (hard * (1 - hard)) ** 0.5
    assert _data.share_of_hard(data) == pytest.approx(hard, abs=0.02 + some)
    p = np.exp(data.logits) / np.exp(data.logits).sum(axis=1, keepdims=True)
    own = np.take_along_axis(p, np.where(ignored, 0, data.labels)[:, None], 1)[:, 0]
    assert _data.share_of_hard(data) == pytest.approx(np.mean(own[~ignored] < 0.7), abs=1e-3)


def test_data_are_the_same_each_time():
    first, again = (_data.make(SHAPE, 0.4) for _ in range(2))
    np.testing.assert_array_equal(first.logits, again.logits)
    np.testing.assert_array_equal(first.labels, again.labels)
    assert not np.array_equal(first.logits, _data.make(SHAPE, 0.4, seed=1).logits)


@pytest.mark.parametrize("hard", _data.REGIMES)
@pytest.mark.parametrize(("shape", "ratio"), [((2, 5, 24, 32), 4), ((1, 19, 16, 32), 8)], ids=str)
def test_regimes_of_resized_logits(shape, ratio, hard):
    data = _resized.make(shape, ratio, hard)
    n, _, h, w = shape
    size = (ratio * h, ratio * w)
    assert (data.logits.shape, data.labels.shape) == (shape, (n, *size))
    assert data.logits.dtype == np.float32
    enlarged = torch.nn.functional.interpolate(torch.from_numpy(data.logits), size=size, mode="bilinear").numpy()
    # Measured on some of the rows.
    assert _data.share_of_hard(_data.Data(enlarged, data.labels)) == pytest.approx(hard, abs=0.05)


def test_eager_on_enlarged_logits_is_ours():
    for hard, backward in itertools.product(_data.REGIMES, (False, True)):
        data = _resized.make((2, 5, 6, 8), 8, hard)
        ours, eager = (_resized.call(name, data, backward=backward)() for name in (_calls.OURS, _calls.EAGER))
        torch.testing.assert_close(ours, eager, rtol=1e-4, atol=1e-6)


def by_torch(loss, **options):
    """Give value and gradient of a loss on tensors."""

    def run(logits, labels):
        logits = torch.from_numpy(logits).requires_grad_()
        value = loss(logits, torch.from_numpy(labels), **options)
        return value.detach().numpy(), torch.autograd.grad(value, logits)[0].numpy()

    return run


def by_jax(loss):
    """The same of a loss on arrays of JAX, compiled once for data of each kind."""
    compiled = jax.jit(jax.value_and_grad(loss))
    return lambda logits, labels: compiled(logits, labels.astype(np.int32))


# A baseline, and what must be the same.
OURS = ohemloss.ohem_cross_entropy
BASELINES = {
    "eager": (by_torch(_baselines_torch.eager), by_torch(OURS)),
    "plain": (by_torch(_baselines_torch.plain), by_torch(OURS, thresh=None, min_kept=1.0)),
    "naive": (_baselines.numpy_value_and_grad, ohemloss.value_and_grad),
    "optax": (by_jax(_baselines.optax_loss()), by_jax(lambda x, y: OURS(x, y, min_kept=y.size // 16))),
}
for _count in (1, 500, 10**6):
    _hrnet = ohemloss.recipes.hrnet(ignore_label=255, thres=0.7, min_kept=_count)
    BASELINES[f"hrnet, {_count}"] = by_torch(_baselines_torch.hrnet, min_kept=_count), by_torch(_hrnet)


@pytest.mark.parametrize("name", BASELINES)
def test_baselines_are_ours(name, data):
    (value, gradient), (expected, expected_gradient) = (loss(data.logits, data.labels) for loss in BASELINES[name])
    np.testing.assert_allclose(value, expected, rtol=1e-5)
    assert gradient.dtype == np.float32
    np.testing.assert_allclose(gradient, expected_gradient, rtol=1e-4, atol=1e-9)
    if name == "naive":
        assert _baselines.numpy_loss(data.logits, data.labels) == value


@pytest.mark.parametrize(
    ("warm", "least", "most", "seconds", "rounds"), [(2, 3, 3, 2.5, 3), (0, 2, 6, 0.0, 2), (0, 2, 6, 1e9, 6)]
)
def test_variants_are_called_in_turn(warm, least, most, seconds, rounds):
    """Until their number or the seconds are used up."""
    order = []
    variants = {name: partial(order.append, name) for name in "abc"}
    times = _timing.interleave(variants, _timing.Rounds(warm=warm, least=least, most=most, seconds=seconds))
    assert order == list("abc") * (warm + rounds)
    assert {name: len(found) for name, found in times.seconds.items()} == dict.fromkeys("abc", rounds)


def test_medians_and_ratios():
    """Rounds in which the whole machine was slow change no ratio."""
    times = _timing.Times({"ours": [1.0, 2.0, 40.0], "theirs": [3.0, 6.0, 120.0]})
    assert (times.median("ours"), times.median("theirs")) == (2.0, 6.0)
    assert times.ratio("theirs", "ours") == 3.0


@pytest.mark.parametrize("layout", _calls.LAYOUTS)
def test_layouts(layout):
    data = _data.make(SHAPE, 0.4)
    logits, labels = _calls._laid_out(torch.from_numpy(data.logits), torch.from_numpy(data.labels), layout)
    assert logits.is_contiguous() == (layout in ("contiguous", "rows"))
    memory_format = torch.channels_last if logits.ndim == 4 else torch.contiguous_format
    assert logits.is_contiguous(memory_format=memory_format) == (layout in ("channels_last", "rows"))
    value = float(ohemloss.ohem_cross_entropy(logits, labels))
    assert value == pytest.approx(float(ohemloss.ohem_cross_entropy(data.logits, data.labels)), rel=1e-5)


def test_leaves_are_not_shared():
    data = _data.make((1, 2, 16, 16), 0.4)
    names = _calls.OURS, _calls.OURS, _calls.EAGER
    ours, again, eager = (_calls.torch_call(name, data, backward=True) for name in names)
    gradients = [np.asarray(call()) for call in (ours, again, eager)]
    assert not np.shares_memory(gradients[0], gradients[1])
    np.testing.assert_allclose(gradients[0], gradients[2], rtol=1e-4, atol=1e-9)
    np.testing.assert_array_equal(np.asarray(ours()), gradients[1])  # not added up


def test_memory_probe_sees_an_allocation():
    code = """
    import json
    import numpy as np
    from benchmarks._memory import extra_peak
    def call(n):
        np.ones(n * 2**20, np.uint8)  # freed before the call returns
        return np.ones(2**20, np.uint8)
    print(json.dumps([extra_peak(lambda: call(n)) / 2**20 for n in (64, 16, 0)]))
    """
    peaks = _processes.run(code)
    if sys.platform == "linux":
        np.testing.assert_allclose(peaks, [64, 16, 1], atol=1.5)
    else:  # the mark is never set back
        assert peaks[0] == pytest.approx(64, abs=4)


@pytest.mark.parametrize(
    ("shape", "ratio", "least"),
    [
        ((1, 19, 256, 256), 1, 1.9),  # the gradient and the probabilities
        ((1, 19, 32, 32), 8, 2.9 * 64),  # the enlarged logits, their probabilities, and their gradient
    ],
)
def test_memory_of_a_loss(shape, ratio, least):
    probe = _memory.Probe(_calls.EAGER, True, shape, ratio=ratio)
    assert (probe.n_pixels, probe.gradient_bytes) == (256 * 256, 4 * np.prod(shape))
    assert least < _memory.measure(probe) / probe.gradient_bytes < 10 * ratio**2


def test_memory_probe_that_fails():
    with pytest.raises(RuntimeError, match="no_such"):
        _memory.measure(_memory.Probe("no_such", False, (1, 2, 16, 16)))


@pytest.fixture(scope="module")
def results():
    """Everything but memory, once, on images of a few pixels."""
    return command.measure(TINY, ONCE, [group for group in command._GROUPS if group != "memory"])


def test_cases(results):
    rows = list(results.rows())
    counts = {"headline": 8, "numpy": 4, "jax": 4, "sizes": 4, "classes": 4, "layouts": 12, "dtypes": 12, "line": 4}
    assert Counter(row["group"] for row in rows) == {**counts, "resized": 8}
    line = [row for row in rows if row["group"] == "line"]
    assert [round(1e6 * row["ms"] / row["ns_per_pixel"]) for row in line] == [256, 512, 1024, 2048]
    assert all(row["to_ours"] == 1 for row in rows if row["variant"] == _calls.OURS)
    by_jax = [(row["backward"], row["variant"]) for row in rows if row["group"] == "jax"]
    assert by_jax == list(itertools.product((False, True), (_calls.OURS, _calls.OPTAX)))


def test_full_shapes_are_about_as_large_as_the_headline():
    sizes = _cases.Sizes()
    for shape in sizes.classes:
        assert np.prod(shape) == pytest.approx(np.prod(sizes.headline), rel=0.06)


def test_targets(results):
    probe = _memory.Probe(_calls.OURS, True, (1, 19, 1024, 1024))
    peaks = [(probe, 19 * 4 * 2**20 + 21 * 2**20), (_memory.Probe(_calls.OURS, False, probe.shape), 2**20)]
    found = _targets.targets(Results(results.times, peaks))
    assert len(found) == len({target.name for target in found}) == 15
    assert [target.met for target in found[-2:]] == [True, False]
    assert found[-1].bound == 19 * 4 + 12 + 8
    probe = _memory.Probe(_calls.OURS, True, (1, 19, 128, 128), ratio=8)
    (resized,) = _targets.targets(Results(peaks=[(probe, 2**20)]))
    assert resized.bound == 19 / 16 + 12 + 8
    assert _targets.targets(Results()) == []


def test_worst_ratio_counts():
    def case(name, seconds):
        return _cases.Case("sizes", name, True, SHAPE, dict), _timing.Times({"ours": [1.0], "eager": [seconds]})

    (target,) = _targets.targets(Results([case("a", 3.0), case("b", 0.9)]))
    assert (target.measured, target.met) == (0.9, False)


def test_command(results, monkeypatch, capsys, tmp_path):
    monkeypatch.setattr(command, "measure", lambda sizes, rounds, groups: results)
    monkeypatch.setenv("COLUMNS", "80")
    command.main(["--quick", "--json", str(tmp_path / "a.json")])
    out, err = capsys.readouterr()
    assert err == ""
    tables = out[out.index("\nours ") :]
    assert max(map(len, tables.splitlines())) <= 80
    assert "…" not in tables
    assert "targets" in tables
    written = json.loads((tmp_path / "a.json").read_text())
    assert written["times"] == list(results.rows())
    assert {"processor", "threads", "packages"} < set(written["machine"])
    assert len(written["targets"]) == 13


def test_wrong_use(capsys):
    with pytest.raises(SystemExit, match="2"):
        command.main(["--only", "no_such"])
    assert "no_such" in capsys.readouterr().err
