"""One call on a device: its arguments as the kernels see them, and the order of the kernels."""

import math
from typing import Any

import numpy as np

from ohemloss._arrays import is_array
from ohemloss._engine import Engine
from ohemloss._fractions import as_ratio
from ohemloss._inputs import Inputs
from ohemloss._labels import ignored_label
from ohemloss._rule import mining_quota, out_of_range

from . import _grid, _launch
from ._launch import BLOCK, LANES, LOGITS, TASK, WIDE

# The kernels number pixels and classes in 32 bits. (They place them in 64.)
_MOST = 2**31 - 1024
# Of resized axes: what is left of twice a length, and a step of that size added, has 32 bits.
_LONGEST = 2**29
_LARGEST_COUNT = 2**62

# Of a forward pass: so many blocks fill the largest device a few times, and one block soon adds what they have counted.
_FORWARD_BLOCKS = 2**14
# Of a pass over the losses alone: what a thread takes at least, and the most blocks.
_PER_THREAD, _SEARCH_BLOCKS = 8, 2**10


def serves(inputs: Inputs, options: Any) -> bool:
    """Tell whether the kernels know the call: the usual mining, its number to keep as a number."""
    logits = inputs.logits
    usual = options.mines_as_usual() and inputs.positives is None
    fits = inputs.labels.size <= _MOST and logits.shape[options.axis] <= _MOST
    known = not options.label_smoothing and isinstance(options.min_kept, int | float)
    known = known and (options.resize is None or _knows_resizing(inputs, options))
    return usual and known and fits and logits.dtype in LOGITS and _launch.runtime.serves()


def _knows_resizing(inputs: Inputs, options: Any) -> bool:
    longest = max(*inputs.logits.shape, *inputs.labels.shape)
    return options.resize in ("linear", "bilinear") and longest <= _LONGEST


class Call:
    """
    One call, on the device that is the current one.

    Parameters
    ----------
    engine : Engine
        Of the call.
    inputs : Inputs
        Arrays of one device.
    options : Options
        Which `serves` has approved.
    differentiate : bool
        Whether the gradient is wanted, too.
    """

    def __init__(self, engine: Engine, inputs: Inputs, options: Any, *, differentiate: bool) -> None:
        self._xp, self._inputs, self._options = _launch.runtime.xp, inputs, options
        self._dtype = _launch.compute_dtype(inputs.logits.dtype)
        self._compiler_options = _launch.options(inputs.logits.dtype, inputs.labels.dtype, self._resized_axes())
        self._task = np.zeros(1, TASK)
        self._arrays: dict[str, Any] = {}  # kept until the last kernel has been started
        self._give_pixels(differentiate=differentiate)
        self._give_mining(engine)
        self._make_room()

    def forward(self) -> Any:
        """Compute the loss."""
        task = self._task
        self._launch(self._forward_kernel(), self._n_blocks)
        self._launch("tally", 1, WIDE)
        for digit in range(_launch.n_digits(self._dtype)):
            task["digit"] = digit
            self._launch("histogram", self._n_search)
        self._launch("sum_above", self._n_search)
        task["n_partials"] = self._n_search
        self._launch("finish", 1, WIDE)
        return self._arrays["value"]

    def backward(self) -> Any:
        """Compute the gradient with respect to the logits, after the loss."""
        self._launch(f"backward_{self._lanes}", max(1, self._n_tiles))
        return self._arrays["gradient"]

    def _launch(self, name: str, blocks: int, threads: int = BLOCK) -> None:
        _launch.runtime.launch(name, self._compiler_options, blocks, threads, self._task)

    def _give(self, **arrays: Any) -> None:
        """Hand arrays to the kernels."""
        self._arrays.update(arrays)
        for name, array in arrays.items():
            self._task[name] = _launch.runtime.address(array)

    def _resized_axes(self) -> int:
        """Say what is interpolated, as the source of the kernels does."""
        return 0

    def _forward_kernel(self) -> str:
        return f"forward_{self._lanes}"

    def _keeps_nlls(self) -> bool:
        """Tell whether the backward pass needs more than the losses."""
        return "weight" in self._arrays or "pixel_weight" in self._arrays

    def _pixel_arrays(self, logits: Any, *, differentiate: bool) -> dict[str, Any]:
        """Name the arrays that there is a number in for each pixel."""
        xp, inputs = self._xp, self._inputs
        arrays = {"logits": logits, "labels": inputs.labels}
        if inputs.pixel_weight is not None:
            weights = inputs.pixel_weight.astype(self._dtype, copy=False)
            arrays["pixel_weight"] = xp.broadcast_to(weights, inputs.labels.shape)
        if differentiate:
            arrays["gradient"] = xp.empty_like(logits)
        return arrays

    def _give_pixels(self, *, differentiate: bool) -> None:
        """Hand over what there is a number of for each pixel, and say where those are."""
        xp, inputs, axis = self._xp, self._inputs, self._options.axis
        shape = inputs.labels.shape
        arrays = self._pixel_arrays(inputs.logits, differentiate=differentiate)
        grid = _grid.pixels(shape, axis, arrays)
        if grid is None:  # more than three axes, or numbers between numbers
            arrays = {name: xp.ascontiguousarray(array).reshape(array.shape) for name, array in arrays.items()}
            grid = _grid.pixels(shape, axis, arrays)
            assert grid is not None  # at most what is before the classes, and what is after them
        lengths, steps = grid
        self._give_grid(arrays, lengths, steps)
        self._lanes = _lanes(inputs.logits.shape[axis], lengths, steps["logits"])

    def _give_grid(self, arrays: dict[str, Any], lengths: tuple[int, ...], steps: dict[str, Any]) -> None:
        task = self._task
        self._give(**arrays)
        task["n_pixels"], task["n_classes"] = math.prod(lengths), self._inputs.logits.shape[self._options.axis]
        task["rows"], task["columns"] = lengths[1:]
        fields = {"logits": "logit_steps", "labels": "label_steps", "pixel_weight": "weight_steps"}
        for name, found in steps.items():
            task[fields.get(name, "gradient_steps")] = found

    def _give_mining(self, engine: Engine) -> None:
        """Hand over the class weights, and the options."""
        options, task = self._options, self._task
        if self._inputs.weight is not None:
            self._give(weight=self._xp.ascontiguousarray(self._inputs.weight))
        cut = mining_quota(engine, options, self._xp.empty(0, self._dtype)).cut
        if is_array(cut):  # NaN where the option is out of its range: then so is every loss
            wrong = out_of_range(engine, options.thresh, options.min_kept)
            self._give(cut_array=cut if wrong is None else engine.where(~wrong, cut, math.nan))
        else:
            task["cut"] = cut
        ignored = ignored_label(options.ignore_index, np.iinfo(self._inputs.labels.dtype))
        task["is_ignoring"], task["ignore_index"] = ignored is not None, ignored or 0
        task["numerator"], task["denominator"], task["limit"] = 1, 1, _LARGEST_COUNT
        if isinstance(options.min_kept, float):
            task["numerator"], task["denominator"] = as_ratio(options.min_kept)
        else:
            task["limit"] = min(options.min_kept, _LARGEST_COUNT)
        task["is_mean"] = options.reduction == "mean"

    def _make_room(self) -> None:
        """Hand over memory for what the kernels find."""
        xp, task, dtype = self._xp, self._task, self._dtype
        n_pixels = int(task["n_pixels"][0])
        self._n_tiles = -(-n_pixels * self._lanes // BLOCK)
        tiles = max(1, -(-self._n_tiles // _FORWARD_BLOCKS))
        self._n_blocks = max(1, -(-self._n_tiles // tiles))
        self._n_search = min(max(1, -(-n_pixels // (BLOCK * _PER_THREAD))), _SEARCH_BLOCKS)
        task["tiles"], task["n_partials"] = tiles, self._n_blocks
        self._give(losses=xp.empty(n_pixels, dtype))
        if self._keeps_nlls():
            self._give(nlls=xp.empty(n_pixels, dtype))
        self._give(
            partials=xp.empty((max(self._n_blocks, self._n_search), 2), np.float64),
            state=xp.zeros(_launch.state_bytes(dtype) // 8, np.uint64),
            value=xp.empty((), dtype),
        )


def _lanes(n_classes: int, lengths: tuple[int, ...], steps: list[int]) -> int:
    """Give how many threads share a pixel: several where the classes of a pixel are nearer than the next pixel."""
    *to_pixels, to_class = steps
    nearest = min((abs(step) for step, length in zip(to_pixels, lengths, strict=True) if length > 1), default=math.inf)
    if n_classes <= 4 or abs(to_class) >= nearest:
        return LANES[0]
    return LANES[1] if n_classes <= 64 else LANES[2]
