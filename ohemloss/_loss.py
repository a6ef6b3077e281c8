"""The loss and its value with gradient: the public functions, and the choice of what runs them."""

from collections.abc import Sequence
from typing import Any

from . import _composite
from ._backend import LossFunction, ValueAndGradFunction
from ._mining_rule import MiningRule, MinKept
from ._options import Options, Reduction, Resize
from ._typing import Array
from ._validation import Call, check_label_values, prepare


def ohem_cross_entropy(
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
) -> Array:
    r"""
    Compute the cross-entropy of the hard pixels (online hard example mining).

    Parameters
    ----------
    logits : array
        Shape ``(n, c, *spatial)``, also ``(n, c)`` and ``(c,)``, or with the `c` classes along `axis`. float16 or
        bfloat16 (computed in float32), float32, or float64.
    labels : array
        The shape of `logits` without the class axis, but for what `resize` resizes; any integer dtype, of the same
        library and on the same device.
    thresh : float, array or None, optional
        A pixel is hard if its loss is above ``-log(thresh)``: without weights, if the probability of its true class is
        below `thresh`. In [0, 1]. Default: 0.7. None: no pixel is hard by itself.
    min_kept : int, float, array or callable, optional
        At least this many of the hardest valid pixels are selected, hard or not. An int is a count, a float in [0, 1] a
        fraction of the valid pixels, rounded down; a positive fraction must be at least 2**-20. A function is given the
        `Counts` and returns either. Default: 1/16.
    rule : MiningRule, optional
        Which pixels compete, by what, what happens to ties, and what the sum is divided by. Default: as described here.
    ignore_index : int or None, optional
        Pixels with this label do not count. Default: 255. None: every pixel counts.
    weight : array or sequence of float, optional
        One weight per class, shape ``(c,)``, real floating. Default: 1 for each class.
    pixel_weight : array, optional
        One weight per pixel, real floating; the shape of `labels`, or one that broadcasts to it. Default: 1.
    positives : array, optional
        Bool, the shape of `labels`: pixels that are selected in any case and do not compete, as in hard negative
        mining. Default: none.
    label_smoothing : float, optional
        The share of the target that is spread evenly over all classes, each with its class weight. In [0, 1].
        Default: 0.
    axis : int, optional
        The class axis of `logits`. Default: 1, or 0 if there is only one axis.
    reduction : {"mean", "sum", "none"}, optional
        "mean" divides the sum over the selected pixels by their number. "none" returns the loss of each pixel, 0 where
        it is not selected. Default: "mean".
    resize : {"linear", "bilinear", "trilinear"} or None, optional
        How to interpolate logits of another resolution than the labels: along the last one, two or three axes of the
        pixels, up or down. The loss is that of the interpolated logits, and the gradient that of the given ones.
        Default: None, the resolutions are the same.
    align_corners : bool, optional
        Whether the first and the last places of logits and labels lie on each other, or the borders of both images.
        Default: False, the borders.
    axis_name : hashable or tuple of hashable, optional
        Of a library that maps functions over devices: the names of the mapped axes that the batch is spread over. Then
        the loss is that of the whole batch, of which each place has a part. Default: None, what is here is all.
    process_group : optional
        The same of a library that runs in several processes: their group, or a device mesh of one dimension. All of
        them must call the loss. Default: None.

    Returns
    -------
    array
        0-d (in the shape of `labels` for "none"), float32, or float64 for float64 logits, of the library and on the
        device of `logits`, differentiable where the library has automatic differentiation.

    Raises
    ------
    TypeError
        If an argument has the wrong type or dtype, or arrays come from different libraries.
    ValueError
        If a shape, an option, or a device does not fit, or, where the host can read the labels, if a label is neither a
        class nor `ignore_index`, or `thresh` or `min_kept` came as an array and is out of its range.

    Notes
    -----
    With the logits :math:`x_{ic}` and the label :math:`y_i` of pixel :math:`i`, class weights :math:`w` (`weight`) and
    pixel weights :math:`u` (`pixel_weight`),

    .. math::

        \ell_i = w_{y_i} u_i \Bigl(\log \sum_c e^{x_{ic}} - x_{i y_i}\Bigr), \qquad
        S = \{i : \ell_i > -\log \mathrm{thresh}\} \cup \{\text{the } k \text{ largest}\}, \qquad
        L = \frac{1}{|S|} \sum_{i \in S} \ell_i,

    over the valid pixels, with :math:`k` from `min_kept`. This is the online variant of bootstrapping [1]_ as
    segmentation uses it [2]_.

    Pixels that tie at the last place share the places that are left, so that the order of the pixels does not matter.
    If nothing is selected the loss is 0, with a gradient of 0. A NaN loss of a valid pixel is hard, and so reaches the
    value. A label out of range makes the value NaN where the host cannot look at it without waiting (on a GPU, under a
    trace). An ignored pixel, and a pixel of weight 0, contribute neither value nor gradient, whatever their logits.
    The selection is a constant of differentiation, and so are weights of 0. Weights are used in the dtype of the loss.

    `thresh` and `min_kept` may be 0-d arrays, of the library and on the device of `logits`: `thresh` real floating,
    `min_kept` real floating (a fraction) or integer (a count). They may then change from step to step without another
    compilation or export. Out of its range, either makes the loss of each valid pixel NaN where the host cannot look.

    With label smoothing :math:`s` the loss of a pixel is
    :math:`u_i \bigl((1 - s) w_{y_i} n_{i y_i} + \tfrac{s}{C} \sum_c w_c n_{ic}\bigr)`, where :math:`n_{ic}` is minus
    the logarithm of the softmax.

    With `resize`, place :math:`j` of :math:`n'` lies at :math:`q = \max((j + \tfrac12) \tfrac{n}{n'} - \tfrac12, 0)` of
    :math:`n` logits, or :math:`q = j \tfrac{n - 1}{n' - 1}` with aligned corners, and its logit is
    :math:`(1 - q + a) x_a + (q - a) x_b`, of the places :math:`a = \lfloor q \rfloor` and
    :math:`b = \min(a + 1, n - 1)`; so on each axis, the first one first. Nothing is smoothed before it is made smaller.
    Logits of half precision are not rounded to it in between.

    References
    ----------
    .. [1] A. Shrivastava, A. Gupta, R. Girshick, "Training Region-based Object Detectors with Online Hard Example
       Mining", CVPR 2016.
    .. [2] Z. Wu, C. Shen, A. van den Hengel, "High-performance Semantic Segmentation Using Very Deep Fully
       Convolutional Networks", 2016.

    Examples
    --------
    Two pixels, the second one easy. Half of the pixels are kept in any case, so one is enough:

    >>> import array_api_strict as xp
    >>> import ohemloss
    >>> logits = xp.asarray([[0.0, 0.0], [0.0, 4.0]])
    >>> labels = xp.asarray([0, 1])
    >>> loss = ohemloss.ohem_cross_entropy(logits, labels, min_kept=0.5)
    >>> round(float(loss), 4)
    0.6931
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
    value = _run(call, call.backend.loss, _composite.loss)
    check_label_values(call, value)
    return value


def value_and_grad(
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
) -> tuple[Array, Array]:
    r"""
    Compute the loss and its gradient with respect to the logits, in closed form.

    This needs no automatic differentiation, so it serves every library.

    Parameters
    ----------
    logits, labels : array
        As for `ohem_cross_entropy`.
    thresh, min_kept, rule, ignore_index, weight, pixel_weight, positives, label_smoothing, axis : optional
        As for `ohem_cross_entropy`.
    reduction : {"mean", "sum"}, optional
        As for `ohem_cross_entropy`; the value must be a number. Default: "mean".
    resize, align_corners, axis_name, process_group : optional
        As for `ohem_cross_entropy`.

    Returns
    -------
    value : array
        0-d, as `ohem_cross_entropy` returns it.
    gradient : array
        The shape, dtype, library and device of `logits`.

    Raises
    ------
    TypeError
        As for `ohem_cross_entropy`.
    ValueError
        As for `ohem_cross_entropy`, and for ``reduction="none"``.

    Notes
    -----
    With the softmax :math:`s_{ic}`, and :math:`m_i` the weight of pixel :math:`i` in the selection (1, the share of a
    tie, or 0),

    .. math::

        \frac{\partial L}{\partial x_{ic}} = \bigl(s_{ic} - [c = y_i]\bigr) \frac{w_{y_i} u_i m_i}{|S|}.

    It is exactly 0 where a pixel is not selected, and NaN where the loss of the pixel is. With `resize` it is the
    transpose of the interpolation, applied to that.

    Examples
    --------
    >>> import array_api_strict as xp
    >>> import ohemloss
    >>> logits = xp.asarray([[0.0, 0.0], [0.0, 4.0]])
    >>> value, gradient = ohemloss.value_and_grad(logits, xp.asarray([0, 1]), min_kept=0.5)
    >>> gradient
    Array([[-0.5,  0.5],
           [ 0. ,  0. ]], dtype=array_api_strict.float64)
    """
    if reduction == "none":
        msg = "`reduction` of value_and_grad must be 'mean' or 'sum', so that the value is a number: got 'none'."
        raise ValueError(msg)
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
    value, gradient = _run(call, call.backend.value_and_grad, _composite.value_and_grad)
    check_label_values(call, value)
    return value, gradient


def _run(call: Call, fast: LossFunction | ValueAndGradFunction | None, composite: Any) -> Any:
    """Run the backend's function if it knows every option that is used and wants the call, else the composite."""
    if fast is not None and _used(call) <= call.backend.supports:
        answer = fast(call.engine, call.inputs, call.options)
        if answer is not NotImplemented:
            return answer
    return composite(call.engine, call.inputs, call.options)


def _used(call: Call) -> set[str]:
    arrays = {name: getattr(call.inputs, name) for name in ("weight", "pixel_weight", "positives")}
    return {
        *call.options.changed(),
        *(f"{name} as an array" for name in call.options.arrays()),
        *(name for name, array in arrays.items() if array is not None),
    }
