"""The loss and its gradient in host memory: in blocks, on threads, with nothing as large as the logits between."""

import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np

from ohemloss._inputs import Inputs
from ohemloss._labels import ignored_label
from ohemloss._options import Options
from ohemloss._resize import resized
from ohemloss._rule import mining_quota
from ohemloss._selection import reduce, select

from . import _quick, _threads
from ._blocks import Blocks, read_targets
from ._grid import Chunk
from ._kernels import Scratch
from ._machine import Machine
from ._resized import ResizedBlocks, ResizedMachine
from ._task import ENGINE, Kept, Task, flat
from ._walks import Resized, Walk, Whole

# Fewer logits are not worth another thread.
_PER_THREAD = 2**17
# If a smaller part of the pixels has a gradient, it is written into memory that the system has zeroed.
_FEW = 0.25

Work = Callable[[int, Chunk, Scratch], None]


class Host:
    """
    One call.

    Parameters
    ----------
    inputs : Inputs
        NumPy arrays. Logits of dtype uint16 are the bits of bfloat16.
    options : Options
        Whose rule does not select per image.
    n_threads : int or None
        At most so many; None: as many as there are processors.
    """

    def __init__(self, inputs: Inputs, options: Options, n_threads: int | None = None) -> None:
        self._inputs, self._options, self._n_threads = inputs, options, n_threads
        self._task = Task.of(inputs, options)
        self._resizes = bool(resized(options, inputs.logits.shape, inputs.labels.shape))
        self._worker: Any
        if self._resizes:
            self._worker = ResizedMachine.of(self._task) or ResizedBlocks(self._task)
        else:
            self._worker = Machine.of(self._task) or Blocks(self._task)

    def forward(self) -> tuple[np.ndarray, Kept]:
        """Compute the loss, and what the backward pass needs."""
        if not _quick.serves(self._task):
            return self._select()
        losses, _ = self._room()
        cut = mining_quota(ENGINE, self._options, losses).cut
        value, found, divisor = _quick.mine(losses, self._look(losses, losses, cut), cut, self._task)
        return value, Kept(losses.reshape(self._inputs.labels.shape), found, divisor)

    def pixels(self) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        """Compute the losses and the scores alone, and read which pixels are valid and, if asked for, their weights."""
        losses, scores = self._room()
        self._look(losses, scores, math.inf)
        shape = self._inputs.labels.shape
        losses, scores = losses.reshape(shape), scores.reshape(shape)
        if self._options.rule.normaliser == "selected":  # which asks for no class weights
            labels, ignore_index = self._inputs.labels, self._options.ignore_index
            none = ignored_label(ignore_index, np.iinfo(labels.dtype)) is None
            valid = np.ones(shape, bool) if none else labels != ignore_index
            return losses, scores, valid, valid
        targets = read_targets(self._task, slice(None))
        return losses, scores, targets.valid.reshape(shape), targets.class_scales.reshape(shape)

    def backward(self, kept: Kept, cotangent: Any = 1.0) -> np.ndarray:
        """Compute the gradient with respect to the logits; `cotangent` is that with respect to the value."""
        labels = self._inputs.labels
        few = self._resizes or int(kept.cut.count) < _FEW * labels.size
        gradient = _like(self._inputs.logits, zeros=few)
        walk = self._walk(gradient)
        cotangent = np.asarray(cotangent, self._task.dtype)
        if cotangent.ndim:
            cotangent = flat(cotangent, labels.shape)

        def write(number: int, chunk: Chunk, scratch: Scratch) -> None:
            logits = walk.read(chunk)
            out = walk.room(logits)
            self._worker.write_gradient(logits, chunk, scratch, kept, cotangent, out, is_zero=few)
            walk.put(number, out)

        self._run(write, walk.pieces)
        return gradient

    def _walk(self, gradient: np.ndarray | None = None) -> Walk:
        return (Resized if self._resizes else Whole)(self._worker, self._inputs, self._options, gradient)

    def _run(self, work: Work, pieces: Sequence[Chunk]) -> None:
        def take(jobs: Iterator[tuple[int, Chunk]]) -> None:
            # Logits that are not finite are provided for, and those of ignored pixels may be anything.
            with np.errstate(all="ignore"):
                scratch = Scratch(self._task.dtype)
                for number, chunk in jobs:
                    work(number, chunk, scratch)

        worth = 1 + self._task.n_logits // _PER_THREAD
        _threads.run(take, list(enumerate(pieces)), min(worth, _threads.thread_count(self._n_threads)))

    def _room(self) -> tuple[np.ndarray, np.ndarray]:
        losses = np.empty(self._task.labels.size, self._task.dtype)
        return losses, np.empty_like(losses) if self._options.rule.rank_by == "prob" else losses

    def _look(self, losses: np.ndarray, scores: np.ndarray, cut: Any) -> _quick.Tally:
        """Write the losses and the scores, and count what is above the cut."""
        walk = self._walk()
        tallies = [_quick.NOTHING] * len(walk.pieces)

        def look(number: int, chunk: Chunk, scratch: Scratch) -> None:
            tallies[number] = self._worker.look(walk.read(chunk), chunk, scratch, losses, scores, cut)

        self._run(look, walk.pieces)
        return sum(tallies, _quick.NOTHING)

    def _select(self) -> tuple[np.ndarray, Kept]:
        """Mine by any rule, on the whole."""
        options = self._options
        losses, scores, valid, class_weights = self.pixels()
        quota = mining_quota(ENGINE, options, losses)
        selection = select(ENGINE, losses, scores, valid, quota, options.rule, self._inputs.positives, class_weights)
        value = reduce(ENGINE, losses, selection, options.rule, options.reduction)
        return value, Kept(scores, selection.mined.cut, selection.divisor)


def _like(array: np.ndarray, *, zeros: bool) -> np.ndarray:
    """Make an array whose axes lie in memory in the order of those of another."""
    # Not `zeros_like`, which writes the zeros: memory that is fresh from the system holds them.
    order = sorted(range(array.ndim), key=lambda axis: -abs(array.strides[axis]))
    made = (np.zeros if zeros else np.empty)([array.shape[axis] for axis in order], array.dtype)
    return made.transpose(np.argsort(order))
