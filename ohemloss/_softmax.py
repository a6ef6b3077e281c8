"""The cross-entropy of each pixel: the step over the classes, where the time goes."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

from ._classes import along_axis, label_mask
from ._typing import Array

if TYPE_CHECKING:
    from ._engine import Engine
    from ._options import Options


def cross_entropy(
    engine: "Engine", logits: Array, index: Array, weight: Array | None, options: "Options"
) -> tuple[Array, Array | None]:
    """
    Compute minus the logarithm of the softmax, of the label and summed over the classes.

    Parameters
    ----------
    engine : Engine
        What the call runs on.
    logits : array
        float32 or float64, with the classes along ``options.axis``.
    index : array
        The labels, integers in the shape of the logits without the class axis. Of one that is out of range only the
        shape of the result counts.
    weight : array or None
        1-d, the weight of each class in the sum over the classes; None: all 1.
    options : Options
        Of the call.

    Returns
    -------
    nll : array
        Minus the logarithm of the probability of the label, in the shape and the dtype of the loss.
    class_nll : array or None
        The weighted sum over the classes if ``options.label_smoothing`` asks for it. A class of weight 0 adds nothing,
        also if its logit is infinite.
    """
    return Softmax.of(engine, logits, options.axis).cross_entropy(engine, index, weight, options)


@dataclass(frozen=True)
class Softmax:
    """
    The parts of a softmax, each with its class axis.

    Attributes
    ----------
    shifted : array or None
        The logits less the largest one of each pixel; whoever is done with it may drop it.
    exps : array
        Their exponentials.
    sums : array
        The sums of those over the classes, an axis of length 1.
    """

    shifted: Array | None
    exps: Array
    sums: Array

    @staticmethod
    def of(engine: "Engine", logits: Array, axis: int) -> "Softmax":
        """Compute the parts."""
        shifted = logits - engine.xp.max(logits, axis=axis, keepdims=True)
        exps = engine.xp.exp(shifted)
        return Softmax(shifted, exps, engine.sum(exps, axis, keepdims=True))

    def cross_entropy(
        self, engine: "Engine", index: Array, weight: Array | None, options: "Options"
    ) -> tuple[Array, Array | None]:
        """See above."""
        axis, shifted = options.axis, self.shifted
        log_sums = engine.xp.log(self.sums)
        is_label = label_mask(engine, index, shifted.shape[axis], axis)
        nll = engine.xp.squeeze(log_sums, axis=axis) - engine.sum(engine.where(is_label, shifted, 0.0), axis)
        if not options.label_smoothing:
            return nll, None
        all_nll = log_sums - shifted
        if weight is not None:
            class_weight = along_axis(engine.xp, weight, axis, shifted.ndim)
            # The factor that is infinite goes, then the product is taken: 0 * inf is NaN, and a warning.
            all_nll = class_weight * engine.where(class_weight != 0, all_nll, 0.0)
        return nll, engine.sum(all_nll, axis)
