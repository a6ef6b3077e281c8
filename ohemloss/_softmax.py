"""The cross-entropy of each pixel: the step over the classes, where the time goes."""

from dataclasses import dataclass
from typing import Protocol

from ._classes import along_axis, label_mask
from ._dtypes import compute_dtype
from ._engine import Engine
from ._options import Options
from ._resize import enlarge
from ._targets import Targets
from ._typing import Array


class CrossEntropy(Protocol):
    """See `cross_entropy`."""

    def __call__(
        self, engine: Engine, logits: Array, targets: Targets, weight: Array | None, options: Options
    ) -> tuple[Array, Array | None]: ...


def cross_entropy(
    engine: Engine, logits: Array, targets: Targets, weight: Array | None, options: Options
) -> tuple[Array, Array | None]:
    """
    Compute minus the logarithm of the softmax, of the label and summed over the classes.

    Parameters
    ----------
    engine : Engine
        What the call runs on.
    logits : array
        Of the call, with the classes along ``options.axis``; of another resolution than the targets, if
        ``options.resize`` says how they are resized.
    targets : Targets
        Of which the step reads `index`, where one may be out of range (its result is not looked at), and `counts`:
        the logits of a pixel that does not count may be anything, NaN too, and have a gradient of 0.
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
    return Softmax.of(engine, logits, targets, options).cross_entropy(engine, targets, weight, options)


@dataclass(frozen=True)
class Softmax:
    """
    The parts of a softmax, each with its class axis.

    Attributes
    ----------
    shifted : array
        The logits less the largest one of each pixel; whoever is done with it may put None in its place.
    exps : array
        Their exponentials.
    sums : array
        The sums of those over the classes, an axis of length 1.
    """

    shifted: Array
    exps: Array
    sums: Array

    @staticmethod
    def of(engine: Engine, logits: Array, targets: Targets, options: Options) -> "Softmax":
        """Compute the parts at the resolution and in the dtype of the loss, of zeros where a pixel does not count."""
        xp, axis = engine.xp, options.axis
        logits = enlarge(engine, logits, targets.counts.shape, options)
        # Replaced, not multiplied by 0: neither NaN nor its gradient passes.
        counts = xp.expand_dims(targets.counts, axis=axis)
        logits = engine.where(counts, xp.astype(logits, compute_dtype(xp, logits.dtype)), 0.0)
        # The softmax does not depend on what is subtracted, so its derivative need not go through the maximum.
        shifted = logits - engine.constant(xp.max(logits, axis=axis, keepdims=True))
        exps = xp.exp(shifted)
        return Softmax(shifted, exps, engine.sum(exps, axis, keepdims=True))

    def cross_entropy(
        self, engine: Engine, targets: Targets, weight: Array | None, options: Options
    ) -> tuple[Array, Array | None]:
        """See above."""
        axis, shifted = options.axis, self.shifted
        log_sums = engine.xp.log(self.sums)
        is_label = label_mask(engine, targets.index, shifted.shape[axis], axis)
        nll = engine.xp.squeeze(log_sums, axis=axis) - engine.sum(engine.where(is_label, shifted, 0.0), axis)
        if not options.label_smoothing:
            return nll, None
        all_nll = log_sums - shifted
        if weight is not None:
            class_weight = along_axis(engine.xp, weight, axis, shifted.ndim)
            # The factor that is infinite goes, then the product is taken: 0 * inf is NaN, and a warning.
            all_nll = class_weight * engine.where(class_weight != 0, all_nll, 0.0)
        return nll, engine.sum(all_nll, axis)
