"""Every step of the loss by name, for looking at."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from . import _composite
from ._arrays import is_array
from ._mining import Cut
from ._mining_rule import MiningRule, MinKept
from ._options import Options, Reduction, Resize
from ._selection import whole
from ._typing import Array
from ._validation import check_label_values, prepare

if TYPE_CHECKING:
    from matplotlib.figure import Figure


@dataclass(frozen=True, eq=False)
class Trace:
    """
    The steps of one loss, in the order they happen; arrays of the library of the logits.

    Of a rule that selects per image, the counts and the cut hold a number for each image.

    Attributes
    ----------
    labels : array
        The labels that came.
    valid : array
        Bool, in the shape of the labels: the pixels that are not ignored.
    thresh : array
        0-d, the threshold in units of the score, ``-log(thresh)``; infinite if there is none.
    n_valid : array
        0-d integer, the number of pixels that compete: those that are not ignored, unless the rule or the positives say
        otherwise.
    n_min : array
        0-d integer, how many pixels are selected at least.
    pixel_loss : array
        The loss of each pixel, in the shape of the labels, 0 where ignored.
    score : array
        What the pixels are ranked by, in the shape of the labels: their loss, or with ``rank_by="prob"`` the negative
        logarithm of the probability of the label alone.
    selected : array
        Bool, in the shape of the labels: the pixels that enter the value, with a share of it if they tie.
    n_hard : array
        0-d integer, the number of pixels with a score above `thresh`.
    cut : Cut
        The selection in three scalars.
    value : array
        The loss, as `ohem_cross_entropy` returns it.
    n_devices : int
        How many devices or processes took part: those that the arrays are spread over, times those that the option for
        it says. (Within a program that is compiled the first is not known, and taken for 1.)
    """

    labels: Array
    valid: Array
    thresh: Array
    n_valid: Array
    n_min: Array
    pixel_loss: Array
    score: Array
    selected: Array
    n_hard: Array
    cut: Cut
    value: Array
    n_devices: int = 1

    @property
    def hard_losses(self) -> Array:
        """
        The losses of the hard pixels, in the order of the pixels.

        Their number depends on the values, so libraries that compile or delay their work cannot give them.
        """
        return self.pixel_loss[self.selected & ~(self.score <= self.thresh)]

    def plot(
        self, image: Any = None, *, index: int | tuple[int, ...] = 0, names: Sequence[str] | None = None
    ) -> "Figure":
        """
        Draw one image: its labels, the loss of each pixel, the mined pixels, and the histogram of the losses.

        The numbers, and the histogram with the threshold and the cut, are those of the whole batch; of a rule that
        selects per image, they are those of the image. Labels with one axis or two are drawn whole.

        Parameters
        ----------
        image : array, optional
            The photograph, ``(h, w)``, ``(h, w, 3)`` or ``(h, w, 4)``, of any library: uint8, or floats from 0 to 1.
            The mined pixels are drawn over it. Default: over the labels.
        index : int or tuple of int, optional
            Which image of the batch, and of a volume which slice: one integer for each axis of the labels before the
            last two. Default: the first image.
        names : sequence of str, optional
            What the classes are called. Default: their numbers.

        Returns
        -------
        matplotlib.figure.Figure
            The picture; it needs no display. Its method ``savefig`` writes it to a file.

        Raises
        ------
        ModuleNotFoundError
            If matplotlib is not installed.
        TypeError
            If the arrays hold no values, as inside of a compiled function.
        ValueError
            If `index` says no image, or `image` is not of its size.
        """
        try:
            from ._drawing import _trace
        except ModuleNotFoundError as error:
            if (error.name or "").partition(".")[0] != "matplotlib":
                raise
            msg = "`plot` needs matplotlib, which is not installed: install `ohemloss[cli]`."
            raise ModuleNotFoundError(msg, name="matplotlib") from error
        return _trace.draw(self, image, index, names)


def explain(
    logits: Array,
    labels: Array,
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
    resize: Resize | None = None,
    align_corners: bool = False,
    axis_name: Any = None,
    process_group: Any = None,
) -> Trace:
    """
    Compute the loss and keep every step of it.

    Parameters
    ----------
    logits, labels : array
        As for `ohem_cross_entropy`.
    thresh, min_kept, rule, ignore_index, weight, pixel_weight, positives, label_smoothing, axis, reduction : optional
        As for `ohem_cross_entropy`.
    resize, align_corners, axis_name, process_group : optional
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
        resize=resize,
        align_corners=align_corners,
        axis_name=axis_name,
        process_group=process_group,
    )
    call = prepare(logits, labels, weight, pixel_weight, positives, options)
    check_label_values(call)
    engine = call.engine
    steps = _composite.run_steps(engine, call.inputs, call.options)
    mined, cut = steps.selection.mined, steps.quota.cut
    return Trace(
        labels=call.inputs.labels,
        valid=steps.valid,
        thresh=cut if is_array(cut) else engine.asarray(cut, steps.losses.dtype),
        n_valid=mined.n_pool,
        n_min=engine.as_array(mined.n_min, mined.n_pool),
        pixel_loss=steps.losses,
        score=steps.scores,
        selected=steps.selection.weights > 0,
        n_hard=mined.n_hard,
        cut=mined.cut,
        value=whole(call.engine, steps.part, call.options.reduction),
        n_devices=call.backend.n_devices(logits) * call.engine.n_places,
    )
