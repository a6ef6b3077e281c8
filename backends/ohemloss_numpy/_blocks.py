"""The worker that knows every option: NumPy on blocks for what is done once a class, the core's steps for the rest."""

from collections.abc import Iterable
from dataclasses import replace
from typing import Any, TypeAlias

import numpy as np

from ohemloss._labels import read_labels
from ohemloss._mining import weigh
from ohemloss._pixels import pixel_losses
from ohemloss._selection import divide, pool_of, positives_of
from ohemloss._targets import Targets, scale_targets

from . import _kernels, _quick
from ._grid import Block, Chunk, chunks
from ._kernels import Factors, Scratch, Smoothing
from ._task import ENGINE, Kept, Task

# Minus the logarithm of the softmax: of each label and, with label smoothing, summed over weighted classes.
Nlls: TypeAlias = tuple[np.ndarray, np.ndarray | None]


class Blocks:
    """See `_machine.Machine` for a faster one of the usual options."""

    def __init__(self, task: Task) -> None:
        self._task = task
        self._smoothing: Smoothing | None = None
        if task.options.label_smoothing:
            weight = np.ones(task.n_classes, task.dtype) if task.weight is None else task.weight
            self._smoothing = Smoothing(weight, weight.sum())

    def pieces(self, *arrays: np.ndarray) -> list[Chunk]:
        """Cut arrays, classes first, into what a thread does at a time."""
        return chunks(self._task.n_classes, arrays[0].shape[1:])

    def look(
        self, logits: np.ndarray, chunk: Chunk, scratch: Scratch, losses: np.ndarray, scores: np.ndarray, cut: float
    ) -> _quick.Tally:
        """Write the losses and the scores of a chunk, and count it."""
        part, task = chunk.part, self._task
        targets = read_targets(task, part)
        nll = np.empty(targets.index.size, task.dtype)
        class_nll = None if self._smoothing is None else np.empty_like(nll)
        for block in self._blocks(logits, chunk):
            pixels = _within(block, chunk)
            nll[pixels], of_classes = self._losses(logits, block, targets.index[pixels], scratch)
            if class_nll is not None:
                class_nll[pixels] = np.where(targets.counts[pixels], of_classes, 0)
        losses[part] = pixel_losses(ENGINE, nll, class_nll, targets, task.n_classes, task.options)
        if scores is not losses:
            scores[part] = np.where(targets.valid, np.where(targets.wrong, np.nan, nll), 0)
        return _quick.tally(losses[part], targets.valid, cut)

    def write_gradient(
        self,
        logits: np.ndarray,
        chunk: Chunk,
        scratch: Scratch,
        kept: Kept,
        cotangent: np.ndarray,
        out: np.ndarray,
        *,
        is_zero: bool,
    ) -> None:
        """Write the gradient of a chunk to `out`, which may be known to hold zeros."""
        targets = read_targets(self._task, chunk.part)
        factors = self._factors(chunk.part, targets, kept, cotangent)
        for block in self._blocks(logits, chunk):
            pixels = _within(block, chunk)
            self._write(logits, block, targets.index[pixels], factors.at(pixels), scratch, out, is_zero=is_zero)

    def _blocks(self, logits: Any, chunk: Chunk) -> Iterable[Block]:
        return chunk.blocks

    def _losses(self, logits: Any, block: Block, index: np.ndarray, scratch: Scratch) -> Nlls:
        return _kernels.losses(logits[block.place], index, scratch, self._smoothing)

    def _write(
        self,
        logits: Any,
        block: Block,
        index: np.ndarray,
        factors: Factors,
        scratch: Scratch,
        out: np.ndarray,
        *,
        is_zero: bool,
    ) -> None:
        here = logits[block.place], index, factors, scratch, self._smoothing, out[block.place]
        _kernels.write_gradient(*here, is_zero=is_zero)

    def _factors(self, part: slice, targets: Targets, kept: Kept, cotangent: np.ndarray) -> Factors:
        task, options, smoothing = self._task, self._task.options, self._task.options.label_smoothing
        scores = kept.scores.reshape(-1)[part]
        positives = positives_of(targets.valid, None if task.positives is None else task.positives[part])
        weights = weigh(ENGINE, scores, pool_of(targets.valid, positives, options.rule), kept.cut, positives)
        selected = (weights != 0) & targets.counts
        if not smoothing:
            selected &= targets.label_scales != 0
        # A score that is NaN is so for what made it NaN then: an option, perhaps, that has changed since.
        weights = np.where(scores == scores, weights, np.nan)
        shares = divide(weights, kept.divisor, options.reduction)
        cotangents = shares * (cotangent[part] if cotangent.ndim else cotangent)
        of_label = np.where(selected, (1 - smoothing) * cotangents * targets.label_scales, 0)
        if self._smoothing is None:
            return Factors(selected, of_label, of_label, None)
        of_classes = np.where(selected, smoothing / task.n_classes * cotangents * targets.scales, 0)
        return Factors(selected, of_label + of_classes * self._smoothing.weight_sum, of_label, of_classes)


def read_targets(task: Task, part: slice) -> Targets:
    """Read the labels and weights of some pixels. The index is that of a class also where there is none."""
    read = read_labels(ENGINE, task.labels[part], task.n_classes, task.options.ignore_index)
    index = np.where(read.valid & ~read.wrong, read.index, 0).astype(np.intp, copy=False)
    label_weight = None if task.weight is None else task.weight[index]
    pixel_weight = None if task.pixel_weight is None else task.pixel_weight[part]
    targets = scale_targets(ENGINE, read, label_weight, pixel_weight, task.weight, task.options, task.dtype)
    return replace(targets, index=index)


def _within(block: Block, chunk: Chunk) -> Any:
    return slice(block.start - chunk.start, block.stop - chunk.start)
