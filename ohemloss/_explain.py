"""Every step of the loss by name, for looking at."""

from collections.abc import Sequence
from dataclasses import dataclass

from . import _composite
from ._arrays import is_array
from ._mining import Cut, MinKept
from ._mining_rule import MiningRule
from ._options import Options, Reduction
from ._typing import Array
from ._validation import check_label_values, prepare


@dataclass(frozen=True, eq=False)
class Trace:
    """
    The steps of one loss, in the order they happen; arrays of the library of the logits.

    Of a rule that selects per image, the counts and the cut hold a number for each image.

    Attributes
    ----------
    thresh : array
        0-d, the threshold in units of the loss, ``-log(thresh)``; infinite if there is none.
    n_valid : array
        0-d integer, the number of pixels that are not ignored.
    n_min : array
        0-d integer, how many pixels are selected at least.
    pixel_loss : array
        The loss of each pixel, in the shape of the labels, 0 where ignored.
    selected : array
        Bool, in the shape of the labels: the pixels that enter the value, with a share of it if they tie.
    n_hard : array
        0-d integer, the number of pixels with a loss above `thresh`.
    cut : Cut
        The selection in three scalars.
    value : array
        The loss, as `ohem_cross_entropy` returns it.
    """

    thresh: Array
    n_valid: Array
    n_min: Array
    pixel_loss: Array
    selected: Array
    n_hard: Array
    cut: Cut
    value: Array

    @property
    def hard_losses(self) -> Array:
        """
        The losses above the threshold, in the order of the pixels.

        Their number depends on the values, so libraries that compile or delay their work cannot give them.
        """
        return self.pixel_loss[self.selected & ~(self.pixel_loss <= self.thresh)]


def explain(
    logits: Array,
    labels: Array,
    /,
    *,
    thresh: float | Array | None = 0.7,
    min_kept: MinKept = 1 / 16,
    rule: MiningRule = MiningRule(),
    ignore_index: int | None = 255,
    weight: Array | Sequence[float] | None = None,
    pixel_weight: Array | None = None,
    positives: Array | None = None,
    label_smoothing: float = 0.0,
    axis: int = 1,
    reduction: Reduction = "mean",
) -> Trace:
    """
    Compute the loss and keep every step of it.

    Parameters
    ----------
    logits, labels : array
        As for `ohem_cross_entropy`.
    thresh, min_kept, rule, ignore_index, weight, pixel_weight, positives, label_smoothing, axis, reduction : optional
        As for `ohem_cross_entropy`.

    Returns
    -------
    Trace
        The steps by name, in the library and on the device of `logits`.

    Raises
    ------
    TypeError, ValueError
        As for `ohem_cross_entropy`.

    Examples
    --------
    >>> import array_api_strict as xp
    >>> import ohemloss
    >>> logits = xp.asarray([[0.0, 0.0], [0.0, 4.0], [1.0, 0.0]])
    >>> trace = ohemloss.explain(logits, xp.asarray([0, 1, 255]))
    >>> int(trace.n_valid), int(trace.n_min), int(trace.n_hard)
    (2, 0, 1)
    >>> trace.selected
    Array([ True, False, False], dtype=array_api_strict.bool)
    """
    options = Options(
        thresh=thresh,
        min_kept=min_kept,
        rule=rule,
        ignore_index=ignore_index,
        label_smoothing=label_smoothing,
        axis=axis,
        reduction=reduction,
    )
    call = prepare(logits, labels, weight, pixel_weight, positives, options)
    check_label_values(call)
    engine = call.engine
    steps = _composite.run_steps(engine, call.inputs, call.options)
    mined, cut = steps.selection.mined, steps.quota.cut
    return Trace(
        thresh=cut if is_array(cut) else engine.asarray(cut, steps.losses.dtype),
        n_valid=mined.n_pool,
        n_min=engine.as_array(mined.n_min, mined.n_pool),
        pixel_loss=steps.losses,
        selected=steps.selection.weights > 0,
        n_hard=mined.n_hard,
        cut=mined.cut,
        value=steps.value,
    )
