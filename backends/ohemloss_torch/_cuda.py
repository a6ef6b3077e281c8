"""Plain tensors on a CUDA device: the usual mining in Triton kernels, which the host only starts."""

import functools
import math
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from types import ModuleType
from typing import Any

import torch

from ohemloss import Cut, MiningRule
from ohemloss._arrays import is_array
from ohemloss._engine import Engine
from ohemloss._inputs import Inputs
from ohemloss._layout import lay_out
from ohemloss._mining import as_ratio, places
from ohemloss._options import Options
from ohemloss._rule import mining_quota, out_of_range

# Where the kernels run; the tests add the host, where Triton's interpreter runs them.
DEVICES = {"cuda"}

_DTYPES = (torch.float16, torch.bfloat16, torch.float32, torch.float64)
# The kernels number pixels in 32 bits. (They place them in 64.)
_MOST_PIXELS = 2**31 - 2**24
_LARGEST_COUNT = 2**62
_USUAL = MiningRule()

# Logits of one block, and how many of its pixels lie side by side where the classes do not: 16 bytes for each thread.
_TILE, _PIXELS, _CLASSES = 4096, 512, 128
_WARPS = 4
# Of the passes over the losses alone. So many programs fill the largest device a few times.
_BLOCK, _PROGRAMS = 1024, 1024


@dataclass(frozen=True)
class Kept:
    """
    What the forward pass leaves for the backward pass.

    `scores` is the loss of each pixel, minus infinity where ignored; `nlls` the loss without weights, if there are any.
    """

    scores: torch.Tensor
    nlls: torch.Tensor | None
    cut: Cut
    divisor: torch.Tensor


class Device:
    """
    One call.

    Parameters
    ----------
    engine : Engine
        Of the call.
    inputs : Inputs
        Plain tensors on one device.
    options : Options
        Which `device_of` has approved.
    kernels : module
        `_kernels`, which needs Triton.
    """

    def __init__(self, engine: Engine, inputs: Inputs, options: Options, kernels: ModuleType) -> None:
        self._engine, self._options, self._kernels = engine, options, kernels
        self._inputs = inputs if _grid(inputs, options.axis) else _contiguous(inputs)
        self._n_pixels = inputs.labels.numel()
        self._dtype = torch.float64 if inputs.logits.dtype == torch.float64 else torch.float32
        self._bits = 64 if self._dtype == torch.float64 else 32
        self._weighted = inputs.weight is not None or inputs.pixel_weight is not None

    def forward(self) -> tuple[torch.Tensor, Kept]:
        """Compute the loss, and what the backward pass needs."""
        with self._current():
            n_blocks = self._n_blocks()
            losses = self._new(self._inputs.labels.shape)
            nlls = self._new(losses.shape) if self._weighted else None
            counts, sums = self._new(2 * n_blocks, torch.int32), self._new(n_blocks)
            cut = self._cut(losses)
            if n_blocks:
                outputs = (losses, nlls, counts, sums)
                self._kernels.forward[(n_blocks,)](*self._arrays(), cut, *outputs, *self._numbers(), **self._flags())
            return self._mine(losses, nlls, cut, counts, sums)

    def backward(self, kept: Kept, cotangent: torch.Tensor | None = None) -> torch.Tensor:
        """Compute the gradient with respect to the logits; `cotangent` is that with respect to the value."""
        with self._current():
            gradient = torch.empty_like(self._inputs.logits)
            if _grid(self._inputs, self._options.axis, gradient) is None:
                # Only of logits that overlap themselves: the gradient cannot lie as they do.
                return Device(self._engine, _contiguous(self._inputs), self._options, self._kernels).backward(
                    kept, cotangent
                )
            cotangent = self._full(1.0) if cotangent is None else cotangent.to(self._dtype)
            found = (kept.scores, kept.nlls, kept.cut.value, kept.cut.tie_weight, kept.divisor, cotangent)
            if self._n_pixels:
                self._kernels.backward[(self._n_blocks(),)](
                    *self._arrays(), *found, gradient, *self._numbers(gradient), **self._flags()
                )
            return gradient

    def _mine(
        self, losses: torch.Tensor, nlls: torch.Tensor | None, cut: torch.Tensor, counts: torch.Tensor, sums: torch.Tensor
    ) -> tuple[torch.Tensor, Kept]:
        """Find the cut, and add what is above it."""
        kernels, options, bits = self._kernels, self._options, self._bits
        tallied, hard_sum = self._new(3, torch.int64), self._new((), torch.float64)
        value, numbers, count = self._new(()), self._new(3), self._new((), torch.int64)
        ratio, limit = (1, 1), _LARGEST_COUNT
        if isinstance(options.min_kept, float):
            ratio = as_ratio(options.min_kept)
        elif isinstance(options.min_kept, int):
            limit = min(options.min_kept, limit)
        tile = {"BLOCK": _TILE, "num_warps": 2 * _WARPS}
        kernels.tally[(1,)](counts, sums, sums.numel(), *ratio, limit, tallied, hard_sum, **tile)
        if is_array(options.min_kept):
            tallied[2] = places(self._engine, options.min_kept, tallied[0])
        table = torch.zeros((bits // 8, 256), dtype=torch.int32, device=losses.device)
        n_steps = max(1, math.ceil(self._n_pixels / (_BLOCK * _PROGRAMS)))
        n_programs = math.ceil(self._n_pixels / (_BLOCK * n_steps))
        above = self._new(n_programs)
        tile = {"BITS": bits, "BLOCK": _BLOCK, "num_warps": _WARPS}
        if n_programs:
            for digit in range(bits // 8):
                kernels.count_digits[(n_programs,)](
                    losses, tallied, table, self._n_pixels, n_steps, DIGIT=digit, **tile
                )
            kernels.add_above[(n_programs,)](losses, tallied, table, above, self._n_pixels, n_steps, **tile)
        found = (value, numbers, count)
        kernels.finish[(1,)](
            cut, tallied, hard_sum, table, above, n_programs, *found, MEAN=options.reduction == "mean", **tile
        )
        return value, Kept(losses, nlls, Cut(numbers[0], numbers[1], count), numbers[2])

    def _cut(self, losses: torch.Tensor) -> torch.Tensor:
        """Give the threshold in units of the loss, NaN if an option that came as a tensor is out of its range."""
        options = self._options
        cut = mining_quota(self._engine, options, losses).cut
        wrong = out_of_range(self._engine, options.thresh, options.min_kept)
        cut = cut if is_array(cut) else self._full(cut)
        return cut if wrong is None else torch.where(wrong, math.nan, cut)

    def _arrays(self) -> tuple[torch.Tensor | None, ...]:
        inputs = self._inputs
        return inputs.logits, inputs.labels, inputs.weight, inputs.pixel_weight

    def _numbers(self, *gradient: torch.Tensor) -> tuple[int, ...]:
        """Give the sizes and the strides, in the order in which the kernels take them."""
        found = _grid(self._inputs, self._options.axis, *gradient)
        assert found is not None  # which the caller has seen to
        (_, middle, length), (x, y, u, *g) = found
        axis = self._options.axis
        of_gradient = (*g[0], gradient[0].stride(axis)) if gradient else ()
        n_classes, class_stride = self._inputs.logits.shape[axis], self._inputs.logits.stride(axis)
        ignored = _as_int64(self._options.ignore_index, self._inputs.labels.dtype) or 0
        return (self._n_pixels, n_classes, length, middle, *x, class_stride, *y, *u, *of_gradient, ignored)

    def _flags(self) -> dict[str, Any]:
        pixels, classes = self._tile()
        return {
            "IGNORES": _as_int64(self._options.ignore_index, self._inputs.labels.dtype) is not None,
            "WEIGHTED": self._inputs.weight is not None,
            "SCALED": self._inputs.pixel_weight is not None,
            "BLOCK_P": pixels,
            "BLOCK_C": classes,
            "num_warps": _WARPS,
        }

    def _tile(self) -> tuple[int, int]:
        return _tile(self._inputs.logits.shape[self._options.axis], self._inputs.logits.stride(self._options.axis))

    def _n_blocks(self) -> int:
        return math.ceil(self._n_pixels / self._tile()[0])

    def _current(self) -> AbstractContextManager[Any]:
        """Make the device of the tensors the current one: kernels start there, on its current stream."""
        device = self._inputs.logits.device
        return torch.cuda.device(device) if device.type == "cuda" else nullcontext()

    def _new(self, shape: Any, dtype: torch.dtype | None = None) -> torch.Tensor:
        return torch.empty(shape, dtype=dtype or self._dtype, device=self._inputs.logits.device)

    def _full(self, number: float) -> torch.Tensor:
        return torch.full((), number, dtype=self._dtype, device=self._inputs.logits.device)


def device_of(engine: Engine, inputs: Inputs, options: Options, *others: torch.Tensor) -> Device | None:
    """Give the call on its device; None if the kernels are not for it, or Triton is not there."""
    logits, labels = inputs.logits, inputs.labels
    if logits.device.type not in DEVICES or logits.dtype not in _DTYPES or labels.numel() > _MOST_PIXELS:
        return None
    usual = options.rule == _USUAL and inputs.positives is None and options.reduction != "none"
    number = is_array(options.min_kept) or not callable(options.min_kept)
    if not usual or not number or options.label_smoothing:
        return None
    given = (logits, labels, inputs.weight, inputs.pixel_weight, *options.arrays().values(), *others)
    if not all(tensor is None or _has_memory(tensor) for tensor in given):
        return None
    kernels = _kernels()
    return None if kernels is None else Device(engine, inputs, options, kernels)


def _has_memory(tensor: torch.Tensor) -> bool:
    # By its keys: a cotangent of `is_grads_batched` looks like any tensor, and has none of its own memory.
    keys = torch._C._dispatch_keys(tensor)
    of_device = torch._C.DispatchKey.CPU if tensor.device.type == "cpu" else torch._C.DispatchKey.CUDA
    return keys.has(of_device) and tensor.layout == torch.strided and not tensor.is_neg()


@functools.cache
def _kernels() -> ModuleType | None:
    try:
        from . import _kernels
    except ImportError:  # PyTorch comes without Triton for some systems
        return None
    return _kernels


def _tile(n_classes: int, class_stride: int) -> tuple[int, int]:
    """Give how many pixels and classes a block takes at a time, so that neighbours in memory are read together."""
    classes = _power_of_2(n_classes, _CLASSES) if class_stride == 1 else _TILE // _PIXELS // 2
    return min(_PIXELS, _TILE // classes), classes


def _power_of_2(n: int, most: int) -> int:
    """Give the smallest power of 2 that is at least n, or the largest allowed."""
    return min(1 << (n - 1).bit_length(), most)


def _grid(inputs: Inputs, axis: int, *gradient: torch.Tensor) -> Any:
    """Lay out the pixels of logits, labels, pixel weights, and a gradient; None if that needs too many axes."""
    of_logits = [
        [step for i, step in enumerate(tensor.stride()) if i != axis] for tensor in (inputs.logits, *gradient)
    ]
    shape, weights = inputs.labels.shape, inputs.pixel_weight
    of_weights = [0] * len(shape) if weights is None else weights.expand(shape).stride()
    return lay_out(shape, of_logits[0], inputs.labels.stride(), of_weights, *of_logits[1:])


def _contiguous(inputs: Inputs) -> Inputs:
    weights = inputs.pixel_weight
    return replace(
        inputs,
        logits=inputs.logits.contiguous(),
        labels=inputs.labels.contiguous(),
        pixel_weight=None if weights is None else weights.expand(inputs.labels.shape).contiguous(),
    )


def _as_int64(ignore_index: int | None, dtype: torch.dtype) -> int | None:
    """Give `ignore_index` as labels of a dtype have it once they are of 64 bits; None if none can equal it."""
    limits = torch.iinfo(dtype)
    if ignore_index is None or not limits.min <= ignore_index <= limits.max:
        return None
    return ignore_index - 2**64 if ignore_index >= 2**63 else ignore_index
