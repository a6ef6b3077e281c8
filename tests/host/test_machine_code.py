"""The kernels: which calls the machine code serves, its exponential and logarithm, halves, and labels out of range."""

import math

import numpy as np
import pytest

import ohemloss
from ohemloss import MiningRule
from ohemloss._inputs import Inputs
from ohemloss._options import Options
from ohemloss_numpy import _host, _kernels, _machine
from tests._cases import make, make_small, round_to

from ._workers import serving


@pytest.fixture(scope="module")
def fused():
    """Its functions."""
    with serving("machine code"):
        from ohemloss_numpy import _fused
    return _fused


@pytest.fixture(scope="module")
def functions(fused):
    """The exponential and the logarithm of its kernels, of arrays."""
    import numba

    def of_arrays(function):
        @numba.njit(error_model="numpy", fastmath={"contract"})
        def run(x, out):
            for i in range(x.size):
                out[i] = function(x[i])

        return lambda x: (out := np.empty_like(x), run(x, out))[0]

    return of_arrays(fused._exp), of_arrays(fused._log)


class TestWhatItServes:
    @pytest.mark.parametrize(
        "options", [{"label_smoothing": 0.1}, {"reduction": "none"}, {"rule": MiningRule(ties="keep")}], ids=str
    )
    def test_no_other_options_or_dtypes(self, monkeypatch, options):
        logits, labels = make()
        monkeypatch.setattr(_machine, "FROM", 0)
        monkeypatch.setattr(_machine, "_fused", lambda: pytest.fail("served by machine code"))
        ohemloss.ohem_cross_entropy(logits.astype(np.float32), labels, **options)
        ohemloss.ohem_cross_entropy(logits, labels)

    @pytest.mark.parametrize("resize", [None, "bilinear"])
    def test_large_calls_alone(self, fused, monkeypatch, resize):
        """By the number of logits, that of the enlarged ones if they are resized."""
        logits, labels = make() if resize is None else make_small()
        for name in ("Blocks", "ResizedBlocks"):
            monkeypatch.setattr(_host, name, lambda task: pytest.fail("served by NumPy"))
        monkeypatch.setattr(_machine, "FROM", 5 * labels.size)
        for dtype in (np.float32, np.float16):
            ohemloss.value_and_grad(logits.astype(dtype), labels, resize=resize)
        monkeypatch.setattr(_machine, "FROM", 5 * labels.size + 1)
        with pytest.raises(pytest.fail.Exception, match="served by NumPy"):
            ohemloss.value_and_grad(logits.astype(np.float32), labels, resize=resize)

    def test_nowhere_to_keep_it(self, fused, monkeypatch):
        """Without a folder that can be written to, the code is made anew in each process."""
        import numba

        def njit(cache=False, **options):
            if cache:
                raise RuntimeError
            return numba.njit(**options)

        monkeypatch.setattr(fused, "njit", njit)
        assert fused._jit(lambda x: x + 1)(2) == 3


def ulps(actual, expected):
    return np.max(np.abs(actual - expected) / np.spacing(np.abs(expected).astype(np.float32)).astype(np.float64))


def test_exp(functions):
    exp, _ = functions
    x = np.linspace(-87.3365, 60, 2_000_001).astype(np.float32)
    x = np.concatenate([x, np.geomspace(1e-30, 1, 100_001).astype(np.float32)])
    x = np.concatenate([x, -x[x > -60]])
    assert ulps(exp(x), np.exp(x.astype(np.float64))) <= 2
    special = np.array([-math.inf, -1e30, -87.4, 0, -0.0, 60.1, 1e30, math.inf, math.nan], np.float32)
    np.testing.assert_array_equal(exp(special), np.array([0, 0, 0, 1, 1, *[math.inf] * 4]))


def test_log(functions):
    _, log = functions
    parts = np.geomspace(1, 3.4e38, 2_000_001), np.linspace(1, 3, 500_001), [1, np.nextafter(np.float32(1), 2)]
    x = np.concatenate([np.asarray(part, np.float32) for part in parts])
    assert ulps(log(x), np.log(x.astype(np.float64))) <= 2
    assert log(np.ones(1, np.float32))[0] == 0


class TestHalves:
    """To nearest, ties to even: exactly the numbers that the tolerance of a gradient would let pass."""

    ALL = np.arange(2**16, dtype=np.uint16)

    def wide(self, bits, is_bfloat):
        return (bits.astype(np.uint32) << 16).view(np.float32) if is_bfloat else bits.view(np.float16)

    def values(self, is_bfloat):
        exact = self.wide(self.ALL, is_bfloat).astype(np.float32)
        exact = exact[np.isfinite(exact)]
        half = (exact.view(np.uint32) + (0x8000 if is_bfloat else 0x1000)).view(np.float32)  # the ties
        around = [exact, half, np.nextafter(half, np.float32(0)), np.nextafter(half, np.float32(np.inf))]
        return np.concatenate([*around, np.array([math.inf, -math.inf, math.nan], np.float32)])[None]

    @np.errstate(all="ignore")
    def assert_rounds(self, values, bits, is_bfloat):
        actual, nan = self.wide(bits, is_bfloat), np.isnan(values)
        np.testing.assert_array_equal(np.isnan(actual), nan)
        np.testing.assert_array_equal(actual[~nan], round_to(values, "bfloat16" if is_bfloat else "float16")[~nan])

    @pytest.mark.parametrize("is_bfloat", [False, True])
    def test_machine_code(self, fused, is_bfloat):
        values = self.values(is_bfloat)
        bits, wide = np.empty(values.shape, np.uint16), np.empty((1, 2**16), np.float32)
        fused.narrow(values, is_bfloat, bits)
        self.assert_rounds(values, bits, is_bfloat)
        fused.widen(self.ALL[None], is_bfloat, wide)
        np.testing.assert_array_equal(wide[0], self.wide(self.ALL, is_bfloat).astype(np.float32))

    def test_numpy(self):
        values = self.values(is_bfloat=True)
        bits = np.empty(values.shape, np.uint16)
        _kernels.store(values.copy(), bits)
        self.assert_rounds(values, bits, is_bfloat=True)


@pytest.mark.parametrize("rank_by", ["loss", "prob"])
def test_label_out_of_range_that_nobody_saw(worker, rank_by):
    """Of the kernels alone: NaN in the value and in the gradient of the pixel, which ranks first."""
    logits, labels = make("40% hard", shape=(2, 7, 50), ignored=0)
    labels[0, 0, :3] = [-1, 5, 10**6]
    host = _host.Host(
        Inputs(logits=logits.astype(np.float32), labels=labels), Options(rule=MiningRule(rank_by=rank_by))
    )
    value, kept = host.forward()
    grad = host.backward(kept)
    assert np.isnan(value)
    assert np.isnan(kept.scores[0, 0, :3]).all()
    assert np.isnan(grad[0, :, 0, :3]).all()
    assert np.isfinite(grad).sum() == grad.size - 15
