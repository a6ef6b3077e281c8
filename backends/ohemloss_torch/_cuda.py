"""Plain tensors on a CUDA device: the usual mining in Triton kernels, which the host only starts."""

import functools
import math
import subprocess
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from types import ModuleType
from typing import Any

import torch

from ohemloss import Cut, _composite
from ohemloss._arrays import is_array
from ohemloss._engine import Engine
from ohemloss._fractions import as_ratio
from ohemloss._inputs import Inputs
from ohemloss._labels import ignored_label
from ohemloss._layout import lay_out
from ohemloss._mining import places
from ohemloss._options import Options
from ohemloss._rule import mining_quota, out_of_range

from . import _search
from ._kept import Kept, Pixels
from ._memory import has_memory
from ._search import LAUNCH, WARPS, Search

# Where the kernels run; the tests add the host, where Triton's interpreter runs them.
DEVICES = {"cuda"}

_DTYPES = (torch.float16, torch.bfloat16, torch.float32, torch.float64)
# The kernels number pixels in 32 bits. (They place them in 64.)
_MOST_PIXELS = 2**31 - 2**24
_LARGEST_COUNT = 2**62

# Where the classes are neighbours in memory: logits that a block takes at a time, and at most so many of its pixels
# and classes. With more of them a thread would run out of registers.
_TILE, _PIXELS, _CLASSES = 1024, 512, 128
# Of the one program that adds what the blocks have counted.
_TALLY = 4096


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

    def __init__(self, engine: Engine, inputs: Inputs, options: Options, kernels: Any) -> None:
        self._engine, self._options, self._kernels = engine, options, kernels
        self._inputs, self._grid = inputs, self._lay_out(inputs)
        if self._grid is None:
            self._inputs = self._copy(inputs)
            self._grid = self._lay_out(self._inputs)
        self._n_pixels = inputs.labels.numel()
        self._dtype = torch.float64 if inputs.logits.dtype == torch.float64 else torch.float32
        self._ignored = ignored_label(options.ignore_index, torch.iinfo(inputs.labels.dtype))
        self._tile, self._n_blocks = self._size()

    def forward(self) -> tuple[torch.Tensor, Kept]:
        """Compute the loss, and what the backward pass needs."""
        with current(self._inputs.logits.device):
            losses, norms, cut, *of_blocks = self._losses()
            tallied, hard_sum = self._tally(*of_blocks)
            value, found, divisor = self._mine(losses, cut, tallied, hard_sum)
            return value, Kept(losses, norms, found, divisor)

    def pixels(self) -> Pixels:
        """Compute the losses alone, for a selection that others take part in."""
        with current(self._inputs.logits.device):
            losses, norms, *_ = self._losses()
        labels = self._inputs.labels
        valid = torch.ones_like(labels, dtype=torch.bool) if self._ignored is None else labels != self._ignored
        return Pixels(losses, losses, valid, valid, norms)

    def backward(self, kept: Kept, cotangent: torch.Tensor | None = None) -> torch.Tensor:
        """Compute the gradient with respect to the logits; `cotangent` is that with respect to the value."""
        if kept.norms is None and self._n_norms:
            # Of the composite, which ran forward because of an option that is no longer here.
            found = (kept.scores, kept.cut, kept.divisor, self._full(1.0) if cotangent is None else cotangent)
            slope: torch.Tensor = _composite.gradient_of_kept(self._engine, self._inputs, self._options, *found)
            return slope
        with current(self._inputs.logits.device):
            gradient = torch.empty_like(self._inputs.logits)
            grid = self._lay_out(self._inputs, gradient)
            if grid is None:
                # Of logits that overlap themselves: the gradient cannot lie as they do.
                return self._of(self._copy(self._inputs)).backward(kept, cotangent)
            self._start_backward(self._found(kept, cotangent), gradient, self._numbers(grid, gradient))
            return gradient

    def _losses(self) -> tuple[torch.Tensor, torch.Tensor | None, torch.Tensor, torch.Tensor, torch.Tensor]:
        """Give the losses and what is made with them, the threshold, and what each block has counted and added."""
        losses, norms = self._new(self._inputs.labels.shape), self._new_norms()
        counts, sums = self._new(2 * self._n_blocks, torch.int32), self._new(self._n_blocks)
        cut = self._cut(losses)
        if self._n_blocks:
            self._start_forward(cut, losses, norms, counts, sums)
        return losses, norms, cut, counts, sums

    def _of(self, inputs: Inputs) -> "Device":
        """Make the same call of inputs that lie in another way."""
        return Device(self._engine, inputs, self._options, self._kernels)

    def _copy(self, inputs: Inputs) -> Inputs:
        """Lay inputs out so that kernels can walk through them."""
        return contiguous(inputs)

    def _lay_out(self, inputs: Inputs, *gradient: torch.Tensor) -> Any:
        return _grid(inputs, self._options.axis, *gradient)

    def _size(self) -> tuple[dict[str, Any], int]:
        """Say what the kernels are compiled for, and how many blocks there are."""
        tile = _tile(self._inputs.logits, self._options.axis)
        return tile, math.ceil(self._n_pixels / tile["BLOCK_P"])

    @property
    def _n_norms(self) -> int:
        """Say how many numbers of each pixel are kept besides its loss: that without its weights, if there are any."""
        return int(self._inputs.weight is not None or self._inputs.pixel_weight is not None)

    def _new_norms(self) -> torch.Tensor | None:
        return self._new((self._n_norms, *self._inputs.labels.shape)) if self._n_norms else None

    def _start_forward(self, cut: torch.Tensor, *outputs: torch.Tensor | None) -> None:
        self._kernels.forward[(self._n_blocks,)](
            *self._arrays(), cut, *outputs, *self._numbers(self._grid), **self._flags(), **self._tile
        )

    def _start_backward(self, found: Any, gradient: torch.Tensor, numbers: tuple[int, ...]) -> None:
        if self._n_blocks:
            self._kernels.backward[(self._n_blocks,)](
                *self._arrays(), *found, gradient, *numbers, **self._flags(), **self._tile
            )

    def _found(self, kept: Kept, cotangent: torch.Tensor | None) -> tuple[torch.Tensor | None, ...]:
        """Give what a backward pass has from the forward pass, and the cotangent."""
        cotangent = self._full(1.0) if cotangent is None else cotangent.to(self._dtype)
        return kept.scores, kept.norms, kept.cut.value, kept.cut.tie_weight, kept.divisor, cotangent

    def _tally(self, counts: torch.Tensor, sums: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Count the valid pixels, the hard ones, and how many are kept at least; add the losses of the hard ones."""
        tallied, hard_sum = self._new(3, torch.int64), self._new((), torch.float64)
        min_kept: Any = self._options.min_kept
        ratio, limit = (1, 1), _LARGEST_COUNT
        if isinstance(min_kept, float):
            ratio = as_ratio(min_kept)
        elif isinstance(min_kept, int):
            limit = min(min_kept, limit)
        size = {**LAUNCH, "BLOCK": _TALLY, "num_warps": 4 * WARPS}
        self._kernels.tally[(1,)](counts, sums, self._n_blocks, *ratio, limit, tallied, hard_sum, **size)
        if is_array(min_kept):
            tallied[2] = places(self._engine, min_kept, tallied[0])
        return tallied, hard_sum

    def _mine(
        self, losses: torch.Tensor, cut: torch.Tensor, tallied: torch.Tensor, hard_sum: torch.Tensor
    ) -> tuple[torch.Tensor, Cut, torch.Tensor]:
        """Give the value, the cut, and the divisor; a search that nobody needs ends at once."""
        search = Search(self._kernels, losses, tallied)
        table, above = search.table(), self._new(search.n_programs)
        if search.n_programs:
            search.launch("add_above", losses, tallied, table, above)
        # The value by itself: who changes it in place must not change what is kept.
        value, numbers, count = self._new(()), self._new(3), self._new((), torch.int64)
        found, mean = (value, numbers, count), self._options.reduction == "mean"
        self._kernels.finish[(1,)](
            cut, tallied, hard_sum, table, above, search.n_programs, *found, MEAN=mean, **search.size()
        )
        return value, Cut(numbers[0], numbers[1], count), numbers[2]

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

    def _numbers(self, grid: Any, *gradient: torch.Tensor) -> tuple[int, ...]:
        """Give sizes and strides in the order in which the kernels take them."""
        logits, axis = self._inputs.logits, self._options.axis
        (_, middle, length), (x, y, u, *g) = grid
        of_gradient = (*g[0], gradient[0].stride(axis)) if gradient else ()
        sizes = (self._n_pixels, logits.shape[axis], length, middle)
        return (*sizes, *x, logits.stride(axis), *y, *u, *of_gradient, self._ignored or 0)

    def _flags(self) -> dict[str, bool]:
        """Say which of the arrays and options there are."""
        return {
            "IGNORES": self._ignored is not None,
            "WEIGHTED": self._inputs.weight is not None,
            "SCALED": self._inputs.pixel_weight is not None,
        }

    def _new(self, shape: Any, dtype: torch.dtype | None = None) -> torch.Tensor:
        return torch.empty(shape, dtype=dtype or self._dtype, device=self._inputs.logits.device)

    def _full(self, number: float) -> torch.Tensor:
        return torch.full((), number, dtype=self._dtype, device=self._inputs.logits.device)


def device_of(engine: Engine, inputs: Inputs, options: Options, *others: torch.Tensor) -> Device | None:
    """Give the call on its device, where `others` must be too; None if the kernels are not for it, or not there."""
    kernels = None if is_resized(inputs, options) else kernels_of(inputs, options, *others)
    return None if kernels is None else Device(engine, inputs, options, kernels)


def is_resized(inputs: Inputs, options: Options) -> bool:
    """Tell whether logits and labels are of different sizes, which the check of the arguments has allowed."""
    shape = list(inputs.logits.shape)
    del shape[options.axis]
    return shape != list(inputs.labels.shape)


def kernels_of(inputs: Inputs, options: Options, *others: torch.Tensor) -> ModuleType | None:
    """Give the kernels if they are there, and for such a call; `others` must be on the device, too."""
    logits, labels = inputs.logits, inputs.labels
    if logits.device.type not in DEVICES or logits.dtype not in _DTYPES or labels.numel() > _MOST_PIXELS:
        return None
    usual = options.mines_as_usual() and inputs.positives is None
    known = is_array(options.min_kept) or not callable(options.min_kept)
    if not usual or not known or options.label_smoothing:
        return None
    given = (logits, labels, inputs.weight, inputs.pixel_weight, *options.arrays().values(), *others)
    return _kernels() if all(tensor is None or has_memory(tensor) for tensor in given) else None


def kth_largest(scores: torch.Tensor, k: torch.Tensor, needed: torch.Tensor, *, per_image: bool) -> torch.Tensor | None:
    """Find the k-th largest of plain tensors on their device; None if the kernels are not for it, or not there."""
    kernels = _kernels() if scores.device.type in DEVICES and scores.numel() <= _MOST_PIXELS else None
    if kernels is None or not all(map(has_memory, (scores, k, needed))):
        return None
    with current(scores.device):
        if not per_image:
            return _search.kth_largest(kernels, scores, k, needed)
        rows = zip(scores.unbind(), k.flatten().unbind(), strict=True)
        found = [_search.kth_largest(kernels, row, each, needed) for row, each in rows]
        return torch.stack(found).reshape(k.shape) if found else scores.new_empty(k.shape)


def current(device: torch.device) -> AbstractContextManager[Any]:
    """Make a device the current one: kernels start there, on its current stream."""
    return torch.cuda.device(device) if device.type == "cuda" else nullcontext()


@functools.cache
def _kernels() -> ModuleType | None:
    if torch.version.hip is not None:  # on which they were never tried
        return None
    try:
        import triton

        from . import _kernels

        if isinstance(_kernels.forward, triton.JITFunction):  # and not interpreted
            triton.runtime.driver.active.get_current_target()
    # PyTorch comes without Triton for some systems, and Triton needs a C compiler, and a device that is not too old.
    except (ImportError, OSError, RuntimeError, subprocess.SubprocessError):
        return None
    return _kernels


def _tile(logits: torch.Tensor, axis: int) -> dict[str, int]:
    """Say how many pixels and classes a block takes at a time, so that neighbours in memory are read together."""
    n_classes = logits.shape[axis]
    if logits.stride(axis) == 1 and n_classes > 1:
        classes = min(1 << (n_classes - 1).bit_length(), _CLASSES)
        pixels = min(_PIXELS, _TILE // classes)
    else:
        # Each thread reads 16 bytes of a class, and holds a few classes: no sum crosses threads.
        pixels, classes = 32 * WARPS * 16 // logits.element_size(), 4
    return {"BLOCK_P": pixels, "BLOCK_C": classes, **LAUNCH}


def _grid(inputs: Inputs, axis: int, *gradient: torch.Tensor) -> Any:
    """Lay out the pixels of logits, labels, pixel weights, and a gradient; None if that needs too many axes."""
    shape, weights = inputs.labels.shape, inputs.pixel_weight
    x, *g = ([step for i, step in enumerate(tensor.stride()) if i != axis] for tensor in (inputs.logits, *gradient))
    u = [0] * len(shape) if weights is None else weights.expand(shape).stride()
    return lay_out(shape, x, inputs.labels.stride(), u, *g)


def contiguous(inputs: Inputs) -> Inputs:
    weights = inputs.pixel_weight
    return replace(
        inputs,
        logits=inputs.logits.contiguous(),
        labels=inputs.labels.contiguous(),
        pixel_weight=None if weights is None else weights.expand(inputs.labels.shape).contiguous(),
    )
